package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
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

// currents is what neurons integrate: the data of x by way of norm.
type currents struct {
	x    *Value
	norm kernel.Norm
	// If not nil, x is batch norm's input in training, and norm depends on it.
	train *batchNormTrain
	scan  kernel.Scan
}

// take takes over the batch norm that y waits for, unless its constants are to be
// trained.
func (t *Tape) take(y *Value, steps int) currents {
	sh := y.shape
	if y.spikes != nil || (sh.Steps != 1 && sh.Steps != steps) {
		panic(fmt.Sprintf("autograd: neurons of %d steps need dense currents, got %v", steps, sh))
	}
	c := currents{x: y, scan: kernel.Scan{
		Units: sh.Blocks() * sh.N, Images: sh.N, Pixels: sh.Pixels(), Steps: steps, CurrentSteps: sh.Steps,
	}}
	if n, ok := y.deferred.(*normalized); ok && (n.train != nil || !t.Params) {
		c.x, c.norm, c.train = n.x, n.norm, n.train
	}
	return c
}

// fire runs neurons on their currents.
func (t *Tape) fire(c *currents, d Dynamics, needsGrad bool) *Value {
	s := t.spikes(c.x.shape.WithSteps(c.scan.Steps), needsGrad)
	kernel.NeuronForward(s.spikes, c.x.dense, c.norm, d.kernel(), c.scan, t.Threads)
	return s
}

// cached is the size of the currents that a layer computes at a time if nobody needs
// them again, in floats: 8 MB, which stay in cache.
const cached = 1 << 21

// fireOnce is fire where nobody needs the currents again. A convolution that is still
// to be run is run on some images at a time.
func (t *Tape) fireOnce(c *currents, d Dynamics, needsGrad bool) *Value {
	op, ok := c.x.deferred.(*conv2D)
	out := c.x.shape
	part := max(1, out.N*cached/out.Floats()) // images
	if !ok || part >= out.N {
		t.read(c.x)
		return t.fire(c, d, needsGrad)
	}
	in := op.x.shape
	s := t.spikes(out.WithSteps(c.scan.Steps), needsGrad)
	for lo := 0; lo < out.N; lo += part {
		n := min(part, out.N-lo)
		some := func(sh tensor.Shape) tensor.Shape { sh.N = n; return sh }
		geom, scan := op.geom, c.scan
		geom.Frames = n * in.Steps
		scan.Units, scan.Images = out.Blocks()*n, n

		var x []float32
		var spikes []uint16
		if op.x.spikes != nil {
			spikes = t.arena.Words(some(in).Words())
			takeImages(spikes, op.x.spikes, in, lo, n, 1)
		} else {
			x = t.arena.Floats(some(in).Floats())
			takeImages(x, op.x.dense, in, lo, n, tensor.Lanes)
		}
		cur, fired := t.arena.Floats(some(out).Floats()), t.arena.Words(some(s.shape).Words())
		op.run(t, cur, x, spikes, geom)
		kernel.NeuronForward(fired, cur, c.norm, d.kernel(), scan, t.Threads)
		putImages(s.spikes, fired, s.shape, lo, n)
		t.arena.FreeFloats(x)
		t.arena.FreeFloats(cur)
		t.arena.FreeWords(spikes)
		t.arena.FreeWords(fired)
	}
	return s
}

// takeImages copies n images from image lo on out of src, which has the shape sh.
func takeImages[E any](dst, src []E, sh tensor.Shape, lo, n, lanes int) {
	image := sh.Steps * sh.Pixels() * lanes
	for b := range sh.Blocks() {
		copy(dst[b*n*image:], src[(b*sh.N+lo)*image:][:n*image])
	}
}

// putImages copies spikes of n images to image lo and on of dst, which has the shape
// sh.
func putImages(dst, src []uint16, sh tensor.Shape, lo, n int) {
	image := sh.Steps * sh.Pixels()
	for b := range sh.Blocks() {
		copy(dst[(b*sh.N+lo)*image:], src[b*n*image:][:n*image])
	}
}

// throughTime keeps the currents' source and the spikes; its backward recomputes the
// membrane potentials by the same scan.
type throughTime struct {
	currents
	in, y     *Value
	dynamics  Dynamics
	surrogate Surrogate
	detach    bool
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
	t.keep(op.x)
	t.keep(op.y)
	t.record(op)
	return op.y
}

func (o *throughTime) Output() *Value { return o.y }

// Backward is kernel.NeuronBackward's recursion.
func (o *throughTime) Backward(t *Tape) {
	g := kernel.NeuronGrad{
		Neuron: o.dynamics.kernel(), Scan: o.scan, Norm: o.norm,
		X: o.x.dense, Spikes: o.y.spikes,
		Dout: o.y.grad, DoutSteps: o.y.gradSteps,
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
