package kernel

import (
	"slices"
	"sync/atomic"
	"unsafe"
)

// GLIF is the update rule of a generalized leaky integrate-and-fire neuron. Each coefficient
// is one value for each channel, [blocks][16]; nil stands for the value in brackets. At
// every step, with the input current x(t), the neuron updates its synaptic current i, its
// membrane potential m and its adaptation a, and emits the spike s(t):
//
//	i(t) = SynapticDecay·i(t−1) + Recurrence·s(t−1) + x(t)
//	p(t) = Decay·m(t−1) + Gain·i(t)
//	θ(t) = Threshold + Adaptation·a(t−1)
//	s(t) = 1 if p(t) ≥ θ(t), else 0
//	m(t) = Reset if s(t), else p(t)         hard reset
//	m(t) = p(t) − θ(t)·s(t)                 soft reset
//	a(t) = AdaptationDecay·a(t−1) + (1 − AdaptationDecay)·s(t)
//
// Before the first step i, s and a are 0, and m is Start. Every product is rounded before
// it is added to anything. Without the optional coefficients the spikes are those of
// [NeuronForward] to the bit.
//
// In blocks whose channels are not all in use, the threshold of the others must be positive.
type GLIF struct {
	SynapticDecay   []float32 // α (0)
	Recurrence      []float32 // v (0)
	Gain            []float32 // κ (1)
	Decay           []float32 // λ, not nil
	Threshold       []float32 // θ₀, not nil
	Adaptation      []float32 // β (0)
	AdaptationDecay []float32 // ρ (0)
	Reset           []float32 // V_r (0)
	Start           []float32 // (0)
	Soft            bool      // soft reset
}

func (n *GLIF) synaptic() bool { return n.SynapticDecay != nil || n.Recurrence != nil }
func (n *GLIF) adaptive() bool { return n.Adaptation != nil }

// GLIFState is what GLIF neurons carry from one step to the next. A stream feeds it to one
// call after the other. Its bits do not depend on how the steps are divided into calls.
type GLIFState struct {
	Membrane   []float32 // m [Units][Pixels][16]
	Carry      []float32 // SynapticDecay·i + Recurrence·s, alike; nil if both coefficients are nil
	Adaptation []float32 // a, alike; nil if the coefficient is nil
}

// NewGLIFState returns the state of neurons before the first step.
func NewGLIFState(n *GLIF, sc Scan) *GLIFState {
	s := &GLIFState{Membrane: make([]float32, sc.Units*sc.Pixels*Lanes)}
	if n.synaptic() {
		s.Carry = make([]float32, len(s.Membrane))
	}
	if n.adaptive() {
		s.Adaptation = make([]float32, len(s.Membrane))
	}
	s.Clear(n, sc)
	return s
}

// Clear makes the state that before the first step.
func (s *GLIFState) Clear(n *GLIF, sc Scan) {
	clear(s.Carry)
	clear(s.Adaptation)
	for u := range sc.Units {
		n.start(s.Membrane[u*sc.Pixels*Lanes:][:sc.Pixels*Lanes], u/sc.Images)
	}
}

// Fits reports whether s has the parts that neurons n need.
func (s *GLIFState) Fits(n *GLIF) bool {
	return n.synaptic() == (s.Carry != nil) && n.adaptive() == (s.Adaptation != nil)
}

// start writes the membranes before the first step of neurons of a block.
func (n *GLIF) start(m []float32, block int) {
	if n.Start == nil {
		clear(m)
		return
	}
	start := n.Start[block*Lanes:][:Lanes]
	for ; len(m) > 0; m = m[Lanes:] {
		copy(m, start)
	}
}

// run returns the arguments for the pixels lo to hi−1 of unit u.
func (n *GLIF) run(sc *Scan, u, lo, hi int, x []float32, norm Norm, s []uint16) glifRun {
	r := glifRun{
		x:      unsafe.Pointer(&x[(u*sc.CurrentSteps*sc.Pixels+lo)*Lanes]),
		s:      unsafe.Pointer(&s[u*sc.Steps*sc.Pixels+lo]),
		pixels: uint64(hi - lo),
		steps:  uint64(sc.Steps),
		xStep:  uint64(stride(sc.CurrentSteps, sc.Pixels) * Lanes * 4),
		sStep:  uint64(sc.Pixels * 2),
		soft:   bit(n.Soft),
	}
	r.k = n.constants(u/sc.Images, norm)
	return r
}

// constants returns the constants of a block that follow from n and norm.
func (n *GLIF) constants(block int, norm Norm) glifVectors {
	a, b := norm.at(block)
	k := glifVectors{
		a: *vector32(a, 0), b: *vector32(b, 0), one: ones,
		synapticDecay:   channels(n.SynapticDecay, block, 0),
		recurrence:      channels(n.Recurrence, block, 0),
		gain:            channels(n.Gain, block, 1),
		decay:           channels(n.Decay, block, 0),
		threshold:       channels(n.Threshold, block, 0),
		adaptation:      channels(n.Adaptation, block, 0),
		adaptationDecay: channels(n.AdaptationDecay, block, 0),
		reset:           channels(n.Reset, block, 0),
	}
	for l := range Lanes {
		k.recurrence[l] *= -1
		k.jump[l] = k.adaptationDecay[l] - 1
	}
	return k
}

// channels returns the coefficients of a block, or the given one if they are absent.
func channels(values []float32, block int, absent float32) (v [Lanes]float32) {
	if values != nil {
		return [Lanes]float32(values[block*Lanes:])
	}
	for l := range v {
		v[l] = absent
	}
	return v
}

// advance moves r by n pixels.
func (r *glifRun) advance(n int) {
	r.x, r.s = unsafe.Add(r.x, n*Lanes*4), unsafe.Add(r.s, n*2)
}

// GLIFForward runs all steps of every neuron on the inputs x and writes the spikes s. It
// reports whether all distances of membrane potentials from their thresholds are finite,
// before the resets. If state is not nil, the neurons start from it, and it is overwritten
// by their state after the last step.
//
//	s [Units][Steps][Pixels]
//	x [Units][CurrentSteps][Pixels][16]
func GLIFForward(s []uint16, x []float32, norm Norm, n *GLIF, sc Scan, state *GLIFState, threads int) (finite bool) {
	return glifScan{s: s, x: x, norm: norm, n: n, sc: sc, state: state}.run(threads)
}

// GLIFSupport is [NeuronSupport] for GLIF neurons.
func GLIFSupport(near []uint16, x []float32, norm Norm, n *GLIF, sc Scan, width float32, threads int) {
	glifScan{s: near, x: x, norm: norm, n: n, sc: sc, support: true, width: width}.run(threads)
}

// glifScan are the variables of a forward scan.
type glifScan struct {
	l       Level
	sc      Scan
	s       []uint16
	x       []float32
	norm    Norm
	n       *GLIF
	state   *GLIFState // or nil: the neurons start afresh
	support bool       // whether s is GLIFSupport's
	width   float32
	bad     *atomic.Bool // set if a potential is not finite
}

func (k glifScan) run(threads int) (finite bool) {
	k.l, k.bad = CurrentLevel(), flags.Get().(*atomic.Bool)
	defer flags.Put(k.bad)
	k.bad.Store(false)
	piecesWith(threads, k.sc.Units, k.sc.Pixels, k.sc.runPixels(), k, glifScan.piece)
	return !k.bad.Load()
}

func (k glifScan) piece(u, lo, hi int) {
	sc, n := &k.sc, k.n
	r := n.run(sc, u, lo, hi, k.x, k.norm, k.s)
	r.k.width = channels(nil, 0, k.width)
	tile := sc.tilePixels(hi - lo)
	buf := scratch((1 + 3*tile) * Lanes)
	defer release(buf)
	check, own := (*buf)[:Lanes], (*buf)[Lanes:]
	clear(check)
	r.check = unsafe.Pointer(&check[0])
	for {
		px := min(tile, hi-lo)
		r.pixels, r.soon = uint64(px), uint64(px*Lanes*4)-(r.steps-1)*r.xStep
		if k.state == nil {
			n.fresh(&r, own, tile, u/sc.Images)
		} else {
			at := (u*sc.Pixels + lo) * Lanes
			r.membrane = unsafe.Pointer(&k.state.Membrane[at])
			if n.synaptic() {
				r.carry = unsafe.Pointer(&k.state.Carry[at])
			}
			if n.adaptive() {
				r.adaptation = unsafe.Pointer(&k.state.Adaptation[at])
			}
		}
		if k.support {
			k.l.glifSupport(&r)
		} else {
			k.l.glifForward(&r)
		}
		if lo += px; lo == hi {
			break
		}
		r.advance(px)
	}
	if slices.ContainsFunc(check, func(v float32) bool { return v != 0 }) {
		k.bad.Store(true)
	}
}

// fresh makes r start from the state before the first step, in own [3][tile][16].
func (n *GLIF) fresh(r *glifRun, own []float32, tile, block int) {
	size := tile * Lanes
	n.start(own[:size], block)
	r.membrane = unsafe.Pointer(&own[0])
	if n.synaptic() {
		clear(own[size : 2*size])
		r.carry = unsafe.Pointer(&own[size])
	}
	if n.adaptive() {
		clear(own[2*size : 3*size])
		r.adaptation = unsafe.Pointer(&own[2*size])
	}
}

// GLIFGrad holds what a backward scan reads: the arguments and the result of a forward pass
// that had no state, and the gradient Dout of the spikes. Dout has DoutSteps steps: Steps,
// or 1 if it is the same at every step. Detach leaves the spike of the reset out of the
// gradient. Unscaled makes dx the gradient of the currents, without the factor A of Norm.
//
// Stepwise leaves out every gradient from one step to another. dx then has one step, the mean
// over time, or the sum if CurrentSteps is 1.
type GLIFGrad struct {
	GLIF
	Scan
	Norm      Norm
	X         []float32 // [Units][CurrentSteps][Pixels][16]
	Spikes    []uint16  // [Units][Steps][Pixels]
	Dout      []float32 // [Units][DoutSteps][Pixels][16]
	DoutSteps int
	Surrogate Surrogate
	Detach    bool
	Unscaled  bool
	Stepwise  bool
}

// GLIFSums are the gradients of coefficients, one for each channel, [blocks][16].
type GLIFSums struct {
	SynapticDecay, Recurrence, Gain, Decay, Threshold, Adaptation, AdaptationDecay, Reset []float64
}

// NewGLIFSums returns sums of zero.
func NewGLIFSums(blocks int) *GLIFSums {
	v := make([]float64, sumRows*blocks*Lanes)
	next := func() []float64 {
		s := v[:blocks*Lanes]
		v = v[blocks*Lanes:]
		return s
	}
	return &GLIFSums{next(), next(), next(), next(), next(), next(), next(), next()}
}

// sumRows is the number of fields of glifTotals.
const sumRows = 8

// rows returns the sums in the order of the fields of glifTotals.
func (s *GLIFSums) rows() [sumRows][]float64 {
	return [sumRows][]float64{s.SynapticDecay, s.Recurrence, s.Gain, s.Decay, s.Threshold, s.Adaptation, s.AdaptationDecay, s.Reset}
}

// GLIFBackward computes the gradient dx of the inputs by backpropagation through time. It
// runs the neurons again and then goes back over the steps. α, v, κ, λ, β, ρ and V_r are the
// coefficients of [GLIF], in its order. φ(t) is the surrogate derivative at p(t) − θ(t).
//
// The gradient of the state after the last step is 0. Each step turns the gradients ∂m and ∂a
// of m(t) and a(t), and ∂i⁺ of i(t+1), into
//
//	∂s = dout(t) + (1 − ρ)·∂a + v·∂i⁺ + (V_r − p)·∂m     (soft reset: − θ·∂m; detached: neither)
//	∂p = φ·∂s + (1 − s)·∂m                               (soft reset: + ∂m)
//	∂θ = −φ·∂s                                           (soft reset: − s·∂m)
//	∂i = κ·∂p + α·∂i⁺
//
// and the gradients of m(t−1) and a(t−1) are λ·∂p and ρ·∂a + β·∂θ. Then dx(t) = A·∂i.
//
// If sums is not nil, the gradients of the coefficients are added to it:
//
//	α: Σ i(t)·∂i⁺     v: Σ s(t)·∂i⁺       κ: Σ i(t)·∂p                   λ: Σ m(t−1)·∂p
//	θ₀: Σ ∂θ          β: Σ a(t−1)·∂θ      ρ: Σ (a(t−1) − s(t))·∂a        V_r: Σ s(t)·∂m
//
// Those of α and v stay 0 if both are nil, those of β and ρ if β is nil, and that of V_r at
// a soft reset. Start counts as a constant. The sums of a tile are float32; tiles are added
// in float64. They do not depend on threads.
//
// dx has CurrentSteps steps. It is overwritten, or added to if add is set. If CurrentSteps
// is 1 and Steps is more, dx is the sum over time. dx may be g.Dout if both have the same
// number of steps and add is not set. dx may be nil.
func GLIFBackward(dx []float32, sums *GLIFSums, g GLIFGrad, add bool, threads int) {
	l := CurrentLevel()
	size := g.runOf(g.Surrogate, g.runPixels())
	perUnit := ceilDiv(g.Pixels, size)
	layer := g.ofLayer(g.Surrogate, threads, func(u int, buf []float32) {
		slope, rest := buf[:g.Steps*Lanes], buf[g.Steps*Lanes:]
		history, state := rest[:4*g.Steps*Lanes], rest[4*g.Steps*Lanes:]
		r := g.GLIF.run(&g.Scan, u, 0, 1, g.X, g.Norm, g.Spikes)
		r.slope, r.history, r.slopeStep, r.historyStep = unsafe.Pointer(&slope[0]), unsafe.Pointer(&history[0]), Lanes*4, 4*Lanes*4
		g.fresh(&r, state, 1, u/g.Images)
		l.glifReplay(&r)
	})
	defer layer.release()
	var parts []float64 // [Units][runs][sumRows][16]
	if sums != nil {
		buf := zeroPartials(g.Units * perUnit * sumRows * Lanes)
		defer partials.put(buf)
		parts = *buf
	}
	width, inline := inlineWidth(g.Surrogate)
	inline = inline && !g.Stepwise // computed from the coefficients that Stepwise clears
	height := 1 / (width * width)
	pieces(threads, g.Units, g.Pixels, size, func(u, lo, hi int) {
		tile := g.runOf(g.Surrogate, g.tilePixels(hi-lo))
		vectors := g.Steps * tile
		buf := scratch((4*vectors + 4*tile + tile + vectors) * Lanes)
		defer release(buf)
		history, rest := (*buf)[:4*vectors*Lanes], (*buf)[4*vectors*Lanes:] // [steps][tile][4][16]
		state, rest := rest[:4*tile*Lanes], rest[4*tile*Lanes:]             // [3][tile][16], then [tile][4][16]
		total, slope := rest[:tile*Lanes], rest[tile*Lanes:]                // [tile][16], [steps][tile][16]

		r := g.GLIF.run(&g.Scan, u, lo, hi, g.X, g.Norm, g.Spikes)
		r.history, r.adjoint = unsafe.Pointer(&history[0]), unsafe.Pointer(&state[0])
		if !inline {
			r.slope = unsafe.Pointer(&slope[0])
		}
		r.k.width, r.k.height = channels(nil, 0, width), channels(nil, 0, height)
		r.detach, r.add, r.summed = bit(g.Detach), bit(add), bit(sums != nil)
		if r.k.scale = r.k.a; g.Unscaled {
			r.k.scale = ones
		}
		once := dx != nil && (r.xStep == 0 || g.Stepwise) // the gradient has one step
		dxSteps := g.CurrentSteps
		if once {
			dxSteps = 1
		}
		if g.Stepwise && g.CurrentSteps > 1 {
			for l := range r.k.scale {
				r.k.scale[l] /= float32(g.Steps)
			}
		}
		replay := r.k
		if once {
			r.total = unsafe.Pointer(&total[0])
		}
		for {
			n := min(tile, hi-lo)
			at := (u*dxSteps*g.Pixels + lo) * Lanes
			if dx != nil && !once {
				r.dx, r.dxStep = unsafe.Pointer(&dx[at]), r.xStep
			}
			r.pixels, r.slopeStep, r.historyStep = uint64(n), uint64(n*Lanes*4), uint64(4*n*Lanes*4)
			r.dout, r.doutStep = unsafe.Pointer(&g.Dout[(u*g.DoutSteps*g.Pixels+lo)*Lanes]), uint64(stride(g.DoutSteps, g.Pixels)*Lanes*4)
			g.fresh(&r, state, tile, u/g.Images)
			r.soon = uint64(n*Lanes*4) - (r.steps-1)*r.xStep
			l.glifReplay(&r)
			if !inline {
				g.derivatives(g.Surrogate, slope[:g.Steps*n*Lanes], u, layer)
			}
			clear(state[:4*n*Lanes])
			clear(total[:n*Lanes])
			r.sums = glifTotals{}
			r.soon = uint64(n*Lanes*4) + (r.steps-1)*r.doutStep
			if g.Stepwise {
				r.detach = 1
				r.k.synapticDecay, r.k.recurrence, r.k.decay, r.k.adaptation = [Lanes]float32{}, [Lanes]float32{}, [Lanes]float32{}, [Lanes]float32{}
			}
			l.glifBackward(&r)
			r.k = replay
			if once {
				l.scale(&dx[at], &total[0], &r.k.scale[0], n, add)
			}
			if sums != nil {
				part := parts[(u*perUnit+lo/size)*sumRows*Lanes:]
				for i, v := range (*[sumRows * Lanes]float32)(unsafe.Pointer(&r.sums)) {
					part[i] += float64(v)
				}
			}
			if lo += n; lo == hi {
				return
			}
			r.advance(n)
		}
	})
	if sums != nil {
		g.merge(sums, parts, perUnit*g.Images)
	}
}

// merge adds up the parts [blocks][per][sumRows][16].
func (g *GLIFGrad) merge(sums *GLIFSums, parts []float64, per int) {
	for row, dst := range sums.rows() {
		sign := 1.0
		switch {
		case &dst[0] == &sums.Threshold[0], &dst[0] == &sums.Adaptation[0]:
			sign = -1
		case &dst[0] == &sums.Reset[0] && g.Soft:
			continue
		}
		for c := range dst {
			var sum float64
			for i := range per {
				sum += parts[((c/Lanes*per+i)*sumRows+row)*Lanes+c%Lanes]
			}
			dst[c] += sign * sum
		}
	}
}
