package autograd

import "github.com/org/snnrat/internal/kernel"

// reLU keeps its output.
type reLU struct{ x, y *Value }

// ReLU returns max(x, 0) as a dense value.
func ReLU(t *Tape, x *Value) *Value {
	x = Densify(t, x)
	op := &reLU{x: x, y: t.dense(x.shape, x.needsGrad)}
	t.nonFinite = t.nonFinite || !kernel.Finite(x.dense, t.Threads)
	kernel.ReLU(op.y.dense, x.dense, t.Threads)
	if op.y.needsGrad {
		t.keep(op.y)
	}
	t.record(op)
	return op.y
}

func (o *reLU) Output() *Value { return o.y }

// Backward computes ∂x = ∂y where y > 0, and 0 elsewhere.
func (o *reLU) Backward(t *Tape) {
	t.everyStep(o.y)
	g := o.y.grad
	s := t.openIn(o.x, o.y, o.x.shape.Steps)
	kernel.ReLUGrad(s.buf, o.y.dense, g, s.add, t.Threads)
	t.close(s)
	t.drop(o.y)
}
