package autograd

import (
	"fmt"
	"math"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// BatchNormState is batch norm's parameters and running statistics, each of Shape
// [C].
type BatchNormState struct {
	Weight, Bias            *Param
	RunningMean, RunningVar *Param
	Eps, Momentum           float32
}

func (s *BatchNormState) check(x *Value) {
	if s.Weight.Shape[0] != x.shape.C {
		panic(fmt.Sprintf("autograd: BatchNorm: %d channels do not fit %v", s.Weight.Shape[0], x.shape))
	}
}

// batchNormEval is y = a·x + b with constants by channel.
type batchNormEval struct {
	x, y  *Value
	state *BatchNormState
	a     []float32 // [⌈C/16⌉·16]
}

// BatchNormEval normalizes x by the running statistics:
//
//	y = (x − RunningMean)/√(RunningVar + Eps) · Weight + Bias
//
// Gradients flow to x; those of Weight and Bias are computed too if the tape wants
// parameters.
func BatchNormEval(t *Tape, x *Value, s *BatchNormState) *Value {
	s.check(x)
	x = Densify(t, x)
	sh := x.shape
	n := sh.Blocks() * tensor.Lanes
	op := &batchNormEval{x: x, state: s, a: make([]float32, n)}
	b := make([]float32, n)
	for c := range sh.C {
		a := float64(s.Weight.data[c]) / math.Sqrt(float64(s.RunningVar.data[c])+float64(s.Eps))
		op.a[c] = float32(a)
		b[c] = float32(float64(s.Bias.data[c]) - a*float64(s.RunningMean.data[c]))
	}
	op.y = t.dense(sh, x.needsGrad || t.Params)
	kernel.Affine(op.y.dense, x.dense, op.a, b, sh.Blocks(), sh.Frames()*sh.Pixels(), t.Threads)
	if t.Params {
		t.keep(x)
	}
	t.record(op)
	return op.y
}

func (o *batchNormEval) Output() *Value { return o.y }

// Backward: ∂x = a·∂y; ∂Weight = Σ ∂y·x̂ and ∂Bias = Σ ∂y.
func (o *batchNormEval) Backward(t *Tape) {
	x, sh := o.x, o.x.shape
	if t.Params {
		t.everyStep(o.y)
		mean, inv := make([]float64, len(o.a)), make([]float64, len(o.a))
		for c := range sh.C {
			mean[c] = float64(o.state.RunningMean.data[c])
			inv[c] = 1 / math.Sqrt(float64(o.state.RunningVar.data[c])+float64(o.state.Eps))
		}
		o.state.grad(t, o.y, x, mean, inv)
		t.drop(x)
	}
	if x.needsGrad {
		s := t.open(x, o.y.gradSteps)
		kernel.Scale(s.buf, o.y.grad, o.a, sh.Blocks(), sh.N*s.steps*sh.Pixels(), s.add, t.Threads)
		t.close(s)
	}
}

// batchNormTrain keeps its input and the batch's statistics.
type batchNormTrain struct {
	x, y      *Value
	state     *BatchNormState
	mean, inv []float64 // [⌈C/16⌉·16], inv = 1/√(variance + eps)
}

// BatchNormTrain normalizes x by the statistics of the batch, over images, steps
// and pixels, and moves the running ones towards them by Momentum (the variance
// unbiased, as in PyTorch). Steps is the number of steps that x stands for: its own,
// or T for a value that is the same at every one of T steps.
//
// Ioffe and Szegedy, Batch Normalization, 2015.
func BatchNormTrain(t *Tape, x *Value, s *BatchNormState, steps int) *Value {
	s.check(x)
	x = Densify(t, x)
	sh := x.shape
	n := sh.Blocks() * tensor.Lanes
	op := &batchNormTrain{x: x, state: s, mean: make([]float64, n), inv: make([]float64, n)}
	count := sh.Frames() * sh.Pixels()
	square := make([]float64, n)
	kernel.Moments(op.mean, square, x.dense, sh.Blocks(), count, t.Threads)
	mean, variance := s.RunningMean.Edit(), s.RunningVar.Edit()
	total := float64(count * steps / sh.Steps)
	unbias := total / max(1, total-1)
	a, b := make([]float32, n), make([]float32, n)
	for c := range sh.C {
		v := square[c] / float64(count)
		op.inv[c] = 1 / math.Sqrt(v+float64(s.Eps))
		mean[c] += s.Momentum * (float32(op.mean[c]) - mean[c])
		variance[c] += s.Momentum * (float32(v*unbias) - variance[c])
		a[c] = float32(float64(s.Weight.data[c]) * op.inv[c])
		b[c] = float32(float64(s.Bias.data[c]) - float64(s.Weight.data[c])*op.inv[c]*op.mean[c])
	}
	op.y = t.dense(sh, x.needsGrad || t.Params)
	kernel.Affine(op.y.dense, x.dense, a, b, sh.Blocks(), count, t.Threads)
	if op.y.needsGrad {
		t.keep(x)
	}
	t.record(op)
	return op.y
}

func (o *batchNormTrain) Output() *Value { return o.y }

// Backward: with x̂ the normalized input and means over the batch,
//
//	∂x = Weight·inv·(∂y − mean(∂y) − x̂·mean(∂y·x̂))
func (o *batchNormTrain) Backward(t *Tape) {
	x, sh := o.x, o.x.shape
	t.everyStep(o.y)
	sum, dot := o.state.grad(t, o.y, x, o.mean, o.inv)
	if x.needsGrad {
		n := len(o.mean)
		a, b, c, mean := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
		count := sh.Frames() * sh.Pixels()
		for i := range sh.C {
			w := float64(o.state.Weight.data[i]) * o.inv[i]
			a[i] = float32(w)
			b[i] = float32(sum[i] / float64(count))
			c[i] = float32(-w * o.inv[i] * dot[i] / float64(count))
			mean[i] = float32(o.mean[i])
		}
		s := t.open(x, sh.Steps)
		kernel.NormBackward(s.buf, o.y.grad, x.dense, a, b, c, mean, sh.Blocks(), count, s.add, t.Threads)
		t.close(s)
	}
	t.drop(x)
}

// grad computes Σ ∂y and Σ ∂y·x̂ by channel, and adds them to the gradients of Bias
// and Weight if the tape wants them.
func (s *BatchNormState) grad(t *Tape, y, x *Value, mean, inv []float64) (sum, dot []float64) {
	sh := x.shape
	sum, dot = make([]float64, len(mean)), make([]float64, len(mean))
	kernel.NormReduce(sum, dot, y.grad, x.dense, mean, inv, sh.Blocks(), sh.Frames()*sh.Pixels(), t.Threads)
	if t.Params {
		accumulate(s.Bias, sum)
		accumulate(s.Weight, dot)
	}
	return sum, dot
}

// accumulate adds v to the gradient of p.
func accumulate(p *Param, v []float64) {
	g, add := p.openGrad()
	for i := range p.Shape[0] {
		if add {
			g[i] += float32(v[i])
		} else {
			g[i] = float32(v[i])
		}
	}
}
