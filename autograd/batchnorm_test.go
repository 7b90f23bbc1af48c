package autograd_test

import (
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
)

// The running statistics move as PyTorch's do: the variance is the unbiased one, over
// all steps that the value stands for.
func TestBatchNormRunningStatistics(t *testing.T) {
	const steps = 4
	r := rand.New(rand.NewPCG(15, 16))
	for _, s := range []tensor.Shape{
		{N: 3, Steps: steps, C: 17, H: 2, W: 3},
		{N: 3, Steps: 1, C: 17, H: 2, W: 3}, // the same at each of 4 steps
		{N: 1, Steps: 1, C: 2, H: 1, W: 1},
	} {
		x := array{s, normals(r, s.Frames()*s.Neurons())}
		state := batchNorm(vectors(s.C), filled(s.C, 0.5, 0.1), filled(s.C, 2, 0.1))
		tape := &autograd.Tape{}
		autograd.BatchNormTrain(tape, tape.Input(x.dense(), false), state, steps)
		m, v := naiveMoments(x)
		count := float64(s.N * steps * s.Pixels())
		for c := range s.C {
			wantMean := 0.9*(0.5+0.1*float64(c)) + 0.1*m[c]
			wantVar := 0.9*(2+0.1*float64(c)) + 0.1*v[c]*count/(count-1)
			assert.InDelta(t, wantMean, state.RunningMean.Export()[c], 1e-5)
			assert.InDelta(t, wantVar, state.RunningVar.Export()[c], 1e-5)
		}
	}
}
