package autograd

import (
	"fmt"
	"math"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// combine is y = wa·a + wb·b. If the weights get a gradient, it keeps y and one branch, from which
// the gradients of both follow. y is usually kept anyway, by the layer that reads it.
type combine struct {
	a, b, y *Value
	w       *Param     // [2], or nil for the constants
	fixed   [2]float32 // the constants
	derived *Value     // the branch that is not kept, or nil
}

// Add returns a + b. One of the two may have a single step: it is then added at every step
// of the other. Otherwise the shapes must be equal. Add panics if the shapes do not fit.
func Add(t *Tape, a, b *Value) *Value { return newCombine(t, "Add", a, b, nil, [2]float32{1, 1}) }

// Combine returns wa·a + wb·b for constants wa and wb. The shapes of a and b are as in Add.
// Combine panics if they do not fit.
func Combine(t *Tape, a, b *Value, wa, wb float32) *Value {
	return newCombine(t, "Combine", a, b, nil, [2]float32{wa, wb})
}

// Convex returns w[0]·a + w[1]·b for a parameter w of Shape [2]. The shapes of a and b are
// as in Add. Ding et al. 2022 combine the branches of a residual block in this way, with w
// on the probability simplex. Convex does not enforce this: the optimiser must project w.
// Convex panics if w does not have two values or if the shapes do not fit.
func Convex(t *Tape, a, b *Value, w *Param) *Value {
	if w.Len() != 2 {
		panic(fmt.Sprintf("autograd: Convex: weights %v for two branches", w.Shape))
	}
	return newCombine(t, "Convex", a, b, w, [2]float32{})
}

func newCombine(t *Tape, name string, a, b *Value, w *Param, fixed [2]float32) *Value {
	sh := a.shape
	sh.Steps = max(sh.Steps, b.shape.Steps)
	if a.shape.WithSteps(1) != b.shape.WithSteps(1) || (a.shape.Steps != sh.Steps && a.shape.Steps != 1) || (b.shape.Steps != sh.Steps && b.shape.Steps != 1) {
		panic(fmt.Sprintf("autograd: %s: %v and %v", name, a.shape, b.shape))
	}
	op := combine{a: Densify(t, a), b: Densify(t, b), w: w, fixed: fixed}
	op.y = t.NewDense(sh, a.needsGrad || b.needsGrad || (w != nil && t.Params))
	wa, wb := op.weights()
	if a.shape == b.shape {
		kernel.Combine(t.Floats(op.y), wa, t.Floats(op.a), wb, t.Floats(op.b), t.Threads)
	} else {
		op.put(t, op.a, wa, false)
		op.put(t, op.b, wb, true)
	}
	if op.y.needsGrad {
		op.record(t)
	}
	t.letGo(op.a, a)
	t.letGo(op.b, b)
	return op.y
}

// record puts a copy of o on the tape, so that only a pass with gradients allocates one.
func (o combine) record(t *Tape) {
	if o.w == nil || !t.Params {
		t.Record(&o)
		return
	}
	// A weight far below the other one, or 0, cannot be divided by. a is the branch to keep
	// where both can: in a residual block it is the input, which other layers keep too.
	abs := func(w float32) float64 { return math.Abs(float64(w)) }
	kept := o.a
	switch wa, wb := o.weights(); {
	case wb != 0 && abs(wb) >= abs(wa)/16:
		o.derived = o.b
	case wa != 0:
		o.derived, kept = o.a, o.b
	}
	if o.derived == nil {
		t.Record(&o, o.a, o.b)
		t.recompute(o.b)
	} else {
		t.Record(&o, kept, o.y)
	}
	t.recompute(kept)
}

func (o *combine) weights() (a, b float32) {
	if o.w == nil {
		return o.fixed[0], o.fixed[1]
	}
	return o.w.data[0], o.w.data[1]
}

// put writes the branch w·x to y, or adds it.
func (o *combine) put(t *Tape, x *Value, w float32, add bool) {
	sh, src, dst := o.y.shape, t.Floats(x), t.Floats(o.y)
	if x.shape.Steps == sh.Steps {
		kernel.AXPY(dst, w, src, add, t.Threads)
		return
	}
	scaled := t.Scratch(len(src))
	kernel.AXPY(scaled, w, src, false, t.Threads)
	kernel.Repeat(dst, scaled, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, add, t.Threads)
	t.FreeScratch(scaled)
}

func (o *combine) Output() *Value { return o.y }

// UsesParam reports whether p holds the weights. See [Op].
func (o *combine) UsesParam(p *Param) bool { return p == o.w }

// Backward computes ∂a = wa·∂y and ∂b = wb·∂y. The gradient of a branch of one step is
// summed over time. The weights get ∂wa = Σ a·∂y and ∂wb = Σ b·∂y. Of the branch that is not kept,
// the sum is that of wa·a = y − wb·b, divided by its weight.
func (o *combine) Backward(t *Tape) {
	dy, steps := t.Grad(o.y)
	if o.w != nil && t.Params {
		o.w.AddGrad(o.dots(t, dy, steps))
	}
	wa, wb := o.weights()
	if o.b.shape.Steps < o.y.shape.Steps {
		o.carry(t, o.b, wb, dy, steps)
		o.carry(t, o.a, wa, dy, steps)
	} else {
		o.carry(t, o.a, wa, dy, steps)
		o.carryOver(t, o.b, wb, dy, steps)
	}
}

// carryOver is carry for the last branch, which has all steps of y. It may take over the
// memory of ∂y.
func (o *combine) carryOver(t *Tape, x *Value, w float32, dy []float32, steps int) {
	if !x.needsGrad {
		return
	}
	s := t.OpenGradOver(x, o.y, steps)
	kernel.AXPY(s.Data, w, dy, s.Add, t.Threads)
	t.CloseGrad(s)
}

// carry adds w·∂y to the gradient of x.
func (o *combine) carry(t *Tape, x *Value, w float32, dy []float32, steps int) {
	if !x.needsGrad {
		return
	}
	sh := o.y.shape
	if x.shape.Steps == sh.Steps {
		s := t.OpenGrad(x, steps)
		kernel.AXPY(s.Data, w, dy, s.Add, t.Threads)
		t.CloseGrad(s)
		return
	}
	s := t.OpenGrad(x, 1)
	if steps == 1 {
		kernel.AXPY(s.Data, w*float32(sh.Steps), dy, s.Add, t.Threads)
	} else {
		kernel.SumSteps(s.Data, dy, sh.Blocks()*sh.N, steps, sh.Pixels()*tensor.Lanes, w, s.Add, t.Threads)
	}
	t.CloseGrad(s)
}

// dots returns Σ a·∂y and Σ b·∂y.
func (o *combine) dots(t *Tape, dy []float32, steps int) []float64 {
	wa, wb := o.weights()
	switch o.derived {
	case nil:
		return []float64{o.dot(t, o.a, dy, steps), o.dot(t, o.b, dy, steps)}
	case o.a:
		b := o.dot(t, o.b, dy, steps)
		return []float64{(o.dot(t, o.y, dy, steps) - float64(float64(wb)*b)) / float64(wa), b}
	}
	a := o.dot(t, o.a, dy, steps)
	return []float64{a, (o.dot(t, o.y, dy, steps) - float64(float64(wa)*a)) / float64(wb)}
}

// dot returns Σ x·∂y over all of y's elements.
func (o *combine) dot(t *Tape, v *Value, dy []float32, steps int) float64 {
	sh, x := o.y.shape, t.Floats(v)
	units, frame := sh.Blocks()*sh.N, sh.Pixels()*tensor.Lanes
	switch {
	case v.shape.Steps == steps && v.shape.Steps == sh.Steps:
		return kernel.Dot(x, dy, t.Threads)
	case v.shape.Steps == steps: // both the same at every step
		return float64(sh.Steps) * kernel.Dot(x, dy, t.Threads)
	}
	sum := t.Scratch(units * frame)
	defer t.FreeScratch(sum)
	if v.shape.Steps > 1 {
		kernel.SumSteps(sum, x, units, sh.Steps, frame, 1, false, t.Threads)
		return kernel.Dot(sum, dy, t.Threads)
	}
	kernel.SumSteps(sum, dy, units, sh.Steps, frame, 1, false, t.Threads)
	return kernel.Dot(x, sum, t.Threads)
}
