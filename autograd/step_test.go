package autograd_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Steps of neurons, one call after the other, give the spikes of one call for all steps. So
// do calls of several steps. Package snn has the test for whole networks.
func TestFireStep(t *testing.T) {
	const steps = 6
	sh := tensor.Shape{N: 2, Steps: steps, C: 17, H: 3, W: 2}
	x, r := tensor.NewFrames(sh), rng.New(1).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	for _, d := range []autograd.Dynamics{{Decay: 0.9, Threshold: 1}, {Decay: 1, Threshold: 0.7, SoftReset: true}} {
		var tape autograd.Tape
		all := autograd.FireThroughTime(&tape, tape.Leaf(x, false), d, steps, nil, false).Spikes()
		for _, size := range []int{1, 2, 3} {
			m := tensor.NewDense(sh.WithSteps(1))
			for from := 0; from < steps; from += size {
				part := tensor.NewFrames(sh.WithSteps(size))
				for n := range x.N {
					copy(part.Image(n), x.Image(n)[from*sh.Neurons():])
				}
				s := autograd.FireStep(&tape, tape.Leaf(part, false), d, m).Spikes()
				for n := range x.N {
					for i := range size * sh.Neurons() {
						step, c, y, z := i/sh.Neurons(), i/6%17, i/2%3, i%2
						require.Equal(t, all.At(n, from+step, c, y, z), s.At(n, step, c, y, z))
					}
				}
			}
		}
		require.NotZero(t, all.Count())
	}
}

func TestFireStepRefuses(t *testing.T) {
	var tape autograd.Tape
	x := tape.Leaf(tensor.NewNCHW(2, 3, 1, 1), false)
	other := tensor.Shape{N: 1, Steps: 1, C: 3, H: 1, W: 1}
	assert.PanicsWithValue(t, "autograd: FireStep: potentials 1×1×3×1×1 for currents 2×1×3×1×1", func() {
		autograd.FireStep(&tape, x, autograd.Dynamics{Decay: 1, Threshold: 1}, tensor.NewDense(other))
	})
	assert.PanicsWithValue(t, "autograd: Poisson: 1 steps and 2 keys for 2×1×3×1×1, from step -1 on", func() {
		autograd.PoissonFrom(&tape, x, -1, 1, make([]rng.Key, 2))
	})
}
