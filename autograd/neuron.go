package autograd

import "github.com/org/snnrat/internal/kernel"

// Dynamics are the parameters of a spiking neuron. At every step t the neuron updates its
// membrane potential m with the input current x(t) and emits the spike s(t):
//
//	m ← Decay·m + x(t),  s(t) = 1[m ≥ Threshold],  m ← m·(1 − s(t))
//
// Before the first step m is 0. If SoftReset is set, the reset is m ← m − Threshold·s(t)
// instead. Decay is in (0,1]; it is 1 for the integrate-and-fire (IF) neuron. Threshold is
// positive.
type Dynamics struct {
	Decay, Threshold float32
	SoftReset        bool
}

func (d Dynamics) kernel() kernel.Neuron {
	return kernel.Neuron{Decay: d.Decay, Threshold: d.Threshold, Soft: d.SoftReset}
}

// Surrogate is a surrogate gradient: it replaces the derivative of the Heaviside step.
//
// A surrogate may also have a method Support() float32. It returns a width w such that the
// derivative is zero for |u| ≥ w. Gradients that would be multiplied by zero are then not
// computed.
type Surrogate interface {
	// Derivative writes the surrogate derivative at u to dst, where u is the membrane
	// potential minus the threshold. dst has the length of u and may be u.
	Derivative(dst, u []float32)
}

// throughTime keeps the input of the currents and the spikes. Its backward pass computes
// the membrane potentials again.
type throughTime struct {
	currents
	in, y     *Value
	dynamics  Dynamics
	surrogate Surrogate
	detach    bool
	support   *Value // the result of need, or nil before its first call
}

// FireThroughTime runs neurons on the input currents x for the given number of steps and
// returns their spikes. x has that number of steps, or one.
//
// The backward pass is backpropagation through time (BPTT) with the surrogate s in place of
// the derivative of the spike. It includes the derivative of the reset unless detach is
// set. FireThroughTime keeps x for the backward pass; if x is the output of batch norm, it
// keeps batch norm's input instead.
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

// need implements needer. The gradient of a spike is needed where the surrogate derivative
// is not zero.
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

// Backward runs the recursion that kernel.NeuronBackward documents.
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

// backNorm writes the gradient of batch norm's output, although the output itself was never
// computed. In the same pass it computes the sums that batch norm's Backward needs.
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

// throughRate keeps one bit for each neuron: whether it fired at any step.
type throughRate struct {
	currents
	in, y *Value
	fired *Value // [C/16][N][H][W]
}

// FireThroughRate runs neurons as FireThroughTime does. The backward pass goes through the
// firing rate (BPTR, Ding et al. 2022): at every step ∂x(t) = ∂y(t) if the neuron fired at
// least once, else ∂x(t) = 0. A gradient of one step stays at one step.
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

// need implements needer. The gradient of the rate is needed where the neuron fired.
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
	// Constants of batch norm are applied here. With the statistics of a batch, the
	// gradient goes to batch norm's own Backward.
	to, a := o.x, o.norm.A
	if o.train != nil {
		to, a = o.in, nil
	}
	g, steps := o.y.grad, o.y.gradSteps
	s := t.openIn(to, o.y, steps)
	kernel.Gate(s.buf, g, o.fired.spikes, a, scale, sh.Blocks()*sh.N, sh.N, steps, sh.Pixels(), s.add, t.Threads)
	t.close(s)
}
