package kernel

import (
	"math"
	"unsafe"
)

// The portable twins of the routines of surrogate derivatives, on n blocks of 16 lanes.

// Constants of decay: the argument below which it is 0, log₂ e, ln 2 in two parts, and the
// coefficients of the Taylor series of exp from r⁶ to r².
const (
	decayLeast = -87
	decayLog2e = 1.44269504
	decayRound = 3 << 22 // the unit in the last place of x + decayRound is 1
	decayLn2   = 0.693359375
	decayLn2Lo = -2.12194440e-4
	decay6     = 1. / 720
	decay5     = 1. / 120
	decay4     = 1. / 24
	decay3     = 1. / 6
	decay2     = 1. / 2
)

// decay returns exp(x) for x ≤ 0: 2ⁿ·exp(r) with n the integer next to x·log₂ e.
func decay(x float32) float32 {
	if x < decayLeast {
		return 0
	}
	n := float32(x*decayLog2e) + decayRound
	bits := math.Float32bits(n)
	n -= decayRound
	r := x - float32(n*decayLn2)
	r -= float32(n * decayLn2Lo)
	p := float32(r*decay6) + decay5
	p = float32(p*r) + decay4
	p = float32(p*r) + decay3
	p = float32(p*r) + decay2
	p = float32(p*float32(r*r)) + r
	p += 1
	return math.Float32frombits(math.Float32bits(p) + bits<<23)
}

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// eachSlope calls fn for each element, with its lane.
func eachSlope(dst, u *float32, n int, fn func(l int, u float32) float32) {
	d, us := unsafe.Slice(dst, n*Lanes), unsafe.Slice(u, n*Lanes)
	for i, v := range us {
		d[i] = fn(i%Lanes, v)
	}
}

// sigmoidSlopePortable writes height·e/(1 + e)² with e = exp(−|scale·u|).
func sigmoidSlopePortable(dst, u *float32, k *slopes, n int) {
	eachSlope(dst, u, n, func(l int, u float32) float32 {
		e := decay(-abs32(k.scale[l] * u))
		return float32(k.height[l]*e) / float32((1+e)*(1+e))
	})
}

// exponentialSlopePortable writes height·exp(−|scale·u|).
func exponentialSlopePortable(dst, u *float32, k *slopes, n int) {
	eachSlope(dst, u, n, func(l int, u float32) float32 {
		return k.height[l] * decay(-abs32(k.scale[l]*u))
	})
}

// gaussianSlopePortable writes height·exp(−z²/2) with z = scale·u − shift.
func gaussianSlopePortable(dst, u *float32, k *slopes, n int) {
	eachSlope(dst, u, n, func(l int, u float32) float32 {
		z := float32(k.scale[l]*u) - k.shift[l]
		return k.height[l] * decay(float32(z*z)*-0.5)
	})
}

// arctanSlopePortable writes height/(1 + z²) with z = scale·u.
func arctanSlopePortable(dst, u *float32, k *slopes, n int) {
	eachSlope(dst, u, n, func(l int, u float32) float32 {
		z := float32(k.scale[l] * u)
		return k.height[l] / (float32(z*z) + 1)
	})
}

// fastSigmoidSlopePortable writes height/(1 + z)² with z = |scale·u|.
func fastSigmoidSlopePortable(dst, u *float32, k *slopes, n int) {
	eachSlope(dst, u, n, func(l int, u float32) float32 {
		z := abs32(k.scale[l]*u) + 1
		return k.height[l] / float32(z*z)
	})
}

// triangleSlopePortable writes max(0, scale − |u|)·height.
func triangleSlopePortable(dst, u *float32, k *slopes, n int) {
	eachSlope(dst, u, n, func(l int, u float32) float32 { return max(0, k.scale[l]-abs32(u)) * k.height[l] })
}

// Constants of adaptiveSlope.
const (
	adaptiveKeep  = 0.9
	adaptiveTake  = 0.1
	adaptiveWidth = 1.5
	adaptiveLeast = 1e-4
)

// adaptiveSlopePortable is AdaptiveSlope in place of u, with a as height and 1/theta as scale.
func adaptiveSlopePortable(u, m, d *float32, k *slopes, n int) {
	us, ms, ds := unsafe.Slice(u, n*Lanes), unsafe.Slice(m, n*Lanes), unsafe.Slice(d, n*Lanes)
	for i, v := range us {
		scale := k.scale[i%Lanes]
		v = float32(v * scale)
		w := abs32(v)
		mean := float32(ms[i]*adaptiveKeep) + float32(w*adaptiveTake)
		dev := float32(ds[i]*adaptiveKeep) + float32(abs32(w-mean)*adaptiveTake)
		ms[i], ds[i] = mean, dev
		alpha := k.height[i%Lanes] / (float32(dev*adaptiveWidth) + mean + adaptiveLeast)
		z := float32(float32(v*alpha) * (math.Pi / 2))
		us[i] = float32(float32(alpha*0.5)*scale) / (float32(z*z) + 1)
	}
}
