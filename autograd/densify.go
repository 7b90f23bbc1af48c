package autograd

import "github.com/org/snnrat/internal/kernel"

type densify struct{ x, y *Value }

// Densify returns spikes as dense zeros and ones. It returns x itself if x is dense.
func Densify(t *Tape, x *Value) *Value {
	t.input("Densify", x)
	if x.spikes == nil {
		return x
	}
	op := &densify{x: x, y: t.dense(x.shape, x.needsGrad)}
	kernel.Densify(op.y.dense, x.spikes, t.Threads)
	t.record(op)
	return op.y
}

func (o *densify) Output() *Value { return o.y }

func (o *densify) Backward(t *Tape) {
	s := t.open(o.x, o.y.gradSteps)
	kernel.AXPY(s.buf, 1, o.y.grad, s.add, t.Threads)
	t.close(s)
}
