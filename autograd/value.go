package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// Value is a value on a tape: dense, or spikes. It belongs to its tape and is valid
// until the tape's Reset, or until Release.
type Value struct {
	shape  tensor.Shape
	dense  []float32 // [C/16][N·Steps][H][W][16], or nil
	spikes []uint16  // [C/16][N·Steps][H][W], or nil

	// The gradient has gradSteps steps: shape.Steps, or 1 when it is the same at
	// every step. The gradient of a value with Steps = 1 is the sum over time.
	grad      []float32 // [C/16][N·gradSteps][H][W][16], or nil
	gradSteps int
	// gradPool is set if grad is that of the means over its windows.
	gradPool *kernel.Pool

	// What batch norm's backward wants to know of the gradient, if whoever wrote all
	// of it found it in passing.
	sums *normSums

	// Spikes know which elements of their gradient the neurons will use.
	maker needer

	tape      *Tape
	deferred  deferred // nil, or how to compute the data
	needsGrad bool     // whether anything that wants a gradient lies upstream
	refs      int      // readers to come: the forward pass, and ops that keep the value
	owners    int      // Release calls to come until the forward pass may read it no more
}

// deferred is work put off until a value is read. A reader that can do it in one pass
// with its own takes it over, and the value is never computed.
type deferred interface {
	// compute writes the value's data, v.dense.
	compute(t *Tape, v *Value)
	// release lets go of the values that compute reads.
	release(t *Tape)
}

// needer is an op that does not use all of its output's gradient.
type needer interface {
	// need returns the bits, laid out as spikes of so many steps, of the elements that
	// it uses; or nil for all.
	need(t *Tape, steps int) []uint16
}

// input makes sure that v has its data, for an op that the forward pass hands it to.
func (t *Tape) input(op string, v *Value) {
	v.mustBeOwned(op)
	t.read(v)
}

// mustBeOwned panics if the forward pass has released v.
func (v *Value) mustBeOwned(op string) {
	if v.owners == 0 {
		panic(fmt.Sprintf("autograd: %s: value %v was released; Tape.Retain keeps one that is read later", op, v.shape))
	}
}

// read makes sure that v has its data.
func (t *Tape) read(v *Value) {
	if d := v.deferred; d != nil {
		v.deferred = nil
		v.dense = t.arena.Floats(v.shape.Floats())
		d.compute(t, v)
		d.release(t)
	}
}

// Shape returns the value's shape.
func (v *Value) Shape() tensor.Shape { return v.shape }

// Dense returns the value's data, shared with the tape, or nil if it is spikes.
func (v *Value) Dense() *tensor.Dense {
	v.tape.read(v)
	if v.dense == nil {
		return nil
	}
	return &tensor.Dense{Shape: v.shape, Data: v.dense}
}

// Spikes returns the value's spikes, shared with the tape, or nil if it is dense.
func (v *Value) Spikes() *tensor.Spikes {
	if v.spikes == nil {
		return nil
	}
	return &tensor.Spikes{Shape: v.shape, Bits: v.spikes}
}

// Grad returns the gradient that the last Backward left on a leaf, shared with the
// tape, or nil if there is none. Its Steps is 1 when it is the same at every step.
func (v *Value) Grad() *tensor.Dense {
	if v.grad == nil {
		return nil
	}
	return &tensor.Dense{Shape: v.shape.WithSteps(v.gradSteps), Data: v.grad}
}

// gradSlot is where an op writes the gradient of one of its inputs.
type gradSlot struct {
	v     *Value
	buf   []float32 // [C/16][N·steps][H][W][16]
	steps int
	add   bool // add to buf instead of overwriting it
}

// open returns the memory for a contribution of the given steps to v's gradient.
// close must follow.
func (t *Tape) open(v *Value, steps int) gradSlot {
	if steps != 1 && steps != v.shape.Steps {
		panic(fmt.Sprintf("autograd: gradient with %d steps for a value %v", steps, v.shape))
	}
	v.sums = nil
	t.spread(v)
	if v.grad != nil && v.gradSteps == steps {
		return gradSlot{v, v.grad, steps, true}
	}
	return gradSlot{v, t.arena.Floats(v.shape.WithSteps(steps).Floats()), steps, false}
}

// openIn is open for an op that can work in place on the gradient of its output y: its
// memory goes to v where v has no gradient yet.
func (t *Tape) openIn(v, y *Value, steps int) gradSlot {
	if v.grad != nil || y.gradPool != nil || y.gradSteps != steps || v.shape.WithSteps(1) != y.shape.WithSteps(1) {
		return t.open(v, steps)
	}
	s := gradSlot{v, y.grad, steps, false}
	y.grad, v.sums = nil, nil
	return s
}

// close makes the contribution part of the gradient: at once, or, where one of the
// two is the same at every step and the other is not, by repeating that one.
func (t *Tape) close(s gradSlot) {
	v := s.v
	switch {
	case s.add:
	case v.grad == nil:
		v.grad, v.gradSteps = s.buf, s.steps
	default:
		sh := v.shape
		units, frame := sh.Blocks()*sh.N, sh.Pixels()*tensor.Lanes
		long, short := v.grad, s.buf
		if s.steps > 1 {
			long, short = short, long
		}
		kernel.Repeat(long, short, units, sh.Steps, frame, true, t.Threads)
		t.arena.FreeFloats(short)
		v.grad, v.gradSteps = long, sh.Steps
	}
}

// spread makes v's gradient one of v, if it is one of means.
func (t *Tape) spread(v *Value) {
	if v.gradPool == nil {
		return
	}
	means, geom := v.grad, *v.gradPool
	v.grad, v.gradPool = t.arena.Floats(v.shape.WithSteps(v.gradSteps).Floats()), nil
	geom.Planes = v.shape.Blocks() * v.shape.N * v.gradSteps
	kernel.AvgPoolGrad(v.grad, means, geom, false, t.Threads)
	t.arena.FreeFloats(means)
}

// everyStep gives y's gradient all its steps, for ops whose derivative differs
// between them.
func (t *Tape) everyStep(y *Value) {
	sh := y.shape
	if y.gradSteps == sh.Steps {
		return
	}
	g := t.arena.Floats(sh.Floats())
	kernel.Repeat(g, y.grad, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, false, t.Threads)
	t.arena.FreeFloats(y.grad)
	y.grad, y.gradSteps = g, sh.Steps
}

// sumGrad replaces y's gradient, which has all its steps, by the sum over them.
func (t *Tape) sumGrad(y *Value) {
	sh := y.shape
	g := t.arena.Floats(sh.WithSteps(1).Floats())
	kernel.SumSteps(g, y.grad, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, 1, false, t.Threads)
	t.arena.FreeFloats(y.grad)
	y.grad, y.gradSteps = g, 1
}
