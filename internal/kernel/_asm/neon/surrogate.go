package main

import "math"

// slope writes a routine of a surrogate derivative. Each register of a vector is computed on
// its own: fn writes what belongs to the u in V0, to V0. V1 to V7 are free.
func slope(name string, constants []float32, fn func(i int, c []vec)) {
	routine(name+"SlopeNEON", "func(dst, u *float32, k *slopes, n int)", "is "+name+"SlopePortable.")
	r := parameters("dst", "u", "k", "n")
	loads(r[2], 0, vectors(8, 12)...)
	c := vectors(20, len(constants))
	for i, x := range constants {
		constant(x, c[i])
	}
	stream(r[3], r[:2], []int{64, 64}, func() {
		each(func(i int) {
			op("FMOVQ %d(%v), F0", 16*i, r[1])
			fn(i, c)
			op("FMOVQ F0, %d(%v)", 16*i, r[0])
		})
	})
	op("RET")
}

// The vectors of type slopes.
func slopeScale(i int) vec  { return vec(8 + i) }
func slopeHeight(i int) vec { return vec(12 + i) }
func slopeShift(i int) vec  { return vec(16 + i) }

// decayConstants are those of decay in package kernel, and a last one for its caller.
func decayConstants(last float32) []float32 {
	return []float32{
		-87, 1.44269504, 3 << 22, 0.693359375, -2.12194440e-4,
		1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, last,
	}
}

// decay writes exp(x) of the x ≤ 0 in V0 to V0.
func decay(c []vec) {
	const x, n, r, p, t = vec(0), vec(1), vec(2), vec(3), vec(4)
	least, log2e, round, ln2, ln2Lo, taylor, one := c[0], c[1], c[2], c[3], c[4], c[5:10], c[10]
	fmul(n, x, log2e)
	fadd(n, n, round)
	op("VSHL $23, %s, V5.S4", n.s())
	fsub(n, n, round)
	fmul(t, n, ln2)
	fsub(r, x, t)
	fmul(t, n, ln2Lo)
	fsub(r, r, t)
	fmul(p, r, taylor[0])
	fadd(p, p, taylor[1])
	for _, v := range taylor[2:] {
		fmul(p, p, r)
		fadd(p, p, v)
	}
	fmul(t, r, r)
	fmul(p, p, t)
	fadd(p, p, r)
	fadd(p, p, one)
	op("VADD V5.S4, %s, %s", p.s(), p.s())
	fcmgt(t, least, x)
	bic(x, p, t)
}

func surrogates() {
	slope("sigmoid", decayConstants(0), func(i int, c []vec) {
		fmul(0, 0, slopeScale(i))
		fabs(0, 0)
		fneg(0, 0)
		decay(c)
		fadd(1, c[10], 0)
		fmul(1, 1, 1)
		fmul(0, slopeHeight(i), 0)
		fdiv(0, 0, 1)
	})
	slope("exponential", decayConstants(0), func(i int, c []vec) {
		fmul(0, 0, slopeScale(i))
		fabs(0, 0)
		fneg(0, 0)
		decay(c)
		fmul(0, slopeHeight(i), 0)
	})
	slope("gaussian", decayConstants(-0.5), func(i int, c []vec) {
		fmul(0, 0, slopeScale(i))
		fsub(0, 0, slopeShift(i))
		fmul(0, 0, 0)
		fmul(0, 0, c[11])
		decay(c)
		fmul(0, slopeHeight(i), 0)
	})
	slope("arctan", []float32{1}, func(i int, c []vec) {
		fmul(0, 0, slopeScale(i))
		fmul(0, 0, 0)
		fadd(0, 0, c[0])
		fdiv(0, slopeHeight(i), 0)
	})
	slope("fastSigmoid", []float32{1}, func(i int, c []vec) {
		fmul(0, 0, slopeScale(i))
		fabs(0, 0)
		fadd(0, 0, c[0])
		fmul(0, 0, 0)
		fdiv(0, slopeHeight(i), 0)
	})
	slope("triangle", []float32{0}, func(i int, c []vec) {
		fabs(0, 0)
		fsub(0, slopeScale(i), 0)
		fmax(0, 0, c[0])
		fmul(0, 0, slopeHeight(i))
	})

	routine("adaptiveSlopeNEON", "func(u, m, d *float32, k *slopes, n int)", "is adaptiveSlopePortable.")
	r := parameters("u", "m", "d", "k", "n")
	loads(r[3], 0, vectors(8, 12)...)
	const keep, take, width, least, halfPi, half, one = vec(20), vec(21), vec(22), vec(23), vec(24), vec(25), vec(26)
	for v, x := range []float32{0.9, 0.1, 1.5, 1e-4, math.Pi / 2, 0.5, 1} {
		constant(x, keep+vec(v))
	}
	stream(r[4], r[:3], []int{64, 64, 64}, func() {
		const v, w, mean, dev, t, alpha = vec(0), vec(1), vec(2), vec(3), vec(4), vec(5)
		each(func(i int) {
			op("FMOVQ %d(%v), %s", 16*i, r[0], v.f())
			op("FMOVQ %d(%v), %s", 16*i, r[1], mean.f())
			op("FMOVQ %d(%v), %s", 16*i, r[2], dev.f())
			fmul(v, v, slopeScale(i))
			fabs(w, v)
			fmul(mean, mean, keep)
			fmul(t, w, take)
			fadd(mean, mean, t)
			fsub(t, w, mean)
			fabs(t, t)
			fmul(t, t, take)
			fmul(dev, dev, keep)
			fadd(dev, dev, t)
			op("FMOVQ %s, %d(%v)", mean.f(), 16*i, r[1])
			op("FMOVQ %s, %d(%v)", dev.f(), 16*i, r[2])
			fmul(t, dev, width)
			fadd(t, t, mean)
			fadd(t, t, least)
			fdiv(alpha, slopeHeight(i), t)
			fmul(v, v, alpha)
			fmul(v, v, halfPi)
			fmul(v, v, v)
			fadd(v, v, one)
			fmul(t, alpha, half)
			fmul(t, t, slopeScale(i))
			fdiv(v, t, v)
			op("FMOVQ %s, %d(%v)", v.f(), 16*i, r[0])
		})
	})
	op("RET")
}
