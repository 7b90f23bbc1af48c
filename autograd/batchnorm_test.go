package autograd_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// joined are two parts of a batch, whose passes run side by side.
type joined struct {
	first bool
	mine  chan []float64
	other chan []float64
}

func (j joined) First() bool { return j.first }

func (j joined) Merge(_ *autograd.Tape, v []float64, merge func(a, b []float64)) error {
	j.mine <- slices.Clone(v)
	w := <-j.other
	if !j.first {
		v, w = w, v // in one order
	}
	sum := slices.Clone(v)
	merge(sum, w)
	if j.first {
		copy(v, sum)
	} else {
		copy(w, sum)
	}
	return nil
}

// Batch norm in two parts of different sizes normalizes by the statistics of both, and its
// gradients are those of the whole batch.
func TestBatchNormInParts(t *testing.T) {
	const n, split, c, pixels = 5, 2, 3, 4
	r := rand.New(rand.NewPCG(1, 2))
	x, seed := tensor.NewNCHW(n, c, 2, 2), make([]float32, n*c*pixels)
	for i := range x.Data {
		x.Data[i], seed[i] = 3+float32(r.NormFloat64()), float32(r.NormFloat64())
	}
	type result struct {
		y, dx, dw, db, mean, variance []float32
	}
	run := func(lo, hi int, parts autograd.Parts) (res result) {
		s := &autograd.BatchNormState{Weight: autograd.NewParam(c), Bias: autograd.NewParam(c), RunningMean: autograd.NewBuffer(c), RunningVar: autograd.NewBuffer(c), Eps: 1e-5, Momentum: 0.1}
		s.Weight.Import([]float32{1, 2, 0.5})
		tape := &autograd.Tape{Params: true, Parts: parts}
		in := tape.Leaf(x.Slice(lo, hi), true)
		y := autograd.BatchNormTrain(tape, in, s, 1)
		res.y = y.Dense().Unpack().Data
		tape.Backward(y, seed[lo*c*pixels:hi*c*pixels])
		res.dx = in.Grad().Unpack().Data
		res.dw, res.db = s.Weight.ExportGrad(), s.Bias.ExportGrad()
		res.mean, res.variance = s.RunningMean.Export(), s.RunningVar.Export()
		return res
	}
	whole := run(0, n, nil)
	one, two := make(chan []float64, 1), make(chan []float64, 1)
	var a, b result
	var both sync.WaitGroup
	both.Go(func() { a = run(0, split, joined{true, one, two}) })
	both.Go(func() { b = run(split, n, joined{false, two, one}) })
	both.Wait()
	near := func(want, got []float32, what string) {
		t.Helper()
		require.Len(t, got, len(want), what)
		for i := range want {
			require.InDelta(t, want[i], got[i], 2e-6, what)
		}
	}
	near(whole.y, append(a.y, b.y...), "output")
	near(whole.dx, append(a.dx, b.dx...), "input gradient")
	near(whole.mean, a.mean, "running mean")
	near(whole.variance, a.variance, "running variance")
	require.Equal(t, make([]float32, c), b.mean, "the second part updates none")
	for i := range a.dw {
		a.dw[i] += b.dw[i]
		a.db[i] += b.db[i]
	}
	near(whole.dw, a.dw, "gradient of the weight")
	near(whole.db, a.db, "gradient of the bias")
}
