package snn_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// repeated returns x with every image as the given number of equal frames.
func repeated(x tensor.NCHW, steps int) tensor.NCHW {
	shape := x.Shape().WithSteps(steps)
	frames := tensor.NewFrames(shape)
	for i := range x.N * steps {
		copy(frames.Data[i*x.Pixels():], x.Image(i/steps))
	}
	return frames
}

// frames draws n examples of a frame for each step of m. Binary ones are 0 or 1.
func frames(m *snn.Model, n int, binary bool) tensor.NCHW {
	x := tensor.NewFrames(tensor.Shape{N: n, Steps: m.Steps, C: m.Channels, H: m.Height, W: m.Width})
	r := rng.New(2).Rand()
	for i := range x.Data {
		if x.Data[i] = r.Float32(); binary {
			x.Data[i] = float32(r.IntN(2))
		}
	}
	return x
}

// An image and the same image as T frames give the same spikes and logits, bit by bit. The
// gradient of the image is the sum of those of the frames.
func TestEqualFrames(t *testing.T) {
	for _, encoder := range []snn.Encoder{snn.Direct{}, snn.Poisson{}} {
		for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}, snn.CBA{}} {
			s := defaults()
			s.encoder = encoder
			m := newModel(t, s)
			x := images(m, 3)
			warmStatistics(t, m, x)
			var one, many trace
			image, err := m.InputGradient(snn.Pass{Gradient: g, Keys: keys(3), OnSpikes: one.observe}, x, one.back)
			require.NoError(t, err)
			each, err := m.InputGradient(snn.Pass{Gradient: g, Keys: keys(3), OnSpikes: many.observe}, repeated(x, m.Steps), many.back)
			require.NoError(t, err)
			if g == (snn.CBA{}) { // the mean of equal frames is rounded
				require.InDeltaSlice(t, one.logits, many.logits, 1e-4)
			} else {
				require.Equal(t, one, many)
			}
			require.Equal(t, x.Shape().WithSteps(m.Steps), each.Shape())
			for i, want := range image.Data {
				sum := 0.0
				for step := range m.Steps {
					sum += float64(each.Data[(i/x.Pixels()*m.Steps+step)*x.Pixels()+i%x.Pixels()])
				}
				require.InDelta(t, want, sum, 1e-4*(1+max(float64(want), -float64(want))), "%v, %T, value %d", g, encoder, i)
			}
			require.Greater(t, slices.Max(image.Data), float32(0.01))
		}
	}
}

// What a step sees is its own frame: a change of later frames changes no earlier spike. The
// logits of neurons that forget are the mean of those of T passes of one step.
func TestFramesAreSeenAtTheirStep(t *testing.T) {
	s := defaults()
	m := newModel(t, s)
	x := frames(m, 3, false)
	warmStatistics(t, m, images(m, 3))
	y := x.Clone()
	for i := range y.N {
		clear(y.Image(i)[2*y.C*y.H*y.W:])
	}
	spikes := func(x tensor.NCHW) map[string]*tensor.Spikes {
		all := map[string]*tensor.Spikes{}
		_, err := m.Logits(snn.Pass{OnSpikes: func(layer string, s *tensor.Spikes) {
			all[layer] = &tensor.Spikes{Shape: s.Shape, Bits: slices.Clone(s.Bits)}
		}}, x)
		require.NoError(t, err)
		return all
	}
	same, differ := 0, 0
	cut := spikes(y)
	for layer, a := range spikes(x) {
		for i, word := range a.Bits {
			switch step := i / a.Pixels() % a.Steps; {
			case step < 2:
				require.Equal(t, word, cut[layer].Bits[i], "layer %s, step %d", layer, step)
				same++
			case word != cut[layer].Bits[i]:
				differ++
			}
		}
	}
	assert.Positive(t, same)
	assert.Positive(t, differ)

	// A decay of next to nothing leaves no memory.
	s.neuron.Decay = 1e-30
	m = newModel(t, s)
	warmStatistics(t, m, images(m, 3))
	logits, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	grad, err := m.InputGradient(snn.Pass{}, x, seed)
	require.NoError(t, err)
	mean := make([]float64, len(logits))
	for step := range m.Steps {
		alone := tensor.NewNCHW(x.N, x.C, x.H, x.W)
		for i := range x.N {
			copy(alone.Image(i), x.Image(i)[step*alone.Pixels():])
		}
		one, err := m.Logits(snn.Pass{Steps: 1}, alone)
		require.NoError(t, err)
		for i, v := range one {
			mean[i] += float64(v) / float64(m.Steps)
		}
		by, err := m.InputGradient(snn.Pass{Steps: 1}, alone, seed)
		require.NoError(t, err)
		for i := range x.N {
			for k, want := range by.Image(i) {
				require.InDelta(t, want/float32(m.Steps), grad.Image(i)[step*alone.Pixels()+k], 1e-4)
			}
		}
	}
	assert.InDeltaSlice(t, mean, logits, 1e-5)
}

// Binary frames are spikes for the first layer. What a pass computes does not depend on
// that: it is the same, bit by bit, with an encoder that hands on dense values.
func TestBinaryFrames(t *testing.T) {
	for _, first := range []snn.Layer{
		snn.NewConv2D(2, 5, 3, 1, 1, true), snn.NewConv2D(2, 20, 5, 2, 2, false), snn.AvgPool{K: 2}, snn.MaxPool{K: 2}, snn.NewBatchNorm(2), snn.NewLIF(0.5),
	} {
		for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}, snn.CBA{}} {
			t.Run(fmt.Sprintf("%T %v", first, g), func(t *testing.T) { testBinaryFrames(t, first, g) })
		}
	}
}

func testBinaryFrames(t *testing.T, first snn.Layer, g snn.Gradient) {
	m := plain(t, first)
	x := frames(m, 5, true)
	held := holder{}
	var got, want trace
	for _, p := range m.Params() {
		p.ClearGrad()
	}
	a, err := m.Gradients(snn.Pass{Gradient: g, OnSpikes: got.observe}, x, got.back)
	require.NoError(t, err)
	params := frameGradients(m)
	for _, p := range m.Params() {
		p.ClearGrad()
	}
	m.Encoder = &held
	b, err := m.Gradients(snn.Pass{Gradient: g, OnSpikes: want.observe}, x, want.back)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, b, a)
	require.Equal(t, frameGradients(m), params, "%v", g)
	if g != (snn.CBA{}) {
		assert.True(t, held.dense)
	}
	m.Encoder = snn.Direct{}
	x.Data[7] = 0.5
	_, err = m.Logits(snn.Pass{Gradient: watch{g, func(x *autograd.Value) { held.spikes = x.Spikes() != nil }}}, x)
	require.NoError(t, err)
	assert.False(t, held.spikes)
	x.Data[7] = 1
	_, err = m.Logits(snn.Pass{Gradient: watch{g, func(x *autograd.Value) { held.spikes = x.Spikes() != nil }}}, x)
	require.NoError(t, err)
	assert.True(t, held.spikes)
}

// plain builds a network without normalization that begins with the given layer.
func plain(t *testing.T, first snn.Layer) *snn.Model {
	shape, err := first.Describe(&snn.Summary{}, "", tensor.Shape{N: 1, Steps: 1, C: 2, H: 8, W: 8})
	require.NoError(t, err)
	body := snn.NewSequential(first, snn.NewConv2D(shape.C, 6, 3, 1, 1, true), snn.NewLIF(0.9), snn.Flatten{}, snn.NewLinear(6*shape.Pixels(), 3, true))
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 8, Width: 8, Steps: 4}, body)
	require.NoError(t, err)
	m.Init(rng.New(4))
	return m
}

// frameGradients returns the gradients of m's parameters.
func frameGradients(m *snn.Model) (all [][]float32) {
	for _, p := range m.Params() {
		all = append(all, p.ExportGrad())
	}
	return all
}

// holder is Direct under another name.
type holder struct{ dense, spikes bool }

func (h *holder) Encode(_ *snn.Pass, x *autograd.Value) *autograd.Value {
	h.dense = x.Spikes() == nil
	return x
}

// watch shows the values that are encoded.
type watch struct {
	snn.Gradient
	show func(x *autograd.Value)
}

func (w watch) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	w.show(x)
	return w.Gradient.Encode(p, e, x)
}

// Frames must be as many as the steps of the pass.
func TestFramesFitTheSteps(t *testing.T) {
	m := newModel(t, defaults())
	x := frames(m, 2, false)
	three := tensor.NewFrames(x.Shape().WithSteps(3))
	const want = "snn: 3 frames for 4 time steps: expected a frame for each step, or one image for all of them"
	_, err := m.Logits(snn.Pass{}, three)
	assert.EqualError(t, err, want)
	_, err = m.InputGradient(snn.Pass{}, three, seed)
	assert.EqualError(t, err, want)
	assert.EqualError(t, m.ParamGradients(snn.Pass{}, three, seed), want)
	assert.EqualError(t, m.ValidateImages(three), want)
	_, err = m.Logits(snn.Pass{Steps: 3}, three)
	assert.NoError(t, err)
	_, err = m.Logits(snn.Pass{Steps: 3}, x)
	assert.ErrorContains(t, err, "snn: 4 frames for 3 time steps")
	x.Steps = -1
	assert.ErrorContains(t, m.ValidateImages(x), "snn: -1 frames for 4 time steps")
}
