package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

// at is vector i from p on.
func at(s ISA, p reg.GPVirtual, i int) Mem { return Mem{Base: p, Disp: i * s.Bytes} }

func affine(s ISA) {
	Routine("affine"+s.Name, "func(dst, x, a, b *float32, n int)", "is affinePortable.")
	dst, x, n := parameter("dst"), parameter("x"), parameter("n")
	a, b := channels(s, parameter("a"), 0), channels(s, parameter("b"), 1)
	stream(s, 4, []reg.GPVirtual{dst, x}, []int{64, 64}, n, func(_ labels, n int) {
		for i := range n {
			VMULPS(at(s, x, i), a(i), s.V(i))
		}
		for i := range n {
			VADDPS(b(i), s.V(i), s.V(i))
			VMOVUPS(s.V(i), at(s, dst, i))
		}
	})
}

func halve(s ISA) {
	Routine("halve"+s.Name, "func(low, high, src *float32, n int)", "is halvePortable.")
	low, high, src, n := parameter("low"), parameter("high"), parameter("src"), parameter("n")
	stream(s, 4, []reg.GPVirtual{low, high, src}, []int{32, 32, 64}, n, func(_ labels, n int) {
		for i := range n {
			VMOVUPS(at(s, src, i), s.V(i))
		}
		for i := range n {
			VMOVUPS(s.V(i), at(s, []reg.GPVirtual{low, high}[i%2], i/2))
		}
	})
}

// sums emits sums in float64 over n elements: fn gets element by element and half
// vector by half vector, with its offset in bytes of float32, and the sums' registers,
// count of them for each of the halves of a block.
func sums(s ISA, sum, n reg.GPVirtual, pointers []reg.GPVirtual, count int, fn func(half, disp int, acc func(k int) reg.VecPhysical, free func(int) reg.VecPhysical)) {
	halves := 2 * s.Columns()
	wide := halves * count
	for i := range wide {
		VMOVUPD(Mem{Base: sum, Disp: i * s.Bytes}, s.V(i))
	}
	groups("", 4, n, func(_ labels, n int) {
		for i := range n * halves {
			fn(i%halves, i*s.Bytes/2, func(k int) reg.VecPhysical { return s.V(k*halves + i%halves) },
				func(k int) reg.VecPhysical { return s.V(wide + i%2*2 + k) })
		}
		for _, p := range pointers {
			ADDQ(U32(uint32(n*64)), p)
		}
	})
	for i := range wide {
		VMOVUPD(s.V(i), Mem{Base: sum, Disp: i * s.Bytes})
	}
	VZEROUPPER()
	RET()
}

func sum(s ISA) {
	Routine("sum"+s.Name, "func(sum *float64, x *float32, n int)", "is sumPortable.")
	out, x, n := parameter("sum"), parameter("x"), parameter("n")
	sums(s, out, n, []reg.GPVirtual{x}, 1, func(_, disp int, acc, free func(int) reg.VecPhysical) {
		VCVTPS2PD(Mem{Base: x, Disp: disp}, free(0))
		VADDPD(free(0), acc(0), acc(0))
	})
}

func squares(s ISA) {
	Routine("squares"+s.Name, "func(sum *float64, x *float32, shift *float64, n int)", "is squaresPortable.")
	out, x, shift, n := parameter("sum"), parameter("x"), parameter("shift"), parameter("n")
	sums(s, out, n, []reg.GPVirtual{x}, 1, func(half, disp int, acc, free func(int) reg.VecPhysical) {
		VCVTPS2PD(Mem{Base: x, Disp: disp}, free(0))
		VSUBPD(at(s, shift, half), free(0), free(0))
		VMULPD(free(0), free(0), free(0))
		VADDPD(free(0), acc(0), acc(0))
	})
}

func products(s ISA) {
	Routine("products"+s.Name, "func(sum *float64, dy, x *float32, shift *float64, n int)", "is productsPortable.")
	out, dy, x, shift, n := parameter("sum"), parameter("dy"), parameter("x"), parameter("shift"), parameter("n")
	sums(s, out, n, []reg.GPVirtual{dy, x}, 2, func(half, disp int, acc, free func(int) reg.VecPhysical) {
		VCVTPS2PD(Mem{Base: dy, Disp: disp}, free(0))
		VCVTPS2PD(Mem{Base: x, Disp: disp}, free(1))
		VSUBPD(at(s, shift, half), free(1), free(1))
		VMULPD(free(0), free(1), free(1))
		VADDPD(free(0), acc(0), acc(0))
		VADDPD(free(1), acc(1), acc(1))
	})
}

func dot(s ISA) {
	Routine("dot"+s.Name, "func(sum *float64, a, b *float32, n int)", "is dotPortable.")
	out, a, b, n := parameter("sum"), parameter("a"), parameter("b"), parameter("n")
	sums(s, out, n, []reg.GPVirtual{a, b}, 1, func(_, disp int, acc, free func(int) reg.VecPhysical) {
		VCVTPS2PD(Mem{Base: a, Disp: disp}, free(0))
		VCVTPS2PD(Mem{Base: b, Disp: disp}, free(1))
		VMULPD(free(0), free(1), free(1))
		VADDPD(free(1), acc(0), acc(0))
	})
}

func normBackward(s ISA) {
	Routine("normBackward"+s.Name, "func(dx, dy, x, k *float32, n int, add bool)", "is normBackwardPortable.")
	dx, dy, x := parameter("dx"), parameter("dy"), parameter("x")
	k, n, add := parameter("k"), parameter("n"), flag("add")
	cols := s.Columns()
	row := func(r, i int) Mem { return at(s, k, r*cols+i%cols) }
	stream(s, 4, []reg.GPVirtual{dx, dy, x}, []int{64, 64, 64}, n, func(l labels, n int) {
		for i := range n {
			v, u := s.V(i), s.V(n+i%4)
			VMOVUPS(at(s, dy, i), v)
			VSUBPS(row(1, i), v, v)
			VMULPS(row(0, i), v, v)
			VMOVUPS(at(s, x, i), u)
			VSUBPS(row(3, i), u, u)
			VMULPS(row(2, i), u, u)
			VADDPS(u, v, v)
		}
		store(s, l, dx, add, n, s.V)
	})
}

func relu(s ISA) {
	Routine("relu"+s.Name, "func(dst, x *float32, n int)", "is reluPortable.")
	dst, x, n := parameter("dst"), parameter("x"), parameter("n")
	zero := s.V(15)
	s.Zero(zero)
	stream(s, 4, []reg.GPVirtual{dst, x}, []int{64, 64}, n, func(_ labels, n int) {
		for i := range n {
			// The second source wins if one is NaN or both are zero.
			VMAXPS(at(s, x, i), zero, s.V(i))
			VMOVUPS(s.V(i), at(s, dst, i))
		}
	})
}

func reluGrad(s ISA) {
	Routine("reluGrad"+s.Name, "func(dx, y, dy *float32, n int, add bool)", "is reluGradPortable.")
	const notLessOrEqual = 0x06 // true for NaN
	dx, y, dy, n, add := parameter("dx"), parameter("y"), parameter("dy"), parameter("n"), flag("add")
	zero := s.V(15)
	s.Zero(zero)
	stream(s, 4, []reg.GPVirtual{dx, y, dy}, []int{64, 64, 64}, n, func(l labels, n int) {
		for i := range n {
			v, m := s.V(i), s.V(n+i%4)
			VMOVUPS(at(s, y, i), m)
			if s.Wide() {
				VCMPPS(Imm(notLessOrEqual), zero, m, reg.K1)
				VMOVUPS_Z(at(s, dy, i), reg.K1, v)
			} else {
				VCMPPS(Imm(notLessOrEqual), zero, m, m)
				VANDPS(at(s, dy, i), m, v)
			}
		}
		store(s, l, dx, add, n, s.V)
	})
}

// or sets bits, 32 words at a time.
func or(s ISA) {
	Routine("or"+s.Name, "func(dst, src *uint16, n int)", "is orPortable.")
	dst, src, n := parameter("dst"), parameter("src"), parameter("n")
	SHRQ(Imm(5), n)
	stream(s, 4, []reg.GPVirtual{dst, src}, []int{64, 64}, n, func(_ labels, n int) {
		for i := range n {
			VMOVUPS(at(s, src, i), s.V(i))
			if s.Wide() {
				VPORD(at(s, dst, i), s.V(i), s.V(i))
			} else {
				VORPS(at(s, dst, i), s.V(i), s.V(i))
			}
			VMOVUPS(s.V(i), at(s, dst, i))
		}
	})
}

// sgd updates 16 weights an element.
func sgd(s ISA) {
	Routine("sgd"+s.Name, "func(w, dw, v *float32, k *sgdStep, n int, nesterov bool)", "is sgdPortable; n is a multiple of 16.")
	w, g, v, n, ahead := parameter("w"), parameter("dw"), parameter("v"), parameter("n"), flag("nesterov")
	k := parameter("k")
	top := s.Registers - 1
	lr, momentum, decay := s.V(top), s.V(top-1), s.V(top-2)
	VBROADCASTSS(Mem{Base: k}, lr)
	VBROADCASTSS(Mem{Base: k, Disp: 4}, momentum)
	VBROADCASTSS(Mem{Base: k, Disp: 8}, decay)
	SHRQ(Imm(4), n)
	group := 4
	if !s.Wide() {
		group = 2
	}
	stream(s, group, []reg.GPVirtual{w, g, v}, []int{64, 64, 64}, n, func(l labels, n int) {
		x := func(i int) reg.VecPhysical { return s.V(3 * i) }
		d := func(i int) reg.VecPhysical { return s.V(3*i + 1) }
		u := func(i int) reg.VecPhysical { return s.V(3*i + 2) }
		for i := range n {
			VMOVUPS(at(s, w, i), x(i))
			VMULPS(x(i), decay, d(i))
			VADDPS(at(s, g, i), d(i), d(i))
			VMULPS(at(s, v, i), momentum, u(i))
			VADDPS(d(i), u(i), u(i))
			VMOVUPS(u(i), at(s, v, i))
		}
		TESTQ(ahead, ahead)
		JZ(l.ref("move"))
		for i := range n {
			VMULPS(momentum, u(i), u(i))
			VADDPS(d(i), u(i), u(i))
		}
		l.set("move")
		for i := range n {
			VMULPS(lr, u(i), u(i))
			VSUBPS(u(i), x(i), x(i))
			VMOVUPS(x(i), at(s, w, i))
		}
	})
}

// adam updates 16 weights an element. Its divisions and roots, which are rounded
// correctly, bound it.
func adam(s ISA) {
	Routine("adam"+s.Name, "func(w, dw, m, v *float32, k *AdamStep, n int)", "is adamPortable; n is a multiple of 16.")
	w, dw, m, v, n := parameter("w"), parameter("dw"), parameter("m"), parameter("v"), parameter("n")
	k := parameter("k")
	constant := make([]reg.VecPhysical, 8)
	for i := range constant {
		constant[i] = s.V(s.Registers - 1 - i)
		VBROADCASTSS(Mem{Base: k, Disp: 4 * i}, constant[i])
	}
	beta1, beta2, rest1, rest2 := constant[0], constant[1], constant[2], constant[3]
	size, correction, eps, decay := constant[4], constant[5], constant[6], constant[7]
	SHRQ(Imm(4), n)
	stream(s, 1, []reg.GPVirtual{w, dw, m, v}, []int{64, 64, 64, 64}, n, func(_ labels, n int) {
		x, d, a, b, square := s.V(0), s.V(1), s.V(2), s.V(3), s.V(4)
		for i := range n {
			VMOVUPS(at(s, w, i), x)
			VMULPS(x, decay, d)
			VADDPS(at(s, dw, i), d, d)
			VMULPS(d, d, square)
			VMULPS(rest2, square, square)
			VMULPS(at(s, v, i), beta2, b)
			VADDPS(square, b, b)
			VMULPS(d, rest1, d)
			VMULPS(at(s, m, i), beta1, a)
			VADDPS(d, a, a)
			VMOVUPS(a, at(s, m, i))
			VMOVUPS(b, at(s, v, i))
			VSQRTPS(b, b)
			VDIVPS(correction, b, b)
			VADDPS(eps, b, b)
			VMULPS(size, a, a)
			VDIVPS(b, a, a)
			VSUBPS(a, x, x)
			VMOVUPS(x, at(s, w, i))
		}
	})
}

// broadcast fills v with a float32 parameter.
func broadcast(name string, v reg.VecPhysical) reg.VecPhysical {
	address, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(address.Addr, v)
	return v
}

func extrapolate(s ISA) {
	Routine("extrapolate"+s.Name, "func(dst, x *float32, beta float32, n int)", "is extrapolatePortable; n is a multiple of 16.")
	dst, x, n := parameter("dst"), parameter("x"), parameter("n")
	beta := broadcast("beta", s.V(s.Registers-1))
	SHRQ(Imm(4), n)
	stream(s, 4, []reg.GPVirtual{dst, x}, []int{64, 64}, n, func(_ labels, n int) {
		for i := range n {
			v, d := s.V(i%4), s.V(4+i%4)
			VMOVUPS(at(s, x, i), v)
			VSUBPS(at(s, dst, i), v, d)
			VMULPS(beta, d, d)
			VADDPS(d, v, v)
			VMOVUPS(v, at(s, dst, i))
		}
	})
}

func combine(s ISA) {
	Routine("combine"+s.Name, "func(dst, x, y *float32, a, b float32, n int)", "is combinePortable; n is a multiple of 16.")
	dst, x, y, n := parameter("dst"), parameter("x"), parameter("y"), parameter("n")
	a, b := broadcast("a", s.V(s.Registers-1)), broadcast("b", s.V(s.Registers-2))
	SHRQ(Imm(4), n)
	group := 4
	if !s.Wide() {
		group = 2 // two registers a vector
	}
	stream(s, group, []reg.GPVirtual{dst, x, y}, []int{64, 64, 64}, n, func(_ labels, n int) {
		for i := range n {
			u, v := s.V(2*i), s.V(2*i+1)
			VMULPS(at(s, x, i), a, u)
			VMULPS(at(s, y, i), b, v)
			VADDPS(u, v, v)
			VMOVUPS(v, at(s, dst, i))
		}
	})
}
