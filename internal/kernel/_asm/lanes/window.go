package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

// windows emits the loops over rows of windows. begin and end get the vectors of
// a group; position gets the vector, where it is in the window, and whether that is
// the window's first.
func windows(s ISA, begin func(a Args, n int, at func(i int) Mem), position func(a Args, l labels, i, n int, at Mem), end func(a Args, l labels, n int, at func(i int) Mem)) {
	a := Block("w")
	out := a.Load("out")
	in, pixel, pixel3 := GP64(), a.Load("pixel"), GP64()
	LEAQ(Mem{Base: pixel, Index: pixel, Scale: 2}, pixel3)
	t := a.Load("rows")
	MOVQ(t, a.Mem("rowsLeft"))
	MOVQ(a.Mem("in"), t)
	MOVQ(t, a.Mem("rowAt"))
	Label("row")
	MOVQ(a.Mem("rowAt"), in)
	groups("", 4, a.Load("n"), func(l labels, n int) {
		vectors := n * s.Columns()
		begin(a, vectors, func(i int) Mem { return at(s, out, i) })
		offset, left, p := a.Load("offsets"), a.Load("count"), GP64()
		l.set("position")
		MOVQ(in, p)
		ADDQ(Mem{Base: offset}, p)
		for i := range vectors {
			m := Mem{Base: p, Disp: i % s.Columns() * s.Bytes}
			switch px := i / s.Columns(); px {
			case 1, 2:
				m.Index, m.Scale = pixel, uint8(px)
			case 3:
				m.Index, m.Scale = pixel3, 1
			}
			position(a, l, i, vectors, m)
		}
		ADDQ(Imm(8), offset)
		DECQ(left)
		JNZ(l.ref("position"))
		end(a, l, vectors, func(i int) Mem { return at(s, out, i) })
		ADDQ(U32(uint32(64*n)), out)
		if n == 4 {
			LEAQ(Mem{Base: in, Index: pixel, Scale: 4}, in)
		} else {
			ADDQ(pixel, in)
		}
	})
	t = a.Load("row")
	ADDQ(t, a.Mem("rowAt"))
	DECQ(a.Mem("rowsLeft"))
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

func factor(s ISA, a Args, v reg.VecPhysical) { VBROADCASTSS(a.Mem("scale"), v) }

// count adds ones where bits are set: in float32 at AVX-512, as integers at AVX2.
func count(s ISA) {
	Routine("count"+s.Name, "func(w *windowRun)", "is countPortable.")
	constant, spare := s.V(s.Registers-1), s.V(s.Registers-2)
	if s.Wide() {
		one := GP32()
		MOVL(U32(0x3f800000), one)
		VPBROADCASTD(one, spare)
	}
	windows(s, func(a Args, n int, _ func(int) Mem) {
		for i := range n {
			s.Zero(s.V(i))
		}
	}, func(a Args, _ labels, i, n int, at Mem) {
		at.Disp = 0
		fires(s, at, i%s.Columns(), spare)
		if s.Wide() {
			VADDPS(spare, s.V(i), reg.K1, s.V(i))
		} else {
			VPSUBD(spare, s.V(i), s.V(i))
		}
	}, func(a Args, _ labels, n int, at func(i int) Mem) {
		factor(s, a, constant)
		for i := range n {
			if !s.Wide() {
				VCVTDQ2PS(s.V(i), s.V(i))
			}
			VMULPS(constant, s.V(i), s.V(i))
			VMOVUPS(s.V(i), at(i))
		}
	})
}

// average adds to −0, which changes nothing.
func average(s ISA) {
	Routine("average"+s.Name, "func(w *windowRun)", "is averagePortable.")
	constant := s.V(s.Registers - 1)
	windows(s, func(a Args, n int, _ func(int) Mem) {
		minus := GP32()
		MOVL(U32(0x80000000), minus)
		VMOVD(minus, s.V(0).AsX())
		VPBROADCASTD(s.V(0).AsX(), s.V(0))
		for i := 1; i < n; i++ {
			VMOVAPS(s.V(0), s.V(i))
		}
	}, func(a Args, _ labels, i, n int, at Mem) {
		VADDPS(at, s.V(i), s.V(i))
	}, func(a Args, _ labels, n int, at func(i int) Mem) {
		factor(s, a, constant)
		for i := range n {
			VMULPS(constant, s.V(i), s.V(i))
			VMOVUPS(s.V(i), at(i))
		}
	})
}

// spread writes or adds to the positions of windows that do not overlap.
func spread(s ISA) {
	Routine("spread"+s.Name, "func(w *windowRun)", "is spreadPortable for windows that do not overlap.")
	constant, spare := s.V(s.Registers-1), s.V(s.Registers-2)
	windows(s, func(a Args, n int, at func(i int) Mem) {
		factor(s, a, constant)
		for i := range n {
			VMULPS(at(i), constant, s.V(i))
		}
	}, func(a Args, l labels, i, n int, at Mem) {
		write, next := fmt.Sprintf("write%d", i), fmt.Sprintf("next%d", i)
		CMPL(a.Mem("add"), Imm(0))
		JE(l.ref(write))
		VADDPS(at, s.V(i), spare)
		VMOVUPS(spare, at)
		JMP(l.ref(next))
		l.set(write)
		VMOVUPS(s.V(i), at)
		l.set(next)
	}, func(Args, labels, int, func(int) Mem) {})
}

// largest starts from −∞.
func largest(s ISA) {
	Routine("largest"+s.Name, "func(w *windowRun)", "is largestPortable.")
	const greater, unordered = 0x0e, 0x03
	v, above, nan := s.V(s.Registers-1), s.V(s.Registers-2), s.V(s.Registers-3)
	windows(s, func(a Args, n int, _ func(int) Mem) {
		minus := GP32()
		MOVL(U32(0xff800000), minus)
		VMOVD(minus, s.V(0).AsX())
		VPBROADCASTD(s.V(0).AsX(), s.V(0))
		for i := 1; i < n; i++ {
			VMOVAPS(s.V(0), s.V(i))
		}
	}, func(a Args, _ labels, i, n int, at Mem) {
		VMOVUPS(at, v)
		if s.Wide() {
			VCMPPS(Imm(greater), s.V(i), v, reg.K1)
			VCMPPS(Imm(unordered), v, v, reg.K2)
			KORW(reg.K1, reg.K2, reg.K1)
			VMOVAPS(v, reg.K1, s.V(i))
		} else {
			VCMPPS(Imm(greater), s.V(i), v, above)
			VCMPPS(Imm(unordered), v, v, nan)
			VORPS(above, nan, nan)
			VBLENDVPS(nan, v, s.V(i), s.V(i))
		}
	}, func(a Args, _ labels, n int, at func(i int) Mem) {
		for i := range n {
			VMOVUPS(s.V(i), at(i))
		}
	})
}
