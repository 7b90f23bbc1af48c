package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	. "github.com/org/snnrat/internal/kernel/_asm/isa"
)

// pointer is a field of neuronRun that points to vectors, or words, of every pixel
// and step, and the field with its stride from step to step.
type pointer struct{ field, step string }

// scan is a loop over steps and, within a step, pixels.
type scan struct {
	s      ISA
	a      Args
	at     map[string]reg.GPVirtual // pointers at the step
	px     reg.GPVirtual            // the pixel
	bytes  reg.GPVirtual            // the pixel in bytes of vectors
	labels int                      // made so far
	next   reg.GPVirtual            // as bytes, one step on, or a run on after the last
	soon   bool                     // whether the arguments have what next is after the last

	// A step goes over the pixels once, for all columns. If enter is set, it goes over them
	// once for each column, between enter and leave, and a vector is that column of its pixel.
	enter, leave func()
	column       int
}

// disp is where vector i of the group lies, from the group's first pixel. A group has all
// columns of a pixel side by side.
func (c *scan) disp(i int) int {
	if c.enter != nil {
		return 64*i + c.column*c.s.Bytes
	}
	return i * c.s.Bytes
}

// mem is where vector i of the group lies.
func (c *scan) mem(field string, i int) Mem {
	return Mem{Base: c.at[field], Index: c.bytes, Scale: 1, Disp: c.disp(i)}
}

// prefetch asks for what the next step will read of a field, or write.
func (c *scan) prefetch(field string, i int) {
	if c.disp(i)%64 == 0 {
		PREFETCHT0(Mem{Base: c.at[field], Index: c.next, Scale: 1, Disp: c.disp(i)})
	}
}

// word is where the word of vector i's pixel lies, or the column's byte of it.
func (c *scan) word(i int) Mem {
	return Mem{Base: c.at["s"], Index: c.px, Scale: 2, Disp: c.disp(i)/64*2 + c.column}
}

// run emits the loops. State lies at the same place at every step. Body gets the
// number of vectors of a group. Memory is prefetched with the stride of a field.
func (c *scan) run(back bool, ahead string, ps []pointer, state []string, group int, body func(l labels, n int), end func()) {
	c.at = map[string]reg.GPVirtual{}
	left := c.a.Load("steps")
	for _, p := range ps {
		c.at[p.field] = c.a.Load(p.field)
		if back { // start at the last step
			last := GP64()
			LEAQ(Mem{Base: left, Disp: -1}, last)
			IMULQ(c.a.Mem(p.step), last)
			ADDQ(last, c.at[p.field])
		}
	}
	for _, f := range state {
		c.at[f] = c.a.Load(f)
	}
	c.px, c.bytes, c.next = GP64(), GP64(), GP64()
	Label("step")
	MOVQ(c.a.Mem(ahead), c.next)
	if back {
		NEGQ(c.next)
	}
	CMPQ(left, Imm(1))
	JNE(LabelRef("prefetch"))
	if c.soon {
		MOVQ(c.a.Mem("soon"), c.next)
	} else {
		MOVQ(c.a.Mem("steps"), c.px)
		DECQ(c.px)
		NEGQ(c.px)
		IMULQ(c.px, c.next)
		MOVQ(c.a.Mem("pixels"), c.px)
		SHLQ(Imm(6), c.px)
		ADDQ(c.px, c.next)
	}
	Label("prefetch")
	passes, perPixel := 1, c.s.Columns()
	if c.enter != nil {
		passes, perPixel = perPixel, 1
	}
	for c.column = range passes {
		var within labels
		if passes > 1 {
			within = labels(fmt.Sprintf("column%d", c.column))
		}
		XORQ(c.px, c.px)
		XORQ(c.bytes, c.bytes)
		pixels := c.a.Load("pixels")
		if c.enter != nil {
			c.enter()
		}
		groups(within, group, pixels, func(l labels, n int) {
			body(l, n*perPixel)
			ADDQ(Imm(uint64(n)), c.px)
			ADDQ(U32(uint32(n*64)), c.bytes)
			if c.column == 0 {
				ADDQ(U32(uint32(n*64)), c.next)
			}
		})
		if c.leave != nil {
			c.leave()
		}
	}
	for _, p := range ps {
		if back {
			SUBQ(c.a.Mem(p.step), c.at[p.field])
		} else {
			ADDQ(c.a.Mem(p.step), c.at[p.field])
		}
	}
	DECQ(left)
	JNZ(LabelRef("step"))
	end()
	VZEROUPPER()
	RET()
}

// constant returns the register with a constant, counted from the last.
func (c *scan) constant(i int) reg.VecPhysical { return c.s.V(c.s.Registers - 1 - i) }

func (c *scan) broadcast(i int, field string) reg.VecPhysical {
	VBROADCASTSS(c.a.Mem(field), c.constant(i))
	return c.constant(i)
}

// membranes emits the update of the membranes, which fn gets before their reset, in
// m, with a register to spare, v. fn must reset them; the state is stored after.
func membranes(s ISA, ps []pointer, fn func(c *scan, l labels, i int, m, v, threshold reg.VecPhysical, soft bool), end func(c *scan)) {
	c := &scan{s: s, a: Block("r")}
	leak, threshold := c.broadcast(0, "leak"), c.broadcast(1, "threshold")
	pa, pb := c.a.Load("a"), c.a.Load("b")
	cols := s.Columns()
	ca := func(i int) reg.VecPhysical { return c.constant(2 + i%cols) }
	cb := func(i int) reg.VecPhysical { return c.constant(2 + cols + i%cols) }
	for i := range cols {
		VMOVUPS(Mem{Base: pa, Disp: i * s.Bytes}, ca(i))
		VMOVUPS(Mem{Base: pb, Disp: i * s.Bytes}, cb(i))
	}
	c.run(false, "xStep", ps, []string{"state"}, 4, func(l labels, n int) {
		CMPL(c.a.Mem("soft"), Imm(0))
		JNE(l.ref("soft"))
		for _, soft := range []bool{false, true} {
			ls := l
			if soft {
				l.set("soft")
				ls += "soft"
			}
			for i := range n {
				m, v := s.V(i%4*2), s.V(i%4*2+1)
				c.prefetch("x", i)
				VMULPS(c.mem("x", i), ca(i), v)
				VADDPS(cb(i), v, v)
				VMULPS(c.mem("state", i), leak, m)
				VADDPS(v, m, m)
				fn(c, ls, i, m, v, threshold, soft)
				VMOVUPS(m, c.mem("state", i))
			}
			if !soft {
				JMP(l.ref("next"))
			}
		}
		l.set("next")
	}, func() { end(c) })
}

// nothing is an end of membranes that has nothing to do.
func nothing(*scan) {}

// Comparisons for VCMPPS.
const (
	greaterOrEqual    = 0x0d // false for NaN
	notGreaterOrEqual = 0x19 // true for NaN
)

func neuronForward(s ISA) {
	Routine("neuronForward"+s.Name, "func(r *neuronRun)", "is neuronForwardPortable.")
	low, high := GP32(), GP32()
	check := s.V(8)
	s.Zero(check)
	or := func(a Op, r reg.VecPhysical) {
		if s.Wide() {
			VPORD(a, r, r)
		} else {
			VORPS(a, r, r)
		}
	}
	membranes(s, []pointer{{"x", "xStep"}, {"s", "sStep"}},
		func(c *scan, _ labels, i int, m, v, threshold reg.VecPhysical, soft bool) {
			VSUBPS(m, m, v) // NaN or zero; a sum of them would be a chain of latencies
			or(v, check)
			if s.Wide() {
				VCMPPS(Imm(greaterOrEqual), threshold, m, reg.K1)
				KMOVW(reg.K1, c.word(i))
			} else {
				VCMPPS(Imm(greaterOrEqual), threshold, m, v)
				c.storeWord(i, v, low, high)
			}
			reset(s, soft, m, v, threshold)
		}, func(c *scan) {
			p := c.a.Load("check")
			or(Mem{Base: p}, check)
			VMOVUPS(check, Mem{Base: p})
		})
}

// storeWord stores the signs of vector i, v, as half of its pixel's word at AVX2.
func (c *scan) storeWord(i int, v reg.VecPhysical, low, high reg.GPVirtual) {
	if i%2 == 0 {
		VMOVMSKPS(v, low)
		return
	}
	VMOVMSKPS(v, high)
	SHLL(Imm(8), high)
	ORL(low, high)
	MOVW(high.As16(), c.word(i))
}

func neuronSupport(s ISA) {
	Routine("neuronSupport"+s.Name, "func(r *neuronRun)", "is neuronSupportPortable.")
	low, high := GP32(), GP32()
	width := s.V(8)
	membranes(s, []pointer{{"x", "xStep"}, {"s", "sStep"}},
		func(c *scan, _ labels, i int, m, v, threshold reg.VecPhysical, soft bool) {
			VBROADCASTSS(c.a.Mem("width"), width)
			VSUBPS(threshold, m, v)
			s.And(absMask, v)
			if s.Wide() {
				VCMPPS(Imm(notGreaterOrEqual), width, v, reg.K1)
				KMOVW(reg.K1, c.word(i))
				VCMPPS(Imm(greaterOrEqual), threshold, m, reg.K1)
			} else {
				VCMPPS(Imm(notGreaterOrEqual), width, v, v)
				c.storeWord(i, v, low, high)
				VCMPPS(Imm(greaterOrEqual), threshold, m, v)
			}
			reset(s, soft, m, v, threshold)
		}, nothing)
}

func neuronMembranes(s ISA) {
	Routine("neuronMembranes"+s.Name, "func(r *neuronRun)", "is neuronMembranesPortable.")
	membranes(s, []pointer{{"x", "xStep"}, {"s", "sStep"}, {"mem", "memStep"}, {"slope", "memStep"}},
		func(c *scan, l labels, i int, m, v, threshold reg.VecPhysical, soft bool) {
			VMOVUPS(m, c.mem("mem", i))
			inline := fmt.Sprintf("inline%d", i)
			CMPQ(c.a.Mem("slope"), Imm(0))
			JE(l.ref(inline))
			VSUBPS(threshold, m, v)
			VMOVUPS(v, c.mem("slope", i))
			l.set(inline)
			fires(s, c.word(i), i%s.Columns(), v)
			reset(s, soft, m, v, threshold)
		}, nothing)
}

// neuronBackward does three temporaries' worth of work on each vector of a group,
// in phases that branch on what the arguments ask for.
func neuronBackward(s ISA) {
	Routine("neuronBackward"+s.Name, "func(r *neuronRun)", "is neuronBackwardPortable.")
	c := &scan{s: s, a: Block("r")}
	a := c.a
	leak, threshold := c.broadcast(0, "leak"), c.broadcast(1, "threshold")
	width, height := c.broadcast(2, "width"), c.broadcast(3, "height")
	group := 4
	if !s.Wide() {
		group = 2
	}
	if s.Wide() {
		load := func(m Mem, r reg.VecPhysical) { VMOVUPD(m, r) }
		c.eachSum("sums", 4, load)
		c.eachSum("mean", 2, load)
	}
	p := func(i int) reg.VecPhysical { return s.V(3 * i) }
	u := func(i int) reg.VecPhysical { return s.V(3*i + 1) }
	g := func(i int) reg.VecPhysical { return s.V(3*i + 2) }
	row := func(r reg.GPVirtual, i int) Mem { return Mem{Base: r, Disp: i % s.Columns() * s.Bytes} }
	ps := []pointer{{"x", "xStep"}, {"s", "sStep"}, {"mem", "memStep"}, {"slope", "memStep"}, {"dout", "doutStep"}, {"dx", "dxStep"}}
	c.run(true, "doutStep", ps, []string{"state"}, group, func(l labels, n int) {
		each := func(fn func(i int)) {
			for i := range n {
				fn(i)
			}
		}
		unless := func(field, to string) {
			CMPQ(a.Mem(field), Imm(0))
			JE(l.ref(to))
		}
		flag := func(field, to string) {
			CMPL(a.Mem(field), Imm(0))
			JNE(l.ref(to))
		}

		// u = φ
		each(func(i int) { VMOVUPS(c.mem("mem", i), p(i)) })
		unless("slope", "triangle")
		each(func(i int) { VMOVUPS(c.mem("slope", i), u(i)) })
		JMP(l.ref("spikes"))
		l.set("triangle")
		s.Zero(g(0))
		each(func(i int) {
			VSUBPS(threshold, p(i), u(i))
			s.And(absMask, u(i))
			VSUBPS(u(i), width, u(i))
			VMAXPS(u(i), g(0), u(i)) // NaN stays
			VMULPS(height, u(i), u(i))
		})

		// g = ∂s
		l.set("spikes")
		each(func(i int) {
			c.prefetch("dout", i)
			VMOVUPS(c.mem("dout", i), g(i))
		})
		flag("detach", "detached")
		flag("soft", "soft")
		each(func(i int) {
			VMULPS(c.mem("state", i), p(i), p(i))
			VSUBPS(p(i), g(i), g(i))
		})
		JMP(l.ref("detached"))
		l.set("soft")
		each(func(i int) {
			VMULPS(c.mem("state", i), threshold, p(i))
			VSUBPS(p(i), g(i), g(i))
		})

		// g = ∂p
		l.set("detached")
		each(func(i int) { VMULPS(u(i), g(i), g(i)) })
		flag("soft", "all")
		each(func(i int) {
			fires(s, c.word(i), i%s.Columns(), p(i))
			if s.Wide() {
				KNOTW(reg.K1, reg.K1)
				VADDPS(c.mem("state", i), g(i), reg.K1, g(i))
			} else {
				// A blend: adding zero would turn −0 into +0.
				VADDPS(c.mem("state", i), g(i), u(i))
				VBLENDVPS(p(i), g(i), u(i), g(i))
			}
		})
		JMP(l.ref("passed"))
		l.set("all")
		each(func(i int) { VADDPS(c.mem("state", i), g(i), g(i)) })
		l.set("passed")
		each(func(i int) {
			VMULPS(g(i), leak, p(i))
			VMOVUPS(p(i), c.mem("state", i))
		})

		unless("total", "added")
		total := a.Load("total")
		each(func(i int) {
			m := Mem{Base: total, Index: c.bytes, Scale: 1, Disp: i * s.Bytes}
			VADDPS(m, g(i), p(i))
			VMOVUPS(p(i), m)
		})
		l.set("added")
		unless("sums", "summed")
		c.sums(n, g)
		l.set("summed")

		unless("dx", "stored")
		scale := a.Load("scale")
		each(func(i int) { c.prefetch("dx", i) })
		each(func(i int) { VMULPS(row(scale, i), g(i), g(i)) })
		CMPL(a.Mem("add"), Imm(0))
		JE(l.ref("store"))
		each(func(i int) { VADDPS(c.mem("dx", i), g(i), g(i)) })
		l.set("store")
		each(func(i int) { VMOVUPS(g(i), c.mem("dx", i)) })
		l.set("stored")
	}, func() {
		if s.Wide() {
			c.eachSum("sums", 4, func(m Mem, r reg.VecPhysical) { VMOVUPD(r, m) })
		}
	})
}

// At AVX-512 the sums stay in registers from 12 on, the mean in the two after them.
const firstSum = 12

// eachSum calls fn with n vectors of a field, if it is set, and the registers that
// they stay in.
func (c *scan) eachSum(field string, n int, fn func(m Mem, r reg.VecPhysical)) {
	first := firstSum
	if field == "mean" {
		first += 4
	}
	p := c.a.Load(field)
	TESTQ(p, p)
	label := fmt.Sprintf("no%s%d", field, c.labels)
	c.labels++
	JZ(LabelRef(label))
	for i := range n {
		fn(at(c.s, p, i), c.s.V(first+i))
	}
	Label(label)
}

// sums adds the n vectors g, and their products with x − mean, in float64.
func (c *scan) sums(n int, g func(i int) reg.VecPhysical) {
	s := c.s
	add := func(i, half int, sum, dot, free0, free1 reg.VecPhysical, mean Op) {
		x := c.mem("x", i)
		x.Disp += half * s.Bytes / 2
		switch {
		case half == 0:
			VCVTPS2PD(s.Half(g(i)), free0)
		case s.Wide():
			VEXTRACTF64X4(Imm(1), g(i), s.Half(free0))
			VCVTPS2PD(s.Half(free0), free0)
		default:
			VEXTRACTF128(Imm(1), g(i), s.Half(free0))
			VCVTPS2PD(s.Half(free0), free0)
		}
		VCVTPS2PD(x, free1)
		VSUBPD(mean, free1, free1)
		VMULPD(free0, free1, free1)
		VADDPD(free0, sum, sum)
		VADDPD(free1, dot, dot)
	}
	if s.Wide() {
		for i := range 2 * n {
			half := i % 2
			add(i/2, half, s.V(firstSum+half), s.V(firstSum+2+half), s.V(18+i%4*2), s.V(19+i%4*2), s.V(firstSum+4+half))
		}
		return
	}
	// There is no register for them: once a group, and a half vector at a time.
	var free []reg.VecPhysical
	for r := range 12 {
		if r%3 != 2 || r/3 >= n {
			free = append(free, s.V(r))
		}
	}
	sums, mean := c.a.Load("sums"), c.a.Load("mean")
	for h := range 4 {
		sum, dot := free[0], free[1]
		VMOVUPD(at(s, sums, h), sum)
		VMOVUPD(at(s, sums, 4+h), dot)
		for i := h / 2; i < n; i += 2 {
			add(i, h%2, sum, dot, free[2+i/2*2], free[3+i/2*2], at(s, mean, h))
		}
		VMOVUPD(sum, at(s, sums, h))
		VMOVUPD(dot, at(s, sums, 4+h))
	}
}

// stream emits a loop over n elements that lie side by side at some pointers.
func stream(s ISA, group int, pointers []reg.GPVirtual, bytes []int, n reg.GPVirtual, body func(l labels, n int)) {
	groups("", group, n, func(l labels, n int) {
		body(l, n*s.Columns())
		for i, p := range pointers {
			ADDQ(U32(uint32(n*bytes[i])), p)
		}
	})
	VZEROUPPER()
	RET()
}

// parameter loads a parameter of 64 bits.
func parameter(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

// store emits dst = v, or dst += v if add is set, for n vectors.
func store(s ISA, l labels, dst, add reg.GPVirtual, n int, v func(i int) reg.VecPhysical) {
	at := func(i int) Mem { return Mem{Base: dst, Disp: i * s.Bytes} }
	TESTQ(add, add)
	JZ(l.ref("store"))
	for i := range n {
		VADDPS(at(i), v(i), v(i))
	}
	l.set("store")
	for i := range n {
		VMOVUPS(v(i), at(i))
	}
}

// flag loads a bool parameter.
func flag(name string) reg.GPVirtual {
	r := GP64()
	XORQ(r, r)
	Load(Param(name), r.As8())
	return r
}

// scale multiplies by channel.
func scale(s ISA) {
	Routine("scale"+s.Name, "func(dst, src, c *float32, n int, add bool)", "is scalePortable.")
	dst, src, c, n, add := parameter("dst"), parameter("src"), parameter("c"), parameter("n"), flag("add")
	factor := channels(s, c, 0)
	stream(s, 4, []reg.GPVirtual{dst, src}, []int{64, 64}, n, func(l labels, n int) {
		for i := range n {
			VMULPS(Mem{Base: src, Disp: i * s.Bytes}, factor(i), s.V(i))
		}
		store(s, l, dst, add, n, s.V)
	})
}

// channels loads the k-th row of constants by channel into the last registers.
func channels(s ISA, p reg.GPVirtual, k int) func(i int) reg.VecPhysical {
	cols := s.Columns()
	v := func(i int) reg.VecPhysical { return s.V(s.Registers - 1 - k*cols - i%cols) }
	for i := range cols {
		VMOVUPS(Mem{Base: p, Disp: i * s.Bytes}, v(i))
	}
	return v
}

// mask multiplies by channel where a bit is set.
func mask(s ISA) {
	Routine("mask"+s.Name, "func(dst, src *float32, mask *uint16, c *float32, n int, add bool)", "is maskPortable.")
	dst, src, word := parameter("dst"), parameter("src"), parameter("mask")
	c, n, add := parameter("c"), parameter("n"), flag("add")
	factor := channels(s, c, 0)
	cols := s.Columns()
	stream(s, 4, []reg.GPVirtual{dst, src, word}, []int{64, 64, 2}, n, func(l labels, n int) {
		for i := range n {
			v, m := s.V(i), s.V(n+i%2)
			fires(s, Mem{Base: word, Disp: i / cols * 2}, i%cols, m)
			at := Mem{Base: src, Disp: i * s.Bytes}
			if s.Wide() {
				VMULPS_Z(at, factor(i), reg.K1, v)
			} else {
				VMULPS(at, factor(i), v)
				VANDPS(m, v, v)
			}
		}
		store(s, l, dst, add, n, s.V)
	})
}
