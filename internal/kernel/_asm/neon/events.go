package main

import "fmt"

const gatherBlocks = 4

// gather scans masks and adds up the columns of the weights of their set bits.
func gather() {
	routine("gatherNEON", "func(a *gather)", fmt.Sprintf("is gatherPortable; cols must be 1 to %d.", gatherBlocks))
	a := block("a", "gather", 0)
	a.load("cols", 1)
	for n := 1; n < gatherBlocks; n++ {
		op("CMP $%d, R1", n)
		op("BEQ cols%d", n)
	}
	for n := gatherBlocks; n >= 1; n-- {
		gatherBody(a, n)
	}
}

func gatherBody(a args, n int) {
	l := func(name string) string { return fmt.Sprintf("%s%d", name, n) }
	rs := from(1, 14)
	dst, masks, items, w, wCol, wBit := rs[0], rs[1], rs[2], rs[3], rs[4], rs[5]
	offset, end, mask, i, wp, t, u := rs[6], rs[7], rs[8], rs[9], rs[10], rs[11], rs[12]
	sum := func(j int) []vec { return vectors(vec(4*j), 4) }
	x := func(j int) []vec { return vectors(vec(16+4*(j%4)), 4) }

	label(l("cols"))
	for _, f := range []struct {
		field string
		r     reg
	}{{"dst", dst}, {"masks", masks}, {"items", items}, {"w", w}, {"wCol", wCol}, {"wBit", wBit}, {"offsets", offset}, {"count", end}} {
		a.load(f.field, f.r)
	}
	op("ADD %v<<4, %v, %v", end, offset, end)
	each := func(fn func(base reg, vs []vec)) {
		op("MOVD %v, %v", dst, u)
		a.load("dstCol", t)
		for j := range n {
			fn(u, sum(j))
			if j < n-1 {
				op("ADD %v, %v", t, u)
			}
		}
	}
	label(l("item"))
	a.load("start", t)
	op("CMP $1, %v", t)
	op("BEQ %s", l("bias"))
	op("BHI %s", l("dst"))
	zero(vectors(0, 4*n)...)
	op("B %s", l("started"))
	label(l("bias"))
	a.load("bias", t)
	loads(t, 0, vectors(0, 4*n)...)
	op("B %s", l("started"))
	label(l("dst"))
	each(func(base reg, vs []vec) { loads(base, 0, vs...) })
	label(l("started"))
	a.load("offsets", offset)
	label(l("offset"))
	op("LDP.P 16(%v), (%v, %v)", offset, i, wp)
	op("MOVD (%v)(%v), %v", masks, i, mask)
	op("CBZ %v, %s", mask, l("next"))
	op("ADD %v, %v", w, wp)
	label(l("bit"))
	lowest(mask, i)
	op("MADD %v, %v, %v, %v", wBit, wp, i, i)
	for j := range n {
		loads(i, 0, x(j)...)
		if j < n-1 {
			op("ADD %v, %v", wCol, i)
		}
	}
	for j := range n {
		for k, v := range sum(j) {
			fadd(v, v, x(j)[k])
		}
	}
	op("CBNZ %v, %s", mask, l("bit"))
	label(l("next"))
	op("CMP %v, %v", end, offset)
	op("BNE %s", l("offset"))
	each(func(base reg, vs []vec) { stores(base, 0, vs...) })
	a.load("maskItem", t)
	op("ADD %v, %v", t, masks)
	a.load("dstItem", t)
	op("ADD %v, %v", t, dst)
	op("SUB $1, %v", items)
	op("CBNZ %v, %s", items, l("item"))
	op("RET")
}

// scatter3 sweeps the input's rows, once for each half of a block of 16 channels. The 3×3
// block of outputs that a pixel reaches is held in nine pairs of registers whose columns
// rotate with x. Bodies without a row above, below or a column beside the pixel leave those
// taps out.
func scatter3(multiply bool) {
	name := "scatterSpikes3"
	if multiply {
		name = "scatterValues3"
	}
	routine(name+"NEON", "func(a *scatter3)", "is "+name+"Portable for one block; width must be 2 or more.")
	a := block("a", "scatter3", 0)
	rs := from(1, 22)
	masks, w, top, mid, bot, from := rs[0], rs[1], rs[2], rs[3], rs[4], rs[5]
	mask, i, left, xp, rowsLeft, row := rs[6], rs[7], rs[8], rs[9], rs[10], rs[11]
	fromStep, bias, frames, half, width, size := rs[12], rs[13], rs[14], rs[15], rs[16], rs[17]
	xPixel, t := rs[18], rs[19]
	const value = vec(31)

	op("MOVD $0, %v", half)
	op("MOVD $%d, %v", 9*64, size)
	a.load("width", width)
	if multiply {
		a.load("xPixel", xPixel)
	}
	label("half")
	for _, f := range []struct {
		field string
		r     reg
	}{{"masks", masks}, {"w", w}, {"dst", mid}, {"bias", bias}, {"frames", frames}} {
		a.load(f.field, f.r)
	}
	if multiply {
		a.load("x", xp)
	}
	op("ADD %v, %v", half, w)
	op("ADD %v, %v", half, mid)

	// What an output begins with is read from a place that moves with it, or stays at the
	// bias. It is first reached from the row above, or in the first row.
	op("MOVD $64, %v", fromStep)
	op("CBZ %v, frame", bias)
	op("ADD %v, %v", half, bias)
	op("MOVD $0, %v", fromStep)
	label("frame")
	a.load("height", rowsLeft)
	op("MOVD $0, %v", row)
	label("row")
	op("SUB %v<<6, %v, %v", width, mid, top)
	op("ADD %v<<6, %v, %v", width, mid, bot)
	op("MOVD %v, %v", bot, from)
	op("CMP $0, %v", bias)
	op("CSEL NE, %v, %v, %v", bias, from, from)
	op("SUB $2, %v, %v", width, left)
	op("CBZ %v, first", row)
	op("CMP $1, %v", rowsLeft)
	op("BEQ row10")
	op("B row11")
	label("first")
	op("CBZ %v, begun", bias)
	loads(bias, 0, 0, 1)
	op("MOVD %v, %v", width, t)
	op("MOVD %v, %v", mid, i)
	label("begin")
	stores(i, 0, 0, 1)
	op("ADD $64, %v", i)
	op("SUB $1, %v", t)
	op("CBNZ %v, begin", t)
	label("begun")
	op("CMP $1, %v", rowsLeft)
	op("BEQ row00")

	for _, v := range []struct {
		name     string
		top, bot bool
	}{{"row01", false, true}, {"row00", false, false}, {"row10", true, false}, {"row11", true, true}} {
		l := func(name string, phase int) string { return fmt.Sprintf("%s%s%d", v.name, name, phase) }
		rows := []int{1}
		if v.top {
			rows = append([]int{0}, rows...)
		}
		if v.bot {
			rows = append(rows, 2)
		}
		rowAt := []reg{top, mid, bot}
		// Column c (−1, 0, 1 around x) is held in trio (phase+c+1) mod 3.
		acc := func(phase, c, r int) []vec { return vectors(vec(((phase+c+1)%3*3+r)*2), 2) }
		load := func(phase, c int) {
			for _, r := range rows {
				if r == 2 {
					loads(from, 0, acc(phase, c, r)...)
				} else {
					loads(rowAt[r], 64*c, acc(phase, c, r)...)
				}
			}
			if v.bot {
				op("ADD %v, %v", fromStep, from)
			}
		}
		store := func(phase, c int) {
			for _, r := range rows {
				stores(rowAt[r], 64*c, acc(phase, c, r)...)
			}
		}
		events := func(name string, phase, first, last int) {
			op("MOVD.P 8(%v), %v", masks, mask)
			op("CBZ %v, %s", mask, l(name+"done", phase))
			label(l(name+"bit", phase))
			lowest(mask, i)
			if multiply {
				op("FMOVS (%v)(%v<<2), %s", xp, i, value.f())
			}
			op("MADD %v, %v, %v, %v", size, w, i, i)
			// An input at row y reaches row y+1−ky through row ky of the window.
			free := 0
			for c := first; c <= last; c++ {
				for _, r := range rows {
					x := vectors(vec(18+2*(free%6)), 2)
					free++
					loads(i, ((2-r)*3+1-c)*64, x...)
					for k, sum := range acc(phase, c, r) {
						if multiply {
							fmlaLane(sum, x[k], value)
						} else {
							fadd(sum, sum, x[k])
						}
					}
				}
			}
			op("CBNZ %v, %s", mask, l(name+"bit", phase))
			label(l(name+"done", phase))
			if multiply {
				op("ADD %v, %v", xPixel, xp)
			}
		}
		step := func() {
			for _, r := range rows {
				op("ADD $64, %v", rowAt[r])
			}
		}
		label(v.name)
		load(0, 0)
		load(0, 1)
		events("left", 0, 0, 1)
		step()
		op("CBZ %v, %s", left, l("last", 1))
		for _, phase := range []int{1, 2, 0} {
			label(l("inner", phase))
			load(phase, 1)
			events("inner", phase, -1, 1)
			store(phase, -1)
			step()
			op("SUB $1, %v", left)
			op("CBZ %v, %s", left, l("last", (phase+1)%3))
		}
		op("B %s", l("inner", 1))
		for phase := range 3 {
			label(l("last", phase))
			events("last", phase, -1, 0)
			store(phase, -1)
			store(phase, 0)
			step()
			op("B rowdone")
		}
	}
	label("rowdone")
	op("ADD $1, %v", row)
	op("SUB $1, %v", rowsLeft)
	op("CBNZ %v, row", rowsLeft)
	op("SUB $1, %v", frames)
	op("CBNZ %v, frame", frames)
	op("ADD $32, %v", half)
	op("CMP $64, %v", half)
	op("BNE half")
	op("RET")
}

// outer3 keeps nine sums of half a block in registers over a whole tile of deltas.
func outer3(multiply bool) {
	name := "outerSpikes3"
	if multiply {
		name = "outerValues3"
	}
	routine(name+"NEON", "func(a *outer3)", "is "+name+"Portable.")
	a := block("a", "outer3", 0)
	rs := from(1, 16)
	masks, dw, channels, stride, words := rs[0], rs[1], rs[2], rs[3], rs[4]
	r0, r1, r2, mask, i, xp, half, t := rs[5], rs[6], rs[7], rs[8], rs[9], rs[10], rs[11], rs[12]
	const value = vec(31)
	acc := func(t int) []vec { return vectors(vec(2*t), 2) }
	a.load("dw", dw)
	a.load("channels", channels)
	a.load("rowStride", stride)
	label("channel")
	op("MOVD $0, %v", half)
	label("half")
	a.load("masks", masks)
	if multiply {
		a.load("x", xp)
	}
	a.load("start", t)
	op("CBNZ %v, dst", t)
	zero(vectors(0, 18)...)
	op("B started")
	label("dst")
	for t := range 9 {
		loads(dw, 64*t, acc(t)...)
	}
	label("started")
	a.load("words", words)
	a.load("deltas", r0)
	op("ADD %v, %v", half, r0)
	op("ADD %v, %v, %v", stride, r0, r1)
	op("ADD %v, %v, %v", stride, r1, r2)
	rows := []reg{r2, r1, r0} // by row of the window
	label("word")
	op("MOVD.P 8(%v), %v", masks, mask)
	op("CBZ %v, next", mask)
	label("bit")
	lowest(mask, i)
	if multiply {
		op("FMOVS (%v)(%v<<2), %s", xp, i, value.f())
	}
	free := 0
	for row, base := range rows {
		op("ADD %v<<6, %v, %v", i, base, t)
		for col := range 3 {
			x := vectors(vec(18+2*(free%6)), 2)
			free++
			loads(t, (2-col)*64, x...)
			for k, sum := range acc(3*row + col) {
				if multiply {
					fmlaLane(sum, x[k], value)
				} else {
					fadd(sum, sum, x[k])
				}
			}
		}
	}
	op("CBNZ %v, bit", mask)
	label("next")
	if multiply {
		op("ADD $256, %v", xp)
	}
	for _, r := range rows {
		op("ADD $%d, %v", 64*64, r)
	}
	op("SUB $1, %v", words)
	op("CBNZ %v, word", words)
	for t := range 9 {
		stores(dw, 64*t, acc(t)...)
	}
	op("ADD $32, %v", dw)
	op("ADD $32, %v", half)
	op("CMP $64, %v", half)
	op("BNE half")
	op("ADD $%d, %v", 9*64-64, dw)
	op("MOVD %v, %s", masks, a.mem("masks"))
	if multiply {
		op("MOVD %v, %s", xp, a.mem("x"))
	}
	op("SUB $1, %v", channels)
	op("CBNZ %v, channel", channels)
	op("RET")
}
