package kernel

import (
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// tileBlocks returns the number of blocks of 16 channels of the level's largest tile.
func (l Level) tileBlocks() int {
	switch l {
	case AVX512:
		return 3
	case Portable:
		return 4 // share a list
	}
	return 1
}

// tileCols returns the number of columns of the level's widest tile.
func (l Level) tileCols() int {
	if l == NEON {
		return 1
	}
	return 3
}

// maxRows returns the largest number of rows of a tile of the given number of vectors. The
// sums, one vector of each column and one broadcast value must fit into the registers.
func (l Level) maxRows(cols int) int {
	registers := 32
	switch l {
	case AVX2:
		registers = 16
	case NEON:
		registers = 8 // of four
	}
	return min(14, (registers-1-cols)/cols)
}

// tileRows returns the largest number of rows of a tile of the given number of blocks.
func (l Level) tileRows(blocks int) int {
	vectors, _ := l.vectors()
	return l.maxRows(blocks * vectors)
}

// runTile computes the items of a tile. If a sum is NaN, a zero may have been multiplied by a
// weight that is not finite. The portable version, which leaves zeros out, then computes the
// item.
func (l Level) runTile(t *tile) { l.runTileWithout(t, zeroScalars) }

// runTileOfWeights is runTile for a tile whose scalars are weights.
func (l Level) runTileOfWeights(t *tile) { l.runTileWithout(t, zeroLanes) }

func (l Level) runTileWithout(t *tile, without zeros) {
	l.tile(t)
	if t.nan == 0 {
		return
	}
	t.nan = 0
	rest := *t
	rest.skip(t.more - t.moreLeft)
	_, bytes := l.vectors()
	rest.sums(bytes, without)
}

func ptr[T any](s []T, i int) unsafe.Pointer { return unsafe.Pointer(&s[i]) }

// product is dst = start + w∗src, with the sum over the sources of every destination pixel.
type product struct {
	dst, src, w, bias    []float32
	sources              *sources
	frames               int
	srcChannels          int
	srcPixels, dstPixels int
	srcWidth             int
	dstBlocks            int
	window               int // KH·KW
	add                  bool
	transposed           bool // w's lanes are source channels
}

func (l Level) convDense(dst, x, w, bias []float32, c Conv, threads int) {
	if c.same3() && l.sparse(x, c.Cin) {
		l.convValues3(dst, x, w, bias, &c, 0, c.Frames, false, threads)
		return
	}
	l.product(product{
		dst: dst, src: x, w: w, bias: bias,
		sources: outputSources.get(c.window(), newOutputSources),
		frames:  c.Frames, srcChannels: c.Cin, srcPixels: c.Hin * c.Win, srcWidth: c.Win,
		dstPixels: c.Hout * c.Wout, dstBlocks: c.BlocksOut(), window: c.KH * c.KW,
	}, threads)
}

// product splits the work into units. A unit has up to 12 blocks of destination channels and
// a range of frames. It goes through groups of source channels, whose weights stay in L2.
// Within a group it goes through chunks of frames, tiles of up to three blocks, and pixels.
func (l Level) product(p product, threads int) {
	units, parts := l.productUnits(&p, threads)
	type args struct {
		l            Level
		p            product
		units, parts int
	}
	parallel.With(threads, units*parts, args{l, p, units, parts}, func(k args, u int) {
		lo, hi := share(k.p.dstBlocks, u/k.parts, k.units)
		from, to := share(k.p.frames, u%k.parts, k.parts)
		k.l.productUnit(&k.p, lo, hi, from, to)
	})
}

// productUnits returns the number of ranges of blocks and that of ranges of frames.
func (l Level) productUnits(p *product, threads int) (units, parts int) {
	need, frames := manyUnits(threads), 8
	if p.window == 1 && p.dstPixels == 1 && p.dstBlocks*ceilDiv(p.frames, 32) >= need*l.tileBlocks() {
		frames = 32 // a linear layer's weights may come from memory, so they are read few times
	}
	parts = ceilDiv(p.frames, frames)
	// Units are as wide as their number allows, so that src is read few times.
	width := l.tileBlocks()
	width *= max(1, min(12/width, p.dstBlocks/(width*ceilDiv(need, parts))))
	units = ceilDiv(p.dstBlocks, width)
	return units, min(parts, ceilDiv(need, units))
}

// productUnit computes blocks lo to hi of the destination for frames from to to.
func (l Level) productUnit(p *product, lo, hi, from, to int) {
	srcBlocks := blocks(p.srcChannels)
	group := Group / Lanes
	if p.window == 1 {
		group = 32 // the order is the same for any
		if l == AVX2 {
			group = 16 // a tile's weights stay in L1
		}
	}
	slab := Lanes * p.window * Lanes // weights of a pair of blocks
	var panel *[]float32
	if p.transposed {
		panel = scratch((hi - lo) * group * slab)
		defer release(panel)
	}
	// A linear layer's weights may come from memory.
	streamed := l == AVX2 && p.window == 1 && p.dstPixels == 1 && !p.transposed && len(p.w) > 1<<17
	tiles := ceilDiv(hi-lo, l.tileBlocks())
	chunk := max(8, min(128, 1024/min(p.srcPixels, 3*p.srcWidth))) // of frames whose rows stay in L2
	if p.srcPixels%1024 == 0 {
		chunk = 2 // multiples of 64 KB apart: one set of L2, of 16 lines
	}
	if p.sources.empty {
		chunk = min(chunk, max(1, 2048/p.dstPixels)) // what is filled stays in L2, too
	}
	for g := 0; g < srcBlocks; g += group {
		n := min(group, srcBlocks-g)
		w, pitch := p.w[(lo*srcBlocks+g)*slab:], srcBlocks
		if p.transposed {
			w, pitch = *panel, n
			l.transposePanel(w, p, lo, hi, g, n)
		}
		for f := from; f < to; f += chunk {
			for i := range tiles {
				a, b := share(hi-lo, i, tiles)
				var soon []float32 // what the next tile multiplies with
				switch {
				case !streamed:
				case i+1 < tiles:
					soon = w[b*pitch*slab:][:n*slab]
				case g+n < srcBlocks:
					soon = w[n*slab:][:min(n, srcBlocks-g-n)*slab]
				}
				l.productTile(p, w[a*pitch*slab:], soon, pitch*slab, lo+a, lo+b, g, n, f, min(f+chunk, to))
			}
		}
	}
}

// transposePanel transposes weights: it exchanges lanes and channels. The weights are those
// of destination blocks lo to hi and of n source blocks from g on.
func (l Level) transposePanel(panel []float32, p *product, lo, hi, g, n int) {
	slab, row := Lanes*p.window*Lanes, uintptr(p.window*64)
	ahead := uintptr(p.dstBlocks * slab * 4) // the next source block
	for s := range n {
		for b := lo; b < hi; b++ {
			src := p.w[((g+s)*p.dstBlocks+b)*slab:]
			dst := panel[((b-lo)*n+s)*slab:]
			for t := range p.window {
				l.transposeAhead16(&dst[t*Lanes], &src[t*Lanes], row, row, ahead)
			}
		}
	}
}

// productTile adds the products with n source blocks, from g on, to destination blocks lo to
// hi. w holds their weights; those of one destination block lie pitch floats after those of
// the one before.
//
// The rows of a register tile are usually one pixel of several frames, which have the same
// sources even at the border. If there are few frames, or if their addresses collide in the
// caches, the rows are neighbouring pixels of one row.
func (l Level) productTile(p *product, w, soon []float32, pitch, lo, hi, g, n, from, to int) {
	vectors, bytes := l.vectors()
	t := tile{
		cols:    uint64((hi - lo) * vectors),
		wCol:    uint64(pitch * 4),
		dstCol:  uint64(p.frames * p.dstPixels * 64),
		outer:   1,
		blocks:  uint64(n),
		lanes:   uint64(min(p.srcChannels, Lanes)),
		srcLane: 4,
		wLane:   uint64(p.window * 64),
	}
	t.srcBlock = uint64(p.frames*p.srcPixels*64) - t.lanes*t.srcLane
	if p.window == 1 && !p.transposed {
		t.wAhead = 8 << 10 // a column's weights lie in a row, in memory
	}
	if vectors > 1 { // the blocks of a tile are then one
		t.wCol, t.dstCol = uint64(bytes), uint64(bytes)
	}
	switch {
	case g > 0 || p.add:
		t.start = startDst
	case p.bias != nil:
		t.start, t.bias = startBias, ptr(p.bias, lo*Lanes)
	}
	if p.sources.empty && g == 0 && !p.add {
		for b := lo; b < hi; b++ {
			fill(p.dst[(b*p.frames+from)*p.dstPixels*Lanes:][:(to-from)*p.dstPixels*Lanes], p.bias, b)
		}
	}
	rowsMax := l.tileRows(hi - lo)
	framesMax := rowsMax
	if p.srcPixels%64 == 0 {
		framesMax = min(framesMax, 8) // multiples of 4 KB apart: one set of L1, of 8 to 12 lines
	}
	minRun := min(to-from, framesMax)
	if p.srcPixels%256 == 0 {
		minRun = min(minRun, 2) // multiples of 16 KB: few sets of L2, many pages
	}
	// tiles cuts n rows of pixel px, starting with frame f, into tiles. It does so several
	// times, each some pixels below the last. It prefetches what the next tiles read, some
	// pixels ahead, since the processor's own prefetchers do not see it.
	tiles := func(px, f, n, max, src, dst, ahead, times int) {
		of := p.sources.of(px)
		if of.n == 0 {
			return // filled
		}
		t.offsets, t.count = ptr(p.sources.lists[of.cols].values, 0), uint64(of.n)
		t.w = ptr(w, of.tap*Lanes)
		t.srcRow, t.dstRow, t.ahead = uint64(src*64), uint64(dst*64), uint64(ahead*64)
		s, d := (g*p.frames+f)*p.srcPixels+of.first, (lo*p.frames+f)*p.dstPixels+px
		run := func(row, rows, items int) {
			t.src, t.dst = ptr(p.src, (s+row*src)*Lanes), ptr(p.dst, (d+row*dst)*Lanes)
			t.rows, t.more = uint64(rows), uint64(items-1)
			l.runTile(&t)
		}
		parts := ceilDiv(n, max)
		if times > 1 {
			t.srcItem, t.dstItem = uint64(p.sources.srcBelow*64), uint64(p.sources.dstBelow*64)
			for i := range parts {
				a, b := share(n, i, parts)
				run(a, b-a, times)
			}
			return
		}
		if soon != nil {
			for i := range parts {
				a, b := share(n, i, parts)
				t.prefetch(soon, i, parts)
				run(a, b-a, 1)
			}
			return
		}
		rows := ceilDiv(n, parts)
		less := parts*rows - n // tiles of one row less
		t.srcItem, t.dstItem = uint64(rows)*t.srcRow, uint64(rows)*t.dstRow
		run(0, rows, parts-less)
		if less > 0 {
			t.srcItem, t.dstItem = t.srcItem-t.srcRow, t.dstItem-t.dstRow
			run((parts-less)*rows, rows-1, less)
		}
	}
	ahead := 1
	if p.srcPixels == 1 {
		ahead = framesMax
	}
	for _, r := range p.sources.runs {
		if r.n >= minRun {
			for f := from; f < to; f++ {
				tiles(r.px, f, r.n, rowsMax, r.srcStep, r.dstStep, p.sources.srcBelow, r.rows)
			}
			continue
		}
		for i := range r.n * r.rows {
			tiles(r.px+i%r.n*r.dstStep+i/r.n*p.sources.dstBelow, from, to-from, framesMax, p.srcPixels, p.dstPixels, ahead, 1)
		}
	}
}

// prefetch makes tile i of the given number prefetch its part of w, at most 512 bytes a
// block. The part is a quarter if there are more than four tiles.
func (t *tile) prefetch(w []float32, i, tiles int) {
	t.soon = nil
	if tiles = min(tiles, 4); i < tiles {
		t.soon, t.soonBlock = ptr(w, len(w)*i/tiles), uint64(min(512, len(w)*4/(tiles*int(t.blocks))))
	}
}
