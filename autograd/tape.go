package autograd

import (
	"fmt"

	"github.com/org/snnrat/tensor"
)

// Tape records the operations of a forward pass and carries gradients back through
// them. Its zero value records nothing but what Params or a leaf's gradient asks
// for. A tape is reused, step after step: Reset keeps its memory. It is not safe
// for concurrent use.
type Tape struct {
	// Params asks for the gradients of parameters.
	Params bool
	// Threads bounds the goroutines of an operation; 0 stands for GOMAXPROCS.
	// Results do not depend on it.
	Threads int
	// FusedUpdate, if not nil, may take gradients of weights over.
	FusedUpdate FusedUpdate

	arena  tensor.Arena
	ops    []Op
	values []*Value
	used   int

	spent     bool // Backward has used up the operations
	nonFinite bool // a membrane potential or an activation was not a finite number
}

// FusedUpdate takes the gradient of weights in parts, as soon as it is known, so that it is
// never in memory as a whole. An optimiser that updates large weights at once is one.
type FusedUpdate interface {
	// Handles reports whether the gradient of p goes to the sink instead of to p.Grad. It
	// must not if p is used more than once.
	Handles(p *Param) bool
	// Update is called with the gradient of the values at and on of p.Data, once for each
	// of them in a backward pass, after p was last read in it. grad is valid during the
	// call.
	Update(p *Param, at int, grad []float32)
}

// Op is a recorded operation. Backward reads the gradient of its output, adds to
// those of its inputs, and lets go of the values that it kept.
type Op interface {
	// Output is the value the operation made.
	Output() *Value
	Backward(t *Tape)
}

// Peak returns the largest amount of memory, in bytes, that values and gradients have
// taken at a time on this tape.
func (t *Tape) Peak() int { return t.arena.Peak() }

// Reset forgets the recorded operations and takes back the memory of all values.
func (t *Tape) Reset() {
	for _, v := range t.values[:t.used] {
		t.free(v)
		t.freeGrad(v)
	}
	clear(t.ops)
	t.ops, t.used = t.ops[:0], 0
	t.spent, t.nonFinite = false, false
}

// Leaf puts an image on the tape, at Steps = 1. If grad is set, Backward computes
// its gradient.
func (t *Tape) Leaf(x tensor.NCHW, grad bool) *Value {
	v := t.dense(tensor.Shape{N: x.N, Steps: 1, C: x.C, H: x.H, W: x.W}, grad)
	v.Dense().Pack(x)
	return v
}

// Input puts dense values on the tape, with all their steps.
func (t *Tape) Input(x *tensor.Dense, grad bool) *Value {
	v := t.dense(x.Shape, grad)
	copy(v.dense, x.Data)
	return v
}

// InputSpikes puts spikes on the tape, with all their steps.
func (t *Tape) InputSpikes(x *tensor.Spikes, grad bool) *Value {
	v := t.spikes(x.Shape, grad)
	copy(v.spikes, x.Bits)
	return v
}

// Retain keeps v readable until one more call of Release. A layer that keeps a value for
// a later layer, as a long skip connection does, retains it.
func (t *Tape) Retain(v *Value) {
	v.mustBeOwned("Retain")
	v.owners++
}

// Release says that the forward pass no longer reads v. Once every Retain has its
// Release, and one more call has been made, the tape takes v's memory back as soon as
// no recorded operation needs it. Reading v in the forward pass is then a panic.
// Releasing a value is optional.
func (t *Tape) Release(v *Value) {
	v.mustBeOwned("Release")
	if v.owners--; v.owners == 0 {
		t.drop(v)
	}
}

// Backward carries the gradient seed of y, row-major [N, C·H·W], back to the leaves
// and parameters that asked for one. Parameters' gradients are added to what they
// hold since ClearGrad. It uses up the recorded operations: a second backward pass
// needs a Reset and another forward pass. It panics if y has more than one step, or if
// a backward pass was made since the last Reset.
func (t *Tape) Backward(y *Value, seed []float32) {
	sh := y.shape
	if sh.Steps != 1 || len(seed) != sh.N*sh.Neurons() {
		panic(fmt.Sprintf("autograd: Backward: a seed of %d values for %v", len(seed), sh))
	}
	if !t.begin("Backward", y) {
		return
	}
	s := t.open(y, 1)
	d := tensor.Dense{Shape: sh, Data: s.buf}
	d.Pack(tensor.NCHW{N: sh.N, C: sh.C, H: sh.H, W: sh.W, Data: seed})
	t.close(s)
	t.reverse()
}

// BackwardFrom is Backward for a gradient of any number of steps: y's, or 1 when it
// is the same at every step.
func (t *Tape) BackwardFrom(y *Value, seed *tensor.Dense) {
	if y.shape.WithSteps(seed.Steps) != seed.Shape {
		panic(fmt.Sprintf("autograd: BackwardFrom: a seed %v for %v", seed.Shape, y.shape))
	}
	if !t.begin("BackwardFrom", y) {
		return
	}
	s := t.open(y, seed.Steps)
	copy(s.buf, seed.Data)
	t.close(s)
	t.reverse()
}

// begin reports whether y wants a gradient. It panics if the operations are used up.
func (t *Tape) begin(op string, y *Value) bool {
	if t.spent {
		panic(fmt.Sprintf("autograd: %s: a backward pass has used up this tape's operations: expected Reset and a forward pass before another", op))
	}
	return y.needsGrad
}

// TakeNonFinite reports whether neurons or rectifiers have met a value that is not a
// finite number since its last call or Reset: neurons, a membrane potential; ReLU and
// MaxPool, an input. Their outputs may hide it, since a neuron whose potential is NaN
// never fires.
func (t *Tape) TakeNonFinite() bool {
	was := t.nonFinite
	t.nonFinite = false
	return was
}

// reverse runs the operations' backward passes, last first.
func (t *Tape) reverse() {
	t.spent = true
	for i := len(t.ops) - 1; i >= 0; i-- {
		op := t.ops[i]
		t.ops[i] = nil
		if out := op.Output(); out.grad != nil {
			op.Backward(t)
			t.freeGrad(out)
		}
	}
	t.ops = t.ops[:0]
}

// record puts op on the tape if its output wants a gradient.
func (t *Tape) record(op Op) {
	if op.Output().needsGrad {
		t.ops = append(t.ops, op)
	}
}

// keep makes v's data outlive the forward pass, until an op's Backward drops it.
func (t *Tape) keep(v *Value) *Value { v.refs++; return v }

func (t *Tape) drop(v *Value) {
	v.refs--
	if v.refs == 0 {
		t.free(v)
	}
}

func (t *Tape) free(v *Value) {
	if d := v.deferred; d != nil {
		v.deferred = nil
		d.release(t)
	}
	t.arena.FreeFloats(v.dense)
	t.arena.FreeWords(v.spikes)
	v.dense, v.spikes = nil, nil
}

func (t *Tape) freeGrad(v *Value) {
	t.arena.FreeFloats(v.grad)
	v.grad = nil
}

// value returns a new value with one reader, the forward pass.
func (t *Tape) value(s tensor.Shape, needsGrad bool) *Value {
	if t.used == len(t.values) {
		t.values = append(t.values, new(Value))
	}
	v := t.values[t.used]
	t.used++
	*v = Value{shape: s, needsGrad: needsGrad, refs: 1, owners: 1, tape: t}
	return v
}

// dense returns a new dense value whose data is yet to be written, padding
// included.
func (t *Tape) dense(s tensor.Shape, needsGrad bool) *Value {
	v := t.value(s, needsGrad)
	v.dense = t.arena.Floats(s.Floats())
	return v
}

// spikes returns new spikes, yet to be written.
func (t *Tape) spikes(s tensor.Shape, needsGrad bool) *Value {
	v := t.value(s, needsGrad)
	v.spikes = t.arena.Words(s.Words())
	return v
}
