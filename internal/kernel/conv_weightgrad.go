package kernel

import (
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// convWeightGradSpikes computes the weight gradient: it adds up the deltas of events.
func (l Level) convWeightGradSpikes(dw []float32, s []uint16, dy []float32, c Conv, add bool, threads int) {
	if c.same3() {
		l.convWeightGradSpikes3(dw, s, dy, &c, add, threads)
		return
	}
	l.convWeightGradSpikesAny(dw, s, dy, &c, add, threads)
}

// raster cuts frames into tiles of deltas with a border, which fit into L1. A tile holds whole
// frames, or some rows of one frame. A row of a tile has Win+1 slots. The slot between two
// rows is the border of both, and so is the row between two frames.
type raster struct {
	frames, rows int // of a tile: frames > 1 only if rows is the height
	bands        int // tiles of a frame
	pitch        int // slots of a row
	frameSlots   int
	words        int // of 64 slots, of the spikes of a tile
	slots        int // of the deltas, with the halo
	tiles        int
}

func newRaster(c *Conv) raster {
	const l1 = 576 // slots, 36 KB
	r := raster{frames: 1, rows: c.Hin, bands: 1, pitch: c.Win + 1}
	if r.rows+2 > l1/r.pitch {
		r.bands = ceilDiv(c.Hin, max(1, l1/r.pitch-2))
		r.rows = ceilDiv(c.Hin, r.bands)
		r.bands = ceilDiv(c.Hin, r.rows)
	}
	r.frameSlots = (r.rows + 1) * r.pitch
	if r.bands == 1 {
		r.frames = min(c.Frames, max(1, (l1-2*r.pitch)/r.frameSlots))
	}
	r.words = ceilDiv(r.frames*r.frameSlots, 64)
	r.slots = r.words*64 + 2*r.pitch + 2
	r.tiles = ceilDiv(c.Frames, r.frames) * r.bands
	return r
}

// rowsOf calls fn for every row of pixels of tile i, with the frame, the row of the frame, and
// the row's first slot among the spikes. With halo set, it also calls fn for the rows above
// and below the tile, unless they are outside of the frame.
func (r *raster) rowsOf(c *Conv, i int, halo bool, fn func(frame, y, slot int)) {
	f0, y0 := i/r.bands*r.frames, i%r.bands*r.rows
	from, to := 0, min(r.rows, c.Hin-y0)
	if halo {
		from, to = -1, to+1
	}
	for f := f0; f < min(f0+r.frames, c.Frames); f++ {
		for y := from; y < to; y++ {
			if y0+y >= 0 && y0+y < c.Hin {
				fn(f, y0+y, (f-f0)*r.frameSlots+y*r.pitch)
			}
		}
	}
}

// convWeightGradSpikes3 is convWeightGradSpikes for a 3×3 window. It scans the spikes of a
// channel over a tile of deltas.
func (l Level) convWeightGradSpikes3(dw []float32, s []uint16, dy []float32, c *Conv, add bool, threads int) {
	r := newRaster(c)
	nb, px := c.BlocksIn(), c.Hin*c.Win
	m := masks.get(nb * r.tiles * Lanes * r.words)
	defer masks.put(m)
	parallel.For(threads, nb*r.tiles, func(u int) {
		b, i := u/r.tiles, u%r.tiles
		slots := words.get(r.words * 64)
		defer words.put(slots)
		clear(*slots)
		r.rowsOf(c, i, false, func(f, y, slot int) {
			copy((*slots)[slot:], s[(b*c.Frames+f)*px+y*c.Win:][:c.Win])
		})
		l.transposeBits(&(*m)[u*Lanes*r.words], &(*slots)[0], uintptr(r.words), uintptr(r.words*8))
	})
	l.outer3(dw, *m, nil, dy, c, &r, 0, r.tiles, add, threads)
}

// convWeightGradValues3 is convWeightGradSpikes3 for values that are mostly zero.
func (l Level) convWeightGradValues3(dw, x, dy []float32, c *Conv, add bool, threads int) {
	r := newRaster(c)
	nb, px, n := c.BlocksIn(), c.Hin*c.Win, r.words*64
	tiles := min(r.tiles, max(1, packed/(nb*Lanes*n)))
	m, turned := masks.get(nb*tiles*Lanes*r.words), turns.get(nb*tiles*Lanes*n)
	defer masks.put(m)
	defer turns.put(turned)
	for from := 0; from < r.tiles; from += tiles {
		to := min(from+tiles, r.tiles)
		parallel.For(threads, nb*(to-from), func(u int) {
			b, i := u/(to-from), from+u%(to-from)
			slots := scratch(n * Lanes)
			defer release(slots)
			clear(*slots)
			r.rowsOf(c, i, false, func(f, y, slot int) {
				copy((*slots)[slot*Lanes:], x[((b*c.Frames+f)*px+y*c.Win)*Lanes:][:c.Win*Lanes])
			})
			t := (*turned)[u*Lanes*n:][:Lanes*n]
			for j := 0; j < n; j += Lanes {
				l.transpose16(&t[j], &(*slots)[j*Lanes], uintptr(n*4), 64)
			}
			l.groupValues(&groupValues{ // in place
				src: ptr(t, 0), dst: ptr(t, 0), masks: ptr(*m, u*Lanes*r.words),
				pixels: uint64(Lanes * r.words), blocks: 4, srcBlock: 64, srcPixel: 256, dstPixel: 256,
			})
		})
		l.outer3(dw, *m, *turned, dy, c, &r, from, to, add || from > 0, threads)
	}
}

// outer3 adds up the weight gradient of a 3×3 window from the events of the tiles from, …,
// to−1. Events are spikes if x is nil, or values that are not zero. The nine sums of a channel
// and a block of output channels stay in registers over a tile.
//
//	m [⌈Cin/16⌉][to−from][16][words]
//	x [⌈Cin/16⌉][to−from][16][words][64]
func (l Level) outer3(dw []float32, m []uint64, x, dy []float32, c *Conv, r *raster, from, to int, add bool, threads int) {
	vectors, bytes := l.vectors()
	nb, px := c.BlocksIn(), c.Hin*c.Win
	// Input channels are split as well where there are few output channels, and the channels of a
	// block where there are few blocks.
	parts := min(nb, ceilDiv(manyUnits(threads), c.BlocksOut()))
	channels := blockShare(c.BlocksOut()*parts, threads)
	parallel.For(threads, c.BlocksOut()*parts*Lanes/channels, func(u int) {
		ch, u := u%(Lanes/channels)*channels, u/(Lanes/channels)
		ob := u / parts
		lo, hi := share(nb, u%parts, parts)
		deltas := scratch(r.slots * Lanes)
		half := r.slots * Lanes / 2
		defer release(deltas)
		for i := range to - from {
			clear(*deltas)
			r.rowsOf(c, from+i, true, func(f, y, slot int) {
				row := dy[((ob*c.Frames+f)*px+y*c.Win)*Lanes:][:c.Win*Lanes]
				at := (slot + r.pitch + 1) * Lanes / vectors
				if vectors > 1 {
					l.halve(&(*deltas)[at], &(*deltas)[half+at], &row[0], c.Win)
					return
				}
				copy((*deltas)[at:], row)
			})
			for b := lo; b < hi; b++ {
				first := ((b*(to-from)+i)*Lanes + ch) * r.words
				for v := range vectors {
					a := outer3{
						masks:    ptr(m, first),
						deltas:   ptr(*deltas, v*half),
						dw:       unsafe.Add(ptr(dw, ((ob*nb+b)*Lanes+ch)*9*Lanes), v*bytes),
						channels: uint64(channels), words: uint64(r.words),
						rowStride: uint64(r.pitch * bytes),
					}
					if i > 0 || add {
						a.start = startDst
					}
					if x == nil {
						l.outerSpikes3(&a)
						continue
					}
					a.x = ptr(x, first*64)
					l.outerValues3(&a)
				}
			}
		}
	})
}

// blockShare returns how many of the 16 channels of a block a unit takes: fewer than all if there
// would be fewer units than threads. It divides 16.
func blockShare(units, threads int) int {
	channels := Lanes
	for units*Lanes/channels < parallel.Threads(threads) && channels > 1 {
		channels /= 2
	}
	return channels
}

// seenAt writes the spikes that each output pixel reads at one position of the window.
func (c *Conv) seenAt(dst, s []uint16, p *pairs, tap int) {
	in, out := c.Hin*c.Win, c.Hout*c.Wout
	for f := range c.Frames {
		s, d := s[f*in:], dst[f*out:]
		t := p.taps[tap]
		for y := range t.rows {
			from, to := t.in+y*c.Stride*c.Win, t.out+y*c.Wout
			for x := range t.width {
				d[to+x] = s[from+x*c.Stride]
			}
		}
	}
}

// convWeightGradSpikesAny is convWeightGradSpikes for any window. For each position of the
// window it collects the spikes that output pixels read there. It then adds up the deltas of
// up to eight blocks of output channels.
func (l Level) convWeightGradSpikesAny(dw []float32, s []uint16, dy []float32, c *Conv, add bool, threads int) {
	const chunk = 4 // words of 64 deltas: 64 or 128 KB
	maxBlocks := l.gatherBlocks()
	p := windowPairs.get(c.window(), newPairs)
	nb, in, out, win := c.BlocksIn(), c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	n := c.Frames * out
	nw := ceilDiv(n, 64)
	m := masks.get(win * nb * Lanes * nw) // [win][nb][16][nw]
	defer masks.put(m)
	parallel.For(threads, win*nb, func(u int) {
		tap, b := u/nb, u%nb
		seen := words.get(nw * 64)
		defer words.put(seen)
		clear(*seen)
		if win == 1 && in == 1 && out == 1 && p.taps[0].rows > 0 { // as it is
			copy(*seen, s[b*n:][:n])
		} else {
			c.seenAt(*seen, s[b*c.Frames*in:], p, tap)
		}
		l.transposeBits(&(*m)[u*Lanes*nw], &(*seen)[0], uintptr(nw), uintptr(nw*8))
	})
	list := make([]offset, chunk)
	for i := range list {
		list[i] = offset{int64(i * 8), int64(i * 64 * 64)}
	}
	parts := min(nb, ceilDiv(manyUnits(threads), ceilDiv(c.BlocksOut(), maxBlocks)))
	// With few input channels, a unit has fewer output channels.
	tiles := max(ceilDiv(c.BlocksOut(), maxBlocks), min(c.BlocksOut(), manyUnits(threads)/parts))
	channels := Lanes // of a block that is split
	if parts == nb {
		channels = blockShare(tiles*parts, threads)
	}
	parallel.For(threads, tiles*parts*Lanes/channels, func(u int) {
		ch, u := u%(Lanes/channels)*channels, u/(Lanes/channels)
		lo, hi := share(c.BlocksOut(), u/parts, tiles)
		from, to := share(nb, u%parts, parts)
		a := gather{
			items: uint64((to - from) * channels), cols: uint64(hi - lo),
			maskItem: uint64(nw * 8), dstItem: uint64(win * 64),
			wCol: uint64(n * 64), dstCol: uint64(nb * Lanes * win * 64),
			wBit: 64, offsets: ptr(list, 0),
		}
		for word := 0; word < nw; word += chunk {
			a.count = uint64(min(chunk, nw-word))
			if word > 0 || add {
				a.start = startDst
			}
			for tap := range win {
				a.masks = ptr(*m, ((tap*nb+from)*Lanes+ch)*nw+word)
				a.w, a.dst = ptr(dy, (lo*n+word*64)*Lanes), ptr(dw, (((lo*nb+from)*Lanes+ch)*win+tap)*Lanes)
				l.gather(&a)
			}
		}
	})
}
