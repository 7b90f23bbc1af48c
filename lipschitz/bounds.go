package lipschitz

import (
	"fmt"
	"math"
)

// Gamma returns γ of the row-major rows × cols matrix w: the largest sum of a row's
// positive weights plus the largest sum, in magnitude, of a row's negative weights,
// which need not be the same row's. It is computed in float64. It returns an error
// if w holds a value that is not finite.
func Gamma(w []float32, rows, cols int) (float64, error) {
	sums, err := signedRowSums("Gamma", w, rows, cols)
	var most rowSums
	for _, s := range sums {
		most.pos, most.neg = max(most.pos, s.pos), max(most.neg, s.neg)
	}
	return most.pos + most.neg, err
}

// MembraneBounds returns an interval [lo, hi] that holds every membrane potential
// before its comparison with the threshold, of any neuron of the layer, at any of
// the steps 1 to T, for any spikes x(t) in {0,1}ⁿ that come in:
//
//	m(t) = λ·m(t−1)·(1 − s(t−1)) + W·x(t) + b,  s(t) = 1[m(t) ≥ θ],  m(0) = 0
//
// with decay λ in (0,1], threshold θ > 0, T = steps ≥ 1, w the row-major rows × cols
// matrix W, and the bias b, [rows], or nil for none. With p and −n the sums of a row's
// positive and negative weights, and its bias added to both, a neuron's currents lie in
// [−n, p], and its potentials in
//
//	lo = −n·Σ_{k<T} λ^k, or −n if that is not negative
//	hi = min(p·Σ_{k<T} λ^k, λ·θ + p), or p if that is not positive
//
// lo is attained. hi is a bound: what a neuron carries into a step is below θ, or it
// would have been reset, and not above what p at every step adds up to. (How close to θ
// it comes is a question of which sums the weights have, which is as hard to answer as
// the subset sum problem.) Returned are
// the lowest lo and the highest hi of all rows.
//
// Γ = hi − lo bounds how far two such potentials can be apart; for T = 1, without
// bias, it is γ. MembraneBounds returns an error if w or bias holds a value that is not
// finite or if another argument is out of its range.
func MembraneBounds(w, bias []float32, rows, cols int, decay, threshold float64, steps int) (lo, hi float64, err error) {
	r := Response{Decay: decay, Threshold: threshold, Steps: steps}
	if err := r.validate("MembraneBounds"); err != nil {
		return 0, 0, err
	}
	sums, err := signedRowSums("MembraneBounds", w, rows, cols)
	if err != nil {
		return 0, 0, err
	}
	if err := checkBias("MembraneBounds", bias, rows); err != nil {
		return 0, 0, err
	}
	lo, hi = math.Inf(1), math.Inf(-1)
	for i, s := range sums {
		l, h := r.potentials(s.plus(bias, i))
		lo, hi = min(lo, l), max(hi, h)
	}
	return lo, hi, nil
}

// potentials returns the bounds of a neuron's potentials whose currents lie between
// least and most.
func (r Response) potentials(least, most float64) (lo, hi float64) {
	sum := powers(r.Decay, r.Steps)
	lo, hi = least, most
	if least < 0 {
		lo *= sum
	}
	if most > 0 {
		hi = min(most*sum, r.Decay*r.Threshold+most)
	}
	return lo, hi
}

// rowSums are the sums of a row's positive weights and of the magnitudes of its
// negative ones.
type rowSums struct{ pos, neg float64 }

// plus returns the least and the largest current of row i, whose sums s are.
func (s rowSums) plus(bias []float32, i int) (least, most float64) {
	if bias == nil {
		return -s.neg, s.pos
	}
	return float64(bias[i]) - s.neg, float64(bias[i]) + s.pos
}

func signedRowSums(op string, w []float32, rows, cols int) ([]rowSums, error) {
	if err := check(op, w, rows, cols); err != nil {
		return nil, err
	}
	sums := make([]rowSums, rows)
	for r := range rows {
		for _, v := range w[r*cols:][:cols] {
			sums[r].pos += max(float64(v), 0)
			sums[r].neg += max(-float64(v), 0)
		}
	}
	return sums, nil
}

// checkBias panics if bias is not nil and has not a value for each row, and returns an
// error if one is not finite.
func checkBias(op string, bias []float32, rows int) error {
	if bias != nil && len(bias) != rows {
		panic(fmt.Sprintf("lipschitz: %s: a bias of %d values for %d rows", op, len(bias), rows))
	}
	for i, v := range bias {
		if v-v != 0 {
			return fmt.Errorf("lipschitz: %s: the bias of row %d is %v; expected a finite number", op, i, v)
		}
	}
	return nil
}

// check panics if w is not rows × cols and returns an error that names the first
// value that is not finite.
func check(op string, w []float32, rows, cols int) error {
	if rows < 1 || cols < 1 || len(w) != rows*cols {
		panic(fmt.Sprintf("lipschitz: %s: %d values for a %d × %d matrix", op, len(w), rows, cols))
	}
	for i, v := range w {
		if v-v != 0 {
			return fmt.Errorf("lipschitz: %s: the weight in row %d, column %d is %v; expected a finite number", op, i/cols, i%cols, v)
		}
	}
	return nil
}
