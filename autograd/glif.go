package autograd

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// GLIF are the coefficients of a generalized leaky integrate-and-fire neuron. At every step
// t, with the input current x(t), it updates its synaptic current i, its membrane potential
// m and its adaptation a, and emits the spike s(t):
//
//	i(t) = SynapticDecay·i(t−1) + Recurrence·s(t−1) + x(t)
//	p(t) = Decay·m(t−1) + Gain·i(t)
//	θ(t) = Threshold + Adaptation·a(t−1)
//	s(t) = 1 if p(t) ≥ θ(t), else 0
//	m(t) = Reset if s(t), else p(t), or m(t) = p(t) − θ(t)·s(t) with SoftReset
//	a(t) = AdaptationDecay·a(t−1) + (1 − AdaptationDecay)·s(t)
//
// Before the first step i, s and a are 0, and m is Start. The equations contain:
//
//   - a current-based synapse, the second decay of CuBa-LIF: SynapticDecay;
//   - a recurrent connection of each neuron to itself: Recurrence;
//   - the adaptive threshold of Bellec et al. 2018: Adaptation and AdaptationDecay;
//   - a leak to a potential other than 0: subtract it from Threshold, Reset and Start.
//
// Each coefficient has one value for each channel, or one for all. Decay and Threshold must
// be set. The others may be nil, which is faster; the value that nil stands for is given
// below. Thresholds that trained coefficients lower to 0 make neurons fire without input.
type GLIF struct {
	SynapticDecay   []float32 // nil: 0
	Recurrence      []float32 // nil: 0
	Gain            []float32 // nil: 1
	Decay           []float32
	Threshold       []float32
	Adaptation      []float32 // nil: 0
	AdaptationDecay []float32 // nil: 0; read if Adaptation is set
	Reset           []float32 // nil: 0; not read with SoftReset
	Start           []float32 // nil: 0
	SoftReset       bool

	// Params are the parameters from which coefficients are computed. If Tape.Params is
	// set, the backward pass of FireGLIFThroughTime calls Chain, which adds the gradients
	// of Params, by [Param.AddGrad], for the given gradients of the coefficients.
	Params []*Param
	Chain  func(GLIFGrads)
}

// GLIFGrads are the gradients of the coefficients of the same names. Each has the length of
// its coefficient, and is nil if that is nil. Reset has the gradient 0 at a soft reset. They
// are valid during the call of GLIF.Chain.
type GLIFGrads struct {
	SynapticDecay, Recurrence, Gain, Decay, Threshold, Adaptation, AdaptationDecay, Reset []float64
}

// glifCoefficients is the number of coefficients of a GLIF.
const glifCoefficients = 9

// pad sets k to the coefficients for c channels in whole blocks. Their memory is buf
// [glifCoefficients][⌈c/16⌉][16].
func (n *GLIF) pad(k *kernel.GLIF, op string, c int, buf []float32) {
	*k = kernel.GLIF{Soft: n.SoftReset}
	size := roundUp(c)
	for _, e := range []struct {
		name string
		src  []float32
		dst  *[]float32
		pad  float32 // for channels that do not exist: they must not fire
		must bool
	}{
		{"SynapticDecay", n.SynapticDecay, &k.SynapticDecay, 0, false},
		{"Recurrence", n.Recurrence, &k.Recurrence, 0, false},
		{"Gain", n.Gain, &k.Gain, 1, false},
		{"Decay", n.Decay, &k.Decay, 0, true},
		{"Threshold", n.Threshold, &k.Threshold, 1, true},
		{"Adaptation", n.Adaptation, &k.Adaptation, 0, false},
		{"AdaptationDecay", n.AdaptationDecay, &k.AdaptationDecay, 0, false},
		{"Reset", n.Reset, &k.Reset, 0, false},
		{"Start", n.Start, &k.Start, 0, false},
	} {
		if e.src == nil && !e.must {
			continue
		}
		if len(e.src) != 1 && len(e.src) != c {
			panic(fmt.Sprintf("autograd: %s: %d values of %s for %d channels: expected %d or 1", op, len(e.src), e.name, c, c))
		}
		*e.dst, buf = buf[:size], buf[size:]
		for i := range *e.dst {
			switch {
			case i >= c:
				(*e.dst)[i] = e.pad
			case len(e.src) == 1:
				(*e.dst)[i] = e.src[0]
			default:
				(*e.dst)[i] = e.src[i]
			}
		}
	}
}

// pad sets k to the padded coefficients of n and returns the value that holds their memory.
func (t *Tape) pad(k *kernel.GLIF, op string, n *GLIF, c int) *Value {
	v := t.NewDense(tensor.Shape{N: glifCoefficients, Steps: 1, C: c, H: 1, W: 1}, false)
	n.pad(k, op, c, v.dense)
	return v
}

// glifNeurons are GLIF neurons with padded coefficients, for fire.
type glifNeurons kernel.GLIF

func (n *glifNeurons) forward(s []uint16, x []float32, norm kernel.Norm, sc kernel.Scan, threads int) bool {
	return kernel.GLIFForward(s, x, norm, (*kernel.GLIF)(n), sc, nil, threads)
}

// glifThroughTime keeps what throughTime keeps, and the coefficients.
type glifThroughTime struct {
	from         source
	in, y        *Value // in are the currents
	neurons      GLIF
	coefficients *kernel.GLIF
	surrogate    Surrogate
	detach       bool
	stepwise     bool // see FireGLIFStepwise
	trains       bool
	support      *Value // the result of need, or nil before its first call
}

// FireGLIFThroughTime runs GLIF neurons on the input currents x for the given number of
// steps and returns their spikes. Steps, the backward pass and detach are as in
// [FireThroughTime]. detach leaves out the spike of the reset alone: gradients still pass
// through recurrence and adaptation. The backward pass also computes the gradients of the
// coefficients, see GLIF.Params. Start counts as a constant.
//
// FireGLIFThroughTime panics if a coefficient has a wrong number of values.
func FireGLIFThroughTime(t *Tape, x *Value, n GLIF, steps int, s Surrogate, detach bool) *Value {
	op := glifThroughTime{neurons: n, surrogate: s, detach: detach, trains: t.Params && len(n.Params) > 0}
	return t.fireGLIF("FireGLIFThroughTime", x, op, steps)
}

// FireGLIFStepwise runs GLIF neurons as FireGLIFThroughTime does. In the backward pass each step
// counts alone: no gradient passes from one step to another. The gradient of the currents is
// the mean over time, the same at every step:
//
//	∂x(t) = Gain·(1/T)·Σ_t' ∂s(t')·s'(p(t') − θ(t'))
//
// It has one step. If x has one step, it is the sum, T times as much. The coefficients get no
// gradient.
func FireGLIFStepwise(t *Tape, x *Value, n GLIF, steps int, s Surrogate) *Value {
	return t.fireGLIF("FireGLIFStepwise", x, glifThroughTime{neurons: n, surrogate: s, stepwise: true}, steps)
}

// fireGLIF runs the neurons of op on x, and records op with its settings.
func (t *Tape) fireGLIF(name string, x *Value, op glifThroughTime, steps int) *Value {
	in := x
	x = t.currents(name, x, steps)
	from := t.source(x)
	k := new(kernel.GLIF)
	memory := t.pad(k, name, &op.neurons, x.shape.C)
	needsGrad := x.needsGrad || op.trains
	y := fire(t, from, (*glifNeurons)(k), steps, needsGrad, needsGrad)
	if needsGrad {
		op.from, op.in, op.y, op.coefficients = from, x, y, k
		y.maker = &op
		t.Record(&op, from.x, y, memory)
	}
	t.Release(memory)
	t.letGo(x, in)
	return y
}

func (o *glifThroughTime) Output() *Value { return o.y }

// UsesParam reports whether coefficients are computed from p. See [Op].
func (o *glifThroughTime) UsesParam(p *Param) bool {
	for _, q := range o.neurons.Params {
		if p == q {
			return true
		}
	}
	return false
}

// need implements needer. The gradient of a spike is needed where the surrogate derivative
// is not zero. The largest threshold of the channels decides whether the surrogate is narrow.
func (o *glifThroughTime) need(t *Tape, steps int) []uint16 {
	width, ok := narrow(o.surrogate, slices.Max(o.neurons.Threshold))
	if !ok || steps < o.y.shape.Steps {
		return nil
	}
	if o.support == nil {
		o.support = t.NewSpikes(o.y.shape, false)
		kernel.GLIFSupport(o.support.spikes, t.Floats(o.from.x), o.from.norm, o.coefficients, scanOf(o.from.x.shape, o.y.shape.Steps), width, t.Threads)
	}
	return o.support.spikes
}

// Backward runs the recursion that kernel.GLIFBackward documents.
func (o *glifThroughTime) Backward(t *Tape) {
	if o.support != nil {
		t.drop(o.support)
	}
	x := o.from.x
	dy, steps := t.Grad(o.y)
	surrogate, check := t.watch(o.surrogate)
	defer check()
	g := kernel.GLIFGrad{
		GLIF: *o.coefficients, Scan: scanOf(x.shape, o.y.shape.Steps), Norm: o.from.norm,
		X: t.Floats(x), Spikes: t.Words(o.y), Dout: dy, DoutSteps: steps,
		Surrogate: surrogate, Detach: o.detach, Stepwise: o.stepwise,
	}
	var sums *kernel.GLIFSums
	if o.trains {
		sums = kernel.NewGLIFSums(x.shape.Blocks())
	}
	to := x
	if o.from.bn != nil { // the gradient goes to batch norm's own Backward
		to, g.Unscaled = o.in, true
	}
	if to.needsGrad {
		gradSteps := x.shape.Steps
		if o.stepwise {
			gradSteps = 1
		}
		s := t.OpenGradOver(to, o.y, gradSteps)
		kernel.GLIFBackward(s.Data, sums, g, s.Add, t.Threads)
		t.CloseGrad(s)
	} else {
		kernel.GLIFBackward(nil, sums, g, false, t.Threads)
	}
	if o.trains {
		o.neurons.chain(sums, x.shape.C)
	}
}

// chain calls Chain with the gradients of the coefficients of c channels.
func (n *GLIF) chain(s *kernel.GLIFSums, c int) {
	of := func(coefficient []float32, sums []float64) []float64 {
		switch {
		case coefficient == nil:
			return nil
		case len(coefficient) == c:
			return sums[:c]
		}
		var all float64
		for _, v := range sums[:c] {
			all += v
		}
		return []float64{all}
	}
	n.Chain(GLIFGrads{
		SynapticDecay:   of(n.SynapticDecay, s.SynapticDecay),
		Recurrence:      of(n.Recurrence, s.Recurrence),
		Gain:            of(n.Gain, s.Gain),
		Decay:           of(n.Decay, s.Decay),
		Threshold:       of(n.Threshold, s.Threshold),
		Adaptation:      of(n.Adaptation, s.Adaptation),
		AdaptationDecay: of(n.AdaptationDecay, s.AdaptationDecay),
		Reset:           of(n.Reset, s.Reset),
	})
}

// FireGLIFThroughRate runs neurons as FireGLIFThroughTime does, with the backward pass of
// [FireThroughRate]. The coefficients get no gradient.
func FireGLIFThroughRate(t *Tape, x *Value, n GLIF, steps int) *Value {
	const name = "FireGLIFThroughRate"
	k := new(kernel.GLIF)
	memory := t.pad(k, name, &n, x.shape.C)
	y := rate(t, name, x, (*glifNeurons)(k), steps)
	t.Release(memory)
	return y
}

// GLIFState is what a layer of GLIF neurons carries from one step to the next.
type GLIFState struct {
	shape  tensor.Shape // with one step
	state  *kernel.GLIFState
	padded kernel.GLIF // of the last call
	buf    []float32   // memory of padded
}

// NewGLIFState returns the state of neurons before the first step. sh is the shape of their
// currents, with any number of steps.
func NewGLIFState(n GLIF, sh tensor.Shape) *GLIFState {
	s := &GLIFState{shape: sh.WithSteps(1), buf: make([]float32, glifCoefficients*roundUp(sh.C))}
	n.pad(&s.padded, "NewGLIFState", sh.C, s.buf)
	s.state = kernel.NewGLIFState(&s.padded, scanOf(s.shape, 1))
	return s
}

// Clear makes s the state before the first step.
func (s *GLIFState) Clear(n GLIF) {
	n.pad(&s.padded, "GLIFState.Clear", s.shape.C, s.buf)
	s.state.Clear(&s.padded, scanOf(s.shape, 1))
}

// Membrane returns the membrane potentials m. They share the memory of s.
func (s *GLIFState) Membrane() *tensor.Dense {
	return &tensor.Dense{Shape: s.shape, Data: s.state.Membrane}
}

// FireGLIFSteps runs GLIF neurons for the given number of steps, from a state that it updates,
// and returns their spikes. No gradient passes through. Calls that continue each other give
// the bits of one call for all steps, and those of FireGLIFThroughTime.
//
// FireGLIFSteps panics if the shapes of x and state differ in more than steps, or if a coefficient
// has a wrong number of values. It also panics if the state is that of neurons with other
// coefficients set.
func FireGLIFSteps(t *Tape, x *Value, n GLIF, steps int, state *GLIFState) *Value {
	const name = "FireGLIFSteps"
	in := x
	x = t.currents(name, x, steps)
	if x.shape.WithSteps(1) != state.shape {
		panic(fmt.Sprintf("autograd: %s: a state of shape %v for currents %v", name, state.shape, x.shape))
	}
	from := t.source(x)
	n.pad(&state.padded, name, x.shape.C, state.buf)
	if !state.state.Fits(&state.padded) {
		panic(fmt.Sprintf("autograd: %s: a state of neurons with other coefficients set: expected one that NewGLIFState returned for these", name))
	}
	y := t.NewSpikes(x.shape.WithSteps(steps), false)
	if !kernel.GLIFForward(y.spikes, t.floats(from.x), from.norm, &state.padded, scanOf(x.shape, steps), state.state, t.Threads) {
		t.MarkNonFinite()
	}
	t.letGo(x, in)
	return y
}
