package main

import "fmt"

// glif is the argument block of a routine of GLIF neurons, with registers at its constants
// and its sums.
type glif struct{ args }

const glifConstants, glifSums = free1, free0

func glifBlock() glif {
	g := glif{block("r", "glifRun", 0)}
	op("ADD $%d, R0, %v", g.offset("k"), glifConstants)
	op("ADD $%d, R0, %v", g.offset("sums"), glifSums)
	return g
}

// constant loads a vector of constants.
func (g glif) constant(field string, vs ...vec) []vec {
	loads(glifConstants, int(g.offset("k."+field)-g.offset("k")), vs...)
	return vs
}

// unless jumps if a pointer is nil, when if a number of 32 bits is not zero.
func (g glif) unless(field, to string) {
	g.load(field, scratch)
	op("CBZ %v, %s", scratch, to)
}

func (g glif) when(field, to string) {
	op("MOVWU %s, %v", g.mem(field), scratch)
	op("CBNZ %v, %s", scratch, to)
}

// The registers of a step: currents, membrane potentials before and after it, thresholds,
// adaptation and where neurons fire. The last four are free for the routine.
var glifI, glifM, glifTheta, glifA, glifP, glifFires, glifT = vectors(0, 4), vectors(4, 4), vectors(8, 4),
	vectors(12, 4), vectors(16, 4), vectors(20, 4), vectors(24, 4)

// glifScan writes the steps of the neurons. fn is called before the reset, and may overwrite
// glifM and glifT.
func glifScan(g glif, more []pointer, fn func(at map[string]reg)) {
	i, m, theta, a, p, f, t := glifI, glifM, glifTheta, glifA, glifP, glifFires, glifT
	ps := append([]pointer{inputsOf, wordsOf, {"membrane", "", 64}, {"carry", "", 64}, {"adaptation", "", 64}, {"feedback", "", 64}}, more...)
	scan{a: g.args, ps: ps}.run(func(at map[string]reg) {
		loads(at["x"], 0, i...)
		g.constant("a", t...)
		each(func(j int) { fmul(i[j], t[j], i[j]) })
		g.constant("b", t...)
		each(func(j int) { fadd(i[j], i[j], t[j]) })
		for _, field := range []string{"feedback", "carry"} {
			g.unless(field, "no"+field)
			loads(at[field], 0, t...)
			each(func(j int) { fadd(i[j], i[j], t[j]) })
			label("no" + field)
		}
		g.constant("threshold", theta...)
		g.unless("adaptation", "fixed")
		loads(at["adaptation"], 0, a...)
		g.constant("adaptation", t...)
		each(func(j int) { fmul(t[j], t[j], a[j]) })
		each(func(j int) { fadd(theta[j], theta[j], t[j]) })
		label("fixed")
		loads(at["membrane"], 0, m...)
		g.constant("decay", p...)
		each(func(j int) { fmul(p[j], p[j], m[j]) })
		g.constant("gain", t...)
		each(func(j int) { fmul(t[j], t[j], i[j]) })
		each(func(j int) { fadd(p[j], p[j], t[j]) })
		each(func(j int) { fcmge(f[j], p[j], theta[j]) })
		fn(at)

		g.when("soft", "soft")
		g.constant("reset", t...)
		op("B reset")
		label("soft")
		each(func(j int) { fsub(t[j], p[j], theta[j]) })
		label("reset")
		each(func(j int) { op("VBIT %s, %s, %s", f[j].b(), t[j].b(), p[j].b()) })
		stores(at["membrane"], 0, p...)
		for _, s := range []struct {
			field, decay, jump string
			v                  []vec
		}{{"carry", "synapticDecay", "recurrence", i}, {"adaptation", "adaptationDecay", "jump", a}} {
			g.unless(s.field, "kept"+s.field)
			g.constant(s.decay, t...)
			each(func(j int) { fmul(s.v[j], t[j], s.v[j]) })
			g.constant(s.jump, t...)
			each(func(j int) { op("VAND %s, %s, %s", f[j].b(), t[j].b(), t[j].b()) })
			each(func(j int) { fsub(s.v[j], s.v[j], t[j]) })
			stores(at[s.field], 0, s.v...)
			label("kept" + s.field)
		}
	})
}

func glifForward() {
	routine("glifForwardNEON", "func(r *glifRun)", "is glifForwardPortable.")
	g := glifBlock()
	check, d := vectors(28, 4), glifM
	zero(check...)
	glifScan(g, nil, func(at map[string]reg) {
		each(func(j int) { fsub(d[j], glifP[j], glifTheta[j]) })
		each(func(j int) { fsub(d[j], d[j], d[j]) }) // NaN or zero
		each(func(j int) { op("VORR %s, %s, %s", d[j].b(), check[j].b(), check[j].b()) })
		each(func(j int) { op("VMOV %s, %s", glifFires[j].b(), glifT[j].b()) })
		byteBits(d[0])
		toWord(glifT, d[0], false, at["s"])
	})
	g.load("check", scratch)
	loads(scratch, 0, d...)
	each(func(j int) { op("VORR %s, %s, %s", d[j].b(), check[j].b(), check[j].b()) })
	stores(scratch, 0, check...)
	op("RET")
}

func glifSupport() {
	routine("glifSupportNEON", "func(r *glifRun)", "is glifSupportPortable.")
	g := glifBlock()
	d := glifM
	glifScan(g, nil, func(at map[string]reg) {
		g.constant("width", glifT...)
		each(func(j int) { fsub(d[j], glifP[j], glifTheta[j]) })
		each(func(j int) { fabs(d[j], d[j]) })
		each(func(j int) { fcmge(d[j], d[j], glifT[j]) })
		byteBits(glifT[0])
		toWord(d, glifT[0], true, at["s"])
	})
	op("RET")
}

func glifReplay() {
	routine("glifReplayNEON", "func(r *glifRun)", "is glifReplayPortable.")
	g := glifBlock()
	glifScan(g, []pointer{{"history", "historyStep", 256}, {"slope", "slopeStep", 64}}, func(at map[string]reg) {
		stores(at["history"], 0, glifI...)
		stores(at["history"], 64, glifM...)
		g.unless("adaptation", "nolevel")
		stores(at["history"], 128, glifA...)
		label("nolevel")
		g.unless("slope", "inline")
		each(func(j int) { fsub(glifT[j], glifP[j], glifTheta[j]) })
		stores(at["slope"], 0, glifT...)
		label("inline")
	})
	op("RET")
}

// glifBackward goes through a quarter of a vector after the other.
func glifBackward() {
	routine("glifBackwardNEON", "func(r *glifRun)", "is glifBackwardPortable.")
	g := glifBlock()
	bits := vectors(28, 4)
	laneBits(bits)
	scan{a: g.args, back: true, ps: []pointer{
		wordsOf, {"history", "historyStep", 256}, {"slope", "slopeStep", 64}, {"dout", "doutStep", 64}, {"dx", "dxStep", 64},
		{"adjoint", "", 256}, {"feedback", "", 64}, {"total", "", 64}, {"grad", "", 64},
	}}.run(func(at map[string]reg) { each(func(i int) { g.backward(at, i, bits[i]) }) })
	op("RET")
}

func (g glif) backward(at map[string]reg, i int, bits vec) {
	const current, before, level, di, dm, da = vec(0), vec(1), vec(2), vec(3), vec(4), vec(5)
	const p, theta, phi, ds, dp, dtheta, fired, t, u = vec(6), vec(7), vec(8), vec(9), vec(10), vec(11), vec(12), vec(13), vec(14)
	l := func(name string) string { return fmt.Sprintf("%s%d", name, i) }
	load := func(field string, off int, v vec) { op("FMOVQ %d(%v), %s", off+16*i, at[field], v.f()) }
	save := func(field string, off int, v vec) { op("FMOVQ %s, %d(%v)", v.f(), off+16*i, at[field]) }
	constant := func(field string, v vec) {
		op("FMOVQ %d(%v), %s", int(g.offset("k."+field)-g.offset("k"))+16*i, glifConstants, v.f())
	}
	times := func(d vec, field string, n vec) { // d = constant·n; d is not n
		constant(field, d)
		fmul(d, d, n)
	}
	add := func(field string, v vec) { // to a sum
		off := int(g.offset("sums."+field)-g.offset("sums")) + 16*i
		op("FMOVQ %d(%v), %s", off, glifSums, u.f())
		fadd(u, u, v)
		op("FMOVQ %s, %d(%v)", u.f(), off, glifSums)
	}
	and := func(d, n vec) { op("VAND %s, %s, %s", n.b(), fired.b(), d.b()) }

	load("history", 0, current)
	load("history", 64, before)
	load("adjoint", 0, di)
	load("adjoint", 64, dm)
	op("MOVHU (%v), %v", at["s"], scratch)
	op("VDUP %v, %s", scratch, fired.s())
	op("VCMTST %s, %s, %s", bits.s(), fired.s(), fired.s())
	times(p, "decay", before)
	times(t, "gain", current)
	fadd(p, p, t)
	constant("threshold", theta)
	g.unless("adaptation", l("fixed"))
	load("history", 128, level)
	load("adjoint", 128, da)
	times(t, "adaptation", level)
	fadd(theta, theta, t)
	label(l("fixed"))
	g.unless("slope", l("triangle"))
	load("slope", 0, phi)
	op("B %s", l("sloped"))
	label(l("triangle"))
	fsub(phi, p, theta)
	fabs(phi, phi)
	constant("width", t)
	fsub(phi, t, phi)
	zero(t)
	fmax(phi, phi, t)
	constant("height", t)
	fmul(phi, phi, t)

	label(l("sloped"))
	load("dout", 0, ds)
	g.unless("feedback", l("alone"))
	load("feedback", 0, t)
	fadd(ds, ds, t)
	label(l("alone"))
	g.unless("adaptation", l("nojump"))
	times(t, "jump", da)
	fsub(ds, ds, t)
	label(l("nojump"))
	g.unless("carry", l("norecurrence"))
	times(t, "recurrence", di)
	fsub(ds, ds, t)
	label(l("norecurrence"))
	g.when("detach", l("detached"))
	g.when("soft", l("soft"))
	constant("reset", t)
	fsub(t, t, p)
	fmul(t, t, dm)
	fadd(ds, ds, t)
	op("B %s", l("detached"))
	label(l("soft"))
	fmul(t, theta, dm)
	fsub(ds, ds, t)
	label(l("detached"))

	fmul(dp, phi, ds)
	op("VMOV %s, %s", dp.b(), dtheta.b())
	fadd(t, dp, dm)
	g.when("soft", l("all"))
	op("VBIF %s, %s, %s", fired.b(), t.b(), dp.b())
	op("B %s", l("passed"))
	label(l("all"))
	op("VBIT %s, %s, %s", fired.b(), t.b(), dtheta.b())
	op("VMOV %s, %s", t.b(), dp.b())
	label(l("passed"))

	op("MOVWU %s, %v", g.mem("summed"), scratch)
	op("CBZ %v, %s", scratch, l("summed"))
	fmul(t, dp, current)
	add("gain", t)
	fmul(t, dp, before)
	add("decay", t)
	add("threshold", dtheta)
	and(t, dm)
	add("reset", t)
	g.unless("carry", l("nocarry"))
	fmul(t, current, di)
	add("synapticDecay", t)
	and(t, di)
	add("recurrence", t)
	label(l("nocarry"))
	g.unless("adaptation", l("summed"))
	fmul(t, dtheta, level)
	add("adaptation", t)
	constant("one", t)
	and(t, t)
	fsub(t, level, t)
	fmul(t, t, da)
	add("adaptationDecay", t)
	label(l("summed"))

	g.unless("adaptation", l("nolevel"))
	times(t, "adaptationDecay", da)
	times(u, "adaptation", dtheta)
	fsub(t, t, u)
	save("adjoint", 128, t)
	label(l("nolevel"))
	times(t, "decay", dp)
	save("adjoint", 64, t)
	times(t, "gain", dp)
	g.unless("carry", l("current"))
	times(u, "synapticDecay", di)
	fadd(t, t, u)
	save("adjoint", 0, t)
	label(l("current"))
	g.unless("total", l("nototal"))
	load("total", 0, u)
	fadd(u, u, t)
	save("total", 0, u)
	label(l("nototal"))
	g.unless("grad", l("nograd"))
	save("grad", 0, t)
	label(l("nograd"))
	g.unless("dx", l("nodx"))
	times(u, "scale", t)
	op("MOVWU %s, %v", g.mem("add"), scratch)
	op("CBZ %v, %s", scratch, l("store"))
	load("dx", 0, t)
	fadd(u, u, t)
	label(l("store"))
	save("dx", 0, u)
	label(l("nodx"))
}
