package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
)

// Dynamics is the rule of a spiking neuron over discrete steps,
//
//	m ← Leak·m + x(t),  s(t) = 1[m ≥ Threshold],  m ← m·(1 − s(t)),
//
// with m = 0 at first; a soft reset takes m ← m − Threshold·s(t) instead. Leak is in
// (0,1], 1 for the IF neuron; Threshold is positive.
type Dynamics struct {
	Leak, Threshold float32
	SoftReset       bool
}

func (d Dynamics) kernel() kernel.Neuron {
	return kernel.Neuron{Leak: d.Leak, Threshold: d.Threshold, Soft: d.SoftReset}
}

// Surrogate stands in for the derivative of the Heaviside step.
type Surrogate interface {
	// Derivative writes the surrogate derivative at u, the membrane potential minus
	// the threshold, to dst, which has u's length and may be u.
	Derivative(dst, u []float32)
}

func scan(x *Value, steps int) kernel.Scan {
	sh := x.shape
	if x.dense == nil || (sh.Steps != 1 && sh.Steps != steps) {
		panic(fmt.Sprintf("autograd: neurons of %d steps need dense currents, got %v", steps, sh))
	}
	return kernel.Scan{Units: sh.Blocks() * sh.N, Images: sh.N, Pixels: sh.Pixels(), Steps: steps, CurrentSteps: sh.Steps}
}

func (t *Tape) fire(x *Value, d Dynamics, sc kernel.Scan) *Value {
	y := t.spikes(x.shape.WithSteps(sc.Steps), x.needsGrad)
	kernel.NeuronForward(y.spikes, x.dense, kernel.Norm{}, d.kernel(), sc, t.Threads)
	return y
}

// throughTime keeps the currents and the spikes; its backward recomputes the
// membrane potentials by the same scan.
type throughTime struct {
	x, y      *Value
	dynamics  Dynamics
	surrogate Surrogate
	detach    bool
	scan      kernel.Scan
}

// FireThroughTime runs neurons on the currents x for the given number of steps, and
// returns their spikes. Gradients go back through time (BPTT) with the surrogate in
// place of ∂s/∂m; unless detach is set, the reset carries gradient too. Currents
// that are the same at every step are kept once.
func FireThroughTime(t *Tape, x *Value, d Dynamics, steps int, s Surrogate, detach bool) *Value {
	x = Densify(t, x)
	op := &throughTime{x: x, dynamics: d, surrogate: s, detach: detach, scan: scan(x, steps)}
	op.y = t.fire(x, d, op.scan)
	if x.needsGrad {
		t.keep(x)
		t.keep(op.y)
	}
	t.record(op)
	return op.y
}

func (o *throughTime) Output() *Value { return o.y }

// Backward is kernel.NeuronBackward's recursion.
func (o *throughTime) Backward(t *Tape) {
	s := t.open(o.x, o.x.shape.Steps)
	kernel.NeuronBackward(s.buf, kernel.NeuronGrad{
		Neuron: o.dynamics.kernel(), Scan: o.scan,
		X: o.x.dense, Spikes: o.y.spikes,
		Dout: o.y.grad, DoutSteps: o.y.gradSteps,
		Surrogate: o.surrogate, Detach: o.detach,
	}, s.add, t.Threads)
	t.close(s)
	t.drop(o.x)
	t.drop(o.y)
}

// throughRate keeps one bit a neuron: whether it fired.
type throughRate struct {
	x, y  *Value
	fired *Value // [C/16][N][H][W]
}

// FireThroughRate runs neurons as FireThroughTime does. Gradients go back through
// the firing rate (BPTR): at every step ∂x(t) = ∂y(t) where the neuron fired at least
// once, and zero elsewhere (Ding et al. 2022). A gradient that is the same at every
// step stays so.
func FireThroughRate(t *Tape, x *Value, d Dynamics, steps int) *Value {
	x = Densify(t, x)
	sc := scan(x, steps)
	op := &throughRate{x: x, y: t.fire(x, d, sc)}
	if x.needsGrad {
		op.fired = t.spikes(x.shape.WithSteps(1), false)
		kernel.Fired(op.fired.spikes, op.y.spikes, sc, t.Threads)
	}
	t.record(op)
	return op.y
}

func (o *throughRate) Output() *Value { return o.y }

func (o *throughRate) Backward(t *Tape) {
	sh, scale := o.y.shape, float32(1)
	if o.x.shape.Steps < sh.Steps {
		if o.y.gradSteps > 1 {
			t.sumGrad(o.y)
		} else {
			scale = float32(sh.Steps)
		}
	}
	s := t.open(o.x, o.y.gradSteps)
	kernel.Gate(s.buf, o.y.grad, o.fired.spikes, nil, scale, sh.Blocks()*sh.N, sh.N, s.steps, sh.Pixels(), s.add, t.Threads)
	t.close(s)
}
