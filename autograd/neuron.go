package autograd

import (
	"fmt"
	"sync/atomic"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

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

func (d Dynamics) forward(s []uint16, x []float32, norm kernel.Norm, sc kernel.Scan, threads int) bool {
	return kernel.NeuronForward(s, x, norm, d.kernel(), sc, threads)
}

// Surrogate is a surrogate gradient: it replaces the derivative of the Heaviside step.
//
// A surrogate may also have a method Support() float32. It returns a width w such that the
// derivative is zero for |u| ≥ w. If w is at most 1.25 times the threshold, gradients that
// would be multiplied by zero are then not computed. Otherwise too few of them are zero for a
// gain. Both ways give the same gradients but for rounding.
type Surrogate interface {
	// Derivative writes the surrogate derivative at u to dst, where u is the membrane
	// potential minus the threshold. dst has the length of u and may be u.
	Derivative(dst, u []float32)
}

// BlockSurrogate is a Surrogate whose derivative at a neuron may depend on the neuron itself, and
// on other neurons of the same image and block of 16 channels. [FireThroughTime],
// [FireGLIFThroughTime], [FireGLIFStepwise] and [FireGLIFRecurrent] call BlockDerivative in place
// of Derivative. The other operations on neurons take none.
type BlockSurrogate interface {
	Surrogate
	// BlockDerivative overwrites u by the derivatives at u. u has the layout [T][H·W][16] and
	// belongs to a block of channels of an image. If H·W is 1, it belongs to all blocks of the
	// image, [⌈C/16⌉][T][1][16], and block is 0. Channels beyond C count as neurons that receive
	// nothing. A backward pass calls it once for each of these parts, from several goroutines.
	BlockDerivative(u []float32, image, block int)
}

// watched is a Surrogate that notes whether a derivative is not finite.
type watched struct {
	Surrogate
	bad atomic.Bool
}

// watchedBlocks is watched for a BlockSurrogate.
type watchedBlocks struct {
	*watched
	blocks BlockSurrogate
}

func (w watchedBlocks) BlockDerivative(u []float32, image, block int) {
	w.blocks.BlockDerivative(u, image, block)
	w.note(u)
}

func (w *watched) Derivative(dst, u []float32) {
	w.Surrogate.Derivative(dst, u)
	w.note(dst)
}

func (w *watched) note(d []float32) {
	if !kernel.Finite(d, 1) {
		w.bad.Store(true)
	}
}

// watch returns s for a backward pass, and a function that then fails the pass if a derivative
// was not finite. Those of a triangle, which kernels compute themselves, are.
func (t *Tape) watch(s Surrogate) (Surrogate, func()) {
	b, ofBlocks := s.(BlockSurrogate)
	if _, ok := s.(kernel.Triangle); ok && !ofBlocks {
		return s, func() {}
	}
	w := &watched{Surrogate: s}
	check := func() {
		if w.bad.Load() {
			t.Fail(fmt.Errorf("surrogate %v: a derivative is NaN or infinite: expected a finite number", s))
		}
	}
	if ofBlocks {
		return watchedBlocks{w, b}, check
	}
	return w, check
}

// FireStep runs neurons on the input currents x for the steps of x, and returns their spikes.
// The neurons start from the membrane potentials m, of the shape of x with one step, and
// leave theirs there. Zeros are the potentials before the first step. No gradient passes
// through.
//
// Calls that continue each other give the bits of one call of FireThroughTime for all steps.
// FireStep panics if the shapes do not fit.
func FireStep(t *Tape, x *Value, d Dynamics, m *tensor.Dense) *Value {
	in := x
	x = t.currents("FireStep", x, x.shape.Steps)
	if m.Shape != x.shape.WithSteps(1) {
		panic(fmt.Sprintf("autograd: FireStep: potentials %v for currents %v", m.Shape, x.shape))
	}
	from := t.source(x)
	y := t.NewSpikes(x.shape, false)
	if !kernel.NeuronStep(y.spikes, t.floats(from.x), from.norm, d.kernel(), scanOf(x.shape, x.shape.Steps), m.Data, t.Threads) {
		t.nonFinite = true
	}
	t.letGo(x, in)
	return y
}

// throughTime keeps what the currents are computed from, and the spikes. Its backward pass
// computes the membrane potentials again.
type throughTime struct {
	from      source
	in, y     *Value // in are the currents
	dynamics  Dynamics
	surrogate Surrogate
	detach    bool
	support   *Value // the result of need, or nil before its first call
}

// currents returns x as the dense input currents of neurons. It panics if x has a number of
// steps other than steps or 1.
func (t *Tape) currents(op string, x *Value, steps int) *Value {
	x.mustBeOwned(op)
	if sh := x.shape; sh.Steps != 1 && sh.Steps != steps {
		panic(fmt.Sprintf("autograd: %s: neurons of %d steps for currents %v", op, steps, sh))
	}
	return Densify(t, x)
}

// scanOf returns the extent of neurons with currents of the given shape.
func scanOf(x tensor.Shape, steps int) kernel.Scan {
	return kernel.Scan{Units: x.Blocks() * x.N, Images: x.N, Pixels: x.Pixels(), Steps: steps, CurrentSteps: x.Steps}
}

// FireThroughTime runs neurons on the input currents x for the given number of steps and
// returns their spikes. x has that number of steps, or one.
//
// The backward pass is backpropagation through time (BPTT) with the surrogate s in place of
// the derivative of the spike. It includes the derivative of the reset unless detach is
// set. FireThroughTime keeps x for the backward pass; if x is the output of batch norm, it
// keeps batch norm's input instead.
func FireThroughTime(t *Tape, x *Value, d Dynamics, steps int, s Surrogate, detach bool) *Value {
	in := x
	x = t.currents("FireThroughTime", x, steps)
	from := t.source(x)
	y := fire(t, from, d, steps, x.needsGrad, x.needsGrad)
	if y.needsGrad {
		op := &throughTime{from: from, in: x, y: y, dynamics: d, surrogate: s, detach: detach}
		y.maker = op
		t.Record(op, from.x, y)
	}
	t.letGo(x, in)
	return y
}

func (o *throughTime) Output() *Value { return o.y }

// need implements needer. The gradient of a spike is needed where the surrogate derivative
// is not zero.
func (o *throughTime) need(t *Tape, steps int) []uint16 {
	width, ok := narrow(o.surrogate, o.dynamics.Threshold)
	if !ok || steps < o.y.shape.Steps {
		return nil
	}
	if o.support == nil {
		o.support = t.NewSpikes(o.y.shape, false)
		kernel.NeuronSupport(o.support.spikes, t.Floats(o.from.x), o.from.norm, o.dynamics.kernel(), scanOf(o.from.x.shape, o.y.shape.Steps), width, t.Threads)
	}
	return o.support.spikes
}

// Backward runs the recursion that kernel.NeuronBackward documents.
func (o *throughTime) Backward(t *Tape) {
	dy, steps := t.Grad(o.y)
	o.back(t, dy, steps, nil)
}

// back is Backward for the gradient dy of the spikes, or of their average pooling.
func (o *throughTime) back(t *Tape, dy []float32, steps int, pool *kernel.Pool) {
	if o.support != nil {
		t.drop(o.support)
	}
	x := o.from.x
	surrogate, check := t.watch(o.surrogate)
	defer check()
	g := kernel.NeuronGrad{
		Neuron: o.dynamics.kernel(), Scan: scanOf(x.shape, o.y.shape.Steps), Norm: o.from.norm,
		X: t.Floats(x), Spikes: t.Words(o.y),
		Dout: dy, DoutSteps: steps, Pool: pool,
		Surrogate: surrogate, Detach: o.detach,
	}
	if o.from.bn != nil {
		t.backNorm(o, g)
		return
	}
	s := t.OpenGradOver(x, o.y, x.shape.Steps)
	kernel.NeuronBackward(s.Data, g, s.Add, t.Threads)
	t.CloseGrad(s)
}

// throughRate keeps one bit for each neuron: whether it fired at any step.
type throughRate struct {
	from  source
	in, y *Value
	fired *Value // [C/16][N][H][W]
}

// FireThroughRate runs neurons as FireThroughTime does. The backward pass goes through the
// firing rate (BPTR, Ding et al. 2022): at every step ∂x(t) = ∂y(t) if the neuron fired at
// least once, else ∂x(t) = 0. A gradient of one step stays at one step.
func FireThroughRate(t *Tape, x *Value, d Dynamics, steps int) *Value {
	return rate(t, "FireThroughRate", x, d, steps)
}

// rate runs neurons on their currents x, with a backward pass through the firing rate.
func rate[N neurons](t *Tape, name string, x *Value, n N, steps int) *Value {
	in := x
	x = t.currents(name, x, steps)
	from := t.source(x)
	y := fire(t, from, n, steps, x.needsGrad, false)
	if y.needsGrad {
		op := &throughRate{from: from, in: x, y: y, fired: t.NewSpikes(x.shape.WithSteps(1), false)}
		kernel.Fired(op.fired.spikes, y.spikes, scanOf(x.shape, steps), t.Threads)
		y.maker = op
		t.Record(op)
	}
	t.letGo(x, in)
	return y
}

func (o *throughRate) Output() *Value { return o.y }

// need implements needer. The gradient of the rate is needed where the neuron fired.
func (o *throughRate) need(t *Tape, steps int) []uint16 {
	if steps > 1 {
		return nil
	}
	return t.Words(o.fired)
}

func (o *throughRate) Backward(t *Tape) {
	sh, scale := o.y.shape, float32(1)
	g, steps := t.Grad(o.y)
	if o.from.x.shape.Steps < sh.Steps {
		if steps > 1 {
			g, steps = t.sumGrad(o.y), 1
		} else {
			scale = float32(sh.Steps)
		}
	}
	// Constants of batch norm are applied here. With the statistics of a batch, the
	// gradient goes to batch norm's own Backward.
	to, a := o.from.x, o.from.norm.A
	if o.from.bn != nil {
		to, a = o.in, nil
	}
	s := t.OpenGradOver(to, o.y, steps)
	kernel.Gate(s.Data, g, t.Words(o.fired), a, scale, sh.Blocks()*sh.N, sh.N, steps, sh.Pixels(), s.Add, t.Threads)
	t.CloseGrad(s)
}
