package snn_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// settings is what the networks of these tests differ in.
type settings struct {
	neuron   snn.LIF
	encoder  snn.Encoder
	dropout  float32
	maxPool  bool
	height   int
	channels int
	hidden   int // neurons of a layer before the last, 0 for none
}

// manyParams are hidden neurons for as many parameters as a large network has.
const manyParams = 60000

func defaults() settings {
	return settings{neuron: snn.LIF{Decay: 0.9, Threshold: 0.7, Surrogate: snn.Triangle{Width: 1}}, height: 9, channels: 2}
}

// newModel builds a network with both kinds of composition for images of
// channels × height × 7 and 5 classes.
func newModel(t require.TestingT, s settings) *snn.Model {
	neuron := func() *snn.LIF { n := s.neuron; return &n }
	var pool snn.Layer = snn.AvgPool{K: 2}
	if s.maxPool {
		pool = snn.MaxPool{K: 2}
	}
	body := (&snn.Sequential{}).
		Append("features", snn.NewSequential(
			snn.NewConv2D(s.channels, 17, 3, 1, 1, true), snn.NewBatchNorm(17), neuron(), pool,
			&snn.Dropout{P: s.dropout},
		)).
		Append("block", &snn.Residual{
			BN1: snn.NewBatchNorm(17), N1: neuron(), Conv1: snn.NewConv2D(17, 20, 3, 2, 1, false),
			BN2: snn.NewBatchNorm(20), N2: neuron(), Drop: &snn.Dropout{P: s.dropout, EveryStep: true},
			Conv2: snn.NewConv2D(20, 20, 3, 1, 1, false), Short: snn.NewConv2D(17, 20, 1, 2, 0, false), Comb: autograd.NewParam(2),
		}).
		Append("n", neuron()).Append("", snn.Flatten{})
	last := 20 * ((s.height/2 + 1) / 2) * 2
	if s.hidden > 0 {
		body.Append("hidden", snn.NewLinear(last, s.hidden, false)).Append("nh", neuron())
		last = s.hidden
	}
	body.Append("fc", snn.NewLinear(last, 5, true))
	m, err := snn.NewModel(snn.Config{
		Channels: s.channels, Height: s.height, Width: 7, Steps: 4, Encoder: s.encoder,
		Mean: make([]float32, s.channels), Std: slices.Repeat([]float32{0.2}, s.channels),
	}, body)
	require.NoError(t, err)
	m.Init(rng.New(1))
	return m
}

// images draws n images of the model's shape.
func images(m *snn.Model, n int) tensor.NCHW {
	x := tensor.NewNCHW(n, m.Channels, m.Height, m.Width)
	r := rng.New(2).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	return x
}

func keys(n int) []rng.Key {
	ks := make([]rng.Key, n)
	for i := range ks {
		ks[i] = rng.New(3).Derive("image", uint64(i))
	}
	return ks
}

// seed returns a gradient of the logits that differs between images and classes.
func seed(logits []float32) []float32 {
	g := make([]float32, len(logits))
	for i := range g {
		g[i] = float32(i%7) - 2.5
	}
	return g
}

// trace is the logits of a pass, and the spikes of its layers of neurons by name.
type trace struct {
	logits []float32
	spikes map[string][]uint16
}

func (tr *trace) observe(layer string, s *tensor.Spikes) {
	if tr.spikes == nil {
		tr.spikes = map[string][]uint16{}
	}
	tr.spikes[layer] = slices.Clone(s.Bits)
}

func (tr *trace) back(logits []float32) []float32 {
	tr.logits = slices.Clone(logits)
	return seed(logits)
}

// A pass that takes gradients, through time with any surrogate or through the rate,
// of the images or of the parameters, runs the evaluated network: with a leak and a
// threshold other than 1, the logits and every spike are the same bits.
func TestForwardIsTheEvaluatedNetwork(t *testing.T) {
	for _, soft := range []bool{false, true} {
		s := defaults()
		s.neuron.SoftReset = soft
		m := newModel(t, s)
		x := images(m, 3)
		warmStatistics(t, m, x)
		var want trace
		var err error
		want.logits, err = m.Logits(snn.Pass{OnSpikes: want.observe}, x)
		require.NoError(t, err)
		require.Len(t, want.spikes, 4)
		for layer, bits := range want.spikes {
			rate := (&tensor.Spikes{Shape: tensor.Shape{N: 1, Steps: 1, C: 16, H: 1, W: len(bits)}, Bits: bits}).Rate()
			require.Greater(t, rate, 0.01, layer)
		}
		for _, g := range []snn.Gradient{
			nil, snn.BPTT{}, snn.BPTR{}, snn.BPTT{Surrogate: snn.Sigmoid{Alpha: 4}}, snn.BPTT{Surrogate: snn.Arctan{Alpha: 2}},
			snn.BPTT{Surrogate: snn.FastSigmoid{Slope: 2}, Relative: true}, snn.RGA{}, snn.HART{Width: 1}, snn.PDSG{}, snn.ASSG{A: 0.4},
		} {
			assert.False(t, snn.ChangesForward(g))
			for _, threads := range []int{1, 2} {
				m.Threads = threads
				var run, step trace
				_, err := m.InputGradient(snn.Pass{Gradient: g, OnSpikes: run.observe}, x, run.back)
				require.NoError(t, err)
				assert.Equal(t, want, run)
				require.NoError(t, m.ParamGradients(snn.Pass{Gradient: g, OnSpikes: step.observe}, x, step.back))
				assert.Equal(t, want, step)
			}
		}
	}
}

// warmStatistics moves the running statistics from where they start.
func warmStatistics(t require.TestingT, m *snn.Model, x tensor.NCHW) {
	for range 20 {
		require.NoError(t, m.ParamGradients(snn.Pass{Train: true}, x, func([]float32) []float32 { return nil }))
	}
}

// A pass without an approximation of the gradient has that of BPTT.
func TestNilGradientIsBPTT(t *testing.T) {
	racetest.Costly(t)
	grad := func(g snn.Gradient) []float32 {
		m := newModel(t, defaults())
		warmStatistics(t, m, images(m, 2))
		v, err := m.InputGradient(snn.Pass{Gradient: g}, images(m, 2), seed)
		require.NoError(t, err)
		return v.Data
	}
	assert.Equal(t, grad(snn.BPTT{}), grad(nil))
	assert.NotEqual(t, grad(snn.BPTR{}), grad(nil))
}

// A surrogate of the pass replaces the neurons' own, and nothing else does.
func TestSurrogateOfThePass(t *testing.T) {
	racetest.Costly(t)
	grad := func(own, pass snn.Surrogate) []float32 {
		s := defaults()
		s.neuron.Surrogate = own
		m := newModel(t, s)
		warmStatistics(t, m, images(m, 2))
		g, err := m.InputGradient(snn.Pass{Gradient: snn.BPTT{Surrogate: pass}}, images(m, 2), seed)
		require.NoError(t, err)
		return g.Data
	}
	a, b := snn.Triangle{Width: 1}, snn.Sigmoid{Alpha: 4}
	assert.Equal(t, grad(b, nil), grad(a, b))
	assert.NotEqual(t, grad(a, nil), grad(a, b))
	assert.Equal(t, "BPTT(sigmoid 4)", snn.BPTT{Surrogate: b}.String())
	assert.Equal(t, "BPTT BPTR CBA", fmt.Sprint(snn.BPTT{}, " ", snn.BPTR{}, " ", snn.CBA{}))
}

// What the network says about an image, and the gradient by it, do not depend on its
// batch, to the bit, even where it is random: that comes from the image's key.
func TestImagesDoNotDependOnTheirBatch(t *testing.T) {
	for name, change := range map[string]func(s *settings){
		"direct":   func(s *settings) {},
		"poisson":  func(s *settings) { s.encoder = snn.Poisson{} },
		"max pool": func(s *settings) { s.maxPool = true },
		"hidden":   func(s *settings) { s.hidden, s.neuron.Threshold = 19, 0.2 },
	} {
		for _, g := range append(approximations(), snn.BPTT{}, snn.BPTR{}, snn.CBA{}) {
			t.Run(fmt.Sprint(name, " ", g), func(t *testing.T) {
				s := defaults()
				change(&s)
				m := newModel(t, s)
				const n = 5
				x, ks := images(m, n), keys(n)
				warmStatistics(t, m, x)
				run := func(lo, hi int) ([]float32, []float32) {
					var tr trace
					grad, err := m.InputGradient(snn.Pass{Gradient: g, Keys: ks[lo:hi]}, x.Slice(lo, hi), func(logits []float32) []float32 {
						tr.logits = logits
						return seed(make([]float32, n*m.Classes()))[lo*m.Classes() : hi*m.Classes()]
					})
					require.NoError(t, err)
					return tr.logits, grad.Data
				}
				logits, grad := run(0, n)
				require.NotEqual(t, logits[:m.Classes()], logits[m.Classes():2*m.Classes()])
				for lo := range n {
					for _, hi := range []int{lo + 1, n} {
						l, g := run(lo, hi)
						require.Equal(t, logits[lo*m.Classes():hi*m.Classes()], l)
						require.Equal(t, grad[lo*x.Pixels():hi*x.Pixels()], g)
					}
				}
			})
		}
	}
}

// The keys decide all that is random: the same ones repeat a pass of training, others
// change it.
func TestKeysDecideDropout(t *testing.T) {
	s := defaults()
	s.dropout = 0.3
	logits := func(ks []rng.Key) []float32 {
		m := newModel(t, s)
		var tr trace
		require.NoError(t, m.ParamGradients(snn.Pass{Train: true, Keys: ks}, images(m, 3), tr.back))
		return tr.logits
	}
	ks := keys(4)
	assert.Equal(t, logits(ks[:3]), logits(ks[:3]))
	assert.NotEqual(t, logits(ks[:3]), logits(ks[1:]))
	// In evaluation there is no dropout, and so nothing that keys change.
	m := newModel(t, s)
	a, err := m.Logits(snn.Pass{Keys: ks[:3]}, images(m, 3))
	require.NoError(t, err)
	b, err := m.Logits(snn.Pass{Keys: ks[1:]}, images(m, 3))
	require.NoError(t, err)
	assert.Equal(t, a, b)
}

// Each layer draws a mask of its own: of 1000 activations one quarter passes two layers
// that drop one half each, twice doubled.
func TestDropoutLayersDrawApart(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 1000, Height: 1, Width: 1, Steps: 2},
		snn.NewSequential(&snn.Dropout{P: 0.5}, &snn.Dropout{P: 0.5}))
	require.NoError(t, err)
	x := tensor.NCHW{N: 1, C: 1000, H: 1, W: 1, Data: slices.Repeat([]float32{1}, 1000)}
	logits, err := m.Logits(snn.Pass{Train: true, Keys: keys(1)}, x)
	require.NoError(t, err)
	passed := 0
	for _, v := range logits {
		if v != 0 {
			require.Equal(t, float32(4), v)
			passed++
		}
	}
	assert.InDelta(t, 250, passed, 4*math.Sqrt(1000*3./16))
}

// The same step at 1 and 2 threads leaves the same bits in gradients and statistics.
func TestTrainStepThreads(t *testing.T) {
	s := defaults()
	s.dropout = 0.2
	for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}} {
		var want [][]float32
		for _, threads := range []int{1, 2} {
			m := newModel(t, s)
			m.Threads = threads
			x := images(m, 4)
			require.NoError(t, m.ParamGradients(snn.Pass{Train: true, Gradient: g, Keys: keys(4)}, x, seed))
			var got [][]float32
			for _, p := range m.State() {
				got = append(got, p.Export(), p.ExportGrad())
				assert.Equal(t, p.Trainable, p.Grad() != nil, p.Name)
			}
			if want == nil {
				want = got
			}
			assert.Equal(t, want, got)
		}
	}
}

// One pass gives the gradients of both, to the bit those of InputGradient and of ParamGradients, and
// changes the statistics once.
func TestGradients(t *testing.T) {
	s := defaults()
	s.dropout = 0.2
	for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}} {
		pass := snn.Pass{Train: true, Gradient: g, Keys: keys(4)}
		apart, both := newModel(t, s), newModel(t, s)
		x := images(both, 4)
		require.NoError(t, apart.ParamGradients(pass, x, seed))
		want, err := newModel(t, s).InputGradient(pass, x, seed)
		require.NoError(t, err)
		got, err := both.Gradients(pass, x, seed)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		for i, p := range both.State() {
			assert.Equal(t, apart.State()[i].ExportGrad(), p.ExportGrad(), p.Name)
			assert.Equal(t, apart.State()[i].Data(), p.Data(), p.Name)
		}
	}
}

// The gradient by an image is that by its Poisson spikes, summed over time, through the
// normalization of the spikes: the same network is run on spikes that are given to it.
func TestGradientThroughPoisson(t *testing.T) {
	s := defaults()
	s.encoder = snn.Poisson{}
	m := newModel(t, s)
	x := images(m, 3)
	warmStatistics(t, m, x)
	for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}} {
		var tr trace
		got, err := m.InputGradient(snn.Pass{Gradient: g, Keys: keys(3)}, x, tr.back)
		require.NoError(t, err)

		tape := &autograd.Tape{}
		var drawn []rng.Key
		for _, k := range keys(3) {
			drawn = append(drawn, k.Derive("poisson", 0))
		}
		spikes := autograd.Poisson(tape, tape.Leaf(x, false), m.Steps, drawn).Spikes()
		m.Encoder = snn.Direct{}
		in := tape.InputSpikes(spikes, true)
		logits := m.Forward(&snn.Pass{Tape: tape, Steps: m.Steps, Gradient: g, Keys: keys(3)}, in)
		m.Encoder = snn.Poisson{}
		require.Equal(t, tr.logits, logits.Dense().Unpack().Data)
		tape.Backward(logits, seed(tr.logits))
		by := in.Grad() // with one step under BPTR, the same at all of them
		each := m.Steps / by.Steps
		for i := range got.Data {
			n, c, px := i/got.Pixels(), i/(m.Height*m.Width)%m.Channels, i%(m.Height*m.Width)
			sum := 0.0
			for step := range by.Steps {
				sum += float64(by.Data[((n*by.Steps+step)*m.Height*m.Width+px)*tensor.Lanes+c]) * float64(each)
			}
			require.InDelta(t, sum, got.Data[i], 1e-4*(1+math.Abs(sum)))
		}
		assert.Greater(t, slices.Max(got.Data), float32(0.1))
	}
}

// A pass of fewer steps is one over the same network with so many steps.
func TestStepsOfThePass(t *testing.T) {
	m, short := newModel(t, defaults()), newModel(t, defaults())
	short.Steps = 2
	x := images(m, 3)
	warmStatistics(t, m, x)
	require.NoError(t, short.SetState(saved(t, m)))
	long, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	want, err := short.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	got, err := m.Logits(snn.Pass{Steps: 2}, x)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.NotEqual(t, long, got)
	_, err = m.InputGradient(snn.Pass{Steps: -1}, x, seed)
	assert.EqualError(t, err, "snn: -1 time steps: expected at least 1")
}

// saved returns the content of the model's file.
func saved(t *testing.T, m *snn.Model) []byte {
	var b bytes.Buffer
	require.NoError(t, m.Write(&b))
	return b.Bytes()
}

// Batch norm sees the whole batch in a pass of training, however many images it has,
// and whether somebody observes it or not.
func TestEvaluateByTheStatisticsOfTheBatch(t *testing.T) {
	logits := func(observe func(string, *tensor.Spikes)) ([]float32, map[string][]float32) {
		m := newModel(t, defaults())
		l, err := m.Logits(snn.Pass{Train: true, OnSpikes: observe}, images(m, 70))
		require.NoError(t, err)
		return l, state(m)
	}
	want, after := logits(func(string, *tensor.Spikes) {})
	got, same := logits(nil)
	assert.Equal(t, want, got)
	assert.Equal(t, after, same)
}

// In evaluation many images, which run some at a time, have the logits of a pass over
// all of them.
func TestEvaluateInParts(t *testing.T) {
	for _, hidden := range []int{0, manyParams} {
		s := defaults()
		s.encoder, s.hidden = snn.Poisson{}, hidden
		m := newModel(t, s)
		x := images(m, 70)
		warmStatistics(t, m, x.Slice(0, 2))
		want, err := m.Logits(snn.Pass{Keys: keys(70), OnSpikes: func(string, *tensor.Spikes) {}}, x)
		require.NoError(t, err)
		got, err := m.Logits(snn.Pass{Keys: keys(70)}, x)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

// Chunks cover the images once, in a network of few parameters side by side. One chunk alone has all
// threads.
func TestParts(t *testing.T) {
	for _, c := range []struct {
		hidden, n, steps, parts, threads int
	}{
		{0, 1, 4, 1, 2}, {0, 8, 4, 1, 2}, {0, 9, 4, 2, 1}, {0, 70, 4, 9, 1}, {0, 3, 32, 3, 1}, {0, 64, 1, 2, 1},
		{0, 8, 33, 3, 2}, {0, 3, 1000, 3, 2},
		{manyParams, 1, 4, 1, 2}, {manyParams, 32, 4, 1, 2}, {manyParams, 70, 4, 3, 2}, {manyParams, 3, 1000, 3, 2},
	} {
		s := defaults()
		s.hidden = c.hidden
		m := newModel(t, s)
		m.Steps, m.Threads = c.steps, 2
		var mu sync.Mutex
		covered, parts, now, most := make([]int, c.n), 0, 0, 0
		first, two := errors.New("first"), make(chan struct{})
		err := m.ForEachChunk(tensor.Shape{N: c.n}, snn.Pass{}, func(lo, hi int, p snn.Pass) error {
			assert.Equal(t, c.threads, p.Threads)
			assert.Equal(t, c.steps, p.Steps)
			mu.Lock()
			for i := lo; i < hi; i++ {
				covered[i]++
			}
			parts, now = parts+1, now+1
			most = max(most, now)
			if parts == 2 {
				close(two)
			}
			mu.Unlock()
			wait := time.Millisecond // for what must not come side by side
			if c.threads == 1 && c.parts > 1 {
				wait = time.Minute
			}
			select {
			case <-two:
			case <-time.After(wait):
			}
			mu.Lock()
			now--
			mu.Unlock()
			if lo == 0 {
				return first
			}
			return errors.New("later")
		})
		assert.Equal(t, first, err)
		assert.Equal(t, slices.Repeat([]int{1}, c.n), covered)
		assert.Equal(t, c.parts, parts, "%+v", c)
		want := min(parts, 2)
		if c.threads > 1 {
			want = 1
		}
		assert.Equal(t, want, most, "%+v", c)
	}
	assert.ErrorContains(t, newModel(t, defaults()).ForEachChunk(tensor.Shape{N: 1}, snn.Pass{Steps: -1}, nil), "snn: -1 time steps: expected at least 1")
}

// Chunks count an image as its steps. Under CBA, where all values have one step, they count the image's
// own frames.
func TestChunksCountFrames(t *testing.T) {
	for _, c := range []struct {
		hidden, steps   int
		gradient        snn.Gradient
		frames          int // of an image
		images, workers int
	}{
		{0, 8, snn.BPTR{}, 1, 4, 2}, {0, 8, snn.CBA{}, 1, 32, 2}, {0, 8, snn.CBA{}, 0, 32, 2}, {0, 8, snn.CBA{}, 8, 4, 2},
		{0, 40, snn.BPTT{}, 1, 3, 1}, {0, 40, snn.CBA{}, 1, 128, 1}, {0, 40, snn.CBA{}, 40, 3, 1},
		{0, 8, snn.CBA{}, 100, 1, 2}, // frames that the pass refuses
		{manyParams, 8, nil, 1, 16, 1}, {manyParams, 8, snn.CBA{}, 1, 128, 1}, {manyParams, 8, snn.CBA{}, 8, 16, 1},
		{manyParams, 200, snn.CBA{}, 1, 128, 1}, {manyParams, 200, snn.CBA{}, 200, 1, 1},
	} {
		s := defaults()
		s.hidden = c.hidden
		m := newModel(t, s)
		x := images(m, 2).Shape()
		x.Steps = c.frames
		p := snn.Pass{Steps: c.steps, Threads: 2, Gradient: c.gradient}
		got, workers, err := m.Chunks(&p, x)
		require.NoError(t, err)
		assert.Equal(t, []int{c.images, c.workers, 3 - c.workers}, []int{got, workers, p.Threads}, "%+v", c)
		assert.Equal(t, c.steps, p.Steps)
	}
	// The values do have one step, whatever the images have.
	m := newModel(t, defaults())
	for _, x := range []tensor.NCHW{images(m, 3), tensor.NewFrames(images(m, 3).Shape().WithSteps(m.Steps))} {
		layers := 0
		_, err := m.Logits(snn.Pass{Gradient: snn.CBA{}, OnNeurons: func(_ *snn.Pass, _ snn.Neuron, currents, output *autograd.Value) {
			layers++
			assert.Equal(t, []int{1, 1}, []int{currents.Shape().Steps, output.Shape().Steps})
		}}, x)
		require.NoError(t, err)
		assert.Positive(t, layers)
	}
}

// InputGradient changes neither gradients of parameters nor statistics.
func TestInputGradientLeavesTheModelAlone(t *testing.T) {
	m := newModel(t, defaults())
	before := state(m)
	grad, err := m.InputGradient(snn.Pass{}, images(m, 2), seed)
	require.NoError(t, err)
	assert.Equal(t, "2×2×9×7", grad.String())
	assert.Equal(t, before, state(m))
	for _, p := range m.State() {
		assert.Nil(t, p.Grad(), p.Name)
	}
	grad, err = m.InputGradient(snn.Pass{}, images(m, 2), func([]float32) []float32 { return nil })
	require.NoError(t, err)
	assert.Empty(t, grad.Data)
}

func state(m *snn.Model) map[string][]float32 {
	values := map[string][]float32{}
	for _, p := range m.State() {
		values[p.Name] = p.Export()
	}
	return values
}

// Several goroutines may evaluate one model.
func TestEvaluateConcurrently(t *testing.T) {
	m := newModel(t, defaults())
	x := images(m, 2)
	want, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				var tr trace
				_, err := m.InputGradient(snn.Pass{Gradient: []snn.Gradient{snn.BPTT{}, snn.BPTR{}}[i%2]}, x, tr.back)
				assert.NoError(t, err)
				assert.Equal(t, want, tr.logits)
			}
		})
	}
	wg.Wait()
}

// CBA is the network with ReLU in place of its neurons, and no time, whatever encodes
// its images: one linear network by hand. With positive currents the gradient is the
// product of the weights.
func TestCBAByHand(t *testing.T) {
	hidden, out := snn.NewLinear(2, 2, false), snn.NewLinear(2, 1, true)
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 3}, snn.NewSequential(hidden, snn.NewIF(), out))
	require.NoError(t, err)
	hidden.Weight.Import([]float32{1, 2, -1, 0.5})
	out.Weight.Import([]float32{3, 5})
	out.Bias.Import([]float32{0.25})
	x := tensor.NCHW{N: 1, C: 2, H: 1, W: 1, Data: []float32{0.5, 0.25}}
	var logits []float32
	for _, m.Encoder = range []snn.Encoder{snn.Poisson{}, snn.Direct{}} {
		// Currents 0.5 + 0.5 = 1 and −0.5 + 0.125 < 0: only the first passes.
		grad, err := m.InputGradient(snn.Pass{Gradient: snn.CBA{}}, x, func(l []float32) []float32 { logits = l; return []float32{1} })
		require.NoError(t, err)
		assert.Equal(t, []float32{3.25}, logits)
		assert.Equal(t, []float32{3, 6}, grad.Data)
	}

	// As spikes, the first neuron fires at every step, the second never: the same logit.
	logits, err = m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	assert.Equal(t, []float32{3.25}, logits)
	// BPTR lets it pass in full, and nothing through the silent one.
	grad, err := m.InputGradient(snn.Pass{Gradient: snn.BPTR{}}, x, func(l []float32) []float32 { return []float32{1} })
	require.NoError(t, err)
	assert.Equal(t, []float32{3, 6}, grad.Data)
}

func TestBadImagesAreErrors(t *testing.T) {
	m := newModel(t, defaults())
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	bad := map[string]tensor.NCHW{
		"images 2×3×9×7: expected N×2×9×7 with N ≥ 1":       tensor.NewNCHW(2, 3, 9, 7),
		"images 1×2×7×9: expected N×2×9×7":                  tensor.NewNCHW(1, 2, 7, 9),
		"images 0×2×9×7: expected N×2×9×7":                  tensor.NewNCHW(0, 2, 9, 7),
		"images 2×2×9×7 with 126 values: expected 252":      {N: 2, C: 2, H: 9, W: 7, Data: make([]float32, 126)},
		"image 1, value 4: NaN not a number; expected a va": images(m, 2),
		"image 1, value 5: 1.5 outside [0, 1]":              images(m, 2),
		"image 0, value 0: -0.1 outside [0, 1]":             images(m, 2),
		"image 0, value 1: +Inf outside [0, 1]":             images(m, 2),
	}
	bad["image 1, value 4: NaN not a number; expected a va"].Image(1)[4] = nan
	bad["image 1, value 5: 1.5 outside [0, 1]"].Image(1)[5] = 1.5
	bad["image 0, value 0: -0.1 outside [0, 1]"].Image(0)[0] = -0.1
	bad["image 0, value 1: +Inf outside [0, 1]"].Image(0)[1] = inf
	for message, x := range bad {
		_, err := m.Logits(snn.Pass{}, x)
		assert.ErrorContains(t, err, message)
		_, err = m.InputGradient(snn.Pass{}, x, seed)
		assert.ErrorContains(t, err, message)
		assert.ErrorContains(t, m.ParamGradients(snn.Pass{}, x, seed), message)
	}
	m.Steps = 0
	_, err := m.Logits(snn.Pass{}, images(m, 1))
	assert.ErrorContains(t, err, "0 time steps: expected at least 1")
}

// nameless is a layer whose Describe does not name its parameter.
type nameless struct{}

func (nameless) Forward(_ *snn.Pass, x *autograd.Value) *autograd.Value { return x }

func (nameless) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	s.Rows = append(s.Rows, snn.Row{Name: name, Params: []*autograd.Param{autograd.NewParam(3)}})
	in.H, in.W = 1, 1
	return in, nil
}

func TestConstructionErrors(t *testing.T) {
	good := snn.Config{Channels: 2, Height: 4, Width: 4, Steps: 2}
	fc := func() snn.Layer { return snn.NewLinear(3, 2, true) }
	conv := func() *snn.Conv2D { return snn.NewConv2D(2, 3, 3, 1, 1, true) }
	twice := snn.NewConv2D(2, 2, 3, 1, 1, false)
	bad := func(change func(*snn.Config)) snn.Config { c := good; change(&c); return c }
	neuron := func(change func(*snn.LIF)) snn.Layer { n := snn.NewIF(); change(n); return n }
	block := func(change func(*snn.Residual)) snn.Layer {
		b := &snn.Residual{
			N1: snn.NewIF(), Conv1: snn.NewConv2D(2, 2, 3, 1, 1, false), N2: snn.NewIF(),
			Conv2: snn.NewConv2D(2, 2, 3, 1, 1, false), Comb: autograd.NewParam(2),
		}
		change(b)
		return (&snn.Sequential{}).Append("blocks", snn.NewSequential(b))
	}
	nan := float32(math.NaN())
	norm := func(change func(*snn.BatchNorm)) *snn.BatchNorm {
		l := snn.NewBatchNorm(2)
		change(l)
		return l
	}
	for _, c := range []struct {
		message string
		cfg     snn.Config
		body    snn.Layer
	}{
		{"images of 0×4×4: expected positive extents", bad(func(c *snn.Config) { c.Channels = 0 }), fc()},
		{"0 time steps: expected at least 1", bad(func(c *snn.Config) { c.Steps = 0 }), fc()},
		{"expected both or neither", bad(func(c *snn.Config) { c.Mean = []float32{0, 0} }), fc()},
		{"1 means and 2 standard deviations for 2 channels", bad(func(c *snn.Config) { c.Mean, c.Std = []float32{0}, []float32{1, 1} }), fc()},
		{"channel 1: mean 0, standard deviation 0", bad(func(c *snn.Config) { c.Mean, c.Std = []float32{0, 0}, []float32{1, 0} }), fc()},
		{"channel 0: mean NaN", bad(func(c *snn.Config) { c.Mean, c.Std = []float32{nan, 0}, []float32{1, 1} }), fc()},
		{"snn: layer 1: 3 channels: expected 4", good, snn.NewSequential(conv(), snn.NewBatchNorm(4))},
		{"snn: layer 0: 2 input channels: expected 5", good, snn.NewSequential(snn.NewConv2D(5, 3, 3, 1, 1, true))},
		{"snn: 2 input channels: expected 5", good, snn.NewConv2D(5, 3, 3, 1, 1, true)},
		{"layer 0: stride 0 and padding 1: expected at least 1 and 0", good, snn.NewSequential(snn.NewConv2D(2, 3, 3, 0, 1, true))},
		{"layer 0: a 5×5 window exceeds the 4×4 input", good, snn.NewSequential(snn.NewConv2D(2, 3, 5, 1, 0, true))},
		{"layer 0: a 5×5 window does not fit the 4×4 input", good, snn.NewSequential(snn.AvgPool{K: 5})},
		{"layer 0: a -1×-1 window does not fit", good, snn.NewSequential(snn.MaxPool{K: -1})},
		{"layer 1: 3×4×4 features: expected 3×1×1", good, snn.NewSequential(conv(), fc())},
		{"layer 0: dropout probability 1: expected a number in [0, 1)", good, snn.NewSequential(&snn.Dropout{P: 1})},
		{"layer 0: dropout probability NaN", good, snn.NewSequential(&snn.Dropout{P: nan})},
		{"layer 0: decay 0: expected a number in (0, 1]", good, snn.NewSequential(snn.NewLIF(0))},
		{"layer 0: decay 1.5", good, snn.NewSequential(snn.NewLIF(1.5))},
		{"layer 0: decay NaN", good, snn.NewSequential(snn.NewLIF(nan))},
		{"layer 0: threshold 0: expected a positive number", good, snn.NewSequential(neuron(func(n *snn.LIF) { n.Threshold = 0 }))},
		{"layer 0: threshold +Inf", good, snn.NewSequential(neuron(func(n *snn.LIF) { n.Threshold = float32(math.Inf(1)) }))},
		{"layer 0: surrogate rectangle 0: expected a positive number", good, snn.NewSequential(neuron(func(n *snn.LIF) { n.Surrogate = snn.Rectangle{} }))},
		{"layer 0: surrogate sigmoid -4", good, snn.NewSequential(neuron(func(n *snn.LIF) { n.Surrogate = snn.Sigmoid{Alpha: -4} }))},
		{"layer 0: surrogate arctan NaN", good, snn.NewSequential(neuron(func(n *snn.LIF) { n.Surrogate = snn.Arctan{Alpha: nan} }))},
		{"layer 0: no surrogate", good, snn.NewSequential(neuron(func(n *snn.LIF) { n.Surrogate = nil }))},
		{"layer blocks.0.bn1: 2 channels: expected 3", good, block(func(b *snn.Residual) { b.BN1 = snn.NewBatchNorm(3) })},
		{"layer blocks.0.n2: decay 2", good, block(func(b *snn.Residual) { b.N2 = snn.NewLIF(2) })},
		{"layer blocks.0: the branches' shapes 1×1×2×4×4 and 1×1×5×4×4 differ", good, block(func(b *snn.Residual) { b.Conv2 = snn.NewConv2D(2, 5, 3, 1, 1, false) })},
		{"layer blocks.0.short: 2 input channels: expected 7", good, block(func(b *snn.Residual) { b.Short = snn.NewConv2D(7, 2, 1, 1, 0, false) })},
		{"layer blocks.0: no weights of its two branches", good, block(func(b *snn.Residual) { b.Comb = nil })},
		{"layer blocks.0: no weights of its two branches", good, block(func(b *snn.Residual) { b.Comb = autograd.NewParam(3) })},
		{"layer blocks.0: no weights of its two branches", good, block(func(b *snn.Residual) { b.Comb = autograd.NewParam(1, 2) })},
		{"layer 0: a bias of shape [4]: expected [3]", good, snn.NewSequential(&snn.Conv2D{Weight: autograd.NewParam(3, 2, 3, 3), Bias: autograd.NewParam(4), Stride: 1})},
		{"layer 0: no weight of four dimensions: expected that of NewConv2D", good, snn.NewSequential(&snn.Conv2D{Weight: autograd.NewParam(3, 2), Stride: 1})},
		{"layer 1: a bias of shape [3]: expected [2]", good, snn.NewSequential(snn.Flatten{}, &snn.Linear{Weight: autograd.NewParam(2, 32), Bias: autograd.NewParam(3)})},
		{"layer 1: no weight of two dimensions: expected that of NewLinear", good, snn.NewSequential(snn.Flatten{}, &snn.Linear{})},
		{"layer 0: a running variance of shape [1]: expected [2]", good, snn.NewSequential(norm(func(l *snn.BatchNorm) { l.RunningVar = autograd.NewBuffer(1) }))},
		{"layer 0: no bias: expected one of shape [2]", good, snn.NewSequential(norm(func(l *snn.BatchNorm) { l.Bias = nil }))},
		{"layer 0: no weight of one dimension: expected that of NewBatchNorm", good, snn.NewSequential(&snn.BatchNorm{})},
		{"snn: nil: expected a layer", good, nil},
		{"layer 1: nil: expected a layer", good, snn.NewSequential(conv(), nil)},
		{"layer blocks.0: a layer is nil: expected N1, Conv1, N2 and Conv2", good, block(func(b *snn.Residual) { b.N2 = nil })},
		{"a parameter of shape [3] has no name", good, &nameless{}},
		{"the network ends in 3×4×4: expected one pixel of classes", good, conv()},
		{"layer 1: it is the same *snn.Conv2D as layer 0", good, snn.NewSequential(twice, twice, snn.Flatten{}, snn.NewLinear(32, 2, true))},
		{"two parameters are named a.weight", good, (&snn.Sequential{}).Append("a", conv()).Append("a", snn.NewConv2D(3, 3, 4, 1, 0, true))},
	} {
		_, err := snn.NewModel(c.cfg, c.body)
		assert.ErrorContains(t, err, c.message)
	}
}

func TestNewSurrogateErrors(t *testing.T) {
	for _, name := range []string{"triangle", "rectangle", "sigmoid", "arctan", "fast_sigmoid", "exponential", "dampened_exponential"} {
		for _, v := range []float32{0, -0.3, -1, float32(math.NaN()), float32(math.Inf(1))} {
			_, err := snn.NewSurrogate(name, v)
			assert.ErrorContains(t, err, fmt.Sprintf("surrogate %s %v: expected a positive number", name, v))
		}
	}
	_, err := snn.NewSurrogate("straight_through", 2)
	assert.EqualError(t, err, "surrogate straight_through 2: expected 1, its derivative")
	_, err = snn.NewSurrogate("relu", 1)
	assert.ErrorContains(t, err, `surrogate "relu": expected triangle, rectangle, sigmoid, arctan, fast_sigmoid, exponential, dampened_exponential or straight_through`)
}

// Every surrogate is even; the first four integrate to 1, as the derivative of a step
// does, and the fast sigmoid and the exponential, which are 1 at the threshold, to 2/width. The
// dampened exponential is 0.3 there.
func TestSurrogates(t *testing.T) {
	for _, name := range []string{"triangle", "rectangle", "sigmoid", "arctan", "fast_sigmoid", "exponential", "dampened_exponential"} {
		for _, width := range []float32{0.5, 1, 4} {
			s, err := snn.NewSurrogate(name, width)
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprint(name, " ", width), s.String())
			// u = tan(v) maps the line to an interval.
			const n = 20_000
			u, right, left := make([]float32, n), make([]float32, n), make([]float32, n)
			for i := range u {
				u[i] = float32(math.Tan(math.Pi / 2 * (float64(i) + 0.5) / n))
			}
			s.Derivative(right, u)
			area := 0.0
			for i := range u {
				area += 2 * float64(right[i]) * (1 + float64(u[i])*float64(u[i])) * math.Pi / 2 / n
				u[i] = -u[i]
			}
			s.Derivative(left, u)
			assert.InDeltaSlice(t, right, left, 1e-6)
			want := 1.0
			switch name {
			case "fast_sigmoid", "exponential":
				want = 2 / float64(width)
			case "dampened_exponential":
				want = 0.6 / float64(width)
			}
			assert.InDelta(t, want, area, 2e-3*want, "%s of width %v", name, width)
			if c, ok := s.(interface{ Support() float32 }); ok {
				u := []float32{math.Nextafter32(c.Support(), 0), c.Support()}
				s.Derivative(u, u)
				assert.Positive(t, u[0])
				assert.Zero(t, u[1])
			} else {
				assert.Positive(t, right[n/2])
			}
			s.Derivative(u, u) // in place
			assert.Equal(t, left, u)
		}
	}
}

// The memory of an evaluation grows neither with the number of steps nor with that of
// images, beyond the frames that are evaluated together: never more than 128 need. Of a
// very large layer all steps of an image may need more than several images of few steps.
func TestEvaluationMemory(t *testing.T) {
	for hidden, steps := range map[int][]int{0: {8, 16, 32, 33, 64, 128}, manyParams: {8, 16, 32}} {
		peak := func(steps, n int, observe func(string, *tensor.Spikes)) int {
			s := defaults()
			s.hidden = hidden
			m := newModel(t, s)
			m.Steps, m.Threads = steps, 2
			_, err := m.Logits(snn.Pass{OnSpikes: observe}, images(m, n))
			require.NoError(t, err)
			return m.Peak()
		}
		most := peak(8, 16, func(string, *tensor.Spikes) {}) // in one pass
		for _, steps := range steps {
			assert.LessOrEqual(t, peak(steps, 16, nil), most, "%d steps", steps)
			assert.LessOrEqual(t, peak(steps, 64, nil), most, "%d steps, 64 images", steps)
		}
		assert.Less(t, peak(4, 8, nil), most, "fewer frames")
	}
}

// A pass over all images takes the memory that the last such pass had, whatever smaller
// passes were made side by side in between.
func TestTapesKeepTheirMemory(t *testing.T) {
	m := newModel(t, defaults())
	m.Threads = 2
	x := images(m, 64)
	whole := func() {
		_, err := m.InputGradient(snn.Pass{}, x, func(logits []float32) []float32 { return make([]float32, len(logits)) })
		require.NoError(t, err)
	}
	whole()
	first := m.Peak()
	for range 5 {
		// Both parts of eight images wait for each other, so that each has a tape.
		var both sync.WaitGroup
		both.Add(2)
		require.NoError(t, m.ForEachChunk(tensor.Shape{N: 16}, snn.Pass{}, func(lo, hi int, p snn.Pass) error {
			_, err := m.InputGradient(p, x.Slice(lo, hi), func([]float32) []float32 {
				both.Done()
				both.Wait()
				return nil
			})
			return err
		}))
		whole()
	}
	assert.Less(t, m.Peak(), first*5/4)
}
