package main

// transpose16 exchanges rows and lanes, four rows at a time.
func transpose16() {
	routine("transpose16NEON", "func(dst, src *float32, dstRow, srcRow uintptr)", "is transpose16Portable.")
	r := parameters("dst", "src", "dstRow", "srcRow")
	dst, src, dstRow, srcRow := r[0], r[1], r[2], r[3]
	left, at := reg(5), reg(6)
	row := func(i int) []vec { return vectors(vec(4*i), 4) }
	op("MOVD $4, %v", left)
	label("rows")
	for i := range 4 {
		loads(src, 0, row(i)...)
		op("ADD %v, %v", srcRow, src)
	}
	op("MOVD %v, %v", dst, at)
	for q := range 4 { // lanes 4q to 4q+3
		a, b, c, d := row(0)[q], row(1)[q], row(2)[q], row(3)[q]
		const t0, t1, t2, t3 = vec(16), vec(17), vec(18), vec(19)
		op("VTRN1 %s, %s, %s", b.s(), a.s(), t0.s())
		op("VTRN2 %s, %s, %s", b.s(), a.s(), t1.s())
		op("VTRN1 %s, %s, %s", d.s(), c.s(), t2.s())
		op("VTRN2 %s, %s, %s", d.s(), c.s(), t3.s())
		for i, pair := range [][2]vec{{t0, t2}, {t1, t3}} {
			op("VTRN1 V%d.D2, V%d.D2, V%d.D2", pair[1], pair[0], row(i)[q])
			op("VTRN2 V%d.D2, V%d.D2, V%d.D2", pair[1], pair[0], row(i + 2)[q])
		}
		for i := range 4 {
			op("FMOVQ %s, (%v)", row(i)[q].f(), at)
			op("ADD %v, %v", dstRow, at)
		}
	}
	op("ADD $16, %v", dst)
	op("SUB $1, %v", left)
	op("CBNZ %v, rows", left)
	op("RET")
}

// pack puts the masks of 64 lanes, of a byte each, into the 64 bits of vs[0].
func pack(vs []vec, bits vec) {
	for _, v := range vs {
		op("VAND %s, %s, %s", bits.b(), v.b(), v.b())
	}
	op("VADDP %s, %s, %s", vs[1].b(), vs[0].b(), vs[0].b())
	op("VADDP %s, %s, %s", vs[3].b(), vs[2].b(), vs[2].b())
	op("VADDP %s, %s, %s", vs[2].b(), vs[0].b(), vs[0].b())
	op("VADDP %s, %s, %s", vs[0].b(), vs[0].b(), vs[0].b())
}

// transposeBits tests the bits of 64 words, lane by lane.
func transposeBits() {
	routine("transposeBitsNEON", "func(dst *uint64, src *uint16, words, dstLane uintptr)", "is transposeBitsPortable.")
	r := parameters("dst", "src", "words", "dstLane")
	dst, src, words, dstLane := r[0], r[1], r[2], r[3]
	const at, bits, one = reg(5), vec(31), vec(30)
	byteBits(bits)
	op("CBZ %v, done", words)
	label("word")
	raw, halves, t := vectors(0, 8), [2][]vec{vectors(8, 4), vectors(12, 4)}, vectors(16, 4)
	loads(src, 0, raw...)
	each(func(i int) {
		op("VUZP1 %s, %s, %s", raw[2*i+1].b(), raw[2*i].b(), halves[0][i].b())
		op("VUZP2 %s, %s, %s", raw[2*i+1].b(), raw[2*i].b(), halves[1][i].b())
	})
	op("MOVD %v, %v", dst, at)
	for _, half := range halves {
		for l := range 8 {
			op("VMOVI $%d, %s", 1<<l, one.b())
			each(func(i int) { op("VCMTST %s, %s, %s", one.b(), half[i].b(), t[i].b()) })
			pack(t, bits)
			op("FMOVD %s, (%v)", t[0].f(), at)
			op("ADD %v, %v", dstLane, at)
		}
	}
	op("ADD $128, %v", src)
	op("ADD $8, %v", dst)
	op("SUB $1, %v", words)
	op("CBNZ %v, word", words)
	label("done")
	op("RET")
}

// groupValues packs values and notes which are not zero.
func groupValues() {
	routine("groupValuesNEON", "func(a *groupValues)", "is groupValuesPortable.")
	a := block("a", "groupValues", 0)
	rs := from(1, 14)
	src, dst, masks, pixels, blocks, srcBlock, srcPixel, dstPixel := rs[0], rs[1], rs[2], rs[3], rs[4], rs[5], rs[6], rs[7]
	from, to, left, mask, shift, word := rs[8], rs[9], rs[10], rs[11], rs[12], rs[13]
	const bits = vec(31)
	byteBits(bits)
	for _, f := range []struct {
		field string
		r     reg
	}{{"src", src}, {"dst", dst}, {"masks", masks}, {"pixels", pixels}, {"blocks", blocks}, {"srcBlock", srcBlock}, {"srcPixel", srcPixel}, {"dstPixel", dstPixel}} {
		a.load(f.field, f.r)
	}
	op("CBZ %v, done", pixels)
	label("pixel")
	op("MOVD %v, %v", src, from)
	op("MOVD %v, %v", dst, to)
	op("MOVD %v, %v", blocks, left)
	op("MOVD ZR, %v", mask)
	op("MOVD ZR, %v", shift)
	label("block")
	v := vectors(0, 4)
	loads(from, 0, v...)
	stores(to, 0, v...)
	each(func(i int) { equal0(v[i], v[i]) })
	op("VUZP1 %s, %s, %s", v[1].h(), v[0].h(), v[0].h())
	op("VUZP1 %s, %s, %s", v[3].h(), v[2].h(), v[2].h())
	op("VUZP1 %s, %s, %s", v[2].b(), v[0].b(), v[0].b())
	bic(v[0], bits, v[0])
	for range 3 {
		op("VADDP %s, %s, %s", v[0].b(), v[0].b(), v[0].b())
	}
	op("VMOV V%d.H[0], %v", v[0], word)
	op("LSL %v, %v, %v", shift, word, word)
	op("ORR %v, %v", word, mask)
	op("ADD $16, %v", shift)
	op("ADD %v, %v", srcBlock, from)
	op("ADD $64, %v", to)
	op("SUB $1, %v", left)
	op("CBNZ %v, block", left)
	op("MOVD.P %v, 8(%v)", mask, masks)
	op("ADD %v, %v", srcPixel, src)
	op("ADD %v, %v", dstPixel, dst)
	op("SUB $1, %v", pixels)
	op("CBNZ %v, pixel", pixels)
	label("done")
	op("RET")
}
