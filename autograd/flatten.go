package autograd

import "github.com/org/snnrat/internal/kernel"

type flatten struct{ x, y *Value }

// Flatten returns x with its C·H·W values as the channels of one pixel, in the order C, H,
// W. It returns x itself if x has one pixel.
func Flatten(t *Tape, x *Value) *Value {
	sh := x.shape
	if sh.Pixels() == 1 {
		return x
	}
	out := sh
	out.C, out.H, out.W = sh.Neurons(), 1, 1
	t.input("Flatten", x)
	op := &flatten{x: x}
	if x.spikes != nil {
		op.y = t.spikes(out, x.needsGrad)
		kernel.FlattenSpikes(op.y.spikes, x.spikes, sh.Frames(), sh.C, sh.Pixels(), t.Threads)
	} else {
		op.y = t.dense(out, x.needsGrad)
		kernel.Flatten(op.y.dense, x.dense, sh.Frames(), sh.C, sh.Pixels(), t.Threads)
	}
	t.record(op)
	return op.y
}

func (o *flatten) Output() *Value { return o.y }

func (o *flatten) Backward(t *Tape) {
	sh := o.x.shape
	s := t.open(o.x, o.y.gradSteps)
	kernel.Unflatten(s.buf, o.y.grad, sh.N*s.steps, sh.C, sh.Pixels(), s.add, t.Threads)
	t.close(s)
}
