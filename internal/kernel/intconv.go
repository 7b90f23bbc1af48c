package kernel

import (
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// IntConv is a convolution of whole numbers with weights of 8 bits. [NewIntConv] makes one. Sums
// are exact: they do not depend on their order.
//
// Spikes are summed event by event, in 16 bits. A sum goes on in 32 bits before the next group of
// channels could take it out of int16; the weights tell when. Bytes are dense products, or events of
// pairs of channels.
type IntConv struct {
	Conv // Frames is not used
	w    []int8
	top  int
	ends []intRange // [BlocksOut][groups], or nil: the ranges of sums of spikes
	flat *IntConv   // the same of images of one pixel, if the window is a larger input; or nil
	runs []int      // of blocks of input channels whose sums of bytes fit 16 bits: run r begins with block runs[r]; or nil
}

// intRange is a range of sums that has 0 in it.
type intRange struct{ min, max int32 }

func (r intRange) plus(q intRange) intRange { return intRange{r.min + q.min, r.max + q.max} }
func (r intRange) join(q intRange) intRange { return intRange{min(r.min, q.min), max(r.max, q.max)} }
func (r intRange) fits16() bool             { return r.min >= math.MinInt16 && r.max <= math.MaxInt16 }

// NewIntConv returns the convolution c of inputs from 0 to top, at most 255. It keeps w, whose
// layout is row-major: [Cout][Cin][KH][KW]. It panics if w has another length. The caller
// guarantees that all sums, in any order, are within int32.
func NewIntConv(c Conv, w []int8, top int) *IntConv {
	row := c.Cin * c.KH * c.KW
	if len(w) != c.Cout*row || top < 0 || top > math.MaxUint8 {
		panic(fmt.Sprintf("kernel: NewIntConv: %d weights and inputs up to %d do not fit %+v", len(w), top, c))
	}
	k := &IntConv{Conv: c, w: w, top: top}
	k.runs = k.pairRuns()
	if c.KH == c.Hin && c.KW == c.Win && c.Pad == 0 && c.KH*c.KW > 1 {
		k.flat = NewIntConv(Conv{Cin: row, Hin: 1, Win: 1, Cout: c.Cout, Hout: 1, Wout: 1, KH: 1, KW: 1, Stride: 1}, w, top)
		return k
	}
	win, groups := c.KH*c.KW, ceilDiv(c.Cin, Group)
	if win*128 > -math.MinInt16 {
		return k // a single channel may leave int16: spikes are bytes
	}
	k.ends = make([]intRange, c.BlocksOut()*groups)
	for o := range c.Cout {
		for g := range groups {
			var r intRange
			for _, v := range w[o*row+g*Group*win : o*row+min((g+1)*Group, c.Cin)*win] {
				r.min += min(0, int32(v))
				r.max += max(0, int32(v))
			}
			e := &k.ends[o/Lanes*groups+g]
			*e = e.join(r)
		}
	}
	return k
}

// IntNeurons are the settings of a layer of neurons on whole numbers. At every step
//
//	m ← ⌊m·Leak / 2^Shift⌋ + Gain·cur + Bias
//
// for the current cur. The neuron fires if m ≥ Threshold. Then m is set to 0, or lowered by
// Threshold if Soft is set. A nil Gain is 1.
//
//	Gain, Bias, Threshold [blocks][16]
type IntNeurons struct {
	Gain, Bias, Threshold []int32
	Leak                  int32
	Shift                 uint
	Soft                  bool
}

// IntOutput says where the currents of a convolution go, and what is added to them. There are
// Images images, each with the steps of the convolution's input.
type IntOutput struct {
	Images   int
	Gain     []int32     // factors of the sums, [blocks][16]; nil for ones
	Add      []int32     // added after that, [blocks][Images·AddSteps][Hout·Wout][16], or nil for none
	AddSteps int         // those of the input, or 1 if Add is the same at every step
	Currents []int32     // [blocks][Images·steps][Hout·Wout][16], or nil if nobody needs them
	Spikes   []uint16    // [blocks][Images·Steps][Hout·Wout], or nil for none
	Neurons  *IntNeurons // the neurons that fire them
	Steps    int         // of the neurons: those of the input, or any if that has one step
}

// intUnit is a part of the work of a convolution of whole numbers: some blocks of output channels
// of some images.
type intUnit struct {
	l            Level
	k            *IntConv
	o            IntOutput
	steps        int // of the input
	masks        []uint64
	bytes        []uint8
	tile         int // blocks of a unit
	tiles, parts int
	channels     int // of bytes, rounded up to whole blocks
	pieces       int // into which a byte is split
}

// The buffers of convolutions of whole numbers: of a call, and of a unit.
var (
	intMasks             keeper[uint64]
	intSpread, intPadded keeper[uint8]
	intPairBytes         keeper[uint8]

	intSums, intSlabs, intRows keeper[packed4]
	intWides, intTiles         keeper[[Lanes]int32]
	intQuads                   keeper[int8]
	intFew                     keeper[uint64]
)

// Spikes computes the convolution of spikes.
//
//	s [⌈Cin/16⌉][Images·steps][Hin·Win]
func (k *IntConv) Spikes(o IntOutput, s []uint16, steps, threads int) {
	c := k.Conv
	c.Frames = o.Images * steps
	k.check("Spikes", &o, len(s)*Lanes, steps)
	if c.Frames == 0 {
		return
	}
	if k.flat != nil {
		m := intMasks.get(ceilDiv(k.flat.Cin, Group) * c.Frames)
		defer intMasks.put(m)
		flatMasks(*m, s, &c, threads)
		k.flat.events(o, *m, steps, threads)
		return
	}
	if k.ends == nil {
		x := intSpread.get(len(s) * Lanes)
		defer intSpread.put(x)
		for i, word := range s {
			spread((*x)[i*Lanes:], word)
		}
		k.Bytes(o, *x, nil, steps, threads)
		return
	}
	m := intMasks.get(ceilDiv(c.Cin, Group) * c.Frames * c.Hin * c.Win)
	defer intMasks.put(m)
	groupMasks(*m, s, &c, threads)
	k.events(o, *m, steps, threads)
}

// flatMasks writes the spikes of frames as masks [⌈Cin·Hin·Win/64⌉][Frames] for a window that is the
// whole input. Bit i of mask g is value 64·g + i of the frame, [Cin][Hin·Win].
func flatMasks(dst []uint64, s []uint16, c *Conv, threads int) {
	type args struct {
		dst []uint64
		s   []uint16
		c   Conv
	}
	parallel.With(threads, c.Frames, args{dst, s, *c}, func(k args, f int) {
		n := k.c.Hin * k.c.Win
		for at := f; at < len(k.dst); at += k.c.Frames {
			k.dst[at] = 0
		}
		for b := range k.c.BlocksIn() {
			for p, word := range k.s[(b*k.c.Frames+f)*n:][:n] {
				for ; word != 0; word &= word - 1 {
					i := (b*Lanes+bits.TrailingZeros16(word))*n + p
					k.dst[i/Group*k.c.Frames+f] |= 1 << (i % Group)
				}
			}
		}
	})
}

// events is Spikes for masks of groups of 64 channels.
//
//	m [⌈Cin/64⌉][Images·steps][Hin·Win]
func (k *IntConv) events(o IntOutput, m []uint64, steps, threads int) {
	u := intUnit{l: CurrentLevel(), k: k, o: o, steps: steps, masks: m, tile: 1}
	switch {
	case !k.same3():
		u.tile = u.wide(8, threads)
	case u.l.packsInts():
		u.tile = 4 // share a list
	}
	u.split(threads, 2)
	parallel.Run(threads, u.tiles*u.parts, intEvents(u))
}

// Bytes computes the convolution of bytes, which are at most top. The value of channel i outside
// of the input is border[i], or 0 if border is nil.
//
//	x [⌈Cin/16⌉][Images·steps][Hin·Win][16]
func (k *IntConv) Bytes(o IntOutput, x, border []uint8, steps, threads int) {
	k.check("Bytes", &o, len(x), steps)
	if o.Images*steps == 0 {
		return
	}
	if k.runs != nil && border == nil {
		k.pairs(o, x, steps, threads)
		return
	}
	pieces := max(1, ceilDiv(k.top, mostByte))
	u := intUnit{l: CurrentLevel(), k: k, o: o, steps: steps, pieces: pieces, channels: ceilDiv(pieces*k.Cin, Lanes) * Lanes}
	u.tile = u.wide(4, threads) // share the bytes in L1
	padded := intPadded.get(o.Images * steps * (k.Hin + 2*k.Pad) * (k.Win + 2*k.Pad) * u.channels)
	defer intPadded.put(padded)
	u.bytes = *padded
	u.split(threads, 4)
	parallel.With(threads, o.Images*steps, intPacking{u, x, border}, intPacking.frame)
	parallel.Run(threads, u.tiles*u.parts, intDense(u))
}

func (k *IntConv) check(op string, o *IntOutput, in, steps int) {
	n, nb := k.Hout*k.Wout, k.BlocksOut()
	if in < k.BlocksIn()*o.Images*steps*k.Hin*k.Win*Lanes ||
		o.Gain != nil && len(o.Gain) < nb*Lanes || o.Add != nil && (len(o.Add) < nb*o.Images*o.AddSteps*n*Lanes || o.AddSteps != 1 && o.AddSteps != steps) ||
		o.Currents != nil && len(o.Currents) < nb*o.Images*steps*n*Lanes ||
		o.Spikes != nil && (len(o.Spikes) < nb*o.Images*o.Steps*n || steps != 1 && steps != o.Steps) {
		panic(fmt.Sprintf("kernel: IntConv.%s: input of %d values, %d gains, %d values to add, %d currents and %d spikes do not fit %d images of %d steps, neurons of %d steps, and %+v",
			op, in, len(o.Gain), len(o.Add), len(o.Currents), len(o.Spikes), o.Images, steps, o.Steps, k.Conv))
	}
	if o.Spikes != nil {
		o.Neurons.check(op, nb)
	}
}

func (n *IntNeurons) check(op string, nb int) {
	if len(n.Bias) < nb*Lanes || len(n.Threshold) < nb*Lanes || n.Gain != nil && len(n.Gain) < nb*Lanes {
		panic(fmt.Sprintf("kernel: %s: %d gains, %d biases and %d thresholds for %d blocks", op, len(n.Gain), len(n.Bias), len(n.Threshold), nb))
	}
}

// split divides the work. The sums of a unit, of so many bytes each, stay in a cache while the
// groups of channels pass over them.
func (u *intUnit) split(threads, bytes int) {
	u.tiles = ceilDiv(u.k.BlocksOut(), u.tile)
	size := u.o.Images * u.steps * u.k.Hout * u.k.Wout * u.tile * Lanes * bytes
	u.parts = min(u.o.Images, max(ceilDiv(manyUnits(threads), u.tiles), size>>17))
}

// wide returns the number of blocks of a unit, at most most, of which all threads get some.
func (u *intUnit) wide(most, threads int) int {
	return max(1, min(most, u.k.BlocksOut()*u.o.Images/(2*parallel.Threads(threads))))
}

// share returns the blocks of part i, and its images.
func (u *intUnit) share(i int) (ob, end, lo, hi int) {
	ob, end = share(u.k.BlocksOut(), i/u.parts, u.tiles)
	lo, hi = share(u.o.Images, i%u.parts, u.parts)
	return
}

// between is the number of vectors between blocks of sums, and of weights. Without them, blocks would
// often lie a power of two between, in the same set of a cache.
const between = 2

// intEvents is an intUnit that sums events.
type intEvents intUnit

// Do does part i.
func (e intEvents) Do(i int) {
	u := intUnit(e)
	t := u.totals(i)
	defer t.release()
	c, ob, end, lo := &u.k.Conv, t.ob, t.end, t.lo
	win, in := c.KH*c.KW, c.Hin*c.Win
	frames, groups := (t.hi-lo)*u.steps, ceilDiv(c.Cin, Group)
	block := Group*win + between
	slab := intSlabs.get((end - ob) * block)
	defer intSlabs.put(slab)

	var now intRange // what the sums may be
	for g := range groups {
		var r intRange
		for b := ob; b < end; b++ {
			r = r.join(u.k.ends[b*groups+g])
		}
		if !now.plus(r).fits16() {
			t.flush()
			now = intRange{}
		}
		for b := ob; b < end; b++ {
			u.expand((*slab)[(b-ob)*block:][:Group*win], b, g)
		}
		m := u.masks[(g*u.o.Images+lo)*u.steps*in:][:frames*in]
		if r.fits16() {
			t.add(*slab, m)
			now = now.plus(r)
			continue
		}
		// So few channels that no weights take their sum out of int16.
		few := -math.MinInt16 / (128 * win)
		some := intFew.get(len(m))
		for from := 0; from < Group; from += few {
			keep := (uint64(1)<<min(few, 63) - 1) << from
			for i, word := range m {
				(*some)[i] = word & keep
			}
			t.flush()
			t.add(*slab, *some)
		}
		intFew.put(some)
		t.flush()
	}
	t.finish()
}

// expand writes the weights of a group of input channels and a block of output channels as
// vectors of 16 bits: [channels][KH·KW] for scatterInts3, and else [KH·KW][Group].
func (u *intUnit) expand(dst []packed4, b, g int) {
	win := u.k.KH * u.k.KW
	if win == 1 || u.k.same3() {
		u.expandRows(dst, b, g*Group, Group)
		return
	}
	rows := intRows.get(Group * win)
	defer intRows.put(rows)
	u.expandRows(*rows, b, g*Group, Group)
	for ch := range min(Group, u.k.Cin-g*Group) {
		for t, v := range (*rows)[ch*win:][:win] {
			dst[t*Group+ch] = v
		}
	}
}

// expandRows writes the weights of some input channels and a block of output channels as vectors
// of 16 bits, [channels][KH·KW].
func (u *intUnit) expandRows(dst []packed4, b, first, channels int) {
	win := u.k.KH * u.k.KW
	row := u.k.Cin * win
	from, to := first*win, min(first+channels, u.k.Cin)*win
	outs := min(Lanes, u.k.Cout-b*Lanes)
	w := u.k.w[b*Lanes*row:]
	k := from
	if n := (to - from) / Lanes * Lanes; outs == Lanes && n > 0 {
		u.l.expandInts(&expandInts{src: unsafe.Pointer(&w[from]), dst: unsafe.Pointer(&dst[0]), row: uint64(row), vectors: uint64(n)})
		k += n
	}
	for ; k < to; k++ {
		var v [Lanes]int8
		for o := range outs {
			v[o] = w[o*row+k]
		}
		d := &dst[k-from]
		if u.l.packsInts() {
			for l := range d {
				d[l] = packInts(v[4*l], v[4*l+1], v[4*l+2], v[4*l+3])
			}
			continue
		}
		lanes := (*[Lanes]int16)(unsafe.Pointer(d))
		for l := range lanes {
			lanes[l] = int16(v[l])
		}
	}
}

// add adds the events of masks to the sums.
func (t *intTotals) add(slab []packed4, m []uint64) {
	u, c := &t.intUnit, &t.k.Conv
	win, in, px := c.KH*c.KW, c.Hin*c.Win, c.Hout*c.Wout
	frames := (t.hi - t.lo) * u.steps
	fresh := t.fresh
	t.fresh = true
	if c.same3() {
		a := scatter3{
			masks: unsafe.Pointer(&m[0]), w: unsafe.Pointer(&slab[0]), dst: unsafe.Pointer(&t.sums[0]),
			frames: uint64(frames), height: uint64(c.Hin), width: uint64(c.Win),
			blocks: uint64(t.end - t.ob), wBlock: uint64((Group*win + between) * 32), dstBlock: uint64(t.block * 32),
		}
		if !fresh {
			a.bias = ptr(noBias[:], 0)
		}
		u.l.scatterInts3(&a)
		return
	}
	if !fresh {
		clear(t.sums)
	}
	a := gather{
		start: startDst, offsets: unsafe.Pointer(&here), count: 1, cols: uint64(t.end - t.ob),
		wCol: uint64((Group*win + between) * 32), dstCol: uint64(t.block * 32), wBit: 32,
	}
	run := func(items, mask, maskItem, dst, dstItem, tap int) {
		a.items, a.masks, a.maskItem = uint64(items), unsafe.Pointer(&m[mask]), uint64(maskItem*8)
		a.dst, a.dstItem, a.w = unsafe.Pointer(&t.sums[dst]), uint64(dstItem*32), unsafe.Pointer(&slab[tap*Group])
		u.l.gatherInts(&a)
	}
	if win == 1 && c.Stride == 1 && c.Pad == 0 {
		run(frames*px, 0, 1, 0, 1, 0)
		return
	}
	for tap, p := range windowPairs.get(c.window(), newPairs).taps {
		for y := range p.rows {
			from, to := p.in+y*c.Stride*c.Win, p.out+y*c.Wout
			if p.width > frames {
				for f := range frames {
					run(p.width, f*in+from, c.Stride, f*px+to, 1, tap)
				}
				continue
			}
			for x := range p.width {
				run(frames, from+x*c.Stride, in, to+x, px, tap)
			}
		}
	}
}

// here is a list of one offset, 0.
var here offset

// intTotals are the sums of a unit: those of 16 bits of the last groups, and those of 32 bits of
// the groups before.
type intTotals struct {
	intUnit
	ob, end, lo, hi int
	block           int               // vectors of a block
	sums            []packed4         // [blocks, each of block vectors][frames][pixels]
	kept            *[]packed4        // sums, to be put back
	fresh           bool              // whether sums has anything
	wide            *[]([Lanes]int32) // alike, or nil
}

// totals returns the sums of part i, which have nothing yet.
func (u *intUnit) totals(i int) intTotals {
	t := intTotals{intUnit: *u}
	t.ob, t.end, t.lo, t.hi = u.share(i)
	t.block = (t.hi-t.lo)*u.steps*u.k.Hout*u.k.Wout + between
	t.kept = intSums.get((t.end - t.ob) * t.block)
	t.sums = *t.kept
	return t
}

// flush moves the sums of 16 bits to those of 32.
func (t *intTotals) flush() {
	if !t.fresh {
		return
	}
	px := t.k.Hout * t.k.Wout
	was := t.wide
	if was == nil {
		t.wide = intWides.get(len(t.sums))
	}
	for b := t.ob; b < t.end; b++ {
		for i := t.lo; i < t.hi; i++ {
			a := t.total(b, i, 0, px, was)
			a.dst, a.dstRow = unsafe.Pointer(&(*t.wide)[t.at(b, i)]), uint64(px*64)
			t.l.widenInts(&a)
		}
	}
	t.fresh = false
}

// at returns where block b of image i begins.
func (t *intTotals) at(b, i int) int {
	return (b-t.ob)*t.block + (i-t.lo)*t.steps*t.k.Hout*t.k.Wout
}

// total returns the arguments that add the sums of 16 bits to those of 32, wide, for n pixels of
// all steps of an image, from the pixel p on.
func (t *intTotals) total(b, i, p, n int, wide *[]([Lanes]int32)) intWiden {
	px, at := t.k.Hout*t.k.Wout, t.at(b, i)+p
	a := intWiden{src: unsafe.Pointer(&t.sums[at]), rows: uint64(t.steps), vectors: uint64(n), srcRow: uint64(px * 32)}
	if wide != nil {
		a.wide, a.wideRow = unsafe.Pointer(&(*wide)[at]), uint64(px*64)
	}
	return a
}

// finish writes the currents, and runs the neurons.
func (t *intTotals) finish() {
	u, px := &t.intUnit, t.k.Hout*t.k.Wout
	if !t.fresh && t.wide != nil { // after a flush
		clear(t.sums)
	}
	tile := min(px, max(1, 256/u.steps))
	some := intTiles.get(tile * u.steps)
	defer intTiles.put(some)
	for b := t.ob; b < t.end; b++ {
		for i := t.lo; i < t.hi; i++ {
			for p := 0; p < px; p += tile {
				n := min(tile, px-p)
				dst, row := &(*some)[0], n
				if u.o.Currents != nil {
					dst, row = (*[Lanes]int32)(u.o.Currents[((b*u.o.Images+i)*u.steps*px+p)*Lanes:]), px
				}
				a := t.total(b, i, p, n, t.wide)
				a.dst, a.dstRow = unsafe.Pointer(dst), uint64(row*64)
				if u.o.Gain != nil {
					a.gain = unsafe.Pointer(&u.o.Gain[b*Lanes])
				}
				if u.o.Add != nil {
					a.add = unsafe.Pointer(&u.o.Add[((b*u.o.Images+i)*u.o.AddSteps*px+p)*Lanes])
					a.addRow = uint64(stride(u.o.AddSteps, px) * 64)
				}
				u.l.widenInts(&a)
				u.fire(b, i, p, n, unsafe.Pointer(dst), row)
			}
		}
	}
}

func (t *intTotals) release() {
	intSums.put(t.kept)
	if t.wide != nil {
		intWides.put(t.wide)
	}
}

// fire runs the neurons of n pixels of an image, from the pixel p on. Steps of the currents x are
// row pixels between.
func (u *intUnit) fire(b, i, p, n int, x unsafe.Pointer, row int) {
	if u.o.Spikes == nil {
		return
	}
	px := u.k.Hout * u.k.Wout
	a := u.o.Neurons.run(b, n, u.o.Steps)
	a.x, a.xStep = x, uint64(stride(u.steps, row)*64)
	a.s, a.sStep = unsafe.Pointer(&u.o.Spikes[(b*u.o.Images+i)*u.o.Steps*px+p]), uint64(px*2)
	u.l.neuronsInts(&a)
}

// run returns the arguments for a block and n pixels, without currents and spikes.
func (n *IntNeurons) run(b, pixels, steps int) intNeurons {
	a := intNeurons{
		bias: unsafe.Pointer(&n.Bias[b*Lanes]), threshold: unsafe.Pointer(&n.Threshold[b*Lanes]),
		pixels: uint64(pixels), steps: uint64(steps), leak: uint64(n.Leak), shift: uint64(n.Shift),
		plain: uint64(bit(n.Leak == 1 && n.Shift == 0)), soft: uint64(bit(n.Soft)),
	}
	if n.Gain != nil {
		a.gain = unsafe.Pointer(&n.Gain[b*Lanes])
	}
	return a
}

// Forward runs all steps of every neuron on the currents x and writes the spikes s.
//
//	s [Units][Steps][Pixels]
//	x [Units][CurrentSteps][Pixels][16]
func (n *IntNeurons) Forward(s []uint16, x []int32, sc Scan, threads int) {
	nb := sc.Units / max(1, sc.Images)
	n.check("IntNeurons.Forward", nb)
	if len(s) < sc.Units*sc.Steps*sc.Pixels || len(x) < sc.Units*sc.CurrentSteps*sc.Pixels*Lanes {
		panic(fmt.Sprintf("kernel: IntNeurons.Forward: %d spikes and %d currents do not fit %+v", len(s), len(x), sc))
	}
	type args struct {
		l  Level
		n  *IntNeurons
		s  []uint16
		x  []int32
		sc Scan
	}
	piecesWith(threads, sc.Units, sc.Pixels, sc.runPixels(), args{CurrentLevel(), n, s, x, sc}, func(k args, u, lo, hi int) {
		a := k.n.run(u/k.sc.Images, hi-lo, k.sc.Steps)
		a.x, a.xStep = unsafe.Pointer(&k.x[(u*k.sc.CurrentSteps*k.sc.Pixels+lo)*Lanes]), uint64(stride(k.sc.CurrentSteps, k.sc.Pixels)*64)
		a.s, a.sStep = unsafe.Pointer(&k.s[u*k.sc.Steps*k.sc.Pixels+lo]), uint64(k.sc.Pixels*2)
		k.l.neuronsInts(&a)
	})
}
