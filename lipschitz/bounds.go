package lipschitz

import (
	"fmt"
	"math"
)

// Gamma returns γ of the row-major rows × cols matrix w,
//
//	γ = max_i Σ_j max(w_ij, 0) + max_i Σ_j max(−w_ij, 0)
//
// The two maxima can come from different rows. γ is the range of the currents W·s over
// all rows and all spikes s in {0,1}ⁿ. The authors' code computes this quantity. Eq. 15 as
// printed defines another one, see [PaperGamma].
//
// The result is the exact γ, or it is rounded upwards. Gamma returns an error if w holds a
// value that is not finite.
func Gamma(w []float32, rows, cols int) (float64, error) {
	sums, err := signedRowSums("Gamma", w, rows, cols)
	most := largestSums(sums)
	return addUp(most.pos, most.neg), err
}

// MembraneBounds returns an interval [lo, hi] that holds the membrane potentials of a
// layer of neurons with hard reset. It covers every neuron, every step from 1 to T = steps
// and all input spikes x(t) in {0,1}ⁿ. A potential m(t) is the value before the comparison
// with the threshold:
//
//	m(t) = λ·m(t−1)·(1 − s(t−1)) + W·x(t) + b,  s(t) = 1[m(t) ≥ θ],  m(0) = 0
//
// The decay is λ in (0,1] and the threshold is θ > 0. w is the row-major rows × cols
// matrix W. bias is b, [rows], or nil for none.
//
// The currents of a neuron lie in [least, most]: least is its bias minus the magnitudes of
// its negative weights, and most is its bias plus its positive weights. Its potentials lie
// in the interval from
//
//	lo = least·Σ_{k<T} λ^k                       or least if least ≥ 0
//
// to
//
//	hi = min(most·Σ_{k<T} λ^k, λ·θ + most)       or most if most ≤ 0
//
// The result is the lowest lo and the highest hi of all rows. The inputs of the lowest
// current at every step attain lo. hi is an upper bound, for two reasons. A neuron carries
// less than θ into a step, because at θ it fires and resets. And its potential never
// exceeds the one that it would have without a reset and with the current most at every
// step.
//
// lo is rounded downwards and hi upwards; both are exact if no operation rounds. The
// difference R = hi − lo is the membrane range. It bounds the difference of any two
// potentials. For T = 1 without a bias, R is γ of [Gamma]. R is not Γ of Eq. 15.
//
// MembraneBounds returns an error if w or bias holds a value that is not finite, or if
// another argument is out of its range.
func MembraneBounds(w, bias []float32, rows, cols int, decay, threshold float64, steps int) (lo, hi float64, err error) {
	d := Dynamics{Decay: decay, Threshold: threshold, Steps: steps}
	if err := d.validate("MembraneBounds"); err != nil {
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
		l, h := d.potentials(s.currents(bias, i))
		lo, hi = min(lo, l), max(hi, h)
	}
	return lo, hi, nil
}

// potentials returns the bounds of the potentials of a neuron whose currents lie in
// [least, most].
func (d Dynamics) potentials(least, most float64) (lo, hi float64) {
	sum := powersUp(d.Decay, d.Steps)
	lo, hi = least, most
	if least < 0 {
		lo = -mulUp(-least, sum)
	}
	if most > 0 {
		hi = min(mulUp(most, sum), addUp(mulUp(d.Decay, d.Threshold), most))
	}
	return lo, hi
}

// rowSums holds the sum of a row's positive weights and the sum of the magnitudes of its
// negative weights, both rounded upwards.
type rowSums struct{ pos, neg float64 }

// currents returns the interval of the currents of row i, rounded outwards. s belongs to
// that row.
func (s rowSums) currents(bias []float32, i int) (least, most float64) {
	if bias == nil {
		return -s.neg, s.pos
	}
	return addDown(float64(bias[i]), -s.neg), addUp(float64(bias[i]), s.pos)
}

func signedRowSums(op string, w []float32, rows, cols int) ([]rowSums, error) {
	if err := check(op, w, rows, cols); err != nil {
		return nil, err
	}
	sums := make([]rowSums, rows)
	for r := range rows {
		for _, v := range w[r*cols:][:cols] {
			sums[r].pos = addUp(sums[r].pos, max(float64(v), 0))
			sums[r].neg = addUp(sums[r].neg, max(-float64(v), 0))
		}
	}
	return sums, nil
}

// largestSums returns the largest sum of either sign.
func largestSums(sums []rowSums) (most rowSums) {
	for _, s := range sums {
		most.pos, most.neg = max(most.pos, s.pos), max(most.neg, s.neg)
	}
	return most
}

// checkBias panics if bias is not nil and its length is not rows. It returns an error if a
// value is not finite.
func checkBias[F float32 | float64](op string, bias []F, rows int) error {
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

// check panics if w is not rows × cols. It returns an error that names the first value
// that is not finite.
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
