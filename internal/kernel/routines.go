package kernel

import (
	"math"
	"math/bits"
	"unsafe"
)

// This file holds the portable versions of the assembly routines. They define the results.
// The drivers use them for tiles in which a sum is NaN; the tests compare the assembly with
// them.

// vector returns the 16 floats at p + off.
func vector(p unsafe.Pointer, off uint64) *[Lanes]float32 {
	return (*[Lanes]float32)(unsafe.Add(p, int(off)))
}

// begin sets the sums to the values that start selects. Those of the bias are at bias + off.
func begin(acc *[Lanes]float32, start uint64, bias unsafe.Pointer, off uint64, dst *[Lanes]float32) {
	switch start {
	case startZero:
		*acc = [Lanes]float32{}
	case startBias:
		*acc = *vector(bias, off)
	default:
		*acc = *dst
	}
}

// sums computes the items of a tile of vectors of so many bytes, and leaves it at the last.
func (t *tile) sums(bytes int, without zeros) {
	for {
		for r := range t.rows {
			for c := range t.cols {
				tileSum(t, r, c, bytes, without)
			}
		}
		if t.more == 0 {
			return
		}
		t.skip(1)
	}
}

// skip leaves out the first items; one remains at least.
func (t *tile) skip(n uint64) {
	t.src, t.dst = unsafe.Add(t.src, int(n*t.srcItem)), unsafe.Add(t.dst, int(n*t.dstItem))
	t.more -= n
}

// zeros says which zeros of a tile add nothing, even if the other factor is not finite.
type zeros int

const (
	zeroScalars zeros = iota // of src
	zeroLanes                // of w
)

// tileSum computes vector c of row r of a tile of vectors of so many bytes.
func tileSum(a *tile, r, c uint64, bytes int, without zeros) {
	var sums [Lanes]float32
	acc := sums[:bytes/4]
	dst := unsafe.Slice((*float32)(unsafe.Add(a.dst, int(r*a.dstRow+c*a.dstCol))), len(acc))
	switch a.start {
	case startBias:
		copy(acc, unsafe.Slice((*float32)(unsafe.Add(a.bias, int(c)*bytes)), len(acc)))
	case startDst:
		copy(acc, dst)
	}
	for o := range a.outer {
		for _, at := range unsafe.Slice((*offset)(a.offsets), a.count) {
			src := uint64(at.src) + o*a.srcOuter + r*a.srcRow
			w := uint64(at.w) + o*a.wOuter + c*a.wCol
			for range a.blocks {
				for range a.lanes {
					x := *(*float32)(unsafe.Add(a.src, int(src)))
					for l := range acc {
						v := *(*float32)(unsafe.Add(a.w, int(w)+4*l))
						if without == zeroScalars && x != 0 || without == zeroLanes && v != 0 {
							acc[l] = fma(x, v, acc[l])
						}
					}
					src += a.srcLane
					w += a.wLane
				}
				src += a.srcBlock
				w += a.wBlock
			}
		}
	}
	copy(dst, acc)
}

// fma returns x·y + z rounded once. The product is exact in float64; the sum is
// rounded to odd there, so that the second rounding sees what the first dropped.
func fma(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	t := s - p
	rest := (p - (s - t)) + (c - t) // exact: s + rest = p + c
	if b := math.Float64bits(s); rest != 0 && b&1 == 0 && rest == rest && !math.IsInf(s, 0) {
		if (rest > 0) == (s > 0) {
			b++
		} else {
			b--
		}
		s = math.Float64frombits(b)
	}
	return float32(s)
}

// mulAdd returns x·y + z. It is fma or rounded.
type mulAdd func(x, y, z float32) float32

// rounded returns x·y + z with the product rounded before the sum.
func rounded(x, y, z float32) float32 { return float32(x*y) + z }

// scatterValues3Portable sends values through a 3×3 window, with fused
// multiply-adds.
func scatterValues3Portable(a *scatter3) {
	h, w := int(a.height), int(a.width)
	if a.bias != nil {
		for b := range a.blocks {
			for px := range a.frames * a.height * a.width {
				*vector(a.dst, b*a.dstBlock+px*64) = *vector(a.bias, b*64)
			}
		}
	}
	for f := range int(a.frames) {
		for y := range h {
			for x := range w {
				px := (f*h+y)*w + x
				for m := *(*uint64)(unsafe.Add(a.masks, px*8)); m != 0; m &= m - 1 {
					ch := bits.TrailingZeros64(m)
					for t := range 9 {
						oy, ox := y+1-t/3, x+1-t%3
						if oy < 0 || oy >= h || ox < 0 || ox >= w {
							continue
						}
						for b := range a.blocks {
							d := vector(a.dst, b*a.dstBlock+uint64((f*h+oy)*w+ox)*64)
							v := vector(a.w, b*a.wBlock+uint64(ch*9+t)*64)
							s := *(*float32)(unsafe.Add(a.x, px*int(a.xPixel)+ch*4))
							for l := range d {
								d[l] = fma(s, v[l], d[l])
							}
						}
					}
				}
			}
		}
	}
}

// outerValues3Portable adds the deltas around the set bits times values, with fused
// multiply-adds.
func outerValues3Portable(a *outer3) {
	for ch := range a.channels {
		for t := range uint64(9) {
			var acc [Lanes]float32
			d := vector(a.dw, (ch*9+t)*64)
			begin(&acc, a.start, nil, 0, d)
			for word := range a.words {
				m := *(*uint64)(unsafe.Add(a.masks, int(ch*a.words+word)*8))
				for ; m != 0; m &= m - 1 {
					slot := word*64 + uint64(bits.TrailingZeros64(m))
					v := vector(a.deltas, slot*64+(2-t/3)*a.rowStride+(2-t%3)*64)
					x := *(*float32)(unsafe.Add(a.x, (ch*a.words*64+slot)*4))
					for l := range acc {
						acc[l] = fma(x, v[l], acc[l])
					}
				}
			}
			*d = acc
		}
	}
}

// sampled3Portable sums the products of each lane with fused multiply-adds, block by block
// and within a block position by position. Then it sums the lanes, see sumLanes. Deltas of zero
// add nothing, even if their weight is not finite.
func sampled3Portable(a *sampled3) { sampled3With(a, fma) }

func sampled3With(a *sampled3, multiply mulAdd) {
	places := unsafe.Slice((*place)(a.places), 64)
	for ch := range a.channels {
		mask := (*uint64)(unsafe.Add(a.masks, int(ch)*8))
		for ; *mask != 0; *mask &= *mask - 1 {
			at := places[bits.TrailingZeros64(*mask)]
			var acc [Lanes]float32
			for b := range a.blocks {
				for t := range uint64(9) {
					d := vector(a.deltas, uint64(at.delta)+b*64+(2-t/3)*a.rowStride+(2-t%3)*256)
					v := vector(a.w, b*a.wBlock+(ch*9+t)*64)
					for l, x := range d {
						if x != 0 {
							acc[l] = multiply(x, v[l], acc[l])
						}
					}
				}
			}
			*(*float32)(unsafe.Add(a.dst, int(at.dst)+int(ch)*4)) += sumLanes(&acc)
		}
	}
}

// sumLanes sums the lanes of v: first those eight apart, then two apart, one apart and four
// apart.
func sumLanes(v *[Lanes]float32) float32 {
	for l := range 8 {
		v[l] += v[l+8]
	}
	return ((v[0] + v[2]) + (v[1] + v[3])) + ((v[4] + v[6]) + (v[5] + v[7]))
}

// transpose16Portable writes the 16×16 block at src to dst with rows and lanes
// exchanged. Row strides are in bytes; the assembly prefetches what lies ahead bytes
// after src.
func transpose16Portable(dst, src *float32, dstRow, srcRow uintptr) {
	for r := range uintptr(Lanes) {
		v := (*[Lanes]float32)(unsafe.Add(unsafe.Pointer(src), r*srcRow))
		for l, x := range v {
			*(*float32)(unsafe.Add(unsafe.Pointer(dst), uintptr(l)*dstRow+r*4)) = x
		}
	}
}

// transposeBitsPortable writes bit l of the 64 words that start at src[64·i] as
// the bits of the i-th uint64 of lane l; lanes are dstLane bytes apart.
func transposeBitsPortable(dst *uint64, src *uint16, words, dstLane uintptr) {
	s := unsafe.Slice(src, words*64)
	for i := range words {
		var lanes [Lanes]uint64
		for j := 0; j < 64; j += 8 {
			var low, high uint64 // bytes of eight words
			for k, v := range (*[8]uint16)(s[int(i)*64+j:]) {
				low |= uint64(v&0xff) << (8 * k)
				high |= uint64(v>>8) << (8 * k)
			}
			low, high = transpose8(low), transpose8(high)
			for l := range 8 {
				lanes[l] |= low >> (8 * l) & 0xff << j
				lanes[8+l] |= high >> (8 * l) & 0xff << j
			}
		}
		for l, v := range lanes {
			*(*uint64)(unsafe.Add(unsafe.Pointer(dst), uintptr(l)*dstLane+i*8)) = v
		}
	}
}

// transpose8 exchanges bit i of byte j and bit j of byte i. It does so for squares of 1, 2 and
// 4 bits (Warren, Hacker's Delight, 7-3).
func transpose8(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00aa00aa00aa00aa
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000cccc0000cccc
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000f0f0f0f0
	return x ^ t ^ t<<28
}

// groupValuesPortable packs values and notes which are not zero.
func groupValuesPortable(a *groupValues) {
	for px := range a.pixels {
		mask := uint64(0)
		for b := range a.blocks {
			v := vector(a.src, b*a.srcBlock+px*a.srcPixel)
			*vector(a.dst, px*a.dstPixel+b*64) = *v
			for l, x := range v {
				mask |= uint64(notZero(x)) << (b*Lanes + uint64(l))
			}
		}
		*(*uint64)(unsafe.Add(a.masks, px*8)) = mask
	}
}
