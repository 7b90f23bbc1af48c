package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sampledMax is the largest number of outputs that are computed at a time: as many
// pointers fit the registers. At AVX2 fewer than four wait for their additions, at AVX-512
// any number that fits.
const sampledMax = 7

// sampled3 takes the set bits of a channel's mask in groups of up to sampledMax. An
// output's 16 sums, a lane each, stay in registers until the last step adds them up.
func sampled3(s isa) {
	routine("sampled3"+s.name, "func(a *sampled3)", "is sampled3Portable, but for sums that are not numbers.")
	a := argBlock()
	mask, n := GP64(), GP64()
	Label("channel")
	MOVQ(a.load("masks"), n)
	MOVQ(Mem{Base: n}, mask)
	TESTQ(mask, mask)
	JZ(LabelRef("next"))

	// The weights of the next channel.
	soon, left := a.load("w"), a.load("blocks")
	Label("soon")
	for t := range 9 {
		PREFETCHT0(Mem{Base: soon, Disp: (9 + t) * 64})
	}
	ADDQ(a.mem("wBlock"), soon)
	DECQ(left)
	JNZ(LabelRef("soon"))

	// A group is as large as can be, but for the last two, which are alike.
	Label("group")
	POPCNTQ(mask, n)
	CMPQ(n, Imm(sampledMax))
	JLE(LabelRef("sized"))
	CMPQ(n, Imm(2*sampledMax))
	JGE(LabelRef(fmt.Sprintf("group%d", sampledMax)))
	INCQ(n)
	SHRQ(Imm(1), n)
	Label("sized")
	for p := sampledMax; p > 1; p-- {
		CMPQ(n, Imm(uint64(p)))
		JEQ(LabelRef(fmt.Sprintf("group%d", p)))
	}
	for p := 1; p <= sampledMax; p++ {
		sampledBody(s, a, mask, p)
	}
	Label("nan")
	MOVQ(U32(1), n)
	MOVQ(n, a.mem("nan"))
	Label("done")
	TESTQ(mask, mask)
	JNZ(LabelRef("group"))
	Label("next")
	ADDQ(Imm(8), a.mem("masks"))
	ADDQ(Imm(4), a.mem("dst"))
	ADDQ(U32(9*64), a.mem("w"))
	DECQ(a.mem("channels"))
	JNZ(LabelRef("channel"))
	VZEROUPPER()
	RET()
}

func sampledBody(s isa, a args, mask reg.GPVirtual, p int) {
	label := func(l string) string { return fmt.Sprintf("%s%d", l, p) }
	parts := 64 / s.bytes
	sum := func(i, part int) reg.VecPhysical { return s.v(i*2 + part) }
	w := func(i int) reg.VecPhysical { return s.v(p*2 + i) }
	Label(label("group"))
	MOVQ(mask, a.mem("group"))
	i := GP64()
	ptrs := make([]reg.GPVirtual, p)
	places := a.load("places")
	for k := range ptrs {
		TZCNTQ(mask, i)
		BLSRQ(mask, mask)
		ptrs[k] = GP64()
		MOVLQSX(Mem{Base: places, Index: i, Scale: 8}, ptrs[k])
		for part := range parts {
			s.zero(sum(k, part))
		}
	}
	MOVQ(mask, a.mem("rest"))
	wp, left := a.load("w"), a.load("blocks")
	r0, r1, r2 := a.load("deltas"), a.load("rowStride"), GP64()
	LEAQ(Mem{Base: r0, Index: r1, Scale: 2}, r2)
	ADDQ(r0, r1)
	Label(label("block"))
	for t := range 9 {
		row := []reg.Register{r2, r1, r0}[t/3]
		at := (2 - t%3) * 256
		for part := range parts {
			v := w((t + part) % 2)
			VMOVUPS(Mem{Base: wp, Disp: t*64 + part*s.bytes}, v)
			for k := range p {
				VFMADD231PS(Mem{Base: ptrs[k], Index: row, Scale: 1, Disp: at + part*s.bytes}, v, sum(k, part))
			}
		}
	}
	for _, r := range []reg.Register{r0, r1, r2} {
		ADDQ(Imm(64), r)
	}
	ADDQ(a.mem("wBlock"), wp)
	DECQ(left)
	JNZ(LabelRef(label("block")))

	// The lanes' sum, four outputs at a time. The second register of each is free then.
	for k := range p {
		low, high := sum(k, 0).AsY(), sum(k, 1).AsY()
		if parts == 1 {
			VEXTRACTF64X4(Imm(1), sum(k, 0), high)
		}
		VADDPS(high, low, low)
	}
	quarters := (p + 3) / 4
	x := func(q int) reg.VecPhysical { return sum(4*q, 0).AsX().(reg.VecPhysical) }
	free := func(q int) reg.VecPhysical { return sum(4*q, 1).AsY().(reg.VecPhysical) }
	for q := range quarters {
		in := func(j int) reg.Register { return sum(min(4*q+j, p-1), 0).AsY() }
		spare := w(0).AsY()
		pair := func(j int) { // even and odd lanes of two outputs, added in in(j)
			VUNPCKHPS(in(j+1), in(j), spare)
			VUNPCKLPS(in(j+1), in(j), in(j))
			VADDPS(spare, in(j), in(j))
		}
		pair(0)
		second := in(0)
		if 4*q+2 < p {
			pair(2)
			second = in(2)
		}
		VUNPCKHPD(second, in(0), spare)
		VUNPCKLPD(second, in(0), in(0))
		VADDPS(spare, in(0), in(0))
		VEXTRACTF128(Imm(1), in(0), spare.(reg.VecPhysical).AsX())
		VADDPS(spare.(reg.VecPhysical).AsX(), x(q), x(q))
	}
	nan := GP32()
	VCMPPS(Imm(3), x(0), x(quarters-1), w(0).AsX())
	VMOVMSKPS(w(0).AsX(), nan)
	MOVQ(a.mem("rest"), mask)
	TESTL(nan, nan)
	JNZ(LabelRef("nan"))
	group := a.load("group")
	XORQ(group, mask)
	masks := a.load("masks")
	XORQ(mask, Mem{Base: masks})
	dst := a.load("dst")
	places = a.load("places")
	for k := range p {
		TZCNTQ(group, i)
		BLSRQ(group, group)
		MOVLQSX(Mem{Base: places, Index: i, Scale: 8, Disp: 4}, i)
		at, v := Mem{Base: dst, Index: i, Scale: 1}, x(k/4)
		if k%4 > 0 {
			v = free(k / 4).AsX().(reg.VecPhysical)
			VPERMILPS(Imm(uint64(k%4)), x(k/4), v)
		}
		VADDSS(at, v, v)
		VMOVSS(v, at)
	}
	MOVQ(a.mem("rest"), mask)
	JMP(LabelRef("done"))
}
