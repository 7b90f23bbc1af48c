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

// soonLines are fetched of what is needed soon, for every block: see tile.prefetch.
const soonLines = 8

// tile multiplies with a register tile of any size up to tileRows × tileCols, one
// body for each size. At AVX2, where it takes as few instructions a multiply-add as it
// can, there is another one for each size of two columns whose rows are neighbours.
func tile(s isa) {
	doc := "is tilePortable with fused multiply-adds; rows and cols must be within tileRows"
	if s.bytes == 32 {
		doc += ", wCol 32, and srcLane 4, or srcRow 4 and cols 2"
	}
	doc += "."
	routine("tile"+s.name, "func(a *tile)", doc)
	a := argBlock()
	for _, f := range [][2]string{{"src", "srcAt"}, {"dst", "dstAt"}, {"more", "moreLeft"}} {
		from := a.load(f[0])
		MOVQ(from, a.mem(f[1]))
	}
	rows, cols := a.load("rows"), a.load("cols")
	for n := 1; n <= tileCols; n++ {
		CMPQ(cols, Imm(uint64(n)))
		JEQ(LabelRef(fmt.Sprintf("cols%d", n)))
	}
	RET()
	choose := func(n int, name string) {
		for m := 1; m <= tileRows(s, n); m++ {
			CMPQ(rows, Imm(uint64(m)))
			JEQ(LabelRef(fmt.Sprintf("%s%dx%d", name, m, n)))
		}
		RET()
	}
	for n := 1; n <= tileCols; n++ {
		Label(fmt.Sprintf("cols%d", n))
		if s.bytes == 32 && n == 2 {
			lane := a.load("srcLane")
			CMPQ(lane, Imm(4))
			JNE(LabelRef("neighbours"))
		}
		choose(n, "tile")
	}
	if s.bytes == 32 {
		Label("neighbours")
		choose(2, "neighbours")
	}
	for n := 1; n <= tileCols; n++ {
		for m := 1; m <= tileRows(s, n); m++ {
			tileBody(s, a, m, n, false)
			if s.bytes == 32 && n == 2 {
				tileBody(s, a, m, n, true)
			}
		}
	}
}

func tileBody(s isa, a args, m, n int, neighbours bool) {
	name := fmt.Sprintf("tile%dx%d", m, n)
	if neighbours {
		name = fmt.Sprintf("neighbours%dx%d", m, n)
	}
	label := func(l string) string { return name + l }
	acc := func(i, j int) reg.VecPhysical { return s.v(i*n + j) }
	w := func(j int) reg.VecPhysical { return s.v(m*n + j) }
	x := s.v(m*n + n)

	Label(name)
	each := func(fn func(i, j int, at Mem)) {
		d, row, col := a.load("dstAt"), a.load("dstRow"), a.load("dstCol")
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
	next, by := a.load("dstAt"), a.load("dstRow")
	tile := GP64()
	IMUL3Q(Imm(uint64(m)), by, tile)
	for range m {
		PREFETCHT0(Mem{Base: next, Index: tile, Scale: 1})
		ADDQ(by, next)
	}
	Label(label("started"))

	// Row i is at p + i·row for i < 7, and at q + (i−7)·row; of neighbours, at p + 4·i.
	row, srcLane, wLane := a.load("srcRow"), a.load("srcLane"), a.load("wLane")
	row3, row5, srcLane3, wLane3, wCol := GP64(), GP64(), GP64(), GP64(), GP64()
	if neighbours {
		LEAQ(Mem{Base: srcLane, Index: srcLane, Scale: 2}, srcLane3)
	} else {
		LEAQ(Mem{Base: row, Index: row, Scale: 2}, row3)
		LEAQ(Mem{Base: row, Index: row, Scale: 4}, row5)
	}
	if s.bytes == 32 {
		LEAQ(Mem{Base: wLane, Index: wLane, Scale: 2}, wLane3)
	} else {
		MOVQ(a.mem("wCol"), wCol)
	}
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
	MOVQ(a.mem("srcAt"), t)
	MOVQ(t, a.mem("srcOuterAt"))
	MOVQ(a.mem("w"), t)
	MOVQ(t, a.mem("wOuterAt"))
	if s.bytes == 32 && !neighbours {
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
	MOVQ(block, a.mem("blocksLeft"))
	Label(label("block"))
	lane := GP64()
	if s.bytes == 64 {
		MOVQ(p, lane)
		ADDQ(a.mem("ahead"), lane)
		for i := range m {
			if i == 7 {
				LEAQ(Mem{Base: lane, Index: row3, Scale: 2}, lane)
				ADDQ(row, lane)
			}
			PREFETCHT0(rowAt(lane, row, row3, row5, i%7))
		}
	}
	MOVQ(a.mem("lanes"), lane)
	loadW := func(j int, at Mem) {
		if s.bytes == 32 {
			at.Disp += j * s.bytes
		} else if j > 0 {
			at.Index, at.Scale = wCol, uint8(j)
		}
		VMOVUPS(at, w(j))
	}
	multiply := func(src func(i int) Mem, between func()) {
		for i := range m {
			if i == m/2 {
				between()
			}
			VBROADCASTSS(src(i), x)
			for j := range n {
				VFMADD231PS(w(j), x, acc(i, j))
			}
		}
	}
	if s.bytes == 32 {
		// Lanes in rounds of four, whose addresses need no instructions.
		const unrolled = 4
		round := func(fetch func(u int)) {
			for u := range unrolled {
				for j := range n {
					loadW(j, rowAt(wp, wLane, wLane3, nil, u))
				}
				multiply(func(i int) Mem {
					if neighbours {
						at := rowAt(p, srcLane, srcLane3, nil, u)
						at.Disp = 4 * i
						return at
					}
					x := at(i)
					x.Disp = 4 * u
					return x
				}, func() { fetch(u) })
			}
			LEAQ(Mem{Base: wp, Index: wLane, Scale: unrolled}, wp)
			if neighbours {
				LEAQ(Mem{Base: p, Index: srcLane, Scale: unrolled}, p)
			} else {
				advance(Imm(4 * unrolled))
			}
			SUBQ(Imm(unrolled), lane)
		}
		SUBQ(Imm(unrolled), lane)
		JCS(LabelRef(label("rest")))
		if !neighbours {
			// What is to come is fetched little by little: fetches that follow each other
			// hold up the multiply-adds.
			next, soon := GP64(), GP64()
			MOVQ(p, next)
			ADDQ(a.mem("ahead"), next)
			MOVQ(a.mem("soonAt"), soon)
			round(func(u int) {
				for i := u * m / unrolled; i < (u+1)*m/unrolled; i++ {
					if i == 7 {
						LEAQ(Mem{Base: next, Index: row3, Scale: 2}, next)
						ADDQ(row, next)
					}
					PREFETCHT0(rowAt(next, row, row3, row5, i%7))
				}
				near := label(fmt.Sprint("near", u))
				TESTQ(soon, soon)
				JZ(LabelRef(near))
				for i := range soonLines / unrolled {
					PREFETCHT1(Mem{Base: soon, Disp: (u*soonLines/unrolled + i) * 64})
				}
				if u == unrolled-1 {
					ADDQ(a.mem("soonBlock"), soon)
					MOVQ(soon, a.mem("soonAt"))
				}
				Label(near)
			})
			JCS(LabelRef(label("rest")))
		}
		Label(label("lanes"))
		round(func(int) {})
		JCC(LabelRef(label("lanes")))
		Label(label("rest"))
		ADDQ(Imm(unrolled), lane)
		JZ(LabelRef(label("next")))
	}
	Label(label("lane"))
	for j := range n {
		loadW(j, Mem{Base: wp})
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
	multiply(func(i int) Mem {
		if neighbours {
			return Mem{Base: p, Disp: 4 * i}
		}
		return at(i)
	}, func() {})
	if s.bytes == 32 && !neighbours {
		advance(Imm(4))
	} else {
		advance(srcLane)
	}
	DECQ(lane)
	JNZ(LabelRef(label("lane")))
	Label(label("next"))
	advance(a.mem("srcBlock"))
	ADDQ(a.mem("wBlock"), wp)
	DECQ(a.mem("blocksLeft"))
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
	SUBQ(Imm(1), a.mem("moreLeft"))
	JCS(LabelRef(label("done")))
	for _, f := range [][2]string{{"srcItem", "srcAt"}, {"dstItem", "dstAt"}} {
		by := a.load(f[0])
		ADDQ(by, a.mem(f[1]))
	}
	JMP(LabelRef(name))
	Label(label("done"))
	VZEROUPPER()
	RET()
	Label(label("nan"))
	t = GP64()
	MOVQ(U32(1), t)
	MOVQ(t, a.mem("nan"))
	VZEROUPPER()
	RET()
}

// rowAt is the address of row, or lane, i from base, 0 to 6; 5 alone needs row5.
func rowAt(base, row, row3, row5 reg.Register, i int) Mem {
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
