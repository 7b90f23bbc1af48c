package certify

import (
	"math"
	"math/bits"
)

// spikeSet is what a layer of neurons, or their pooled spikes, may do over all steps. Bit t of a
// mask is the spike of step t.
type spikeSet struct {
	must, may []uint64  // [c·h·w], the spikes that every train has, and those that some train has
	sets      [][]train // [c·h·w], all trains, or nil where there are too many; nil if not listed
}

// train is a spike train that a neuron may have.
type train struct {
	mask uint64
	// lo and hi bound the sum of the currents over all steps if the neuron has this train, or the
	// current itself if it is static.
	lo, hi float64
}

// functional returns the bounds of the functional g of the spikes.
func (s *spikeSet) functional(g functional) interval {
	v := newInterval(len(s.must))
	for i := range v.lo {
		v.lo[i], v.hi[i] = s.range1(i, g)
	}
	return v
}

func (s *spikeSet) range1(i int, g functional) (lo, hi float64) {
	if s.must[i] == s.may[i] {
		v := g.of(s.must[i])
		return v, v
	}
	if s.sets == nil || s.sets[i] == nil {
		return g.of(s.must[i]), g.of(s.may[i]) // weights are not negative
	}
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, t := range s.sets[i] {
		v := g.of(t.mask)
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// of returns the functional of a spike train.
func (g functional) of(mask uint64) (s float64) {
	for ; mask != 0; mask &= mask - 1 {
		s += g[bits.TrailingZeros64(mask)]
	}
	return s
}

// potential is an interval of membrane potentials of float32.
type potential struct{ lo, hi float32 }

// next returns the potentials before a spike, for potentials m after the step before and currents
// within x. Every product and every sum is rounded as the program rounds it. Rounding keeps order,
// so that the bounds are attained.
func (op *neurons) next(c int, m, x potential) potential {
	return potential{
		float32(op.decay[c]*m.lo) + float32(op.gain[c]*x.lo),
		float32(op.decay[c]*m.hi) + float32(op.gain[c]*x.hi),
	}
}

// after returns the potentials after a step with potentials v before the spike, if the neuron fires
// and if it does not. fires and stays say whether it can.
func (op *neurons) after(c int, v potential) (fired, stayed potential, fires, stays bool) {
	theta := op.threshold[c]
	fires, stays = v.hi >= theta, v.lo < theta
	fired = potential{op.reset[c], op.reset[c]}
	if op.soft {
		fired = potential{max(v.lo, theta) - theta, v.hi - theta}
	}
	return fired, potential{v.lo, min(v.hi, below(theta))}, fires, stays
}

// hull returns the least interval with both potentials.
func hull(a, b potential) potential { return potential{min(a.lo, b.lo), max(a.hi, b.hi)} }

// scan runs a neuron of channel c through all steps, with its currents within x, [T]. It returns the
// spikes that it must and may emit, and the largest magnitude of its potentials. This is plain
// interval arithmetic (S-IBP): the potential after a spike that is not certain is the hull of both
// cases.
func (op *neurons) scan(c int, x []potential) (must, may uint64, most float32) {
	m := potential{op.start[c], op.start[c]}
	for t, x := range x {
		v := op.next(c, m, x)
		most = max(most, -v.lo, v.hi)
		fired, stayed, fires, stays := op.after(c, v)
		switch {
		case fires && stays:
			may |= 1 << t
			m = hull(fired, stayed)
		case fires:
			must |= 1 << t
			may |= 1 << t
			m = fired
		default:
			m = stayed
		}
	}
	return must, may, most
}
