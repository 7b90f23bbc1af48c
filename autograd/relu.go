package autograd

import "github.com/org/snnrat/internal/kernel"

// reLU keeps its output.
type reLU struct{ x, y *Value }

// ReLU returns max(x, 0) as a dense value.
func ReLU(t *Tape, x *Value) *Value {
	in := x
	x = Densify(t, x)
	y := t.NewDense(x.shape, x.needsGrad)
	t.checkFinite(t.Floats(x))
	kernel.ReLU(t.Floats(y), t.Floats(x), t.Threads)
	if y.needsGrad {
		t.Record(&reLU{x, y}, y)
	}
	t.letGo(x, in)
	return y
}

// checkFinite calls MarkNonFinite if a value is not finite.
func (t *Tape) checkFinite(x []float32) {
	if !kernel.Finite(x, t.Threads) {
		t.MarkNonFinite()
	}
}

func (o *reLU) Output() *Value { return o.y }

// Backward computes ∂x = ∂y where y > 0, and 0 elsewhere.
func (o *reLU) Backward(t *Tape) {
	dy := t.GradEveryStep(o.y)
	s := t.OpenGradOver(o.x, o.y, o.x.shape.Steps)
	kernel.ReLUGrad(s.Data, t.Floats(o.y), dy, s.Add, t.Threads)
	t.CloseGrad(s)
}
