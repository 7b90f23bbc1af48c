package kernel

import (
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// tileBlocks returns the blocks of 16 channels of the level's largest tile.
func (l Level) tileBlocks() int {
	if l == AVX2 {
		return 1
	}
	return 3
}

// tileRows returns the largest number of rows of a tile of so many blocks.
func (l Level) tileRows(blocks int) int {
	switch {
	case l == AVX2:
		return 6
	case blocks == 3:
		return 9
	}
	return 14
}

// runTile computes a tile. Where a sum is not a number, a zero may have met a weight
// that is not finite: the twin, which leaves zeros out, decides.
func (l Level) runTile(t *tile) {
	l.tile(t)
	if t.nan == 0 {
		return
	}
	t.nan = 0
	_, bytes := l.vectors()
	for r := range t.rows {
		for c := range t.cols {
			tileSum(t, r, c, bytes)
		}
	}
}

func ptr[T any](s []T, i int) unsafe.Pointer { return unsafe.Pointer(&s[i]) }

// product is dst = start + w∗src over the sources of every destination pixel.
type product struct {
	dst, src, w, bias    []float32
	sources              *sources
	frames               int
	srcChannels          int
	srcPixels, dstPixels int
	dstBlocks            int
	window               int // KH·KW
	add                  bool
	transposed           bool // w's lanes are source channels
}

func (l Level) convDense(dst, x, w, bias []float32, c Conv, threads int) {
	l.product(&product{
		dst: dst, src: x, w: w, bias: bias,
		sources: outputSources.get(c.window(), newOutputSources),
		frames:  c.Frames, srcChannels: c.Cin, srcPixels: c.Hin * c.Win,
		dstPixels: c.Hout * c.Wout, dstBlocks: c.BlocksOut(), window: c.KH * c.KW,
	}, threads)
}

func (l Level) convInputGrad(dx, dy, w []float32, c Conv, add bool, threads int) {
	l.product(&product{
		dst: dx, src: dy, w: w,
		sources: inputSources.get(c.window(), newInputSources),
		frames:  c.Frames, srcChannels: c.Cout, srcPixels: c.Hout * c.Wout,
		dstPixels: c.Hin * c.Win, dstBlocks: c.BlocksIn(), window: c.KH * c.KW,
		add: add, transposed: true,
	}, threads)
}

// product splits the work into units of up to three blocks of destination channels
// and a range of frames. A unit walks the groups of source channels, whose weights
// stay in L2, and within a group the pixels. A tile's rows are the same pixel of
// several frames, which have the same sources even at the border, or, with few
// frames, neighbours in a row.
func (l Level) product(p *product, threads int) {
	blocksTile := l.tileBlocks()
	tiles := ceilDiv(p.dstBlocks, blocksTile)
	maxRows := l.tileRows(min(blocksTile, p.dstBlocks))
	if p.srcPixels%64 == 0 {
		// Frames are multiples of 4 KB apart, so that a tile's rows share a set of
		// the L1 cache, of 8 to 12 lines.
		maxRows = min(maxRows, 8)
	}
	longest := int32(0)
	for _, n := range p.sources.run {
		longest = max(longest, n)
	}
	alongRow := p.frames < 8 && int(longest) > p.frames
	parts := p.frames
	if !alongRow {
		parts = ceilDiv(p.frames, maxRows)
	}
	rowTiles := parts
	parts = min(parts, ceilDiv(4*parallel.Threads(threads), tiles))
	parallel.For(threads, tiles*parts, func(u int) {
		lo, hi := share(p.dstBlocks, u/parts, tiles)
		from, to := share(rowTiles, u%parts, parts)
		w, first := p.w, lo
		if p.transposed {
			panel := scratch((hi - lo) * p.panel())
			defer release(panel)
			l.transposePanel(*panel, p, lo, hi)
			w, first = *panel, 0
		}
		l.productUnit(p, w[first*p.panel():], lo, hi, from, to, rowTiles, alongRow)
	})
}

// panel returns the number of weights of a block of destination channels.
func (p *product) panel() int { return blocks(p.srcChannels) * Lanes * p.window * Lanes }

func (l Level) transposePanel(panel []float32, p *product, lo, hi int) {
	srcBlocks, row := blocks(p.srcChannels), uintptr(p.window*64)
	for b := lo; b < hi; b++ {
		for s := range srcBlocks {
			src := p.w[(s*p.dstBlocks+b)*Lanes*p.window*Lanes:]
			dst := panel[((b-lo)*srcBlocks+s)*Lanes*p.window*Lanes:]
			for t := range p.window {
				l.transpose16(&dst[t*Lanes], &src[t*Lanes], row, row)
			}
		}
	}
}

// productUnit computes blocks lo to hi of the destination for row tiles from to to
// of rowTiles, w being the weights of block lo and on.
func (l Level) productUnit(p *product, w []float32, lo, hi, from, to, rowTiles int, alongRow bool) {
	vectors, bytes := l.vectors()
	srcBlocks := blocks(p.srcChannels)
	group := Group / Lanes
	if p.window == 1 {
		group = 32 // the order is the same for any; these weights fit L2
	}
	t := tile{
		cols:     uint64((hi - lo) * vectors),
		srcRow:   uint64(p.srcPixels * 64),
		dstRow:   uint64(p.dstPixels * 64),
		wCol:     uint64(p.panel() * 4),
		dstCol:   uint64(p.frames * p.dstPixels * 64),
		outer:    1,
		lanes:    uint64(min(p.srcChannels, Lanes)),
		srcLane:  4,
		wLane:    uint64(p.window * 64),
		srcBlock: uint64(p.frames * p.srcPixels * 64),
	}
	t.srcBlock -= t.lanes * t.srcLane
	if vectors > 1 { // the blocks of a tile are then one
		t.wCol, t.dstCol = uint64(bytes), uint64(bytes)
	}
	if alongRow {
		t.srcRow, t.dstRow = uint64(p.sources.step), 64
	}
	maxRows := l.tileRows(hi - lo)
	for g := 0; g < srcBlocks; g += group {
		t.blocks = uint64(min(group, srcBlocks-g))
		t.w = ptr(w, g*Lanes*p.window*Lanes)
		switch {
		case g > 0 || p.add:
			t.start = startDst
		case p.bias != nil:
			t.start, t.bias = startBias, ptr(p.bias, lo*Lanes)
		}
		for px := 0; px < p.dstPixels; {
			n := 1
			if alongRow {
				n = int(p.sources.run[px])
			}
			list := p.sources.values[p.sources.start[px]:p.sources.start[px+1]]
			if len(list) == 0 {
				if t.start != startDst {
					p.fillPixels(lo, hi, from, to, rowTiles, px, px+n, alongRow)
				}
				px += n
				continue
			}
			t.offsets, t.count = ptr(list, 0), uint64(len(list))
			for i := from; i < to; i++ {
				f, end := i, i+1
				if !alongRow {
					f, end = share(p.frames, i, rowTiles)
				}
				src := (g*p.frames + f) * p.srcPixels * Lanes
				dst := ((lo*p.frames+f)*p.dstPixels + px) * Lanes
				if !alongRow {
					t.src, t.dst, t.rows = ptr(p.src, src), ptr(p.dst, dst), uint64(end-f)
					l.runTile(&t)
					continue
				}
				for k, parts := 0, ceilDiv(n, maxRows); k < parts; k++ {
					a, b := share(n, k, parts)
					t.src, t.dst, t.rows = ptr(p.src, src+a*p.sources.step/4), ptr(p.dst, dst+a*Lanes), uint64(b-a)
					l.runTile(&t)
				}
			}
			px += n
		}
	}
}

// fillPixels sets pixels without sources to the bias.
func (p *product) fillPixels(lo, hi, from, to, rowTiles, px, end int, alongRow bool) {
	if !alongRow {
		from, _ = share(p.frames, from, rowTiles)
		_, to = share(p.frames, to-1, rowTiles)
	}
	for b := lo; b < hi; b++ {
		for f := from; f < to; f++ {
			fill(p.dst[((b*p.frames+f)*p.dstPixels+px)*Lanes:][:(end-px)*Lanes], p.bias, b)
		}
	}
}

// convWeightGradDense sums over output pixels. A tile's rows are input channels,
// half a block of them. A unit walks its frames in chunks that stay in L2 while the
// positions of the window pass over them.
func (l Level) convWeightGradDense(dw, x, dy []float32, c Conv, add bool, threads int) {
	vectors, bytes := l.vectors()
	p := windowPairs.get(c.window(), newPairs)
	in, out, win := c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	srcBlocks, dstBlocks := c.BlocksIn(), c.BlocksOut()
	tiles := ceilDiv(dstBlocks, l.tileBlocks())
	chunk := max(1, 256/out)
	tapUnits := 1
	if tiles*srcBlocks < 4*parallel.Threads(threads) {
		tapUnits = win
	}
	parallel.For(threads, tiles*srcBlocks*tapUnits, func(u int) {
		lo, hi := share(dstBlocks, u/tapUnits/srcBlocks, tiles)
		b := u / tapUnits % srcBlocks
		tapLo, tapHi := share(win, u%tapUnits, tapUnits)
		channels := min(Lanes, c.Cin-b*Lanes)
		if channels < Lanes && !add {
			for o := lo; o < hi; o++ {
				clearChannels(dw[(o*srcBlocks+b)*Lanes*win*Lanes:], channels, win, tapLo, tapHi)
			}
		}
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
		rowTiles := ceilDiv(channels, min(8, l.tileRows(hi-lo)))
		one := offset{}
		for f := 0; f < c.Frames; f += chunk {
			n := min(chunk, c.Frames-f)
			if f > 0 || add {
				t.start = startDst
			}
			for tap := tapLo; tap < tapHi; tap++ {
				rows := p.rows[p.start[tap]:p.start[tap+1]]
				t.outer, t.lanes = uint64(n), uint64(p.width[tap])
				switch {
				case len(rows) == 0:
					if t.start != startDst {
						for o := lo; o < hi; o++ {
							clearChannels(dw[(o*srcBlocks+b)*Lanes*win*Lanes:], 0, win, tap, tap+1)
						}
					}
					continue
				case in == 1 && out == 1: // frames follow each other as pixels do
					rows = unsafe.Slice(&one, 1)
					t.outer, t.lanes = 1, uint64(n)
					t.srcLane = 64
				}
				t.offsets, t.count = ptr(rows, 0), uint64(len(rows))
				t.w = ptr(dy, (lo*c.Frames+f)*out*Lanes)
				for k := range rowTiles {
					r0, r1 := share(channels, k, rowTiles)
					t.src = ptr(x, (b*c.Frames+f)*in*Lanes+r0)
					t.dst = ptr(dw, ((lo*srcBlocks+b)*Lanes+r0)*win*Lanes+tap*Lanes)
					t.rows = uint64(r1 - r0)
					l.runTile(&t)
				}
			}
		}
	})
}

// clearChannels clears positions from to to of a block's channels from first on.
func clearChannels(dw []float32, first, win, from, to int) {
	for ch := first; ch < Lanes; ch++ {
		clear(dw[(ch*win+from)*Lanes : (ch*win+to)*Lanes])
	}
}
