package autograd

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// Tape records the operations of a forward pass and propagates gradients back through them.
// The zero Tape is ready to use. To use a tape again, call Reset, which keeps the tape's
// memory. A Tape is not safe for concurrent use.
type Tape struct {
	// Params requests the gradients of parameters.
	Params bool
	// Threads is the largest number of goroutines of one operation. 0 means GOMAXPROCS.
	// Results do not depend on it.
	Threads int
	// FusedUpdate, if not nil, receives the gradients of the weights that it handles.
	FusedUpdate FusedUpdate
	// Parts, if not nil, joins this tape with those of the other parts of a batch.
	Parts Parts
	// Layer is the name of the layer that runs. Panics and errors name it. Reset clears it.
	Layer string

	arena  tensor.Arena
	small  []float32 // of which constants lends
	ops    []entry
	kept   []*Value // by the ops, in their order
	values []*Value
	used   int

	open      int   // slots of OpenGrad that CloseGrad has not closed
	back      entry // the operation whose Backward runs, or none
	spent     bool  // a backward pass has used up the operations
	nonFinite bool  // a membrane potential or an activation was NaN or infinite
	err       error // the first error given to Fail
}

// entry is a recorded operation.
type entry struct {
	op    Op
	layer string
	keep  int // values on Tape.kept
}

// String names the operation's Backward and its layer.
func (e entry) String() string { return fmt.Sprintf("Backward of %T%s", e.op, inLayer(e.layer)) }

// FusedUpdate updates weights during the backward pass. It receives the gradient of a
// weight tensor in parts, as soon as each part is computed. The whole gradient is then
// never in memory.
type FusedUpdate interface {
	// Handles reports whether the gradient of p goes to Update instead of to p.Grad. The
	// gradient goes to p.Grad all the same if the network uses p more than once, or if p
	// has a gradient already.
	Handles(p *Param) bool
	// Update receives the gradient of the values p.Data()[at:at+len(grad)]. A backward
	// pass calls it once for each part of p, after the pass has read p for the last time.
	// grad is valid only during the call.
	Update(p *Param, at int, grad []float32)
}

// Parts joins the tapes of a batch that runs in parts, each part on a tape of its own. Batch
// norm then normalizes by the statistics of the whole batch. All other operations see their
// part alone.
type Parts interface {
	// First reports whether this tape updates the running statistics of batch norm. Of the
	// tapes that share parameters, one does.
	First() bool
	// Merge replaces v by what merge makes of the v of all parts, in a fixed order. It returns
	// once every part has called it. merge(a, b) merges b into a. After an error, v is
	// arbitrary, and the pass fails.
	Merge(t *Tape, v []float64, merge func(a, b []float64)) error
}

// Peak returns the largest amount of memory, in bytes, that the values and gradients of
// this tape have taken at one time.
func (t *Tape) Peak() int { return t.arena.Peak() }

// Size returns the memory, in bytes, that the tape keeps for values and gradients, in use or
// not.
func (t *Tape) Size() int { return t.arena.Size() }

// Reset removes all operations and values from the tape. It keeps their memory for the
// next pass, whose values may be the same Go objects. If each of the last 64 passes has needed
// less than a quarter of the memory, Reset gives it back. To give it back at once, drop the
// tape and use a new one.
func (t *Tape) Reset() {
	for _, v := range t.values[:t.used] {
		t.free(v)
		t.freeGrad(v)
		v.refs, v.owners = 0, 0
	}
	clear(t.ops)
	t.ops, t.kept, t.used = t.ops[:0], t.kept[:0], 0
	t.small = t.small[:0]
	t.Layer, t.back = "", entry{}
	t.open, t.spent, t.nonFinite, t.err = 0, false, false, nil
	t.arena.EndPass()
}

// Leaf puts a batch of images or frames on the tape, as a value of shape x.Shape(). If grad
// is set, a backward pass computes its gradient.
func (t *Tape) Leaf(x tensor.NCHW, grad bool) *Value {
	v := t.NewDense(x.Shape(), grad)
	v.Dense().Pack(x)
	return v
}

// LeafSpikes is like Leaf, but puts x on the tape as spikes: an element fires where x is not
// zero.
func (t *Tape) LeafSpikes(x tensor.NCHW, grad bool) *Value {
	v := t.NewSpikes(x.Shape(), grad)
	s := tensor.Spikes{Shape: v.shape, Bits: v.spikes}
	s.PackSpikes(x)
	return v
}

// Input puts a copy of dense values on the tape, with all their steps. If grad is set, a
// backward pass computes their gradient. Input panics if x has another number of values than its
// shape says.
func (t *Tape) Input(x *tensor.Dense, grad bool) *Value {
	v := t.NewDense(x.Shape, grad)
	if len(x.Data) != len(v.dense) {
		panic(fmt.Sprintf("autograd: Input: %d values for the shape %v: expected %d", len(x.Data), x.Shape, len(v.dense)))
	}
	kernel.AXPY(v.dense, 1, x.Data, false, t.Threads)
	return v
}

// InputSpikes puts a copy of spikes on the tape, with all their steps. If grad is set, a
// backward pass computes their gradient. InputSpikes panics if x has another number of words than
// its shape says.
func (t *Tape) InputSpikes(x *tensor.Spikes, grad bool) *Value {
	v := t.NewSpikes(x.Shape, grad)
	if len(x.Bits) != len(v.spikes) {
		panic(fmt.Sprintf("autograd: InputSpikes: %d words for the shape %v: expected %d", len(x.Bits), x.Shape, len(v.spikes)))
	}
	copy(v.spikes, x.Bits)
	return v
}

// Retain makes v need one more call of Release before its memory is returned. A layer
// calls it to keep a value for a later layer, as a long skip connection does. Retain
// panics if v is released.
func (t *Tape) Retain(v *Value) {
	v.mustBeOwned("Retain")
	v.owners++
}

// Release declares that the forward pass no longer reads v. A value that was retained
// needs one more call for each Retain. The last call releases v. The tape then takes v's
// memory back as soon as no recorded operation needs it. An operation panics if its input
// is released, and so does Release. Calling Release is optional.
func (t *Tape) Release(v *Value) {
	v.mustBeOwned("Release")
	if v.owners--; v.owners == 0 {
		t.drop(v)
		t.forget(v)
	}
}

// Backward propagates the gradient of y to the leaves and parameters that requested one.
// seed is the gradient of y, row-major [N, C·H·W]. Gradients of parameters add up until
// [Param.ClearGrad].
//
// A backward pass uses up the recorded operations. A second one needs a Reset and another
// forward pass. Backward panics if there was no forward pass since the last backward pass.
// It also panics if y has more than one step or if the length of seed is not N·C·H·W.
func (t *Tape) Backward(y *Value, seed []float32) {
	sh := y.shape
	if sh.Steps != 1 || len(seed) != sh.N*sh.Neurons() {
		panic(fmt.Sprintf("autograd: Backward: a seed of %d values for %v", len(seed), sh))
	}
	if !t.begin("Backward", y) {
		return
	}
	s := t.OpenGrad(y, 1)
	d := tensor.Dense{Shape: sh, Data: s.Data}
	if s.Add {
		d = *tensor.NewDense(sh)
	}
	d.Pack(tensor.NCHW{N: sh.N, C: sh.C, H: sh.H, W: sh.W, Data: seed})
	if s.Add {
		kernel.AXPY(s.Data, 1, d.Data, true, t.Threads)
	}
	t.CloseGrad(s)
	t.reverse()
}

// BackwardFrom is like [Tape.Backward], for a value of any number of steps. The seed has
// the steps of y, or 1 if it is the same at every step. BackwardFrom panics if the shapes
// do not fit. It also panics if there was no forward pass since the last backward pass.
func (t *Tape) BackwardFrom(y *Value, seed *tensor.Dense) {
	if y.shape.WithSteps(seed.Steps) != seed.Shape {
		panic(fmt.Sprintf("autograd: BackwardFrom: a seed %v for %v", seed.Shape, y.shape))
	}
	if !t.begin("BackwardFrom", y) {
		return
	}
	t.AddGrad(y, seed.Data, seed.Steps)
	t.reverse()
}

// begin reports whether y needs a gradient. It panics if the operations are used up.
func (t *Tape) begin(op string, y *Value) bool {
	if t.spent {
		panic(fmt.Sprintf("autograd: %s: a backward pass has used up this tape's operations: expected Reset and a forward pass before another", op))
	}
	return y.needsGrad
}

// Uses reports whether an operation whose Backward runs, or is still to run, reads p or
// computes its gradient. It knows the operations that have a method UsesParam, see [Op].
func (t *Tape) Uses(p *Param) bool {
	op, ok := t.back.op.(interface{ UsesParam(*Param) bool })
	return ok && op.UsesParam(p) || t.usesLater(p)
}

// usesLater is Uses without the operation whose Backward runs.
func (t *Tape) usesLater(p *Param) bool {
	return slices.ContainsFunc(t.ops, func(e entry) bool {
		op, ok := e.op.(interface{ UsesParam(*Param) bool })
		return ok && op.UsesParam(p)
	})
}

// TakeNonFinite reports whether NaN or an infinite value has occurred since its last call
// or the last Reset. Neurons check their membrane potentials; ReLU and MaxPool check their
// inputs. The outputs of these operations may hide such a value: a neuron whose potential
// is NaN never fires.
func (t *Tape) TakeNonFinite() bool {
	was := t.nonFinite
	t.nonFinite = false
	return was
}

// reverse runs Backward of every operation, last first.
func (t *Tape) reverse() {
	t.spent = true
	for i := len(t.ops) - 1; i >= 0; i-- {
		t.back = t.ops[i]
		t.ops[i] = entry{}
		t.ops = t.ops[:i]
		if out := t.back.op.Output(); out.grad != nil {
			if !t.fusedBackward(t.back.op) {
				t.back.op.Backward(t)
			}
			if t.open != 0 {
				panic(fmt.Sprintf("autograd: %v left %d gradients open: expected a call of CloseGrad for each of OpenGrad", t.back, t.open))
			}
			t.freeGrad(out)
		}
		rest := len(t.kept) - t.back.keep
		for _, v := range t.kept[rest:] {
			t.drop(v)
		}
		t.kept = t.kept[:rest]
	}
	t.back = entry{}
}

// keep makes v's data outlive the forward pass until a call of drop.
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
		t.drop(d.input())
	}
	t.arena.FreeFloats(v.dense)
	t.arena.FreeWords(v.spikes)
	v.dense, v.spikes = nil, nil
}

func (t *Tape) freeGrad(v *Value) {
	t.arena.FreeFloats(v.grad)
	v.grad = nil
}

// constants returns zeros for n constants of an operation, such as those of batch norm. They
// are valid until Reset.
func (t *Tape) constants(n int) []float32 {
	at := len(t.small)
	if at+n > cap(t.small) { // the constants so far stay where they are
		t.small, at = make([]float32, 0, max(1024, n, 2*cap(t.small))), 0
	}
	t.small = t.small[:at+n]
	c := t.small[at : at+n : at+n]
	clear(c)
	return c
}

// value returns a new value with one reader, the forward pass.
func (t *Tape) value(s tensor.Shape, needsGrad bool) *Value {
	if min(s.N, s.Steps, s.C, s.H, s.W) < 1 {
		panic(fmt.Sprintf("autograd: a value of shape %v%s: expected at least 1 in each extent", s, inLayer(t.Layer)))
	}
	if t.used == len(t.values) {
		t.values = append(t.values, new(Value))
	}
	v := t.values[t.used]
	t.used++
	*v = Value{shape: s, needsGrad: needsGrad, refs: 1, owners: 1, tape: t, layer: t.Layer}
	return v
}
