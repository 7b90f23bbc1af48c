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
	x.mustBeOwned("MeanOverTime")
	y := t.NewDense(sh.WithSteps(1), x.needsGrad)
	mean, scale := t.Floats(y), 1/float32(sh.Steps)
	if x.spikes != nil {
		kernel.SumStepsSpikes(mean, t.Words(x), sh.Blocks()*sh.N, sh.Steps, sh.Pixels(), t.Threads)
		kernel.AXPY(mean, scale, mean, false, t.Threads)
	} else {
		kernel.SumSteps(mean, t.Floats(x), sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, scale, false, t.Threads)
	}
	if y.needsGrad {
		t.Record(&meanOverTime{x, y})
	}
	return y
}

func (o *meanOverTime) Output() *Value { return o.y }

// Backward computes ∂x(t) = ∂y/T, the same at every step.
func (o *meanOverTime) Backward(t *Tape) {
	dy, _ := t.Grad(o.y)
	s := t.OpenGrad(o.x, 1)
	kernel.AXPY(s.Data, 1/float32(o.x.shape.Steps), dy, s.Add, t.Threads)
	t.CloseGrad(s)
}
