package certify

import "math"

// windows holds bounds of leaky sums of the currents of a layer over all ranges of steps. A current
// is a sum over neurons of earlier layers, and so is its leaky sum. It is bounded with one of the
// spike trains of each of them, and not with one spike after the other.
type windows struct {
	steps int
	decay float64
	sums  []interval // by at(s, t): Σ λ^(t−1−τ)·x(τ) for τ = s, …, t−1
	err   float64    // a bound of the rounding error of the potential in a step
}

// at returns the index of the range of the steps s to t−1.
func (w *windows) at(s, t int) int { return s*w.steps + t - 1 }

// functional returns the weights of a range.
func (w *windows) functional(s, t int) functional {
	g := make(functional, w.steps)
	weight := 1.0
	for τ := t - 1; τ >= s; τ-- {
		g[τ] = weight
		weight *= w.decay
	}
	return g
}

// newWindows bounds the sums of the currents x of the neurons op, which have a hard reset and one
// decay and gain. most bounds the magnitude of their potentials.
func newWindows(a *analysis, op *neurons, x *node, most float64) *windows {
	T := a.net.steps
	w := &windows{steps: T, decay: float64(op.decay[0]), sums: make([]interval, T*T)}
	for s := range T {
		for t := s + 1; t <= T; t++ {
			w.sums[w.at(s, t)] = a.functional(x, w.functional(s, t))
		}
	}
	for c := range x.c {
		size := max(most, math.Abs(float64(op.start[c])), math.Abs(float64(op.reset[c])))
		input := float64(op.gain[c]) * x.mag[c]
		// Two roundings of the potential and one of the gain, and those of λ's powers in float64.
		w.err = max(w.err, gamma32(1)*(2*size+input)+gamma64(128)*(size+float64(T)*input)+4*least32)
	}
	return w
}

// sum returns the bounds of neuron i for the steps s to t−1.
func (w *windows) sum(i, s, t int) (lo, hi float64) {
	v := w.sums[w.at(s, t)]
	return v.lo[i], v.hi[i]
}

// reset returns what the potential after the reset before step s, or the start, leaves at step t−1,
// and a bound of the rounding errors of the potential since.
func (w *windows) reset(op *neurons, c, s, t int) (from, err float64) {
	from, weight := float64(op.reset[c]), 1.0
	if s == 0 {
		from = float64(op.start[c])
	}
	for range t - s {
		err += w.err * weight
		weight *= w.decay
	}
	return from * weight, err * (1 + 1e-9)
}

// potential returns the bounds of the potential before the spike of step t−1, if the last reset was
// before step s.
func (w *windows) potential(op *neurons, c, i, s, t int) (lo, hi float64) {
	from, e := w.reset(op, c, s, t)
	lo, hi = w.sum(i, s, t)
	gain := float64(op.gain[c])
	return from + gain*lo - e, from + gain*hi + e
}
