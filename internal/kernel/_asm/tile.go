package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tileRows is the largest number of rows for a number of columns: rows·cols sums,
// cols weights and one broadcast value must fit the registers.
func tileRows(s isa, cols int) int { return min(14, (s.registers-1-cols)/cols) }

const tileCols = 3

// tile multiplies with a register tile of any size up to tileRows × tileCols, one
// body for each size.
func tile(s isa) {
	routine("tile"+s.name, "func(a *tile)", "is tilePortable with fused multiply-adds; rows and cols must be within tileRows.")
	a := argBlock()
	rows, cols := a.load("rows"), a.load("cols")
	for n := 1; n <= tileCols; n++ {
		CMPQ(cols, Imm(uint64(n)))
		JEQ(LabelRef(fmt.Sprintf("cols%d", n)))
	}
	for n := 1; n <= tileCols; n++ {
		Label(fmt.Sprintf("cols%d", n))
		for m := 1; m <= tileRows(s, n); m++ {
			CMPQ(rows, Imm(uint64(m)))
			JEQ(LabelRef(fmt.Sprintf("tile%dx%d", m, n)))
		}
		RET()
	}
	for n := 1; n <= tileCols; n++ {
		for m := 1; m <= tileRows(s, n); m++ {
			tileBody(s, a, m, n)
		}
	}
}

func tileBody(s isa, a args, m, n int) {
	name := fmt.Sprintf("tile%dx%d", m, n)
	label := func(l string) string { return name + l }
	acc := func(i, j int) reg.VecPhysical { return s.v(i*n + j) }
	w := func(j int) reg.VecPhysical { return s.v(m*n + j) }
	x := s.v(m*n + n)

	Label(name)
	each := func(fn func(i, j int, at Mem)) {
		d, row, col := a.load("dst"), a.load("dstRow"), a.load("dstCol")
		for i := range m {
			for j := range n {
				switch j {
				case 0:
					fn(i, j, Mem{Base: d})
				default:
					fn(i, j, Mem{Base: d, Index: col, Scale: uint8(j)})
				}
			}
			if i < m-1 {
				ADDQ(row, d)
			}
		}
	}
	start := a.load("start")
	CMPQ(start, Imm(1))
	JEQ(LabelRef(label("bias")))
	JGT(LabelRef(label("dst")))
	for i := range m * n {
		s.zero(s.v(i))
	}
	JMP(LabelRef(label("started")))
	Label(label("bias"))
	bias := a.load("bias")
	for j := range n {
		VMOVUPS(Mem{Base: bias, Disp: j * s.bytes}, acc(0, j))
	}
	for i := 1; i < m; i++ {
		for j := range n {
			VMOVAPS(acc(0, j), acc(i, j))
		}
	}
	JMP(LabelRef(label("started")))
	Label(label("dst"))
	each(func(i, j int, at Mem) { VMOVUPS(at, acc(i, j)) })
	// The next tile often follows this one.
	next, by := a.load("dst"), a.load("dstRow")
	tile := GP64()
	IMUL3Q(Imm(uint64(m)), by, tile)
	for range m {
		PREFETCHT0(Mem{Base: next, Index: tile, Scale: 1})
		ADDQ(by, next)
	}
	Label(label("started"))

	// Row i is at p + i·row for i < 7, and at q + (i−7)·row.
	row, wCol := a.load("srcRow"), a.load("wCol")
	srcLane, wLane := a.load("srcLane"), a.load("wLane")
	row3, row5 := GP64(), GP64()
	LEAQ(Mem{Base: row, Index: row, Scale: 2}, row3)
	LEAQ(Mem{Base: row, Index: row, Scale: 4}, row5)
	p, q, wp := GP64(), GP64(), GP64()
	at := func(i int) Mem {
		if i >= 7 {
			return rowAt(q, row, row3, row5, i-7)
		}
		return rowAt(p, row, row3, row5, i)
	}
	advance := func(by Op) {
		ADDQ(by, p)
		if m > 7 {
			ADDQ(by, q)
		}
	}
	a.setEnd()
	t := a.load("outer")
	MOVQ(t, a.mem("outerLeft"))
	MOVQ(a.mem("src"), t)
	MOVQ(t, a.mem("srcOuterAt"))
	MOVQ(a.mem("w"), t)
	MOVQ(t, a.mem("wOuterAt"))
	if s.bytes == 32 {
		MOVQ(a.mem("soon"), t)
		MOVQ(t, a.mem("soonAt"))
	}

	Label(label("outer"))
	offset := a.load("offsets")
	Label(label("offset"))
	MOVQ(a.mem("srcOuterAt"), p)
	ADDQ(Mem{Base: offset}, p)
	if m > 7 {
		LEAQ(Mem{Base: p, Index: row3, Scale: 2}, q)
		ADDQ(row, q)
	}
	MOVQ(a.mem("wOuterAt"), wp)
	ADDQ(Mem{Base: offset, Disp: 8}, wp)
	block := a.load("blocks")
	Label(label("block"))
	lane := GP64()
	MOVQ(p, lane)
	ADDQ(a.mem("ahead"), lane)
	for i := range m {
		if i == 7 {
			LEAQ(Mem{Base: lane, Index: row3, Scale: 2}, lane)
			ADDQ(row, lane)
		}
		PREFETCHT0(rowAt(lane, row, row3, row5, i%7))
	}
	MOVQ(a.mem("lanes"), lane)
	step := func() {
		for j := range n {
			if j == 0 {
				VMOVUPS(Mem{Base: wp}, w(j))
			} else {
				VMOVUPS(Mem{Base: wp, Index: wCol, Scale: uint8(j)}, w(j))
			}
		}
		if s.bytes == 64 && n > 1 {
			soon := GP64()
			MOVQ(a.mem("wAhead"), soon)
			ADDQ(wp, soon)
			for j := range n {
				if j == 0 {
					PREFETCHT0(Mem{Base: soon})
				} else {
					PREFETCHT0(Mem{Base: soon, Index: wCol, Scale: uint8(j)})
				}
			}
		}
		ADDQ(wLane, wp)
		for i := range m {
			VBROADCASTSS(at(i), x)
			for j := range n {
				VFMADD231PS(w(j), x, acc(i, j))
			}
		}
		advance(srcLane)
	}
	if s.bytes == 32 {
		// A block's 16 lanes in four rounds: the end of so short a loop is predicted.
		const unrolled = 4
		SUBQ(Imm(unrolled), lane)
		JCS(LabelRef(label("rest")))
		Label(label("lanes"))
		soon := a.load("soonAt")
		TESTQ(soon, soon)
		JZ(LabelRef(label("near")))
		PREFETCHT1(Mem{Base: soon})
		PREFETCHT1(Mem{Base: soon, Disp: 64})
		ADDQ(a.mem("soonRound"), soon)
		MOVQ(soon, a.mem("soonAt"))
		Label(label("near"))
		for range unrolled {
			step()
		}
		SUBQ(Imm(unrolled), lane)
		JCC(LabelRef(label("lanes")))
		Label(label("rest"))
		ADDQ(Imm(unrolled), lane)
		JZ(LabelRef(label("next")))
	}
	Label(label("lane"))
	step()
	DECQ(lane)
	JNZ(LabelRef(label("lane")))
	Label(label("next"))
	advance(a.mem("srcBlock"))
	ADDQ(a.mem("wBlock"), wp)
	DECQ(block)
	JNZ(LabelRef(label("block")))
	ADDQ(U32(16), offset)
	CMPQ(offset, a.mem("end"))
	JNE(LabelRef(label("offset")))
	t = a.load("srcOuter")
	ADDQ(t, a.mem("srcOuterAt"))
	t = a.load("wOuter")
	ADDQ(t, a.mem("wOuterAt"))
	DECQ(a.mem("outerLeft"))
	JNZ(LabelRef(label("outer")))

	// A comparison of two sums is unordered if either is not a number.
	nan := GP32()
	if s.bytes == 64 {
		VCMPPS(Imm(3), s.v(0), s.v(m*n-1), reg.K1)
		for i := 1; i+1 < m*n; i += 2 {
			VCMPPS(Imm(3), s.v(i), s.v(i+1), reg.K2)
			KORW(reg.K2, reg.K1, reg.K1)
		}
		KMOVW(reg.K1, nan)
	} else {
		VCMPPS(Imm(3), s.v(0), s.v(m*n-1), x)
		for i := 1; i+1 < m*n; i += 2 {
			VCMPPS(Imm(3), s.v(i), s.v(i+1), w(0))
			VORPS(w(0), x, x)
		}
		VMOVMSKPS(x, nan)
	}
	TESTL(nan, nan)
	JNZ(LabelRef(label("nan")))
	each(func(i, j int, at Mem) { VMOVUPS(acc(i, j), at) })
	VZEROUPPER()
	RET()
	Label(label("nan"))
	t = GP64()
	MOVQ(U32(1), t)
	MOVQ(t, a.mem("nan"))
	VZEROUPPER()
	RET()
}

// rowAt is the address of row i, 0 to 6, from base.
func rowAt(base, row, row3, row5 reg.GPVirtual, i int) Mem {
	switch i {
	case 0:
		return Mem{Base: base}
	case 3, 6:
		return Mem{Base: base, Index: row3, Scale: uint8(i / 3)}
	case 5:
		return Mem{Base: base, Index: row5, Scale: 1}
	}
	return Mem{Base: base, Index: row, Scale: uint8(i)}
}
