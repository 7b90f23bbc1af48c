package kernel

import (
	"sync/atomic"
	"unsafe"

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
	k.conv(k.pixels).check("RecurrentForward", len(s)*Lanes, len(s)*Lanes, len(f.Weights), nil)
	var bad atomic.Bool
	k.run(threads, k.tiles(), func(_ int, t *recurrentTile) {
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
	k.conv(k.pixels).check("RecurrentBackward", len(g.Spikes)*Lanes, len(g.Spikes)*Lanes, len(f.Weights), nil)
	// A part of the tiles has its own sums. They depend on no number of threads, and take no
	// more memory than the currents of all steps.
	parts := max(1, min(32, k.tiles(), len(g.Spikes)*Lanes/len(f.Weights)))
	k.dx, k.add = dx, add
	if dw != nil {
		buf := recurrentSums.get(parts * len(f.Weights))
		defer recurrentSums.put(buf)
		clear(*buf)
		k.dw = *buf
	}
	if sums != nil {
		buf := zeroPartials(parts * k.blocks * sumRows * Lanes)
		defer partials.put(buf)
		k.sums = *buf
	}
	turned := scratch(len(f.Weights))
	defer release(turned)
	k.turned = *turned
	k.l.transposePanel(k.turned, &product{w: f.Weights, window: 1, dstBlocks: k.blocks}, 0, k.blocks, 0, k.blocks)
	faults := make([]*NotFinite, parts)
	k.run(threads, parts, func(part int, t *recurrentTile) {
		if fault := t.backward(part, parts); faults[part] == nil {
			faults[part] = fault
		}
	})
	if dw != nil {
		for ; len(k.dw) > 0; k.dw = k.dw[len(f.Weights):] {
			AXPY(dw[:len(f.Weights)], 1, k.dw[:len(f.Weights)], true, threads)
		}
	}
	if sums != nil {
		g.merge(sums, k.sums, parts)
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
const recurrentFloats = 1 << 17

var (
	recurrentTiles, recurrentSums lender[float32]
	recurrentRuns                 lender[glifRun]
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
	threads int // that work on a tile

	// Of the backward pass:
	*GLIFGrad
	inline        bool // the surrogate is a triangle
	width, height float32
	turned        []float32 // the transposed weights
	dx, dw        []float32 // or nil; dw is [parts][weights]
	add           bool
	sums          []float64 // [blocks][parts][sumRows][16], or nil
}

func newRecurrence(n *GLIF, f Feedback, sc Scan, x []float32, g *GLIFGrad) *recurrence {
	k := &recurrence{l: CurrentLevel(), n: n, f: f, sc: sc, x: x, blocks: blocks(f.Channels), GLIFGrad: g}
	k.pixels = min(sc.Images*sc.Pixels, max(32, min(128, recurrentFloats/(4*sc.Steps*k.blocks*Lanes)))) // rows enough for a product
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

// conv is the convolution of a tile.
func (k *recurrence) conv(pixels int) *Conv {
	return &Conv{Frames: pixels, Cin: k.f.Channels, Cout: k.f.Channels, Hin: 1, Win: 1, Hout: 1, Wout: 1, KH: 1, KW: 1, Stride: 1}
}

// run calls fn for every tile of every part. Threads share the parts, or the work on a tile if
// there are fewer parts.
func (k *recurrence) run(threads, parts int, fn func(part int, t *recurrentTile)) {
	k.threads = 1
	if parts < parallel.Threads(threads) {
		k.threads, threads = threads, 1
	}
	parallel.For(threads, parts, func(part int) {
		t := k.newTile()
		defer t.release()
		for lo, hi := share(k.tiles(), part, parts); lo < hi; lo++ {
			t.set(lo*k.pixels, min((lo+1)*k.pixels, k.sc.Images*k.sc.Pixels))
			fn(part, t)
		}
	})
}

// recurrentTile are the pixels lo to hi−1, counted over all images, of all channels.
type recurrentTile struct {
	*recurrence
	lo, hi int
	conv   Conv
	size   int // values of a block at one step

	floats *[]float32
	bits   *[]uint16
	runs   *[]glifRun // of each block

	// [blocks][hi−lo][16]; the history [steps][blocks][hi−lo][4][16], the slope
	// [steps][blocks][hi−lo][16]; the adjoint [blocks][hi−lo][4][16]
	membrane, carry, adaptation []float32
	current                     []float32 // or the gradient of the spikes
	history, slope, adjoint     []float32
	grad, total                 []float32 // of the current, and over time
	check                       []float32 // [blocks][16]
	spikes                      []uint16  // [steps][blocks][hi−lo]
}

func (k *recurrence) newTile() *recurrentTile {
	vectors := 4
	if k.GLIFGrad != nil {
		vectors += 6 + 5*k.sc.Steps
	}
	t := &recurrentTile{recurrence: k}
	t.floats = recurrentTiles.get(k.blocks * Lanes * (vectors*k.pixels + 1))
	t.bits = words.get(k.sc.Steps * k.blocks * k.pixels)
	t.runs = recurrentRuns.get(k.blocks)
	rest := *t.floats
	cut := func(vectors int) (v []float32) {
		v, rest = rest[:k.blocks*Lanes*vectors], rest[k.blocks*Lanes*vectors:]
		return v
	}
	t.check = cut(1)
	t.membrane, t.carry, t.adaptation, t.current = cut(k.pixels), cut(k.pixels), cut(k.pixels), cut(k.pixels)
	if k.GLIFGrad != nil {
		t.grad, t.total, t.adjoint = cut(k.pixels), cut(k.pixels), cut(4*k.pixels)
		t.history, t.slope = cut(4*k.sc.Steps*k.pixels), cut(k.sc.Steps*k.pixels)
	}
	t.spikes = *t.bits
	for b := range *t.runs {
		r := &(*t.runs)[b]
		*r = glifRun{steps: 1, soft: bit(k.n.Soft), k: k.n.constants(b, Norm{})}
		r.check = unsafe.Pointer(&t.check[b*Lanes])
		if g := k.GLIFGrad; g != nil {
			r.detach, r.summed = bit(g.Detach), bit(k.sums != nil)
			r.k.scale, r.k.width, r.k.height = ones, channels(nil, 0, k.width), channels(nil, 0, k.height)
		}
	}
	return t
}

func (t *recurrentTile) release() {
	clear(*t.runs) // no pointers are left
	recurrentRuns.put(t.runs)
	words.put(t.bits)
	recurrentTiles.put(t.floats)
}

// set moves the tile, to neurons before the first step.
func (t *recurrentTile) set(lo, hi int) {
	t.lo, t.hi, t.size = lo, hi, (hi-lo)*Lanes
	t.conv = *t.recurrence.conv(hi - lo)
	clear(t.check)
	for b := range t.blocks {
		r := &(*t.runs)[b]
		r.pixels = uint64(hi - lo)
		t.n.start(t.at(t.membrane, b, 1), b)
		r.membrane = ptr(t.at(t.membrane, b, 1), 0)
		if t.n.synaptic() {
			clear(t.at(t.carry, b, 1))
			r.carry = ptr(t.at(t.carry, b, 1), 0)
		}
		if t.n.adaptive() {
			clear(t.at(t.adaptation, b, 1))
			r.adaptation = ptr(t.at(t.adaptation, b, 1), 0)
		}
	}
}

// at returns part i of v, which has the given number of vectors for each neuron.
func (t *recurrentTile) at(v []float32, i, vectors int) []float32 {
	n := t.size * vectors
	return v[i*n:][:n:n]
}

// words returns the spikes of block b at step i, and all those of the step.
func (t *recurrentTile) words(i, b int) (of, all []uint16) {
	n := t.hi - t.lo
	all = t.spikes[i*t.blocks*n:][:t.blocks*n]
	return all[b*n:][:n], all
}

// each calls fn for the part of each image in the tile: n pixels, from the tile's pixel from
// on. In data of block b at step i of the given steps, they begin with pixel at.
func (t *recurrentTile) each(b, i, steps int, fn func(at, from, n int)) {
	px := t.sc.Pixels
	for lo := t.lo; lo < t.hi; {
		image := lo / px
		hi := min(t.hi, (image+1)*px)
		fn(((b*t.sc.Images+image)*steps+min(i, steps-1))*px+lo%px, lo-t.lo, hi-lo)
		lo = hi
	}
}

// load copies the part of data of block b at step i to dst.
func (t *recurrentTile) load(dst, data []float32, b, i, steps int) {
	t.each(b, i, steps, func(at, from, n int) { copy(dst[from*Lanes:][:n*Lanes], data[at*Lanes:]) })
}

// store copies src to the part of data, or adds it.
func (t *recurrentTile) store(data, src []float32, b, i, steps int) {
	t.each(b, i, steps, func(at, from, n int) {
		if t.add {
			t.l.scale(&data[at*Lanes], &src[from*Lanes], &ones[0], n, true)
			return
		}
		copy(data[at*Lanes:][:n*Lanes], src[from*Lanes:])
	})
}

// step computes the currents of step i, with the spikes of the step before, and calls fn for
// each block, with the arguments of the routines of neurons.
func (t *recurrentTile) step(i int, fn func(t *recurrentTile, i, b int, r *glifRun)) {
	if i > 0 {
		_, before := t.words(i-1, 0)
		ConvSpikes(t.current[:t.blocks*t.size], before, t.f.Weights, nil, t.conv, t.threads)
	}
	t.ofBlocks(i, fn, func(t *recurrentTile, i, b int, r *glifRun) {
		current := t.at(t.current, b, 1)
		if i == 0 {
			t.load(current, t.x, b, i, t.sc.CurrentSteps)
		} else {
			t.each(b, i, t.sc.CurrentSteps, func(at, from, n int) {
				t.l.scale(&current[from*Lanes], &t.x[at*Lanes], &ones[0], n, true)
			})
		}
		r.x = ptr(current, 0)
	})
}

// ofBlocks calls the functions for each block.
func (t *recurrentTile) ofBlocks(i int, fn, first func(t *recurrentTile, i, b int, r *glifRun)) {
	type args struct {
		t         *recurrentTile
		i         int
		fn, first func(t *recurrentTile, i, b int, r *glifRun)
	}
	parallel.With(t.threads, t.blocks, args{t, i, fn, first}, func(k args, b int) {
		r := &(*k.t.runs)[b]
		if k.first != nil {
			k.first(k.t, k.i, b, r)
		}
		k.fn(k.t, k.i, b, r)
	})
}

// forward runs the tile and writes its spikes. It reports whether all potentials are finite.
func (t *recurrentTile) forward(s []uint16) (finite bool) {
	for i := range t.sc.Steps {
		t.step(i, func(t *recurrentTile, i, b int, r *glifRun) {
			fired, _ := t.words(i, b)
			r.s = ptr(fired, 0)
			t.l.glifForward(r)
		})
		for b := range t.blocks {
			fired, _ := t.words(i, b)
			t.each(b, i, t.sc.Steps, func(at, from, n int) { copy(s[at:at+n], fired[from:]) })
		}
	}
	for _, v := range t.check {
		if v != 0 { // NaN
			return false
		}
	}
	return true
}

// backward runs the tile again and then goes back over the steps.
func (t *recurrentTile) backward(part, parts int) (fault *NotFinite) {
	for i := range t.sc.Steps {
		for b := range t.blocks {
			fired, _ := t.words(i, b)
			t.each(b, i, t.sc.Steps, func(at, from, n int) { copy(fired[from:], t.Spikes[at:at+n]) })
		}
		t.step(i, func(t *recurrentTile, i, b int, r *glifRun) {
			t.setHistory(i, b, r)
			t.l.glifReplay(r)
			if r.slope != nil {
				d := t.at(t.slope, i*t.blocks+b, 1)
				t.Surrogate.Derivative(d, d)
			}
		})
	}
	clear(t.adjoint)
	clear(t.total)
	for b := range t.blocks {
		r := &(*t.runs)[b]
		r.adjoint, r.dout, r.dx = ptr(t.at(t.adjoint, b, 4), 0), ptr(t.at(t.current, b, 1), 0), ptr(t.at(t.grad, b, 1), 0)
		if t.once() {
			r.total = ptr(t.at(t.total, b, 1), 0)
		}
		t.load(t.at(t.current, b, 1), t.Dout, b, t.sc.Steps-1, t.DoutSteps)
	}
	all := t.blocks * t.size
	for i := t.sc.Steps - 1; i >= 0; i-- {
		t.ofBlocks(i, func(t *recurrentTile, i, b int, r *glifRun) {
			fired, _ := t.words(i, b)
			r.s, r.sums = ptr(fired, 0), glifTotals{}
			t.setHistory(i, b, r)
			t.l.glifBackward(r)
			if t.sums != nil {
				sums := t.sums[(b*parts+part)*sumRows*Lanes:]
				for i, v := range (*[sumRows * Lanes]float32)(unsafe.Pointer(&r.sums)) {
					sums[i] += float64(v)
				}
			}
			switch {
			case t.dx == nil:
			case !t.once():
				t.store(t.dx, t.at(t.grad, b, 1), b, i, t.sc.CurrentSteps)
			case i == 0:
				t.store(t.dx, t.at(t.total, b, 1), b, i, 1)
			}
			if i > 0 {
				t.load(t.at(t.current, b, 1), t.Dout, b, i-1, t.DoutSteps)
			}
		}, nil)
		if fault == nil && !Finite(t.grad[:all], 1) {
			fault = t.place(i)
		}
		if i == 0 {
			break
		}
		if t.dw != nil {
			_, before := t.words(i-1, 0)
			w := len(t.f.Weights)
			ConvWeightGradSpikes(t.dw[part*w:][:w], before, t.grad[:all], t.conv, true, t.threads)
		}
		t.back()
	}
	return fault
}

// once reports whether the gradient of the currents is one for all steps.
func (t *recurrentTile) once() bool { return t.sc.CurrentSteps == 1 && t.sc.Steps > 1 }

func (t *recurrentTile) setHistory(i, b int, r *glifRun) {
	r.history = ptr(t.at(t.history, i*t.blocks+b, 4), 0)
	if !t.inline {
		r.slope = ptr(t.at(t.slope, i*t.blocks+b, 1), 0)
	}
}

// back adds the transposed weights times the gradient of the currents to that of the spikes.
func (t *recurrentTile) back() {
	if t.l == Portable {
		convInputGradPortable(t.current, t.grad, t.f.Weights, t.conv, true, t.threads)
		return
	}
	t.l.product(product{
		dst: t.current, src: t.grad, w: t.turned,
		sources: outputSources.get(t.conv.window(), newOutputSources),
		frames:  t.conv.Frames, srcChannels: t.f.Channels, srcPixels: 1, srcWidth: 1,
		dstPixels: 1, dstBlocks: t.blocks, window: 1, add: true,
	}, t.threads)
}

// place returns where the gradient of the currents of step i is not finite, channels that do
// not exist aside.
func (t *recurrentTile) place(i int) *NotFinite {
	for c := range t.f.Channels {
		for px := range t.hi - t.lo {
			if v := t.at(t.grad, c/Lanes, 1)[px*Lanes+c%Lanes]; v-v != 0 {
				at := t.lo + px
				return &NotFinite{i, at / t.sc.Pixels, c, at % t.sc.Pixels, v}
			}
		}
	}
	return nil
}
