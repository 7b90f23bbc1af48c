package kernel

import "math"

// The functions of this file compute surrogate derivatives. u is the membrane potential minus
// the threshold. dst has the length of u and may be u. A derivative with the factor e⁻ˣ has a
// relative error below 1e-6·(1 + x/4), most of it from rounding x. It is 0 for x > 87. The
// relative error of the others is below 1e-6.

// SigmoidSlope writes alpha·e/(1 + e)² with e = exp(−|alpha·u|), the derivative of the logistic
// function of alpha·u.
func SigmoidSlope(dst, u []float32, alpha float32) { slope(dst, u, sigmoidSlope, alpha, alpha) }

// ExponentialSlope writes height·exp(−|alpha·u|).
func ExponentialSlope(dst, u []float32, height, alpha float32) {
	slope(dst, u, exponentialSlope, alpha, height)
}

// ArctanSlope writes (alpha/2)/(1 + (π/2·alpha·u)²).
func ArctanSlope(dst, u []float32, alpha float32) {
	slope(dst, u, arctanSlope, math.Pi/2*alpha, alpha/2)
}

// FastSigmoidSlope writes 1/(1 + |alpha·u|)².
func FastSigmoidSlope(dst, u []float32, alpha float32) { slope(dst, u, fastSigmoidSlope, alpha, 1) }

// TriangleSlope writes what a [Triangle] is, for the width w.
func TriangleSlope(dst, u []float32, w float32) { slope(dst, u, triangleSlope, w, 1/(w*w)) }

// Kinds of surrogate derivatives.
const (
	sigmoidSlope = iota
	exponentialSlope
	arctanSlope
	fastSigmoidSlope
	triangleSlope
)

// slope runs the routine of a kind with the same constants for all lanes.
func slope(dst, u []float32, kind int, scale, height float32) {
	k := slopes{scale: channels(nil, 0, scale), height: channels(nil, 0, height)}
	whole := len(u) / Lanes * Lanes
	if whole > 0 {
		k.run(kind, &dst[0], &u[0], whole/Lanes)
	}
	if whole < len(u) {
		var rest [Lanes]float32
		copy(rest[:], u[whole:])
		k.run(kind, &rest[0], &rest[0], 1)
		copy(dst[whole:len(u)], rest[:])
	}
}

// run runs the routine of a kind on n blocks of 16 lanes.
func (k *slopes) run(kind int, dst, u *float32, n int) {
	switch l := CurrentLevel(); kind {
	case sigmoidSlope:
		l.sigmoidSlope(dst, u, k, n)
	case exponentialSlope:
		l.exponentialSlope(dst, u, k, n)
	case arctanSlope:
		l.arctanSlope(dst, u, k, n)
	case fastSigmoidSlope:
		l.fastSigmoidSlope(dst, u, k, n)
	case triangleSlope:
		l.triangleSlope(dst, u, k, n)
	}
}

// GaussianSlope overwrites u by the normal density of mean sigma/2 and standard deviation
// sigma,
//
//	exp(−(u − sigma/2)²/(2·sigma²))/(sigma·√(2π))
//
//	u     [n][16]
//	sigma [16], positive
func GaussianSlope(u []float32, sigma *[Lanes]float32) {
	k := slopes{shift: channels(nil, 0, 0.5)}
	for l, s := range sigma {
		k.scale[l] = 1 / s
		k.height[l] = float32(1 / (math.Sqrt(2*math.Pi) * float64(s)))
	}
	if len(u) > 0 {
		CurrentLevel().gaussianSlope(&u[0], &u[0], &k, len(u)/Lanes)
	}
}

// AdaptiveSlope overwrites u by an arctan whose steepness follows the distance of the membrane
// potential from the threshold, in units of the threshold theta. It updates the means m of that
// distance and d of its deviation:
//
//	w = |u|/theta,  m ← 0.9·m + 0.1·w,  d ← 0.9·d + 0.1·|w − m|
//	alpha = a/(m + 1.5·d + 0.0001)
//	u ← (alpha/2)/(1 + (π/2·alpha·u/theta)²)/theta
//
// If m and d are nil, they are 1 and 0 before the update.
//
//	u, m, d [n][16]
//	theta   [16], positive
func AdaptiveSlope(u, m, d []float32, a float32, theta *[Lanes]float32) {
	const part = 64 * Lanes
	var ones, zeros [part]float32
	k := slopes{height: channels(nil, 0, a)}
	for l, t := range theta {
		k.scale[l] = 1 / t
	}
	l := CurrentLevel()
	for len(u) > 0 {
		n := min(len(u), part)
		if m == nil {
			for i := range ones[:n] {
				ones[i], zeros[i] = 1, 0
			}
			l.adaptiveSlope(&u[0], &ones[0], &zeros[0], &k, n/Lanes)
		} else {
			l.adaptiveSlope(&u[0], &m[0], &d[0], &k, n/Lanes)
			m, d = m[n:], d[n:]
		}
		u = u[n:]
	}
}

// ShiftedSums adds the sums over n of x − shift and of (x − shift)² to sum and square.
//
//	x [n][16]
func ShiftedSums(sum, square *[Lanes]float64, x []float32, shift *[Lanes]float64) {
	n := len(x) / Lanes
	if n == 0 {
		return
	}
	l := CurrentLevel()
	var whole [Lanes]float64
	l.sum(&whole[0], &x[0], n)
	for i, v := range whole {
		sum[i] += v - float64(n)*shift[i]
	}
	l.squares(&square[0], &x[0], &shift[0], n)
}
