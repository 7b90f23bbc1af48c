package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

// filled returns 16 lanes of read-only memory with one value.
func filled(name string, bits uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(bits))
	}
	return m
}

func filledFloat(name string, v float32) Mem { return filled(name, math.Float32bits(v)) }

// slopeConstants are those of the routines of this file, made with the others.
var slopeConstants struct {
	sign, least, log2e, round, ln2, ln2Lo, c6, c5, c4, c3, half, one, minusHalf Mem
	keep, take, width, epsilon, halfPi                                          Mem
}

func makeSlopeConstants() {
	c := &slopeConstants
	c.sign = filled("signMask", 1<<31)
	c.least = filledFloat("decayLeast", -87)
	c.log2e = filledFloat("decayLog2e", 1.44269504)
	c.round = filledFloat("decayRound", 3<<22)
	c.ln2 = filledFloat("decayLn2", 0.693359375)
	c.ln2Lo = filledFloat("decayLn2Lo", -2.12194440e-4)
	c.c6 = filledFloat("decay6", 1./720)
	c.c5 = filledFloat("decay5", 1./120)
	c.c4 = filledFloat("decay4", 1./24)
	c.c3 = filledFloat("decay3", 1./6)
	c.half = filledFloat("half", 0.5)
	c.one = filledFloat("one", 1)
	c.minusHalf = filledFloat("minusHalf", -0.5)
	c.keep = filledFloat("adaptiveKeep", 0.9)
	c.take = filledFloat("adaptiveTake", 0.1)
	c.width = filledFloat("adaptiveWidth", 1.5)
	c.epsilon = filledFloat("adaptiveLeast", 1e-4)
	c.halfPi = filledFloat("halfPi", math.Pi/2)
}

// decay replaces the vectors x(i) by exp(x(i)), for x ≤ 0, and overwrites the n, r and p. A
// vector that is NaN stays NaN.
func decay(s ISA, n int, x, in, r, p func(i int) reg.VecPhysical) {
	const lessThan = 0x01
	c := &slopeConstants
	each := func(fn func(i int)) {
		for i := range n {
			fn(i)
		}
	}
	each(func(i int) {
		VMULPS(c.log2e, x(i), in(i))
		VADDPS(c.round, in(i), in(i))
		VSUBPS(c.round, in(i), p(i)) // n
		VPSLLD(Imm(23), in(i), in(i))
		VMULPS(c.ln2, p(i), r(i))
		VSUBPS(r(i), x(i), r(i))
		VMULPS(c.ln2Lo, p(i), p(i))
		VSUBPS(p(i), r(i), r(i))
	})
	each(func(i int) { VMULPS(c.c6, r(i), p(i)) })
	for _, k := range []Mem{c.c5, c.c4, c.c3, c.half} {
		each(func(i int) { VADDPS(k, p(i), p(i)) })
		if k.Symbol != c.half.Symbol {
			each(func(i int) { VMULPS(r(i), p(i), p(i)) })
		}
	}
	square := s.V(s.Registers - 1)
	each(func(i int) {
		VMULPS(r(i), r(i), square)
		VMULPS(square, p(i), p(i))
		VADDPS(r(i), p(i), p(i))
		VADDPS(c.one, p(i), p(i))
		VPADDD(in(i), p(i), p(i))
		// 0 where x is less than the least argument
		if s.Wide() {
			const notLessThan = 0x05 // true for NaN
			VCMPPS(Imm(notLessThan), c.least, x(i), reg.K1)
			VMOVAPS_Z(p(i), reg.K1, x(i))
		} else {
			VCMPPS(Imm(lessThan), c.least, x(i), x(i))
			VANDNPS(p(i), x(i), x(i))
		}
	})
}

// slopeRoutine emits a routine that works on groups of vectors. fn gets four registers for
// each vector i: u, which it replaces by the derivative, and three to spare.
func slopeRoutine(s ISA, name string, fn func(n int, k func(field string, i int) Mem, u, a, b, c func(i int) reg.VecPhysical)) {
	Routine(name+s.Name, "func(dst, u *float32, k *slopes, n int)", "is "+name+"Portable.")
	dst, u, n := parameter("dst"), parameter("u"), parameter("n")
	k := parameter("k")
	v := func(j int) func(i int) reg.VecPhysical { return func(i int) reg.VecPhysical { return s.V(4*i + j) } }
	group := 4 // blocks
	if !s.Wide() {
		group = 1
	}
	stream(s, group, []reg.GPVirtual{dst, u}, []int{64, 64}, n, func(_ labels, n int) {
		for i := range n {
			VMOVUPS(at(s, u, i), v(0)(i))
		}
		fn(n, slopeField(s, k), v(0), v(1), v(2), v(3))
		for i := range n {
			VMOVUPS(v(0)(i), at(s, dst, i))
		}
	})
}

// slopeField returns where a field of slopes lies for vector i.
func slopeField(s ISA, k reg.GPVirtual) func(field string, i int) Mem {
	return func(field string, i int) Mem {
		return Mem{Base: k, Disp: map[string]int{"scale": 0, "height": 64, "shift": 128}[field] + i%s.Columns()*s.Bytes}
	}
}

// negative makes v −|v|.
func negative(s ISA, v reg.VecPhysical) {
	if s.Wide() {
		VPORD(slopeConstants.sign, v, v)
	} else {
		VORPS(slopeConstants.sign, v, v)
	}
}

func sigmoidSlope(s ISA) {
	slopeRoutine(s, "sigmoidSlope", func(n int, k func(string, int) Mem, u, a, b, c func(int) reg.VecPhysical) {
		for i := range n {
			VMULPS(k("scale", i), u(i), u(i))
			negative(s, u(i))
		}
		decay(s, n, u, a, b, c)
		for i := range n {
			VADDPS(slopeConstants.one, u(i), a(i))
			VMULPS(a(i), a(i), a(i))
			VMULPS(k("height", i), u(i), u(i))
			VDIVPS(a(i), u(i), u(i))
		}
	})
}

func exponentialSlope(s ISA) {
	slopeRoutine(s, "exponentialSlope", func(n int, k func(string, int) Mem, u, a, b, c func(int) reg.VecPhysical) {
		for i := range n {
			VMULPS(k("scale", i), u(i), u(i))
			negative(s, u(i))
		}
		decay(s, n, u, a, b, c)
		for i := range n {
			VMULPS(k("height", i), u(i), u(i))
		}
	})
}

func gaussianSlope(s ISA) {
	slopeRoutine(s, "gaussianSlope", func(n int, k func(string, int) Mem, u, a, b, c func(int) reg.VecPhysical) {
		for i := range n {
			VMULPS(k("scale", i), u(i), u(i))
			VSUBPS(k("shift", i), u(i), u(i))
			VMULPS(u(i), u(i), u(i))
			VMULPS(slopeConstants.minusHalf, u(i), u(i))
		}
		decay(s, n, u, a, b, c)
		for i := range n {
			VMULPS(k("height", i), u(i), u(i))
		}
	})
}

func arctanSlope(s ISA) {
	slopeRoutine(s, "arctanSlope", func(n int, k func(string, int) Mem, u, a, _, _ func(int) reg.VecPhysical) {
		for i := range n {
			VMULPS(k("scale", i), u(i), u(i))
			VMULPS(u(i), u(i), u(i))
			VADDPS(slopeConstants.one, u(i), u(i))
			VMOVUPS(k("height", i), a(i))
			VDIVPS(u(i), a(i), u(i))
		}
	})
}

func fastSigmoidSlope(s ISA) {
	slopeRoutine(s, "fastSigmoidSlope", func(n int, k func(string, int) Mem, u, a, _, _ func(int) reg.VecPhysical) {
		for i := range n {
			VMULPS(k("scale", i), u(i), u(i))
			s.And(absMask, u(i))
			VADDPS(slopeConstants.one, u(i), u(i))
			VMULPS(u(i), u(i), u(i))
			VMOVUPS(k("height", i), a(i))
			VDIVPS(u(i), a(i), u(i))
		}
	})
}

func triangleSlope(s ISA) {
	slopeRoutine(s, "triangleSlope", func(n int, k func(string, int) Mem, u, a, b, _ func(int) reg.VecPhysical) {
		for i := range n {
			s.And(absMask, u(i))
			VMOVUPS(k("scale", i), a(i))
			VSUBPS(u(i), a(i), u(i))
			s.Zero(b(i))
			VMAXPS(u(i), b(i), u(i)) // NaN stays
			VMULPS(k("height", i), u(i), u(i))
		}
	})
}

func adaptiveSlope(s ISA) {
	Routine("adaptiveSlope"+s.Name, "func(u, m, d *float32, k *slopes, n int)", "is adaptiveSlopePortable.")
	pu, pm, pd, n := parameter("u"), parameter("m"), parameter("d"), parameter("n")
	k := slopeField(s, parameter("k"))
	c := &slopeConstants
	stream(s, 1, []reg.GPVirtual{pu, pm, pd}, []int{64, 64, 64}, n, func(_ labels, n int) {
		for i := range n {
			u, w, m, d := s.V(4*i), s.V(4*i+1), s.V(4*i+2), s.V(4*i+3)
			VMOVUPS(at(s, pu, i), u)
			VMULPS(k("scale", i), u, u)
			s.Copy(u, w)
			s.And(absMask, w)
			VMOVUPS(at(s, pm, i), m)
			VMULPS(c.keep, m, m)
			VMULPS(c.take, w, d)
			VADDPS(d, m, m)
			VMOVUPS(m, at(s, pm, i))
			VSUBPS(m, w, w)
			s.And(absMask, w)
			VMULPS(c.take, w, w)
			VMOVUPS(at(s, pd, i), d)
			VMULPS(c.keep, d, d)
			VADDPS(w, d, d)
			VMOVUPS(d, at(s, pd, i))
			VMULPS(c.width, d, d)
			VADDPS(m, d, d)
			VADDPS(c.epsilon, d, d)
			VMOVUPS(k("height", i), w)
			VDIVPS(d, w, w) // α
			VMULPS(w, u, u)
			VMULPS(c.halfPi, u, u)
			VMULPS(u, u, u)
			VADDPS(c.one, u, u)
			VMULPS(c.half, w, w)
			VMULPS(k("scale", i), w, w)
			VDIVPS(u, w, w)
			VMOVUPS(w, at(s, pu, i))
		}
	})
}
