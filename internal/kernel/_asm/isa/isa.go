// Package isa is what the generators share: instruction sets, their registers, and
// access to the argument blocks of routines.
package isa

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// ISA is an instruction set: its name, the bytes of a vector and the number of
// vector registers.
type ISA struct {
	Name      string
	Bytes     int
	Registers int
}

// The instruction sets that routines are generated for.
var (
	AVX2   = ISA{"AVX2", 32, 16}
	AVX512 = ISA{"AVX512", 64, 32}
	All    = []ISA{AVX2, AVX512}
)

var zs = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
	reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}

var ys = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
	reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}

// Wide reports whether a block of 16 channels is one vector.
func (s ISA) Wide() bool { return s.Bytes == 64 }

// Columns is the number of vectors of a block of 16 channels.
func (s ISA) Columns() int { return 64 / s.Bytes }

// V returns vector register i.
func (s ISA) V(i int) reg.VecPhysical {
	if s.Wide() {
		return zs[i]
	}
	return ys[i]
}

// Half returns the register of half the width that is the low half of r.
func (s ISA) Half(r reg.VecPhysical) reg.VecPhysical {
	if s.Wide() {
		return r.AsY().(reg.VecPhysical)
	}
	return r.AsX().(reg.VecPhysical)
}

// Zero clears r.
func (s ISA) Zero(r reg.VecPhysical) {
	if s.Wide() {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

// Copy copies src to dst.
func (s ISA) Copy(src, dst reg.VecPhysical) { VMOVAPS(src, dst) }

// And clears the bits of r that m lacks.
func (s ISA) And(m Op, r reg.VecPhysical) {
	if s.Wide() {
		VPANDD(m, r, r)
	} else {
		VANDPS(m, r, r)
	}
}

// Args is a routine's argument block, reached through one register.
type Args struct{ c gotypes.Component }

// Block returns the block that the named parameter points to.
func Block(param string) Args { return Args{Dereference(Param(param))} }

// Mem is the memory operand of a field.
func (a Args) Mem(field string) Mem {
	b, err := a.c.Field(field).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// Vector is the memory operand of a field of vectors within a field of structs.
func (a Args) Vector(field, inner string) Mem {
	b, err := a.c.Field(field).Field(inner).Index(0).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// Load puts a field of 64 bits into a new register.
func (a Args) Load(field string) reg.GPVirtual {
	r := GP64()
	MOVQ(a.Mem(field), r)
	return r
}

// Routine begins a function whose stub has the given signature and comment.
func Routine(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + " " + doc)
}
