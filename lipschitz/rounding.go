package lipschitz

import "math"

// unit is the unit roundoff of float64.
const unit = 0x1p-53

// gammaOf returns at least k·u/(1 − k·u) for the unit roundoff u. This is the relative
// error of k roundings.
func gammaOf(k int) float64 { return 1.01 * float64(k) * unit }

// up returns at least the exact value of x ≥ 0 if rounding has made x smaller by a part
// of at most 1e-13.
func up(x float64) float64 { return x * (1 + 1e-13) }

// down returns at most the exact value of x ≥ 0 if rounding has made x larger by a part
// of at most 1e-13.
func down(x float64) float64 { return x * (1 - 1e-13) }

// tiny is the magnitude below which an error term could itself underflow.
const tiny = 0x1p-900

// addUp returns a + b, rounded towards +Inf. The result is exact if float64 can hold it.
func addUp(a, b float64) float64 {
	s := a + b
	t := s - a
	if (a-(s-t))+(b-t) > 0 { // the exact error of the rounded sum (Knuth's TwoSum)
		return math.Nextafter(s, math.Inf(1))
	}
	return s
}

// addDown returns a + b, rounded towards −Inf. The result is exact if float64 can hold it.
func addDown(a, b float64) float64 { return -addUp(-a, -b) }

// mulUp returns a·b for a, b ≥ 0, rounded towards +Inf.
func mulUp(a, b float64) float64 {
	p := float64(a * b) // the conversion forbids a fused multiply-add with p
	if a == 0 || b == 0 {
		return p
	}
	if p < tiny || math.FMA(a, b, -p) > 0 {
		return math.Nextafter(p, math.Inf(1))
	}
	return p
}

// divUp returns a/b for a ≥ 0 and b > 0, rounded towards +Inf.
func divUp(a, b float64) float64 {
	q := a / b
	if a == 0 {
		return q
	}
	if q < tiny || a < tiny || math.FMA(-q, b, a) > 0 {
		return math.Nextafter(q, math.Inf(1))
	}
	return q
}

// powersUp returns Σ_{k<n} x^k for x ≥ 0, rounded up.
func powersUp(x float64, n int) (sum float64) {
	for range n {
		sum = addUp(mulUp(x, sum), 1)
	}
	return sum
}
