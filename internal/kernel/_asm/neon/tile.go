package main

import "fmt"

// tileRows is the largest number of rows of a tile: the sums of a row are four registers, as
// the weights are, and there are broadcast values.
const tileRows = 6

// tile multiplies with a register tile of one column and up to tileRows rows, one body for
// each size.
func tile() {
	routine("tileNEON", "func(a *tile)", fmt.Sprintf("is tilePortable with fused multiply-adds; cols must be 1, and rows at most %d.", tileRows))
	a := block("a", "tile", 0)
	a.load("rows", 1)
	for m := 1; m < tileRows; m++ {
		op("CMP $%d, R1", m)
		op("BEQ rows%d", m)
	}
	for m := tileRows; m >= 1; m-- {
		tileBody(a, m)
	}
}

func tileBody(a args, m int) {
	l := func(name string) string { return fmt.Sprintf("%s%d", name, m) }
	rows := from(1, m) // addresses of the rows of the item
	rs := from(7, 18)
	dst, more := rs[0], rs[1]
	off, wp := rs[2], rs[3] // what is read: at rows + off, and at wp
	srcLane, wLane, srcBlock, wBlock := rs[4], rs[5], rs[6], rs[7]
	offset, end := rs[8], rs[9]
	outer, srcOuter, wOuter := rs[10], rs[11], rs[12]
	block, lane, t, u := rs[13], rs[14], rs[15], rs[16]
	acc := func(i int) []vec { return vectors(vec(4*i), 4) }
	w := vectors(24, 4)
	x := func(i int) vec { return vec(28 + i%4) }

	label(l("rows"))
	a.load("src", rows[0])
	a.load("srcRow", t)
	for i := 1; i < m; i++ {
		op("ADD %v, %v, %v", t, rows[i-1], rows[i])
	}
	for _, f := range []struct {
		field string
		r     reg
	}{{"dst", dst}, {"more", more}, {"srcLane", srcLane}, {"wLane", wLane}, {"srcBlock", srcBlock}, {"wBlock", wBlock}} {
		a.load(f.field, f.r)
	}
	each := func(fn func(base reg, i int)) {
		op("MOVD %v, %v", dst, u)
		a.load("dstRow", t)
		for i := range m {
			fn(u, i)
			if i < m-1 {
				op("ADD %v, %v", t, u)
			}
		}
	}

	label(l("item"))
	a.load("start", t)
	op("CMP $1, %v", t)
	op("BEQ %s", l("bias"))
	op("BHI %s", l("dst"))
	zero(vectors(0, 4*m)...)
	op("B %s", l("started"))
	label(l("bias"))
	a.load("bias", t)
	for i := range m {
		loads(t, 0, acc(i)...)
	}
	op("B %s", l("started"))
	label(l("dst"))
	each(func(base reg, i int) { loads(base, 0, acc(i)...) })

	label(l("started"))
	a.load("offsets", offset)
	a.load("count", end)
	op("ADD %v<<4, %v, %v", end, offset, end)
	a.load("outer", outer)
	a.load("w", wOuter)
	op("MOVD ZR, %v", srcOuter)
	label(l("outer"))
	a.load("offsets", offset)
	label(l("offset"))
	op("LDP.P 16(%v), (%v, %v)", offset, off, wp)
	op("ADD %v, %v", srcOuter, off)
	op("ADD %v, %v", wOuter, wp)
	a.load("blocks", block)
	label(l("block"))
	a.load("lanes", lane)
	label(l("lane"))
	loads(wp, 0, w...)
	op("ADD %v, %v", wLane, wp)
	for i := range m {
		op("FMOVS (%v)(%v), %s", rows[i], off, x(i).f())
		for j, sum := range acc(i) {
			fmlaLane(sum, w[j], x(i))
		}
	}
	op("ADD %v, %v", srcLane, off)
	op("SUB $1, %v", lane)
	op("CBNZ %v, %s", lane, l("lane"))
	op("ADD %v, %v", srcBlock, off)
	op("ADD %v, %v", wBlock, wp)
	op("SUB $1, %v", block)
	op("CBNZ %v, %s", block, l("block"))
	op("CMP %v, %v", end, offset)
	op("BNE %s", l("offset"))
	a.load("srcOuter", t)
	a.load("wOuter", u)
	op("ADD %v, %v", t, srcOuter)
	op("ADD %v, %v", u, wOuter)
	op("SUB $1, %v", outer)
	op("CBNZ %v, %s", outer, l("outer"))

	// The largest sum is not a number if any sum is not.
	for j, v := range acc(0) {
		if m > 1 {
			fmax(w[j], v, acc(1)[j])
		} else {
			fmax(w[j], v, v)
		}
	}
	for i := 2; i < m; i++ {
		for j, v := range acc(i) {
			fmax(w[j], w[j], v)
		}
	}
	fmax(w[0], w[0], w[1])
	fmax(w[2], w[2], w[3])
	fmax(w[0], w[0], w[2])
	fmaxv(w[0], w[0])
	op("FCMPS %s, %s", w[0].f(), w[0].f())
	op("BVS %s", l("nan"))
	each(func(base reg, i int) { stores(base, 0, acc(i)...) })
	op("CBZ %v, %s", more, l("done"))
	op("SUB $1, %v", more)
	a.load("srcItem", t)
	for _, r := range rows {
		op("ADD %v, %v", t, r)
	}
	a.load("dstItem", t)
	op("ADD %v, %v", t, dst)
	op("B %s", l("item"))
	label(l("done"))
	op("RET")
	label(l("nan"))
	op("MOVD %v, %s", more, a.mem("moreLeft"))
	op("MOVD $1, %v", t)
	op("MOVD %v, %s", t, a.mem("nan"))
	op("RET")
}
