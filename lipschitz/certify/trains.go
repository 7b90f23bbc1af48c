package certify

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// mostTrains is the largest number of spike trains that are listed for a neuron.
const mostTrains = 256

// listStatic returns the spike trains of a neuron of channel c over all currents of x that are the
// same at every step. It lists them exactly, with the interval of currents of each, in ascending
// order.
//
// As long as two currents have the same spikes, the larger one has the larger potential: products
// with factors of at least 0, sums, and roundings all keep order. Of the currents with given spikes
// before step t, those that fire at t are therefore an upper interval. Its least float32 is found by
// bisection, with the potentials that the program computes.
func (op *neurons) listStatic(c, steps int, x potential) []train {
	var list []train
	var walk func(x potential, t int, mask uint64)
	walk = func(x potential, t int, mask uint64) {
		for ; t < steps; t++ {
			fires := func(v float32) bool { return op.potentialAt(c, t, mask, v) >= op.threshold[c] }
			switch {
			case fires(x.lo):
				mask |= 1 << t
			case fires(x.hi):
				first := bisect(x, fires)
				walk(potential{x.lo, below(first)}, t+1, mask)
				x.lo = first
				mask |= 1 << t
			}
		}
		list = append(list, train{mask, float64(x.lo), float64(x.hi)})
	}
	walk(x, 0, 0)
	return list
}

// potentialAt returns the potential before the spike of step t, for the current x and the spikes of
// mask before.
func (op *neurons) potentialAt(c, t int, mask uint64, x float32) float32 {
	m := op.start[c]
	for s := 0; ; s++ {
		v := op.next(c, potential{m, m}, potential{x, x}).lo
		switch {
		case s == t:
			return v
		case mask>>s&1 == 0:
			m = v
		case op.soft:
			m = v - op.threshold[c]
		default:
			m = op.reset[c]
		}
	}
}

// bisect returns the least float32 in x for which above is true. It is true for x.hi and, from that
// float32 on, for all of x.
func bisect(x potential, above func(float32) bool) float32 {
	lo, hi := ordinal(x.lo), ordinal(x.hi) // above is false at lo
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; above(fromOrdinal(mid)) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return fromOrdinal(hi)
}

// ordinal numbers the float32 in ascending order. 0 and −0 have the number 0.
func ordinal(x float32) int64 {
	b := math.Float32bits(x)
	if b>>31 == 1 {
		return -int64(b &^ (1 << 31))
	}
	return int64(b)
}

func fromOrdinal(i int64) float32 {
	if i < 0 {
		return -math.Float32frombits(uint32(-i))
	}
	return math.Float32frombits(uint32(i))
}

// history lists the spike trains of a neuron whose currents may differ from step to step. It follows
// all spike trains and keeps those that the bounds of the potentials allow.
type history struct {
	op    *neurons
	c     int
	x     []potential // [T], the currents
	w     *windows    // nil for none
	total [2]float64  // bounds of the sum of all currents
	i     int         // the neuron
	list  []train
	full  bool // there are too many trains
}

// walk goes on at step t, with potentials m after the last step. The last spike was at step s−1, or
// s is 0.
func (h *history) walk(t, s int, m potential, mask uint64) {
	if h.full {
		return
	}
	if t == len(h.x) {
		if h.full = len(h.list) == mostTrains; !h.full {
			lo, hi := h.sum(mask, m)
			h.list = append(h.list, train{mask, lo, hi})
		}
		return
	}
	v := h.op.next(h.c, m, h.x[t])
	if h.w != nil {
		lo, hi := h.w.potential(h.op, h.c, h.i, s, t+1)
		v = potential{max(v.lo, down32(lo)), min(v.hi, up32(hi))}
		if v.lo > v.hi {
			return
		}
	}
	fired, stayed, fires, stays := h.op.after(h.c, v)
	if stays {
		h.walk(t+1, s, stayed, mask)
	}
	if fires {
		h.walk(t+1, t+1, fired, mask|1<<t)
	}
}

// sum returns bounds of the sum of the currents if the neuron has the train mask, and ends with the
// potential m.
func (h *history) sum(mask uint64, m potential) (lo, hi float64) {
	T := len(h.x)
	var size float64
	for _, x := range h.x {
		size += math.Abs(float64(x.lo)) + math.Abs(float64(x.hi))
	}
	switch {
	case h.w != nil: // hard reset
		s := 0
		for rest := mask; ; rest &= rest - 1 {
			t := min(bits.TrailingZeros64(rest)+1, T)
			a, b := h.piece(s, t, rest != 0)
			lo, hi = lo+a, hi+b
			if s = t; rest == 0 {
				break
			}
		}
	default:
		for _, x := range h.x {
			lo, hi = lo+float64(x.lo), hi+float64(x.hi)
		}
		if h.op.soft && h.op.decay[h.c] == 1 && h.op.gain[h.c] == 1 {
			// Without leak, what came in is the last potential and the spikes' thresholds.
			theta, start := float64(h.op.threshold[h.c]), float64(h.op.start[h.c])
			spent := theta*float64(bits.OnesCount64(mask)) - start
			e := gamma32(2*T) * (size + math.Abs(start) + float64(T)*theta)
			lo, hi = max(lo, float64(m.lo)+spent-e), min(hi, float64(m.hi)+spent+e)
		}
	}
	e := 1e-12 * size
	lo, hi = max(lo, h.total[0])-e, min(hi, h.total[1])+e
	return lo, max(lo, hi)
}

// piece bounds the sum of the currents of the steps s to t−1, between two resets. The neuron fires at
// the last of them, or at none.
func (h *history) piece(s, t int, fires bool) (lo, hi float64) {
	decay, gain := float64(h.op.decay[h.c]), float64(h.op.gain[h.c])
	var leaked float64 // Σ λ^(t−1−τ)·x(τ) for the least currents
	for _, x := range h.x[s:t] {
		leaked = leaked*decay + float64(x.lo)
		lo, hi = lo+float64(x.lo), hi+float64(x.hi)
	}
	if s == t || gain == 0 {
		return lo, hi
	}
	from, e := h.w.reset(h.op, h.c, s, t)
	theta := float64(h.op.threshold[h.c])
	if fires { // the currents reach the threshold; the latest ones do it with the least sum
		need, weight := (theta-from-e)/gain-leaked, 1.0
		for τ := t - 1; τ >= s && need > 0 && weight > 0; τ-- {
			d := min(float64(h.x[τ].hi)-float64(h.x[τ].lo), need/weight)
			lo += d
			need -= d * weight
			weight *= decay
		}
	} else { // the currents do not reach it; the earliest ones add most
		room, most := (theta-from+e)/gain-leaked, lo
		for τ := s; τ < t; τ++ {
			d := float64(h.x[τ].hi) - float64(h.x[τ].lo)
			if weight := math.Pow(decay, float64(t-1-τ)); d*weight > room {
				d = max(0, room) / weight
			}
			most += d
			room -= d * math.Pow(decay, float64(t-1-τ))
		}
		hi = min(hi, most)
	}
	if decay == 1 {
		a, b := h.w.sum(h.i, s, t)
		lo, hi = max(lo, a), min(hi, b)
	}
	return lo, hi
}

// union returns the trains of a maximum of spikes with the trains a and b, or nil if there are too
// many.
func union(a, b []train) []train {
	var out []train
	for _, s := range a {
		for _, t := range b {
			out = append(out, train{mask: s.mask | t.mask})
		}
	}
	slices.SortFunc(out, func(s, t train) int { return cmp.Compare(s.mask, t.mask) })
	out = slices.CompactFunc(out, func(s, t train) bool { return s.mask == t.mask })
	if len(out) > mostTrains {
		return nil
	}
	return out
}
