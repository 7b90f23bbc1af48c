// Command _asm writes the assembly of package event.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets of evt3Tables.
const (
	events = 0
	next   = 256 * 64
	counts = next + 256*16
	places = counts + 256
)

// Offsets of evt3State.
const (
	stateT = 8 * iota
	stateBase
	stateY
	stateX
	stateP
)

func main() {
	Package("../event.go") // the file alone, so that the generator runs however broken the package is
	ConstraintExpr("!purego")
	evt3Words()
	inOrder()
	aedat4Events()
	nmnistEvents()
	Generate()
}

// words returns a vector of words of 32 bits, that of the low half and the same for the high half.
func words(name string, list [8]uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i, w := range list {
		DATA(4*i, U32(w))
	}
	return m
}

// long returns a word of 64 bits.
func long(name string, v uint64) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	DATA(0, U64(v))
	return m
}

func evt3Words() {
	mask := words("evt3Mask", [8]uint32{0xfff, 0, 0x7ff<<16 | 0x7ff, 1, 0xfff, 0, 0x7ff<<16 | 0x7ff, 1})
	shift := words("evt3Shift", [8]uint32{3: 11, 7: 11})
	eight := words("evt3Eight", [8]uint32{2: 8, 6: 8})
	const none = 0x80808080
	var spread [4]Mem // of eight places, two to the lowest byte of x
	for k := range spread {
		spread[k] = words("evt3Spread"+string(rune('0'+k)), [8]uint32{
			none, none, none&^0xff | uint32(2*k), none, none, none, none&^0xff | uint32(2*k+1), none})
	}
	others := long("evt3Others", 0x9000_9000_9000_9000)
	kinds := long("evt3Kinds", 0x6000_6000_6000_6000)
	gather := long("evt3Gather", 1<<43|1<<29|1<<15|1<<1)

	TEXT("evt3WordsAVX2", NOSPLIT, "func(dst *Event, room int, src *byte, size int, s *[5]int64, tables *byte) (n, used int)")
	Pragma("noescape")
	Doc("evt3WordsAVX2 is evt3WordsPortable, with room for at least 12 events at dst.")

	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	last, end, state, tables := GP64(), GP64(), GP64(), GP64()
	Load(Param("room"), last)
	SUBQ(Imm(12), last)
	SHLQ(Imm(4), last)
	ADDQ(dst, last) // the last place of dst with room for 12 events
	Load(Param("size"), end)
	ANDQ(I32(-2), end)
	ADDQ(src, end)
	Load(Param("s"), state)
	Load(Param("tables"), tables)
	t, base, y, x, p := GP64(), GP64(), GP64(), GP64(), GP64()
	for _, f := range []struct {
		r    reg.Register
		disp int
	}{{t, stateT}, {base, stateBase}, {y, stateY}, {x, stateX}, {p, stateP}} {
		MOVQ(Mem{Base: state, Disp: f.disp}, f.r)
	}
	SHLQ(Imm(32), p) // where it is in an event

	a, b := GP64(), GP64()
	bases, masks, shifts := YMM(), YMM(), YMM()
	VMOVQ(base, bases.AsX())
	VINSERTI128(Imm(1), bases.AsX(), bases, bases)
	VMOVDQU(mask, masks)
	VMOVDQU(shift, shifts)

	Comment("Four words of types 0, 2 and 6 at a time. row holds the row and the lower time in bytes 8 to 11.")
	row, four, ev := XMM(), YMM(), YMM()
	Label("fours")
	MOVQ(t, a)
	SHLQ(Imm(16), a)
	ORQ(y, a) // and upper bits of the time, which the mask cuts off
	VMOVD(a.As32(), row)
	VPSLLDQ(Imm(8), row, row)
	Label("four")
	LEAQ(Mem{Base: src, Disp: 8}, a)
	CMPQ(a, end)
	JA(LabelRef("leave"))
	CMPQ(dst, last) // with room for 12 events alone, the words behind an event are not consumed
	JAE(LabelRef("leave"))
	MOVQ(Mem{Base: src}, a)
	TESTQ(a, others)
	JNZ(LabelRef("leave"))
	ANDQ(kinds, a)
	IMULQ(gather, a)
	SHRQ(Imm(56), a) // two bits for each type
	MOVBQZX(Mem{Base: tables, Index: a, Scale: 1, Disp: counts}, b)
	TESTL(U32(0x80), b.As32())
	JNZ(LabelRef("leave"))
	SHLQ(Imm(4), a)
	VMOVQ(Mem{Base: src}, four.AsX())
	VPOR(row, four.AsX(), four.AsX())
	VPSHUFB(Mem{Base: tables, Index: a, Scale: 1, Disp: next}, four.AsX(), row)
	VINSERTI128(Imm(1), four.AsX(), four, four)
	two := func(k int) {
		VPSHUFB(Mem{Base: tables, Index: a, Scale: 4, Disp: events + 32*k}, four, ev)
		VPSRLVD(shifts, ev, ev)
		VPAND(masks, ev, ev)
		VPOR(bases, ev, ev)
		VMOVDQU(ev, Mem{Base: dst, Disp: 32 * k})
	}
	two(0)
	CMPL(b.As32(), Imm(2))
	JBE(LabelRef("atMostTwo"))
	two(1)
	Label("atMostTwo")
	SHLQ(Imm(4), b)
	ADDQ(b, dst)
	ADDQ(Imm(8), src)
	JMP(LabelRef("four"))

	Label("leave")
	VPEXTRD(Imm(2), row, a.As32())
	MOVL(a.As32(), y.As32())
	ANDL(U32(0x7ff), y.As32())
	SHRL(Imm(16), a.As32())
	ANDL(U32(0xfff), a.As32())
	MOVQ(base, t)
	ORQ(a, t)

	Comment("One word at a time.")
	advance := func(to string) {
		ADDQ(Imm(2), src)
		JMP(LabelRef(to))
	}
	Label("word")
	CMPQ(src, end)
	JAE(LabelRef("done"))
	CMPQ(dst, last)
	JA(LabelRef("done"))
	MOVWLZX(Mem{Base: src}, a.As32())
	MOVL(a.As32(), b.As32())
	SHRL(Imm(12), b.As32())
	CMPL(b.As32(), Imm(4))
	JE(LabelRef("vector12"))
	JA(LabelRef("from5"))
	CMPL(b.As32(), Imm(2))
	JA(LabelRef("first"))
	JE(LabelRef("single"))
	TESTL(b.As32(), b.As32())
	JNZ(LabelRef("done"))
	Comment("A row.")
	MOVL(a.As32(), y.As32())
	ANDL(U32(0x7ff), y.As32())
	advance("word")

	Label("from5")
	CMPL(b.As32(), Imm(6))
	JA(LabelRef("done"))
	JNE(LabelRef("vector8"))
	Comment("A lower time.")
	ANDL(U32(0xfff), a.As32())
	MOVQ(base, t)
	ORQ(a, t)
	advance("word")

	Label("first")
	Comment("The place of vectors.")
	MOVL(a.As32(), x.As32())
	ANDL(U32(0x7ff), x.As32())
	MOVL(a.As32(), p.As32())
	ANDL(U32(0x800), p.As32())
	SHLQ(Imm(21), p)
	advance("word")

	Label("single")
	MOVL(a.As32(), b.As32())
	ANDL(U32(0x7ff), a.As32())
	ANDL(U32(0x800), b.As32())
	SHLQ(Imm(21), b)
	ORQ(b, a)
	MOVL(y.As32(), b.As32())
	SHLL(Imm(16), b.As32())
	ORQ(b, a)
	MOVQ(t, Mem{Base: dst})
	MOVQ(a, Mem{Base: dst, Disp: 8})
	ADDQ(Imm(16), dst)
	advance("fours")

	// Vectors. Eight or four events are written, of which those of no bits are not counted.
	at, list := YMM(), YMM()
	begin := func() {
		TESTQ(x, x)
		JS(LabelRef("done"))
		MOVL(y.As32(), b.As32())
		SHLL(Imm(16), b.As32())
		ORQ(x, b)
		ORQ(p, b)
		VMOVQ(t, at.AsX())
		VPINSRQ(Imm(1), b, at.AsX(), at.AsX())
		VINSERTI128(Imm(1), at.AsX(), at, at)
	}
	put := func(bits reg.GPVirtual, most int) {
		VPBROADCASTQ(Mem{Base: tables, Index: bits, Scale: 8, Disp: places}, list)
		for k := range most / 2 {
			VPSHUFB(spread[k], list, ev)
			VPADDD(at, ev, ev)
			VMOVDQU(ev, Mem{Base: dst, Disp: 32 * k})
		}
		POPCNTL(bits.As32(), bits.As32())
		SHLQ(Imm(4), bits)
		ADDQ(bits, dst)
	}
	grow := func(width int32) {
		ADDL(I32(width), x.As32())
		MOVL(U32(1<<15), a.As32()) // far outside any sensor
		CMPL(x.As32(), a.As32())
		CMOVLHI(a.As32(), x.As32())
	}
	Label("vector8")
	begin()
	MOVBLZX(a.As8(), a.As32())
	put(a, 8)
	grow(8)
	advance("word")

	Label("vector12")
	begin()
	MOVBLZX(a.As8(), b.As32())
	put(b, 8)
	VPADDD(eight, at, at)
	SHRL(Imm(8), a.As32())
	ANDL(Imm(15), a.As32())
	put(a, 4)
	grow(12)
	advance("word")

	Label("done")
	VZEROUPPER()
	Load(Param("s"), state)
	SHRQ(Imm(32), p)
	MOVQ(t, Mem{Base: state, Disp: stateT})
	MOVQ(y, Mem{Base: state, Disp: stateY})
	MOVQ(x, Mem{Base: state, Disp: stateX})
	MOVQ(p, Mem{Base: state, Disp: stateP})
	Load(Param("dst"), a)
	SUBQ(a, dst)
	SHRQ(Imm(4), dst)
	Store(dst, ReturnIndex(0))
	Load(Param("src"), a)
	SUBQ(a, src)
	Store(src, ReturnIndex(1))
	RET()
}

func inOrder() {
	TEXT("inOrderAVX2", NOSPLIT, "func(events *Event, n int, most uint32) int")
	Pragma("noescape")
	Doc("inOrderAVX2 is inOrderPortable. It looks at 8 events at a time. most has maxX in its lower bits and",
		"maxY in its upper 16 bits.")
	const none = 1<<32 - 1
	times := words("inOrderTimes", [8]uint32{none, none, 0, 0, none, none})
	others := words("inOrderOthers", [8]uint32{none, none, 0, none, none, none, 0, none})

	p, n := Load(Param("events"), GP64()), Load(Param("n"), GP64())
	most, mask := YMM(), YMM()
	VMOVD(Load(Param("most"), GP32()), most.AsX())
	VPBROADCASTD(most.AsX(), most)
	VPOR(others, most, most)
	VMOVDQU(times, mask)
	k := GP64()
	MOVQ(U32(1), k)
	Label("eight")
	ADDQ(Imm(8), k)
	CMPQ(k, n)
	JA(LabelRef("done"))
	bad, late, outside := YMM(), YMM(), YMM()
	for i := range 4 { // of two events each
		VMOVDQU(Mem{Base: p, Disp: 32 * i}, late) // those one place before
		VMOVDQU(Mem{Base: p, Disp: 32*i + 16}, outside)
		VPCMPGTQ(outside, late, late)
		VPAND(mask, late, late)
		VPSUBUSW(most, outside, outside)
		VPOR(late, outside, outside)
		if i == 0 {
			VMOVDQA(outside, bad)
		} else {
			VPOR(outside, bad, bad)
		}
	}
	VPTEST(bad, bad)
	JNZ(LabelRef("done"))
	SUBQ(I32(-8*16), p)
	JMP(LabelRef("eight"))
	Label("done")
	SUBQ(Imm(8), k)
	VZEROUPPER()
	Store(k, ReturnIndex(0))
	RET()
}

func aedat4Events() {
	TEXT("aedat4EventsAVX2", NOSPLIT, "func(dst *Event, src *byte, n int)")
	Pragma("noescape")
	Doc("aedat4EventsAVX2 is aedat4EventsPortable for n events.")
	most := words("aedat4Most", [8]uint32{1<<32 - 1, 1<<32 - 1, 1<<32 - 1, 1, 1<<32 - 1, 1<<32 - 1, 1<<32 - 1, 1})
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	mask := YMM()
	VMOVDQU(most, mask)
	move := func(count int) { // Event has the layout of the file; the polarity, and it alone, is to become 0 or 1
		for i := range (count + 1) / 2 {
			v, m := reg.VecVirtual(YMM()), reg.VecVirtual(mask)
			if count == 1 {
				v, m = v.AsX().(reg.VecVirtual), m.AsX().(reg.VecVirtual)
			}
			VPMINUB(Mem{Base: src, Disp: 32 * i}, m, v)
			VMOVDQU(v, Mem{Base: dst, Disp: 32 * i})
		}
		ADDQ(Imm(uint64(16*count)), src)
		ADDQ(Imm(uint64(16*count)), dst)
	}
	SUBQ(Imm(4), n)
	JL(LabelRef("rest"))
	Label("four")
	move(4)
	SUBQ(Imm(4), n)
	JGE(LabelRef("four"))
	Label("rest")
	ADDQ(Imm(4), n)
	JZ(LabelRef("done"))
	Label("one")
	move(1)
	DECQ(n)
	JNZ(LabelRef("one"))
	Label("done")
	VZEROUPPER()
	RET()
}

func nmnistEvents() {
	const none = 0x80808080
	order := words("nmnistOrder", [8]uint32{0x80020304, none, 0x80018000, none&^0xff | 2, 0x80070809, none, 0x80068005, none&^0xff | 7})
	time := words("nmnistTime", [8]uint32{1<<23 - 1, 0, 1<<32 - 1, 1<<32 - 1, 1<<23 - 1, 0, 1<<32 - 1, 1<<32 - 1})
	shift := words("nmnistShift", [8]uint32{3: 7, 7: 7})
	marker := words("nmnistMarker", [8]uint32{2: 240 << 16, 6: 240 << 16})
	row := words("nmnistRow", [8]uint32{2: 0xffff0000, 6: 0xffff0000})

	TEXT("nmnistEventsAVX2", NOSPLIT, "func(dst *Event, src *byte, n int, base int64) int")
	Pragma("noescape")
	Doc("nmnistEventsAVX2 is nmnistEventsPortable for n events, four at a time. It reads 6 bytes behind them.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	orders, times, shifts, bases, markers, rows := YMM(), YMM(), YMM(), YMM(), YMM(), YMM()
	VMOVDQU(order, orders)
	VMOVDQU(time, times)
	VMOVDQU(shift, shifts)
	VMOVDQU(marker, markers)
	VMOVDQU(row, rows)
	VMOVQ(Load(Param("base"), GP64()), bases.AsX())
	VINSERTI128(Imm(1), bases.AsX(), bases, bases)
	k := GP64()
	XORQ(k, k)
	Label("four")
	ADDQ(Imm(4), k)
	CMPQ(k, n)
	JG(LabelRef("done"))
	two, equal := [2]reg.VecVirtual{YMM(), YMM()}, [2]reg.VecVirtual{YMM(), YMM()}
	for i, v := range two {
		VBROADCASTI128(Mem{Base: src, Disp: 10 * i}, v)
		VPSHUFB(orders, v, v)
		VPCMPEQW(markers, v, equal[i])
	}
	VPOR(equal[1], equal[0], equal[0])
	VPTEST(rows, equal[0])
	JNZ(LabelRef("done"))
	for i, v := range two {
		VPSRLVD(shifts, v, v)
		VPAND(times, v, v)
		VPADDQ(bases, v, v)
		VMOVDQU(v, Mem{Base: dst, Disp: 32 * i})
	}
	ADDQ(Imm(20), src)
	ADDQ(Imm(64), dst)
	JMP(LabelRef("four"))
	Label("done")
	SUBQ(Imm(4), k)
	VZEROUPPER()
	Store(k, ReturnIndex(0))
	RET()
}
