package event

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"sort"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
)

// Split says which events belong to which frame.
type Split interface {
	// Bounds returns the bounds of steps frames of events, which are in the order of time. Frame k
	// is the events from bounds[k] up to, but not including, bounds[k+1]. If steps is 0, there are
	// as many frames as the split needs for all events, at least one.
	Bounds(events []Event, steps int) (bounds []int)
	// Validate returns an error that names a field that is out of range. steps is as above.
	Validate(steps int) error
}

// EqualTime splits the time from the first to the last event into frames of equal length. Every
// event is in a frame, the last one too. It needs a number of frames.
type EqualTime struct{}

// Validate implements [Split].
func (EqualTime) Validate(steps int) error { return needsSteps("EqualTime", steps) }

// Bounds implements [Split]. An event at t of [t₀, t₁] is in frame ⌊(t − t₀)·steps/(t₁ − t₀ + 1)⌋.
func (EqualTime) Bounds(events []Event, steps int) []int {
	bounds := make([]int, steps+1)
	if len(events) == 0 {
		return bounds
	}
	t0 := uint64(events[0].T)
	span := uint64(events[len(events)-1].T) - t0
	if span < math.MaxUint64 {
		span++
	}
	for k := 1; k <= steps; k++ {
		bounds[k] = sort.Search(len(events), func(i int) bool {
			hi, lo := bits.Mul64(uint64(events[i].T)-t0, uint64(steps))
			frame, _ := bits.Div64(hi, lo, span)
			return frame >= uint64(k)
		})
	}
	bounds[steps] = len(events)
	return bounds
}

// EqualCount splits the events into frames of equally many, up to one. Every event is in a frame.
// It needs a number of frames.
type EqualCount struct{}

// Validate implements [Split].
func (EqualCount) Validate(steps int) error { return needsSteps("EqualCount", steps) }

// Bounds implements [Split]. Frame k of n events begins at event ⌊k·n/steps⌋.
func (EqualCount) Bounds(events []Event, steps int) []int {
	bounds := make([]int, steps+1)
	for k := range bounds {
		hi, lo := bits.Mul64(uint64(k), uint64(len(events)))
		at, _ := bits.Div64(hi, lo, uint64(steps))
		bounds[k] = int(at)
	}
	return bounds
}

// TimeWindow makes frames of a fixed length in time, from the first event on. If the number of
// frames is given, events after the last of them are left out.
type TimeWindow struct {
	Micros int64 // µs, at least 1
}

// Validate implements [Split].
func (w TimeWindow) Validate(int) error {
	if w.Micros < 1 {
		return fmt.Errorf("TimeWindow.Micros is %d, want at least 1", w.Micros)
	}
	return nil
}

// Bounds implements [Split]. With steps = 0, it makes at most 65536 frames.
func (w TimeWindow) Bounds(events []Event, steps int) []int {
	bounds := []int{0}
	for k := uint64(1); (steps > 0 && k <= uint64(steps)) || (steps == 0 && k <= 1<<16); k++ {
		n := len(events)
		if n > 0 {
			t0 := uint64(events[0].T)
			n = sort.Search(n, func(i int) bool { return (uint64(events[i].T)-t0)/uint64(w.Micros) >= k })
		}
		bounds = append(bounds, n)
		if steps == 0 && n == len(events) {
			break
		}
	}
	return bounds
}

// CountWindow makes frames of a fixed number of events, but for the last one, which has the rest.
// If the number of frames is given, events after the last of them are left out.
type CountWindow struct {
	Events int // at least 1
}

// Validate implements [Split].
func (w CountWindow) Validate(int) error {
	if w.Events < 1 {
		return fmt.Errorf("CountWindow.Events is %d, want at least 1", w.Events)
	}
	return nil
}

// Bounds implements [Split].
func (w CountWindow) Bounds(events []Event, steps int) []int {
	if steps == 0 {
		steps = max(1, (len(events)-1)/w.Events+1)
	}
	bounds := make([]int, steps+1)
	for k := range bounds {
		bounds[k] = len(events)
		if k == 0 || k <= (len(events)-1)/w.Events {
			bounds[k] = min(k*w.Events, len(events))
		}
	}
	return bounds
}

func needsSteps(name string, steps int) error {
	if steps < 1 {
		return fmt.Errorf("%s with %d frames, want at least 1", name, steps)
	}
	return nil
}

// FrameConfig says how events become frames. A frame has two channels: channel 0 counts OFF
// events, channel 1 counts ON events. A value is min(count, Clip)/Clip.
type FrameConfig struct {
	Steps int   // T, the frames of an example, in [1, 65536]
	Split Split // which events are in which frame
	// Clip is the count that the value 1 stands for, in [1, 255]. Clip = 1 makes binary frames.
	// Larger counts are cut off.
	Clip int
	// Merge makes one channel of both polarities, which counts all events.
	Merge bool
	// Bin is the pixels of the sensor, in each direction, that a pixel of a frame sums. At least 1.
	Bin int
	// Width and Height are the size of the sensor in pixels, at most 65536. Both are 0 for that of
	// the recordings.
	Width, Height int
	// Bytes bounds the memory of a set: a byte for each value of each frame. A set that would
	// take more is not kept in memory. It reads a recording each time it is asked for its frames.
	Bytes int64
}

// DefaultFrames returns the configuration of binary frames that split the time of a recording
// equally. Sets of up to 1 GiB are kept in memory.
func DefaultFrames(steps int) FrameConfig {
	return FrameConfig{Steps: steps, Split: EqualTime{}, Clip: 1, Bin: 1, Bytes: 1 << 30}
}

// validate returns an error that names the field that is out of range.
func (c FrameConfig) validate() error {
	switch {
	case c.Steps < 1 || c.Steps > 1<<16:
		return fmt.Errorf("event: FrameConfig.Steps is %d, want 1 to %d", c.Steps, 1<<16)
	case c.Split == nil:
		return fmt.Errorf("event: FrameConfig.Split is nil")
	case c.Clip < 1 || c.Clip > 255:
		return fmt.Errorf("event: FrameConfig.Clip is %d, want 1 to 255", c.Clip)
	case c.Bin < 1 || c.Bin > 1<<16:
		return fmt.Errorf("event: FrameConfig.Bin is %d, want 1 to %d", c.Bin, 1<<16)
	case c.Width < 0 || c.Height < 0 || c.Width > 1<<16 || c.Height > 1<<16 || (c.Width == 0) != (c.Height == 0):
		return fmt.Errorf("event: FrameConfig.Width and Height are %d and %d, want both 0 or both 1 to %d", c.Width, c.Height, 1<<16)
	case c.Bytes < 0 || c.Bytes > math.MaxInt:
		return fmt.Errorf("event: FrameConfig.Bytes is %d, want 0 to %d", c.Bytes, math.MaxInt)
	}
	if err := c.Split.Validate(c.Steps); err != nil {
		return fmt.Errorf("event: FrameConfig.Split: %w", err)
	}
	return nil
}

// Shape returns the shape of the frames of one recording of a sensor of width × height pixels.
// Width and Height of c, if they are not 0, take precedence.
func (c FrameConfig) Shape(width, height int) (tensor.Shape, error) {
	if err := c.validate(); err != nil {
		return tensor.Shape{}, err
	}
	width, height = c.sensor(width, height)
	if width < 1 || height < 1 {
		return tensor.Shape{}, fmt.Errorf("event: the recording does not say the size of its sensor: FrameConfig.Width and Height must")
	}
	s := tensor.Shape{N: 1, Steps: c.Steps, C: 2, H: (height-1)/c.Bin + 1, W: (width-1)/c.Bin + 1}
	if c.Merge {
		s.C = 1
	}
	if float64(s.Steps)*float64(s.C)*float64(s.H)*float64(s.W) > 1<<31 {
		return tensor.Shape{}, fmt.Errorf("event: frames of shape %v, want at most 2³¹ values", s)
	}
	return s, nil
}

// sensor returns the size of the sensor, of which the recording says width and height.
func (c FrameConfig) sensor(width, height int) (w, h int) {
	if c.Width > 0 {
		return c.Width, c.Height
	}
	return width, height
}

// Tally says what became of the events of recordings.
type Tally struct {
	Events int64 // counted in frames, if only up to Clip
	Left   int64 // left out, because they are in no frame
	Cut    int64 // of Events, those above Clip
}

// Frames returns the frames of a recording, an example of shape c.Shape. It returns an error if c
// is out of range, an event is outside of the sensor, or events are not in the order of time.
func (c FrameConfig) Frames(rec Recording) (tensor.NCHW, Tally, error) {
	shape, err := c.Shape(rec.Width, rec.Height)
	if err != nil {
		return tensor.NCHW{}, Tally{}, err
	}
	x := tensor.NewFrames(shape)
	levels := make([]uint8, len(x.Data))
	tally, err := c.count(levels, shape, rec)
	c.scale(x.Data, levels)
	return x, tally, err
}

// scale writes levels, min(count, Clip), as values.
func (c FrameConfig) scale(dst []float32, levels []uint8) {
	for i, v := range levels {
		dst[i] = float32(v) / float32(c.Clip)
	}
}

// count counts the events of a recording in levels, [Steps][C][H][W] zeros, up to Clip.
func (c FrameConfig) count(levels []uint8, s tensor.Shape, rec Recording) (t Tally, err error) {
	for i := 1; i < len(rec.Events); i++ {
		if before, at := rec.Events[i-1].T, rec.Events[i].T; at < before {
			return t, fmt.Errorf("event: an event at %d µs after one at %d µs, want times in order", at, before)
		}
	}
	width, height := c.sensor(rec.Width, rec.Height)
	bounds := c.Split.Bounds(rec.Events, c.Steps)
	for k := range c.Steps {
		frame := levels[k*s.Neurons():][:s.Neurons()]
		for _, e := range rec.Events[bounds[k]:bounds[k+1]] {
			if int(e.X) >= width || int(e.Y) >= height || e.P > 1 {
				return t, fmt.Errorf("event: an event at x = %d, y = %d of polarity %d, want one in %d×%d pixels and polarity 0 or 1", e.X, e.Y, e.P, width, height)
			}
			x, y, p := int(e.X)/c.Bin, int(e.Y)/c.Bin, int(e.P)
			if c.Merge {
				p = 0
			}
			if v := &frame[(p*s.H+y)*s.W+x]; int(*v) < c.Clip {
				*v++
			} else {
				t.Cut++
			}
			t.Events++
		}
	}
	t.Left = int64(len(rec.Events)) - t.Events
	return t, nil
}

// NewSet returns the frames of the recordings of src as a set for training, attacks and
// evaluation. Its values are k/Clip. The tally is that of all recordings if the frames are kept in
// memory, see FrameConfig.Bytes, and zero otherwise.
//
// All recordings must have a sensor of the same size, or cfg must say the size. NewSet returns an
// error that says so, or the error of src, or that of ctx once it is done. name is the provenance
// of the set.
func NewSet(ctx context.Context, name string, src Source, cfg FrameConfig) (*dataset.Set, Tally, error) {
	n := src.Len()
	if n < 1 {
		return nil, Tally{}, fmt.Errorf("event: %s: no recordings", name)
	}
	first, err := src.Recording(0)
	if err != nil {
		return nil, Tally{}, err
	}
	shape, err := cfg.Shape(first.Width, first.Height)
	if err != nil {
		return nil, Tally{}, fmt.Errorf("%w (%s)", err, name)
	}
	shape.N = n
	f := &frames{src: src, cfg: cfg, shape: shape}
	labels := make([]int, n)
	for i := range labels {
		labels[i] = src.Label(i)
	}
	var sum Tally
	size := shape.Steps * shape.Neurons()
	if int64(n) <= cfg.Bytes/int64(size) {
		levels := make([]uint8, n*size)
		tallies := make([]Tally, n)
		if err := forEach(ctx, src, func(i int, rec Recording) (err error) {
			tallies[i], err = f.count(levels[i*size:][:size], i, rec)
			return err
		}); err != nil {
			return nil, Tally{}, err
		}
		f.levels = levels
		for _, t := range tallies {
			sum.Events += t.Events
			sum.Left += t.Left
			sum.Cut += t.Cut
		}
	}
	set, err := dataset.NewFrameSet(name, f, labels, src.ClassNames())
	return set, sum, err
}

// frames is the frames of a source's recordings. It is a [dataset.FrameSource].
type frames struct {
	src    Source
	cfg    FrameConfig
	shape  tensor.Shape
	levels []uint8 // [N][Steps][C][H][W], or nil
}

// Shape implements [dataset.FrameSource].
func (f *frames) Shape() tensor.Shape { return f.shape }

// ReadFrames implements [dataset.FrameSource].
func (f *frames) ReadFrames(dst []float32, i int) error {
	if f.levels != nil {
		f.cfg.scale(dst, f.levels[i*len(dst):][:len(dst)])
		return nil
	}
	rec, err := f.src.Recording(i)
	if err != nil {
		return err
	}
	levels := make([]uint8, len(dst))
	if _, err := f.count(levels, i, rec); err != nil {
		return err
	}
	f.cfg.scale(dst, levels)
	return nil
}

// count counts recording i.
func (f *frames) count(levels []uint8, i int, rec Recording) (Tally, error) {
	s, err := f.cfg.Shape(rec.Width, rec.Height)
	if err == nil && (s.H != f.shape.H || s.W != f.shape.W) {
		err = fmt.Errorf("event: frames of %d×%d, want %d×%d as those of the first recording", s.W, s.H, f.shape.W, f.shape.H)
	}
	var t Tally
	if err == nil {
		t, err = f.cfg.count(levels, s, rec)
	}
	if err != nil {
		return t, fmt.Errorf("%w (recording %d)", err, i)
	}
	return t, nil
}
