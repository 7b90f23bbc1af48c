package kernel

import (
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// This file computes the input gradient of a 3×3 window by Winograd's algorithm F(4×4, 3×3)
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016). It cuts
// the gradient into tiles of 4×4 pixels, which depend on 6×6 deltas. A tile takes 36
// multiplications for a pair of channels instead of 144:
//
//	Y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A
//
// g is the window turned around, and d are the deltas. The transforms evaluate polynomials at
// the points 0, ±a, ±b and ∞.
//
// A forward convolution of a dense input runs in the same way, if the caller allows it. Its
// output takes the place of the gradient and its input that of the deltas. The window is not
// turned then.
const (
	winogradTile = 4                // rows and columns of Y
	winogradIn   = winogradTile + 2 // rows and columns of d
	winogradSize = winogradIn * winogradIn

	winogradA = .625
	winogradB = 1.5 // the usual points, 1 and 2, have twice the error
)

// The factors of the transforms of lines, and what else they are made of: a² and b².
const (
	aa, bb       = winogradA * winogradA, winogradB * winogradB
	winogradNa   = 2 * aa * (aa - bb)
	winogradNb   = 2 * bb * (bb - aa)
	winogradZero = aa * bb
)

var (
	weightFactors = [...]float32{
		1 / winogradZero,
		1 / winogradNa, winogradA / winogradNa, aa / winogradNa,
		1 / winogradNb, winogradB / winogradNb, bb / winogradNb,
	}
	deltaFactors = [...]float32{winogradA, winogradB, aa, bb, aa + bb, aa * bb}
	sumFactors   = [...]float32{winogradA, winogradB, aa, bb, aa * winogradA, bb * winogradB}
)

// each calls fn with the values of each line, in float32, and with where it writes.
func (a *winogradLines) each(in int, fn func(v *[winogradIn]float32, dst func(i int) *float32)) {
	for r := range a.rows {
		for i := range a.items {
			for l := range uint64(Lanes) {
				var v [winogradIn]float32
				for j := range in {
					v[j] = *(*float32)(unsafe.Add(a.src, int(r*a.srcRow+i*a.srcItem+uint64(j)*a.srcNext+4*l)))
				}
				fn(&v, func(j int) *float32 {
					return (*float32)(unsafe.Add(a.dst, int(r*a.dstRow+i*a.dstItem+uint64(j)*a.dstNext+4*l)))
				})
			}
		}
	}
}

// winogradWeightsPortable multiplies lines of three values by G. With f = fma it has the bits of the
// assembly, with f = rounded those of winogradWeightsRounded.
func winogradWeightsPortable(a *winogradLines, f mulAdd) {
	k := &weightFactors
	a.each(3, func(v *[winogradIn]float32, dst func(int) *float32) {
		*dst(0), *dst(5) = k[0]*v[0], v[2]
		for i := range 2 {
			k := k[3*i:]
			even := f(k[3], v[2], k[1]*v[0])
			*dst(2*i + 1), *dst(2*i + 2) = f(k[2], v[1], even), f(-k[2], v[1], even)
		}
	})
}

// winogradDeltasPortable multiplies lines of six values by Bᵀ, in the same way.
func winogradDeltasPortable(a *winogradLines, f mulAdd) {
	k := &deltaFactors
	a.each(6, func(v *[winogradIn]float32, dst func(int) *float32) {
		*dst(0), *dst(5) = f(k[5], v[0], f(-k[4], v[2], v[4])), f(k[5], v[1], f(-k[4], v[3], v[5]))
		for i := range 2 {
			even, odd := f(-k[3-i], v[2], v[4]), f(-k[3-i], v[1], v[3])
			*dst(2*i + 1), *dst(2*i + 2) = f(k[i], odd, even), f(-k[i], odd, even)
		}
	})
}

// winogradSumsPortable multiplies lines of six values by Aᵀ, and adds them to dst if add is set.
func winogradSumsPortable(a *winogradLines, f mulAdd) {
	k := &sumFactors
	a.each(6, func(v *[winogradIn]float32, dst func(int) *float32) {
		even, odd := [2]float32{v[1] + v[2], v[3] + v[4]}, [2]float32{v[1] - v[2], v[3] - v[4]}
		for i, y := range [winogradTile]float32{
			(v[0] + even[0]) + even[1],
			f(k[1], odd[1], k[0]*odd[0]),
			f(k[3], even[1], k[2]*even[0]),
			f(k[5], odd[1], f(k[4], odd[0], v[5])),
		} {
			if a.add != 0 {
				y += *dst(i)
			}
			*dst(i) = y
		}
	})
}

// winograd reports whether ConvDenseWinograd uses Winograd's algorithm, and the input gradient may
// use it: Conv.way decides for each frame. NEON has no transforms. Otherwise it depends on the shapes
// of a frame alone, so that an image's results do not depend on its batch.
func (l Level) winograd(c *Conv) bool {
	const least = 64 // channels
	if l == NEON || !c.same3() || c.Cin < least || c.Cout < least {
		return false
	}
	tiles := ceilDiv(c.Hin, winogradTile) * ceilDiv(c.Win, winogradTile)
	direct := (3*c.Hin - 2) * (3*c.Win - 2) // products of a frame and a pair of channels
	return direct > 2*tiles*winogradSize
}

// The largest numbers of transformed weights and of shared transformed deltas at a time, for up to
// 8 threads. More threads have as many times more, so that each has work. They bound the memory of
// a call, and stay in the last cache of a machine with 8 threads.
const (
	winogradWeightsMost = winogradSize * 512 * 64
	winogradDeltasMost  = winogradSize * 512 * 128
)

// winogradPlan is the work of a call. A unit's products are those of 36 matrices, one for each
// place of a tile:
//
//	weights [36][dstBlocks][srcBlocks·16][16]
//	deltas  [srcBlocks/8][tiles][36][128], or less than 128 channels, see slice
//	sums    [dstBlocks][tiles][36][16]
type winogradPlan struct {
	*Conv
	dst, src, w  []float32 // the gradient or the output, and the deltas or the input
	frames       []int     // whose gradient or output is computed
	bias         []float32 // of the output, or nil
	add          bool      // not with bias
	forward      bool      // whether dst is the output
	dstBlocks    int       // of 16 channels
	srcBlocks    int
	down, across int       // tiles of a frame
	lo, hi       int       // blocks of dst's channels whose weights are transformed
	weights      []float32 // transformed
	weightPlace  int       // floats from a place's weights to the next one's
}

// winogradVectors is the number of floats of a block of a tile.
const winogradVectors = winogradSize * Lanes

// winogradSlice is the largest number of blocks of src's channels that a sum takes before it
// goes back to memory. Their weights stay in L1.
const winogradSlice = 8

// slice returns the blocks of src's channels of slice i, and slices how many there are.
func (p *winogradPlan) slice(i int) (from, to int) { return share(p.srcBlocks, i, p.slices()) }
func (p *winogradPlan) slices() int                { return ceilDiv(p.srcBlocks, winogradSlice) }

// apart returns the distance of blocks of n floats. A multiple of 4 KB would make them collide
// in the caches.
func apart(n int) int { return n + Lanes }

// The buffers of Winograd's algorithm: of a call, and of a unit.
var winogradWeights, winogradDeltas, winogradUnitDeltas, winogradUnits keeper[float32]

// convInputGradWinograd computes the input gradient of the given frames.
func (l Level) convInputGradWinograd(dx, dy, w []float32, c *Conv, frames []int, add bool, threads int) {
	l.winogradRun(&winogradPlan{
		Conv: c, dst: dx, src: dy, w: w, frames: frames, add: add, dstBlocks: c.BlocksIn(), srcBlocks: c.BlocksOut(),
	}, threads)
}

func (l Level) convDenseWinograd(dst, x, w, bias []float32, c *Conv, threads int) {
	l.winogradRun(&winogradPlan{
		Conv: c, dst: dst, src: x, w: w, frames: c.allFrames(), bias: bias, forward: true,
		dstBlocks: c.BlocksOut(), srcBlocks: c.BlocksIn(),
	}, threads)
}

// winogradRun cuts the rows of tiles of the frames into parts. If there are many, a unit of the
// work is a part. Otherwise a unit is a part and some blocks of dst's channels, and the
// transformed deltas are shared. The work then goes through rounds, whose deltas fit into a
// buffer, and within a round through ranges of dst's channels, whose weights do.
func (l Level) winogradRun(p *winogradPlan, threads int) {
	c := p.Conv
	p.down, p.across = ceilDiv(c.Hin, winogradTile), ceilDiv(c.Win, winogradTile)
	nb, sb := p.dstBlocks, p.srcBlocks
	most := ceilDiv(parallel.Threads(threads), 8)
	ranges := ceilDiv(nb*sb*Lanes*Lanes*winogradSize, most*winogradWeightsMost)
	p.weightPlace = apart(ceilDiv(nb, ranges) * sb * Lanes * Lanes)
	weights := winogradWeights.get(winogradSize * p.weightPlace)
	defer winogradWeights.put(weights)
	p.weights = *weights
	transform := func(i int) {
		p.lo, p.hi = share(nb, i, ranges)
		n := p.hi - p.lo
		parallel.For(threads, n*sb, func(u int) { l.winogradBlock(p, p.lo+u%n, u/n) })
	}
	if ranges == 1 {
		transform(0)
	}

	rows := len(p.frames) * p.down
	parts := ceilDiv(rows, max(1, p.tiles()/p.across))
	size := sb * ceilDiv(rows, parts) * p.across * winogradVectors // deltas of a part
	if ranges == 1 && parts >= manyUnits(threads) {
		parallel.For(threads, parts, func(u int) {
			from, to := share(rows, u, parts)
			deltas := winogradUnitDeltas.get(size)
			defer winogradUnitDeltas.put(deltas)
			for s := range p.slices() {
				l.winogradDeltaRows(p, *deltas, s, from, to)
			}
			l.winogradUnit(p, *deltas, 0, nb, from, to)
		})
		return
	}
	step := min(parts, max(1, most*winogradDeltasMost/size))
	deltas := winogradDeltas.get(step * size)
	defer winogradDeltas.put(deltas)
	for first := 0; first < parts; first += step {
		now := min(step, parts-first)
		parallel.For(threads, now*p.slices(), func(u int) {
			from, to := share(rows, first+u%now, parts)
			l.winogradDeltaRows(p, (*deltas)[u%now*size:], u/now, from, to)
		})
		for i := range ranges {
			if ranges > 1 {
				transform(i)
			}
			n := p.hi - p.lo
			columns := min(ceilDiv(n, winogradLeastBlocks), ceilDiv(manyUnits(threads), now))
			if few := 2 * parallel.Threads(threads); columns*now < few {
				columns = min(n, ceilDiv(few, now))
			}
			parallel.For(threads, now*columns, func(u int) {
				from, to := share(rows, first+u%now, parts)
				lo, hi := share(n, u/now, columns)
				l.winogradUnit(p, (*deltas)[u%now*size:], p.lo+lo, p.lo+hi, from, to)
			})
		}
	}
}

// winogradLeastBlocks is the least number of blocks of dst's channels of a unit, if there are so
// many and enough units for the threads: each reads the unit's deltas.
const winogradLeastBlocks = 3

// tiles returns the number of tiles of a part. More of them read their weights less often, but
// their deltas and sums leave L2.
func (p *winogradPlan) tiles() int {
	if p.srcBlocks > 256/Lanes {
		return 48
	}
	return 24
}

// winogradBlock transforms the weights of block b of dst's channels and block s of src's.
func (l Level) winogradBlock(p *winogradPlan, b, s int) {
	const square = Lanes * Lanes
	const row, slab = 9 * Lanes, 9 * square
	buffer := scratch(slab + winogradIn*3*square)
	defer release(buffer)
	g, half := (*buffer)[:slab], (*buffer)[slab:] // [3][3][16][16] unless forward, [6][3][16][16]
	lines := winogradLines{
		dst: ptr(half, 0), factors: unsafe.Pointer(&weightFactors),
		dstNext: 3 * square * 4, dstRow: square * 4, dstItem: 64,
		rows: 3, items: Lanes,
	}
	if p.forward {
		lines.src = ptr(p.w, (b*p.srcBlocks+s)*slab) // [16][3][3][16]
		lines.srcNext, lines.srcRow, lines.srcItem = 3*64, 64, row*4
	} else {
		src := p.w[(s*p.dstBlocks+b)*slab:]
		for t := range 9 { // the next block lies behind this one
			l.transposeAhead16(&g[(8-t)*square], &src[t*Lanes], 64, row*4, slab*4)
		}
		lines.src = ptr(g, 0)
		lines.srcNext, lines.srcRow, lines.srcItem = 3*square*4, square*4, 64
	}
	l.winogradWeights(&lines)
	l.winogradWeights(&winogradLines{
		src: ptr(half, 0), dst: ptr(p.weights, ((b-p.lo)*p.srcBlocks+s)*square), factors: unsafe.Pointer(&weightFactors),
		srcNext: square * 4, dstNext: uint64(p.weightPlace * 4),
		rows: winogradIn, srcRow: 3 * square * 4, dstRow: uint64(winogradIn * p.weightPlace * 4),
		items: Lanes, srcItem: 64, dstItem: 64,
	})
}

// winogradDeltaRows transforms the deltas of slice i in rows of tiles from to to, counted
// through the frames.
func (l Level) winogradDeltaRows(p *winogradPlan, deltas []float32, i, from, to int) {
	first, last := p.slice(i)
	deltas = deltas[first*(to-from)*p.across*winogradVectors:]
	size := winogradIn * (p.across*winogradTile + 2) * Lanes
	buffer := scratch(2 * size)
	defer release(buffer)
	a, b := (*buffer)[:size], (*buffer)[size:]
	clear(b) // the columns beside the image stay zero
	for r := from; r < to; r++ {
		for s := first; s < last; s++ {
			dst := ptr(deltas, (r-from)*p.across*winogradVectors*(last-first)+(s-first)*Lanes)
			l.winogradDeltaRow(p, dst, last-first, a, b, s, p.frames[r/p.down], r%p.down*winogradTile)
		}
	}
}

// winogradUnit computes blocks lo to hi of dst in rows of tiles from to to, counted
// through the frames.
func (l Level) winogradUnit(p *winogradPlan, deltas []float32, lo, hi, from, to int) {
	tiles := (to - from) * p.across
	block := apart(tiles * winogradVectors)
	size := winogradIn * p.across * winogradTile * Lanes
	buffer := winogradUnits.get((hi-lo)*block + 2*size)
	defer winogradUnits.put(buffer)
	sums, rest := (*buffer)[:(hi-lo)*block], (*buffer)[(hi-lo)*block:]
	l.winogradProducts(p, sums, deltas, tiles, lo, hi)
	for t := lo; t < hi; t++ {
		for i := from; i < to; i++ {
			l.winogradSumRow(p, ptr(sums, (t-lo)*block+(i-from)*p.across*winogradVectors), rest[:size], rest[size:], t, p.frames[i/p.down], i%p.down*winogradTile)
		}
	}
}

// winogradDeltaRow transforms the deltas of a row of tiles: those of block s and frame f whose
// first row of pixels is y. Of b, [6][columns][16], the first column and those from Win+1 on
// are zero.
func (l Level) winogradDeltaRow(p *winogradPlan, dst unsafe.Pointer, slice int, a, b []float32, s, f, y int) {
	width, columns := p.Win*Lanes, p.across*winogradTile+2
	frame := p.src[(s*p.Frames+f)*p.Hin*width:][:p.Hin*width]
	top, bottom := max(0, y-1), min(p.Hin, y+winogradIn-1)
	src := frame[top*width:]
	if bottom-top < winogradIn {
		i := (top - (y - 1)) * width
		clear(a[:i])
		n := copy(a[i:], frame[top*width:bottom*width])
		clear(a[i+n : winogradIn*width])
		src = a
	}
	l.winogradDeltas(&winogradLines{
		src: ptr(src, 0), dst: ptr(b, Lanes), factors: unsafe.Pointer(&deltaFactors),
		srcNext: uint64(width * 4), dstNext: uint64(columns * 64),
		rows: 1, items: uint64(p.Win), srcItem: 64, dstItem: 64,
	})
	l.winogradDeltas(&winogradLines{
		src: ptr(b, 0), dst: dst, factors: unsafe.Pointer(&deltaFactors),
		srcNext: 64, dstNext: uint64(slice * 64),
		rows: winogradIn, srcRow: uint64(columns * 64), dstRow: uint64(winogradIn * slice * 64),
		items: uint64(p.across), srcItem: winogradTile * 64, dstItem: uint64(winogradSize * slice * 64),
	})
}

// winogradProducts multiplies the transformed deltas by the transformed weights.
func (l Level) winogradProducts(p *winogradPlan, sums, deltas []float32, tiles, lo, hi int) {
	vectors, bytes := l.vectors()
	block := apart(tiles * winogradVectors)
	panel := p.srcBlocks * Lanes * Lanes // weights of a place and a block of dst's channels
	var one [1]offset
	t := tile{
		offsets: ptr(one[:], 0), count: 1, outer: 1,
		dstRow: winogradVectors * 4, wCol: uint64(panel * 4), dstCol: uint64(block * 4),
		lanes: Lanes, srcLane: 4, wLane: 64,
	}
	if vectors > 1 { // the blocks of a tile are then one
		t.wCol, t.dstCol = uint64(bytes), uint64(bytes)
	}
	slices, groups := p.slices(), ceilDiv(hi-lo, l.tileBlocks())
	weights := func(i int) []float32 { // of step i
		place, slice, group := i/groups/slices, i/groups%slices, i%groups
		first, _ := p.slice(slice)
		from, _ := share(hi-lo, group, groups)
		return p.weights[place*p.weightPlace+(lo-p.lo+from)*panel+first*Lanes*Lanes:]
	}
	steps := winogradSize * slices * groups
	for i := range steps {
		place, slice, group := i/groups/slices, i/groups%slices, i%groups
		first, last := p.slice(slice)
		from, to := share(hi-lo, group, groups)
		t.w = ptr(weights(i), 0)
		t.cols, t.blocks = uint64((to-from)*vectors), uint64(last-first)
		t.srcRow = uint64((last - first) * winogradVectors * 4)
		t.start = startZero
		if slice > 0 {
			t.start = startDst
		}
		parts := ceilDiv(tiles, l.tileRows(to-from))
		rows := ceilDiv(tiles, parts)
		less := parts*rows - tiles // parts of one row less
		done := 0
		run := func(rows, items int) {
			t.src = ptr(deltas, first*tiles*winogradVectors+(done*winogradSize+place)*(last-first)*Lanes)
			t.dst = ptr(sums, from*block+(done*winogradSize+place)*Lanes)
			t.rows, t.more = uint64(rows), uint64(items-1)
			t.srcItem, t.dstItem = uint64(rows)*t.srcRow, uint64(rows)*t.dstRow
			t.ahead = t.srcItem
			l.runTile(&t)
			done += rows * items
		}
		more := parts - less
		for half := range 2 {
			if i+1 == steps || more == 0 {
				break
			}
			t.soon, t.soonBlock = ptr(weights(i+1), half*(last-first)*Lanes*Lanes/2), 512
			run(rows, 1)
			more--
		}
		t.soon = nil
		if more > 0 {
			run(rows, more)
		}
		if less > 0 {
			run(rows-1, less)
		}
	}
}

// winogradSumRow transforms the sums of a row of tiles to dst, as winogradDeltaRow does with
// deltas. The content of a and b is not used.
func (l Level) winogradSumRow(p *winogradPlan, src unsafe.Pointer, a, b []float32, t, f, y int) {
	width, columns := p.Win*Lanes, p.across*winogradTile
	l.winogradSums(&winogradLines{
		src: src, dst: ptr(a, 0), factors: unsafe.Pointer(&sumFactors),
		srcNext: 64, dstNext: 64,
		rows: winogradIn, srcRow: winogradIn * 64, dstRow: uint64(columns * 64),
		items: uint64(p.across), srcItem: winogradVectors * 4, dstItem: winogradTile * 64,
	})
	n := min(winogradTile, p.Hin-y)
	rows := p.dst[((t*p.Frames+f)*p.Hin+y)*width:][:n*width]
	last := winogradLines{
		src: ptr(a, 0), dst: ptr(rows, 0), factors: unsafe.Pointer(&sumFactors),
		srcNext: uint64(columns * 64), dstNext: uint64(width * 4),
		rows: 1, items: uint64(p.Win), srcItem: 64, dstItem: 64,
	}
	if p.bias != nil {
		fill(rows, p.bias, t)
	}
	if p.add || p.bias != nil {
		last.add = 1
	}
	if n < winogradTile {
		copy(b, rows)
		last.dst = ptr(b, 0)
	}
	l.winogradSums(&last)
	if n < winogradTile {
		copy(rows, b)
	}
}
