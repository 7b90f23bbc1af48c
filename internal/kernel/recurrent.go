package kernel

import (
	"sync/atomic"

	"github.com/org/snnrat/internal/parallel"
)

// Feedback returns the spikes of a layer of GLIF neurons to the neurons of all channels at the
// same pixel. At step t the current is x(t) + w·s(t−1), with s = 0 before the first step. w are
// the weights of a 1×1 convolution of the given number of channels.
type Feedback struct {
	Weights  []float32 // [⌈Channels/16⌉][16·⌈Channels/16⌉][16]
	Channels int
}

// RecurrentForward is [GLIFForward] for a layer with feedback, without a state.
func RecurrentForward(s []uint16, x []float32, n *GLIF, f Feedback, sc Scan, threads int) (finite bool) {
	k := newRecurrence(n, f, sc, x, nil)
	k.check("RecurrentForward", s)
	var bad atomic.Bool
	k.parts = k.tiles()
	k.run(threads, func(_ int, t *recurrentTile) {
		if !t.forward(s) {
			bad.Store(true)
		}
	})
	return !bad.Load()
}

// NotFinite is where a gradient of a current is not finite.
type NotFinite struct {
	Step, Image, Channel, Pixel int
	Value                       float32
}

// RecurrentBackward is [GLIFBackward] for a layer with feedback: wᵀ times the gradient of the
// currents of step t+1 is added to dout(t). g has no Norm. dx is not g.Dout.
//
// If dw is not nil, the gradient of the weights is added to it.
//
// RecurrentBackward returns where a gradient of a current is not finite, if any is not.
func RecurrentBackward(dx, dw []float32, sums *GLIFSums, g GLIFGrad, f Feedback, add bool, threads int) *NotFinite {
	k := newRecurrence(&g.GLIF, f, g.Scan, g.X, &g)
	k.check("RecurrentBackward", g.Spikes)
	// Each part of the tiles has its own sums. Their number does not depend on threads, and
	// they take no more memory than the currents of all steps.
	k.parts = max(1, min(32, k.tiles(), len(g.Spikes)*Lanes/len(f.Weights)))
	k.dx, k.add = dx, add
	if dw != nil {
		buf := recurrentSums.get(k.parts * len(f.Weights))
		defer recurrentSums.put(buf)
		clear(*buf)
		k.dw = *buf
	}
	if sums != nil {
		buf := zeroPartials(k.parts * k.blocks * sumRows * Lanes)
		defer partials.put(buf)
		k.sums = *buf
	}
	turned := turns.get(len(f.Weights))
	defer turns.put(turned)
	k.turned = *turned
	k.l.transposePanel(k.turned, &product{w: f.Weights, window: 1, dstBlocks: k.blocks}, 0, k.blocks, 0, k.blocks)
	if block, ok := g.Surrogate.(BlockSurrogate); ok {
		buf := recurrentSlopes.get(len(g.Spikes) * Lanes)
		defer recurrentSlopes.put(buf)
		k.slopes = *buf
		k.run(threads, func(_ int, t *recurrentTile) { t.replay() })
		BlockDerivatives(k.slopes, block, g.Scan, threads)
		k.known = true
	}
	faults := make([]*NotFinite, k.parts)
	k.run(threads, func(part int, t *recurrentTile) {
		if fault := t.backward(part); faults[part] == nil {
			faults[part] = fault
		}
	})
	if dw != nil {
		for ; len(k.dw) > 0; k.dw = k.dw[len(f.Weights):] {
			AXPY(dw[:len(f.Weights)], 1, k.dw[:len(f.Weights)], true, threads)
		}
	}
	if sums != nil {
		g.merge(sums, k.sums, k.parts)
	}
	for _, fault := range faults {
		if fault != nil {
			return fault
		}
	}
	return nil
}

// recurrentFloats is the size of the history of a tile of a recurrent layer. It stays in L2,
// beside the weights.
const recurrentFloats = 1 << 18

var (
	recurrentTiles lender[float32]
	recurrentRuns  lender[glifRun]

	recurrentSums, recurrentSlopes keeper[float32]
)

// recurrence are the variables of a pass over a recurrent layer. Pixels do not depend on each
// other. The pixels of all images are therefore cut into tiles, and a tile goes through all
// steps in cache.
type recurrence struct {
	l       Level
	n       *GLIF
	f       Feedback
	sc      Scan
	x       []float32
	blocks  int
	pixels  int // of a tile
	parts   int // of the tiles, which are done one after the other
	threads int // that work on a tile

	// Of the backward pass:
	*GLIFGrad
	inline        bool // the surrogate is a triangle
	width, height float32
	slopes        []float32 // of a BlockSurrogate, [Units][Steps][Pixels][16]; or nil
	known         bool      // whether slopes are derivatives; else they are potentials minus thresholds
	turned        []float32 // the transposed weights
	dx, dw        []float32 // or nil; dw is [parts][weights]
	add           bool
	sums          []float64 // [blocks][parts][sumRows][16], or nil
}

func newRecurrence(n *GLIF, f Feedback, sc Scan, x []float32, g *GLIFGrad) *recurrence {
	k := &recurrence{l: CurrentLevel(), n: n, f: f, sc: sc, x: x, blocks: blocks(f.Channels), GLIFGrad: g}
	k.pixels = min(128, recurrentFloats/(4*sc.Steps*k.blocks*Lanes))
	k.pixels = max(1, min(max(32, k.pixels), sc.Images*sc.Pixels)) // enough rows for a product, if there are
	if g == nil {
		return k
	}
	if triangle, ok := g.Surrogate.(Triangle); ok {
		k.inline, k.width = true, triangle.TriangleWidth()
		k.height = 1 / (k.width * k.width)
	}
	return k
}

func (k *recurrence) tiles() int { return ceilDiv(k.sc.Images*k.sc.Pixels, k.pixels) }

// check panics if a slice is too short.
func (k *recurrence) check(op string, s []uint16) {
	c := k.conv(k.sc.Images * k.sc.Pixels * k.sc.Steps)
	c.check(op, len(s)*Lanes, len(k.x)/k.sc.CurrentSteps*k.sc.Steps, len(k.f.Weights), nil)
}

// conv is the convolution of so many pixels.
func (k *recurrence) conv(pixels int) Conv {
	return Conv{Frames: pixels, Cin: k.f.Channels, Cout: k.f.Channels, Hin: 1, Win: 1, Hout: 1, Wout: 1, KH: 1, KW: 1, Stride: 1}
}

// run calls fn for every tile of every part. Threads share the parts, or the work on a tile if
// there are fewer parts.
func (k *recurrence) run(threads int, fn func(part int, t *recurrentTile)) {
	k.threads = 1
	if k.parts < parallel.Threads(threads) {
		k.threads, threads = threads, 1
	}
	parallel.For(threads, k.parts, func(part int) {
		t := k.newTile()
		defer t.release()
		for lo, hi := share(k.tiles(), part, k.parts); lo < hi; lo++ {
			t.set(lo*k.pixels, min((lo+1)*k.pixels, k.sc.Images*k.sc.Pixels))
			fn(part, t)
		}
	})
}
