package kernel

import (
	"math"
	"math/bits"
	"unsafe"
)

// This file holds the routines of the portable level that take most of its time. A routine
// first lists what a sum consists of. It then adds that up for all channels of a block, some
// lanes at a time, so that the sums stay in registers. Products are rounded before they are
// added, on every architecture.

// listLen is the length of a list, a power of 2. A sum of more terms takes several lists, and goes
// back to memory in between.
const listLen = 256

// term is a part of a sum of products: the value x times the vector of weights that lies w
// bytes behind the first.
type term struct {
	w int32
	x float32
}

// addVectors adds to dst the vectors that lie so many bytes behind w.
func addVectors(dst *[Lanes]float32, w unsafe.Pointer, list []int32) {
	const lanes = 8
	for l := 0; l < Lanes; l += lanes {
		d := (*[lanes]float32)(dst[l:])
		w := unsafe.Add(w, 4*l)
		s0, s1, s2, s3, s4, s5, s6, s7 := d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]
		for _, at := range list {
			v := (*[lanes]float32)(unsafe.Add(w, int(at)))
			s0 += v[0]
			s1 += v[1]
			s2 += v[2]
			s3 += v[3]
			s4 += v[4]
			s5 += v[5]
			s6 += v[6]
			s7 += v[7]
		}
		d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7] = s0, s1, s2, s3, s4, s5, s6, s7
	}
}

// addProducts adds terms to dst. With more lanes at a time, the compiler would keep sums in
// memory.
func addProducts(dst *[Lanes]float32, w unsafe.Pointer, list []term) {
	const lanes = 4
	for l := 0; l < Lanes; l += lanes {
		d := (*[lanes]float32)(dst[l:])
		w := unsafe.Add(w, 4*l)
		s0, s1, s2, s3 := d[0], d[1], d[2], d[3]
		for i := range list {
			x, v := list[i].x, (*[lanes]float32)(unsafe.Add(w, int(list[i].w)))
			s0 += float32(x * v[0])
			s1 += float32(x * v[1])
			s2 += float32(x * v[2])
			s3 += float32(x * v[3])
		}
		d[0], d[1], d[2], d[3] = s0, s1, s2, s3
	}
}

// notZero returns 1 if x is not zero, or else 0, without a branch.
func notZero(x float32) uint32 {
	u := math.Float32bits(x) << 1
	return (u | -u) >> 31
}

// tilePortable computes a tile with vectors of 16 lanes. Zeros of src add nothing, even if
// their weight is not finite.
func tilePortable(a *tile) {
	t := *a
	var list [listLen]term
	for {
		for r := range t.rows {
			t.row(r, &list)
		}
		if t.more == 0 {
			return
		}
		t.skip(1)
	}
}

// row computes row r of a tile's first item.
func (t *tile) row(r uint64, list *[listLen]term) {
	for c := range t.cols {
		d := vector(t.dst, r*t.dstRow+c*t.dstCol)
		begin(d, t.start, t.bias, c*64, d)
	}
	add := func(list []term) {
		for c := range t.cols {
			addProducts(vector(t.dst, r*t.dstRow+c*t.dstCol), unsafe.Add(t.w, int(c*t.wCol)), list)
		}
	}
	const most = 64 // that are listed without looking at the length
	n := 0
	for o := range t.outer {
		for _, at := range unsafe.Slice((*offset)(t.offsets), t.count) {
			src := int(uint64(at.src) + o*t.srcOuter + r*t.srcRow)
			w := int32(uint64(at.w) + o*t.wOuter)
			for range t.blocks {
				for left := t.lanes; left > 0; left -= min(left, most) {
					if n > listLen-most {
						add(list[:n])
						n = 0
					}
					for range min(left, most) {
						x := *(*float32)(unsafe.Add(t.src, src))
						list[n&(listLen-1)] = term{w, x}
						n += int(notZero(x))
						src += int(t.srcLane)
						w += int32(t.wLane)
					}
				}
				src += int(t.srcBlock)
				w += int32(t.wBlock)
			}
		}
	}
	add(list[:n])
}

// gatherPortable adds up the columns of the weights of the set bits.
func gatherPortable(a *gather) {
	offsets := unsafe.Slice((*offset)(a.offsets), a.count)
	var list [listLen]int32
	for it := range a.items {
		a.begin(it)
		n := 0
		for _, o := range offsets {
			if n > listLen-64 {
				a.add(it, list[:n])
				n = 0
			}
			m := *(*uint64)(unsafe.Add(a.masks, int(o.src)+int(it*a.maskItem)))
			for ; m != 0; m &= m - 1 {
				list[n&(listLen-1)] = int32(o.w) + int32(a.wBit)*int32(bits.TrailingZeros64(m))
				n++
			}
		}
		a.add(it, list[:n])
	}
}

func (a *gather) column(it, c uint64) *[Lanes]float32 { return vector(a.dst, it*a.dstItem+c*a.dstCol) }

// begin sets the sums of an item to what start selects.
func (a *gather) begin(it uint64) {
	for c := range a.cols {
		begin(a.column(it, c), a.start, a.bias, c*64, a.column(it, c))
	}
}

// add adds the vectors of a list to the sums of an item.
func (a *gather) add(it uint64, list []int32) {
	for c := range a.cols {
		addVectors(a.column(it, c), unsafe.Add(a.w, int(c*a.wCol)), list)
	}
}

// rowLists lists the events of the rows of pixels that a 3×3 window sees.
//
// An event of channel ch at pixel x of its row is listed with the offset (ch·9 + x)·bytes, for
// vectors of so many bytes. The output at pixel x' sees it at position x − x' + 1 of a row of the
// window. Its weights are therefore as far behind those of channel 0 for all events of that row as
// (x' − 1)·bytes says.
type rowLists[E any] struct {
	rows [3]rowList[E] // row y is rows[y%3]
	seen [3][]E        // what an output sees
}

var (
	spikeRows keeper[rowLists[int32]]
	valueRows lender[rowLists[term]]
	pairRows  keeper[rowLists[bytePair]]
)

// rowList is the events of a row: those of pixel x are list[from[x]:from[x+1]].
type rowList[E any] struct {
	list []E
	from []int32
}

// at returns the events of row y that the output at pixel x sees. y may be outside of the
// image.
func (r *rowLists[E]) at(a *scatter3, y, x int) []E {
	if y < 0 || y >= int(a.height) {
		return nil
	}
	row := &r.rows[y%3]
	return row.list[row.from[max(0, x-1)]:row.from[min(int(a.width), x+2)]]
}

// each goes through the pixels of all frames. It calls event for every event of a row, which
// returns what to list, and add for every block of an output.
func (r *rowLists[E]) each(a *scatter3, bytes int, event func(px, ch int, at int32) E, add func(dst, w unsafe.Pointer, first int, rows *[3][]E)) {
	h, w := int(a.height), int(a.width)
	for i := range r.rows {
		sized(&r.rows[i].list, w*Group)
		sized(&r.rows[i].from, w+1)
		r.rows[i].from[0] = 0
	}
	for f := range int(a.frames) {
		for y := range h + 1 {
			if y < h {
				row, n := &r.rows[y%3], 0
				for x := range w {
					px := (f*h+y)*w + x
					for m := *(*uint64)(unsafe.Add(a.masks, px*8)); m != 0; m &= m - 1 {
						ch := bits.TrailingZeros64(m)
						row.list[n] = event(px, ch, int32((ch*9+x)*bytes))
						n++
					}
					row.from[x+1] = int32(n)
				}
			}
			if y == 0 {
				continue
			}
			for x := range w {
				for i := range r.seen {
					r.seen[i] = r.at(a, y-2+i, x)
				}
				px := (f*h+y-1)*w + x
				for b := range a.blocks {
					d := unsafe.Add(a.dst, int(b*a.dstBlock)+px*bytes)
					if a.bias != nil {
						copy(unsafe.Slice((*byte)(d), bytes), unsafe.Slice((*byte)(unsafe.Add(a.bias, int(b)*bytes)), bytes))
					}
					add(d, unsafe.Add(a.w, int(b*a.wBlock)), (1-x)*bytes, &r.seen)
				}
			}
		}
	}
}

// scatterSpikes3Portable sends spikes through a 3×3 window.
func scatterSpikes3Portable(a *scatter3) {
	buf := spikeRows.get(1)
	defer spikeRows.put(buf)
	(*buf)[0].each(a, 4*Lanes, func(_, _ int, at int32) int32 { return at }, addVectorRows)
}

// scatterValues3Rounded is scatterValues3Portable with products that are rounded.
func scatterValues3Rounded(a *scatter3) {
	buf := valueRows.get(1)
	defer valueRows.put(buf)
	(*buf)[0].each(a, 4*Lanes, func(px, ch int, at int32) term {
		return term{at, *(*float32)(unsafe.Add(a.x, px*int(a.xPixel)+ch*4))}
	}, addProductRows)
}

// addVectorRows is addVectors for three lists. The vectors of the first one lie first bytes
// further behind w than the list says, those of the next ones three vectors more.
func addVectorRows(dst, w unsafe.Pointer, first int, rows *[3][]int32) {
	const lanes = 8
	for l := 0; l < Lanes; l += lanes {
		d := (*[lanes]float32)(unsafe.Add(dst, l*4))
		s0, s1, s2, s3, s4, s5, s6, s7 := d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]
		for i, list := range rows {
			more := first + i*3*64 + l*4
			for _, at := range list {
				v := (*[lanes]float32)(unsafe.Add(w, int(at)+more))
				s0 += v[0]
				s1 += v[1]
				s2 += v[2]
				s3 += v[3]
				s4 += v[4]
				s5 += v[5]
				s6 += v[6]
				s7 += v[7]
			}
		}
		d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7] = s0, s1, s2, s3, s4, s5, s6, s7
	}
}

// addProductRows is addProducts for three lists, as addVectorRows.
func addProductRows(dst, w unsafe.Pointer, first int, rows *[3][]term) {
	const lanes = 4
	for l := 0; l < Lanes; l += lanes {
		d := (*[lanes]float32)(unsafe.Add(dst, l*4))
		s0, s1, s2, s3 := d[0], d[1], d[2], d[3]
		for i, list := range rows {
			more := first + i*3*64 + l*4
			for j := range list {
				x, v := list[j].x, (*[lanes]float32)(unsafe.Add(w, int(list[j].w)+more))
				s0 += float32(x * v[0])
				s1 += float32(x * v[1])
				s2 += float32(x * v[2])
				s3 += float32(x * v[3])
			}
		}
		d[0], d[1], d[2], d[3] = s0, s1, s2, s3
	}
}

// outerValues3Rounded is outerValues3Portable with products that are rounded.
func outerValues3Rounded(a *outer3) {
	var list [listLen]term
	for ch := range a.channels {
		a.begin(ch)
		add := func(list []term) {
			for t := range uint64(9) {
				addProducts(a.sum(ch, t), a.deltasAt(t), list)
			}
		}
		n := 0
		for word := range a.words {
			if n > listLen-64 {
				add(list[:n])
				n = 0
			}
			at := int(ch*a.words + word)
			for m := *(*uint64)(unsafe.Add(a.masks, at*8)); m != 0; m &= m - 1 {
				i := bits.TrailingZeros64(m)
				list[n&(listLen-1)] = term{int32(int(word)*64+i) * 64, *(*float32)(unsafe.Add(a.x, (at*64+i)*4))}
				n++
			}
		}
		add(list[:n])
	}
}

// outerSpikes3Portable adds the deltas around the set bits.
func outerSpikes3Portable(a *outer3) {
	var list [listLen]int32
	for ch := range a.channels {
		a.begin(ch)
		add := func(list []int32) {
			for t := range uint64(9) {
				addVectors(a.sum(ch, t), a.deltasAt(t), list)
			}
		}
		n := 0
		for word := range a.words {
			if n > listLen-64 {
				add(list[:n])
				n = 0
			}
			for m := *(*uint64)(unsafe.Add(a.masks, int(ch*a.words+word)*8)); m != 0; m &= m - 1 {
				list[n&(listLen-1)] = int32(int(word)*64+bits.TrailingZeros64(m)) * 64
				n++
			}
		}
		add(list[:n])
	}
}

// sum returns the sum of a channel and a position of the window.
func (a *outer3) sum(ch, t uint64) *[Lanes]float32 { return vector(a.dw, (ch*9+t)*64) }

// deltasAt returns the delta that the first slot sees at a position of the window.
func (a *outer3) deltasAt(t uint64) unsafe.Pointer {
	return unsafe.Add(a.deltas, int((2-t/3)*a.rowStride+(2-t%3)*64))
}

// begin sets the sums of a channel to what start selects.
func (a *outer3) begin(ch uint64) {
	for t := range uint64(9) {
		begin(a.sum(ch, t), a.start, nil, 0, a.sum(ch, t))
	}
}

// sampled3Rounded is sampled3Portable with products that are rounded. As the assembly does, it
// leaves sums that are not numbers to the caller.
func sampled3Rounded(a *sampled3) {
	places := unsafe.Slice((*place)(a.places), 64)
	for ch := range a.channels {
		mask := (*uint64)(unsafe.Add(a.masks, int(ch)*8))
		for m := *mask; m != 0; m &= m - 1 {
			at := places[bits.TrailingZeros64(m)]
			var acc [Lanes]float32
			for l := 0; l < Lanes; l += 4 {
				s0, s1, s2, s3 := acc[l], acc[l+1], acc[l+2], acc[l+3]
				for b := range a.blocks {
					deltas := unsafe.Add(a.deltas, int(at.delta)+int(b)*64+4*l)
					weights := unsafe.Add(a.w, int(b*a.wBlock+ch*9*64)+4*l)
					for row := range 3 {
						d, w := unsafe.Add(deltas, (2-row)*int(a.rowStride)), unsafe.Add(weights, row*3*64)
						d0, d1, d2 := quarter(d, 2*256), quarter(d, 256), quarter(d, 0)
						w0, w1, w2 := quarter(w, 0), quarter(w, 64), quarter(w, 128)
						s0 = float32(d2[0]*w2[0]) + (float32(d1[0]*w1[0]) + (float32(d0[0]*w0[0]) + s0))
						s1 = float32(d2[1]*w2[1]) + (float32(d1[1]*w1[1]) + (float32(d0[1]*w0[1]) + s1))
						s2 = float32(d2[2]*w2[2]) + (float32(d1[2]*w1[2]) + (float32(d0[2]*w0[2]) + s2))
						s3 = float32(d2[3]*w2[3]) + (float32(d1[3]*w1[3]) + (float32(d0[3]*w0[3]) + s3))
					}
				}
				acc[l], acc[l+1], acc[l+2], acc[l+3] = s0, s1, s2, s3
			}
			sum := sumLanes(&acc)
			if sum != sum {
				a.nan = 1
				continue
			}
			*(*float32)(unsafe.Add(a.dst, int(at.dst)+int(ch)*4)) += sum
			*mask &^= m & -m
		}
	}
}

// quarter returns the 4 floats at p + off.
func quarter(p unsafe.Pointer, off int) *[4]float32 { return (*[4]float32)(unsafe.Add(p, off)) }

// lines calls fn with the first vectors of each line.
func (a *winogradLines) lines(fn func(src, dst unsafe.Pointer)) {
	for r := range a.rows {
		for i := range a.items {
			fn(unsafe.Add(a.src, int(r*a.srcRow+i*a.srcItem)), unsafe.Add(a.dst, int(r*a.dstRow+i*a.dstItem)))
		}
	}
}

// six returns the vectors of a line of six values.
func six(p unsafe.Pointer, next uint64) (a, b, c, d, e, f *[Lanes]float32) {
	return vector(p, 0), vector(p, next), vector(p, 2*next), vector(p, 3*next), vector(p, 4*next), vector(p, 5*next)
}

// winogradWeightsRounded is winogradWeightsPortable with products that are rounded.
func winogradWeightsRounded(a *winogradLines) {
	k := &weightFactors
	a.lines(func(src, dst unsafe.Pointer) {
		x0, x1, x2 := vector(src, 0), vector(src, a.srcNext), vector(src, 2*a.srcNext)
		y0, y1, y2, y3, y4, y5 := six(dst, a.dstNext)
		for l := range Lanes {
			v0, v1, v2 := x0[l], x1[l], x2[l]
			y0[l], y5[l] = k[0]*v0, v2
			even, odd := float32(k[3]*v2)+float32(k[1]*v0), float32(k[2]*v1)
			y1[l], y2[l] = even+odd, even-odd
			even, odd = float32(k[6]*v2)+float32(k[4]*v0), float32(k[5]*v1)
			y3[l], y4[l] = even+odd, even-odd
		}
	})
}

// winogradDeltasRounded is winogradDeltasPortable with products that are rounded.
func winogradDeltasRounded(a *winogradLines) {
	k := &deltaFactors
	a.lines(func(src, dst unsafe.Pointer) {
		x0, x1, x2, x3, x4, x5 := six(src, a.srcNext)
		y0, y1, y2, y3, y4, y5 := six(dst, a.dstNext)
		for l := range Lanes {
			v1, v2, v3, v4 := x1[l], x2[l], x3[l], x4[l]
			y0[l] = float32(k[5]*x0[l]) + (v4 - float32(k[4]*v2))
			y5[l] = float32(k[5]*v1) + (x5[l] - float32(k[4]*v3))
			even, odd := v4-float32(k[3]*v2), float32(k[0]*(v3-float32(k[3]*v1)))
			y1[l], y2[l] = even+odd, even-odd
			even, odd = v4-float32(k[2]*v2), float32(k[1]*(v3-float32(k[2]*v1)))
			y3[l], y4[l] = even+odd, even-odd
		}
	})
}

// winogradSumsRounded is winogradSumsPortable with products that are rounded.
func winogradSumsRounded(a *winogradLines) {
	k := &sumFactors
	a.lines(func(src, dst unsafe.Pointer) {
		x0, x1, x2, x3, x4, x5 := six(src, a.srcNext)
		y := [winogradTile]*[Lanes]float32{vector(dst, 0), vector(dst, a.dstNext), vector(dst, 2*a.dstNext), vector(dst, 3*a.dstNext)}
		for l := range Lanes {
			even0, odd0 := x1[l]+x2[l], x1[l]-x2[l]
			even1, odd1 := x3[l]+x4[l], x3[l]-x4[l]
			s0 := (x0[l] + even0) + even1
			s1 := float32(k[1]*odd1) + float32(k[0]*odd0)
			s2 := float32(k[3]*even1) + float32(k[2]*even0)
			s3 := float32(k[5]*odd1) + (float32(k[4]*odd0) + x5[l])
			if a.add != 0 {
				s0, s1, s2, s3 = s0+y[0][l], s1+y[1][l], s2+y[2][l], s3+y[3][l]
			}
			y[0][l], y[1][l], y[2][l], y[3][l] = s0, s1, s2, s3
		}
	})
}
