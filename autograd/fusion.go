package autograd

import (
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// This file is all there is of fusion. An operation's own file knows that operation alone.
//
// Forward: an operation may defer its output, see deferred. Reading the output computes it.
// Neurons, by source and fire, do the work of what they read instead:
//
//	batch norm → neurons          the currents are A·x + B, computed on the way
//	convolution → neurons         the convolution runs on a few images at a time
//
// Backward: fusedBackward tries the rules below before an operation's Backward. What an
// operation leaves for the next one is in the field fusion of their common value:
//
//	neurons → average pooling     pooling hands its gradient over; neurons spread it
//	neurons → convolution         the input gradient is computed where neurons use it
//	batch norm → neurons          the neurons compute the sums that batch norm needs
//
// To fuse another pattern, add a rule here.
//
// Memory: some values are computed again instead of kept, see recompute.

// fusion is what a value carries for fused operations. It is zero for other values.
type fusion struct {
	// deferred computes the data, or is nil if they are computed.
	deferred deferred
	// conv and norm are the memory of deferred.
	conv conv2D
	norm normalized
	// cheap computes the data again in little time, or is nil. again says to do so in the
	// backward pass, in place of keeping them.
	cheap deferred
	again bool

	// pooled, if not nil, says that the gradient is that of this value's average pooling
	// with this geometry, not yet spread over the windows.
	pooled *kernel.Pool
	// sums, if not nil, are the sums of the gradient that batch norm's backward needs.
	sums *normSums
	// maker is the operation that made the value, if it uses only part of its gradient.
	maker needer
}

// deferred is an operation whose output is computed when it is read.
type deferred interface {
	// compute writes the data of the output y to dst.
	compute(t *Tape, dst []float32)
	// input is the value that compute reads. Its memory is kept until then.
	input() *Value
}

// needer is an operation that does not use every element of its output's gradient.
type needer interface {
	// need returns one bit for each element of a gradient of the given steps, laid out
	// as spikes. The bit is set if the op uses the element. It returns nil if the op uses
	// all of them.
	need(t *Tape, steps int) []uint16
}

// needWidth is the largest width of a surrogate's support, in units of the threshold, for which
// need is worth it. With a wider one, about 0.6 of the elements and more would be needed. To
// compute all of them is then faster. The two ways round differently, so the choice depends on
// the surrogate and the threshold alone. For large layers, kernel.ConvInputGrad then decides for
// each frame.
const needWidth = 1.25

// narrow returns the width of the support of s, and whether need is worth it for neurons with
// that threshold.
func narrow(s Surrogate, threshold float32) (width float32, ok bool) {
	c, ok := s.(kernel.Compact)
	if !ok {
		return 0, false
	}
	width = c.Support()
	return width, width <= needWidth*threshold
}

// later returns a value that d computes when it is read.
func (t *Tape) later(s tensor.Shape, needsGrad bool, d func(y *Value) deferred) *Value {
	y := t.value(s, needsGrad)
	y.deferred = d(y)
	t.keep(y.deferred.input())
	return y
}

// compute computes v's data if they are deferred.
func (t *Tape) compute(v *Value) {
	if d := v.deferred; d != nil {
		v.deferred = nil
		v.dense = t.arena.Floats(v.shape.Floats())
		d.compute(t, v.dense)
		t.drop(d.input())
	}
}

// recompute says that only the backward pass reads v once the forward pass has released it. If it
// is cheap to compute v's data again, and something keeps the spikes that they are computed from,
// they are then let go.
func (t *Tape) recompute(v *Value) { v.again = v.cheap != nil }

// forget lets the data go that the backward pass computes again.
func (t *Tape) forget(v *Value) {
	if !v.again || v.refs == 0 || v.dense == nil || v.cheap.input().refs == 0 {
		return
	}
	t.keep(v.cheap.input())
	t.arena.FreeFloats(v.dense)
	v.dense, v.deferred, v.again = nil, v.cheap, false
}

// plain makes v's gradient an ordinary one, to which another contribution can be added.
func (t *Tape) plain(v *Value) {
	v.sums = nil
	if v.pooled == nil {
		return
	}
	means, geom := v.grad, *v.pooled
	v.grad, v.pooled = t.arena.Floats(v.shape.WithSteps(v.gradSteps).Floats()), nil
	geom.Planes = v.shape.Blocks() * v.shape.N * v.gradSteps
	kernel.AvgPoolGrad(v.grad, means, geom, false, t.Threads)
	t.arena.FreeFloats(means)
}

// fusedBackward runs the backward pass of op by a rule, and reports whether there is one.
func (t *Tape) fusedBackward(op Op) bool {
	switch op := op.(type) {
	case *avgPool:
		return t.poolIntoNeurons(op)
	case *conv2D:
		return t.convWhereNeeded(op)
	case *throughTime:
		return t.neuronsOfPool(op)
	case *batchNormTrain:
		return t.normOfSums(op)
	}
	return false
}

// source is what neurons compute their currents from: norm applied to the data of x.
type source struct {
	x    *Value
	norm kernel.Norm
	// bn is batch norm in training with the input x, or nil. The norm then depends on x.
	bn *batchNormTrain
}

// source returns what neurons read instead of the currents y. That is batch norm's input
// where they do its work, and y itself otherwise. With running statistics, they leave
// batch norm to itself if its parameters get a gradient.
func (t *Tape) source(y *Value) source {
	if n, ok := y.deferred.(*normalized); ok && (n.train != nil || !t.Params) {
		return source{n.x, kernel.Norm{A: n.a, B: n.b}, n.train}
	}
	return source{x: y}
}

// cached is the number of currents that fire computes at a time: 8 MB, which stay in cache.
// Tests set it.
var cached = 1 << 21

// neurons are a rule by which neurons fire.
type neurons interface {
	// forward runs all steps of the neurons. It reports whether their potentials are finite.
	forward(s []uint16, x []float32, norm kernel.Norm, sc kernel.Scan, threads int) bool
}

// fire runs neurons. If they do not read the source again and it is a deferred convolution,
// it runs the convolution on a few images at a time.
func fire[N neurons](t *Tape, from source, neurons N, steps int, needsGrad, again bool) *Value {
	out, scan := from.x.shape, scanOf(from.x.shape, steps)
	s := t.NewSpikes(out.WithSteps(steps), needsGrad)
	op, ok := from.x.deferred.(*conv2D)
	part := max(1, out.N*cached/out.Floats()) // images
	if again || !ok || part >= out.N {
		scanNeurons(t, neurons, s.spikes, t.floats(from.x), from.norm, scan)
		return s
	}
	in := op.x.shape
	for lo := 0; lo < out.N; lo += part {
		n := min(part, out.N-lo)
		some := func(sh tensor.Shape) tensor.Shape { sh.N = n; return sh }
		geom := op.geom
		geom.Frames = n * in.Steps
		scan.Units, scan.Images = out.Blocks()*n, n

		var x []float32
		var spikes []uint16
		if op.x.spikes != nil {
			spikes = t.arena.Words(some(in).Words())
			takeImages(spikes, op.x.spikes, in, lo, n, 1)
		} else {
			x = t.arena.Floats(some(in).Floats())
			takeImages(x, t.floats(op.x), in, lo, n, tensor.Lanes)
		}
		cur, fired := t.arena.Floats(some(out).Floats()), t.arena.Words(some(s.shape).Words())
		op.run(t, cur, x, spikes, geom)
		scanNeurons(t, neurons, fired, cur, from.norm, scan)
		putImages(s.spikes, fired, s.shape, lo, n)
		t.arena.FreeFloats(x)
		t.arena.FreeFloats(cur)
		t.arena.FreeWords(spikes)
		t.arena.FreeWords(fired)
	}
	return s
}

// scanNeurons runs all steps of neurons whose currents are computed.
func scanNeurons[N neurons](t *Tape, n N, s []uint16, x []float32, norm kernel.Norm, sc kernel.Scan) {
	if !n.forward(s, x, norm, sc, t.Threads) {
		t.nonFinite = true
	}
}

// takeImages copies the images lo to lo+n−1 of src, which has shape sh, to dst.
func takeImages[E any](dst, src []E, sh tensor.Shape, lo, n, lanes int) {
	image := sh.Steps * sh.Pixels() * lanes
	for b := range sh.Blocks() {
		copy(dst[b*n*image:], src[(b*sh.N+lo)*image:][:n*image])
	}
}

// putImages copies the spikes of n images to the images lo to lo+n−1 of dst, which has
// shape sh.
func putImages(dst, src []uint16, sh tensor.Shape, lo, n int) {
	image := sh.Steps * sh.Pixels()
	for b := range sh.Blocks() {
		copy(dst[(b*sh.N+lo)*image:], src[b*n*image:][:n*image])
	}
}

// poolIntoNeurons hands pooling's gradient to the neurons that it pools.
func (t *Tape) poolIntoNeurons(o *avgPool) bool {
	if _, ok := o.x.maker.(*throughTime); !ok || o.x.grad != nil || !o.geom.Tiles() {
		return false
	}
	o.x.grad, o.x.gradSteps = t.Grad(o.y)
	o.x.pooled = &o.geom
	o.y.grad = nil
	return true
}

// neuronsOfPool runs the neurons' backward pass on pooling's gradient.
func (t *Tape) neuronsOfPool(o *throughTime) bool {
	pool := o.y.pooled
	if pool == nil {
		return false
	}
	o.back(t, o.y.grad, o.y.gradSteps, pool)
	o.y.pooled = nil
	return true
}

// convWhereNeeded computes a convolution's input gradient where the neurons use it.
func (t *Tape) convWhereNeeded(o *conv2D) bool {
	if !o.x.needsGrad || o.x.maker == nil || !o.geom.CanLeaveOut() {
		return false
	}
	need := o.x.maker.need(t, o.y.gradSteps)
	if need == nil {
		return false
	}
	dy, steps := t.Grad(o.y)
	o.backInput(t, dy, steps, need)
	o.backWeights(t, dy, steps)
	return true
}

// normOfSums runs batch norm's backward pass with the sums that neurons have computed.
func (t *Tape) normOfSums(o *batchNormTrain) bool {
	sums := o.y.sums
	if sums == nil {
		return false
	}
	o.back(t, t.GradEveryStep(o.y), sums)
	return true
}

// backNorm writes the gradient of the output in of batch norm, although in itself was never
// computed. In the same pass it computes the sums that batch norm's backward pass needs.
func (t *Tape) backNorm(o *throughTime, g kernel.NeuronGrad) {
	bn, in := o.from.bn, o.in
	sums := newNormSums(len(bn.mean))
	first := in.grad == nil
	s := t.OpenGradOver(in, o.y, o.from.x.shape.Steps)
	dst := s.Data
	if s.Add {
		dst = t.Scratch(len(s.Data))
	}
	kernel.NeuronNormBackward(dst, sums.sum, sums.dot, g, bn.mean, bn.inv, t.Threads)
	if s.Add {
		kernel.AXPY(s.Data, 1, dst, true, t.Threads)
		t.FreeScratch(dst)
	}
	t.CloseGrad(s)
	if first {
		in.sums = sums
	}
}
