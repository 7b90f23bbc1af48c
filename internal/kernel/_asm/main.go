// Command _asm writes the assembly of package kernel.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/gotypes"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set: its name, the bytes of a vector and the number of
// vector registers.
type isa struct {
	name      string
	bytes     int
	registers int
}

var isas = []isa{{"AVX2", 32, 16}, {"AVX512", 64, 32}}

// v returns vector register i.
func (s isa) v(i int) reg.VecPhysical {
	if s.bytes == 64 {
		return zs[i]
	}
	return ys[i]
}

var zs = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
	reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}

var ys = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
	reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15}

func (s isa) zero(r reg.VecPhysical) {
	if s.bytes == 64 {
		VPXORD(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
}

func main() {
	// The file alone, so that the generator runs however broken the package is.
	Package("../args.go")
	ConstraintExpr("!purego")
	for _, s := range isas {
		tile(s)
		gather(s, floats)
		for _, multiply := range []bool{false, true} {
			scatter3(s, floats, multiply, 1)
			if s.registers == 32 {
				scatter3(s, floats, multiply, 2)
			}
		}
		outer3(s, false)
		outer3(s, true)
		sampled3(s)
		groupValues(s)
		if s.name == "AVX2" { // AVX-512 uses them too
			winograd(s)
			gather(s, ints)
			scatter3(s, ints, false, 1)
			scatter3(s, pairs, true, 1)
			expandInts()
			widenInts()
			neuronsInts()
			tileInts()
		}
		peak(s)
	}
	transposeAVX512()
	transposeAVX2()
	bitsAVX512()
	bitsAVX2()
	Generate()
}

// args is a routine's argument block, reached through one register.
type args struct{ c gotypes.Component }

func argBlock() args { return args{Dereference(Param("a"))} }

// mem is the memory operand of a field.
func (a args) mem(field string) Op {
	b, err := a.c.Field(field).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// load puts a field into a new register.
func (a args) load(field string) reg.GPVirtual {
	r := GP64()
	MOVQ(a.mem(field), r)
	return r
}

// setEnd notes where the list of offsets ends.
func (a args) setEnd() {
	end := a.load("count")
	SHLQ(Imm(4), end)
	ADDQ(a.mem("offsets"), end)
	MOVQ(end, a.mem("end"))
}

// routine begins a function whose stub has the given signature and comment.
func routine(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(name + " " + doc)
}
