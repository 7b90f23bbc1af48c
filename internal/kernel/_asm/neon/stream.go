package main

import "math"

// stream writes a loop over vectors of 16 float32, or 64 bytes, whose number is in n. The
// pointers move by their steps.
func stream(n reg, ptrs []reg, steps []int, body func()) {
	op("CBZ %v, done", n)
	label("more")
	body()
	for i, p := range ptrs {
		op("ADD $%d, %v", steps[i], p)
	}
	op("SUB $1, %v", n)
	op("CBNZ %v, more", n)
	label("done")
}

// parameters loads 64-bit parameters into registers from R1 on.
func parameters(names ...string) []reg {
	rs := from(1, len(names))
	for i, name := range names {
		op("MOVD %s, %v", param(name), rs[i])
	}
	return rs
}

// boolean loads a bool parameter.
func boolean(name string, r reg) reg {
	op("MOVBU %s, %v", param(name), r)
	return r
}

// store stores a vector, or adds it if add is not zero.
func store(dst, add reg, v, t []vec) {
	op("CBZ %v, store", add)
	loads(dst, 0, t...)
	each(func(i int) { fadd(v[i], v[i], t[i]) })
	label("store")
	stores(dst, 0, v...)
}

// constant fills v with a number.
func constant(x float32, v vec) {
	op("MOVD $0x%08x, %v", math.Float32bits(x), scratch)
	op("VDUP %v, %s", scratch, v.s())
}

func streams() {
	v, t, u, c := vectors(0, 4), vectors(4, 4), vectors(8, 4), vectors(16, 4)

	routine("scaleNEON", "func(dst, src, c *float32, n int, add bool)", "is scalePortable.")
	r := parameters("dst", "src", "c", "n")
	add := boolean("add", 9)
	loads(r[2], 0, c...)
	stream(r[3], r[:2], []int{64, 64}, func() {
		loads(r[1], 0, v...)
		each(func(i int) { fmul(v[i], v[i], c[i]) })
		store(r[0], add, v, t)
	})
	op("RET")

	routine("maskNEON", "func(dst, src *float32, mask *uint16, c *float32, n int, add bool)", "is maskPortable.")
	r = parameters("dst", "src", "mask", "c", "n")
	add = boolean("add", 9)
	loads(r[3], 0, c...)
	bits := vectors(20, 4)
	laneBits(bits)
	stream(r[4], r[:3], []int{64, 64, 2}, func() {
		loads(r[1], 0, v...)
		each(func(i int) { fmul(v[i], v[i], c[i]) })
		fires(r[2], bits, u)
		each(func(i int) { op("VAND %s, %s, %s", u[i].b(), v[i].b(), v[i].b()) })
		store(r[0], add, v, t)
	})
	op("RET")

	routine("affineNEON", "func(dst, x, a, b *float32, n int)", "is affinePortable.")
	r = parameters("dst", "x", "a", "b", "n")
	loads(r[2], 0, c...)
	loads(r[3], 0, bits...)
	stream(r[4], r[:2], []int{64, 64}, func() {
		loads(r[1], 0, v...)
		each(func(i int) { fmul(v[i], v[i], c[i]) })
		each(func(i int) { fadd(v[i], v[i], bits[i]) })
		stores(r[0], 0, v...)
	})
	op("RET")

	routine("normBackwardNEON", "func(dx, dy, x, k *float32, n int, add bool)", "is normBackwardPortable.")
	r = parameters("dx", "dy", "x", "k", "n")
	add = boolean("add", 9)
	k := func(j int) []vec { return vectors(vec(16+4*j), 4) }
	loads(r[3], 0, vectors(16, 16)...)
	stream(r[4], r[:3], []int{64, 64, 64}, func() {
		loads(r[1], 0, v...)
		loads(r[2], 0, t...)
		each(func(i int) { fsub(v[i], v[i], k(1)[i]) })
		each(func(i int) { fsub(t[i], t[i], k(3)[i]) })
		each(func(i int) { fmul(v[i], v[i], k(0)[i]) })
		each(func(i int) { fmul(t[i], t[i], k(2)[i]) })
		each(func(i int) { fadd(v[i], v[i], t[i]) })
		store(r[0], add, v, t)
	})
	op("RET")

	routine("reluNEON", "func(dst, x *float32, n int)", "is reluPortable.")
	r = parameters("dst", "x", "n")
	stream(r[2], r[:2], []int{64, 64}, func() {
		loads(r[1], 0, v...)
		each(func(i int) { less0(t[i], v[i]) })
		each(func(i int) { bic(v[i], v[i], t[i]) })
		stores(r[0], 0, v...)
	})
	op("RET")

	routine("reluGradNEON", "func(dx, y, dy *float32, n int, add bool)", "is reluGradPortable.")
	r = parameters("dx", "y", "dy", "n")
	add = boolean("add", 9)
	stream(r[3], r[:3], []int{64, 64, 64}, func() {
		loads(r[1], 0, t...)
		loads(r[2], 0, v...)
		each(func(i int) { atMost0(t[i], t[i]) })
		each(func(i int) { bic(v[i], v[i], t[i]) })
		store(r[0], add, v, t)
	})
	op("RET")

	routine("orNEON", "func(dst, src *uint16, n int)", "is orPortable.")
	r = parameters("dst", "src", "n")
	op("LSR $5, %v", r[2])
	stream(r[2], r[:2], []int{64, 64}, func() {
		loads(r[0], 0, v...)
		loads(r[1], 0, t...)
		each(func(i int) { op("VORR %s, %s, %s", t[i].b(), v[i].b(), v[i].b()) })
		stores(r[0], 0, v...)
	})
	op("RET")

	routine("extrapolateNEON", "func(dst, x *float32, beta float32, n int)", "is extrapolatePortable; n is a multiple of 16.")
	r = parameters("dst", "x", "n")
	broadcast(param("beta"), 16)
	op("LSR $4, %v", r[2])
	stream(r[2], r[:2], []int{64, 64}, func() {
		loads(r[0], 0, t...)
		loads(r[1], 0, v...)
		each(func(i int) { fsub(t[i], v[i], t[i]) })
		each(func(i int) { fmul(t[i], t[i], 16) })
		each(func(i int) { fadd(v[i], v[i], t[i]) })
		stores(r[0], 0, v...)
	})
	op("RET")

	routine("combineNEON", "func(dst, x, y *float32, a, b float32, n int)", "is combinePortable; n is a multiple of 16.")
	r = parameters("dst", "x", "y", "n")
	broadcast(param("a"), 16)
	broadcast(param("b"), 17)
	op("LSR $4, %v", r[3])
	stream(r[3], r[:3], []int{64, 64, 64}, func() {
		loads(r[1], 0, v...)
		loads(r[2], 0, t...)
		each(func(i int) { fmul(v[i], v[i], 16) })
		each(func(i int) { fmul(t[i], t[i], 17) })
		each(func(i int) { fadd(v[i], v[i], t[i]) })
		stores(r[0], 0, v...)
	})
	op("RET")

	routine("sgdNEON", "func(w, dw, v *float32, k *sgdStep, n int, nesterov bool)", "is sgdPortable; n is a multiple of 16.")
	r = parameters("w", "dw", "v", "k", "n")
	ahead := boolean("nesterov", 9)
	step := args{r[3], "sgdStep"}
	const lr, momentum, decay = vec(16), vec(17), vec(18)
	broadcast(step.mem("lr"), lr)
	broadcast(step.mem("momentum"), momentum)
	broadcast(step.mem("decay"), decay)
	op("LSR $4, %v", r[4])
	stream(r[4], r[:3], []int{64, 64, 64}, func() {
		x, d, u, t := vectors(0, 4), vectors(4, 4), vectors(8, 4), vectors(12, 4)
		loads(r[0], 0, x...)
		loads(r[1], 0, t...)
		loads(r[2], 0, u...)
		each(func(i int) { fmul(d[i], x[i], decay) })
		each(func(i int) { fadd(d[i], t[i], d[i]) })
		each(func(i int) { fmul(u[i], u[i], momentum) })
		each(func(i int) { fadd(u[i], u[i], d[i]) })
		stores(r[2], 0, u...)
		op("CBZ %v, move", ahead)
		each(func(i int) { fmul(u[i], u[i], momentum) })
		each(func(i int) { fadd(u[i], d[i], u[i]) })
		label("move")
		each(func(i int) { fmul(u[i], u[i], lr) })
		each(func(i int) { fsub(x[i], x[i], u[i]) })
		stores(r[0], 0, x...)
	})
	op("RET")

	routine("adamNEON", "func(w, dw, m, v *float32, k *AdamStep, n int)", "is adamPortable; n is a multiple of 16.")
	r = parameters("w", "dw", "m", "v", "k", "n")
	adam := map[string]vec{}
	for i, f := range []string{"Beta1", "Beta2", "Rest1", "Rest2", "Size", "Correction", "Eps", "Decay"} {
		adam[f] = vec(24 + i)
		broadcast(args{r[4], "AdamStep"}.mem(f), adam[f])
	}
	op("LSR $4, %v", r[5])
	stream(r[5], r[:4], []int{64, 64, 64, 64}, func() {
		x, d, a, b, t := vectors(0, 4), vectors(4, 4), vectors(8, 4), vectors(12, 4), vectors(16, 4)
		loads(r[0], 0, x...)
		loads(r[1], 0, t...)
		loads(r[2], 0, a...)
		loads(r[3], 0, b...)
		each(func(i int) { fmul(d[i], x[i], adam["Decay"]) })
		each(func(i int) { fadd(d[i], t[i], d[i]) })
		each(func(i int) { fmul(t[i], d[i], d[i]) })
		each(func(i int) { fmul(t[i], t[i], adam["Rest2"]) })
		each(func(i int) { fmul(b[i], b[i], adam["Beta2"]) })
		each(func(i int) { fadd(b[i], b[i], t[i]) })
		each(func(i int) { fmul(d[i], d[i], adam["Rest1"]) })
		each(func(i int) { fmul(a[i], a[i], adam["Beta1"]) })
		each(func(i int) { fadd(a[i], a[i], d[i]) })
		stores(r[2], 0, a...)
		stores(r[3], 0, b...)
		each(func(i int) { fsqrt(b[i], b[i]) })
		each(func(i int) { fdiv(b[i], b[i], adam["Correction"]) })
		each(func(i int) { fadd(b[i], b[i], adam["Eps"]) })
		each(func(i int) { fmul(a[i], a[i], adam["Size"]) })
		each(func(i int) { fdiv(a[i], a[i], b[i]) })
		each(func(i int) { fsub(x[i], x[i], a[i]) })
		stores(r[0], 0, x...)
	})
	op("RET")
}

// sums are reductions in float64, whose sums stay in registers.
func sums() {
	lo, hi := vec(30), vec(31)
	wide := func(v vec) { // v as float64 in lo and hi
		fcvtl(lo, v)
		fcvtl2(hi, v)
	}
	sum := vectors(0, 8)

	routine("sumNEON", "func(sum *float64, x *float32, n int)", "is sumPortable.")
	r := parameters("sum", "x", "n")
	loads(r[0], 0, sum...)
	stream(r[2], r[1:2], []int{64}, func() {
		x := vectors(24, 4)
		loads(r[1], 0, x...)
		each(func(i int) {
			wide(x[i])
			fadd2d(sum[2*i], sum[2*i], lo)
			fadd2d(sum[2*i+1], sum[2*i+1], hi)
		})
	})
	stores(r[0], 0, sum...)
	op("RET")

	routine("squaresNEON", "func(sum *float64, x *float32, shift *float64, n int)", "is squaresPortable.")
	r = parameters("sum", "x", "shift", "n")
	shift := vectors(8, 8)
	loads(r[0], 0, sum...)
	loads(r[2], 0, shift...)
	stream(r[3], r[1:2], []int{64}, func() {
		x := vectors(24, 4)
		loads(r[1], 0, x...)
		each(func(i int) {
			wide(x[i])
			for k, v := range []vec{lo, hi} {
				fsub2d(v, v, shift[2*i+k])
				fmul2d(v, v, v)
				fadd2d(sum[2*i+k], sum[2*i+k], v)
			}
		})
	})
	stores(r[0], 0, sum...)
	op("RET")

	routine("productsNEON", "func(sum *float64, dy, x *float32, shift *float64, n int)", "is productsPortable.")
	r = parameters("sum", "dy", "x", "shift", "n")
	dot := vectors(16, 8)
	loads(r[0], 0, sum...)
	loads(r[0], 128, dot...)
	loads(r[3], 0, shift...)
	stream(r[4], r[1:3], []int{64, 64}, func() {
		x, g0, g1 := vec(24), vec(25), vec(26)
		each(func(i int) {
			op("FMOVQ %d(%v), %s", 16*i, r[1], g1.f())
			op("FMOVQ %d(%v), %s", 16*i, r[2], x.f())
			wide(x)
			fcvtl(g0, g1)
			fcvtl2(g1, g1)
			for k, v := range []vec{lo, hi} {
				g := []vec{g0, g1}[k]
				fsub2d(v, v, shift[2*i+k])
				fmul2d(v, v, g)
				fadd2d(sum[2*i+k], sum[2*i+k], g)
				fadd2d(dot[2*i+k], dot[2*i+k], v)
			}
		})
	})
	stores(r[0], 0, sum...)
	stores(r[0], 128, dot...)
	op("RET")

	routine("dotNEON", "func(sum *float64, a, b *float32, n int)", "is dotPortable.")
	r = parameters("sum", "a", "b", "n")
	loads(r[0], 0, sum...)
	stream(r[3], r[1:3], []int{64, 64}, func() {
		a, b0, b1 := vec(24), vec(25), vec(26)
		each(func(i int) {
			op("FMOVQ %d(%v), %s", 16*i, r[1], a.f())
			op("FMOVQ %d(%v), %s", 16*i, r[2], b1.f())
			wide(a)
			fcvtl(b0, b1)
			fcvtl2(b1, b1)
			fmul2d(lo, lo, b0)
			fmul2d(hi, hi, b1)
			fadd2d(sum[2*i], sum[2*i], lo)
			fadd2d(sum[2*i+1], sum[2*i+1], hi)
		})
	})
	stores(r[0], 0, sum...)
	op("RET")
}
