package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// currents are the input currents of neurons: norm applied to the data of x.
type currents struct {
	x    *Value
	norm kernel.Norm
	// If train is not nil, x is the input of batch norm in training, and norm depends on x.
	train *batchNormTrain
	scan  kernel.Scan
}

// take returns y as the currents of neurons of the given steps. If y is a deferred batch
// norm, the neurons take it over. The exception is batch norm with running statistics whose
// parameters get a gradient.
func (t *Tape) take(y *Value, steps int) currents {
	y.mustBeOwned("neurons")
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
	if !kernel.NeuronForward(s.spikes, c.x.dense, c.norm, d.kernel(), c.scan, t.Threads) {
		t.nonFinite = true
	}
	return s
}

// cached is the number of currents that fireOnce computes at a time: 8 MB, which stay in
// cache.
const cached = 1 << 21

// fireOnce is fire for currents that no backward pass needs. If they come from a deferred
// convolution, it runs the convolution on a few images at a time.
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
		if !kernel.NeuronForward(fired, cur, c.norm, d.kernel(), scan, t.Threads) {
			t.nonFinite = true
		}
		putImages(s.spikes, fired, s.shape, lo, n)
		t.arena.FreeFloats(x)
		t.arena.FreeFloats(cur)
		t.arena.FreeWords(spikes)
		t.arena.FreeWords(fired)
	}
	return s
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
