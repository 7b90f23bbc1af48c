package main

// pointer is a field of an argument block that points to vectors, or words, of every pixel
// and step, and the field with its stride from step to step. Without a stride, a field points
// to the pixels alone.
type pointer struct {
	field, step string
	size        int // bytes of a pixel
}

// scan is a loop over steps and, within a step, pixels.
type scan struct {
	a    args
	back bool
	ps   []pointer
}

// Registers that hold a number for the length of a few instructions.
const (
	scratch      = reg(26)
	free0, free1 = reg(24), reg(25)
)

// run writes the loops. Body gets the places of the fields.
func (c scan) run(body func(at map[string]reg)) {
	rs := from(1, 22)
	take := func() reg {
		r := rs[0]
		rs = rs[1:]
		return r
	}
	steps, pixels, t := take(), take(), take()
	first, at := map[string]reg{}, map[string]reg{}
	c.a.load("steps", steps)
	for _, p := range c.ps {
		at[p.field] = take()
		if p.step == "" {
			continue
		}
		r := take()
		first[p.field] = r
		c.a.load(p.field, r)
		if c.back { // start at the last step
			op("SUB $1, %v, %v", steps, t)
			c.a.load(p.step, pixels)
			op("MADD %v, %v, %v, %v", pixels, r, t, r)
		}
	}
	label("step")
	for _, p := range c.ps {
		if p.step == "" {
			c.a.load(p.field, at[p.field])
		} else {
			op("MOVD %v, %v", first[p.field], at[p.field])
		}
	}
	c.a.load("pixels", pixels)
	label("pixel")
	body(at)
	for _, p := range c.ps {
		op("ADD $%d, %v", p.size, at[p.field])
	}
	op("SUB $1, %v", pixels)
	op("CBNZ %v, pixel", pixels)
	for _, p := range c.ps {
		if p.step == "" {
			continue
		}
		c.a.load(p.step, t)
		if c.back {
			op("SUB %v, %v", t, first[p.field])
		} else {
			op("ADD %v, %v", t, first[p.field])
		}
	}
	op("SUB $1, %v", steps)
	op("CBNZ %v, step", steps)
}

// broadcast fills v with the float32 at an operand.
func broadcast(mem string, v vec) {
	op("FMOVS %s, %s", mem, v.f())
	op("VDUP V%d.S[0], %s", int(v), v.s())
}

// byteBits sets the bytes of v to the bits that the lanes of a word have in its bytes.
func byteBits(v vec) {
	op("MOVD $0x8040201008040201, %v", scratch)
	op("VDUP %v, V%d.D2", scratch, int(v))
}

// laneBits sets the lanes of four registers to their bits in a word.
func laneBits(vs []vec) {
	op("MOVD $0x0000000200000001, %v", scratch)
	op("VMOV %v, V%d.D[0]", scratch, int(vs[0]))
	op("MOVD $0x0000000800000004, %v", scratch)
	op("VMOV %v, V%d.D[1]", scratch, int(vs[0]))
	for i := 1; i < 4; i++ {
		op("VSHL $4, %s, %s", vs[i-1].s(), vs[i].s())
	}
}

// toWord stores the word of the lanes whose masks are set, of those not set if not is. It
// overwrites the masks.
func toWord(masks []vec, bits vec, not bool, to reg) {
	op("VUZP1 %s, %s, %s", masks[1].h(), masks[0].h(), masks[0].h())
	op("VUZP1 %s, %s, %s", masks[3].h(), masks[2].h(), masks[2].h())
	op("VUZP1 %s, %s, %s", masks[2].b(), masks[0].b(), masks[0].b())
	op("VAND %s, %s, %s", bits.b(), masks[0].b(), masks[0].b())
	for range 3 {
		op("VADDP %s, %s, %s", masks[0].b(), masks[0].b(), masks[0].b())
	}
	op("FMOVS %s, %v", masks[0].f(), scratch)
	if not {
		op("MVN %v, %v", scratch, scratch)
	}
	op("MOVH %v, (%v)", scratch, to)
}

// fires sets the masks of the lanes whose bit is set in the word at s.
func fires(s reg, bits, masks []vec) {
	op("MOVHU (%v), %v", s, scratch)
	op("VDUP %v, %s", scratch, masks[0].s())
	for i := 3; i >= 0; i-- {
		op("VCMTST %s, %s, %s", bits[i].s(), masks[0].s(), masks[i].s())
	}
}

// each calls fn for the registers of a vector.
func each(fn func(i int)) {
	for i := range 4 {
		fn(i)
	}
}

// membranes writes the update of the membranes, which fn gets before their reset, in m, with
// four registers to spare. fn leaves in these where the neurons fire.
func membranes(ps []pointer, constants func(a args), fn func(at map[string]reg, m, v []vec)) {
	a := block("r", "neuronRun", 0)
	const leak, threshold = vec(31), vec(30)
	ca, cb := vectors(22, 4), vectors(26, 4)
	broadcast(a.mem("leak"), leak)
	broadcast(a.mem("threshold"), threshold)
	a.load("a", scratch)
	loads(scratch, 0, ca...)
	a.load("b", scratch)
	loads(scratch, 0, cb...)
	constants(a)
	scan{a: a, ps: append(ps, pointer{"state", "", 64})}.run(func(at map[string]reg) {
		m, v := vectors(0, 4), vectors(4, 4)
		loads(at["x"], 0, v...)
		loads(at["state"], 0, m...)
		each(func(i int) { fmul(v[i], v[i], ca[i]) })
		each(func(i int) { fmul(m[i], m[i], leak) })
		each(func(i int) { fadd(v[i], v[i], cb[i]) })
		each(func(i int) { fadd(m[i], m[i], v[i]) })
		fn(at, m, v)
		op("MOVWU %s, %v", a.mem("soft"), scratch)
		op("CBNZ %v, soft", scratch)
		each(func(i int) { bic(m[i], m[i], v[i]) })
		op("B reset")
		label("soft")
		each(func(i int) { op("VAND %s, %s, %s", threshold.b(), v[i].b(), v[i].b()) })
		each(func(i int) { fsub(m[i], m[i], v[i]) })
		label("reset")
		stores(at["state"], 0, m...)
	})
}

var (
	wordsOf  = pointer{"s", "sStep", 2}
	inputsOf = pointer{"x", "xStep", 64}
)

func neuronForward() {
	routine("neuronForwardNEON", "func(r *neuronRun)", "is neuronForwardPortable.")
	check, bits, masks := vectors(8, 4), vec(12), vectors(16, 4)
	zero(check...)
	byteBits(bits)
	membranes([]pointer{inputsOf, wordsOf}, func(args) {}, func(at map[string]reg, m, v []vec) {
		each(func(i int) { fsub(v[i], m[i], m[i]) }) // NaN or zero
		each(func(i int) { op("VORR %s, %s, %s", v[i].b(), check[i].b(), check[i].b()) })
		each(func(i int) { fcmge(v[i], m[i], 30) })
		each(func(i int) { op("VMOV %s, %s", v[i].b(), masks[i].b()) })
		toWord(masks, bits, false, at["s"])
	})
	args{0, "neuronRun"}.load("check", scratch)
	old := vectors(0, 4)
	loads(scratch, 0, old...)
	each(func(i int) { op("VORR %s, %s, %s", old[i].b(), check[i].b(), check[i].b()) })
	stores(scratch, 0, check...)
	op("RET")
}

func neuronSupport() {
	routine("neuronSupportNEON", "func(r *neuronRun)", "is neuronSupportPortable.")
	width, bits, masks := vec(8), vec(12), vectors(16, 4)
	byteBits(bits)
	membranes([]pointer{inputsOf, wordsOf}, func(a args) { broadcast(a.mem("width"), width) }, func(at map[string]reg, m, v []vec) {
		each(func(i int) { fsub(masks[i], m[i], 30) })
		each(func(i int) { fabs(masks[i], masks[i]) })
		each(func(i int) { fcmge(masks[i], masks[i], width) })
		toWord(masks, bits, true, at["s"])
		each(func(i int) { fcmge(v[i], m[i], 30) })
	})
	op("RET")
}

func neuronMembranes() {
	routine("neuronMembranesNEON", "func(r *neuronRun)", "is neuronMembranesPortable.")
	bits := vectors(8, 4)
	laneBits(bits)
	ps := []pointer{inputsOf, wordsOf, {"mem", "memStep", 64}, {"slope", "memStep", 64}}
	membranes(ps, func(args) {}, func(at map[string]reg, m, v []vec) {
		stores(at["mem"], 0, m...)
		args{0, "neuronRun"}.load("slope", scratch)
		op("CBZ %v, inline", scratch)
		each(func(i int) { fsub(v[i], m[i], 30) })
		stores(at["slope"], 0, v...)
		label("inline")
		fires(at["s"], bits, v)
	})
	op("RET")
}

func neuronBackward() {
	routine("neuronBackwardNEON", "func(r *neuronRun)", "is neuronBackwardPortable.")
	a := block("r", "neuronRun", 0)
	const leak, threshold, width, height, none = vec(31), vec(30), vec(29), vec(28), vec(27)
	broadcast(a.mem("leak"), leak)
	broadcast(a.mem("threshold"), threshold)
	broadcast(a.mem("width"), width)
	broadcast(a.mem("height"), height)
	zero(none)
	bits := vectors(20, 4)
	laneBits(bits)
	p, q, phi, g, t := vectors(0, 4), vectors(4, 4), vectors(8, 4), vectors(12, 4), vectors(16, 4)
	unless := func(field, to string) {
		a.load(field, scratch)
		op("CBZ %v, %s", scratch, to)
	}
	flag := func(field, to string) {
		op("MOVWU %s, %v", a.mem(field), scratch)
		op("CBNZ %v, %s", scratch, to)
	}
	scan{a: a, back: true, ps: []pointer{
		inputsOf, wordsOf, {"mem", "memStep", 64}, {"slope", "memStep", 64}, {"dout", "doutStep", 64}, {"dx", "dxStep", 64},
		{"state", "", 64}, {"total", "", 64},
	}}.run(func(at map[string]reg) {
		loads(at["mem"], 0, p...)
		loads(at["state"], 0, q...)
		unless("slope", "triangle")
		loads(at["slope"], 0, phi...)
		op("B spikes")
		label("triangle")
		each(func(i int) { fsub(phi[i], p[i], threshold) })
		each(func(i int) { fabs(phi[i], phi[i]) })
		each(func(i int) { fsub(phi[i], width, phi[i]) })
		each(func(i int) { fmax(phi[i], phi[i], none) })
		each(func(i int) { fmul(phi[i], phi[i], height) })

		// g = ∂s
		label("spikes")
		loads(at["dout"], 0, g...)
		flag("detach", "detached")
		flag("soft", "soft")
		each(func(i int) { fmul(p[i], p[i], q[i]) })
		op("B reset")
		label("soft")
		each(func(i int) { fmul(p[i], threshold, q[i]) })
		label("reset")
		each(func(i int) { fsub(g[i], g[i], p[i]) })

		// g = ∂p
		label("detached")
		each(func(i int) { fmul(g[i], g[i], phi[i]) })
		flag("soft", "all")
		fires(at["s"], bits, t)
		each(func(i int) { fadd(q[i], g[i], q[i]) })
		// Not a sum with zero, which would turn −0 into +0.
		each(func(i int) { op("VBIF %s, %s, %s", t[i].b(), q[i].b(), g[i].b()) })
		op("B passed")
		label("all")
		each(func(i int) { fadd(g[i], g[i], q[i]) })
		label("passed")
		each(func(i int) { fmul(q[i], g[i], leak) })
		stores(at["state"], 0, q...)

		unless("total", "added")
		loads(at["total"], 0, t...)
		each(func(i int) { fadd(t[i], t[i], g[i]) })
		stores(at["total"], 0, t...)
		label("added")
		unless("sums", "summed")
		a.load("sums", free0)
		a.load("mean", free1)
		each(func(i int) {
			x, lo, hi := p[0], p[1], p[2]
			op("FMOVQ %d(%v), %s", 16*i, at["x"], x.f())
			fcvtl(lo, x)
			fcvtl2(hi, x)
			loads(free1, 32*i, t[:2]...)
			fsub2d(lo, lo, t[0])
			fsub2d(hi, hi, t[1])
			fcvtl(t[0], g[i])
			fcvtl2(t[1], g[i])
			fmul2d(lo, lo, t[0])
			fmul2d(hi, hi, t[1])
			addTo(free0, 32*i, t[0], t[1], t[2:])
			addTo(free0, 128+32*i, lo, hi, t[2:])
		})
		label("summed")

		unless("dx", "stored")
		a.load("scale", scratch)
		loads(scratch, 0, t...)
		each(func(i int) { fmul(g[i], g[i], t[i]) })
		op("MOVWU %s, %v", a.mem("add"), scratch)
		op("CBZ %v, store", scratch)
		loads(at["dx"], 0, t...)
		each(func(i int) { fadd(g[i], g[i], t[i]) })
		label("store")
		stores(at["dx"], 0, g...)
		label("stored")
	})
	op("RET")
}

// addTo adds two registers of float64 to memory.
func addTo(base reg, at int, lo, hi vec, t []vec) {
	loads(base, at, t[0], t[1])
	fadd2d(t[0], t[0], lo)
	fadd2d(t[1], t[1], hi)
	stores(base, at, t[0], t[1])
}
