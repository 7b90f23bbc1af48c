package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
)

// reg is a general register, vec a vector register.
type (
	reg int
	vec int
)

func (r reg) String() string { return fmt.Sprintf("R%d", int(r)) }
func (v vec) String() string { return fmt.Sprintf("V%d", int(v)) }

// f names the register as loads, stores and scalar instructions do.
func (v vec) f() string { return fmt.Sprintf("F%d", int(v)) }

// b, h and s name the register with its lanes.
func (v vec) b() string { return fmt.Sprintf("V%d.B16", int(v)) }
func (v vec) h() string { return fmt.Sprintf("V%d.H8", int(v)) }
func (v vec) s() string { return fmt.Sprintf("V%d.S4", int(v)) }

// from returns n general registers in ascending order. R18, R27 and those above belong to
// the platform, the assembler and Go.
func from(first reg, n int) []reg {
	var rs []reg
	for r := first; len(rs) < n; r++ {
		if r == 18 {
			continue
		}
		if r > 26 {
			panic("too many registers")
		}
		rs = append(rs, r)
	}
	return rs
}

// vectors returns n vector registers in ascending order.
func vectors(first vec, n int) []vec {
	vs := make([]vec, n)
	for i := range vs {
		vs[i] = first + vec(i)
	}
	return vs
}

var (
	text, stubs bytes.Buffer
	kernel      *types.Package // the argument blocks
	sizes       = types.SizesFor("gc", "arm64")
	params      map[string]int // offsets of the routine's parameters
)

// load type-checks the files with the argument blocks, and these alone, so that the generator
// runs however broken the package is.
func load(files ...string) error {
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range files {
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return err
		}
		parsed = append(parsed, f)
	}
	var err error
	kernel, err = (&types.Config{Importer: onlyUnsafe{}, Sizes: sizes}).Check("kernel", set, parsed, nil)
	return err
}

type onlyUnsafe struct{}

func (onlyUnsafe) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	return nil, fmt.Errorf("%s is imported: expected only unsafe", path)
}

// routine begins a function with the given signature and comment.
func routine(name, signature, doc string) {
	sig, err := types.Eval(token.NewFileSet(), kernel, token.NoPos, signature)
	if err != nil {
		panic(err)
	}
	vars := sig.Type.(*types.Signature).Params()
	params = map[string]int{}
	size := 0
	for i := range vars.Len() {
		v := vars.At(i)
		align := int(sizes.Alignof(v.Type()))
		size = (size + align - 1) / align * align
		params[v.Name()] = size
		size += int(sizes.Sizeof(v.Type()))
	}
	fmt.Fprintf(&stubs, "\n// %s %s\n//\n//go:noescape\n%s\n", name, doc, strings.Replace(signature, "func", "func "+name, 1))
	fmt.Fprintf(&text, "\n// %s\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", strings.Replace(signature, "func", "func "+name, 1), name, size)
}

// param is the operand of a parameter.
func param(name string) string {
	at, ok := params[name]
	if !ok {
		panic("no parameter " + name)
	}
	return fmt.Sprintf("%s+%d(FP)", name, at)
}

// args is an argument block of a type, whose address is in base.
type args struct {
	base reg
	typ  string
}

// block loads the address of the block that the named parameter points to.
func block(name, typ string, base reg) args {
	op("MOVD %s, %v", param(name), base)
	return args{base, typ}
}

// offset returns the offset of a field, or of a field of a struct field: "k.one".
func (a args) offset(field string) int64 {
	at := int64(0)
	typ := kernel.Scope().Lookup(a.typ).Type()
	for name := range strings.SplitSeq(field, ".") {
		s := typ.Underlying().(*types.Struct)
		var fields []*types.Var
		index := -1
		for i := range s.NumFields() {
			fields = append(fields, s.Field(i))
			if s.Field(i).Name() == name {
				index = i
			}
		}
		if index < 0 {
			panic(a.typ + " has no field " + field)
		}
		at += sizes.Offsetsof(fields)[index]
		typ = s.Field(index).Type()
	}
	return at
}

// mem is the operand of a field.
func (a args) mem(field string) string { return fmt.Sprintf("%d(%v)", a.offset(field), a.base) }

// load puts a field of 64 bits into r.
func (a args) load(field string, r reg) { op("MOVD %s, %v", a.mem(field), r) }

// op writes an instruction of Go's assembler.
func op(format string, a ...any) { fmt.Fprintf(&text, "\t"+format+"\n", a...) }

// label writes a label. Labels are local to their routine.
func label(name string) { fmt.Fprintf(&text, "\n%s:\n", name) }

// word writes an instruction as its encoding, with the mnemonic as a disassembler prints it.
func word(code uint32, format string, a ...any) {
	fmt.Fprintf(&text, "\tWORD $0x%08x // %s\n", code, fmt.Sprintf(format, a...))
}

// three is an instruction of two sources, d = n op m.
type three struct {
	name string
	code uint32
}

func (t three) do(d, n, m vec) {
	name, lanes, _ := strings.Cut(t.name, ".")
	word(t.code|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s\tv%d.%s, v%d.%s, v%d.%s", name, d, lanes, n, lanes, m, lanes)
}

// Instructions that Go's assembler does not know, of four float32 lanes unless the name says
// 2d.
var (
	fadd   = three{"fadd.4s", 0x4e20d400}.do
	fsub   = three{"fsub.4s", 0x4ea0d400}.do
	fmul   = three{"fmul.4s", 0x6e20dc00}.do
	fdiv   = three{"fdiv.4s", 0x6e20fc00}.do
	fmax   = three{"fmax.4s", 0x4e20f400}.do // NaN if either is
	fmla   = three{"fmla.4s", 0x4e20cc00}.do
	faddp  = three{"faddp.4s", 0x6e20d400}.do
	fcmge  = three{"fcmge.4s", 0x6e20e400}.do
	fcmgt  = three{"fcmgt.4s", 0x6ea0e400}.do
	fcmeq  = three{"fcmeq.4s", 0x4e20e400}.do
	bic    = three{"bic.16b", 0x4e601c00}.do
	fadd2d = three{"fadd.2d", 0x4e60d400}.do
	fsub2d = three{"fsub.2d", 0x4ee0d400}.do
	fmul2d = three{"fmul.2d", 0x6e60dc00}.do
)

// two is an instruction of one source; d and n are their lanes.
type two struct {
	name string
	code uint32
	d, n string
}

func (t two) do(d, n vec) {
	word(t.code|uint32(n)<<5|uint32(d), "%s\t%s, %s", t.name, fmt.Sprintf(t.d, d), fmt.Sprintf(t.n, n))
}

var (
	fabs   = two{"fabs", 0x4ea0f800, "v%d.4s", "v%d.4s"}.do
	fsqrt  = two{"fsqrt", 0x6ea1f800, "v%d.4s", "v%d.4s"}.do
	fmaxv  = two{"fmaxv", 0x6e30f800, "s%d", "v%d.4s"}.do // NaN if a lane is
	scvtf  = two{"scvtf", 0x4e21d800, "v%d.4s", "v%d.4s"}.do
	fneg   = two{"fneg", 0x6ea0f800, "v%d.4s", "v%d.4s"}.do
	fcvtl  = two{"fcvtl", 0x0e617800, "v%d.2d", "v%d.2s"}.do
	fcvtl2 = two{"fcvtl2", 0x4e617800, "v%d.2d", "v%d.4s"}.do
)

// less0, atMost0 and equal0 set the mask d of the lanes of n that are < 0, ≤ 0 and = 0.
var (
	less0   = two{"fcmlt", 0x4ea0e800, "v%d.4s", "v%d.4s, #0.0"}.do
	atMost0 = two{"fcmle", 0x6ea0d800, "v%d.4s", "v%d.4s, #0.0"}.do
	equal0  = two{"fcmeq", 0x4ea0d800, "v%d.4s", "v%d.4s, #0.0"}.do
)

// fmlaLane adds n times lane 0 of m to d, fmulLane writes the product.
func fmlaLane(d, n, m vec) {
	word(0x4f801000|uint32(m)<<16|uint32(n)<<5|uint32(d), "fmla\tv%d.4s, v%d.4s, v%d.s[0]", d, n, m)
}

func fmulLane(d, n, m vec) {
	word(0x4f809000|uint32(m)<<16|uint32(n)<<5|uint32(d), "fmul\tv%d.4s, v%d.4s, v%d.s[0]", d, n, m)
}

// loads fills registers that follow each other from memory at base, 16 bytes each.
func loads(base reg, at int, vs ...vec) {
	for i := 0; i+1 < len(vs); i += 2 {
		op("FLDPQ %d(%v), (%s, %s)", at+16*i, base, vs[i].f(), vs[i+1].f())
	}
	if n := len(vs); n%2 == 1 {
		op("FMOVQ %d(%v), %s", at+16*(n-1), base, vs[n-1].f())
	}
}

// stores is the inverse of loads.
func stores(base reg, at int, vs ...vec) {
	for i := 0; i+1 < len(vs); i += 2 {
		op("FSTPQ (%s, %s), %d(%v)", vs[i].f(), vs[i+1].f(), at+16*i, base)
	}
	if n := len(vs); n%2 == 1 {
		op("FMOVQ %s, %d(%v)", vs[n-1].f(), at+16*(n-1), base)
	}
}

// zero clears registers.
func zero(vs ...vec) {
	for _, v := range vs {
		op("VEOR %s, %s, %s", v.b(), v.b(), v.b())
	}
}

// lowest puts the number of the lowest set bit of mask into i and clears that bit.
func lowest(mask, i reg) {
	op("RBIT %v, %v", mask, i)
	op("CLZ %v, %v", i, i)
	op("SUB $1, %v, R26", mask)
	op("AND R26, %v, %v", mask, mask)
}
