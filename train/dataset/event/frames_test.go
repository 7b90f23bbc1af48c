package event

import (
	"bytes"
	"context"
	"errors"
	"image/gif"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
)

// drawRecording draws events in the order of time, many at the same time.
func drawRecording(t *rapid.T) Recording {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
	rec := Recording{Width: rapid.IntRange(1, 9).Draw(t, "width"), Height: rapid.IntRange(1, 9).Draw(t, "height")}
	at := rapid.SampledFrom([]int64{-5, 0, 1 << 40}).Draw(t, "first")
	for range rapid.IntRange(0, 60).Draw(t, "n") {
		rec.Events = append(rec.Events, Event{at, uint16(r.IntN(rec.Width)), uint16(r.IntN(rec.Height)), uint8(r.IntN(2))})
		at += int64(r.IntN(4)) * int64(r.IntN(50))
	}
	return rec
}

// Each split puts every event where its formula says, one event at a time.
func TestSplits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ev := drawRecording(t).Events
		steps := rapid.IntRange(1, 12).Draw(t, "steps")
		n := len(ev)
		frameOf := func(bounds []int, i int) int {
			for k := 0; k+1 < len(bounds); k++ {
				if i >= bounds[k] && i < bounds[k+1] {
					return k
				}
			}
			return -1
		}
		micros, count := rapid.Int64Range(1, 200).Draw(t, "micros"), rapid.IntRange(1, 70).Draw(t, "count")
		for i := range ev {
			age, span := ev[i].T-ev[0].T, ev[n-1].T-ev[0].T+1
			assert.Equal(t, int(age*int64(steps)/span), frameOf(EqualTime{}.Bounds(ev, steps), i))
			k := frameOf(EqualCount{}.Bounds(ev, steps), i)
			assert.True(t, k*n/steps <= i && i < (k+1)*n/steps)
			byTime, byCount := int(age/micros), i/count
			assert.Equal(t, byTime, frameOf(TimeWindow{micros}.Bounds(ev, 0), i))
			assert.Equal(t, byCount, frameOf(CountWindow{count}.Bounds(ev, 0), i))
			if byTime >= steps {
				byTime = -1
			}
			if byCount >= steps {
				byCount = -1
			}
			assert.Equal(t, byTime, frameOf(TimeWindow{micros}.Bounds(ev, steps), i))
			assert.Equal(t, byCount, frameOf(CountWindow{count}.Bounds(ev, steps), i))
		}
		for _, s := range []Split{EqualTime{}, EqualCount{}, TimeWindow{micros}, CountWindow{count}} {
			assert.Len(t, s.Bounds(ev, steps), steps+1)
			assert.True(t, slices.IsSorted(s.Bounds(ev, steps)))
			require.NoError(t, s.Validate(steps))
		}
		if n > 0 { // no frame more than needed
			b := TimeWindow{micros}.Bounds(ev, 0)
			assert.Equal(t, n, b[len(b)-1])
			assert.Less(t, b[len(b)-2], n)
			assert.Len(t, CountWindow{count}.Bounds(ev, 0), (n+count-1)/count+1)
		}
	})
	// 10 events in 4 frames: all are kept. SpikingJelly 2.0.0 has 2, 2, 2 and 4, tonic 1.7.0 drops 2.
	assert.Equal(t, []int{0, 2, 5, 7, 10}, EqualCount{}.Bounds(make([]Event, 10), 4))
	// The extremes of time do not overflow.
	ev := []Event{{T: math.MinInt64}, {T: 0}, {T: math.MaxInt64}}
	assert.Equal(t, []int{0, 1, 3}, EqualTime{}.Bounds(ev, 2))
}

// A value is min(count, Clip)/Clip of the events that are counted one by one, in any configuration.
func TestFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawRecording(t)
		cfg := DefaultFrames(rapid.IntRange(1, 5).Draw(t, "steps"))
		cfg.Split = rapid.SampledFrom([]Split{EqualTime{}, EqualCount{}, TimeWindow{20}, CountWindow{7}}).Draw(t, "split")
		cfg.Clip, cfg.Bin = rapid.IntRange(1, 4).Draw(t, "clip"), rapid.IntRange(1, 3).Draw(t, "bin")
		cfg.Merge = rapid.Bool().Draw(t, "merge")
		x, tally, err := cfg.Frames(rec)
		require.NoError(t, err)
		bounds := cfg.Split.Bounds(rec.Events, cfg.Steps)
		counts := map[[4]int]int{}
		kept, cut := int64(0), int64(0)
		for i, e := range rec.Events {
			for k := range cfg.Steps {
				if i >= bounds[k] && i < bounds[k+1] {
					p := int(e.P)
					if cfg.Merge {
						p = 0
					}
					counts[[4]int{k, p, int(e.Y) / cfg.Bin, int(e.X) / cfg.Bin}]++
					kept++
				}
			}
		}
		s := x.Shape()
		assert.Equal(t, []int{cfg.Steps, (rec.Height + cfg.Bin - 1) / cfg.Bin, (rec.Width + cfg.Bin - 1) / cfg.Bin}, []int{s.Steps, s.H, s.W})
		for i, v := range x.Data {
			at := [4]int{i / (s.C * s.H * s.W), i / (s.H * s.W) % s.C, i / s.W % s.H, i % s.W}
			assert.Equal(t, float32(min(counts[at], cfg.Clip))/float32(cfg.Clip), v)
			cut += int64(max(0, counts[at]-cfg.Clip))
		}
		assert.Equal(t, Tally{kept, int64(len(rec.Events)) - kept, cut}, tally)
	})
}

func TestBadFrameConfigs(t *testing.T) {
	for want, change := range map[string]func(*FrameConfig){
		"FrameConfig.Steps is 0":                                  func(c *FrameConfig) { c.Steps = 0 },
		"FrameConfig.Split is nil":                                func(c *FrameConfig) { c.Split = nil },
		"FrameConfig.Clip is 256, want 1 to 255":                  func(c *FrameConfig) { c.Clip = 256 },
		"FrameConfig.Bin is 0":                                    func(c *FrameConfig) { c.Bin = 0 },
		"FrameConfig.Width and Height are 0 and 2":                func(c *FrameConfig) { c.Height = 2 },
		"FrameConfig.Split: TimeWindow.Micros is 0":               func(c *FrameConfig) { c.Split = TimeWindow{} },
		"FrameConfig.Split: CountWindow.Events is 0":              func(c *FrameConfig) { c.Split = CountWindow{} },
		"an event at x = 3, y = 0 of polarity 1, want one in 2×2": func(c *FrameConfig) { c.Width, c.Height = 2, 2 },
		"an event at x = 3, y = 0 of polarity 1, want one in 3×3": func(c *FrameConfig) { c.Width, c.Height, c.Bin = 3, 3, 2 },
		"FrameConfig.Bytes is -1":                                 func(c *FrameConfig) { c.Bytes = -1 },
	} {
		cfg := DefaultFrames(2)
		change(&cfg)
		_, _, err := cfg.Frames(Recording{[]Event{{0, 3, 0, 1}}, 4, 4})
		require.ErrorContains(t, err, want)
	}
	_, _, err := DefaultFrames(2).Frames(Recording{})
	require.ErrorContains(t, err, "does not say the size of its sensor")
	require.ErrorContains(t, EqualTime{}.Validate(0), "EqualTime with 0 frames")
}

// Events out of order are an error of each split, and no panic.
func TestFramesOfEventsOutOfOrder(t *testing.T) {
	rec := Recording{[]Event{{T: 10}, {T: 5}, {T: 7}, {T: 11}}, 4, 4}
	for _, split := range []Split{EqualTime{}, EqualCount{}, TimeWindow{2}, CountWindow{2}} {
		cfg := DefaultFrames(8)
		cfg.Split = split
		_, _, err := cfg.Frames(rec)
		require.ErrorContains(t, err, "an event at 5 µs after one at 10 µs, want times in order", "%T", split)
	}
}

// A folder of files of several formats is a set, whose frames are those of each file, in memory or
// read each time.
func TestFolderSet(t *testing.T) {
	root := t.TempDir()
	files := map[string][]string{"b": {"packed.npz", "nmnist.bin"}, "a": {"stored.npz"}}
	for class, names := range files {
		require.NoError(t, os.Mkdir(filepath.Join(root, class), 0o755))
		for _, name := range names {
			b, err := os.ReadFile(filepath.Join("testdata", name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(root, class, name), b, 0o644))
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "a", ".hidden"), nil, 0o644))
	cfg := DefaultConfig()
	cfg.Width, cfg.Height = 34, 34
	folder, err := ReadFolder(root, cfg)
	require.NoError(t, err)
	order := []string{"stored.npz", "nmnist.bin", "packed.npz"}
	frame := DefaultFrames(3)
	frame.Clip = 5
	set, tally, err := NewSet(context.Background(), "test", folder, frame)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1, 1}, set.Labels)
	assert.Equal(t, []string{"a", "b"}, set.ClassNames())
	assert.Equal(t, int64(900), tally.Events+tally.Left)
	report := folder.Report()
	assert.Equal(t, Report{Width: 34, Height: 34, Bytes: report.Bytes, Events: 900, Overflows: 2}, report)
	frame.Bytes = 0
	lazy, _, err := NewSet(context.Background(), "test", folder, frame)
	require.NoError(t, err)
	for i, name := range order {
		rec, _, err := ReadAll(filepath.Join("testdata", name), cfg)
		require.NoError(t, err)
		want, _, err := frame.Frames(rec)
		require.NoError(t, err)
		for _, s := range []*dataset.Set{set, lazy} {
			got := tensor.NewFrames(want.Shape())
			require.NoError(t, s.Fill(got, []int{i}))
			require.Equal(t, want, got)
		}
	}
	as, err := ReadFolderAs(root, []string{"c", "b", "a"}, cfg)
	require.NoError(t, err)
	assert.Equal(t, []int{2, 1, 1}, []int{as.Label(0), as.Label(1), as.Label(2)})
	_, err = ReadFolderAs(root, []string{"a"}, cfg)
	require.EqualError(t, err, "event: "+filepath.Join(root, "b")+`: a folder of none of the 1 classes, want one of ["a"]`)
	_, err = ReadFolderAs(root, nil, cfg)
	require.ErrorContains(t, err, root+": no classes")
	_, err = ReadFolderAs(root, []string{"a", "b", "a"}, cfg)
	require.ErrorContains(t, err, root+`: class "a" is twice in the list`)
	_, err = ReadFolder(folder.Path(0), cfg)
	require.EqualError(t, err, "event: "+folder.Path(0)+": want a folder")

	// A broken file is an error that names it. A stopped context ends the reading.
	require.NoError(t, os.WriteFile(folder.Path(1), []byte{1, 2, 3}, 0o644))
	_, _, err = NewSet(context.Background(), "test", folder, DefaultFrames(3))
	require.ErrorContains(t, err, folder.Path(1))
	ctx, stop := context.WithCancel(context.Background())
	stop()
	_, _, err = NewSet(ctx, "test", folder, DefaultFrames(3))
	require.ErrorIs(t, err, context.Canceled)
	_, err = ReadFolder(filepath.Join(root, "a"), cfg)
	require.ErrorContains(t, err, "no subfolders")
	require.NoError(t, os.Mkdir(filepath.Join(root, "c"), 0o755))
	_, err = ReadFolder(root, cfg)
	require.ErrorContains(t, err, filepath.Join(root, "c")+": no files")
}

// Mirroring twice changes nothing; a shift moves what stays inside; a drop leaves a share.
func TestRecordingAugmentations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawRecording(t)
		assert.Equal(t, len(rec.Events), len(rec.Mirror().Events))
		if len(rec.Events) > 0 {
			assert.Equal(t, rec, rec.Mirror().Mirror())
		}
		dx, dy := rapid.IntRange(-10, 10).Draw(t, "dx"), rapid.IntRange(-10, 10).Draw(t, "dy")
		var want []Event
		for _, e := range rec.Events {
			if x, y := int(e.X)+dx, int(e.Y)+dy; x >= 0 && y >= 0 && x < rec.Width && y < rec.Height {
				want = append(want, Event{e.T, uint16(x), uint16(y), e.P})
			}
		}
		assert.Equal(t, want, rec.Shift(dx, dy).Events)
	})
	rec := Recording{make([]Event, 10000), 1, 1}
	one, two := rec.Drop(0.3, rng.New(1).Rand()), rec.Drop(0.3, rng.New(1).Rand())
	assert.InDelta(t, 7000, len(one.Events), 5*math.Sqrt(10000*0.3*0.7))
	assert.Equal(t, one, two)
	assert.Empty(t, rec.Drop(1, rng.New(1).Rand()).Events)
	assert.Len(t, rec.Drop(0, rng.New(1).Rand()).Events, 10000)
	assert.Panics(t, func() { Recording{}.Mirror() })
	assert.Panics(t, func() { Recording{}.Shift(1, 1) })
}

// The augmentations of frames clear what they say and nothing else.
func TestFrameAugmentations(t *testing.T) {
	shape := tensor.Shape{N: 1, Steps: 10, C: 2, H: 8, W: 6}
	full := func() tensor.NCHW {
		x := tensor.NewFrames(shape)
		for i := range x.Data {
			x.Data[i] = 1
		}
		return x
	}
	zeros, longest, largest := 0, 0, 0
	for seed := range uint64(200) {
		x := full()
		DropEvents{0.25}.Augment(x, rng.New(seed).Rand())
		for _, v := range x.Data {
			if v == 0 {
				zeros++
			}
		}
		x = full()
		DropTime{0.5}.Augment(x, rng.New(seed).Rand())
		var cleared []int
		for k := range 10 {
			frame := x.Data[k*96:][:96]
			require.True(t, slices.Max(frame) == slices.Min(frame), "a whole frame")
			if frame[0] == 0 {
				cleared = append(cleared, k)
			}
		}
		longest = max(longest, len(cleared))
		require.LessOrEqual(t, len(cleared), 5)
		require.True(t, len(cleared) < 2 || cleared[len(cleared)-1]-cleared[0] == len(cleared)-1, "one run")
		x = full()
		DropArea{0.5}.Augment(x, rng.New(seed).Rand())
		for plane := range slices.Chunk(x.Data, 48) {
			require.Equal(t, x.Data[:48], plane, "the same area in all planes")
		}
		area := 0
		for _, v := range x.Data[:48] {
			if v == 0 {
				area++
			}
		}
		require.LessOrEqual(t, area, 4*3)
		largest = max(largest, area)
	}
	assert.InDelta(t, 0.25, float64(zeros)/float64(200*960), 0.01)
	assert.Equal(t, 5, longest)
	assert.Equal(t, 12, largest)
	for _, a := range []dataset.Augmentation{DropEvents{2}, DropTime{-1}, DropArea{math.NaN()}} {
		cfg := dataset.DefaultTraining()
		cfg.Augment = []dataset.Augmentation{a}
		set, err := dataset.NewFrameSet("a", dataset.NewFrames(shape, full().Data), []int{0}, []string{"a"})
		require.NoError(t, err)
		_, err = dataset.NewLoader(set, cfg, rng.New(1))
		require.ErrorContains(t, err, "Share is")
	}
}

// Every pixel of a camera that returns to where it began has as many ON as OFF events, since its
// brightness is what it was. Events are in order and inside.
func TestSimulatorReturns(t *testing.T) {
	set, err := fashion.Test()
	require.NoError(t, err)
	camera := DefaultSimulator()
	src, err := NewSimulated(set, camera, rng.New(1))
	require.NoError(t, err)
	total := 0
	for i := range 20 {
		rec, err := src.Recording(i)
		require.NoError(t, err)
		balance := map[[2]uint16]int{}
		last := int64(0)
		for _, e := range rec.Events {
			require.True(t, e.T >= last && e.T <= 300_000 && int(e.X) < 34 && int(e.Y) < 34)
			last = e.T
			balance[[2]uint16{e.X, e.Y}] += 2*int(e.P) - 1
		}
		for at, b := range balance {
			require.Zero(t, b, "pixel %v of image %d", at, i)
		}
		total += len(rec.Events)
		again, err := src.Recording(i)
		require.NoError(t, err)
		require.Equal(t, rec, again)
		require.Equal(t, set.Labels[i], src.Label(i))
	}
	assert.Greater(t, total, 20*100)
	assert.Equal(t, set.ClassNames(), src.ClassNames())
}

// An edge that crosses a pixel changes its brightness by log((dark+1)/dark): it fires that many
// thresholds, at the times at which a linear change crosses them.
func TestSimulatorEdge(t *testing.T) {
	camera := Simulator{Width: 3, Height: 1, Threshold: 0.25, Dark: 0.1, Reach: 1, Micros: 1000, Samples: 10}
	rec, err := camera.Record([]float32{1}, 1, 1, nil)
	require.NoError(t, err)
	change := math.Log(11)
	var want, got []Event
	for _, e := range rec.Events {
		if e.X == 1 && e.T < 1000 { // the first saccade moves by (0.5, 1): past row 0
			got = append(got, e)
		}
	}
	n := int(change / 0.25)
	require.Len(t, got, n)
	// The middle pixel falls from log 1.1 as (1 − s/2)·(1 − s), at share s of the saccade.
	bright := func(s float64) float64 { return change * (1 - s/2) * (1 - s) }
	for k := 1; k <= n; k++ {
		level := change - 0.25*float64(k)
		j := 1
		for bright(float64(j)/10) > level {
			j++
		}
		a, b := bright(float64(j-1)/10), bright(float64(j)/10)
		want = append(want, Event{int64(100 * (float64(j-1) + (a-level)/(a-b))), 1, 0, 0})
	}
	for k := range want {
		assert.InDelta(t, want[k].T, got[k].T, 1)
		assert.Equal(t, want[k].P, got[k].P)
	}
	// A camera that stands still sees nothing.
	camera.Reach = 0
	rec, err = camera.Record([]float32{1}, 1, 1, nil)
	require.NoError(t, err)
	assert.Empty(t, rec.Events)
	// Noise comes at its rate.
	camera.Noise, camera.Micros, camera.Width, camera.Height = 10, 1_000_000, 20, 20
	rec, err = camera.Record([]float32{1}, 1, 1, rng.New(2).Rand())
	require.NoError(t, err)
	assert.InDelta(t, 12000, len(rec.Events), 5*math.Sqrt(12000))
}

func TestBadSimulators(t *testing.T) {
	for want, change := range map[string]func(*Simulator){
		"Simulator.Width and Height": func(s *Simulator) { s.Height = 0 },
		"Simulator.Threshold":        func(s *Simulator) { s.Threshold = 0 },
		"Simulator.Dark":             func(s *Simulator) { s.Dark = math.NaN() },
		"Simulator.Reach":            func(s *Simulator) { s.Reach = -1 },
		"Simulator.Micros":           func(s *Simulator) { s.Micros = 0 },
		"Simulator.Samples":          func(s *Simulator) { s.Samples = 0 },
		"Simulator.Noise":            func(s *Simulator) { s.Noise = math.Inf(1) },
		"value 0 of the image is 2":  func(*Simulator) {},
	} {
		s := DefaultSimulator()
		change(&s)
		_, err := s.Record([]float32{2}, 1, 1, nil)
		require.ErrorContains(t, err, want)
	}
	_, err := DefaultSimulator().Record(make([]float32, 35), 35, 1, nil)
	require.ErrorContains(t, err, "an image of 35 values for 35×1, want at least 1×1 and at most 34×34")
	set, err := fashion.Test()
	require.NoError(t, err)
	small := DefaultSimulator()
	small.Width = 20
	_, err = NewSimulated(set, small, rng.New(1))
	require.ErrorContains(t, err, "a camera of 20×34")
}

// Pictures decode, and show events where they are.
func TestPictures(t *testing.T) {
	x := tensor.NewFrames(tensor.Shape{N: 2, Steps: 3, C: 2, H: 4, W: 5})
	x.Image(1)[(2*2+1)*20+3*5+4] = 1 // example 1, step 2, ON, row 3, column 4
	x.Image(0)[0] = 1                // example 0, step 0, OFF, row 0, column 0
	var b bytes.Buffer
	require.NoError(t, Strip(&b, x, 2))
	m, err := png.Decode(&b)
	require.NoError(t, err)
	assert.Equal(t, [2]int{3*12 - 2, 2*10 - 2}, [2]int{m.Bounds().Dx(), m.Bounds().Dy()})
	assert.Equal(t, colourOff, m.At(1, 1))
	assert.Equal(t, colourOn, m.At(2*12+4*2+1, 10+3*2+1))
	b.Reset()
	require.NoError(t, GIF(&b, x.Slice(1, 2), 3, 10))
	g, err := gif.DecodeAll(&b)
	require.NoError(t, err)
	require.Len(t, g.Image, 3)
	r, gr, bl, _ := g.Image[2].At(4*3, 3*3).RGBA()
	assert.Equal(t, []uint32{213, 94, 0}, []uint32{r >> 8, gr >> 8, bl >> 8})
	r, gr, bl, _ = g.Image[1].At(4*3, 3*3).RGBA()
	assert.Equal(t, []uint32{255, 255, 255}, []uint32{r >> 8, gr >> 8, bl >> 8})

	require.ErrorContains(t, GIF(&b, x, 3, 10), "GIF of 2 examples")
	require.ErrorContains(t, Strip(&b, x, 0), "at scale 0")
	require.ErrorContains(t, Strip(&b, tensor.NewNCHW(1, 3, 2, 2), 1), "3 channels")
	x.Data[5] = 2
	require.ErrorContains(t, Strip(&b, x, 1), "image 0, step 0, value 5: 2 outside [0, 1]")
	x.Data[5] = 0
	require.ErrorIs(t, Strip(failing{}, x, 1), errFailing)
}

var errFailing = errors.New("no space")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFailing }
