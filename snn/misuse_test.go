package snn_test

import (
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// steep embeds a triangle, whose methods the kernels believe, and has another derivative.
type steep struct{ snn.Triangle }

func (s steep) Derivative(dst, u []float32) {
	s.Triangle.Derivative(dst, u)
	for i := range dst {
		dst[i] *= 5
	}
}

// wide embeds a rectangle and is not zero outside of it.
type wide struct{ snn.Rectangle }

func (wide) Derivative(dst, u []float32) {
	for i := range dst {
		dst[i] = 1
	}
}

// flat is zero everywhere: no gradient crosses the neurons.
type flat struct{}

func (flat) Derivative(dst, u []float32) { clear(dst) }
func (flat) String() string              { return "flat" }

// embedding embeds the gradient approximation.
type embedding struct{ snn.BPTT }

// A pass refuses a surrogate that the kernels would not compute, or whose gradient is zero,
// whoever holds it.
func TestSurrogateThatContradictsItself(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewIF())
	require.NoError(t, err)
	for want, g := range map[string]snn.Gradient{
		"flat: its derivative at the threshold is 0":              &snn.BPTT{Surrogate: flat{}},
		"flat: its derivative at the threshold is 0: ":            embedding{snn.BPTT{Surrogate: flat{}}},
		"threshold is 5: expected 1, that of the triangle":        snn.BPTT{Surrogate: steep{snn.Triangle{Width: 1}}},
		"threshold is 1: expected 0, since its Support is 0.05":   snn.BPTT{Surrogate: wide{snn.Rectangle{Width: 0.1}}},
		"at 0.1 from the threshold is 1: expected 0, since its S": &snn.BPTT{Surrogate: &wide{snn.Rectangle{Width: 0.1}}},
	} {
		_, err := m.InputGradient(snn.Pass{Gradient: g}, images(m, 1), func([]float32) []float32 {
			assert.Fail(t, "fn is called")
			return nil
		})
		assert.ErrorContains(t, err, want)
	}
	_, err = m.InputGradient(snn.Pass{Gradient: snn.BPTT{Surrogate: wrapped{snn.Triangle{Width: 0.3}}}}, images(m, 1), func(l []float32) []float32 { return l })
	assert.NoError(t, err)
}

// Fields of batch norm and dropout that were changed to bad values are errors of the pass.
func TestChangedLayerSettings(t *testing.T) {
	b, d := snn.NewBatchNorm(2), &snn.Dropout{P: 0.5}
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewSequential(b, d))
	require.NoError(t, err)
	b.Momentum = 7
	_, err = m.Logits(snn.Pass{Train: true}, images(m, 2))
	assert.ErrorContains(t, err, "layer 0: batch norm's momentum 7")
	b.Momentum, d.P = 0.1, 1.5
	logits, err := m.Logits(snn.Pass{Train: true}, images(m, 2))
	assert.ErrorContains(t, err, "layer 1: dropout probability 1.5")
	assert.Nil(t, logits)
}

// A pass of a network whose encoder was taken away is an error.
func TestNoEncoder(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewIF())
	require.NoError(t, err)
	m.Encoder = nil
	_, err = m.Logits(snn.Pass{}, images(m, 1))
	assert.EqualError(t, err, "snn: Config.Encoder is nil: expected one such as Direct{}")
	_, err = m.NewStream(snn.StreamConfig{})
	assert.EqualError(t, err, "snn: Config.Encoder is nil: expected one such as Direct{}")
}

// A training pass that fails leaves the running statistics as they were: behind batch norm, at a logit
// that is too large, or in the function of the caller.
func TestFailedPassKeepsStatistics(t *testing.T) {
	b, fc := snn.NewBatchNorm(2), snn.NewLinear(2, 2, true)
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewSequential(b, snn.Flatten{}, fc))
	require.NoError(t, err)
	m.Init(rng.New(1))
	x, broken := images(m, 3), errors.New("broken")
	for _, huge := range []float32{math.MaxFloat32, 1} {
		fc.Weight.Import([]float32{huge, -huge, huge, huge})
		before := [2][]float32{b.RunningMean.Export(), b.RunningVar.Export()}
		for _, run := range []func() error{
			func() error {
				return m.ParamGradients(snn.Pass{Train: true}, x, func(l []float32) []float32 { return l })
			},
			func() error {
				_, err := m.Logits(snn.Pass{Train: true}, x)
				return err
			},
			func() error {
				_, err := m.Differentiate(snn.Pass{Train: true}, x, snn.OfParams, func(snn.Output) ([]float32, error) { return nil, broken })
				return err
			},
		} {
			err := run()
			now := [2][]float32{b.RunningMean.Export(), b.RunningVar.Export()}
			if err != nil {
				assert.Equal(t, before, now, err)
			} else {
				assert.NotEqual(t, before, now)
				assert.EqualValues(t, 1, huge)
			}
			before = now
		}
	}
}

// Layers of one name would share settings in files, random numbers and spikes.
func TestLayersOfOneName(t *testing.T) {
	for _, l := range [][2]snn.Layer{{snn.NewIF(), snn.NewLIF(0.5)}, {&snn.Dropout{P: 0.1}, &snn.Dropout{P: 0.1}}, {snn.NewIF(), &snn.Dropout{P: 0.1}}} {
		body := (&snn.Sequential{}).Append("n", l[0]).Append("n", l[1])
		_, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, body)
		assert.ErrorContains(t, err, `two layers are named "n"`)
	}
}

// Class names are saved with a network that package zoo did not build, as they are at the
// time of Save.
func TestClassNamesAreSaved(t *testing.T) {
	build := func(names ...string) *snn.Model {
		m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2, ClassNames: names}, snn.NewIF())
		require.NoError(t, err)
		return m
	}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	m, other := build(), build("dog", "cat")
	m.Config.ClassNames = []string{"cat", "dog"}
	require.NoError(t, m.Save(path))
	require.NoError(t, other.SetSettings(meta(t, path)))
	assert.Equal(t, []string{"cat", "dog"}, other.ClassNames())

	require.NoError(t, build().Save(path))
	require.NoError(t, other.SetSettings(meta(t, path)))
	assert.Nil(t, other.ClassNames())

	m.Config.ClassNames = []string{"cat"}
	assert.ErrorContains(t, m.Save(path), "1 names for the 2 classes")
	assert.ErrorContains(t, m.SetSettings(map[string]string{"snnrat.settings": `{"steps":1,"encoder":"direct","class_names":["a","b","c"],"layers":{}}`}), "3 names")
}

func TestInfiniteNormalization(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, v := range [][2]float32{{inf, 1}, {-inf, 1}, {0, inf}} {
		_, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1, Mean: v[:1], Std: v[1:]}, snn.NewIF())
		assert.ErrorContains(t, err, "channel 0: mean")
	}
}

// fragile is a triangle that panics on demand, in the backward pass.
type fragile struct {
	snn.FastSigmoid
	broken *bool
}

func (f fragile) Derivative(dst, u []float32) {
	if *f.broken && len(u) > 100 {
		panic("broken")
	}
	f.FastSigmoid.Derivative(dst, u)
}

// A panic of the caller's code leaves no memory behind in the model, and the next pass is
// as before.
func TestPanicLeavesNoMemory(t *testing.T) {
	body := snn.NewSequential(snn.NewConv2D(1, 4, 3, 1, 1, false), snn.NewIF(), snn.NewConv2D(4, 4, 3, 1, 1, false), snn.NewIF(), snn.AvgPool{}, snn.NewLinear(4, 2, true))
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 16, Width: 16, Steps: 3}, body)
	require.NoError(t, err)
	m.Init(rng.New(1))
	broken := false
	grad := func() []float32 {
		g, err := m.InputGradient(snn.Pass{Gradient: snn.BPTT{Surrogate: fragile{snn.FastSigmoid{Slope: 2}, &broken}}, Threads: 2}, images(m, 8), func(l []float32) []float32 {
			l[0], l[1] = 1, -1
			return l
		})
		require.NoError(t, err)
		return g.Data
	}
	want, peak := grad(), m.Peak()
	broken = true
	for range 4 {
		assert.PanicsWithValue(t, "broken", func() { grad() })
	}
	broken = false
	assert.Equal(t, want, grad())
	assert.LessOrEqual(t, m.Peak(), peak)
}

// Chunks cover every image once, for many images on 32 bits too.
func TestChunksOfManyImages(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 32}, snn.NewIF())
	require.NoError(t, err)
	const n = 60000
	seen := make([]int32, n)
	require.NoError(t, m.ForEachChunk(tensor.Shape{N: n}, snn.Pass{Threads: 1}, func(lo, hi int, _ snn.Pass) error {
		for i := lo; i < hi; i++ {
			seen[i]++
		}
		return nil
	}))
	for i, times := range seen {
		require.EqualValues(t, 1, times, i)
	}
}

// gap is a surrogate that is NaN where validation does not look.
type gap struct{}

func (gap) String() string { return "gap" }
func (gap) Derivative(dst, u []float32) {
	for i, u := range u {
		if dst[i] = 1; u > -0.49 && u < -0.11 {
			dst[i] = float32(math.NaN())
		}
	}
}

// A derivative that is not finite is an error that names the layer, for each kind of neurons
// and each gradient, with batch norm before the neurons too.
func TestDerivativeNotFinite(t *testing.T) {
	recurrent := snn.NewPLIF(2)
	recurrent.Recurrent = autograd.NewParam(8, 8)
	for want, n := range map[string]snn.Neuron{
		"Backward of *autograd.throughTime in layer 1: surrogate gap: a derivative is NaN or infinite":     snn.NewIF(),
		"Backward of *autograd.glifThroughTime in layer 1: surrogate gap: a derivative is NaN or infinite": snn.NewPLIF(2),
		"Backward of *autograd.recurrentGLIF in layer 1: surrogate gap: a derivative is NaN or infinite":   recurrent,
		"Backward of *autograd.throughModel in layer 1: the gradient with respect to the current is NaN":   snn.NewCustom(newLeaky(8, 1, 1), snn.Triangle{Width: 1}),
	} {
		m, err := snn.NewModel(snn.Config{Channels: 8, Height: 1, Width: 1, Steps: 6}, snn.NewSequential(snn.NewBatchNorm(8), n))
		require.NoError(t, err)
		for _, train := range []bool{false, true} {
			p := snn.Pass{Gradient: snn.BPTT{Surrogate: gap{}}, Train: train}
			run := func(l []float32) []float32 { return l }
			_, err = m.InputGradient(p, images(m, 8), run)
			assert.ErrorContains(t, err, "snn: "+want)
			assert.ErrorContains(t, m.ParamGradients(p, images(m, 8), run), "snn: "+want)
		}
	}
}
