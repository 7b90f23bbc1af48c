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
			(&tileBody{isa: s, a: a, m: m, n: n}).write()
			if s.bytes == 32 && n == 2 {
				(&tileBody{isa: s, a: a, m: m, n: n, neighbours: true}).write()
			}
		}
	}
}

// tileBody is the code for a tile of m × n vectors.
type tileBody struct {
	isa
	a          args
	m, n       int
	neighbours bool

	// Row i is at p + i·row for i < 7, and at q + (i−7)·row; of neighbours, at p + 4·i.
	p, q, wp, lane                                          reg.GPVirtual
	row, row3, row5, srcLane, srcLane3, wLane, wLane3, wCol reg.GPVirtual
}

func (t *tileBody) label(l string) string {
	if t.neighbours {
		return fmt.Sprintf("neighbours%dx%d%s", t.m, t.n, l)
	}
	return fmt.Sprintf("tile%dx%d%s", t.m, t.n, l)
}

// The registers of a sum, of a vector of weights and of the broadcast value.
func (t *tileBody) acc(i, j int) reg.VecPhysical { return t.v(i*t.n + j) }
func (t *tileBody) w(j int) reg.VecPhysical      { return t.v(t.m*t.n + j) }
func (t *tileBody) x() reg.VecPhysical           { return t.v(t.m*t.n + t.n) }

// at is row i at the present lane.
func (t *tileBody) at(i int) Mem {
	if t.neighbours {
		return Mem{Base: t.p, Disp: 4 * i}
	}
	if i >= 7 {
		return rowAt(t.q, t.row, t.row3, t.row5, i-7)
	}
	return rowAt(t.p, t.row, t.row3, t.row5, i)
}

func (t *tileBody) advance(by Op) {
	ADDQ(by, t.p)
	if t.m > 7 {
		ADDQ(by, t.q)
	}
}

// multiply adds the products of the weights at wp, and of rows, to the sums; between is
// written halfway.
func (t *tileBody) multiply(wp Mem, row func(i int) Mem, between func()) {
	for j := range t.n {
		at := wp
		if t.bytes == 32 {
			at.Disp += j * t.bytes
		} else if j > 0 {
			at.Index, at.Scale = t.wCol, uint8(j)
		}
		VMOVUPS(at, t.w(j))
	}
	if t.bytes == 64 {
		between()
	}
	for i := range t.m {
		if t.bytes == 32 && i == t.m/2 {
			between()
		}
		VBROADCASTSS(row(i), t.x())
		for j := range t.n {
			VFMADD231PS(t.w(j), t.x(), t.acc(i, j))
		}
	}
}

// fetch prefetches rows from to to of what lies ahead.
func (t *tileBody) fetch(next reg.GPVirtual, from, to int) {
	for i := from; i < to; i++ {
		if i == 7 {
			LEAQ(Mem{Base: next, Index: t.row3, Scale: 2}, next)
			ADDQ(t.row, next)
		}
		PREFETCHT0(rowAt(next, t.row, t.row3, t.row5, i%7))
	}
}

// rounds multiplies lanes four at a time, whose addresses need no instructions, and leaves
// the rest. What is to come is fetched little by little in the first round: fetches that
// follow each other hold up the multiply-adds.
func (t *tileBody) rounds() {
	const unrolled = 4
	round := func(fetch func(u int)) {
		for u := range unrolled {
			t.multiply(rowAt(t.wp, t.wLane, t.wLane3, nil, u), func(i int) Mem {
				if t.neighbours {
					at := rowAt(t.p, t.srcLane, t.srcLane3, nil, u)
					at.Disp = 4 * i
					return at
				}
				at := t.at(i)
				at.Disp = 4 * u
				return at
			}, func() { fetch(u) })
		}
		LEAQ(Mem{Base: t.wp, Index: t.wLane, Scale: unrolled}, t.wp)
		if t.neighbours {
			LEAQ(Mem{Base: t.p, Index: t.srcLane, Scale: unrolled}, t.p)
		} else {
			t.advance(Imm(4 * unrolled))
		}
		SUBQ(Imm(unrolled), t.lane)
	}
	SUBQ(Imm(unrolled), t.lane)
	JCS(LabelRef(t.label("rest")))
	if !t.neighbours {
		next, soon := GP64(), GP64()
		MOVQ(t.p, next)
		ADDQ(t.a.mem("ahead"), next)
		MOVQ(t.a.mem("soonAt"), soon)
		round(func(u int) {
			t.fetch(next, u*t.m/unrolled, (u+1)*t.m/unrolled)
			near := t.label(fmt.Sprint("near", u))
			TESTQ(soon, soon)
			JZ(LabelRef(near))
			for i := range soonLines / unrolled {
				PREFETCHT1(Mem{Base: soon, Disp: (u*soonLines/unrolled + i) * 64})
			}
			if u == unrolled-1 {
				ADDQ(t.a.mem("soonBlock"), soon)
				MOVQ(soon, t.a.mem("soonAt"))
			}
			Label(near)
		})
		JCS(LabelRef(t.label("rest")))
	}
	Label(t.label("lanes"))
	round(func(int) {})
	JCC(LabelRef(t.label("lanes")))
	Label(t.label("rest"))
	ADDQ(Imm(unrolled), t.lane)
	JZ(LabelRef(t.label("next")))
}

func (t *tileBody) write() {
	s, a, m, n, neighbours, label, acc := t.isa, t.a, t.m, t.n, t.neighbours, t.label, t.acc
	Label(label(""))
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
	next, dstRow := a.load("dstAt"), a.load("dstRow")
	tile := GP64()
	IMUL3Q(Imm(uint64(m)), dstRow, tile)
	for range m {
		PREFETCHT0(Mem{Base: next, Index: tile, Scale: 1})
		ADDQ(dstRow, next)
	}
	Label(label("started"))

	t.row, t.srcLane, t.wLane = a.load("srcRow"), a.load("srcLane"), a.load("wLane")
	t.row3, t.row5, t.srcLane3, t.wLane3, t.wCol = GP64(), GP64(), GP64(), GP64(), GP64()
	if neighbours {
		LEAQ(Mem{Base: t.srcLane, Index: t.srcLane, Scale: 2}, t.srcLane3)
	} else {
		LEAQ(Mem{Base: t.row, Index: t.row, Scale: 2}, t.row3)
		LEAQ(Mem{Base: t.row, Index: t.row, Scale: 4}, t.row5)
	}
	if s.bytes == 32 {
		LEAQ(Mem{Base: t.wLane, Index: t.wLane, Scale: 2}, t.wLane3)
	} else {
		MOVQ(a.mem("wCol"), t.wCol)
	}
	t.p, t.q, t.wp = GP64(), GP64(), GP64()
	a.setEnd()
	by := a.load("outer")
	MOVQ(by, a.mem("outerLeft"))
	MOVQ(a.mem("srcAt"), by)
	MOVQ(by, a.mem("srcOuterAt"))
	MOVQ(a.mem("w"), by)
	MOVQ(by, a.mem("wOuterAt"))
	if s.bytes == 32 && !neighbours {
		MOVQ(a.mem("soon"), by)
		MOVQ(by, a.mem("soonAt"))
	}

	Label(label("outer"))
	offset := a.load("offsets")
	Label(label("offset"))
	MOVQ(a.mem("srcOuterAt"), t.p)
	ADDQ(Mem{Base: offset}, t.p)
	if m > 7 {
		LEAQ(Mem{Base: t.p, Index: t.row3, Scale: 2}, t.q)
		ADDQ(t.row, t.q)
	}
	MOVQ(a.mem("wOuterAt"), t.wp)
	ADDQ(Mem{Base: offset, Disp: 8}, t.wp)
	block := a.load("blocks")
	MOVQ(block, a.mem("blocksLeft"))
	Label(label("block"))
	t.lane = GP64()
	if s.bytes == 64 {
		MOVQ(t.p, t.lane)
		ADDQ(a.mem("ahead"), t.lane)
		t.fetch(t.lane, 0, m)
	}
	MOVQ(a.mem("lanes"), t.lane)
	if s.bytes == 32 {
		t.rounds()
	}
	Label(label("lane"))
	t.multiply(Mem{Base: t.wp}, t.at, func() {
		if s.bytes == 64 && n > 1 {
			soon := GP64()
			MOVQ(a.mem("wAhead"), soon)
			ADDQ(t.wp, soon)
			for j := range n {
				if j == 0 {
					PREFETCHT0(Mem{Base: soon})
				} else {
					PREFETCHT0(Mem{Base: soon, Index: t.wCol, Scale: uint8(j)})
				}
			}
		}
		ADDQ(t.wLane, t.wp)
	})
	if s.bytes == 32 && !neighbours {
		t.advance(Imm(4))
	} else {
		t.advance(t.srcLane)
	}
	DECQ(t.lane)
	JNZ(LabelRef(label("lane")))
	Label(label("next"))
	t.advance(a.mem("srcBlock"))
	ADDQ(a.mem("wBlock"), t.wp)
	DECQ(a.mem("blocksLeft"))
	JNZ(LabelRef(label("block")))
	ADDQ(U32(16), offset)
	CMPQ(offset, a.mem("end"))
	JNE(LabelRef(label("offset")))
	by = a.load("srcOuter")
	ADDQ(by, a.mem("srcOuterAt"))
	by = a.load("wOuter")
	ADDQ(by, a.mem("wOuterAt"))
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
		VCMPPS(Imm(3), s.v(0), s.v(m*n-1), t.x())
		for i := 1; i+1 < m*n; i += 2 {
			VCMPPS(Imm(3), s.v(i), s.v(i+1), t.w(0))
			VORPS(t.w(0), t.x(), t.x())
		}
		VMOVMSKPS(t.x(), nan)
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
	JMP(LabelRef(label("")))
	Label(label("done"))
	VZEROUPPER()
	RET()
	Label(label("nan"))
	by = GP64()
	MOVQ(U32(1), by)
	MOVQ(by, a.mem("nan"))
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
