package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

// The routines of GLIF neurons without optional coefficients, at AVX2: see glifRun.plain.
// They go over the columns of a block one after the other. The constants and the sums of a
// column then stay in registers, which two columns do not leave room for.

// plain returns a loop over plain neurons whose named vectors of k are in registers, and of
// sums too, if it has any.
func plain(k, sums []string) (c *glif, registers map[string]reg.VecPhysical) {
	registers = map[string]reg.VecPhysical{}
	c = &glif{scan: scan{s: AVX2, a: Block("r"), soon: true}}
	for i, name := range k {
		registers[name] = c.constant(i)
	}
	for i, name := range sums {
		registers["sum "+name] = c.constant(len(k) + i)
	}
	c.enter = func() {
		for _, name := range k {
			VMOVUPS(c.vector("k", name, c.column), registers[name])
		}
		for _, name := range sums {
			VMOVUPS(c.vector("sums", name, c.column), registers["sum "+name])
		}
	}
	c.leave = func() {
		for _, name := range sums {
			VMOVUPS(registers["sum "+name], c.vector("sums", name, c.column))
		}
	}
	return c, registers
}

// slot is vector i of a field that has four vectors a pixel.
func (c *glif) slot(field string, slot, i int) Mem {
	return Mem{Base: c.at[field], Index: c.bytes, Scale: 4, Disp: 256*i + 64*slot + c.column*c.s.Bytes}
}

// plainSteps emits the update of plain neurons. before gets i(t) and m(t−1), after gets p(t)
// and must leave the mask of the spikes in v.
func plainSteps(ps []pointer, before func(c *glif, i int, cur, m reg.VecPhysical),
	after func(c *glif, i int, threshold, m, v reg.VecPhysical), end func(c *glif)) {
	const group = 3
	c, k := plain([]string{"a", "b", "gain", "decay", "threshold", "reset"}, nil)
	c.run(false, "xStep", ps, []string{"membrane"}, group, func(l labels, n int) {
		cur := func(i int) reg.VecPhysical { return AVX2.V(3 * i) }
		m := func(i int) reg.VecPhysical { return AVX2.V(3*i + 1) }
		v := func(i int) reg.VecPhysical { return AVX2.V(3*i + 2) }
		for i := range n {
			c.prefetch("x", i)
			VMULPS(c.mem("x", i), k["a"], cur(i))
			VADDPS(k["b"], cur(i), cur(i))
			VMOVUPS(c.mem("membrane", i), m(i))
			before(c, i, cur(i), m(i))
			VMULPS(k["decay"], m(i), m(i))
			VMULPS(k["gain"], cur(i), cur(i))
			VADDPS(cur(i), m(i), m(i))
			after(c, i, k["threshold"], m(i), v(i))
		}
		CMPL(c.a.Mem("soft"), Imm(0))
		JNE(l.ref("soft"))
		for i := range n {
			VBLENDVPS(v(i), k["reset"], m(i), m(i))
			VMOVUPS(m(i), c.mem("membrane", i))
		}
		JMP(l.ref("next"))
		l.set("soft")
		for i := range n {
			VANDPS(k["threshold"], v(i), v(i))
			VSUBPS(v(i), m(i), m(i))
			VMOVUPS(m(i), c.mem("membrane", i))
		}
		l.set("next")
	}, func() { end(c) })
}

func plainForward() {
	Routine("glifForwardPlainAVX2", "func(r *glifRun)", "is glifForwardPortable for plain neurons.")
	bits := GP32()
	check := AVX2.V(9)
	AVX2.Zero(check)
	plainSteps([]pointer{{"x", "xStep"}, {"s", "sStep"}}, func(*glif, int, reg.VecPhysical, reg.VecPhysical) {},
		func(c *glif, i int, threshold, m, v reg.VecPhysical) {
			VSUBPS(threshold, m, v)
			VSUBPS(v, v, v) // NaN or zero
			VORPS(v, check, check)
			VCMPPS(Imm(greaterOrEqual), threshold, m, v)
			VMOVMSKPS(v, bits)
			MOVB(bits.As8(), c.word(i))
		}, func(c *glif) {
			p := c.a.Load("check")
			VORPS(Mem{Base: p}, check, check)
			VMOVUPS(check, Mem{Base: p})
		})
}

func plainReplay() {
	Routine("glifReplayPlainAVX2", "func(r *glifRun)", "is glifReplayPortable for plain neurons.")
	plainSteps([]pointer{{"x", "xStep"}, {"history", "historyStep"}}, func(c *glif, i int, cur, m reg.VecPhysical) {
		VMOVUPS(cur, c.slot("history", 0, i))
		VMOVUPS(m, c.slot("history", 1, i))
	}, func(c *glif, i int, threshold, m, v reg.VecPhysical) {
		VCMPPS(Imm(greaterOrEqual), threshold, m, v)
	}, func(*glif) {})
}

// plainBackward computes what glifBackward does, in its order.
func plainBackward() {
	Routine("glifBackwardPlainAVX2", "func(r *glifRun)", "is glifBackwardPortable for plain neurons.")
	c, k := plain([]string{"gain", "decay", "threshold", "reset", "width"}, []string{"gain", "decay", "threshold", "reset"})
	zero := c.constant(len(k))
	AVX2.Zero(zero)
	p, phi, g, th, v := AVX2.V(0), AVX2.V(1), AVX2.V(2), AVX2.V(3), AVX2.V(4)
	ps := []pointer{{"s", "sStep"}, {"history", "historyStep"}, {"dout", "doutStep"}, {"dx", "dxStep"}}
	c.run(true, "doutStep", ps, []string{"adjoint"}, 1, func(l labels, n int) {
		cur, m, dm := c.slot("history", 0, 0), c.slot("history", 1, 0), c.slot("adjoint", 1, 0)
		c.prefetch("dout", 0)
		c.prefetch("dx", 0)
		VMULPS(m, k["decay"], p)
		VMULPS(cur, k["gain"], v)
		VADDPS(v, p, p)
		VSUBPS(k["threshold"], p, v)
		VANDPS(absMask, v, v)
		VSUBPS(v, k["width"], phi)
		VMAXPS(phi, zero, phi) // NaN stays
		VMULPS(c.vector("k", "height", c.column), phi, phi)

		// g = ∂s·φ
		VMOVUPS(c.mem("dout", 0), g)
		CMPL(c.a.Mem("detach"), Imm(0))
		JNE(l.ref("detached"))
		CMPL(c.a.Mem("soft"), Imm(0))
		JNE(l.ref("soft"))
		VSUBPS(p, k["reset"], v)
		VMULPS(dm, v, v)
		VADDPS(v, g, g)
		JMP(l.ref("detached"))
		l.set("soft")
		VMULPS(dm, k["threshold"], v)
		VSUBPS(v, g, g)
		l.set("detached")
		VMULPS(phi, g, g)

		// p = ∂p, th = −∂θ, v = the mask of the spikes
		VADDPS(dm, g, p)
		VPBROADCASTB(c.word(0), v)
		VPAND(laneBits, v, v)
		VPCMPEQD(laneBits, v, v)
		CMPL(c.a.Mem("soft"), Imm(0))
		JNE(l.ref("all"))
		VMOVAPS(g, th)
		VBLENDVPS(v, g, p, p)
		JMP(l.ref("sums"))
		l.set("all")
		VBLENDVPS(v, p, g, th)

		l.set("sums")
		VANDPS(dm, v, v)
		VADDPS(v, k["sum reset"], k["sum reset"])
		VMULPS(cur, p, v)
		VADDPS(v, k["sum gain"], k["sum gain"])
		VMULPS(m, p, v)
		VADDPS(v, k["sum decay"], k["sum decay"])
		VADDPS(th, k["sum threshold"], k["sum threshold"])

		VMULPS(k["decay"], p, v)
		VMOVUPS(v, dm)
		VMULPS(k["gain"], p, g)
		VMULPS(c.vector("k", "scale", c.column), g, g)
		CMPL(c.a.Mem("add"), Imm(0))
		JE(l.ref("write"))
		VADDPS(c.mem("dx", 0), g, g)
		l.set("write")
		VMOVUPS(g, c.mem("dx", 0))
	}, func() {})
}
