package snn_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// grads returns the gradients of all parameters, and clears them.
func grads(m *snn.Model) (gs [][]float32) {
	for _, p := range m.Params() {
		gs = append(gs, p.ExportGrad())
		p.ClearGrad()
	}
	return gs
}

// stepSeed returns a gradient of every step that differs between images, steps and classes.
func stepSeed(o snn.Output) []float32 {
	g := make([]float32, len(o.Logits))
	for i := range g {
		g[i] = float32(i%11) - 4.5
	}
	return g
}

// A gradient of the mean gives the bits of the calls that know the mean alone, and a
// gradient that is the same at every step gives the same up to rounding.
func TestDifferentiateOfTheMean(t *testing.T) {
	m := newModel(t, defaults())
	x := images(m, 3)
	warmStatistics(t, m, x)
	var logits []float32
	want, err := m.Gradients(snn.Pass{}, x, func(l []float32) []float32 { logits = l; return seed(l) })
	require.NoError(t, err)
	wantGrads := grads(m)
	got, err := m.Differentiate(snn.Pass{}, x, snn.OfImages|snn.OfParams, func(o snn.Output) ([]float32, error) {
		assert.Equal(t, []int{3, 4, 5}, []int{o.N, o.Steps, o.Classes})
		assert.Equal(t, logits, o.Mean)
		for n := range o.N {
			for k := range o.Classes {
				var sum float32
				for s := range o.Steps {
					sum += o.Logits[(n*o.Steps+s)*o.Classes+k]
				}
				assert.InDelta(t, o.Mean[n*o.Classes+k], sum/4, 1e-6)
			}
		}
		return seed(o.Mean), nil
	})
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, wantGrads, grads(m))

	every, err := m.Differentiate(snn.Pass{}, x, snn.OfImages|snn.OfParams, func(o snn.Output) ([]float32, error) {
		g := make([]float32, len(o.Logits))
		for n := range o.N {
			for s := range o.Steps {
				copy(g[(n*o.Steps+s)*o.Classes:], seed(o.Mean)[n*o.Classes:][:o.Classes])
			}
		}
		for i := range g {
			g[i] /= 4
		}
		return g, nil
	})
	require.NoError(t, err)
	assert.InDeltaSlice(t, want.Data, every.Data, 1e-5)
	for i, g := range grads(m) {
		assert.InDeltaSlice(t, wantGrads[i], g, 1e-4)
	}
}

// A gradient of every step reaches the last layer as that of its output: for the weights,
// Σ g(t)·s(t)ᵀ with the spikes s(t) that it reads; for the bias, Σ g(t).
func TestDifferentiateOfEveryStep(t *testing.T) {
	s := defaults()
	s.hidden, s.neuron.Threshold = 17, 0.2
	m := newModel(t, s)
	x := images(m, 3)
	warmStatistics(t, m, x)
	for _, p := range m.Params() {
		p.ClearGrad()
	}
	var spikes *tensor.Spikes
	pass := snn.Pass{OnSpikes: func(layer string, s *tensor.Spikes) {
		if layer == "nh" {
			spikes = &tensor.Spikes{Shape: s.Shape, Bits: slices.Clone(s.Bits)}
		}
	}}
	var g []float32
	_, err := m.Differentiate(pass, x, snn.OfParams, func(o snn.Output) ([]float32, error) { g = stepSeed(o); return g, nil })
	require.NoError(t, err)
	weights, bias := make([]float32, 5*17), make([]float32, 5)
	fired := 0
	for n := range 3 {
		for step := range 4 {
			for o := range 5 {
				d := g[(n*4+step)*5+o]
				bias[o] += d
				for c := range 17 {
					if spikes.At(n, step, c, 0, 0) {
						weights[o*17+c] += d
						fired++
					}
				}
			}
		}
	}
	require.Greater(t, fired, 20)
	ps := m.Params()
	assert.InDeltaSlice(t, weights, ps[len(ps)-2].ExportGrad(), 1e-4)
	assert.InDeltaSlice(t, bias, ps[len(ps)-1].ExportGrad(), 1e-4)
}

// Without time, the output is its own mean.
func TestDifferentiateWithoutTime(t *testing.T) {
	m := newModel(t, defaults())
	_, err := m.Differentiate(snn.Pass{Gradient: snn.CBA{}}, images(m, 2), snn.OfParams, func(o snn.Output) ([]float32, error) {
		assert.Equal(t, 1, o.Steps)
		assert.Equal(t, o.Mean, o.Logits)
		return nil, nil
	})
	require.NoError(t, err)
	for _, g := range grads(m) {
		assert.Nil(t, g, "no backward pass")
	}
}

// A pass within another one's function gives the sum of both gradients, as two passes with
// the same seeds do, and the statistics of batch norm see the outer images first.
func TestDifferentiateNested(t *testing.T) {
	apart, nested := newModel(t, defaults()), newModel(t, defaults())
	a, b := images(apart, 3), images(apart, 3)
	for i := range b.Data {
		b.Data[i] *= b.Data[i]
	}
	pass := snn.Pass{Train: true}
	var first []float32
	require.NoError(t, apart.ParamGradients(pass, a, func(l []float32) []float32 { first = l; return seed(l) }))
	require.NoError(t, apart.ParamGradients(pass, b, seed))
	_, err := nested.Differentiate(pass, a, snn.OfParams, func(o snn.Output) ([]float32, error) {
		assert.Equal(t, first, o.Mean)
		_, err := nested.Differentiate(pass, b, snn.OfParams, func(o snn.Output) ([]float32, error) { return seed(o.Mean), nil })
		return seed(o.Mean), err
	})
	require.NoError(t, err)
	for i, p := range nested.State() {
		assert.Equal(t, apart.State()[i].Data(), p.Data(), p.Name)
	}
	want := grads(apart)
	for i, g := range grads(nested) {
		assert.InDeltaSlice(t, want[i], g, 1e-3)
	}
}

func TestDifferentiateRefuses(t *testing.T) {
	m := newModel(t, defaults())
	x := images(m, 2)
	broken := errors.New("broken")
	_, err := m.Differentiate(snn.Pass{}, x, snn.OfImages, func(o snn.Output) ([]float32, error) { return o.Mean, broken })
	assert.Equal(t, broken, err)
	for _, n := range []int{1, 11, 39} {
		assert.Panics(t, func() {
			m.Differentiate(snn.Pass{}, x, snn.OfImages, func(snn.Output) ([]float32, error) { return make([]float32, n), nil })
		}, "%d values", n)
	}
	x.Data[3] = 2
	_, err = m.Differentiate(snn.Pass{}, x, snn.OfImages, func(snn.Output) ([]float32, error) { t.Error("called"); return nil, nil })
	assert.ErrorContains(t, err, "image 0, value 3: 2 outside [0, 1]")
}
