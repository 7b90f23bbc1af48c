package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// Value is a value on a tape. It holds either dense values or spikes. It belongs to its
// tape and is valid until [Tape.Reset] or [Tape.Release].
type Value struct {
	shape  tensor.Shape
	dense  []float32 // [C/16][N·Steps][H][W][16], or nil
	spikes []uint16  // [C/16][N·Steps][H][W], or nil

	// The gradient has gradSteps steps: shape.Steps, or 1 if it is the same at every
	// step. The gradient of a value with Steps = 1 is the sum over time.
	grad      []float32 // [C/16][N·gradSteps][H][W][16], or nil
	gradSteps int
	// If gradPool is not nil, grad is the gradient of this value's average pooling with
	// that geometry, not yet spread over the windows.
	gradPool *kernel.Pool

	// sums are the sums of the gradient that batch norm's backward pass needs. They are
	// nil unless the op that wrote the whole gradient computed them on the way.
	sums *normSums

	// maker is the op that made the spikes, if it needs only part of their gradient.
	maker needer

	tape      *Tape
	deferred  deferred // how to compute the data, or nil if it is computed
	needsGrad bool     // whether the gradient of this value is needed
	refs      int      // the forward pass, if it may still read the value, and the ops that keep it
	owners    int      // the Release calls after which the forward pass reads the value no more
}

// deferred is work that is done when a value is read. A reader that can do the work
// together with its own takes it over. The value is then never computed.
type deferred interface {
	// compute writes the value's data, v.dense.
	compute(t *Tape, v *Value)
	// release drops the values that compute reads.
	release(t *Tape)
}

// needer is an op that does not use every element of its output's gradient.
type needer interface {
	// need returns one bit for each element of a gradient of the given steps, laid out
	// as spikes. The bit is set if the op uses the element. It returns nil if the op uses
	// all of them.
	need(t *Tape, steps int) []uint16
}

// input computes v's data if it is deferred. It panics if the forward pass has released v.
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

// read computes v's data if it is deferred.
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

// Dense returns the dense data of v, which shares the tape's memory. It returns nil if v
// holds spikes.
func (v *Value) Dense() *tensor.Dense {
	v.tape.read(v)
	if v.dense == nil {
		return nil
	}
	return &tensor.Dense{Shape: v.shape, Data: v.dense}
}

// Spikes returns the spikes of v, which share the tape's memory. It returns nil if v is
// dense.
func (v *Value) Spikes() *tensor.Spikes {
	if v.spikes == nil {
		return nil
	}
	return &tensor.Spikes{Shape: v.shape, Bits: v.spikes}
}

// Grad returns the gradient of a leaf after a backward pass. It shares the tape's memory.
// Its Steps is that of the leaf, or 1 if the gradient is the same at every step. Grad
// returns nil if there is no gradient.
func (v *Value) Grad() *tensor.Dense {
	if v.grad == nil {
		return nil
	}
	return &tensor.Dense{Shape: v.shape.WithSteps(v.gradSteps), Data: v.grad}
}

// gradSlot is the memory to which an op writes the gradient of one of its inputs.
type gradSlot struct {
	v     *Value
	buf   []float32 // [C/16][N·steps][H][W][16]
	steps int
	add   bool // whether the op adds to buf or overwrites it
}

// open returns memory for a contribution to v's gradient. The contribution has the given
// steps. A call of close must follow.
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

// openIn is open for an op that can overwrite the gradient of its output y. If v has no
// gradient yet and the shapes are the same, it hands y's gradient memory to v.
func (t *Tape) openIn(v, y *Value, steps int) gradSlot {
	if v.grad != nil || y.gradPool != nil || y.gradSteps != steps || v.shape.WithSteps(1) != y.shape.WithSteps(1) {
		return t.open(v, steps)
	}
	s := gradSlot{v, y.grad, steps, false}
	y.grad, v.sums = nil, nil
	return s
}

// close adds the contribution to the gradient, unless the op has done so. If only one of
// the two has a single step, that one is repeated at every step.
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

// spread replaces a gradient of v's average pooling by the gradient of v.
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

// everyStep repeats a gradient of one step at every step of y. Ops whose derivative
// differs between steps need it.
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

// sumGrad replaces y's gradient, which has all steps, by its sum over the steps.
func (t *Tape) sumGrad(y *Value) {
	sh := y.shape
	g := t.arena.Floats(sh.WithSteps(1).Floats())
	kernel.SumSteps(g, y.grad, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, 1, false, t.Threads)
	t.arena.FreeFloats(y.grad)
	y.grad, y.gradSteps = g, 1
}
