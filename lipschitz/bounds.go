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
	pos, neg, err := signedRowSums("Gamma", w, rows, cols)
	return pos + neg, err
}

// MembraneBounds returns an interval [lo, hi] that holds every membrane potential
// before its comparison with the threshold, of any neuron of the layer, at any of
// the steps 1 to T, for any spikes x(t) in {0,1}ⁿ that come in:
//
//	m(t) = λ·m(t−1)·(1 − s(t−1)) + W·x(t),  s(t) = 1[m(t) ≥ θ],  m(0) = 0
//
// with leak λ in (0,1], threshold θ > 0, T = steps ≥ 1, and w the row-major rows ×
// cols matrix W. P and N being the largest positive and negative row sums that
// [Gamma] adds,
//
//	lo = −N·Σ_{k<T} λ^k
//	hi = min(P·Σ_{k<T} λ^k, λ·θ + P)
//
// lo is attained. hi is a bound: what a neuron carries into a step is below θ, or it
// would have been reset, and not above what P at every step adds up to.
//
// Γ = hi − lo bounds how far two such potentials can be apart; for T = 1 it is γ.
// MembraneBounds returns an error if w holds a value that is not finite or if
// another argument is out of its range.
func MembraneBounds(w []float32, rows, cols int, leak, threshold float64, steps int) (lo, hi float64, err error) {
	switch {
	case !(leak > 0 && leak <= 1):
		err = fmt.Errorf("lipschitz: MembraneBounds: leak is %v; expected a number in (0, 1]", leak)
	case !(threshold > 0) || math.IsInf(threshold, 0):
		err = fmt.Errorf("lipschitz: MembraneBounds: threshold is %v; expected a positive number", threshold)
	case steps < 1:
		err = fmt.Errorf("lipschitz: MembraneBounds: %d steps; expected at least 1", steps)
	}
	if err != nil {
		return 0, 0, err
	}
	pos, neg, err := signedRowSums("MembraneBounds", w, rows, cols)
	if err != nil {
		return 0, 0, err
	}
	var sum float64 // Σ_{k<T} λ^k
	for range steps {
		sum = leak*sum + 1
	}
	return -neg * sum, min(pos*sum, leak*threshold+pos), nil
}

// signedRowSums returns the largest sum of a row's positive weights, and of the
// magnitudes of a row's negative ones.
func signedRowSums(op string, w []float32, rows, cols int) (pos, neg float64, err error) {
	if err := check(op, w, rows, cols); err != nil {
		return 0, 0, err
	}
	for r := range rows {
		var p, n float64
		for _, v := range w[r*cols:][:cols] {
			p += max(float64(v), 0)
			n += max(-float64(v), 0)
		}
		pos, neg = max(pos, p), max(neg, n)
	}
	return pos, neg, nil
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
