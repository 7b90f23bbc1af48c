package kernel

import (
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// recurrentTile are the pixels lo to hi−1, counted over all images, of all channels.
type recurrentTile struct {
	*recurrence
	lo, hi int
	part   int
	conv   Conv
	size   int // values of a block at one step

	floats *[]float32
	bits   *[]uint16
	runs   *[]glifRun // of each block

	// [blocks][hi−lo][16]; the history [steps][blocks][hi−lo][4][16], the slope
	// [steps][blocks][hi−lo][16]; the adjoint [blocks][hi−lo][4][16]
	membrane, carry, adaptation []float32
	feedback                    []float32 // from the step before, or the gradient from the step after
	history, slope, adjoint     []float32
	grad, total                 []float32 // of the currents, and over time
	check                       []float32 // [blocks][16]
	spikes                      []uint16  // [steps][blocks][hi−lo]
}

func (k *recurrence) newTile() *recurrentTile {
	vectors := 4
	if k.GLIFGrad != nil {
		vectors += 6 + 4*k.sc.Steps
		if !k.inline && k.slopes == nil {
			vectors += k.sc.Steps
		}
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
	t.membrane, t.carry, t.adaptation, t.feedback = cut(k.pixels), cut(k.pixels), cut(k.pixels), cut(k.pixels)
	if k.GLIFGrad != nil {
		t.grad, t.total, t.adjoint = cut(k.pixels), cut(k.pixels), cut(4*k.pixels)
		t.history = cut(4 * k.sc.Steps * k.pixels)
		if !k.inline && k.slopes == nil {
			t.slope = cut(k.sc.Steps * k.pixels)
		}
	}
	t.spikes = *t.bits
	for b := range *t.runs {
		r := &(*t.runs)[b]
		*r = glifRun{steps: 1, soft: bit(k.n.Soft), k: k.n.constants(b, Norm{})}
		r.check = unsafe.Pointer(&t.check[b*Lanes])
		if g := k.GLIFGrad; g != nil {
			r.detach, r.add, r.summed = bit(g.Detach), bit(k.add), bit(k.sums != nil)
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
	t.conv = t.recurrence.conv(hi - lo)
	clear(t.check)
	clear(t.carry)
	clear(t.adaptation)
	for b := range t.blocks {
		t.n.start(t.membrane[b*t.size:][:t.size], b)
	}
}

// words returns the spikes of block b at step i, and all those of the step.
func (t *recurrentTile) words(i, b int) (of, all []uint16) {
	n := t.hi - t.lo
	all = t.spikes[i*t.blocks*n:][:t.blocks*n]
	return all[b*n:][:n], all
}

// each calls fn for each image in the tile. The image's n pixels from px on are those of the
// tile from pixel from on.
func (t *recurrentTile) each(fn func(image, px, from, n int)) {
	pixels := t.sc.Pixels
	for lo := t.lo; lo < t.hi; {
		image, px := lo/pixels, lo%pixels
		n := min(t.hi-lo, pixels-px)
		fn(image, px, lo-t.lo, n)
		lo += n
	}
}

// at returns the place of a pixel in data of the given steps.
func (t *recurrentTile) at(b, image, i, steps, px int) int {
	return ((b*t.sc.Images+image)*steps+min(i, steps-1))*t.sc.Pixels + px
}

// step calls fn for each block and image at step i, with the arguments of the routines of
// neurons that all of these have. own is the place of the neurons in the tile's memory.
func (t *recurrentTile) step(i int, fn func(t *recurrentTile, r *glifRun, i, b, image, px, own int)) {
	type args struct {
		t  *recurrentTile
		fn func(t *recurrentTile, r *glifRun, i, b, image, px, own int)
		i  int
	}
	parallel.With(t.threads, t.blocks, args{t, fn, i}, func(k args, b int) {
		t, r, i := k.t, &(*k.t.runs)[b], k.i
		fired, _ := t.words(i, b)
		t.each(func(image, px, from, n int) {
			own := b*t.size + from*Lanes
			r.pixels, r.s = uint64(n), ptr(fired, from)
			r.x, r.soon = ptr(t.x, t.at(b, image, i, t.sc.CurrentSteps, px)*Lanes), 0
			if i+1 < t.sc.Steps {
				r.soon = uint64(stride(t.sc.CurrentSteps, t.sc.Pixels) * Lanes * 4)
			}
			r.membrane = ptr(t.membrane, own)
			if t.n.synaptic() {
				r.carry = ptr(t.carry, own)
			}
			if t.n.adaptive() {
				r.adaptation = ptr(t.adaptation, own)
			}
			if r.feedback = nil; i > 0 {
				r.feedback = ptr(t.feedback, own)
			}
			if t.GLIFGrad != nil {
				r.history = ptr(t.history, 4*(i*t.blocks*t.size+own))
				switch {
				case t.inline:
				case t.slopes == nil:
					r.slope = ptr(t.slope, i*t.blocks*t.size+own)
				default:
					r.slope = ptr(t.slopes, t.at(b, image, i, t.sc.Steps, px)*Lanes)
				}
			}
			k.fn(t, r, i, b, image, px, own)
		})
	})
}

// forward runs the tile and writes its spikes. It reports whether all potentials are finite.
func (t *recurrentTile) forward(s []uint16) (finite bool) {
	for i := range t.sc.Steps {
		t.feed(i)
		t.step(i, func(t *recurrentTile, r *glifRun, _, _, _, _, _ int) { t.l.glifForward(r) })
		t.exchange(i, func(b, at, from, n int) {
			fired, _ := t.words(i, b)
			copy(s[at:at+n], fired[from:])
		})
	}
	for _, v := range t.check {
		if v != 0 { // NaN
			return false
		}
	}
	return true
}

// exchange calls fn for the spikes of each block and image at step i: those from place at on
// are the tile's from pixel from on.
func (t *recurrentTile) exchange(i int, fn func(b, at, from, n int)) {
	for b := range t.blocks {
		t.each(func(image, px, from, n int) { fn(b, t.at(b, image, i, t.sc.Steps, px), from, n) })
	}
}

// feed computes what the spikes before step i feed back.
func (t *recurrentTile) feed(i int) {
	if i > 0 {
		_, before := t.words(i-1, 0)
		ConvSpikes(t.feedback[:t.blocks*t.size], before, t.f.Weights, nil, t.conv, t.threads)
	}
}

// replay runs the tile again. It computes the surrogate derivatives, or if they depend on the
// neurons of other tiles, potentials minus thresholds.
func (t *recurrentTile) replay() {
	for i := range t.sc.Steps {
		t.exchange(i, func(b, at, from, n int) {
			fired, _ := t.words(i, b)
			copy(fired[from:], t.Spikes[at:at+n])
		})
		t.feed(i)
		t.step(i, func(t *recurrentTile, r *glifRun, i, b, _, _, own int) {
			if t.known {
				r.slope = nil
			}
			t.l.glifReplay(r)
			if !t.inline && t.slopes == nil {
				d := t.slope[i*t.blocks*t.size+own:][:r.pixels*Lanes]
				t.Surrogate.Derivative(d, d)
			}
		})
	}
}

// backward runs the tile again and then goes back over the steps.
func (t *recurrentTile) backward(part int) (fault *NotFinite) {
	t.part = part
	t.replay()
	all, w := t.blocks*t.size, len(t.f.Weights)
	clear(t.adjoint[:4*all])
	if t.once() {
		clear(t.total[:all])
	}
	for i := t.sc.Steps - 1; i >= 0; i-- {
		t.step(i, (*recurrentTile).back)
		if fault == nil && !Finite(t.grad[:all], 1) {
			fault = t.place(i)
		}
		if i == 0 {
			break
		}
		if t.dw != nil {
			_, before := t.words(i-1, 0)
			ConvWeightGradSpikes(t.dw[part*w:][:w], before, t.grad[:all], t.conv, true, t.threads)
		}
		t.feedBack()
	}
	return fault
}

// once reports whether the gradient of the currents is one for all steps.
func (t *recurrentTile) once() bool { return t.sc.CurrentSteps == 1 && t.sc.Steps > 1 }

// back goes back through step i.
func (t *recurrentTile) back(r *glifRun, i, b, image, px, own int) {
	r.dout, r.soon = ptr(t.Dout, t.at(b, image, i, t.DoutSteps, px)*Lanes), 0
	if i > 0 {
		r.soon = -uint64(stride(t.DoutSteps, t.sc.Pixels) * Lanes * 4)
	}
	if r.feedback = nil; i+1 < t.sc.Steps {
		r.feedback = ptr(t.feedback, own)
	}
	r.adjoint, r.grad, r.sums = ptr(t.adjoint, 4*own), ptr(t.grad, own), glifTotals{}
	at := t.at(b, image, i, t.sc.CurrentSteps, px) * Lanes
	if t.once() {
		r.total = ptr(t.total, own)
	} else if t.dx != nil {
		r.dx = ptr(t.dx, at)
	}
	t.l.glifBackward(r)
	if t.once() && t.dx != nil && i == 0 {
		t.l.scale(&t.dx[at], &t.total[own], &ones[0], int(r.pixels), t.add)
	}
	if t.sums != nil {
		sums := t.sums[(b*t.parts+t.part)*sumRows*Lanes:]
		for i, v := range (*[sumRows * Lanes]float32)(unsafe.Pointer(&r.sums)) {
			sums[i] += float64(v)
		}
	}
}

// feedBack computes the transposed weights times the gradient of the currents.
func (t *recurrentTile) feedBack() {
	p := product{
		dst: t.feedback, src: t.grad, w: t.turned,
		sources: outputSources.get(t.conv.window(), newOutputSources),
		frames:  t.conv.Frames, srcChannels: t.f.Channels, srcPixels: 1, srcWidth: 1,
		dstPixels: 1, dstBlocks: t.blocks, window: 1,
	}
	if t.threads == 1 {
		t.l.productUnit(&p, 0, t.blocks, 0, p.frames) // in one piece, which is faster
		return
	}
	t.l.product(p, t.threads)
}

// place returns where the gradient of the currents of step i is not finite, channels that do
// not exist aside.
func (t *recurrentTile) place(i int) *NotFinite {
	for c := range t.f.Channels {
		for px := range t.hi - t.lo {
			if v := t.grad[c/Lanes*t.size+px*Lanes+c%Lanes]; v-v != 0 {
				at := t.lo + px
				return &NotFinite{i, at / t.sc.Pixels, c, at % t.sc.Pixels, v}
			}
		}
	}
	return nil
}
