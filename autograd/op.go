package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// Op is a recorded operation. Its fields hold what Backward needs, such as the input, the
// output and the settings.
//
// An operation that reads a [Param] in Backward, or computes its gradient, has a third
// method, UsesParam(p *Param) bool. It reports whether p is such a parameter. A
// [FusedUpdate] then changes p only after the last of these operations.
type Op interface {
	// Output returns the value that the operation computed.
	Output() *Value
	// Backward reads the gradient of the output, by Grad or GradEveryStep, and adds to the
	// gradients of the inputs that need one, by OpenGrad and CloseGrad or by AddGrad. If
	// Tape.Params is set, it also adds to the gradients of parameters, by Param.OpenGrad or
	// Param.AddGrad.
	Backward(t *Tape)
}

// NewDense returns a new dense value. The caller writes all of its data, padding included,
// to what [Tape.Floats] returns. needsGrad says whether a gradient passes through the value:
// the operation has an input that needs a gradient, or parameters and Tape.Params is set.
// NewDense panics if an extent of s is less than 1, as all operations do: a tape takes no empty
// batch.
func (t *Tape) NewDense(s tensor.Shape, needsGrad bool) *Value {
	v := t.value(s, needsGrad)
	v.dense = t.arena.Floats(s.Floats())
	return v
}

// NewSpikes returns new spikes. The caller writes all of them to what [Tape.Words] returns.
// needsGrad is as in NewDense.
func (t *Tape) NewSpikes(s tensor.Shape, needsGrad bool) *Value {
	v := t.value(s, needsGrad)
	v.spikes = t.arena.Words(s.Words())
	return v
}

// Floats returns the data of a dense value, [⌈C/16⌉][N·Steps][H][W][16]. It returns nil if v
// holds spikes. The data are valid until v is released, or until the Backward of the last
// operation that keeps v has returned, whichever is later. Reset ends all values.
//
// Floats panics if v is no longer valid or belongs to another tape. The panic names the value,
// its layer and the operation that reads it.
func (t *Tape) Floats(v *Value) []float32 {
	t.mustLive(v)
	return t.floats(v)
}

// floats is Floats for a value that its reader has not let go, as an input of a deferred
// operation.
func (t *Tape) floats(v *Value) []float32 {
	t.compute(v)
	return v.dense
}

// Words returns the data of spikes, [⌈C/16⌉][N·Steps][H][W], one bit for each channel. It
// returns nil if v is dense. It panics as Floats does.
func (t *Tape) Words(v *Value) []uint16 {
	t.mustLive(v)
	return v.spikes
}

// mustLive panics if the forward pass has released v, or if the backward pass runs and no
// operation keeps v any more.
func (t *Tape) mustLive(v *Value) {
	if v.tape != t {
		panic(fmt.Sprintf("autograd: %s reads %v of another tape", t.reader(), v))
	}
	if v.owners > 0 || t.spent && v.refs > 0 {
		return
	}
	panic(fmt.Sprintf("autograd: %s reads a value that was let go, %v: an operation lists in Tape.Record what its Backward reads; a layer calls Tape.Retain for what a later layer reads", t.reader(), v))
}

// reader names the operation that runs.
func (t *Tape) reader() string {
	if t.back.op != nil {
		return t.back.String()
	}
	return "an operation" + inLayer(t.Layer)
}

// Record puts op on the tape. The values in keep stay valid until op's Backward has
// returned; the tape then lets them go. Record does nothing if op's output needs no
// gradient. To allocate no op then, call it only if Output().NeedsGrad().
//
// Record panics if a value in keep was let go.
func (t *Tape) Record(op Op, keep ...*Value) {
	if !op.Output().needsGrad {
		return
	}
	for _, v := range keep {
		if v.refs == 0 {
			panic(fmt.Sprintf("autograd: Record of %T%s: %v was let go", op, inLayer(t.Layer), v))
		}
		t.kept = append(t.kept, t.keep(v))
	}
	t.ops = append(t.ops, entry{op, t.Layer, len(keep)})
}

// Fail reports bad data, such as a derivative that is not finite. The first error of a pass
// counts. It is an operation's way to return an error; the caller of a forward or a
// backward pass calls Err. The error names the layer, and the operation if its Backward
// runs.
func (t *Tape) Fail(err error) {
	switch {
	case t.err != nil:
	case t.back.op != nil:
		t.err = fmt.Errorf("%v: %w", t.back, err)
	case t.Layer != "":
		t.err = fmt.Errorf("layer %s: %w", t.Layer, err)
	default:
		t.err = err
	}
}

// Err returns the first error given to Fail since the last Reset, or nil.
func (t *Tape) Err() error { return t.err }

// MarkNonFinite makes the next TakeNonFinite return true. An operation calls it if its
// input is not finite and its output may hide that.
func (t *Tape) MarkNonFinite() { t.nonFinite = true }

// Scratch returns memory of n values for the time of a call. Its content is arbitrary.
// FreeScratch returns it to the tape.
func (t *Tape) Scratch(n int) []float32 { return t.arena.Floats(n) }

// FreeScratch takes back memory that Scratch returned.
func (t *Tape) FreeScratch(s []float32) { t.arena.FreeFloats(s) }

// Grad returns the gradient of y, the output of the operation whose Backward runs. It has
// the given steps, [⌈C/16⌉][N·steps][H][W][16]: those of y, or one if the gradient is the
// same at every step. Backward may overwrite it.
func (t *Tape) Grad(y *Value) (g []float32, steps int) {
	t.plain(y)
	return y.grad, y.gradSteps
}

// GradEveryStep is Grad with the gradient repeated at every step of y. Operations whose
// derivative differs between steps call it.
func (t *Tape) GradEveryStep(y *Value) []float32 {
	t.plain(y)
	if sh := y.shape; y.gradSteps != sh.Steps {
		g := t.arena.Floats(sh.Floats())
		kernel.Repeat(g, y.grad, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, false, t.Threads)
		t.arena.FreeFloats(y.grad)
		y.grad, y.gradSteps = g, sh.Steps
	}
	return y.grad
}

// sumGrad replaces y's gradient, which has all steps, by its sum over the steps.
func (t *Tape) sumGrad(y *Value) []float32 {
	sh := y.shape
	g := t.arena.Floats(sh.WithSteps(1).Floats())
	kernel.SumSteps(g, y.grad, sh.Blocks()*sh.N, sh.Steps, sh.Pixels()*tensor.Lanes, 1, false, t.Threads)
	t.arena.FreeFloats(y.grad)
	y.grad, y.gradSteps = g, 1
	return g
}

// GradSlot is memory to which an operation writes a contribution to the gradient of a
// value.
type GradSlot struct {
	Data []float32 // [⌈C/16⌉][N·steps][H][W][16], all of it to be written
	Add  bool      // whether to add to Data instead of overwriting it

	v     *Value
	steps int
}

// OpenGrad returns memory for a contribution to v's gradient. The contribution has v's
// steps, or one if it is the same at every step. If v itself has one step, its gradient is
// the sum over time. CloseGrad must follow. Several slots of one value may be open at a
// time. OpenGrad panics for other numbers of steps.
//
// v must need a gradient. During the forward pass, OpenGrad adds to the gradient with
// which the backward pass begins, as a penalty on v does.
func (t *Tape) OpenGrad(v *Value, steps int) GradSlot {
	if steps != 1 && steps != v.shape.Steps {
		panic(fmt.Sprintf("autograd: OpenGrad: a gradient of %d steps for %v", steps, v))
	}
	t.plain(v)
	t.open++
	if v.grad != nil && v.gradSteps == steps {
		return GradSlot{v.grad, true, v, steps}
	}
	return GradSlot{t.arena.Floats(v.shape.WithSteps(steps).Floats()), false, v, steps}
}

// OpenGradOver is OpenGrad for an operation that can overwrite the gradient of its output y
// while it reads it, element by element. If v has no gradient yet and the shapes are the
// same, the slot is the memory that Grad returned.
func (t *Tape) OpenGradOver(v, y *Value, steps int) GradSlot {
	if v.grad != nil || y.pooled != nil || y.gradSteps != steps || v.shape.WithSteps(1) != y.shape.WithSteps(1) {
		return t.OpenGrad(v, steps)
	}
	t.plain(v)
	t.open++
	s := GradSlot{y.grad, false, v, steps}
	y.grad = nil
	return s
}

// CloseGrad adds the contribution to the gradient, unless the operation has done so. If
// only one of the two has a single step, that one is repeated at every step. Each slot is
// closed once, before Backward returns: CloseGrad and the backward pass panic otherwise.
func (t *Tape) CloseGrad(s GradSlot) {
	v := s.v
	if t.open--; v == nil || t.open < 0 {
		panic(fmt.Sprintf("autograd: %s closes a gradient that is not open", t.reader()))
	}
	switch {
	case s.Add:
	case v.grad == nil:
		v.grad, v.gradSteps = s.Data, s.steps
	case v.gradSteps == s.steps: // that of a slot which was open at the same time
		kernel.AXPY(v.grad, 1, s.Data, true, t.Threads)
		t.arena.FreeFloats(s.Data)
	default:
		sh := v.shape
		units, frame := sh.Blocks()*sh.N, sh.Pixels()*tensor.Lanes
		long, short := v.grad, s.Data
		if s.steps > 1 {
			long, short = short, long
		}
		kernel.Repeat(long, short, units, sh.Steps, frame, true, t.Threads)
		t.arena.FreeFloats(short)
		v.grad, v.gradSteps = long, sh.Steps
	}
}

// AddGrad adds g to v's gradient. g has the given steps and is as in OpenGrad. AddGrad
// does nothing if v needs no gradient. It panics if g has another length.
func (t *Tape) AddGrad(v *Value, g []float32, steps int) {
	if !v.needsGrad {
		return
	}
	s := t.OpenGrad(v, steps)
	if len(g) != len(s.Data) {
		panic(fmt.Sprintf("autograd: AddGrad: %d values of %d steps for %v: expected %d", len(g), steps, v, len(s.Data)))
	}
	kernel.AXPY(s.Data, 1, g, s.Add, t.Threads)
	t.CloseGrad(s)
}
