package main

import "math"

// window writes a routine over rows of pooling windows. begin gets the window's place in out,
// position the place of a position, and end is after the last position.
func window(name string, begin func(a args, out reg), position func(a args, at reg), end func(a args, out reg)) {
	routine(name+"NEON", "func(w *windowRun)", "is "+name+"Portable"+map[bool]string{true: " for windows that do not overlap"}[name == "spread"]+".")
	a := block("w", "windowRun", 0)
	rs := from(1, 11)
	out, in, rowAt, rows, n, pixel, offset, left, at, t := rs[0], rs[1], rs[2], rs[3], rs[4], rs[5], rs[6], rs[7], rs[8], rs[9]
	laneBits(vectors(20, 4))
	broadcast(a.mem("scale"), 31)
	a.load("out", out)
	a.load("in", rowAt)
	a.load("rows", rows)
	a.load("pixel", pixel)
	label("row")
	op("MOVD %v, %v", rowAt, in)
	a.load("n", n)
	label("window")
	begin(a, out)
	a.load("offsets", offset)
	a.load("count", left)
	label("position")
	op("MOVD.P 8(%v), %v", offset, at)
	op("ADD %v, %v", in, at)
	position(a, at)
	op("SUB $1, %v", left)
	op("CBNZ %v, position", left)
	end(a, out)
	op("ADD $64, %v", out)
	op("ADD %v, %v", pixel, in)
	op("SUB $1, %v", n)
	op("CBNZ %v, window", n)
	a.load("row", t)
	op("ADD %v, %v", t, rowAt)
	op("SUB $1, %v", rows)
	op("CBNZ %v, row", rows)
	op("RET")
}

func windows() {
	v, t, bits := vectors(0, 4), vectors(4, 4), vectors(20, 4)
	const scale = vec(31)
	scaled := func(_ args, out reg) {
		each(func(i int) { fmul(v[i], v[i], scale) })
		stores(out, 0, v...)
	}
	fill := func(x float32) func(args, reg) {
		return func(args, reg) { each(func(i int) { constant(x, v[i]) }) }
	}
	window("count", func(args, reg) { zero(v...) }, func(_ args, at reg) {
		fires(at, bits, t)
		each(func(i int) { op("VSUB %s, %s, %s", t[i].s(), v[i].s(), v[i].s()) }) // a mask is −1
	}, func(a args, out reg) {
		each(func(i int) { scvtf(v[i], v[i]) })
		scaled(a, out)
	})
	// Addition to −0 changes nothing.
	window("average", fill(float32(math.Copysign(0, -1))), func(_ args, at reg) {
		loads(at, 0, t...)
		each(func(i int) { fadd(v[i], v[i], t[i]) })
	}, scaled)
	window("largest", fill(float32(math.Inf(-1))), func(_ args, at reg) {
		above, number := vectors(8, 4), vectors(12, 4)
		loads(at, 0, t...)
		each(func(i int) { fcmgt(above[i], t[i], v[i]) })
		each(func(i int) { fcmeq(number[i], t[i], t[i]) })
		each(func(i int) { op("VBIT %s, %s, %s", above[i].b(), t[i].b(), v[i].b()) })
		each(func(i int) { op("VBIF %s, %s, %s", number[i].b(), t[i].b(), v[i].b()) })
	}, func(_ args, out reg) { stores(out, 0, v...) })
	window("spread", func(_ args, out reg) {
		loads(out, 0, v...)
		each(func(i int) { fmul(v[i], v[i], scale) })
	}, func(a args, at reg) {
		op("MOVWU %s, %v", a.mem("add"), scratch)
		op("CBZ %v, write", scratch)
		loads(at, 0, t...)
		each(func(i int) { fadd(t[i], v[i], t[i]) })
		stores(at, 0, t...)
		op("B next")
		label("write")
		stores(at, 0, v...)
		label("next")
	}, func(args, reg) {})
}
