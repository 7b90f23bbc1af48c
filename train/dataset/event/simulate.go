package event

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Simulator is an event camera that looks at a still image and moves, as the camera of N-MNIST did
// (Orchard et al. 2015). A pixel compares the logarithm of its brightness, log(Dark + I), with
// that at its last event. When they differ by Threshold, it fires an event, ON for brighter, and
// takes the crossed level as its new reference (as ESIM, Rebecq et al. 2018). The brightness moves
// evenly between Samples of it, and an event has the time at which it crosses the level.
//
// The image is in the middle of the sensor, on black. The camera moves along a closed triangle of
// three saccades, right and down, right and up, and back to the left.
type Simulator struct {
	Width, Height int     // of the sensor in pixels, each in [1, 4096]
	Threshold     float64 // contrast of an event, in natural units of log brightness; positive
	Dark          float64 // brightness that a value of 0 stands for, where 1 is white; positive
	Reach         float64 // width and height of the triangle in pixels, at least 0
	Micros        int64   // time of a saccade in µs, at least 1
	Samples       int     // brightness samples of a saccade, in [1, 10000]
	Noise         float64 // random events of each pixel in a second, at least 0
}

// DefaultSimulator returns a camera of 34 × 34 pixels that makes saccades of 100 ms, as that of
// N-MNIST, with a threshold of 0.4 and no noise.
func DefaultSimulator() Simulator {
	return Simulator{Width: 34, Height: 34, Threshold: 0.4, Dark: 0.1, Reach: 4, Micros: 100_000, Samples: 16}
}

// validate returns an error that names the field that is out of range.
func (s Simulator) validate() error {
	positive := func(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
	switch {
	case s.Width < 1 || s.Height < 1 || s.Width > 4096 || s.Height > 4096:
		return fmt.Errorf("event: Simulator.Width and Height are %d and %d, want 1 to 4096", s.Width, s.Height)
	case !positive(s.Threshold) || s.Threshold < 1e-3:
		return fmt.Errorf("event: Simulator.Threshold is %v, want at least 0.001", s.Threshold)
	case !positive(s.Dark) || s.Dark < 1e-6:
		return fmt.Errorf("event: Simulator.Dark is %v, want at least 0.000001", s.Dark)
	case !(s.Reach >= 0 && s.Reach <= 4096):
		return fmt.Errorf("event: Simulator.Reach is %v, want 0 to 4096", s.Reach)
	case s.Micros < 1 || s.Micros > 1<<40:
		return fmt.Errorf("event: Simulator.Micros is %d, want 1 to %d", s.Micros, int64(1)<<40)
	case s.Samples < 1 || s.Samples > 10000:
		return fmt.Errorf("event: Simulator.Samples is %d, want 1 to 10000", s.Samples)
	case !(s.Noise >= 0 && s.Noise <= 1e6):
		return fmt.Errorf("event: Simulator.Noise is %v, want 0 to 1000000", s.Noise)
	}
	return nil
}

// corners of the triangle, in units of Reach.
var corners = [4][2]float64{{0, 0}, {0.5, 1}, {1, 0}, {0, 0}}

// Record returns what the camera sees of an image of h × w values in [0,1]. Noise draws from
// random, which may be nil if there is none. It returns an error if a field is out of range, the
// image has another size, is larger than the sensor, or has a value outside [0,1].
func (s Simulator) Record(image []float32, h, w int, random *rand.Rand) (Recording, error) {
	rec := Recording{Width: s.Width, Height: s.Height}
	if err := s.validate(); err != nil {
		return rec, err
	}
	if len(image) != h*w || h < 1 || w < 1 || h > s.Height || w > s.Width {
		return rec, fmt.Errorf("event: Simulator: an image of %d values for %d×%d, want at least 1×1 and at most %d×%d", len(image), h, w, s.Height, s.Width)
	}
	// The logarithm of the scene, with the image in the middle.
	scene := make([]float64, s.Width*s.Height)
	dark := math.Log(s.Dark)
	for i := range scene {
		scene[i] = dark
	}
	top, left := (s.Height-h)/2, (s.Width-w)/2
	for i, v := range image {
		if !(v >= 0 && v <= 1) {
			return rec, fmt.Errorf("event: Simulator: value %d of the image is %v, want 0 to 1", i, v)
		}
		scene[(top+i/w)*s.Width+left+i%w] = math.Log(s.Dark + float64(v))
	}
	before := make([]float64, len(scene)) // brightness at the last sample
	now := make([]float64, len(scene))
	s.look(before, scene, dark, corners[0])
	first, levels := slices.Clone(before), make([]int, len(before))
	for saccade := range 3 {
		from, to := corners[saccade], corners[saccade+1]
		for k := 1; k <= s.Samples; k++ {
			share := float64(k) / float64(s.Samples)
			s.look(now, scene, dark, [2]float64{from[0] + float64(share*(to[0]-from[0])), from[1] + float64(share*(to[1]-from[1]))})
			begin := float64(int64(saccade)*s.Micros) + float64(float64(k-1)/float64(s.Samples)*float64(s.Micros))
			rec.Events = s.fire(rec.Events, first, before, now, levels, begin, float64(s.Micros)/float64(s.Samples))
			before, now = now, before
		}
	}
	if s.Noise > 0 {
		rec.Events = s.noise(rec.Events, random)
	}
	slices.SortFunc(rec.Events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.T, b.T), cmp.Compare(a.Y, b.Y), cmp.Compare(a.X, b.X), cmp.Compare(a.P, b.P))
	})
	return rec, nil
}

// look writes what the camera sees when it has moved by at, in units of Reach: the scene moves the
// other way. Values between pixels are interpolated.
func (s Simulator) look(dst, scene []float64, dark float64, at [2]float64) {
	dx, dy := float64(s.Reach*at[0]), float64(s.Reach*at[1])
	x0, y0 := math.Floor(dx), math.Floor(dy)
	fx, fy := dx-x0, dy-y0
	pixel := func(x, y int) float64 {
		if x < 0 || y < 0 || x >= s.Width || y >= s.Height {
			return dark
		}
		return scene[y*s.Width+x]
	}
	for y := range s.Height {
		row := y + int(y0)
		a, b := pixel(int(x0), row), pixel(int(x0), row+1)
		for x := range s.Width {
			c, d := pixel(x+int(x0)+1, row), pixel(x+int(x0)+1, row+1)
			upper, lower := a+float64(fx*(c-a)), b+float64(fx*(d-b))
			dst[y*s.Width+x] = upper + float64(fy*(lower-upper))
			a, b = c, d
		}
	}
}

// fire appends the events of the time from begin, in which the brightness moves from before to now.
// levels counts the thresholds from first, the brightness at the beginning, to the last event.
func (s Simulator) fire(events []Event, first, before, now []float64, levels []int, begin, micros float64) []Event {
	for i, to := range now {
		for {
			p, step := uint8(1), 1
			switch apart := (to-first[i])/s.Threshold - float64(levels[i]); {
			case apart <= -1:
				p, step = 0, -1
			case apart < 1:
				step = 0
			}
			if step == 0 {
				break
			}
			levels[i] += step
			share := 0.0
			if to != before[i] {
				level := first[i] + float64(float64(levels[i])*s.Threshold)
				share = min(max((level-before[i])/(to-before[i]), 0), 1)
			}
			events = append(events, Event{int64(begin + float64(share*micros)), uint16(i % s.Width), uint16(i / s.Width), p})
		}
	}
	return events
}

// noise appends events at random pixels and times.
func (s Simulator) noise(events []Event, random *rand.Rand) []Event {
	end := 3 * s.Micros
	rate := s.Noise * float64(s.Width*s.Height) * 1e-6 // µs⁻¹
	for t := random.ExpFloat64() / rate; t < float64(end); t += random.ExpFloat64() / rate {
		i := random.IntN(s.Width * s.Height)
		events = append(events, Event{int64(t), uint16(i % s.Width), uint16(i / s.Width), uint8(random.IntN(2))})
	}
	return events
}

// NewSimulated returns the recordings that the camera makes of the images of a set. Images of
// several channels count as their mean. The noise of image i depends on key and i alone. A
// recording is made each time that it is asked for. It returns an error if a field of s is out of
// range, the images are larger than the sensor, or the set has frames.
func NewSimulated(images snn.Dataset, s Simulator, key rng.Key) (Source, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	shape := images.Shape()
	if shape.Steps != 1 || shape.H > s.Height || shape.W > s.Width {
		return nil, fmt.Errorf("event: a camera of %d×%d for data of shape %v, want images of at most its size", s.Width, s.Height, shape)
	}
	info := snn.InfoOf(images)
	names := info.ClassNames
	if names == nil {
		for k := range info.Classes {
			names = append(names, fmt.Sprint(k))
		}
	}
	return &simulated{images, shape, names, s, key}, nil
}

// simulated is a [Source] of recordings of images.
type simulated struct {
	images snn.Dataset
	shape  tensor.Shape
	names  []string
	camera Simulator
	key    rng.Key
}

func (s *simulated) Len() int             { return s.shape.N }
func (s *simulated) Label(i int) int      { return s.images.Label(i) }
func (s *simulated) ClassNames() []string { return s.names }

func (s *simulated) Recording(i int) (Recording, error) {
	one := s.shape
	one.N = 1
	x := tensor.NewFrames(one)
	if err := s.images.Fill(x, []int{i}); err != nil {
		return Recording{}, err
	}
	grey := x.Data[:one.H*one.W]
	for k := range grey {
		sum := grey[k]
		for c := 1; c < one.C; c++ {
			sum += x.Data[c*len(grey)+k]
		}
		grey[k] = sum / float32(one.C)
	}
	return s.camera.Record(grey, one.H, one.W, s.key.Derive("noise", uint64(i)).Rand())
}
