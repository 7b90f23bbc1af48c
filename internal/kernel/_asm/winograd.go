package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// winograd emits the transforms of Winograd's algorithm.
func winograd(s isa) {
	lines(s, "Weights", 7, 6, func(k, v vectors, src func(int) Mem, store func(int, reg.VecPhysical)) {
		for i := range 3 {
			VMOVUPS(src(i), v(i))
		}
		store(5, v(2))
		VMULPS(k(0), v(0), v(3))
		store(0, v(3))
		for i := 1; i < 6; i += 3 {
			VMULPS(k(i), v(0), v(3))
			VFMADD231PS(k(i+2), v(2), v(3))
			VMOVAPS(v(3), v(4))
			VFMADD231PS(k(i+1), v(1), v(3))
			VFNMADD231PS(k(i+1), v(1), v(4))
			store(i/3*2+1, v(3))
			store(i/3*2+2, v(4))
		}
	})
	lines(s, "Deltas", 6, 6, func(k, v vectors, src func(int) Mem, store func(int, reg.VecPhysical)) {
		for i := range 6 {
			VMOVUPS(src(i), v(i))
		}
		VMOVAPS(v(4), v(6))
		VFNMADD231PS(k(4), v(2), v(6))
		VFMADD231PS(k(5), v(0), v(6))
		store(0, v(6))
		VFNMADD231PS(k(4), v(3), v(5))
		VFMADD231PS(k(5), v(1), v(5))
		store(5, v(5))
		for i := range 2 { // the points ±a, then ±b
			even, odd, minus := v(6), v(7), v(8)
			VMOVAPS(v(4), even)
			VMOVAPS(v(3), odd)
			VFNMADD231PS(k(3-i), v(2), even)
			VFNMADD231PS(k(3-i), v(1), odd)
			VMOVAPS(even, minus)
			VFMADD231PS(k(i), odd, even)
			VFNMADD231PS(k(i), odd, minus)
			store(2*i+1, even)
			store(2*i+2, minus)
		}
	})
	lines(s, "Sums", 6, 4, func(k, v vectors, src func(int) Mem, store func(int, reg.VecPhysical)) {
		VMOVUPS(src(1), v(0))
		VMOVUPS(src(3), v(1))
		VADDPS(src(2), v(0), v(2))
		VSUBPS(src(2), v(0), v(0))
		VADDPS(src(4), v(1), v(3))
		VSUBPS(src(4), v(1), v(1))
		VADDPS(src(0), v(2), v(4))
		VADDPS(v(3), v(4), v(4))
		VMULPS(k(0), v(0), v(5))
		VFMADD231PS(k(1), v(1), v(5))
		VMULPS(k(2), v(2), v(2))
		VFMADD231PS(k(3), v(3), v(2))
		VMOVUPS(src(5), v(6))
		VFMADD231PS(k(4), v(0), v(6))
		VFMADD231PS(k(5), v(1), v(6))
		store(0, v(4))
		store(1, v(5))
		store(2, v(2))
		store(3, v(6))
	})
}

type vectors = func(i int) reg.VecPhysical

// lines emits a loop over lines, which item transforms, with a number of factors in registers.
func lines(s isa, name string, factors, out int, item func(k, v vectors, src func(int) Mem, store func(int, reg.VecPhysical))) {
	routine("winograd"+name+s.name, "func(a *winogradLines)", "is winograd"+name+"Portable.")
	a := argBlock()
	k := func(i int) reg.VecPhysical { return s.v(15 - i) }
	p := a.load("factors")
	for i := range factors {
		VBROADCASTSS(Mem{Base: p, Disp: 4 * i}, k(i))
	}
	for _, f := range [][2]string{{"src", "srcAt"}, {"dst", "dstAt"}, {"rows", "rowsLeft"}} {
		from := a.load(f[0])
		MOVQ(from, a.mem(f[1]))
	}
	var strides [2][3]reg.GPVirtual // once, three times and five times
	for i, field := range []string{"srcNext", "dstNext"} {
		by := a.load(field)
		strides[i] = [3]reg.GPVirtual{by, GP64(), GP64()}
		LEAQ(Mem{Base: by, Index: by, Scale: 2}, strides[i][1])
		LEAQ(Mem{Base: by, Index: by, Scale: 4}, strides[i][2])
	}
	at := func(base reg.Register, of, i, half int) Mem {
		m := rowAt(base, strides[of][0], strides[of][1], strides[of][2], i)
		m.Disp += half * s.bytes
		return m
	}
	src, dst, left := GP64(), GP64(), GP64()
	loop := func(label string, add bool) {
		Label(label + "row")
		MOVQ(a.mem("srcAt"), src)
		MOVQ(a.mem("dstAt"), dst)
		MOVQ(a.mem("items"), left)
		Label(label + "item")
		for half := range 64 / s.bytes {
			item(k, s.v, func(i int) Mem { return at(src, 0, i, half) }, func(i int, v reg.VecPhysical) {
				to := at(dst, 1, i, half)
				if add {
					VADDPS(to, v, v)
				}
				VMOVUPS(v, to)
			})
		}
		ADDQ(a.mem("srcItem"), src)
		ADDQ(a.mem("dstItem"), dst)
		DECQ(left)
		JNZ(LabelRef(label + "item"))
		for _, f := range [][2]string{{"srcRow", "srcAt"}, {"dstRow", "dstAt"}} {
			by := a.load(f[0])
			ADDQ(by, a.mem(f[1]))
		}
		DECQ(a.mem("rowsLeft"))
		JNZ(LabelRef(label + "row"))
		VZEROUPPER()
		RET()
	}
	if out == 4 {
		CMPQ(a.mem("add"), Imm(0))
		JNE(LabelRef("addrow"))
		loop("", false)
		loop("add", true)
		return
	}
	loop("", false)
}
