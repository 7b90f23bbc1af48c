package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

// glif is a loop over GLIF neurons. The names of vectors are those of glifVectors.
type glif struct {
	scan
	constants map[string]reg.VecPhysical // those in registers, at AVX-512
}

// k is a constant of vector i.
func (c *glif) k(name string, i int) Op {
	if r, ok := c.constants[name]; ok {
		return r
	}
	return c.vector("k", name, i)
}

func (c *glif) vector(field, name string, i int) Mem {
	m := c.a.Vector(field, name)
	m.Disp += i % c.s.Columns() * c.s.Bytes
	return m
}

// quad is vector i of a field that has four vectors a pixel.
func (c *glif) quad(field string, slot, i int) Mem {
	cols := c.s.Columns()
	return Mem{Base: c.at[field], Index: c.bytes, Scale: 4, Disp: i/cols*256 + slot*64 + i%cols*c.s.Bytes}
}

// local loads the pointer of a field of one step, and returns where vector i of the group lies.
func (c *glif) local(field string) func(i int) Mem {
	p := c.a.Load(field)
	return func(i int) Mem { return Mem{Base: p, Index: c.bytes, Scale: 1, Disp: i * c.s.Bytes} }
}

var masks = []reg.Register{reg.K1, reg.K2, reg.K3, reg.K4}

// lower subtracts v from r where the mask of vector i is set: masks[i] at AVX-512, else the
// register mask. At AVX2 free is overwritten and may be v.
func (c *glif) lower(v Op, i int, mask, free, r reg.VecPhysical) {
	if c.s.Wide() {
		VSUBPS(v, r, masks[i], r)
		return
	}
	VANDPS(v, mask, free)
	VSUBPS(free, r, r)
}

// skips returns functions that emit conditional jumps over what follows, to a label.
func (c *glif) skips(l labels) (ifNil, ifSet, ifClear func(field, to string)) {
	return func(field, to string) {
			CMPQ(c.a.Mem(field), Imm(0))
			JE(l.ref(to))
		}, func(field, to string) {
			CMPL(c.a.Mem(field), Imm(0))
			JNE(l.ref(to))
		}, func(field, to string) {
			CMPL(c.a.Mem(field), Imm(0))
			JE(l.ref(to))
		}
}

// glifSteps emits the update of GLIF neurons. After decays it gets i(t) and m(t−1) of each
// vector, a register being free; after that a(t−1), if there is one; and at last p(t) and
// θ(t).
func glifSteps(s ISA, ps []pointer, group int, before, level func(c *glif, i int, cur, m reg.VecPhysical),
	decide func(c *glif, l labels, n int, m, theta, v func(int) reg.VecPhysical), end func(c *glif)) {
	c := &glif{scan: scan{s: s, a: Block("r"), soon: true}}
	if s.Wide() {
		c.constants = map[string]reg.VecPhysical{}
		for i, name := range []string{"a", "b", "synapticDecay", "recurrence", "gain", "decay", "threshold",
			"adaptation", "adaptationDecay", "jump", "reset", "width"} {
			c.constants[name] = c.constant(i)
			VMOVUPS(c.vector("k", name, 0), c.constant(i))
		}
	}
	cur := func(i int) reg.VecPhysical { return s.V(4 * i) }
	m := func(i int) reg.VecPhysical { return s.V(4*i + 1) }
	theta := func(i int) reg.VecPhysical { return s.V(4*i + 2) }
	v := func(i int) reg.VecPhysical { return s.V(4*i + 3) }
	c.run(false, "xStep", ps, []string{"membrane", "carry", "adaptation"}, group, func(l labels, n int) {
		each := func(fn func(i int)) {
			for i := range n {
				fn(i)
			}
		}
		ifNil, ifSet, _ := c.skips(l)
		each(func(i int) {
			c.prefetch("x", i)
			VMOVUPS(c.mem("x", i), cur(i))
			VMULPS(c.k("a", i), cur(i), cur(i))
			VADDPS(c.k("b", i), cur(i), cur(i))
		})
		ifNil("feedback", "carry")
		feedback := c.local("feedback")
		each(func(i int) { VADDPS(feedback(i), cur(i), cur(i)) })
		l.set("carry")
		ifNil("carry", "potential")
		each(func(i int) { VADDPS(c.mem("carry", i), cur(i), cur(i)) })
		l.set("potential")
		each(func(i int) {
			VMOVUPS(c.mem("membrane", i), m(i))
			before(c, i, cur(i), m(i))
			VMULPS(c.k("decay", i), m(i), m(i))
			VMULPS(c.k("gain", i), cur(i), v(i))
			VADDPS(v(i), m(i), m(i))
			VMOVUPS(c.k("threshold", i), theta(i))
		})
		ifNil("adaptation", "decide")
		each(func(i int) {
			VMOVUPS(c.mem("adaptation", i), v(i))
			level(c, i, cur(i), v(i))
			VMULPS(c.k("adaptation", i), v(i), v(i))
			VADDPS(v(i), theta(i), theta(i))
		})
		l.set("decide")
		decide(c, l, n, m, theta, v)

		ifSet("soft", "soft")
		each(func(i int) {
			if s.Wide() {
				VMOVAPS(c.k("reset", i), masks[i], m(i))
			} else {
				VBLENDVPS(v(i), c.k("reset", i), m(i), m(i))
			}
		})
		JMP(l.ref("store"))
		l.set("soft")
		each(func(i int) { c.lower(theta(i), i, v(i), theta(i), m(i)) })
		l.set("store")
		each(func(i int) { VMOVUPS(m(i), c.mem("membrane", i)) })

		ifNil("carry", "adapt")
		each(func(i int) {
			VMULPS(c.k("synapticDecay", i), cur(i), cur(i))
			c.lower(c.k("recurrence", i), i, v(i), theta(i), cur(i))
			VMOVUPS(cur(i), c.mem("carry", i))
		})
		l.set("adapt")
		ifNil("adaptation", "next")
		each(func(i int) {
			VMOVUPS(c.mem("adaptation", i), cur(i))
			VMULPS(c.k("adaptationDecay", i), cur(i), cur(i))
			c.lower(c.k("jump", i), i, v(i), theta(i), cur(i))
			VMOVUPS(cur(i), c.mem("adaptation", i))
		})
		l.set("next")
	}, func() { end(c) })
}

// glifGroup is the number of pixels of a group.
func glifGroup(s ISA) int {
	if s.Wide() {
		return 4
	}
	return 1
}

// compare sets the masks of the vectors that fire.
func (c *glif) compare(i int, m, theta, v reg.VecPhysical) {
	if c.s.Wide() {
		VCMPPS(Imm(greaterOrEqual), theta, m, masks[i])
	} else {
		VCMPPS(Imm(greaterOrEqual), theta, m, v)
	}
}

func (c *glif) nothing(int, reg.VecPhysical, reg.VecPhysical) {}

func glifForward(s ISA) {
	Routine("glifForward"+s.Name, "func(r *glifRun)", "is glifForwardPortable.")
	low, high := GP32(), GP32()
	check := s.V(4 * glifGroup(s) * s.Columns())
	s.Zero(check)
	or := func(a Op) {
		if s.Wide() {
			VPORD(a, check, check)
		} else {
			VORPS(a, check, check)
		}
	}
	glifSteps(s, []pointer{{"x", "xStep"}, {"s", "sStep"}}, glifGroup(s), (*glif).nothing, (*glif).nothing,
		func(c *glif, _ labels, n int, m, theta, v func(int) reg.VecPhysical) {
			for i := range n {
				VSUBPS(theta(i), m(i), v(i))
				VSUBPS(v(i), v(i), v(i)) // NaN or zero
				or(v(i))
				c.compare(i, m(i), theta(i), v(i))
				if s.Wide() {
					KMOVW(masks[i], c.word(i))
				} else {
					c.storeWord(i, v(i), low, high)
				}
			}
		}, func(c *glif) {
			p := c.a.Load("check")
			or(Mem{Base: p})
			VMOVUPS(check, Mem{Base: p})
		})
}

func glifSupport(s ISA) {
	Routine("glifSupport"+s.Name, "func(r *glifRun)", "is glifSupportPortable.")
	low, high := GP32(), GP32()
	glifSteps(s, []pointer{{"x", "xStep"}, {"s", "sStep"}}, glifGroup(s), (*glif).nothing, (*glif).nothing,
		func(c *glif, _ labels, n int, m, theta, v func(int) reg.VecPhysical) {
			for i := range n {
				VSUBPS(theta(i), m(i), v(i))
				s.And(absMask, v(i))
				if s.Wide() {
					VCMPPS(Imm(notGreaterOrEqual), c.k("width", i), v(i), masks[i])
					KMOVW(masks[i], c.word(i))
				} else {
					VCMPPS(Imm(notGreaterOrEqual), c.k("width", i), v(i), v(i))
					c.storeWord(i, v(i), low, high)
				}
				c.compare(i, m(i), theta(i), v(i))
			}
		}, func(*glif) {})
}

func glifReplay(s ISA) {
	Routine("glifReplay"+s.Name, "func(r *glifRun)", "is glifReplayPortable.")
	glifSteps(s, []pointer{{"x", "xStep"}, {"history", "historyStep"}, {"slope", "slopeStep"}}, glifGroup(s),
		func(c *glif, i int, cur, m reg.VecPhysical) {
			VMOVUPS(cur, c.quad("history", 0, i))
			VMOVUPS(m, c.quad("history", 1, i))
		}, func(c *glif, i int, _, a reg.VecPhysical) {
			VMOVUPS(a, c.quad("history", 2, i))
		}, func(c *glif, l labels, n int, m, theta, v func(int) reg.VecPhysical) {
			ifNil, _, _ := c.skips(l)
			ifNil("slope", "inline")
			for i := range n {
				VSUBPS(theta(i), m(i), v(i))
				VMOVUPS(v(i), c.mem("slope", i))
			}
			l.set("inline")
			for i := range n {
				c.compare(i, m(i), theta(i), v(i))
			}
		}, func(*glif) {})
}

// The gradients of coefficients, in registers at AVX-512. The rest is added if there is a
// synaptic current, or an adaptation.
var totals = []string{"gain", "decay", "threshold", "reset", "synapticDecay", "recurrence", "adaptation", "adaptationDecay"}

// total adds v to a gradient, where masks[i] is set at AVX-512 if masked. At AVX2 v is
// overwritten.
func (c *glif) total(name string, i int, v Op, masked bool) {
	if !c.s.Wide() {
		r := v.(reg.VecPhysical)
		VADDPS(c.vector("sums", name, i), r, r)
		VMOVUPS(r, c.vector("sums", name, i))
		return
	}
	sum := c.constants["total "+name]
	if masked {
		VADDPS(v, sum, masks[i], sum)
	} else {
		VADDPS(v, sum, sum)
	}
}

// glifBackward works in phases that branch on what the arguments ask for. The names of its
// variables are those of GLIFBackward: th is θ, then −∂θ.
func glifBackward(s ISA) {
	Routine("glifBackward"+s.Name, "func(r *glifRun)", "is glifBackwardPortable.")
	c := &glif{scan: scan{s: s, a: Block("r"), soon: true}}
	zero := c.constant(0)
	s.Zero(zero)
	if s.Wide() {
		c.constants = map[string]reg.VecPhysical{}
		for i, name := range totals {
			r := c.constant(1 + i)
			c.constants["total "+name] = r
			VMOVUPS(c.vector("sums", name, 0), r)
		}
	}
	p := func(i int) reg.VecPhysical { return s.V(5 * i) }
	phi := func(i int) reg.VecPhysical { return s.V(5*i + 1) }
	g := func(i int) reg.VecPhysical { return s.V(5*i + 2) }
	th := func(i int) reg.VecPhysical { return s.V(5*i + 3) }
	v := func(i int) reg.VecPhysical { return s.V(5*i + 4) }
	cur := func(i int) Mem { return c.quad("history", 0, i) }
	m := func(i int) Mem { return c.quad("history", 1, i) }
	level := func(i int) Mem { return c.quad("history", 2, i) }
	di := func(i int) Mem { return c.quad("adjoint", 0, i) }
	dm := func(i int) Mem { return c.quad("adjoint", 1, i) }
	da := func(i int) Mem { return c.quad("adjoint", 2, i) }
	ps := []pointer{{"s", "sStep"}, {"history", "historyStep"}, {"slope", "slopeStep"}, {"dout", "doutStep"}, {"dx", "dxStep"}}
	c.run(true, "doutStep", ps, []string{"adjoint"}, glifGroup(s), func(l labels, n int) {
		each := func(fn func(i int)) {
			for i := range n {
				fn(i)
			}
		}
		ifNil, ifSet, ifClear := c.skips(l)
		product := func(name string, i int, src Op, dst reg.VecPhysical) { // dst = src·constant
			VMOVUPS(src, dst)
			VMULPS(c.k(name, i), dst, dst)
		}
		// mask puts the mask of vector i into r at AVX2.
		mask := func(i int, r reg.VecPhysical) {
			if !s.Wide() {
				fires(s, c.word(i), i%s.Columns(), r)
			}
		}

		each(func(i int) {
			if s.Wide() {
				KMOVW(c.word(i), masks[i])
			}
			product("decay", i, m(i), p(i))
			product("gain", i, cur(i), v(i))
			VADDPS(v(i), p(i), p(i))
			VMOVUPS(c.k("threshold", i), th(i))
		})
		ifNil("adaptation", "slope")
		each(func(i int) {
			product("adaptation", i, level(i), v(i))
			VADDPS(v(i), th(i), th(i))
		})

		l.set("slope")
		ifNil("slope", "triangle")
		each(func(i int) { VMOVUPS(c.mem("slope", i), phi(i)) })
		JMP(l.ref("spikes"))
		l.set("triangle")
		each(func(i int) {
			VSUBPS(th(i), p(i), v(i))
			s.And(absMask, v(i))
			VMOVUPS(c.k("width", i), phi(i))
			VSUBPS(v(i), phi(i), phi(i))
			VMAXPS(phi(i), zero, phi(i)) // NaN stays
			VMULPS(c.k("height", i), phi(i), phi(i))
		})

		// g = ∂s
		l.set("spikes")
		each(func(i int) {
			c.prefetch("dout", i)
			VMOVUPS(c.mem("dout", i), g(i))
		})
		ifNil("feedback", "level")
		feedback := c.local("feedback")
		each(func(i int) { VADDPS(feedback(i), g(i), g(i)) })
		l.set("level")
		ifNil("adaptation", "current")
		each(func(i int) {
			product("jump", i, da(i), v(i))
			VSUBPS(v(i), g(i), g(i))
		})
		l.set("current")
		ifNil("carry", "reset")
		each(func(i int) {
			product("recurrence", i, di(i), v(i))
			VSUBPS(v(i), g(i), g(i))
		})
		l.set("reset")
		ifSet("detach", "detached")
		ifSet("soft", "soft")
		each(func(i int) {
			VMOVUPS(c.k("reset", i), v(i))
			VSUBPS(p(i), v(i), v(i))
			VMULPS(dm(i), v(i), v(i))
			VADDPS(v(i), g(i), g(i))
		})
		JMP(l.ref("detached"))
		l.set("soft")
		each(func(i int) {
			VMULPS(dm(i), th(i), v(i))
			VSUBPS(v(i), g(i), g(i))
		})

		// p = ∂p, th = −∂θ
		l.set("detached")
		each(func(i int) { VMULPS(phi(i), g(i), g(i)) })
		ifSet("soft", "all")
		each(func(i int) {
			if s.Wide() {
				VMOVAPS(g(i), p(i))
				KNOTW(masks[i], reg.K7)
				VADDPS(dm(i), g(i), reg.K7, p(i))
			} else {
				VADDPS(dm(i), g(i), p(i))
				mask(i, v(i))
				VBLENDVPS(v(i), g(i), p(i), p(i))
			}
			VMOVAPS(g(i), th(i))
		})
		JMP(l.ref("sums"))
		l.set("all")
		each(func(i int) {
			VADDPS(dm(i), g(i), p(i))
			VMOVAPS(g(i), th(i))
			if s.Wide() {
				VADDPS(dm(i), g(i), masks[i], th(i))
			} else {
				mask(i, v(i))
				VBLENDVPS(v(i), p(i), th(i), th(i))
			}
		})

		l.set("sums")
		ifClear("summed", "summed")
		each(func(i int) {
			VMULPS(cur(i), p(i), v(i))
			c.total("gain", i, v(i), false)
			VMULPS(m(i), p(i), v(i))
			c.total("decay", i, v(i), false)
			if s.Wide() {
				c.total("threshold", i, th(i), false)
				c.total("reset", i, dm(i), true)
			} else {
				VMOVAPS(th(i), v(i))
				c.total("threshold", i, v(i), false)
				mask(i, v(i))
				VANDPS(dm(i), v(i), v(i))
				c.total("reset", i, v(i), true)
			}
		})
		ifNil("carry", "summedCurrent")
		each(func(i int) {
			VMOVUPS(di(i), v(i))
			VMULPS(cur(i), v(i), v(i))
			c.total("synapticDecay", i, v(i), false)
			if s.Wide() {
				c.total("recurrence", i, di(i), true)
			} else {
				mask(i, v(i))
				VANDPS(di(i), v(i), v(i))
				c.total("recurrence", i, v(i), true)
			}
		})
		l.set("summedCurrent")
		ifNil("adaptation", "summed")
		each(func(i int) {
			VMULPS(level(i), th(i), v(i))
			c.total("adaptation", i, v(i), false)
			mask(i, phi(i))
			VMOVUPS(level(i), v(i))
			c.lower(c.k("one", i), i, phi(i), phi(i), v(i))
			VMULPS(da(i), v(i), v(i))
			c.total("adaptationDecay", i, v(i), false)
		})
		l.set("summed")

		ifNil("adaptation", "back")
		each(func(i int) {
			VMULPS(c.k("adaptation", i), th(i), th(i))
			product("adaptationDecay", i, da(i), v(i))
			VSUBPS(th(i), v(i), v(i))
			VMOVUPS(v(i), da(i))
		})
		l.set("back")
		each(func(i int) {
			VMULPS(c.k("decay", i), p(i), v(i))
			VMOVUPS(v(i), dm(i))
			VMULPS(c.k("gain", i), p(i), g(i))
		})
		ifNil("carry", "total")
		each(func(i int) {
			product("synapticDecay", i, di(i), v(i))
			VADDPS(v(i), g(i), g(i))
			VMOVUPS(g(i), di(i))
		})

		l.set("total")
		ifNil("total", "added")
		total := c.local("total")
		each(func(i int) {
			VADDPS(total(i), g(i), v(i))
			VMOVUPS(v(i), total(i))
		})
		l.set("added")
		ifNil("grad", "given")
		grad := c.local("grad")
		each(func(i int) { VMOVUPS(g(i), grad(i)) })
		l.set("given")
		ifNil("dx", "stored")
		each(func(i int) {
			c.prefetch("dx", i)
			VMULPS(c.k("scale", i), g(i), g(i))
		})
		ifClear("add", "write")
		each(func(i int) { VADDPS(c.mem("dx", i), g(i), g(i)) })
		l.set("write")
		each(func(i int) { VMOVUPS(g(i), c.mem("dx", i)) })
		l.set("stored")
	}, func() {
		if s.Wide() {
			for _, name := range totals {
				VMOVUPS(c.constants["total "+name], c.vector("sums", name, 0))
			}
		}
	})
}
