package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// combine is y = wa·a + wb·b. It keeps a and b if the weights get a gradient.
type combine struct {
	a, b, y *Value
	w       *Param // [2], or nil for ones
}

// Add returns a + b. One of the two may have a single step: it is then added at every step
// of the other. Otherwise the shapes must be equal. Add panics if the shapes do not fit.
func Add(t *Tape, a, b *Value) *Value { return newCombine(t, a, b, nil) }

// Convex returns w[0]·a + w[1]·b for a parameter w of Shape [2]. The shapes of a and b are
// as in Add. Ding et al. 2022 combine the branches of a residual block in this way, with w
// on the probability simplex. Convex does not enforce this: the optimiser must project w.
// Convex panics if w does not have two values or if the shapes do not fit.
func Convex(t *Tape, a, b *Value, w *Param) *Value {
	if w.Len() != 2 {
		panic(fmt.Sprintf("autograd: Convex: weights %v for two branches", w.Shape))
	}
	return newCombine(t, a, b, w)
}

func newCombine(t *Tape, a, b *Value, w *Param) *Value {
	sh := a.shape
	sh.Steps = max(sh.Steps, b.shape.Steps)
	if a.shape.WithSteps(1) != b.shape.WithSteps(1) || (a.shape.Steps != sh.Steps && a.shape.Steps != 1) || (b.shape.Steps != sh.Steps && b.shape.Steps != 1) {
		panic(fmt.Sprintf("autograd: Add: %v and %v", a.shape, b.shape))
	}
	op := &combine{a: Densify(t, a), b: Densify(t, b), w: w}
	op.y = t.dense(sh, a.needsGrad || b.needsGrad || (w != nil && t.Params))
	wa, wb := op.weights()
	if a.shape == b.shape {
		kernel.Combine(op.y.dense, wa, op.a.dense, wb, op.b.dense, t.Threads)
	} else {
		op.put(t, op.a, wa, false)
		op.put(t, op.b, wb, true)
	}
	if w != nil && t.Params {
		t.keep(op.a)
		t.keep(op.b)
	}
	t.record(op)
	return op.y
}

func (o *combine) weights() (a, b float32) {
	if o.w == nil {
		return 1, 1
	}
	return o.w.data[0], o.w.data[1]
}

// put writes the branch w·x to y, or adds it.
func (o *combine) put(t *Tape, x *Value, w float32, add bool) {
	sh := o.y.shape
	if x.shape.Steps == sh.Steps {
		kernel.AXPY(o.y.dense, w, x.dense, add, t.Threads)
		return
	}
	scaled := t.arena.Floats(len(x.dense))
	kernel.AXPY(scaled, w, x.dense, false, t.Threads)
	kernel.Repeat(o.y.dense, scaled, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, add, t.Threads)
	t.arena.FreeFloats(scaled)
}

func (o *combine) Output() *Value { return o.y }

// Backward computes ∂a = wa·∂y and ∂b = wb·∂y. The gradient of a branch of one step is
// summed over time. The weights get ∂wa = Σ a·∂y and ∂wb = Σ b·∂y.
func (o *combine) Backward(t *Tape) {
	trained := o.w != nil && t.Params
	if trained {
		accumulate(o.w, []float64{o.dot(t, o.a), o.dot(t, o.b)})
		t.drop(o.a)
		t.drop(o.b)
	}
	wa, wb := o.weights()
	if o.b.shape.Steps < o.y.shape.Steps {
		o.carry(t, o.b, wb)
		o.carry(t, o.a, wa)
	} else {
		o.carry(t, o.a, wa)
		o.carryIn(t, o.b, wb)
	}
}

// carryIn is carry for the last branch, which has all steps of y. It may take over the
// memory of ∂y.
func (o *combine) carryIn(t *Tape, x *Value, w float32) {
	if !x.needsGrad {
		return
	}
	g := o.y.grad
	s := t.openIn(x, o.y, o.y.gradSteps)
	kernel.AXPY(s.buf, w, g, s.add, t.Threads)
	t.close(s)
}

// carry adds w·∂y to the gradient of x.
func (o *combine) carry(t *Tape, x *Value, w float32) {
	if !x.needsGrad {
		return
	}
	sh, steps := o.y.shape, o.y.gradSteps
	if x.shape.Steps == sh.Steps {
		s := t.open(x, steps)
		kernel.AXPY(s.buf, w, o.y.grad, s.add, t.Threads)
		t.close(s)
		return
	}
	s := t.open(x, 1)
	if steps == 1 {
		kernel.AXPY(s.buf, w*float32(sh.Steps), o.y.grad, s.add, t.Threads)
	} else {
		kernel.SumSteps(s.buf, o.y.grad, sh.Blocks()*sh.N, steps, sh.Pixels()*tensor.Lanes, w, s.add, t.Threads)
	}
	t.close(s)
}

// dot returns Σ x·∂y over all of y's elements.
func (o *combine) dot(t *Tape, x *Value) float64 {
	sh, g := o.y.shape, o.y.grad
	units, frame := sh.Blocks()*sh.N, sh.Pixels()*tensor.Lanes
	switch {
	case x.shape.Steps == o.y.gradSteps && x.shape.Steps == sh.Steps:
		return kernel.Dot(x.dense, g, t.Threads)
	case x.shape.Steps == o.y.gradSteps: // both the same at every step
		return float64(sh.Steps) * kernel.Dot(x.dense, g, t.Threads)
	}
	sum := t.arena.Floats(units * frame)
	defer t.arena.FreeFloats(sum)
	if x.shape.Steps > 1 {
		kernel.SumSteps(sum, x.dense, units, sh.Steps, frame, 1, false, t.Threads)
		return kernel.Dot(sum, g, t.Threads)
	}
	kernel.SumSteps(sum, g, units, sh.Steps, frame, 1, false, t.Threads)
	return kernel.Dot(x.dense, sum, t.Threads)
}
