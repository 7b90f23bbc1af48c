package kernel

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// lender lends slices of any content until they are put back.
type lender[T any] struct{ pool sync.Pool }

func (l *lender[T]) get(n int) *[]T {
	b, _ := l.pool.Get().(*[]T)
	return sized(b, n)
}

// sized returns b, or a new slice, with n elements.
func sized[T any](b *[]T, n int) *[]T {
	if b == nil {
		b = new([]T)
	}
	if cap(*b) < n {
		*b = make([]T, n)
	}
	*b = (*b)[:n]
	return b
}

func (l *lender[T]) put(b *[]T) { l.pool.Put(b) }

var (
	masks lender[uint64]
	words lender[uint16]

	// The largest buffers, which belong to whole operations. They are kept apart from those
	// of small units, which would keep the large memory. Each kind has its own keeper, so
	// that a buffer has the size it had the last time.
	packs, turns keeper[float32]
)

// keeper is a lender that keeps what is put back. A sync.Pool may keep a slice for every
// processor, although one operation at a time needs one.
type keeper[T any] struct {
	mu   sync.Mutex
	idle []*[]T
}

func (k *keeper[T]) get(n int) *[]T {
	var b *[]T
	k.mu.Lock()
	if last := len(k.idle) - 1; last >= 0 {
		b, k.idle = k.idle[last], k.idle[:last]
	}
	k.mu.Unlock()
	return sized(b, n)
}

func (k *keeper[T]) put(b *[]T) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle = append(k.idle, b)
}

func (k *keeper[T]) free() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.idle = nil
}

// FreeMemory drops the scratch memory that is not in use. The garbage collector frees that of
// lenders by itself.
func FreeMemory() {
	for _, k := range []interface{ free() }{
		&packs, &turns, &recurrentSums, &recurrentSlopes, &winogradWeights, &winogradDeltas, &winogradUnitDeltas, &winogradUnits,
		&spikeRows, &pairRows, &intMasks, &intSpread, &intPadded, &intPairBytes, &intSums, &intSlabs, &intRows, &intWides, &intTiles, &intQuads, &intFew,
	} {
		k.free()
	}
}

// gatherBlocks returns the largest number of blocks of 16 channels of a gather. Their sums
// must fit into the registers.
func (l Level) gatherBlocks() int {
	if l == AVX512 {
		return 8
	}
	return 4
}

// groupChannels returns the number of channels of a group, blocks being whole.
func (c *Conv) groupChannels() int { return min(c.BlocksIn()*Lanes, Group) }

// same3 reports whether the window is 3×3 with stride 1 and padding 1, and rows have more than
// one pixel.
func (c *Conv) same3() bool {
	return c.KH == 3 && c.KW == 3 && c.Stride == 1 && c.Pad == 1 && c.Win > 1
}

// groupMasks writes the spikes of groups of 64 channels as masks [groups][Frames][Hin·Win].
// Bit i of a mask is channel i of the group.
func groupMasks(dst []uint64, s []uint16, c *Conv, threads int) {
	const chunk = 4096
	type args struct {
		dst   []uint64
		s     []uint16
		n, nb int
	}
	n, nb := c.Frames*c.Hin*c.Win, c.BlocksIn()
	parallel.With(threads, ceilDiv(nb, 4)*ceilDiv(n, chunk), args{dst, s, n, nb}, func(k args, u int) {
		parts := ceilDiv(k.n, chunk)
		g, lo := u/parts, u%parts*chunk
		hi := min(lo+chunk, k.n)
		d := k.dst[g*k.n+lo : g*k.n+hi]
		for i, b := 0, g*4; i < 4 && b < k.nb; i, b = i+1, b+1 {
			src := k.s[b*k.n+lo:][:len(d)]
			if i == 0 {
				for j, v := range src {
					d[j] = uint64(v)
				}
				continue
			}
			for j, v := range src {
				d[j] |= uint64(v) << (16 * i)
			}
		}
	})
}

// convSpikes adds up the weights of events. For a 3×3 window, one scan of the masks of 64
// channels keeps nine sums in registers. For other windows, one scan is for up to eight
// blocks of output channels.
func (l Level) convSpikes(dst []float32, s []uint16, w, bias []float32, c Conv, threads int) {
	groups := ceilDiv(c.BlocksIn(), Group/Lanes)
	m := masks.get(groups * c.Frames * c.Hin * c.Win)
	defer masks.put(m)
	groupMasks(*m, s, &c, threads)
	if c.same3() {
		l.scatter3(dst, *m, nil, w, bias, &c, 0, c.Frames, false, threads)
		return
	}
	l.convSpikesAny(dst, *m, w, bias, c, threads)
}

// manyUnits returns the number of units into which a loop is split if possible. It is large,
// so that other threads can take over the share of a thread whose processor is busy with
// other work. One thread gets a few units. Their results stay in a cache from group to group.
func manyUnits(threads int) int {
	if n := parallel.Threads(threads); n > 1 {
		return 16 * n
	}
	return 4
}

// frameParts returns the number of ranges into which the frames are split. There are enough
// units for the threads. The destination of a range, with the given bytes for each frame,
// stays in L2 while the groups pass over it.
func frameParts(frames, tiles, bytes, threads int) int {
	return min(frames, max(ceilDiv(manyUnits(threads), tiles), frames*bytes>>17))
}

// noBias is the start of the sums of a tile of scatter3 if there is no bias.
var noBias [4 * Lanes]float32

// scatter3 sends the events of the frames from, …, to−1 through a 3×3 window. Events are
// spikes if x is nil, or values that are not zero.
//
//	m [groups][to−from][Hin·Win]
//	x [groups][to−from][Hin·Win][groupChannels]
func (l Level) scatter3(dst []float32, m []uint64, x, w, bias []float32, c *Conv, from, to int, add bool, threads int) {
	tile := 1
	if l == AVX512 && (c.Cin <= 32 || few(m)) {
		tile = 2 // the weights of both, or those in use, fit L1
	}
	if l == Portable {
		tile = 4 // share a list
	}
	tiles := ceilDiv(c.BlocksOut(), tile)
	parts := frameParts(to-from, tiles, c.Hin*c.Win*64*tile, threads)
	parallel.Run(threads, tiles*parts, scattering{l, *c, dst, x, w, bias, m, from, to, add, tiles, parts})
}

// scattering are the variables of [Level.scatter3], and the parts of its work.
type scattering struct {
	l               Level
	c               Conv
	dst, x, w, bias []float32
	m               []uint64
	from, to        int
	add             bool
	tiles, parts    int
}

// Do does unit u.
func (k scattering) Do(u int) {
	vectors, bytes := k.l.vectors()
	c := &k.c
	nb, px, frames := c.BlocksIn(), c.Hin*c.Win, k.to-k.from
	ob, end := share(c.BlocksOut(), u/k.parts, k.tiles)
	lo, hi := share(frames, u%k.parts, k.parts)
	var half *[]float32
	if vectors > 1 {
		half = scratch(Group * 9 * Lanes)
		defer release(half)
	}
	for g := 0; g < nb; g += Group / Lanes {
		first := (g/4*frames + lo) * px
		slab := k.w[(ob*nb+g)*Lanes*9*Lanes:]
		n := min(Group, (nb-g)*Lanes) * 9 // vectors of 16
		if vectors > 1 {
			k.l.halve(&(*half)[0], &(*half)[n*Lanes/2], &slab[0], n)
			slab = *half
		}
		for v := range vectors {
			a := scatter3{
				masks:  ptr(k.m, first),
				w:      unsafe.Add(ptr(slab, 0), v*n*bytes),
				dst:    unsafe.Add(ptr(k.dst, (ob*c.Frames+k.from+lo)*px*Lanes), v*bytes),
				frames: uint64(hi - lo), height: uint64(c.Hin), width: uint64(c.Win),
				blocks: uint64(end - ob), wBlock: uint64(nb * Lanes * 9 * 64), dstBlock: uint64(c.Frames * px * 64),
			}
			switch {
			case k.add || g > 0:
			case k.bias == nil:
				a.bias = ptr(noBias[:], 0)
			default:
				a.bias = unsafe.Add(ptr(k.bias, ob*Lanes), v*bytes)
			}
			if k.x == nil {
				k.l.scatterSpikes3(&a)
				continue
			}
			a.x, a.xPixel = ptr(k.x, first*c.groupChannels()), uint64(c.groupChannels()*4)
			k.l.scatterValues3(&a)
		}
	}
}

// few reports whether a sample of masks has fewer than 6 set bits each in the mean.
func few(m []uint64) bool {
	step := max(1, len(m)/1000) | 1
	masks, events := 0, 0
	for i := 0; i < len(m); i += step {
		masks++
		events += bits.OnesCount64(m[i])
	}
	return events < 6*masks
}

// sparse reports whether x has so many zeros that a 3×3 window is faster event by event than
// as a dense product. It looks at a sample of blocks. An event costs a little more than a
// dense channel. A pixel costs about as much as 12 channels besides, whatever its number of
// events; at AVX2 as much as 5, since channels cost more there. Portable Go is faster event by
// event whatever the number of zeros.
func (l Level) sparse(x []float32, channels int) bool {
	if l == Portable {
		return true
	}
	pixel := 12
	if l == AVX2 {
		pixel = 5
	}
	n := len(x) / Lanes
	step := max(1, n/300) | 1
	seen, events := 0, 0
	for i := 0; i < n; i += step {
		seen++
		for _, v := range (*[Lanes]float32)(x[i*Lanes:]) {
			events += int(notZero(v))
		}
	}
	perPixel := float64(events) / float64(seen) * float64(blocks(channels))
	return perPixel/float64(channels) < .8*float64(channels)/float64(channels+pixel)
}

// packed is the largest number of values that are packed or transposed at a time, 4 MB. They
// stay in a cache, and their memory does not grow with the number of frames.
const packed = 1 << 20

// convValues3 is a convolution with a 3×3 window of values that are mostly zero, of the frames
// first, …, last−1.
func (l Level) convValues3(dst, x, w, bias []float32, c *Conv, first, last int, add bool, threads int) {
	px, nb := c.Hin*c.Win, c.BlocksIn()
	groups, channels := ceilDiv(nb, 4), c.groupChannels()
	frames := min(last-first, max(1, packed/(groups*px*channels)))
	m, values := masks.get(groups*frames*px), packs.get(groups*frames*px*channels)
	defer masks.put(m)
	defer packs.put(values)
	for from := first; from < last; from += frames {
		to := min(from+frames, last)
		const chunk = 1024
		type args struct {
			l         Level
			c         Conv
			x, values []float32
			m         []uint64
			from, n   int
		}
		n := (to - from) * px
		parallel.With(threads, groups*ceilDiv(n, chunk), args{l, *c, x, *values, *m, from, n}, func(k args, u int) {
			parts := ceilDiv(k.n, chunk)
			px, channels := k.c.Hin*k.c.Win, k.c.groupChannels()
			g, lo := u/parts, u%parts*chunk
			blocks := min(4, k.c.BlocksIn()-g*4)
			k.l.groupValues(&groupValues{
				src: ptr(k.x, ((g*4*k.c.Frames+k.from)*px+lo)*Lanes), dst: ptr(k.values, (g*k.n+lo)*channels), masks: ptr(k.m, g*k.n+lo),
				pixels: uint64(min(chunk, k.n-lo)), blocks: uint64(blocks), srcBlock: uint64(k.c.Frames * px * 64), srcPixel: 64,
				dstPixel: uint64(channels * 4), turn: uint64(64 - 16*blocks),
			})
		})
		l.scatter3(dst, *m, *values, w, bias, c, from, to, add, threads)
	}
}

func (l Level) convSpikesAny(dst []float32, m []uint64, w, bias []float32, c Conv, threads int) {
	tileBlocks := l.gatherBlocks()
	if c.KH*c.KW > 1 {
		tileBlocks = 4 // keeps a group's weights in L2
	}
	tiles := ceilDiv(c.BlocksOut(), tileBlocks)
	parts := frameParts(c.Frames, tiles, c.Hout*c.Wout*64*tileBlocks, threads)
	sources := outputSources.get(c.window(), newOutputSources)
	parallel.Run(threads, tiles*parts, gathering{l, c, sources, dst, w, bias, m, tiles, parts, parallel.Threads(threads)})
}

// gathering are the variables of [Level.convSpikesAny], and the parts of its work.
type gathering struct {
	l            Level
	c            Conv
	sources      *sources
	dst, w, bias []float32
	m            []uint64
	tiles, parts int
	threads      int
}

// Do does unit u.
func (k gathering) Do(u int) {
	c, w := &k.c, k.w
	nb, in, out, win := c.BlocksIn(), c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	lo, hi := share(c.BlocksOut(), u/k.parts, k.tiles)
	from, to := share(c.Frames, u%k.parts, k.parts)
	var groups [4]offset
	a := gather{
		items: uint64(to - from), cols: uint64(hi - lo),
		maskItem: uint64(in * 8), dstItem: uint64(out * 64),
		wCol: uint64(nb * Lanes * win * 64), dstCol: uint64(c.Frames * out * 64),
		wBit: uint64(win * 64),
	}
	step := Group / Lanes
	if win == 1 {
		step *= len(groups) // the order is the same for any
	}
	for g := 0; g < nb; g += step {
		for px := range out {
			of := k.sources.of(px)
			d := ((lo*c.Frames+from)*out + px) * Lanes
			if of.n == 0 {
				if g == 0 {
					for b := lo; b < hi; b++ {
						for f := from; f < to; f++ {
							fill(k.dst[((b*c.Frames+f)*out+px)*Lanes:][:Lanes], k.bias, b)
						}
					}
				}
				continue
			}
			list := k.sources.lists[of.cols].masks[:of.n]
			if win == 1 {
				n := ceilDiv(min(step, nb-g), Group/Lanes)
				for i := range n {
					groups[i] = offset{int64(i * c.Frames * in * 8), int64(i * Group * 64)}
				}
				list = groups[:n]
			}
			a.offsets, a.count = ptr(list, 0), uint64(len(list))
			a.masks = ptr(k.m, (g/4*c.Frames+from)*in+of.first)
			if win == 1 && px == 0 {
				// The weights of the next groups, or of the unit this thread will
				// probably do next.
				next := (lo*nb + g + step) * Lanes * Lanes
				n := min(step, nb-g-step)
				if n <= 0 {
					next, n = 0, 0
					if v := u + k.threads; v < k.tiles*k.parts {
						lo, _ := share(c.BlocksOut(), v/k.parts, k.tiles)
						next, n = lo*nb*Lanes*Lanes, min(step, nb)
					}
				}
				if n > 0 {
					a.soon = ptr(w, next)
					a.soonEnd = unsafe.Add(a.soon, n*Lanes*64-64) // the last line: not past the weights
					a.soonItem = uint64(ceilDiv(n*Lanes, to-from) * 64)
				}
			}
			a.w, a.dst = ptr(w, ((lo*nb+g)*Lanes*win+of.tap)*Lanes), ptr(k.dst, d)
			switch {
			case g > 0:
				a.start = startDst
			case k.bias != nil:
				a.start, a.bias = startBias, ptr(k.bias, lo*Lanes)
			}
			k.l.gather(&a)
		}
	}
}

// convInputGradValues3 is the convolution of dy with the window turned around, for a dy that
// is mostly zero in the given frames. Outside of training, batch norm keeps the zeros of a
// surrogate gradient.
func (l Level) convInputGradValues3(dx, dy, w []float32, c *Conv, frames []int, add bool, threads int) {
	const slab, row = Lanes * 9 * Lanes, 9 * 64
	srcBlocks, dstBlocks := c.BlocksOut(), c.BlocksIn()
	parts := ceilDiv(dstBlocks*srcBlocks*slab, packed)
	turned := turns.get(ceilDiv(dstBlocks, parts) * srcBlocks * slab)
	defer turns.put(turned)
	back := *c
	back.Cin = c.Cout
	for i := range parts {
		lo, hi := share(dstBlocks, i, parts)
		parallel.For(threads, hi-lo, func(b int) {
			for s := range srcBlocks {
				for t := range 9 {
					l.transposeAhead16(&(*turned)[(b*srcBlocks+s)*slab+(8-t)*Lanes], &w[(s*dstBlocks+lo+b)*slab+t*Lanes],
						row, row, uintptr(dstBlocks*slab*4))
				}
			}
		})
		back.Cout = min(c.Cin, hi*Lanes) - lo*Lanes
		for rest := frames; len(rest) > 0; {
			n := consecutive(rest, len(rest))
			l.convValues3(dx[lo*c.Frames*c.Hin*c.Win*Lanes:], dy, *turned, nil, &back, rest[0], rest[0]+n, add, threads)
			rest = rest[n:]
		}
	}
}
