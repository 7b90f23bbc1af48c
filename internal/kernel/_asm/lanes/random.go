package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

// chachaStart has the four constants of ChaCha20 and, after them, the counters of 16 blocks.
var chachaStart Mem

// limitConstants has the offsets of a channel in 8 pixels, then 2¹⁶, ½ and 2¹⁶ − 1.
var limitConstants Mem

func randomConstants() {
	chachaStart = GLOBL("chachaStart", RODATA|NOPTR)
	for i, w := range []uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574} {
		DATA(4*i, U32(w))
	}
	for i := range 16 {
		DATA(16+4*i, U32(i))
	}
	limitConstants = GLOBL("limitConstants", RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(16*i))
	}
	DATA(32, U32(math.Float32bits(1<<16)))
	DATA(36, U32(math.Float32bits(0.5)))
	DATA(40, U32(1<<16-1))
}

// chacha8 computes 16 blocks. Register i has word i of the state of 16 blocks, or of 8 of
// them, one after the other.
func chacha8(s ISA) {
	Routine("chacha8"+s.Name, "func(dst *uint64, seed *uint64)", "writes 16 blocks of ChaCha8 with the key seed [4] to dst [128], in the order of math/rand/v2.")
	dst, seed, rounds := parameter("dst"), parameter("seed"), GP64()
	var saved Mem
	if !s.Wide() {
		saved = AllocLocal(s.Bytes)
	}
	word := func(i int) Mem { return Mem{Base: seed, Disp: 4 * i} }
	for pass := range s.Columns() {
		for i := range 4 {
			VPBROADCASTD(chachaStart.Offset(4*i), s.V(i))
		}
		for i := range 8 {
			VPBROADCASTD(word(i), s.V(4+i))
		}
		VMOVUPS(chachaStart.Offset(16+pass*s.Bytes), s.V(12))
		for i := 13; i < 16; i++ {
			s.Zero(s.V(i))
		}
		l := labels([]string{"first", "second"}[pass])
		MOVQ(U32(4), rounds)
		l.set("rounds")
		for _, diagonal := range []int{0, 1} {
			// Two quarter-rounds leave a register that AVX2 saves and uses.
			for _, col := range []int{0, 2} {
				spare := s.V(12 + (col+2+3*diagonal)%4)
				if !s.Wide() {
					VMOVUPS(spare, saved)
				}
				quarterRounds(s, spare, col, diagonal)
				if !s.Wide() {
					VMOVUPS(saved, spare)
				}
			}
		}
		DECQ(rounds)
		JNZ(l.ref("rounds"))
		for i := range 16 {
			if i >= 4 && i < 12 { // the key again
				key := s.V(0)
				VPBROADCASTD(word(i-4), key)
				VPADDD(key, s.V(i), s.V(i))
			}
			for k := range s.Bytes / 16 {
				at := Mem{Base: dst, Disp: pass*512 + k*256 + i*16}
				switch v := s.V(i); {
				case k == 0:
					VMOVUPS(v.AsX(), at)
				case s.Wide():
					VEXTRACTI32X4(Imm(uint64(k)), v, at)
				default:
					VEXTRACTI128(Imm(1), v, at)
				}
			}
		}
	}
	VZEROUPPER()
	RET()
}

// quarterRounds emits the quarter-rounds of columns, or diagonals, col and col+1.
func quarterRounds(s ISA, spare reg.VecPhysical, col, diagonal int) {
	v := func(row, k int) reg.VecPhysical { return s.V(4*row + (col+k+row*diagonal)%4) }
	step := func(sum, term, x, bits int) { // sum += term; x = (x ^ sum) <<< bits
		for k := range 2 {
			VPADDD(v(term, k), v(sum, k), v(sum, k))
			w := v(x, k)
			if s.Wide() {
				VPXORD(v(sum, k), w, w)
				VPROLD(Imm(uint64(bits)), w, w)
				continue
			}
			VPXOR(v(sum, k), w, w)
			VPSLLD(Imm(uint64(bits)), w, spare)
			VPSRLD(Imm(uint64(32-bits)), w, w)
			VPOR(spare, w, w)
		}
	}
	step(0, 1, 3, 16)
	step(2, 3, 1, 12)
	step(0, 1, 3, 8)
	step(2, 3, 1, 7)
}

// limits prepares 16 pixels of a channel at a time.
func limits(s ISA) {
	Routine("limits"+s.Name, "func(always *uint16, limits *uint64, p *float32, groups, channels int)", "is limitsPortable for whole groups.")
	always, limits, p, groups, channels := parameter("always"), parameter("limits"), parameter("p"), parameter("groups"), parameter("channels")
	lane, channel, bit := GP64(), GP64(), s.V(0).AsX()
	offsets, size, half, low, zero, fixed := s.V(1), s.V(2), s.V(3), s.V(4), s.V(5), s.V(6)
	VMOVDQU(limitConstants, offsets)
	VBROADCASTSS(limitConstants.Offset(32), size)
	VBROADCASTSS(limitConstants.Offset(36), half)
	VPBROADCASTD(limitConstants.Offset(40), low)
	s.Zero(zero)
	Label("group")
	s.Zero(fixed)
	XORQ(lane, lane)
	MOVQ(p, channel)
	Label("channel")
	for i := range 2 {
		v, all := s.V(7+i), s.V(9)
		VPCMPEQD(all, all, all)
		VGATHERDPS(all, Mem{Base: channel, Disp: 512 * i, Index: offsets, Scale: 4}, v)
		VMULPS(size, v, v)
		VADDPS(half, v, v)
		VMAXPS(zero, v, v) // 0 for NaN
		VMINPS(size, v, v)
		VCVTTPS2DQ(v, v)
		VPSRLD(Imm(16), v, s.V(10+i))
		VPAND(low, v, v)
	}
	for _, i := range []int{7, 10} { // 16 words
		v := s.V(i)
		VPACKUSDW(s.V(i+1), v, v)
		VPERMQ(Imm(0b11011000), v, v)
	}
	VMOVDQU(s.V(7), Mem{Base: limits})
	VMOVQ(lane, bit)
	VPSLLW(bit, s.V(10), s.V(10))
	VPOR(s.V(10), fixed, fixed)
	ADDQ(Imm(32), limits)
	ADDQ(Imm(4), channel)
	INCQ(lane)
	CMPQ(lane, channels)
	JLT(LabelRef("channel"))
	VMOVDQU(fixed, Mem{Base: always})
	ADDQ(Imm(32), always)
	ADDQ(U32(1024), p)
	DECQ(groups)
	JNZ(LabelRef("group"))
	VZEROUPPER()
	RET()
}

// draw compares 16 pixels of a channel at a time.
func draw(s ISA) {
	Routine("draw"+s.Name, "func(s, always *uint16, limits, random *uint64, groups, channels int)", "is drawPortable for whole groups.")
	dst, always, limits, random := parameter("s"), parameter("always"), parameter("limits"), parameter("random")
	groups, channels, c := parameter("groups"), parameter("channels"), GP64()
	spikes, bit, r, silent := s.V(0), s.V(1), s.V(2), s.V(3)
	Label("group")
	VMOVDQU(Mem{Base: always}, spikes)
	VPBROADCASTW(laneBits, bit)
	MOVQ(channels, c)
	Label("channel")
	VMOVDQU(Mem{Base: random}, r)
	VPMAXUW(Mem{Base: limits}, r, silent)
	VPCMPEQW(r, silent, silent)
	VPANDN(bit, silent, silent)
	VPOR(silent, spikes, spikes)
	VPADDW(bit, bit, bit)
	for _, p := range []reg.GPVirtual{random, limits} {
		ADDQ(Imm(32), p)
	}
	DECQ(c)
	JNZ(LabelRef("channel"))
	VMOVDQU(spikes, Mem{Base: dst})
	for _, p := range []reg.GPVirtual{dst, always} {
		ADDQ(Imm(32), p)
	}
	DECQ(groups)
	JNZ(LabelRef("group"))
	VZEROUPPER()
	RET()
}
