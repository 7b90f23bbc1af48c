package kernel

import (
	"math"
	"slices"
	"sync/atomic"
	"unsafe"
)

// Neuron is the update rule of a spiking neuron: m ← Decay·m + cur; it fires when
// m ≥ Threshold and is then set to zero, or lowered by Threshold if Soft is set.
type Neuron struct {
	Decay, Threshold float32
	Soft             bool
}

// Scan is the extent of a layer of neurons: Units = channel blocks × Images (unit
// u is image u mod Images of block u / Images), Pixels positions each. The inputs
// have CurrentSteps steps (Steps, or 1 when they are the same at every step).
type Scan struct {
	Units, Images, Pixels int
	Steps, CurrentSteps   int
}

// Norm turns inputs into currents by channel, cur = A·x + B, the product rounded
// before the sum. The zero Norm is the identity.
//
//	A, B [blocks][16], or both nil
type Norm struct{ A, B []float32 }

var ones, minusZeros [Lanes]float32

func init() {
	for l := range Lanes {
		ones[l], minusZeros[l] = 1, float32(math.Copysign(0, -1))
	}
}

// at returns the vectors of a block. 1·x + (−0) is x, sign included.
func (m Norm) at(block int) (a, b unsafe.Pointer) {
	if m.A == nil {
		return unsafe.Pointer(&ones), unsafe.Pointer(&minusZeros)
	}
	return unsafe.Pointer(&m.A[block*Lanes : (block+1)*Lanes][0]), unsafe.Pointer(&m.B[block*Lanes : (block+1)*Lanes][0])
}

// stride is the number of elements from a step to the next: none if there is one
// step only.
func stride(steps, frame int) int {
	if steps > 1 {
		return frame
	}
	return 0
}

// run returns the block of a run of the pixels from lo to hi of unit u.
func (sc *Scan) run(u, lo, hi int, n Neuron, x []float32, norm Norm, s []uint16) neuronRun {
	r := neuronRun{
		x:         unsafe.Pointer(&x[(u*sc.CurrentSteps*sc.Pixels+lo)*Lanes]),
		s:         unsafe.Pointer(&s[u*sc.Steps*sc.Pixels+lo]),
		pixels:    uint64(hi - lo),
		steps:     uint64(sc.Steps),
		xStep:     uint64(stride(sc.CurrentSteps, sc.Pixels) * Lanes * 4),
		sStep:     uint64(sc.Pixels * 2),
		leak:      n.Decay,
		threshold: n.Threshold,
		soft:      bit(n.Soft),
	}
	r.a, r.b = norm.at(u / sc.Images)
	return r
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// runPixels is the number of pixels of a run, ten microseconds' work. It depends on
// nothing but the number of steps, since sums are formed run by run.
func (sc *Scan) runPixels() int { return max(16, 4096/sc.Steps) }

// scanTile is the number of vectors, over all steps, of the tiles in which a scan
// goes through a run, 32 KB: routines prefetch a tile's next step.
const scanTile = 512

// tilePixels is the number of pixels of a tile of a run.
func (sc *Scan) tilePixels(run int) int { return min(max(16, scanTile/sc.Steps), run) }

// advance moves r by n pixels.
func (r *neuronRun) advance(n int) {
	r.x, r.s = unsafe.Add(r.x, n*Lanes*4), unsafe.Add(r.s, n*2)
}

// NeuronForward runs all steps of every neuron. It reports whether all membrane
// potentials, before their resets, are finite numbers. Spikes do not show it: a neuron
// whose potential is NaN never fires.
//
//	s [Units][Steps][Pixels]
//	x [Units][CurrentSteps][Pixels][16]
func NeuronForward(s []uint16, x []float32, norm Norm, n Neuron, sc Scan, threads int) (finite bool) {
	return sc.forward(false, s, x, norm, n, 0, threads)
}

// NeuronSupport runs the neurons like NeuronForward, but writes where a surrogate
// derivative that is zero from a distance of width to the threshold on is not.
func NeuronSupport(near []uint16, x []float32, norm Norm, n Neuron, sc Scan, width float32, threads int) {
	sc.forward(true, near, x, norm, n, width, threads)
}

// forward takes no routine as an argument: the runs, one for each piece of work, would be
// allocated.
func (sc *Scan) forward(support bool, s []uint16, x []float32, norm Norm, n Neuron, width float32, threads int) (finite bool) {
	l := CurrentLevel()
	var bad atomic.Bool
	pieces(threads, sc.Units, sc.Pixels, sc.runPixels(), func(u, lo, hi int) {
		r := sc.run(u, lo, hi, n, x, norm, s)
		r.width = width
		tile := sc.tilePixels(hi - lo)
		buf := scratch((1 + tile) * Lanes)
		defer release(buf)
		check := (*buf)[:Lanes]
		clear(check)
		r.check, r.state = unsafe.Pointer(&check[0]), unsafe.Pointer(&(*buf)[Lanes])
		for {
			n := min(tile, hi-lo)
			r.pixels = uint64(n)
			clear((*buf)[Lanes:])
			if support {
				l.neuronSupport(&r)
			} else {
				l.neuronForward(&r)
			}
			if lo += n; lo == hi {
				break
			}
			r.advance(n)
		}
		if slices.ContainsFunc(check, func(v float32) bool { return v != 0 }) {
			bad.Store(true)
		}
	})
	return !bad.Load()
}

// Surrogate stands in for the derivative of the Heaviside step. One that is a
// [Triangle] is computed inline.
type Surrogate interface {
	// Derivative writes the surrogate derivative at u, the membrane potential above
	// threshold, to dst, which may be u.
	Derivative(dst, u []float32)
}

// Triangle is a Surrogate that equals max(0, w − |u|)·(1/(w·w)), w being its
// TriangleWidth, each operation rounded.
type Triangle interface {
	Surrogate
	TriangleWidth() float32
}

// Compact is a Surrogate that is zero where |u| is Support or more.
type Compact interface {
	Surrogate
	Support() float32
}

// NeuronGrad is what a backward scan reads: the forward's arguments and result,
// and the gradient of the spikes, which has DoutSteps steps (1 when it is the same
// at every step). Detach leaves the reset out of the gradient. If Pool is set, Dout is
// the gradient of the spikes' means over its windows, which must cover the spikes without
// overlap; it is spread over them tile by tile.
type NeuronGrad struct {
	Neuron
	Scan
	Norm      Norm
	X         []float32 // [Units][CurrentSteps][Pixels][16]
	Spikes    []uint16  // [Units][Steps][Pixels]
	Dout      []float32 // [Units][DoutSteps][Pixels or Pool's Hout·Wout][16]
	DoutSteps int
	Pool      *Pool // or nil
	Surrogate Surrogate
	Detach    bool
}

// NeuronBackward carries the gradient of the spikes back through time to the
// inputs: with φ the surrogate derivative, p the membrane before and q the one
// after a reset,
//
//	∂s(t) = dout(t) − p(t)·∂q(t)   (soft reset: − Threshold·∂q(t); detached: dout(t))
//	∂p(t) = ∂s(t)·φ(t) + (1 − s(t))·∂q(t)   (soft reset: + ∂q(t))
//	∂q(t−1) = Decay·∂p(t),  dcur(t) = ∂p(t),  dx(t) = A·dcur(t)
//
// dx has CurrentSteps steps, and is overwritten, or added to if add is set. Inputs
// of one step get the sum over time. dx may be g.Dout if both have the same number
// of steps and add is not set.
func NeuronBackward(dx []float32, g NeuronGrad, add bool, threads int) {
	g.backward(dx, add, nil, nil, threads)
}

// NeuronNormBackward is NeuronBackward for a Norm whose statistics depend on x, as
// batch norm's do in training. It writes dcur, without the factor A, for
// [NormBackward] to go on from in place, and in the same pass the two sums that
// [NormReduce] would find: of dcur, and of dcur·(x − mean)·inv.
//
//	dcur                [Units][CurrentSteps][Pixels][16]
//	sum, dot, mean, inv [blocks][16]
//
// Sums are float64.
func NeuronNormBackward(dcur []float32, sum, dot []float64, g NeuronGrad, mean, inv []float64, threads int) {
	per := ceilDiv(g.Pixels, g.whole(g.runPixels())) * g.Images // runs of a block
	buf := zeroPartials(g.Units / g.Images * per * 2 * Lanes)
	defer partials.put(buf)
	part := *buf // [blocks][runs][2][16]
	g.backward(dcur, false, mean, part, threads)
	mergeSums(sum, dot, part, inv, per)
}

// backward writes A·dcur to dx; or, if mean is set, dcur and each run's sums.
func (g *NeuronGrad) backward(dx []float32, add bool, mean, sums []float64, threads int) {
	l := CurrentLevel()
	size := g.whole(g.runPixels())
	perUnit := ceilDiv(g.Pixels, size)
	triangle, inline := g.Surrogate.(Triangle)
	var windows []int64
	means := 0 // steps of gradients of means
	if g.Pool != nil {
		windows, means = g.Pool.windowOffsets(Lanes*4), g.DoutSteps
	}
	pieces(threads, g.Units, g.Pixels, size, func(u, lo, hi int) {
		tile := g.whole(g.tilePixels(hi - lo))
		vectors := g.Steps * tile
		buf := scratch((2*vectors + (2+means)*tile) * Lanes)
		defer release(buf)
		slope := (*buf)[:vectors*Lanes] // [steps][tile][16]
		state := (*buf)[2*vectors*Lanes:]
		total := state[tile*Lanes:]
		dout := total[tile*Lanes:] // [steps][tile][16], if there is a Pool

		r := g.run(u, lo, hi, g.Neuron, g.X, g.Norm, g.Spikes)
		r.mem, r.state = unsafe.Pointer(&(*buf)[vectors*Lanes]), unsafe.Pointer(&state[0])
		if inline {
			w := triangle.TriangleWidth()
			r.width, r.height = w, 1/(w*w)
		} else {
			r.slope = unsafe.Pointer(&slope[0])
		}
		r.detach, r.add = bit(g.Detach), bit(add)
		r.scale = r.a
		if mean != nil {
			r.scale = unsafe.Pointer(&ones)
			r.mean = unsafe.Pointer(&mean[u/g.Images*Lanes])
			r.sums = unsafe.Pointer(&sums[(u*perUnit+lo/size)*2*Lanes])
		}
		if r.xStep == 0 {
			r.total = unsafe.Pointer(&total[0])
		}
		scale := (*float32)(r.scale)
		for {
			n := min(tile, hi-lo)
			out := &dx[(u*g.CurrentSteps*g.Pixels+lo)*Lanes]
			if r.xStep != 0 {
				r.dx, r.dxStep = unsafe.Pointer(out), r.xStep
			}
			r.pixels, r.memStep = uint64(n), uint64(n*Lanes*4)
			clear(state[:n*Lanes])
			l.neuronMembranes(&r)
			if g.Pool == nil {
				r.dout, r.doutStep = unsafe.Pointer(&g.Dout[(u*g.DoutSteps*g.Pixels+lo)*Lanes]), uint64(stride(g.DoutSteps, g.Pixels)*Lanes*4)
			} else {
				g.spread(l, dout, windows, u, lo, n)
				r.dout, r.doutStep = unsafe.Pointer(&dout[0]), uint64(stride(g.DoutSteps, n)*Lanes*4)
			}
			if !inline {
				u := slope[:g.Steps*n*Lanes]
				g.Surrogate.Derivative(u, u)
			}
			clear(state[:n*Lanes])
			if r.total != nil {
				clear(total[:n*Lanes])
			}
			l.neuronBackward(&r)
			if r.dx == nil {
				l.scale(out, &total[0], scale, n, add)
			}
			if lo += n; lo == hi {
				return
			}
			r.advance(n)
		}
	})
}

// whole returns the number of whole rows of windows in so many pixels, at least one, as
// pixels.
func (g *NeuronGrad) whole(pixels int) int {
	if g.Pool == nil {
		return pixels
	}
	band := g.Pool.Stride * g.Pool.Win
	return max(1, pixels/band) * band
}

// spread writes the gradients of n of unit u's pixels, from lo on, to dst
// [DoutSteps][n][16].
func (g *NeuronGrad) spread(l Level, dst []float32, windows []int64, u, lo, n int) {
	out, band := g.Pool.Hout*g.Pool.Wout, g.Pool.Stride*g.Pool.Win
	for t := range g.DoutSteps {
		means := g.Dout[((u*g.DoutSteps+t)*out+lo/band*g.Pool.Wout)*Lanes:]
		w := g.Pool.run(0, unsafe.Pointer(&means[0]), unsafe.Pointer(&dst[t*n*Lanes]), Lanes*4, windows)
		w.rows = uint64(n / band)
		l.spread(&w)
	}
}

// Fired writes which neurons fire at least once in any of the steps.
//
//	fired [Units][Pixels]
//	s     [Units][Steps][Pixels]
func Fired(fired, s []uint16, sc Scan, threads int) {
	l := CurrentLevel()
	each(threads, sc.Units, sc.Steps*sc.Pixels/Lanes, func(u int) {
		f := fired[u*sc.Pixels:][:sc.Pixels]
		s := s[u*sc.Steps*sc.Pixels:][:sc.Steps*sc.Pixels]
		copy(f, s)
		whole := len(f) / 32 * 32
		for t := 1; t < sc.Steps; t++ {
			s := s[t*sc.Pixels:][:sc.Pixels]
			if whole > 0 {
				l.or(&f[0], &s[0], whole)
			}
			for i, w := range s[whole:] {
				f[whole+i] |= w
			}
		}
	})
}

// Gate writes dst = (scale·a)·src by channel where the mask's bit is set and zero
// elsewhere, or adds it to dst if add is set; a nil is 1. Every one of the steps
// has the same mask; src and dst have steps steps. The extent is that of Scan.
//
//	dst, src [units][steps][pixels][16]
//	mask     [units][pixels]
//	a        [units/images][16], or nil
func Gate(dst, src []float32, mask []uint16, a []float32, scale float32, units, images, steps, pixels int, add bool, threads int) {
	l := CurrentLevel()
	pieces(threads, units, pixels, max(16, pieceVectors/steps), func(u, lo, hi int) {
		c := ones
		if a != nil {
			c = [Lanes]float32(a[u/images*Lanes:])
		}
		for i := range c {
			c[i] *= scale
		}
		for t := range steps {
			at := ((u*steps+t)*pixels + lo) * Lanes
			l.mask(&dst[at], &src[at], &mask[u*pixels+lo], &c[0], hi-lo, add)
		}
	})
}

func store16(dst []float32, v *[Lanes]float32, add bool) {
	if add {
		add16(dst, v[:])
	} else {
		*(*[Lanes]float32)(dst) = *v
	}
}
