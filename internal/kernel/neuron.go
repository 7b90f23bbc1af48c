package kernel

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Neuron is the update rule of a spiking neuron with membrane potential m. At every step
// m ← Decay·m + cur, where cur is the input current. The neuron fires if m ≥ Threshold. Then
// m is set to 0, or lowered by Threshold if Soft is set.
type Neuron struct {
	Decay, Threshold float32
	Soft             bool
}

// Scan is the extent of a layer of neurons. A unit is one image of one block of channels:
// unit u is image u mod Images of block u / Images, and Units = blocks × Images. Each unit
// has Pixels pixels. Inputs have CurrentSteps steps: Steps, or 1 if they are the same at
// every step.
type Scan struct {
	Units, Images, Pixels int
	Steps, CurrentSteps   int
}

// Norm computes currents from inputs, cur = A·x + B, with one A and one B for each channel.
// The product is rounded before the sum. The zero Norm is the identity.
//
//	A, B [blocks][16], or both nil
type Norm struct{ A, B []float32 }

var ones, minusZeros [Lanes]float32

func init() {
	for l := range Lanes {
		ones[l], minusZeros[l] = 1, float32(math.Copysign(0, -1))
	}
}

// at returns the vectors A and B of a block. For the identity they are 1 and −0, since
// 1·x + (−0) is x with its sign.
func (m Norm) at(block int) (a, b unsafe.Pointer) {
	if m.A == nil {
		return unsafe.Pointer(&ones), unsafe.Pointer(&minusZeros)
	}
	return unsafe.Pointer(&m.A[block*Lanes : (block+1)*Lanes][0]), unsafe.Pointer(&m.B[block*Lanes : (block+1)*Lanes][0])
}

// stride returns the number of elements from one step to the next. It is 0 if there is only
// one step.
func stride(steps, frame int) int {
	if steps > 1 {
		return frame
	}
	return 0
}

// run returns the arguments for the pixels lo to hi−1 of unit u.
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

// runPixels returns the number of pixels of a run, about ten microseconds of work. It depends
// only on the number of steps: sums are formed run by run and must not depend on threads.
func (sc *Scan) runPixels() int { return max(16, 4096/sc.Steps) }

// scanTile is the number of vectors of a tile over all steps: 32 KB. A scan goes through a
// run tile by tile. Routines prefetch the next step of a tile.
const scanTile = 512

// tilePixels is the number of pixels of a tile of a run.
func (sc *Scan) tilePixels(run int) int { return min(max(16, scanTile/sc.Steps), run) }

// advance moves r by n pixels.
func (r *neuronRun) advance(n int) {
	r.x, r.s = unsafe.Add(r.x, n*Lanes*4), unsafe.Add(r.s, n*2)
}

// NeuronForward runs all steps of every neuron on the inputs x and writes the spikes s. It
// reports whether all membrane potentials before their resets are finite. Spikes do not
// show this, since a neuron whose potential is NaN never fires.
//
//	s [Units][Steps][Pixels]
//	x [Units][CurrentSteps][Pixels][16]
func NeuronForward(s []uint16, x []float32, norm Norm, n Neuron, sc Scan, threads int) (finite bool) {
	return sc.forward(scanning{s: s, x: x, norm: norm, n: n}, threads)
}

// NeuronStep is NeuronForward for neurons that start from the membrane potentials state. It
// overwrites state by those after the last step. Its bits do not depend on how the steps are
// divided into calls.
//
//	state [Units][Pixels][16]
func NeuronStep(s []uint16, x []float32, norm Norm, n Neuron, sc Scan, state []float32, threads int) (finite bool) {
	return sc.forward(scanning{s: s, x: x, norm: norm, n: n, state: state}, threads)
}

// NeuronSupport runs the neurons as NeuronForward does. It writes a bit where the membrane
// potential before the reset is closer than width to the threshold, or is NaN. A surrogate
// derivative with that support is zero elsewhere.
func NeuronSupport(near []uint16, x []float32, norm Norm, n Neuron, sc Scan, width float32, threads int) {
	sc.forward(scanning{s: near, x: x, norm: norm, n: n, support: true, width: width}, threads)
}

// scanning are the variables of a forward scan.
type scanning struct {
	l       Level
	sc      Scan
	s       []uint16
	x       []float32
	norm    Norm
	n       Neuron
	state   []float32 // or nil: the neurons start from zero
	support bool      // whether s is NeuronSupport's
	width   float32
	bad     *atomic.Bool // set if a potential is not finite
}

// flags lends what pieces of work set.
var flags = sync.Pool{New: func() any { return new(atomic.Bool) }}

func (sc *Scan) forward(k scanning, threads int) (finite bool) {
	k.l, k.sc, k.bad = CurrentLevel(), *sc, flags.Get().(*atomic.Bool)
	defer flags.Put(k.bad)
	k.bad.Store(false)
	piecesWith(threads, sc.Units, sc.Pixels, sc.runPixels(), k, scanning.piece)
	return !k.bad.Load()
}

// piece does not take the routine as an argument. If it did, the compiler would allocate its
// arguments on the heap.
func (k scanning) piece(u, lo, hi int) {
	r := k.sc.run(u, lo, hi, k.n, k.x, k.norm, k.s)
	r.width = k.width
	tile := k.sc.tilePixels(hi - lo)
	buf := scratch((1 + tile) * Lanes)
	defer release(buf)
	check := (*buf)[:Lanes]
	clear(check)
	r.check, r.state = unsafe.Pointer(&check[0]), unsafe.Pointer(&(*buf)[Lanes])
	for {
		n := min(tile, hi-lo)
		r.pixels = uint64(n)
		if k.state == nil {
			clear((*buf)[Lanes:])
		} else {
			r.state = unsafe.Pointer(&k.state[(u*k.sc.Pixels+lo)*Lanes])
		}
		if k.support {
			k.l.neuronSupport(&r)
		} else {
			k.l.neuronForward(&r)
		}
		if lo += n; lo == hi {
			break
		}
		r.advance(n)
	}
	if slices.ContainsFunc(check, func(v float32) bool { return v != 0 }) {
		k.bad.Store(true)
	}
}

// Surrogate is a surrogate gradient: it replaces the derivative of the Heaviside step. A
// [Triangle] is computed inline.
type Surrogate interface {
	// Derivative writes the surrogate derivative at u to dst, where u is the membrane
	// potential minus the threshold. dst may be u.
	Derivative(dst, u []float32)
}

// Triangle is the Surrogate max(0, w − |u|)·(1/(w·w)), where w is TriangleWidth. Each
// operation is rounded.
type Triangle interface {
	Surrogate
	TriangleWidth() float32
}

// Compact is a Surrogate that is zero where |u| ≥ Support.
type Compact interface {
	Surrogate
	Support() float32
}

// BlockSurrogate is a Surrogate whose derivative at a neuron may depend on the neuron and on
// other neurons of the same image and block of channels.
type BlockSurrogate interface {
	Surrogate
	// BlockDerivative overwrites u, [Steps][Pixels][16], by the derivatives for a block of an
	// image. If Pixels is 1, it has all blocks of the image at once, [blocks][Steps][1][16], and
	// block is 0. It is called once for each of them, from several goroutines at a time.
	BlockDerivative(u []float32, image, block int)
}

// NeuronGrad holds what a backward scan reads: the arguments and the result of the forward
// pass, and the gradient Dout of the spikes. Dout has DoutSteps steps: Steps, or 1 if it is
// the same at every step. Detach leaves the reset out of the gradient.
//
// If Pool is set, Dout is the gradient of the average pooling of the spikes. The scan
// spreads it over the windows tile by tile. The windows must cover the spikes without
// overlap.
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

// NeuronBackward computes the gradient dx of the inputs by backpropagation through time.
// With φ the surrogate derivative, p the membrane potential before a reset and q the one
// after it,
//
//	∂s(t) = dout(t) − p(t)·∂q(t)   (soft reset: − Threshold·∂q(t); detached: dout(t))
//	∂p(t) = ∂s(t)·φ(t) + (1 − s(t))·∂q(t)   (soft reset: + ∂q(t))
//	∂q(t−1) = Decay·∂p(t),  dcur(t) = ∂p(t),  dx(t) = A·dcur(t)
//
// dx has CurrentSteps steps. It is overwritten, or added to if add is set. If CurrentSteps
// is 1 and Steps is more, dx is the sum over time. dx may be g.Dout if both have the same
// number of steps and add is not set.
func NeuronBackward(dx []float32, g NeuronGrad, add bool, threads int) {
	g.backward(dx, add, nil, nil, threads)
}

// NeuronNormBackward is NeuronBackward for a Norm whose A and B depend on x, as those of
// batch norm in training do. It writes dcur without the factor A. [NormBackward] can then
// continue in place. In the same pass it writes the two sums that [NormReduce] would: of
// dcur, and of dcur·(x − mean)·inv. They are float64.
//
//	dcur                [Units][CurrentSteps][Pixels][16]
//	sum, dot, mean, inv [blocks][16]
func NeuronNormBackward(dcur []float32, sum, dot []float64, g NeuronGrad, mean, inv []float64, threads int) {
	per := ceilDiv(g.Pixels, g.runOf(g.Surrogate, g.whole(g.runPixels()))) * g.Images // runs of a block
	buf := zeroPartials(g.Units / g.Images * per * 2 * Lanes)
	defer partials.put(buf)
	part := *buf // [blocks][runs][2][16]
	g.backward(dcur, false, mean, part, threads)
	mergeSums(sum, dot, part, inv, per)
}

// backward writes A·dcur to dx. If mean is set, it writes dcur and the sums of each run.
func (g *NeuronGrad) backward(dx []float32, add bool, mean, sums []float64, threads int) {
	l := CurrentLevel()
	size := g.runOf(g.Surrogate, g.whole(g.runPixels()))
	perUnit := ceilDiv(g.Pixels, size)
	width, inline := inlineWidth(g.Surrogate)
	layer := g.ofLayer(g.Surrogate, threads, func(u int, buf []float32) {
		r := g.run(u, 0, 1, g.Neuron, g.X, g.Norm, g.Spikes)
		state := buf[g.Steps*Lanes:]
		clear(state[:Lanes])
		r.slope, r.state, r.mem, r.memStep = unsafe.Pointer(&buf[0]), unsafe.Pointer(&state[0]), unsafe.Pointer(&state[Lanes]), Lanes*4
		l.neuronMembranes(&r)
	})
	defer layer.release()
	var windows []int64
	means := 0 // steps of gradients of means
	if g.Pool != nil {
		offsets := g.Pool.windowOffsets(Lanes * 4)
		defer lists.put(offsets)
		windows, means = *offsets, g.DoutSteps
	}
	pieces(threads, g.Units, g.Pixels, size, func(u, lo, hi int) {
		tile := g.runOf(g.Surrogate, g.whole(g.tilePixels(hi-lo)))
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
			r.width, r.height = width, 1/(width*width)
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
				g.derivatives(g.Surrogate, slope[:g.Steps*n*Lanes], u, layer)
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

// whole rounds a number of pixels down to whole rows of pooling windows, but to at least one
// row.
func (g *NeuronGrad) whole(pixels int) int {
	if g.Pool == nil {
		return pixels
	}
	band := g.Pool.Stride * g.Pool.Win
	return max(1, pixels/band) * band
}

// spread writes the gradients of the pixels lo to lo+n−1 of unit u to dst
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

// Fired writes which neurons fire at least once.
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

// Gate computes dst = (scale·a)·src where the bit of mask is set, and 0 elsewhere. If add is
// set, it adds this to dst. a has a factor for each channel; if it is nil, the factor is 1.
// The mask is the same at every step. Units and images are as in [Scan].
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
