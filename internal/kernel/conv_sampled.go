package kernel

import "github.com/org/snnrat/internal/parallel"

// Neurons use the gradient of spikes only where their surrogate derivative is not zero. This
// file computes only those elements of a convolution's input gradient. Such a sampled product
// (SDDMM) uses vectors of output channels, so that it can skip single elements of the result.

// sampledTiles cuts frames into tiles of up to 64 places. The bits of the places are one
// word. The deltas of a tile, with a border, fit into L1.
type sampledTiles struct {
	frames, rows, cols int // of a tile, at most: frames > 1 only if they are whole
	bands, strips      int // tiles of a frame, down and across
	n                  int
	runs               [][]int // the frames of a tile, which follow each other
	places             [64]place
}

// newSampledTiles returns the tiles of the given frames.
func newSampledTiles(c *Conv, frames []int) *sampledTiles {
	const slots = 112 // of 64 deltas: 28 KB
	t := &sampledTiles{frames: 1}
	t.strips = ceilDiv(c.Win, 16)
	t.cols = ceilDiv(c.Win, t.strips)
	t.bands = ceilDiv(c.Hin, min(64/t.cols, slots/(t.cols+2)-2))
	t.rows = ceilDiv(c.Hin, t.bands)
	if t.bands*t.strips == 1 {
		t.frames = max(1, min(len(frames), 64/(t.rows*t.cols), slots/((t.rows+2)*(t.cols+2))))
	}
	for len(frames) > 0 {
		n := consecutive(frames, t.frames)
		t.runs = append(t.runs, frames[:n])
		frames = frames[n:]
	}
	t.n = len(t.runs) * t.bands * t.strips
	for i := range t.frames * t.rows * t.cols {
		f, y, x := i/(t.rows*t.cols), i/t.cols%t.rows, i%t.cols
		t.places[i] = place{
			delta: int32((f*(t.rows+2)+y)*(t.cols+2)+x) * Group * 4,
			dst:   int32((f*c.Hin+y)*c.Win+x) * Lanes * 4,
		}
	}
	return t
}

// slots returns the number of pixels of a tile with its border.
func (t *sampledTiles) slots() int { return t.frames * (t.rows + 2) * (t.cols + 2) }

// at returns the frames of tile i, and where it begins in them.
func (t *sampledTiles) at(i int) (frames []int, y, x int) {
	return t.runs[i/(t.bands*t.strips)], i / t.strips % t.bands * t.rows, i % t.strips * t.cols
}

// rowsOf calls fn for every row of pixels of tile i with a border of the given width: for
// the n pixels from x on of row y of frame f. The last argument of fn is the number of the
// first of these places in the tile, counted with the border.
func (t *sampledTiles) rowsOf(c *Conv, i, halo int, fn func(f, y, x, n, slot int)) {
	frames, y0, x0 := t.at(i)
	height, width := t.rows+2*halo, t.cols+2*halo
	from, to := max(0, x0-halo), min(c.Win, x0+t.cols+halo)
	for j, f := range frames {
		for y := max(0, y0-halo); y < min(c.Hin, y0+t.rows+halo); y++ {
			fn(f, y, from, to-from, (j*height+y-y0+halo)*width+from-x0+halo)
		}
	}
}

// convInputGradWhere3 computes the elements of the input's gradient that are needed, in the given
// frames. It sets the others to zero, unless it adds. A unit has so many blocks of input channels
// that their weights for a group of output channels fit into L2. It goes through the groups, and
// within a group through its tiles.
func (l Level) convInputGradWhere3(dx, dy, w []float32, need []uint16, c *Conv, frames []int, add bool, threads int) {
	const maxBlocks = 8
	t := newSampledTiles(c, frames)
	nb, px := c.BlocksIn(), c.Hin*c.Win
	m := masks.get(nb * t.n * Lanes) // [nb][tiles][16]
	defer masks.put(m)
	parallel.For(threads, nb*t.n, func(u int) {
		var bits [64]uint16
		t.rowsOf(c, u%t.n, 0, func(f, y, x, n, slot int) {
			copy(bits[slot:], need[(u/t.n*c.Frames+f)*px+y*c.Win+x:][:n])
		})
		l.transposeBits(&(*m)[u*Lanes], &bits[0], 1, 8)
	})
	ranges := ceilDiv(nb, maxBlocks)
	parts := min(t.n, ceilDiv(manyUnits(threads), ranges))
	parallel.For(threads, ranges*parts, func(u int) {
		lo, hi := share(nb, u/parts, ranges)
		from, to := share(t.n, u%parts, parts)
		if !add {
			for i := from; i < to; i++ {
				t.rowsOf(c, i, 0, func(f, y, x, n, _ int) {
					for b := lo; b < hi; b++ {
						clear(dx[((b*c.Frames+f)*px+y*c.Win+x)*Lanes:][:n*Lanes])
					}
				})
			}
		}
		deltas := scratch(t.slots() * Group)
		notZero := masks.get(t.cols + 2)
		defer release(deltas)
		defer masks.put(notZero)
		for g := 0; g < c.BlocksOut(); g += Group / Lanes {
			blocks := min(Group/Lanes, c.BlocksOut()-g)
			for i := from; i < to; i++ {
				clear(*deltas)
				t.rowsOf(c, i, 1, func(f, y, x, n, slot int) {
					l.groupValues(&groupValues{
						src: ptr(dy, ((g*c.Frames+f)*px+y*c.Win+x)*Lanes), dst: ptr(*deltas, slot*Group), masks: ptr(*notZero, 0),
						pixels: uint64(n), blocks: uint64(blocks), srcBlock: uint64(c.Frames * px * 64), srcPixel: 64,
						dstPixel: Group * 4, turn: uint64(64 - 16*blocks),
					})
				})
				frames, y, x := t.at(i)
				for b := lo; b < hi; b++ {
					left := [Lanes]uint64((*m)[(b*t.n+i)*Lanes:])
					l.runSampled3(&sampled3{
						masks: ptr(left[:], 0), places: ptr(t.places[:], 0), deltas: ptr(*deltas, 0),
						w:        ptr(w, (g*nb+b)*Lanes*9*Lanes),
						dst:      ptr(dx, ((b*c.Frames+frames[0])*px+y*c.Win+x)*Lanes),
						channels: Lanes, blocks: uint64(blocks),
						rowStride: uint64((t.cols + 2) * Group * 4), wBlock: uint64(nb * Lanes * 9 * 64),
					})
				}
			}
		}
	})
}

// runSampled3 runs the routine. If a sum is NaN, a zero may have been multiplied by a weight
// that is not finite. The portable version, which leaves zeros out, then computes that sum.
func (l Level) runSampled3(a *sampled3) {
	rest := *a
	l.sampled3(a)
	if a.nan == 0 {
		return
	}
	multiply := mulAdd(fma)
	if l == Portable {
		multiply = rounded
	}
	sampled3With(&rest, multiply)
}
