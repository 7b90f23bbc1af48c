package certify

import "math"

// The program computes in IEEE 754 binary32 with rounding to nearest. A product, a sum, or a fused
// multiply-add is the exact result times 1 + δ with |δ| ≤ unit32, plus an error of at most least32
// if the result is tiny. A sum of n products is off by at most gamma32(n+1)·Σ|w·x| + 2·n·least32,
// in any order, fused or not (Higham: Accuracy and Stability of Numerical Algorithms, Sec. 3.1).
// Bounds are computed in float64, whose unit roundoff is unit64, and are widened by both errors.
const (
	unit32  = 0x1p-24
	unit64  = 0x1p-53
	least32 = 0x1p-126 // covers results that are flushed to zero, too
	// mostTerms is the largest number of terms of a sum. Up to it, k·u/(1 − k·u) ≤ 1.01·k·u.
	mostTerms = 1 << 17
	// mostValue is the largest magnitude of a value. Below it, no sum of mostTerms values overflows.
	mostValue = 0x1p108
)

// gamma32 bounds the relative error of k roundings to float32, for k ≤ mostTerms + 8.
func gamma32(k int) float64 { return 1.02 * float64(k) * unit32 }

// gamma64 bounds that of k roundings to float64.
func gamma64(k int) float64 { return 1.02 * float64(k) * unit64 }

// down32 returns the largest float32 of at most x, which is finite and in float32's range.
func down32(x float64) float32 {
	v := float32(x)
	if float64(v) > x {
		v = math.Nextafter32(v, float32(math.Inf(-1)))
	}
	return v
}

// up32 returns the least float32 of at least x.
func up32(x float64) float32 { return -down32(-x) }

// below returns the float32 before x.
func below(x float32) float32 { return math.Nextafter32(x, float32(math.Inf(-1))) }
