package autograd

import "github.com/org/snnrat/internal/kernel"

// Dynamics is the rule of a spiking neuron over discrete steps,
//
//	m ← Decay·m + x(t),  s(t) = 1[m ≥ Threshold],  m ← m·(1 − s(t)),
//
// with m = 0 at first; a soft reset takes m ← m − Threshold·s(t) instead. Decay is in
// (0,1], 1 for the IF neuron; Threshold is positive.
type Dynamics struct {
	Decay, Threshold float32
	SoftReset        bool
}

func (d Dynamics) kernel() kernel.Neuron {
	return kernel.Neuron{Decay: d.Decay, Threshold: d.Threshold, Soft: d.SoftReset}
}

// Surrogate stands in for the derivative of the Heaviside step. One that is zero where |u|
// is some width or more may tell so by a method Support() float32 that returns it: the
// gradients that are multiplied by zeros then need not be computed.
type Surrogate interface {
	// Derivative writes the surrogate derivative at u, the membrane potential minus
	// the threshold, to dst, which has u's length and may be u.
	Derivative(dst, u []float32)
}

// throughTime keeps the currents' source and the spikes; its backward recomputes the
// membrane potentials by the same scan.
type throughTime struct {
	currents
	in, y     *Value
	dynamics  Dynamics
	surrogate Surrogate
	detach    bool
	support   *Value // once it was asked for
}

// FireThroughTime runs neurons on the currents x for the given number of steps, and
// returns their spikes. Gradients go back through time (BPTT) with the surrogate in
// place of ∂s/∂m; unless detach is set, the reset carries gradient too. Currents
// that are the same at every step are kept once, and those that batch norm makes are
// not kept: its input is.
func FireThroughTime(t *Tape, x *Value, d Dynamics, steps int, s Surrogate, detach bool) *Value {
	if x.spikes != nil {
		x = Densify(t, x)
	}
	op := &throughTime{currents: t.take(x, steps), in: x, dynamics: d, surrogate: s, detach: detach}
	if !x.needsGrad {
		op.y = t.fireOnce(&op.currents, d, false)
		return op.y
	}
	t.read(op.x)
	op.y = t.fire(&op.currents, d, true)
	op.y.maker = op
	t.keep(op.x)
	t.keep(op.y)
	t.record(op)
	return op.y
}

func (o *throughTime) Output() *Value { return o.y }

// need implements needer: the gradient of a spike counts where the surrogate's
// derivative is not zero.
func (o *throughTime) need(t *Tape, steps int) []uint16 {
	c, ok := o.surrogate.(kernel.Compact)
	if !ok || steps < o.y.shape.Steps {
		return nil
	}
	if o.support == nil {
		o.support = t.spikes(o.y.shape, false)
		kernel.NeuronSupport(o.support.spikes, o.x.dense, o.norm, o.dynamics.kernel(), o.scan, c.Support(), t.Threads)
	}
	return o.support.spikes
}

// Backward is kernel.NeuronBackward's recursion.
func (o *throughTime) Backward(t *Tape) {
	if o.support != nil {
		t.drop(o.support)
	}
	g := kernel.NeuronGrad{
		Neuron: o.dynamics.kernel(), Scan: o.scan, Norm: o.norm,
		X: o.x.dense, Spikes: o.y.spikes,
		Dout: o.y.grad, DoutSteps: o.y.gradSteps, Pool: o.y.gradPool,
		Surrogate: o.surrogate, Detach: o.detach,
	}
	if o.train == nil {
		s := t.openIn(o.x, o.y, o.x.shape.Steps)
		kernel.NeuronBackward(s.buf, g, s.add, t.Threads)
		t.close(s)
	} else {
		o.backNorm(t, g)
	}
	t.drop(o.x)
	t.drop(o.y)
}

// backNorm writes the gradient of batch norm's output, which was never computed, and
// tells batch norm the sums that it will want.
func (o *throughTime) backNorm(t *Tape, g kernel.NeuronGrad) {
	bn := o.train
	sums := newNormSums(len(bn.mean))
	s := t.openIn(o.in, o.y, o.x.shape.Steps)
	dst := s.buf
	if s.add {
		dst = t.arena.Floats(len(s.buf))
	}
	kernel.NeuronNormBackward(dst, sums.sum, sums.dot, g, bn.mean, bn.inv, t.Threads)
	if s.add {
		kernel.AXPY(s.buf, 1, dst, true, t.Threads)
		t.arena.FreeFloats(dst)
		sums = nil
	}
	first := o.in.grad == nil
	t.close(s)
	if first {
		o.in.sums = sums
	}
}

// throughRate keeps one bit a neuron: whether it fired.
type throughRate struct {
	currents
	in, y *Value
	fired *Value // [C/16][N][H][W]
}

// FireThroughRate runs neurons as FireThroughTime does. Gradients go back through
// the firing rate (BPTR): at every step ∂x(t) = ∂y(t) where the neuron fired at least
// once, and zero elsewhere (Ding et al. 2022). A gradient that is the same at every
// step stays so.
func FireThroughRate(t *Tape, x *Value, d Dynamics, steps int) *Value {
	if x.spikes != nil {
		x = Densify(t, x)
	}
	op := &throughRate{currents: t.take(x, steps), in: x}
	op.y = t.fireOnce(&op.currents, d, x.needsGrad)
	if x.needsGrad {
		op.fired = t.spikes(x.shape.WithSteps(1), false)
		kernel.Fired(op.fired.spikes, op.y.spikes, op.scan, t.Threads)
		op.y.maker = op
	}
	t.record(op)
	return op.y
}

func (o *throughRate) Output() *Value { return o.y }

// need implements needer: the gradient of the rate counts where the neuron fired.
func (o *throughRate) need(_ *Tape, steps int) []uint16 {
	if steps > 1 {
		return nil
	}
	return o.fired.spikes
}

func (o *throughRate) Backward(t *Tape) {
	sh, scale := o.y.shape, float32(1)
	if o.x.shape.Steps < sh.Steps {
		if o.y.gradSteps > 1 {
			t.sumGrad(o.y)
		} else {
			scale = float32(sh.Steps)
		}
	}
	// Batch norm's constants are part of this; its statistics are its own business.
	to, a := o.x, o.norm.A
	if o.train != nil {
		to, a = o.in, nil
	}
	g, steps := o.y.grad, o.y.gradSteps
	s := t.openIn(to, o.y, steps)
	kernel.Gate(s.buf, g, o.fired.spikes, a, scale, sh.Blocks()*sh.N, sh.N, steps, sh.Pixels(), s.add, t.Threads)
	t.close(s)
}
