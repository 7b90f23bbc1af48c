package autograd

import "github.com/org/snnrat/internal/kernel"

type densify struct{ x, y *Value }

// Densify returns spikes as dense zeros and ones. It returns x itself if x is dense. The caller
// releases a value that is not x once it has read it. Operations that need dense values make
// them of spikes themselves, and let them go.
func Densify(t *Tape, x *Value) *Value {
	x.mustBeOwned("Densify")
	if x.spikes == nil {
		return x
	}
	y := t.NewDense(x.shape, x.needsGrad)
	kernel.Densify(t.Floats(y), t.Words(x), t.Threads)
	if y.needsGrad {
		t.Record(&densify{x, y})
	}
	return y
}

func (o *densify) Output() *Value { return o.y }

func (o *densify) Backward(t *Tape) {
	dy, steps := t.Grad(o.y)
	s := t.OpenGradOver(o.x, o.y, steps)
	if o.y.grad != nil { // it is not the slot's memory
		kernel.AXPY(s.Data, 1, dy, s.Add, t.Threads)
	}
	t.CloseGrad(s)
}

// letGo releases d, which an operation has made of its input x by Densify. It does nothing if
// that is x. Values that the operation keeps stay until its Backward has read them.
func (t *Tape) letGo(d, x *Value) {
	if d != x {
		t.Release(d)
	}
}
