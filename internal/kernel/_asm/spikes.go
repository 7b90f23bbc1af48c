package main

import (
	"fmt"
	"math/bits"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const gatherVectors = 8

// element is what sums and weights consist of: the name of its routines, the bytes of 16 lanes,
// and the instruction that adds. For routines that multiply, it is also the bytes of a value, how to
// load one, and how to add its product with weights in memory.
type element struct {
	name     string
	bytes    int
	add      func(ops ...Op)
	value    uint8
	load     func(ops ...Op)
	multiply func(m Mem, value, sum reg.VecPhysical)
}

var (
	floats = element{"", 64, VADDPS, 4, VBROADCASTSS, func(m Mem, value, sum reg.VecPhysical) { VFMADD231PS(m, value, sum) }}
	ints   = element{name: "Ints", bytes: 32, add: VPADDW} // int16
	pairs  = element{name: "Pairs", bytes: 32, value: 2, load: VPBROADCASTW, multiply: func(m Mem, value, sum reg.VecPhysical) {
		product := ys[10]
		VPMADDUBSW(m, value, product)
		VPADDW(product, sum, sum)
	}} // int16, and pairs of bytes
)

// gather scans masks and adds up the columns of the weights of their set bits.
func gather(s isa, e element) {
	most := gatherVectors * s.bytes / e.bytes
	name := "gather" + e.name
	routine(name+s.name, "func(a *gather)", fmt.Sprintf("is %sPortable; cols must be 1 to %d.", name, most))
	a := argBlock()
	a.setEnd()
	cols := a.load("cols")
	for n := 1; n <= most; n++ {
		CMPQ(cols, Imm(uint64(n)))
		JEQ(LabelRef(fmt.Sprintf("gather%d", n)))
	}
	RET()
	for n := 1; n <= most; n++ {
		gatherBody(s, e, a, n)
	}
}

func gatherBody(s isa, e element, a args, n int) {
	name := fmt.Sprintf("gather%d", n)
	label := func(l string) string { return name + l }
	Label(name)
	dst, masks, items := a.load("dst"), a.load("masks"), a.load("items")
	wCol, w := a.load("wCol"), a.load("w")
	wCol3, wCol5, wCol7 := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: wCol, Index: wCol, Scale: 2}, wCol3)
	LEAQ(Mem{Base: wCol, Index: wCol, Scale: 4}, wCol5)
	LEAQ(Mem{Base: wCol3, Index: wCol, Scale: 4}, wCol7)
	at := func(base reg.Register, j int) Mem {
		switch j {
		case 0:
			return Mem{Base: base}
		case 3, 6:
			return Mem{Base: base, Index: wCol3, Scale: uint8(j / 3)}
		case 5:
			return Mem{Base: base, Index: wCol5, Scale: 1}
		case 7:
			return Mem{Base: base, Index: wCol7, Scale: 1}
		}
		return Mem{Base: base, Index: wCol, Scale: uint8(j)}
	}
	// Column j is parts vectors, side by side, from the parts·j-th on.
	parts := e.bytes / s.bytes
	part := func(m Mem, i int) Mem {
		m.Disp = i * s.bytes
		return m
	}
	each := func(fn func(v reg.VecPhysical, at Mem)) {
		d := GP64()
		MOVQ(dst, d)
		for j := range n {
			for i := range parts {
				fn(s.v(j*parts+i), part(Mem{Base: d}, i))
			}
			if j < n-1 {
				ADDQ(a.mem("dstCol"), d)
			}
		}
	}
	Label(label("item"))
	soon, stop, last := a.load("soon"), GP64(), a.load("soonEnd")
	MOVQ(soon, stop)
	ADDQ(a.mem("soonItem"), stop)
	CMPQ(stop, last)
	CMOVQHI(last, stop)
	MOVQ(stop, a.mem("soon"))
	JMP(LabelRef(label("ahead")))
	Label(label("soon"))
	for j := range n {
		PREFETCHT1(at(soon, j))
	}
	ADDQ(Imm(64), soon)
	Label(label("ahead"))
	CMPQ(soon, stop)
	JCS(LabelRef(label("soon")))
	CMPQ(a.mem("start"), Imm(1))
	JEQ(LabelRef(label("bias")))
	JGT(LabelRef(label("dst")))
	for j := range n * parts {
		s.zero(s.v(j))
	}
	JMP(LabelRef(label("started")))
	Label(label("bias"))
	b := a.load("bias")
	for j := range n * parts {
		VMOVUPS(Mem{Base: b, Disp: s.bytes * j}, s.v(j))
	}
	JMP(LabelRef(label("started")))
	Label(label("dst"))
	each(func(v reg.VecPhysical, at Mem) { VMOVUPS(at, v) })
	Label(label("started"))
	offset := a.load("offsets")
	Label(label("offset"))
	mask, i := GP64(), GP64()
	MOVQ(Mem{Base: offset}, i)
	MOVQ(Mem{Base: masks, Index: i, Scale: 1}, mask)
	TESTQ(mask, mask)
	JZ(LabelRef(label("next")))
	wp := GP64()
	MOVQ(w, wp)
	ADDQ(Mem{Base: offset, Disp: 8}, wp)
	Label(label("bit"))
	TZCNTQ(mask, i)
	IMULQ(a.mem("wBit"), i)
	ADDQ(wp, i)
	BLSRQ(mask, mask)
	for j := range n {
		for k := range parts {
			v := s.v(j*parts + k)
			e.add(part(at(i, j), k), v, v)
		}
	}
	JNZ(LabelRef(label("bit")))
	Label(label("next"))
	ADDQ(U32(16), offset)
	CMPQ(offset, a.mem("end"))
	JNE(LabelRef(label("offset")))
	each(func(v reg.VecPhysical, at Mem) { VMOVUPS(v, at) })
	ADDQ(a.mem("maskItem"), masks)
	ADDQ(a.mem("dstItem"), dst)
	DECQ(items)
	JNZ(LabelRef(label("item")))
	VZEROUPPER()
	RET()
}

// scatter3 sweeps the input's rows. The 3×3 block of outputs that a pixel reaches
// is held in nine registers whose columns rotate with x, so that a pixel costs
// three loads and three stores however many spikes it has. Bodies without a row
// above, below or a column beside the pixel leave those taps out. The weights of 64
// channels fit L1. With 32 registers there is a second version for two blocks of output
// channels, which scans the spikes of both at once.
func scatter3(s isa, e element, multiply bool, blocks int) {
	name := "scatter" + e.name + "3"
	if e.name == "" {
		name = "scatterSpikes3"
	}
	if multiply && e.name == "" {
		name = "scatterValues3"
	}
	doc := "is " + name + "Portable for one block; width must be 2 or more."
	if blocks == 2 {
		name += "x2"
		doc = strings.Replace(doc, "one block", "two", 1)
	}
	routine(name+s.name, "func(a *scatter3)", doc)
	a := argBlock()
	masks, w, mid := a.load("masks"), a.load("w"), a.load("dst")
	var xp reg.GPVirtual
	if multiply {
		xp = a.load("x")
	}
	var w2, dstBlock reg.GPVirtual
	if blocks == 2 {
		w2, dstBlock = a.load("wBlock"), a.load("dstBlock")
		ADDQ(w, w2)
	}
	top, bot, from := GP64(), GP64(), GP64()
	mask, i, left := GP64(), GP64(), GP64()

	// What an output begins with is read from a place that moves with it, or stays at
	// the bias. It is first reached from the row above, or in the first row.
	MOVQ(U32(uint32(e.bytes)), i)
	CMPQ(a.mem("bias"), Imm(0))
	JEQ(LabelRef("moves"))
	MOVQ(U32(0), i)
	Label("moves")
	MOVQ(i, a.mem("fromStep"))
	fromBlock := dstBlock
	if blocks == 2 {
		fromBlock = GP64()
		MOVQ(dstBlock, fromBlock)
		TESTQ(i, i)
		JNZ(LabelRef("frame"))
		MOVQ(U32(uint32(e.bytes)), fromBlock)
	}
	Label("frame")
	MOVQ(a.mem("height"), i)
	MOVQ(i, a.mem("rowsLeft"))
	MOVQ(U32(0), i)
	MOVQ(i, a.mem("row"))
	Label("row")
	MOVQ(a.mem("width"), left)
	MOVQ(left, i)
	SHLQ(Imm(uint64(bits.TrailingZeros(uint(e.bytes)))), i)
	MOVQ(mid, top)
	SUBQ(i, top)
	LEAQ(Mem{Base: mid, Index: i, Scale: 1}, bot)
	MOVQ(bot, from)
	MOVQ(a.mem("bias"), i)
	TESTQ(i, i)
	CMOVQNE(i, from)
	SUBQ(Imm(2), left)
	CMPQ(a.mem("row"), Imm(0))
	JEQ(LabelRef("first"))
	CMPQ(a.mem("rowsLeft"), Imm(1))
	JEQ(LabelRef("row10"))
	JMP(LabelRef("row11"))
	Label("first")
	TESTQ(i, i)
	JZ(LabelRef("begun"))
	for block := range blocks {
		VMOVUPS(Mem{Base: i, Disp: e.bytes * block}, s.v(block))
	}
	MOVQ(a.mem("width"), mask)
	MOVQ(mid, i)
	Label("begin")
	VMOVUPS(s.v(0), Mem{Base: i})
	if blocks == 2 {
		VMOVUPS(s.v(1), Mem{Base: i, Index: dstBlock, Scale: 1})
	}
	ADDQ(Imm(uint64(e.bytes)), i)
	DECQ(mask)
	JNZ(LabelRef("begin"))
	Label("begun")
	CMPQ(a.mem("rowsLeft"), Imm(1))
	JEQ(LabelRef("row00"))

	for _, v := range []struct {
		name     string
		top, bot bool
	}{{"row01", false, true}, {"row00", false, false}, {"row10", true, false}, {"row11", true, true}} {
		label := func(l string, phase int) string { return fmt.Sprintf("%s%s%d", v.name, l, phase) }
		rows := []int{1}
		if v.top {
			rows = append([]int{0}, rows...)
		}
		if v.bot {
			rows = append(rows, 2)
		}
		rowAt := []reg.Register{top, mid, bot}
		// Column c (−1, 0, 1 around x) is held in trio (phase+c+1) mod 3.
		acc := func(phase, c, r, block int) reg.VecPhysical {
			return s.v(block*9 + (phase+c+1)%3*3 + r)
		}
		value := s.v(blocks * 9)
		load := func(phase, c int) {
			for _, r := range rows {
				at, second := Mem{Base: rowAt[r], Disp: e.bytes * c}, dstBlock
				if r == 2 {
					at, second = Mem{Base: from}, fromBlock
				}
				VMOVUPS(at, acc(phase, c, r, 0))
				if blocks == 2 {
					at.Index, at.Scale = second, 1
					VMOVUPS(at, acc(phase, c, r, 1))
				}
			}
			if v.bot {
				ADDQ(a.mem("fromStep"), from)
			}
		}
		store := func(phase, c int) {
			for _, r := range rows {
				VMOVUPS(acc(phase, c, r, 0), Mem{Base: rowAt[r], Disp: e.bytes * c})
				if blocks == 2 {
					VMOVUPS(acc(phase, c, r, 1), Mem{Base: rowAt[r], Index: dstBlock, Scale: 1, Disp: e.bytes * c})
				}
			}
		}
		events := func(l string, phase, from, to int) {
			MOVQ(Mem{Base: masks}, mask)
			TESTQ(mask, mask)
			JZ(LabelRef(label(l+"done", phase)))
			Label(label(l+"bit", phase))
			TZCNTQ(mask, i)
			if multiply {
				e.load(Mem{Base: xp, Index: i, Scale: e.value}, value)
			}
			IMUL3Q(U32(uint32(9*s.bytes)), i, i)
			BLSRQ(mask, mask)
			// An input at row y reaches row y+1−ky through row ky of the window.
			for block, base := range []reg.Register{w, w2}[:blocks] {
				for c := from; c <= to; c++ {
					for _, r := range rows {
						m, sum := Mem{Base: base, Index: i, Scale: 1, Disp: ((2-r)*3 + 1 - c) * s.bytes}, acc(phase, c, r, block)
						if multiply {
							e.multiply(m, value, sum)
						} else {
							e.add(m, sum, sum)
						}
					}
				}
			}
			JNZ(LabelRef(label(l+"bit", phase)))
			Label(label(l+"done", phase))
			ADDQ(U32(8), masks)
			if multiply {
				ADDQ(a.mem("xPixel"), xp)
			}
		}
		step := func() {
			for _, r := range rows {
				ADDQ(Imm(uint64(e.bytes)), rowAt[r])
			}
		}
		Label(v.name)
		load(0, 0)
		load(0, 1)
		events("left", 0, 0, 1)
		step()
		TESTQ(left, left)
		JZ(LabelRef(label("last", 1)))
		for _, phase := range []int{1, 2, 0} {
			Label(label("inner", phase))
			load(phase, 1)
			events("inner", phase, -1, 1)
			store(phase, -1)
			step()
			DECQ(left)
			JZ(LabelRef(label("last", (phase+1)%3)))
		}
		JMP(LabelRef(label("inner", 1)))
		for phase := range 3 {
			Label(label("last", phase))
			events("last", phase, -1, 0)
			store(phase, -1)
			store(phase, 0)
			step()
			JMP(LabelRef("rowdone"))
		}
	}
	Label("rowdone")
	INCQ(a.mem("row"))
	DECQ(a.mem("rowsLeft"))
	JNZ(LabelRef("row"))
	DECQ(a.mem("frames"))
	JNZ(LabelRef("frame"))
	VZEROUPPER()
	RET()
}

// outer3 keeps a channel's nine sums in registers over a whole tile of deltas.
func outer3(s isa, multiply bool) {
	name := "outerSpikes3"
	if multiply {
		name = "outerValues3"
	}
	routine(name+s.name, "func(a *outer3)", "is "+name+"Portable.")
	a := argBlock()
	var xp reg.GPVirtual
	if multiply {
		xp = a.load("x")
	}
	masks, dw, channels := a.load("masks"), a.load("dw"), a.load("channels")
	stride := a.load("rowStride")
	Label("channel")
	CMPQ(a.mem("start"), Imm(0))
	JNE(LabelRef("dst"))
	for t := range 9 {
		s.zero(s.v(t))
	}
	JMP(LabelRef("started"))
	Label("dst")
	for t := range 9 {
		VMOVUPS(Mem{Base: dw, Disp: 64 * t}, s.v(t))
	}
	Label("started")
	for t := range 9 {
		PREFETCHT0(Mem{Base: dw, Disp: (9 + t) * 64})
	}
	words := a.load("words")
	r0 := a.load("deltas")
	r1, r2 := GP64(), GP64()
	LEAQ(Mem{Base: r0, Index: stride, Scale: 1}, r1)
	LEAQ(Mem{Base: r0, Index: stride, Scale: 2}, r2)
	rows := []reg.Register{r2, r1, r0} // by row of the window
	mask, i := GP64(), GP64()
	Label("word")
	MOVQ(Mem{Base: masks}, mask)
	TESTQ(mask, mask)
	JZ(LabelRef("next"))
	Label("bit")
	TZCNTQ(mask, i)
	if multiply {
		VBROADCASTSS(Mem{Base: xp, Index: i, Scale: 4}, s.v(9))
	}
	SHLQ(Imm(uint64(bits.TrailingZeros(uint(s.bytes)))), i)
	BLSRQ(mask, mask)
	for t := range 9 {
		m := Mem{Base: rows[t/3], Index: i, Scale: 1, Disp: (2 - t%3) * s.bytes}
		if multiply {
			VFMADD231PS(m, s.v(9), s.v(t))
		} else {
			VADDPS(m, s.v(t), s.v(t))
		}
	}
	JNZ(LabelRef("bit"))
	Label("next")
	ADDQ(U32(8), masks)
	if multiply {
		ADDQ(U32(256), xp)
	}
	for _, r := range rows {
		ADDQ(U32(uint32(64*s.bytes)), r)
	}
	DECQ(words)
	JNZ(LabelRef("word"))
	for t := range 9 {
		VMOVUPS(s.v(t), Mem{Base: dw, Disp: 64 * t})
	}
	ADDQ(U32(9*64), dw)
	DECQ(channels)
	JNZ(LabelRef("channel"))
	VZEROUPPER()
	RET()
}
