// Command lanes writes the routines of package kernel that work lane by lane.
package main

import (
	"fmt"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

func main() {
	// The file alone, so that the generator runs however broken the package is.
	Package("../laneargs.go")
	ConstraintExpr("!purego")
	constants()
	randomConstants()
	makeSlopeConstants()
	for _, s := range All {
		neuronForward(s)
		neuronSupport(s)
		neuronMembranes(s)
		neuronBackward(s)
		glifForward(s)
		glifSupport(s)
		glifReplay(s)
		glifBackward(s)
		if !s.Wide() {
			plainForward()
			plainReplay()
			plainBackward()
		}
		scale(s)
		mask(s)
		affine(s)
		if !s.Wide() {
			halve(s)
			limits(s)
			draw(s)
		}
		sum(s)
		squares(s)
		products(s)
		dot(s)
		normBackward(s)
		relu(s)
		reluGrad(s)
		or(s)
		count(s)
		average(s)
		spread(s)
		largest(s)
		sgd(s)
		adam(s)
		extrapolate(s)
		combine(s)
		chacha8(s)
		sigmoidSlope(s)
		exponentialSlope(s)
		gaussianSlope(s)
		arctanSlope(s)
		fastSigmoidSlope(s)
		triangleSlope(s)
		adaptiveSlope(s)
	}
	Generate()
}

// laneBits has the bit of lane i in element i, absMask all bits but the sign.
var laneBits, absMask Mem

func constants() {
	laneBits = GLOBL("laneBits", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(1<<i))
	}
	absMask = GLOBL("absMask", RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(0x7fffffff))
	}
}

// labels makes names of labels unique within a routine.
type labels string

func (l labels) set(name string) { Label(string(l) + name) }
func (l labels) ref(name string) LabelRef {
	return LabelRef(string(l) + name)
}

// fires sets the mask of the lanes of column col whose bit is set in the word at
// m: k1 at AVX-512, the register v at AVX2.
func fires(s ISA, m Mem, col int, v reg.VecPhysical) {
	if s.Wide() {
		KMOVW(m, reg.K1)
		return
	}
	bits := laneBits.Offset(32 * col)
	VPBROADCASTW(m, v)
	VPAND(bits, v, v)
	VPCMPEQD(bits, v, v)
}

// reset resets the membrane m where fires has said, v being a register to spare
// at AVX-512.
func reset(s ISA, soft bool, m, v, threshold reg.VecPhysical) {
	switch {
	case s.Wide() && soft:
		VSUBPS(threshold, m, reg.K1, m)
	case s.Wide():
		VPXORD(m, m, reg.K1, m)
	case soft:
		VANDPS(threshold, v, v)
		VSUBPS(v, m, m)
	default:
		VANDNPS(m, v, m)
	}
}

// groups emits body for n pixels at a time while there are as many, and then for
// one at a time. pixels is counted down; body must advance its pointers. within makes labels
// unique.
func groups(within labels, n int, pixels reg.GPVirtual, body func(l labels, n int)) {
	for _, k := range slices.Compact([]int{n, 1}) {
		l := labels(fmt.Sprintf("%spx%d", within, k))
		l.set("more")
		CMPQ(pixels, Imm(uint64(k)))
		JLT(l.ref("done"))
		body(l, k)
		SUBQ(Imm(uint64(k)), pixels)
		JMP(l.ref("more"))
		l.set("done")
	}
}
