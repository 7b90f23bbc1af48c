package kernel

import "github.com/org/snnrat/internal/parallel"

// convWeightGradDense sums over output pixels. The rows of a tile are input channels, about a
// third or half of a block. A unit goes through its frames in chunks. A chunk stays in L2
// while the unit's tiles, input blocks and positions of the window pass over it.
func (l Level) convWeightGradDense(dw, x, dy []float32, c Conv, add bool, threads int) {
	if c.same3() && l.sparse(x, c.Cin) {
		l.convWeightGradValues3(dw, x, dy, &c, add, threads)
		return
	}
	if c.Cin <= 4 && c.KW > 1 && c.KW <= l.tileRows(l.tileBlocks()) {
		l.convWeightGradImage(dw, x, dy, &c, add, threads)
		return
	}
	srcBlocks, dstBlocks, win := c.BlocksIn(), c.BlocksOut(), c.KH*c.KW
	tiles := ceilDiv(dstBlocks, l.tileBlocks())
	pixels := 1024
	if c.Stride > 1 {
		pixels = 256 // every other line of x: in half of a cache
	}
	chunk := max(1, pixels/(c.Hout*c.Wout))
	// A unit's tiles share its input blocks, and these the tiles' deltas. Their numbers are
	// such that x and dy together are read few times.
	need := 4 * parallel.Threads(threads)
	tileParts, parts := 1, 1
	for tileParts*parts < min(need, tiles*srcBlocks) {
		readX, readDelta := tileParts*srcBlocks*c.Hin*c.Win, parts*dstBlocks*c.Hout*c.Wout
		if parts == srcBlocks || tileParts < tiles && readX <= readDelta {
			tileParts = min(tiles, 2*tileParts)
		} else {
			parts = min(srcBlocks, 2*parts)
		}
	}
	taps := min(win, ceilDiv(need, tileParts*parts))
	parallel.For(threads, tileParts*parts*taps, func(u int) {
		tile0, tile1 := share(tiles, u/taps/parts, tileParts)
		g := weightGrad{dw: dw, x: x, dy: dy, c: &c, pairs: windowPairs.get(c.window(), newPairs)}
		g.first, g.end = share(srcBlocks, u/taps%parts, parts)
		g.tap, g.tapEnd = share(win, u%taps, taps)
		for f := 0; f < c.Frames; f += chunk {
			for i := tile0; i < tile1; i++ {
				lo, hi := share(dstBlocks, i, tiles)
				l.weightGradTile(&g, lo, hi, f, min(f+chunk, c.Frames), add || f > 0)
			}
		}
	})
}

// weightGrad is the weight gradient of the input blocks first to end−1 and the positions tap
// to tapEnd−1 of the window.
type weightGrad struct {
	dw, x, dy   []float32
	c           *Conv
	pairs       *pairs
	first, end  int
	tap, tapEnd int
}

// weightGradTile sums over the frames from, …, to−1 for the output blocks lo to hi−1.
func (l Level) weightGradTile(g *weightGrad, lo, hi, from, to int, add bool) {
	vectors, bytes := l.vectors()
	c := g.c
	srcBlocks, in, out, win := c.BlocksIn(), c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	t := tile{
		cols:     uint64((hi - lo) * vectors),
		srcRow:   4,
		dstRow:   uint64(win * 64),
		wCol:     uint64(c.Frames * out * 64),
		dstCol:   uint64(srcBlocks * Lanes * win * 64),
		srcOuter: uint64(in * 64),
		wOuter:   uint64(out * 64),
		blocks:   1,
		srcLane:  uint64(c.Stride * 64),
		wLane:    64,
	}
	if vectors > 1 {
		t.wCol, t.dstCol = uint64(bytes), uint64(bytes)
	}
	if add {
		t.start = startDst
	}
	maxRows := min(8, l.tileRows(hi-lo))
	// A window of one pixel has the same rows for all blocks: a call is for several, but for
	// no more than stay in L1.
	most := 1
	if win == 1 {
		most = max(1, 512/((to-from)*out))
	}
	t.srcItem, t.dstItem = uint64(c.Frames*in*64), uint64(Lanes*win*64)
	for i, n := 0, 0; i < (g.end-g.first)*(g.tapEnd-g.tap); i += n {
		b, tap := g.first+i/(g.tapEnd-g.tap), g.tap+i%(g.tapEnd-g.tap)
		channels := min(Lanes, c.Cin-b*Lanes)
		seen := g.pairs.taps[tap]
		rows := g.pairs.rows[:seen.rows]
		if len(rows) == 0 {
			channels = 0
		}
		if n = 1; channels == Lanes {
			n = min(most, g.end-b, c.Cin/Lanes-b) // no block of fewer channels
		}
		if !add {
			for o := lo; o < hi; o++ {
				clearChannels(g.dw[(o*srcBlocks+b)*Lanes*win*Lanes:], channels, win, tap, tap+1)
			}
		}
		t.outer, t.lanes = uint64(to-from), uint64(seen.width)
		if in == 1 && out == 1 && channels > 0 { // frames follow each other as pixels do
			rows = noOffset[:]
			t.outer, t.lanes, t.srcLane = 1, uint64(to-from), 64
		}
		for k, parts := 0, ceilDiv(channels, maxRows); k < parts; k++ {
			r0, r1 := share(channels, k, parts)
			t.offsets, t.count = ptr(rows, 0), uint64(len(rows))
			t.src = ptr(g.x, ((b*c.Frames+from)*in+seen.in)*Lanes+r0)
			t.w = ptr(g.dy, ((lo*c.Frames+from)*out+seen.out)*Lanes)
			t.dst = ptr(g.dw, ((lo*srcBlocks+b)*Lanes+r0)*win*Lanes+tap*Lanes)
			t.rows, t.more = uint64(r1-r0), uint64(n-1)
			l.runTile(&t)
		}
	}
}

// convWeightGradImage is for images, which have few channels. It packs each channel with its
// padding, so that the rows of a tile can be the columns of the window.
func (l Level) convWeightGradImage(dw, x, dy []float32, c *Conv, add bool, threads int) {
	vectors, bytes := l.vectors()
	in, out, win := c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	// What the window reaches, which may be less than the padded image.
	height, width := (c.Hout-1)*c.Stride+c.KH, (c.Wout-1)*c.Stride+c.KW
	packed := scratch(c.Cin * c.Frames * height * width)
	defer release(packed)
	parallel.For(threads, c.Frames, func(f int) {
		for ch := range c.Cin {
			image := (*packed)[(ch*c.Frames+f)*height*width:][:height*width]
			clear(image)
			for y := c.Pad; y < min(height, c.Hin+c.Pad); y++ {
				src := x[(f*in+(y-c.Pad)*c.Win)*Lanes+ch:]
				dst := image[y*width:][:width]
				for i := range max(0, min(c.Win, width-c.Pad)) {
					dst[c.Pad+i] = src[i*Lanes]
				}
			}
		}
	})
	rows := make([]offset, c.Hout)
	for y := range rows {
		rows[y] = offset{int64(y * c.Stride * width * 4), int64(y * c.Wout * 64)}
	}
	chunk := max(1, 1024/out) // frames whose deltas stay in L2
	tiles := ceilDiv(c.BlocksOut(), l.tileBlocks())
	parallel.For(threads, tiles*c.Cin*c.KH, func(u int) {
		lo, hi := share(c.BlocksOut(), u/(c.Cin*c.KH), tiles)
		ch, ky := u/c.KH%c.Cin, u%c.KH
		if ch == 0 && ky == 0 && !add {
			for o := lo; o < hi; o++ {
				clearChannels(dw[o*Lanes*win*Lanes:], c.Cin, win, 0, win)
			}
		}
		t := tile{
			rows: uint64(c.KW), cols: uint64((hi - lo) * vectors),
			srcRow: 4, dstRow: 64,
			wCol: uint64(c.Frames * out * 64), dstCol: uint64(Lanes * win * 64),
			dst:     ptr(dw, ((lo*Lanes+ch)*win+ky*c.KW)*Lanes),
			offsets: ptr(rows, 0), count: uint64(len(rows)),
			srcOuter: uint64(height * width * 4), wOuter: uint64(out * 64),
			blocks: 1, lanes: uint64(c.Wout), srcLane: uint64(c.Stride * 4), wLane: 64,
		}
		if vectors > 1 {
			t.wCol, t.dstCol = uint64(bytes), uint64(bytes)
		}
		for f := 0; f < c.Frames; f += chunk {
			if f > 0 || add {
				t.start = startDst
			}
			t.outer = uint64(min(chunk, c.Frames-f))
			t.src = ptr(*packed, (ch*c.Frames+f)*height*width+ky*width)
			t.w = ptr(dy, (lo*c.Frames+f)*out*Lanes)
			l.runTile(&t)
		}
	})
}

// clearChannels clears the positions from, …, to−1 of the channels of a block, starting with
// channel first.
func clearChannels(dw []float32, first, win, from, to int) {
	for ch := first; ch < Lanes; ch++ {
		clear(dw[(ch*win+from)*Lanes : (ch*win+to)*Lanes])
	}
}
