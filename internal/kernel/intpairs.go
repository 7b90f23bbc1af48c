package kernel

import (
	"encoding/binary"
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// mostPairByte is the largest byte of a pair, see notZeroPairs.
const mostPairByte = 127

// pairBlocks is the number of blocks of 16 channels whose pairs have a bit in a mask.
const pairBlocks = 2 * Group / Lanes

// pairRuns returns the runs of blocks of input channels for scatterPairs3, or nil if the
// convolution is none for it.
func (k *IntConv) pairRuns() []int {
	c := &k.Conv
	if !c.same3() || k.top > mostPairByte {
		return nil
	}
	runs, nb, row, top := []int{0}, c.BlocksIn(), c.Cin*9, int32(k.top)
	sums := make([]intRange, c.Cout) // of the run
	fits := func(b int) bool {
		for o := range sums {
			r := &sums[o]
			for _, w := range k.w[o*row+b*Lanes*9 : o*row+min((b+1)*Lanes, c.Cin)*9] {
				r.min += top * min(0, int32(w))
				r.max += top * max(0, int32(w))
			}
			if !r.fits16() {
				return false
			}
		}
		return true
	}
	for from, to := 0, 0; from < nb; from = to {
		clear(sums)
		for to < min(nb, from+pairBlocks) && fits(to) {
			to++
		}
		if to == from {
			return nil
		}
		runs = append(runs, to)
	}
	return runs
}

// pairs is Bytes for events of pairs.
func (k *IntConv) pairs(o IntOutput, x []uint8, steps, threads int) {
	n, runs := o.Images*steps*k.Hin*k.Win, len(k.runs)-1
	m, bytes := intMasks.get(runs*n), intPairBytes.get(k.BlocksIn()*n*Lanes)
	defer intMasks.put(m)
	defer intPairBytes.put(bytes)
	u := intUnit{l: CurrentLevel(), k: k, o: o, steps: steps, masks: *m, bytes: *bytes, tile: 1}
	if u.l.packsInts() {
		u.tile = 4 // share a list
	}
	u.split(threads, 2+4*int(bit(runs > 1)))
	parallel.With(threads, o.Images*steps, pairPacking{u, x}, pairPacking.frame)
	parallel.Run(threads, u.tiles*u.parts, intPairs(u))
}

// pairPacking brings bytes into the layout of pairs:
//
//	bytes [runs][frames][Hin·Win][blocks of the run][16]
//	masks [runs][frames][Hin·Win]
type pairPacking struct {
	u intUnit
	x []uint8
}

// frame does frame f.
func (k pairPacking) frame(f int) {
	u, c := &k.u, &k.u.k.Conv
	px, n := c.Hin*c.Win, u.o.Images*u.steps*c.Hin*c.Win
	for r, from := range u.k.runs[:len(u.k.runs)-1] {
		blocks := u.k.runs[r+1] - from
		masks, dst := u.masks[r*n+f*px:][:px], u.bytes[(from*n+f*px*blocks)*Lanes:][:px*blocks*Lanes]
		for b := range blocks {
			src := k.x[((from+b)*n+f*px)*Lanes:][:px*Lanes]
			for p := range px {
				low, high := binary.LittleEndian.Uint64(src[p*Lanes:]), binary.LittleEndian.Uint64(src[p*Lanes+8:])
				d := dst[(p*blocks+b)*Lanes:][:Lanes]
				binary.LittleEndian.PutUint64(d, low)
				binary.LittleEndian.PutUint64(d[8:], high)
				m := (notZeroPairs(low) | notZeroPairs(high)<<4) << (8 * b)
				if b > 0 {
					m |= masks[p]
				}
				masks[p] = m
			}
		}
	}
}

// notZeroPairs returns in bit i whether bytes 2·i and 2·i + 1 of x are not both zero, for bytes of
// at most 127.
func notZeroPairs(x uint64) uint64 {
	x = (x + 0x7fff7fff7fff7fff) >> 15 & 0x0001000100010001 // no pair carries over to the next
	return x * (1<<48 | 1<<33 | 1<<18 | 1<<3) >> 48
}

// intPairs is an intUnit that sums events of pairs.
type intPairs intUnit

// Do does part i.
func (p intPairs) Do(i int) {
	u := intUnit(p)
	t := u.totals(i)
	defer t.release()
	c := &u.k.Conv
	px, n := c.Hin*c.Win, u.o.Images*u.steps*c.Hin*c.Win
	rows := intRows.get(2 * Group * 9)
	defer intRows.put(rows)
	block := 2*Group*9 + between
	slab := intSlabs.get((t.end - t.ob) * block)
	defer intSlabs.put(slab)
	for r, from := range u.k.runs[:len(u.k.runs)-1] {
		t.flush()
		blocks := u.k.runs[r+1] - from
		for b := t.ob; b < t.end; b++ {
			u.expandPairs((*slab)[(b-t.ob)*block:], *rows, b, from, blocks)
		}
		at := t.lo * u.steps * px
		u.l.scatterPairs3(&scatter3{
			masks: unsafe.Pointer(&u.masks[r*n+at]), w: unsafe.Pointer(&(*slab)[0]), dst: unsafe.Pointer(&t.sums[0]),
			bias: ptr(noBias[:], 0), x: unsafe.Pointer(&u.bytes[(from*n+at*blocks)*Lanes]), xPixel: uint64(blocks * Lanes),
			frames: uint64((t.hi - t.lo) * u.steps), height: uint64(c.Hin), width: uint64(c.Win),
			blocks: uint64(t.end - t.ob), wBlock: uint64(block * 32), dstBlock: uint64(t.block * 32),
		})
		t.fresh = true
	}
	t.finish()
}

// expandPairs writes the weights of a run of input channels and of a block of output channels for
// scatterPairs3. It uses rows.
func (u *intUnit) expandPairs(dst, rows []packed4, b, from, blocks int) {
	if u.l.packsInts() {
		u.expandRows(dst, b, from*Lanes, blocks*Lanes)
		return
	}
	u.expandRows(rows, b, from*Lanes, blocks*Lanes)
	for p := range blocks * Lanes / 2 {
		even, odd, d := rows[2*p*9:][:9], rows[(2*p+1)*9:][:9], dst[p*9:][:9]
		for t := range d {
			for l := range d[t] {
				const low = 0x00ff00ff00ff00ff
				d[t][l] = even[t][l]&low | odd[t][l]&low<<8
			}
		}
	}
}
