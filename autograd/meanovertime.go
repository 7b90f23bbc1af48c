package autograd

import (
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

type meanOverTime struct{ x, y *Value }

// MeanOverTime returns the mean of x over its steps, as a dense value of one step.
func MeanOverTime(t *Tape, x *Value) *Value {
	sh := x.shape
	if sh.Steps == 1 {
		return Densify(t, x)
	}
	t.input("MeanOverTime", x)
	op := &meanOverTime{x: x, y: t.dense(sh.WithSteps(1), x.needsGrad)}
	scale := 1 / float32(sh.Steps)
	if x.spikes != nil {
		kernel.SumStepsSpikes(op.y.dense, x.spikes, sh.Blocks()*sh.N, sh.Steps, sh.Pixels(), t.Threads)
		kernel.AXPY(op.y.dense, scale, op.y.dense, false, t.Threads)
	} else {
		kernel.SumSteps(op.y.dense, x.dense, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, scale, false, t.Threads)
	}
	t.record(op)
	return op.y
}

func (o *meanOverTime) Output() *Value { return o.y }

// Backward computes ∂x(t) = ∂y/T, the same at every step.
func (o *meanOverTime) Backward(t *Tape) {
	s := t.open(o.x, 1)
	kernel.AXPY(s.buf, 1/float32(o.x.shape.Steps), o.y.grad, s.add, t.Threads)
	t.close(s)
}
