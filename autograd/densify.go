package autograd

import "github.com/org/snnrat/internal/kernel"

type densify struct{ x, y *Value }

// Densify returns spikes as dense zeros and ones. It returns x itself if x is dense.
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
	t.AddGrad(o.x, dy, steps)
}
