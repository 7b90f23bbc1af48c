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
	x = Densify(t, x)
	sh := x.shape
	op := &repeatSteps{x: x, y: t.dense(sh.WithSteps(steps), x.needsGrad)}
	kernel.Repeat(op.y.dense, x.dense, sh.Blocks()*sh.N, steps, sh.Pixels()*tensor.Lanes, false, t.Threads)
	t.record(op)
	return op.y
}

func (o *repeatSteps) Output() *Value { return o.y }

// Backward computes ∂x = Σₜ ∂y(t).
func (o *repeatSteps) Backward(t *Tape) { t.carrySum(o.x, o.y) }

// carrySum adds the gradient of y, summed over its steps, to the gradient of x. x has one
// step.
func (t *Tape) carrySum(x, y *Value) {
	sh := y.shape
	s := t.open(x, 1)
	if y.gradSteps == 1 {
		kernel.AXPY(s.buf, float32(sh.Steps), y.grad, s.add, t.Threads)
	} else {
		kernel.SumSteps(s.buf, y.grad, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, 1, s.add, t.Threads)
	}
	t.close(s)
}
