package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// expandInts reads 16 bytes of each of 16 rows at a time. Unpacking sorts eight rows in each half
// of eight registers.
func expandInts() {
	routine("expandIntsAVX2", "func(a *expandInts)", "is expandIntsPortable, for lanes of their own.")
	a := argBlock()
	src, row, dst, n := a.load("src"), a.load("row"), a.load("dst"), a.load("vectors")
	p := GP64()
	Label("columns")
	MOVQ(src, p)
	for i := range 8 {
		VMOVDQU(Mem{Base: p}, ys[i].AsX())
		PREFETCHT1(Mem{Base: p, Disp: 64})
		ADDQ(row, p)
	}
	for i := range 8 {
		VINSERTI128(Imm(1), Mem{Base: p}, ys[i], ys[i])
		PREFETCHT1(Mem{Base: p, Disp: 64})
		if i < 7 {
			ADDQ(row, p)
		}
	}
	from, to := ys[:8], ys[8:]
	for range 3 {
		for i := range 4 {
			VPUNPCKLBW(from[i+4], from[i], to[2*i])
			VPUNPCKHBW(from[i+4], from[i], to[2*i+1])
		}
		from, to = to, from
	}
	for i, v := range from { // columns 2·i and 2·i + 1 of eight rows in each half
		VPERMQ(Imm(0xd8), v, v)
		VPMOVSXBW(v.AsX(), to[0])
		VEXTRACTI128(Imm(1), v, v.AsX())
		VPMOVSXBW(v.AsX(), to[1])
		VMOVDQU(to[0], Mem{Base: dst, Disp: 64 * i})
		VMOVDQU(to[1], Mem{Base: dst, Disp: 64*i + 32})
	}
	ADDQ(Imm(16), src)
	ADDQ(U32(16*32), dst)
	SUBQ(Imm(16), n)
	JNZ(LabelRef("columns"))
	VZEROUPPER()
	RET()
}

// widenInts completes sums of 16 bits. The branches are the same for all vectors.
func widenInts() {
	routine("widenIntsAVX2", "func(a *intWiden)", "is widenIntsPortable.")
	a := argBlock()
	src, wide, gain, add, dst, rows := a.load("src"), a.load("wide"), a.load("gain"), a.load("add"), a.load("dst"), a.load("rows")
	sums := []reg.VecPhysical{reg.Y0, reg.Y1}
	Label("row")
	n, at := a.load("vectors"), GP64()
	XORQ(at, at)
	Label("vector")
	for i, v := range sums {
		VPMOVSXWD(Mem{Base: src, Index: at, Scale: 1, Disp: 16 * i}, v)
	}
	TESTQ(wide, wide)
	JZ(LabelRef("gain"))
	for i, v := range sums {
		VPADDD(Mem{Base: wide, Index: at, Scale: 2, Disp: 32 * i}, v, v)
	}
	Label("gain")
	TESTQ(gain, gain)
	JZ(LabelRef("add"))
	for i, v := range sums {
		VPMULLD(Mem{Base: gain, Disp: 32 * i}, v, v)
	}
	Label("add")
	TESTQ(add, add)
	JZ(LabelRef("store"))
	for i, v := range sums {
		VPADDD(Mem{Base: add, Index: at, Scale: 2, Disp: 32 * i}, v, v)
	}
	Label("store")
	for i, v := range sums {
		VMOVDQU(v, Mem{Base: dst, Index: at, Scale: 2, Disp: 32 * i})
	}
	ADDQ(Imm(32), at)
	DECQ(n)
	JNZ(LabelRef("vector"))
	ADDQ(a.mem("srcRow"), src)
	ADDQ(a.mem("dstRow"), dst)
	// A nil pointer has no rows: its stride is 0.
	ADDQ(a.mem("wideRow"), wide)
	ADDQ(a.mem("addRow"), add)
	DECQ(rows)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// neuronsInts keeps the membranes of a pixel in registers over all steps.
func neuronsInts() {
	routine("neuronsIntsAVX2", "func(a *intNeurons)", "is neuronsIntsPortable.")
	a := argBlock()
	x, s, px, gain := a.load("x"), a.load("s"), a.load("pixels"), a.load("gain")
	theta, bias, m := []reg.VecPhysical{reg.Y0, reg.Y1}, []reg.VecPhysical{reg.Y2, reg.Y3}, []reg.VecPhysical{reg.Y4, reg.Y5}
	cur, below, leak := []reg.VecPhysical{reg.Y6, reg.Y7}, []reg.VecPhysical{reg.Y8, reg.Y9}, reg.Y10
	p := GP64()
	load := func(field string, to []reg.VecPhysical) {
		MOVQ(a.mem(field), p)
		for i, v := range to {
			VMOVDQU(Mem{Base: p, Disp: 32 * i}, v)
		}
	}
	load("threshold", theta)
	load("bias", bias)
	MOVQ(a.mem("leak"), p)
	VMOVQ(p, reg.X10)
	VPBROADCASTD(reg.X10, leak)
	MOVQ(a.mem("shift"), p)
	VMOVQ(p, reg.X11)
	plain, soft, steps := a.load("plain"), a.load("soft"), GP64()
	lo, hi, at := GP32(), GP32(), GP64()
	Label("pixel")
	MOVQ(x, at)
	MOVQ(s, p)
	MOVQ(a.mem("steps"), steps)
	for _, v := range m {
		VPXOR(v, v, v)
	}
	Label("step")
	for i, v := range cur {
		VMOVDQU(Mem{Base: at, Disp: 32 * i}, v)
	}
	TESTQ(gain, gain)
	JZ(LabelRef("one"))
	for i, v := range cur {
		VPMULLD(Mem{Base: gain, Disp: 32 * i}, v, v)
	}
	Label("one")
	for i, v := range cur {
		VPADDD(bias[i], v, v)
	}
	TESTQ(plain, plain)
	JNZ(LabelRef("whole"))
	for _, v := range m {
		VPMULLD(leak, v, v)
		VPSRAD(reg.X11, v, v)
	}
	Label("whole")
	for i, v := range m {
		VPADDD(cur[i], v, v)
		VPCMPGTD(v, theta[i], below[i])
	}
	TESTQ(soft, soft)
	JNZ(LabelRef("soft"))
	for i, v := range m {
		VPAND(below[i], v, v)
	}
	JMP(LabelRef("fired"))
	Label("soft")
	for i, v := range m {
		VPANDN(theta[i], below[i], cur[i])
		VPSUBD(cur[i], v, v)
	}
	Label("fired")
	VMOVMSKPS(below[0], lo)
	VMOVMSKPS(below[1], hi)
	SHLL(Imm(8), hi)
	ORL(hi, lo)
	NOTL(lo)
	MOVW(lo.As16(), Mem{Base: p})
	ADDQ(a.mem("xStep"), at)
	ADDQ(a.mem("sStep"), p)
	DECQ(steps)
	JNZ(LabelRef("step"))
	ADDQ(Imm(64), x)
	ADDQ(Imm(2), s)
	DECQ(px)
	JNZ(LabelRef("pixel"))
	VZEROUPPER()
	RET()
}

// tileInts multiplies four bytes of a pixel by those of eight channels at a time.
func tileInts() {
	routine("tileIntsAVX2", "func(a *intTile)", "is tileIntsPortable.")
	a := argBlock()
	src, dst, pixels := a.load("src"), a.load("dst"), a.load("pixels")
	srcPixel, dstPixel := a.load("srcPixel"), a.load("dstPixel")
	srcPixel3, dstPixel3 := GP64(), GP64()
	LEAQ(Mem{Base: srcPixel, Index: srcPixel, Scale: 2}, srcPixel3)
	LEAQ(Mem{Base: dstPixel, Index: dstPixel, Scale: 2}, dstPixel3)
	at := func(base, pixel, pixel3 reg.Register, r, disp int) Mem {
		switch r {
		case 0:
			return Mem{Base: base, Disp: disp}
		case 3:
			return Mem{Base: base, Index: pixel3, Scale: 1, Disp: disp}
		}
		return Mem{Base: base, Index: pixel, Scale: uint8(r), Disp: disp}
	}
	one := reg.Y15
	VPCMPEQW(one, one, one)
	VPSRLW(Imm(15), one, one)
	x, w, n := GP64(), GP64(), GP64()
	const rows = 4
	Label("tile")
	CMPQ(pixels, Imm(rows))
	JCC(LabelRef(fmt.Sprintf("tile%d", rows)))
	for r := 1; r < rows; r++ {
		CMPQ(pixels, Imm(uint64(r)))
		JEQ(LabelRef(fmt.Sprintf("tile%d", r)))
	}
	VZEROUPPER()
	RET()
	for r := rows; r > 0; r-- {
		label := func(l string) string { return fmt.Sprintf("%s%d", l, r) }
		clear := func() {
			for i := range 2 * r {
				VPXOR(ys[i], ys[i], ys[i])
			}
			MOVQ(a.mem("burst"), n)
			MOVQ(n, a.mem("burstLeft"))
		}
		Label(label("tile"))
		clear()
		MOVQ(a.mem("w"), w)
		MOVQ(src, a.mem("line"))
		MOVQ(a.mem("lines"), n)
		MOVQ(n, a.mem("linesLeft"))
		Label(label("line"))
		MOVQ(a.mem("line"), x)
		MOVQ(a.mem("quads"), n)
		MOVQ(n, a.mem("quadsLeft"))
		// As many quads as the line and the burst both have.
		Label(label("run"))
		MOVQ(a.mem("quadsLeft"), n)
		CMPQ(n, a.mem("burstLeft"))
		JCS(LabelRef(label("fits")))
		MOVQ(a.mem("burstLeft"), n)
		Label(label("fits"))
		SUBQ(n, a.mem("quadsLeft"))
		SUBQ(n, a.mem("burstLeft"))
		Label(label("quads"))
		for q := range 2 {
			weights := []reg.VecPhysical{reg.Y8, reg.Y9}
			for i, v := range weights {
				VMOVDQU(Mem{Base: w, Disp: 64*q + 32*i}, v)
			}
			for i := range r {
				value := ys[10+i%2]
				VPBROADCASTD(at(x, srcPixel, srcPixel3, i, 4*q), value)
				for j, v := range weights {
					product := ys[12+j]
					VPMADDUBSW(v, value, product)
					VPADDW(product, ys[2*i+j], ys[2*i+j])
				}
			}
		}
		ADDQ(Imm(8), x)
		ADDQ(U32(128), w)
		SUBQ(Imm(2), n)
		JNZ(LabelRef(label("quads")))
		CMPQ(a.mem("burstLeft"), Imm(0))
		JNE(LabelRef(label("short")))
		widen := func() {
			for i := range 2 * r {
				m := at(dst, dstPixel, dstPixel3, i/2, i%2*32)
				VPMADDWD(ys[i], one, ys[8])
				VPADDD(m, ys[8], ys[8])
				VMOVDQU(ys[8], m)
			}
		}
		widen()
		clear()
		Label(label("short"))
		CMPQ(a.mem("quadsLeft"), Imm(0))
		JNE(LabelRef(label("run")))
		MOVQ(a.mem("srcLine"), n)
		ADDQ(n, a.mem("line"))
		DECQ(a.mem("linesLeft"))
		JNZ(LabelRef(label("line")))
		widen()
		if r < rows {
			VZEROUPPER()
			RET()
			continue
		}
		LEAQ(Mem{Base: src, Index: srcPixel, Scale: 4}, src)
		LEAQ(Mem{Base: dst, Index: dstPixel, Scale: 4}, dst)
		SUBQ(Imm(rows), pixels)
		JMP(LabelRef("tile"))
	}
}
