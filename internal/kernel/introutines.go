package kernel

import (
	"math/bits"
	"unsafe"
)

// This file holds the routines of whole numbers in portable Go. They define the results.
//
// The portable level keeps four sums of 16 bits in a uint64. It holds Σ sₗ·2^(16·l) modulo 2^64
// for the sums s₀, …, s₃, which may be negative. The sum and the product with a number are those
// of uint64. Only [widenIntsPortable] takes them apart. This needs no more than that each sum is
// within int16 in the end.

// packInts returns four numbers in a uint64.
func packInts(a, b, c, d int8) uint64 {
	return uint64(int64(a) + int64(b)<<16 + int64(c)<<32 + int64(d)<<48)
}

// packed4 is a vector of 16 sums at the portable level.
type packed4 [4]uint64

func expandIntsPortable(a *expandInts) {
	for l := range 4 {
		row := func(i int) []int8 {
			return unsafe.Slice((*int8)(unsafe.Add(a.src, (4*l+i)*int(a.row))), a.vectors)
		}
		r0, r1, r2, r3 := row(0), row(1), row(2), row(3)
		for k, v := range r0 {
			(*packed4)(unsafe.Add(a.dst, k*32))[l] = packInts(v, r1[k], r2[k], r3[k])
		}
	}
}

// addPacked adds to dst the vectors that lie first bytes and so many more behind w.
func addPacked(dst *packed4, w unsafe.Pointer, first int, list []int32) {
	s0, s1, s2, s3 := dst[0], dst[1], dst[2], dst[3]
	for _, at := range list {
		v := (*packed4)(unsafe.Add(w, first+int(at)))
		s0 += v[0]
		s1 += v[1]
		s2 += v[2]
		s3 += v[3]
	}
	*dst = packed4{s0, s1, s2, s3}
}

// gatherIntsPortable is gatherPortable for vectors of 16 sums of 16 bits, which begin with zero
// or with what dst is.
func gatherIntsPortable(a *gather) {
	offsets := unsafe.Slice((*offset)(a.offsets), a.count)
	var list [listLen]int32
	for it := range a.items {
		add := func(n int) {
			for c := range a.cols {
				addPacked((*packed4)(unsafe.Add(a.dst, int(it*a.dstItem+c*a.dstCol))), a.w, int(c*a.wCol), list[:n])
			}
		}
		if a.start == startZero {
			for c := range a.cols {
				*(*packed4)(unsafe.Add(a.dst, int(it*a.dstItem+c*a.dstCol))) = packed4{}
			}
		}
		n := 0
		for _, o := range offsets {
			if n > listLen-64 {
				add(n)
				n = 0
			}
			m := *(*uint64)(unsafe.Add(a.masks, int(o.src)+int(it*a.maskItem)))
			for ; m != 0; m &= m - 1 {
				list[n&(listLen-1)] = int32(o.w) + int32(a.wBit)*int32(bits.TrailingZeros64(m))
				n++
			}
		}
		add(n)
	}
}

// scatterInts3Portable is scatterSpikes3Portable for vectors of 16 sums of 16 bits.
func scatterInts3Portable(a *scatter3) {
	buf := spikeRows.get(1)
	defer spikeRows.put(buf)
	(*buf)[0].each(a, 2*Lanes, func(_, _ int, at int32) int32 { return at }, addPackedRows)
}

// addPackedRows is addPacked for three lists, as addVectorRows.
func addPackedRows(dst, w unsafe.Pointer, first int, rows *[3][]int32) {
	for i, list := range rows {
		addPacked((*packed4)(dst), w, first+i*3*2*Lanes, list)
	}
}

// bytePair is an event of two channels: the values, and where the weights of the first one are.
// Those of the second one are 9 vectors behind.
type bytePair struct {
	w         int32
	even, odd uint8
}

// scatterPairs3Portable sends pairs of bytes through a 3×3 window.
func scatterPairs3Portable(a *scatter3) {
	buf := pairRows.get(1)
	defer pairRows.put(buf)
	(*buf)[0].each(a, 2*Lanes, func(px, pair int, at int32) bytePair {
		x := (*[2]uint8)(unsafe.Add(a.x, px*int(a.xPixel)+2*pair))
		return bytePair{at + int32(pair)*9*2*Lanes, x[0], x[1]}
	}, addPairRows)
}

// addPairRows adds products to dst, of lists as those of addPackedRows.
func addPairRows(dst, w unsafe.Pointer, first int, rows *[3][]bytePair) {
	d := (*packed4)(dst)
	s0, s1, s2, s3 := d[0], d[1], d[2], d[3]
	for i, list := range rows {
		for _, p := range list {
			at := unsafe.Add(w, first+i*3*2*Lanes+int(p.w))
			x, v := uint64(p.even), (*packed4)(at)
			y, u := uint64(p.odd), (*packed4)(unsafe.Add(at, 9*2*Lanes))
			s0 += x*v[0] + y*u[0]
			s1 += x*v[1] + y*u[1]
			s2 += x*v[2] + y*u[2]
			s3 += x*v[3] + y*u[3]
		}
	}
	*d = packed4{s0, s1, s2, s3}
}

func widenIntsPortable(a *intWiden) {
	for r := range a.rows {
		for i := range a.vectors {
			sums := (*packed4)(unsafe.Add(a.src, int(r*a.srcRow+i*32)))
			dst := (*[Lanes]int32)(unsafe.Add(a.dst, int(r*a.dstRow+i*64)))
			var d [Lanes]int32
			if a.wide != nil {
				d = *(*[Lanes]int32)(unsafe.Add(a.wide, int(r*a.wideRow+i*64)))
			}
			for j, p := range sums {
				d := (*[4]int32)(d[4*j:])
				for l := range d {
					v := int16(p)
					d[l] += int32(v)
					p = (p - uint64(int64(v))) >> 16
				}
			}
			if a.gain != nil {
				for l, g := range (*[Lanes]int32)(a.gain) {
					d[l] *= g
				}
			}
			if a.add != nil {
				for l, v := range (*[Lanes]int32)(unsafe.Add(a.add, int(r*a.addRow+i*64))) {
					d[l] += v
				}
			}
			*dst = d
		}
	}
}

func neuronsIntsPortable(a *intNeurons) {
	type vector = *[Lanes]int32
	bias, theta, leak := vector(a.bias), vector(a.threshold), int32(a.leak)
	for p := range a.pixels {
		var m [Lanes]int32
		for t := range a.steps {
			x, word := vector(unsafe.Add(a.x, int(t*a.xStep+p*64))), uint32(0)
			for l := range m {
				cur := x[l]
				if a.gain != nil {
					cur *= vector(a.gain)[l]
				}
				v := m[l]
				if a.plain == 0 {
					v = v * leak >> a.shift
				}
				v += cur + bias[l]
				below := int32((int64(v) - int64(theta[l])) >> 63) // −1 without a spike, else 0
				word |= uint32(1+below) << l
				if a.soft == 0 {
					v &= below
				} else {
					v -= theta[l] &^ below
				}
				m[l] = v
			}
			*(*uint16)(unsafe.Add(a.s, int(t*a.sStep+p*2))) = uint16(word)
		}
	}
}

// tileIntsPortable forms the sums of burst quads in packed vectors, of half a burst at a time:
// a packed lane holds what assembly splits into two.
func tileIntsPortable(a *intTile) {
	const most = 64 // bytes of a pixel at a time
	var w [most]packed4
	step := int(min(a.burst/2*4, most))
	k := int(a.quads) * 4
	for line := range int(a.lines) {
		for from := 0; from < k; from += step {
			n := min(step, k-from)
			for i := range n {
				at := from + i
				q := (*[4 * Lanes]int8)(unsafe.Add(a.w, line*k*Lanes+at/4*64))
				for l := range 4 {
					o := q[16*l+at%4:]
					w[i][l] = packInts(o[0], o[4], o[8], o[12])
				}
			}
			for p := range int(a.pixels) {
				x := unsafe.Slice((*uint8)(unsafe.Add(a.src, p*int(a.srcPixel)+line*int(a.srcLine)+from)), n)
				var s0, s1, s2, s3 uint64
				for i, v := range x {
					if v != 0 {
						v, row := uint64(v), &w[i&(most-1)]
						s0 += v * row[0]
						s1 += v * row[1]
						s2 += v * row[2]
						s3 += v * row[3]
					}
				}
				sums, dst := packed4{s0, s1, s2, s3}, unsafe.Add(a.dst, p*int(a.dstPixel))
				widenIntsPortable(&intWiden{src: unsafe.Pointer(&sums), wide: dst, dst: dst, rows: 1, vectors: 1})
			}
		}
	}
}
