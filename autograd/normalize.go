package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

type normalize struct {
	x, y *Value
	a    []float32 // [⌈C/16⌉·16], 1/std
}

// Normalize returns (x − mean)/std, with one mean and one standard deviation for each
// channel. mean and std have Shape [C] and get no gradient. Normalize panics if their
// lengths are not C.
func Normalize(t *Tape, x *Value, mean, std *Param) *Value {
	sh := x.shape
	if mean.Len() != sh.C || std.Len() != sh.C {
		panic(fmt.Sprintf("autograd: Normalize: %d means and %d deviations for %v", mean.Len(), std.Len(), sh))
	}
	in := x
	x = Densify(t, x)
	n := sh.Blocks() * tensor.Lanes
	a, b := t.constants(n), t.constants(n)
	for c := range sh.C {
		a[c] = 1 / std.data[c]
		b[c] = -mean.data[c] / std.data[c]
	}
	y := t.NewDense(sh, x.needsGrad)
	kernel.Affine(t.Floats(y), t.Floats(x), a, b, sh.Blocks(), sh.Frames()*sh.Pixels(), t.Threads)
	if y.needsGrad {
		t.Record(&normalize{x, y, a})
	}
	t.letGo(x, in)
	return y
}

func (o *normalize) Output() *Value { return o.y }

func (o *normalize) Backward(t *Tape) {
	sh := o.x.shape
	dy, steps := t.Grad(o.y)
	s := t.OpenGrad(o.x, steps)
	kernel.Scale(s.Data, dy, o.a, sh.Blocks(), sh.N*steps*sh.Pixels(), s.Add, t.Threads)
	t.CloseGrad(s)
}
