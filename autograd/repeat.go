package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

type repeatSteps struct{ x, y *Value }

// RepeatSteps returns a dense value that holds x at each of the given number of steps. x
// has one step. The layers of a network do not need it, since they accept a value of one
// step. RepeatSteps panics if x has more than one step or if steps is less than 1.
func RepeatSteps(t *Tape, x *Value, steps int) *Value {
	if x.shape.Steps != 1 || steps < 1 {
		panic(fmt.Sprintf("autograd: RepeatSteps: %d steps for %v", steps, x.shape))
	}
	in := x
	x = Densify(t, x)
	sh := x.shape
	y := t.NewDense(sh.WithSteps(steps), x.needsGrad)
	kernel.Repeat(t.Floats(y), t.Floats(x), sh.Blocks()*sh.N, steps, sh.Pixels()*tensor.Lanes, false, t.Threads)
	if y.needsGrad {
		t.Record(&repeatSteps{x, y})
	}
	t.letGo(x, in)
	return y
}

func (o *repeatSteps) Output() *Value { return o.y }

// Backward computes ∂x = Σₜ ∂y(t).
func (o *repeatSteps) Backward(t *Tape) { t.carrySum(o.x, o.y) }

// carrySum adds the gradient of y, summed over its steps, to the gradient of x. x has one
// step.
func (t *Tape) carrySum(x, y *Value) {
	sh := y.shape
	dy, steps := t.Grad(y)
	s := t.OpenGrad(x, 1)
	if steps == 1 {
		kernel.AXPY(s.Data, float32(sh.Steps), dy, s.Add, t.Threads)
	} else {
		kernel.SumSteps(s.Data, dy, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, 1, s.Add, t.Threads)
	}
	t.CloseGrad(s)
}
