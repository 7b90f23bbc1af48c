package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peak runs independent multiply-adds on registers, 24 a round.
func peak(s isa) {
	routine("peak"+s.name, "func(rounds int)", "does 24 vectors of multiply-adds (12 at AVX2) a round.")
	n := Load(Param("rounds"), GP64())
	sums := s.registers * 3 / 4
	for i := range s.registers {
		s.zero(s.v(i))
	}
	Label("round")
	for i := range sums {
		VFMADD231PS(s.v(s.registers-1), s.v(s.registers-2), s.v(i))
	}
	DECQ(n)
	JNZ(LabelRef("round"))
	VZEROUPPER()
	RET()
}

// transposeAVX512 exchanges rows and lanes of 16×16 blocks.
func transposeAVX512() {
	routine("transpose16AVX512", "func(dst, src *float32, dstRow, srcRow, ahead uintptr)", "is transpose16Portable.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	dstRow, srcRow := Load(Param("dstRow"), GP64()), Load(Param("srcRow"), GP64())
	ahead := Load(Param("ahead"), GP64())
	for i := range 16 {
		VMOVUPS(Mem{Base: src}, zs[i])
		PREFETCHT0(Mem{Base: src, Index: ahead, Scale: 1})
		if i < 15 {
			ADDQ(srcRow, src)
		}
	}
	// Pairs, then pairs of pairs within 128 bits, then 128-bit quarters.
	for i := 0; i < 16; i += 2 {
		VUNPCKLPS(zs[i+1], zs[i], zs[16+i])
		VUNPCKHPS(zs[i+1], zs[i], zs[17+i])
	}
	for i := 0; i < 16; i += 4 {
		VUNPCKLPD(zs[18+i], zs[16+i], zs[i])
		VUNPCKHPD(zs[18+i], zs[16+i], zs[i+1])
		VUNPCKLPD(zs[19+i], zs[17+i], zs[i+2])
		VUNPCKHPD(zs[19+i], zs[17+i], zs[i+3])
	}
	// zs[4g+c], quarter q: rows 4g..4g+3 of column 4q+c.
	for c := range 4 {
		VSHUFF32X4(Imm(0x44), zs[4+c], zs[c], zs[16+c])    // q0,q1 of g0,g1
		VSHUFF32X4(Imm(0xee), zs[4+c], zs[c], zs[20+c])    // q2,q3
		VSHUFF32X4(Imm(0x44), zs[12+c], zs[8+c], zs[24+c]) // q0,q1 of g2,g3
		VSHUFF32X4(Imm(0xee), zs[12+c], zs[8+c], zs[28+c])
	}
	for col := range 16 {
		q, c := col/4, col%4
		lo, hi := zs[16+c+q/2*4], zs[24+c+q/2*4]
		k := uint64(0x88)
		if q%2 == 1 {
			k = 0xdd
		}
		VSHUFF32X4(Imm(k), hi, lo, zs[0])
		VMOVUPS(zs[0], Mem{Base: dst})
		if col < 15 {
			ADDQ(dstRow, dst)
		}
	}
	VZEROUPPER()
	RET()
}

// transposeAVX2 does it by 8×8 blocks.
func transposeAVX2() {
	routine("transpose16AVX2", "func(dst, src *float32, dstRow, srcRow, ahead uintptr)", "is transpose16Portable.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	dstRow, srcRow := Load(Param("dstRow"), GP64()), Load(Param("srcRow"), GP64())
	ahead := Load(Param("ahead"), GP64())
	for h := range 2 { // rows of src
		for g := range 2 { // columns of src
			s, d := GP64(), GP64()
			MOVQ(src, s)
			MOVQ(dst, d)
			for range h {
				LEAQ(Mem{Base: s, Index: srcRow, Scale: 8}, s)
			}
			for range g {
				LEAQ(Mem{Base: d, Index: dstRow, Scale: 8}, d)
			}
			for i := range 8 {
				VMOVUPS(Mem{Base: s, Disp: 32 * g}, ys[i])
				if g == 0 {
					PREFETCHT0(Mem{Base: s, Index: ahead, Scale: 1})
				}
				if i < 7 {
					ADDQ(srcRow, s)
				}
			}
			for i := 0; i < 8; i += 2 {
				VUNPCKLPS(ys[i+1], ys[i], ys[8+i])
				VUNPCKHPS(ys[i+1], ys[i], ys[9+i])
			}
			for i := 0; i < 8; i += 4 {
				VUNPCKLPD(ys[10+i], ys[8+i], ys[i])
				VUNPCKHPD(ys[10+i], ys[8+i], ys[i+1])
				VUNPCKLPD(ys[11+i], ys[9+i], ys[i+2])
				VUNPCKHPD(ys[11+i], ys[9+i], ys[i+3])
			}
			for col := range 8 {
				k := uint64(0x20)
				if col >= 4 {
					k = 0x31
				}
				VPERM2F128(Imm(k), ys[4+col%4], ys[col%4], ys[8])
				VMOVUPS(ys[8], Mem{Base: d, Disp: 32 * h})
				if col < 7 {
					ADDQ(dstRow, d)
				}
			}
		}
	}
	VZEROUPPER()
	RET()
}

// bitsAVX512 tests one bit of 32 words at a time.
func bitsAVX512() {
	routine("transposeBitsAVX512", "func(dst *uint64, src *uint16, words, dstLane uintptr)", "is transposeBitsPortable.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	words, dstLane := Load(Param("words"), GP64()), Load(Param("dstLane"), GP64())
	one := GP32()
	MOVL(U32(0x00010001), one)
	VPBROADCASTD(one, reg.Z2)
	Label("word")
	VMOVDQU16(Mem{Base: src}, reg.Z0)
	VMOVDQU16(Mem{Base: src, Disp: 64}, reg.Z1)
	VMOVDQA64(reg.Z2, reg.Z3)
	d := GP64()
	MOVQ(dst, d)
	for l := range 16 {
		VPTESTMW(reg.Z3, reg.Z0, reg.K1)
		VPTESTMW(reg.Z3, reg.Z1, reg.K2)
		KUNPCKDQ(reg.K1, reg.K2, reg.K1)
		KMOVQ(reg.K1, Mem{Base: d})
		if l < 15 {
			VPSLLW(Imm(1), reg.Z3, reg.Z3)
			ADDQ(dstLane, d)
		}
	}
	ADDQ(U32(128), src)
	ADDQ(U32(8), dst)
	DECQ(words)
	JNZ(LabelRef("word"))
	VZEROUPPER()
	RET()
}

// bitsAVX2 moves the bit to the sign and packs signs.
func bitsAVX2() {
	routine("transposeBitsAVX2", "func(dst *uint64, src *uint16, words, dstLane uintptr)", "is transposeBitsPortable.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	words, dstLane := Load(Param("words"), GP64()), Load(Param("dstLane"), GP64())
	MOVQ(dstLane, dstLane)
	d := GP64()
	Label("word")
	for i := range 4 {
		VMOVDQU(Mem{Base: src, Disp: 32 * i}, ys[i])
	}
	// Down from lane 15, whose bit is the sign already.
	MOVQ(dstLane, d)
	SHLQ(Imm(4), d)
	SUBQ(dstLane, d)
	ADDQ(dst, d)
	for l := 15; l >= 0; l-- {
		lo, hi := GP32(), GP32()
		for h, out := range []reg.GPVirtual{lo, hi} {
			VPACKSSWB(ys[2*h+1], ys[2*h], ys[4])
			VPERMQ(Imm(0xd8), ys[4], ys[4])
			VPMOVMSKB(ys[4], out)
		}
		MOVL(lo, Mem{Base: d})
		MOVL(hi, Mem{Base: d, Disp: 4})
		if l > 0 {
			for i := range 4 {
				VPADDW(ys[i], ys[i], ys[i])
			}
			SUBQ(dstLane, d)
		}
	}
	ADDQ(U32(128), src)
	ADDQ(U32(8), dst)
	DECQ(words)
	JNZ(LabelRef("word"))
	VZEROUPPER()
	RET()
}

// groupValues packs the blocks of a group of channels pixel by pixel and notes
// which values are not zero.
func groupValues(s isa) {
	routine("groupValues"+s.name, "func(a *groupValues)", "is groupValuesPortable.")
	a := argBlock()
	src, dst, masks, n := a.load("src"), a.load("dst"), a.load("masks"), a.load("pixels")
	block, pixel := a.load("srcBlock"), a.load("srcPixel")
	zero := s.v(1)
	s.zero(zero)
	Label("pixel")
	mask, p, left, d := GP64(), GP64(), GP64(), GP64()
	MOVQ(src, p)
	MOVQ(dst, d)
	XORQ(mask, mask)
	MOVQ(a.mem("blocks"), left)
	Label("block")
	for off := 0; off < 64; off += s.bytes {
		bits := GP64()
		VMOVUPS(Mem{Base: p, Disp: off}, s.v(0))
		if s.bytes == 64 {
			VCMPPS(Imm(4), zero, s.v(0), reg.K1)
			KMOVW(reg.K1, bits.As32())
		} else {
			VCMPPS(Imm(4), zero, s.v(0), s.v(2))
			VMOVMSKPS(s.v(2), bits.As32())
		}
		VMOVUPS(s.v(0), Mem{Base: d, Disp: off})
		// The first channels end up lowest: what comes is put on top, and all of it
		// turned down by its width.
		ORQ(bits, mask)
		RORQ(Imm(uint64(s.bytes/4)), mask)
	}
	ADDQ(block, p)
	ADDQ(Imm(64), d)
	DECQ(left)
	JNZ(LabelRef("block"))
	// A group of fewer than four blocks turns the rest of the way.
	MOVQ(a.mem("turn"), reg.RCX)
	RORQ(reg.CL, mask)
	MOVQ(mask, Mem{Base: masks})
	ADDQ(Imm(8), masks)
	ADDQ(pixel, src)
	ADDQ(a.mem("dstPixel"), dst)
	DECQ(n)
	JNZ(LabelRef("pixel"))
	VZEROUPPER()
	RET()
}
