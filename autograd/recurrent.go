package autograd

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// recurrentGLIF keeps what FireGLIFRecurrent got and computed.
type recurrentGLIF struct {
	in, y        *Value // in are the currents without those of the recurrence
	w            *Param // [C, C]
	neurons      GLIF
	coefficients *kernel.GLIF
	surrogate    Surrogate
	detach       bool
}

// FireGLIFRecurrent is [FireGLIFThroughTime] for neurons whose spikes return to the neurons of
// all channels at the same pixel. At step t the current of the neurons is
//
//	x(t) + w·s(t−1)
//
// w has the shape [C, C], and s(t) are the spikes of step t, 0 before the first one. For one
// pixel the layer is fully recurrent; for more, w is a 1 × 1 convolution.
// FireGLIFRecurrent panics if the shapes do not fit.
func FireGLIFRecurrent(t *Tape, x *Value, n GLIF, w *Param, steps int, s Surrogate, detach bool) *Value {
	const name = "FireGLIFRecurrent"
	sh := x.shape.WithSteps(steps)
	f := feedback(name, w, sh.C)
	in := t.currents(name, x, steps)
	k := new(kernel.GLIF)
	memory := t.pad(k, name, &n, sh.C)
	y := t.NewSpikes(sh, in.needsGrad || t.Params)
	if !kernel.RecurrentForward(y.spikes, t.Floats(in), k, f, scanOf(in.shape, steps), t.Threads) {
		t.MarkNonFinite()
	}
	if y.needsGrad {
		t.Record(&recurrentGLIF{in: in, y: y, w: w, neurons: n, coefficients: k, surrogate: s, detach: detach}, in, y, memory)
	}
	t.Release(memory)
	t.letGo(in, x)
	return y
}

// feedback returns the recurrent weights w of c channels. It panics if w has another shape.
func feedback(op string, w *Param, c int) kernel.Feedback {
	if len(w.Shape) != 2 || w.Shape[0] != c || w.Shape[1] != c {
		panic(fmt.Sprintf("autograd: %s: weights %v for %d channels: expected [%d %d]", op, w.Shape, c, c, c))
	}
	return kernel.Feedback{Weights: w.data, Channels: w.Shape[0]}
}

// FireGLIFRecurrentStep runs the next step of the layer of FireGLIFRecurrent, and returns its
// spikes. last are those of the step before. FireGLIFRecurrentStep overwrites them and the
// state. Zeros are the spikes before the first step. No gradient passes through.
//
// Calls that continue each other give the bits of one call of FireGLIFRecurrent.
// FireGLIFRecurrentStep panics as FireGLIFRecurrent and [FireGLIFSteps] do.
func FireGLIFRecurrentStep(t *Tape, x *Value, n GLIF, w *Param, state *GLIFState, last *tensor.Spikes) *Value {
	feedback("FireGLIFRecurrentStep", w, x.shape.C)
	back := conv(t, t.InputSpikes(last, false), w, nil, nil, 1, 1, 1, 0)
	y := FireGLIFSteps(t, Add(t, x, back), n, 1, state)
	copy(last.Bits, y.spikes)
	return y
}

func (o *recurrentGLIF) Output() *Value { return o.y }

// UsesParam reports whether p are the recurrent weights or a parameter of the neurons.
func (o *recurrentGLIF) UsesParam(p *Param) bool {
	return p == o.w || slices.Contains(o.neurons.Params, p)
}

// Backward runs the recursion that kernel.RecurrentBackward documents.
func (o *recurrentGLIF) Backward(t *Tape) {
	x := t.Floats(o.in)
	dy, steps := t.Grad(o.y)
	surrogate, check := t.watch(o.surrogate)
	g := kernel.GLIFGrad{
		GLIF: *o.coefficients, Scan: scanOf(o.in.shape, o.y.shape.Steps), X: x, Spikes: t.Words(o.y),
		Dout: dy, DoutSteps: steps, Surrogate: surrogate, Detach: o.detach,
	}
	var sums *kernel.GLIFSums
	if t.Params && len(o.neurons.Params) > 0 {
		sums = kernel.NewGLIFSums(o.in.shape.Blocks())
	}
	var dw []float32
	if t.Params && o.w.Trainable {
		var add bool
		if dw, add = o.w.OpenGrad(); !add {
			clear(dw)
		}
	}
	var slot GradSlot
	if o.in.needsGrad {
		slot = t.OpenGrad(o.in, o.in.shape.Steps)
	}
	fault := kernel.RecurrentBackward(slot.Data, dw, sums, g, feedback("FireGLIFRecurrent", o.w, o.in.shape.C), slot.Add, t.Threads)
	if o.in.needsGrad {
		t.CloseGrad(slot)
	}
	check()
	if fault != nil && kernel.Finite(dy, t.Threads) { // else the fault is another layer's
		t.Fail(fmt.Errorf("the gradient with respect to the current is %v at step %d of image %d, channel %d, row %d, column %d: expected a finite derivative",
			fault.Value, fault.Step, fault.Image, fault.Channel, fault.Pixel/o.in.shape.W, fault.Pixel%o.in.shape.W))
	}
	if sums != nil {
		o.neurons.chain(sums, o.in.shape.C)
	}
}
