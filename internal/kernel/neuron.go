package kernel

import "github.com/org/snnrat/internal/parallel"

// Neuron is the update rule of a spiking neuron: m ← Leak·m + x; it fires when
// m ≥ Threshold and is then set to zero, or lowered by Threshold if Soft is set.
type Neuron struct {
	Leak, Threshold float32
	Soft            bool
}

// Scan is the extent of a layer of neurons: Units = channel blocks × images,
// Pixels positions each. The currents have CurrentSteps steps (Steps, or 1 when
// they are the same at every step).
type Scan struct {
	Units, Pixels       int
	Steps, CurrentSteps int
}

// NeuronForward runs all steps of every neuron.
//
//	s   [Units][Steps][Pixels]
//	cur [Units][CurrentSteps][Pixels][16]
func NeuronForward(s []uint16, cur []float32, n Neuron, sc Scan, threads int) {
	curFrame, curNext := sc.Pixels*Lanes, 0
	if sc.CurrentSteps > 1 {
		curNext = curFrame
	}
	parallel.For(threads, sc.Units, func(u int) {
		s := s[u*sc.Steps*sc.Pixels:][:sc.Steps*sc.Pixels]
		cur := cur[u*sc.CurrentSteps*curFrame:][:sc.CurrentSteps*curFrame]
		for px := range sc.Pixels {
			var m [Lanes]float32
			for t := range sc.Steps {
				s[t*sc.Pixels+px] = n.step(&m, (*[Lanes]float32)(cur[t*curNext+px*Lanes:]))
			}
		}
	})
}

// step advances the membranes m by one step and returns the spikes. The products
// are rounded before they are added, on every architecture.
func (n Neuron) step(m, x *[Lanes]float32) uint16 {
	var s uint16
	for l, v := range m {
		v = float32(n.Leak*v) + x[l]
		if v >= n.Threshold {
			s |= 1 << l
			if n.Soft {
				v -= n.Threshold
			} else {
				v = 0
			}
		}
		m[l] = v
	}
	return s
}

// Derivative writes a surrogate derivative at u, the membrane potential above
// threshold, to dst, which may be u.
type Derivative func(dst, u []float32)

// neuronTile is the number of neuron-steps × 16 that a backward scan holds at a
// time: two buffers of 16 KB.
const neuronTile = 256

// NeuronBackward carries the gradient of the spikes back through time to the
// currents: with φ the surrogate derivative, p the membrane before and q the one
// after a reset,
//
//	∂s(t) = dout(t) − p(t)·∂q(t)   (soft reset: − Threshold·∂q(t); detached: dout(t))
//	∂p(t) = ∂s(t)·φ(t) + (1 − s(t))·∂q(t)   (soft reset: + ∂q(t))
//	∂q(t−1) = Leak·∂p(t),  dcur(t) = ∂p(t)
//
// dout has doutSteps steps (1 when it is the same at every step); dcur has
// sc.CurrentSteps and is overwritten, or added to if add is set.
//
//	dcur [Units][CurrentSteps][Pixels][16]
//	dout [Units][doutSteps][Pixels][16]
func NeuronBackward(dcur, cur []float32, s []uint16, dout []float32, doutSteps int, n Neuron, sc Scan, phi Derivative, detach, add bool, threads int) {
	frame := sc.Pixels * Lanes
	curNext, outNext := 0, 0
	if sc.CurrentSteps > 1 {
		curNext = frame
	}
	if doutSteps > 1 {
		outNext = frame
	}
	tile := max(1, neuronTile/sc.Steps)
	parallel.For(threads, sc.Units, func(u int) {
		buf := scratch(2 * sc.Steps * tile * Lanes)
		defer release(buf)
		mem, slope := (*buf)[:sc.Steps*tile*Lanes], (*buf)[sc.Steps*tile*Lanes:] // [tile][Steps][16]
		s := s[u*sc.Steps*sc.Pixels:]
		cur, dcur := cur[u*sc.CurrentSteps*frame:], dcur[u*sc.CurrentSteps*frame:]
		dout := dout[u*doutSteps*frame:]
		for lo := 0; lo < sc.Pixels; lo += tile {
			px := min(tile, sc.Pixels-lo)
			n.membranes(mem, slope, cur[lo*Lanes:], curNext, px, sc.Steps)
			phi(slope[:px*sc.Steps*Lanes], slope[:px*sc.Steps*Lanes])
			for i := lo; i < lo+px; i++ {
				var dq, sum [Lanes]float32
				for t := sc.Steps - 1; t >= 0; t-- {
					at := ((i-lo)*sc.Steps + t) * Lanes
					g := n.stepBack(&dq, (*[Lanes]float32)(mem[at:]), (*[Lanes]float32)(slope[at:]),
						(*[Lanes]float32)(dout[t*outNext+i*Lanes:]), s[t*sc.Pixels+i], detach)
					if curNext == 0 {
						add16(sum[:], g[:])
					} else {
						store16(dcur[t*curNext+i*Lanes:], &g, add)
					}
				}
				if curNext == 0 {
					store16(dcur[i*Lanes:], &sum, add)
				}
			}
		}
	})
}

// membranes recomputes the membranes before reset, and their distance above the
// threshold, for px pixels.
func (n Neuron) membranes(mem, above, cur []float32, curNext, px, steps int) {
	for i := range px {
		var m [Lanes]float32
		for t := range steps {
			x := (*[Lanes]float32)(cur[t*curNext+i*Lanes:])
			p := (*[Lanes]float32)(mem[(i*steps+t)*Lanes:])
			a := (*[Lanes]float32)(above[(i*steps+t)*Lanes:])
			for l, v := range m {
				v = float32(n.Leak*v) + x[l]
				p[l], a[l] = v, v-n.Threshold
				if v >= n.Threshold {
					if n.Soft {
						v -= n.Threshold
					} else {
						v = 0
					}
				}
				m[l] = v
			}
		}
	}
}

// stepBack is one step of NeuronBackward: it takes dq from step t to t−1 and
// returns the gradient of the current.
func (n Neuron) stepBack(dq, p, phi, dout *[Lanes]float32, s uint16, detach bool) (g [Lanes]float32) {
	for l := range Lanes {
		ds, q := dout[l], dq[l]
		fires := s>>l&1 == 1
		switch {
		case detach:
		case n.Soft:
			ds -= float32(n.Threshold * q)
		default:
			ds -= float32(p[l] * q)
		}
		v := float32(ds * phi[l])
		if n.Soft || !fires {
			v += q
		}
		g[l] = v
		dq[l] = n.Leak * v
	}
	return g
}

// Fired writes which neurons fire at least once in any of the steps.
//
//	fired [Units][Pixels]
//	s     [Units][Steps][Pixels]
func Fired(fired, s []uint16, sc Scan, threads int) {
	parallel.For(threads, sc.Units, func(u int) {
		f := fired[u*sc.Pixels:][:sc.Pixels]
		clear(f)
		for t := range sc.Steps {
			for i, w := range s[(u*sc.Steps+t)*sc.Pixels:][:sc.Pixels] {
				f[i] |= w
			}
		}
	})
}

// Gate writes dst = scale·src where the mask's bit is set and zero elsewhere, or
// adds it to dst if add is set. Every one of the steps has the same mask; src and dst have
// steps steps.
//
//	dst, src [units][steps][pixels][16]
//	mask     [units][pixels]
func Gate(dst, src []float32, mask []uint16, scale float32, units, steps, pixels int, add bool, threads int) {
	parallel.For(threads, units, func(u int) {
		m := mask[u*pixels:][:pixels]
		for t := range steps {
			off := (u*steps + t) * pixels * Lanes
			for i, w := range m {
				var g [Lanes]float32
				for l, v := range (*[Lanes]float32)(src[off+i*Lanes:]) {
					if w>>l&1 == 1 {
						g[l] = scale * v
					}
				}
				store16(dst[off+i*Lanes:], &g, add)
			}
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
