package autograd_test

import (
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
)

// Spikes that an operation reads as dense values do not stay dense. Of a call whose result is
// released, what remains is what its Backward reads.
func TestDenseSpikesAreLetGo(t *testing.T) {
	sh := tensor.Shape{N: 4, Steps: 4, C: 64, H: 8, W: 8}
	one := batchNorm(vectors(sh.C), filled(sh.C, 0, 0), filled(sh.C, 1, 0))
	d := autograd.Dynamics{Decay: 1, Threshold: 1}
	glif := autograd.GLIF{Decay: []float32{1}, Threshold: []float32{1}}
	keys := make([]rng.Key, sh.N)
	for name, c := range map[string]struct {
		run  func(t *autograd.Tape, x *autograd.Value) *autograd.Value
		kept float64 // values that Backward reads, in units of sh
	}{
		"Densify": {autograd.Densify, 0},
		"ReLU":    {autograd.ReLU, 1},
		"Normalize": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.Normalize(t, x, one.RunningMean, one.RunningVar)
		}, 0},
		"Add": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value { return autograd.Add(t, x, x) }, 0},
		"Dropout": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.Dropout(t, x, .5, true, sh.Steps, keys)
		}, 0},
		"BatchNormEval": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value { return autograd.BatchNormEval(t, x, one) }, 0},
		"BatchNormTrain": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.BatchNormTrain(t, x, one, sh.Steps)
		}, 1},
		"FireThroughTime": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireThroughTime(t, x, d, sh.Steps, snn.Triangle{Width: 1}, false)
		}, 1},
		"FireThroughRate": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireThroughRate(t, x, d, sh.Steps)
		}, 0},
		"FireGLIF": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireGLIFThroughTime(t, x, glif, sh.Steps, snn.Triangle{Width: 1}, false)
		}, 1},
		"FireGLIFRate": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireGLIFThroughRate(t, x, glif, sh.Steps)
		}, 0},
		"FireGLIFCurrent": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireGLIFThroughCurrent(t, x, glif, sh.Steps)
		}, 0.25},
		"FireGLIFRecurrent": {func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireGLIFRecurrent(t, x, glif, autograd.NewParam(sh.C, sh.C), sh.Steps, snn.Triangle{Width: 1}, false)
		}, 1},
	} {
		for _, grad := range []bool{false, true} {
			peak := func(calls int) float64 {
				tape := &autograd.Tape{}
				x := tape.InputSpikes(spikesOf(sh), grad)
				for range calls {
					tape.Release(c.run(tape, x))
				}
				return float64(tape.Peak()) / float64(4*sh.Floats())
			}
			kept := 0.0
			if grad {
				kept = c.kept
			}
			assert.InDelta(t, kept, (peak(9)-peak(1))/8, 0.1, "%s, gradient %v", name, grad)
		}
	}
}

// A dense input is not released.
func TestDenseInputsStay(t *testing.T) {
	tape := &autograd.Tape{}
	x := tape.Leaf(tensor.NewNCHW(1, 1, 2, 2), true)
	autograd.ReLU(tape, x)
	autograd.Add(tape, x, x)
	autograd.Dropout(tape, x, .5, true, 2, make([]rng.Key, 1))
	assert.NotPanics(t, func() { tape.Release(x) })
}

// The gradient of dense spikes adds to one that the spikes have.
func TestDensifyAddsItsGradient(t *testing.T) {
	tape := &autograd.Tape{}
	x := tape.InputSpikes(spikesOf(tensor.Shape{N: 1, Steps: 2, C: 3, H: 2, W: 2}), true)
	y := autograd.Add(tape, autograd.Densify(tape, x), autograd.Densify(tape, x))
	seed := tensor.NewDense(y.Shape())
	for i := range seed.Data {
		seed.Data[i] = float32(i)
	}
	tape.BackwardFrom(y, seed)
	for i, g := range x.Grad().Data {
		assert.Equal(t, 2*float32(i), g)
	}
}
