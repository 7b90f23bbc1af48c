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
	x.mustBeOwned("Flatten")
	var y *Value
	if x.spikes != nil {
		y = t.NewSpikes(out, x.needsGrad)
		kernel.FlattenSpikes(t.Words(y), t.Words(x), sh.Frames(), sh.C, sh.Pixels(), t.Threads)
	} else {
		y = t.NewDense(out, x.needsGrad)
		kernel.Flatten(t.Floats(y), t.Floats(x), sh.Frames(), sh.C, sh.Pixels(), t.Threads)
	}
	if y.needsGrad {
		t.Record(&flatten{x, y})
	}
	return y
}

func (o *flatten) Output() *Value { return o.y }

func (o *flatten) Backward(t *Tape) {
	sh := o.x.shape
	dy, steps := t.Grad(o.y)
	s := t.OpenGrad(o.x, steps)
	kernel.Unflatten(s.Data, dy, sh.N*steps, sh.C, sh.Pixels(), s.Add, t.Threads)
	t.CloseGrad(s)
}
