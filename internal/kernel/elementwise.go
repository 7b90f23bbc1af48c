package kernel

import "unsafe"

// Densify writes 1 for every spike and 0 elsewhere.
//
//	dst [n][16]
//	s   [n]
func Densify(dst []float32, s []uint16, threads int) {
	counts(dst, s, noSteps, 1, 1, len(s), threads)
}

// noSteps are the offsets of a single step.
var noSteps = make([]int64, 1)

// counts is SumStepsSpikes with the offsets of the steps from the first step, in bytes.
func counts(dst []float32, s []uint16, offsets []int64, units, steps, pixels, threads int) {
	type args struct {
		l             Level
		dst           []float32
		s             []uint16
		offsets       []int64
		steps, pixels int
	}
	piecesWith(threads, units, pixels, pieceVectors, args{CurrentLevel(), dst, s, offsets, steps, pixels}, func(k args, u, lo, hi int) {
		w := windowRun{
			out: unsafe.Pointer(&k.dst[(u*k.pixels+lo)*Lanes]), in: unsafe.Pointer(&k.s[u*k.steps*k.pixels+lo]),
			offsets: unsafe.Pointer(&k.offsets[0]), count: uint64(len(k.offsets)),
			n: uint64(hi - lo), rows: 1, pixel: 2, scale: 1,
		}
		k.l.count(&w)
	})
}

// AXPY computes dst = a·x, or adds it to dst if add is set.
func AXPY(dst []float32, a float32, x []float32, add bool, threads int) {
	type args struct {
		l      Level
		dst, x []float32
		c      [Lanes]float32
		add    bool
	}
	k := args{l: CurrentLevel(), dst: dst, x: x, add: add}
	for i := range k.c {
		k.c[i] = a
	}
	chunksWith(threads, len(dst), k, func(k args, lo, hi int) { axpy(k.l, k.dst[lo:hi], &k.c, k.x[lo:hi], k.add) })
}

// axpy is AXPY with the factor in every lane of c. Products are rounded before they are
// added.
func axpy(l Level, dst []float32, c *[Lanes]float32, x []float32, add bool) {
	whole := len(dst) / Lanes
	if whole > 0 {
		l.scale(&dst[0], &x[0], &c[0], whole, add)
	}
	for i := whole * Lanes; i < len(dst); i++ {
		v := float32(c[0] * x[i])
		if add {
			v += dst[i]
		}
		dst[i] = v
	}
}

// Repeat copies each unit of src to every step of the unit in dst, or adds it if add is set.
//
//	dst [units][steps][frame]
//	src [units][frame]
func Repeat(dst, src []float32, units, steps, frame int, add bool, threads int) {
	l := CurrentLevel()
	pieces(threads, units, frame, chunk, func(u, lo, hi int) {
		s := src[u*frame+lo : u*frame+hi]
		for t := range steps {
			d := dst[(u*steps+t)*frame+lo:][:len(s)]
			if add {
				axpy(l, d, &ones, s, true)
			} else {
				copy(d, s)
			}
		}
	})
}

// SumSteps computes dst = scale·Σ src, with the sum over steps, or adds it to dst if add is
// set.
//
//	dst [units][frame]
//	src [units][steps][frame]
func SumSteps(dst, src []float32, units, steps, frame int, scale float32, add bool, threads int) {
	const size = 2048 // 8 KB: partial sums stay in L1
	l := CurrentLevel()
	c := ones
	for i := range c {
		c[i] = scale
	}
	pieces(threads, units, frame, size, func(u, lo, hi int) {
		buf := scratch(hi - lo)
		defer release(buf)
		sum := *buf
		copy(sum, src[u*steps*frame+lo:])
		for t := 1; t < steps; t++ {
			axpy(l, sum, &ones, src[(u*steps+t)*frame+lo:][:hi-lo], true)
		}
		axpy(l, dst[u*frame+lo:u*frame+hi], &c, sum, add)
	})
}

// SumStepsSpikes writes the number of spikes of every neuron over all steps.
//
//	dst [units][pixels][16]
//	s   [units][steps][pixels]
func SumStepsSpikes(dst []float32, s []uint16, units, steps, pixels, threads int) {
	offsets := make([]int64, steps)
	for t := range offsets {
		offsets[t] = int64(t * pixels * 2)
	}
	counts(dst, s, offsets, units, steps, pixels, threads)
}

// ReLU computes dst = max(x, 0). It keeps NaN and −0.
//
//	dst, x [n][16]
func ReLU(dst, x []float32, threads int) {
	l := CurrentLevel()
	chunks(threads, len(dst), func(lo, hi int) { l.relu(&dst[lo], &x[lo], (hi-lo)/Lanes) })
}

// ReLUGrad computes dx = dy where y is positive or NaN, and 0 elsewhere. If add is set, it
// adds this to dx.
//
//	dx, y, dy [n][16]
func ReLUGrad(dx, y, dy []float32, add bool, threads int) {
	l := CurrentLevel()
	chunks(threads, len(dx), func(lo, hi int) { l.reluGrad(&dx[lo], &y[lo], &dy[lo], (hi-lo)/Lanes, add) })
}

// Combine computes dst = a·x + b·y. It rounds each product before it adds. dst, x and y have
// the same length. dst may be x or y.
func Combine(dst []float32, a float32, x []float32, b float32, y []float32, threads int) {
	type args struct {
		l         Level
		dst, x, y []float32
		a, b      float32
	}
	chunksWith(threads, len(dst), args{CurrentLevel(), dst, x, y, a, b}, func(k args, lo, hi int) {
		whole := (hi - lo) / Lanes * Lanes
		if whole > 0 {
			k.l.combine(&k.dst[lo], &k.x[lo], &k.y[lo], k.a, k.b, whole)
		}
		if lo += whole; lo < hi {
			combinePortable(&k.dst[lo], &k.x[lo], &k.y[lo], k.a, k.b, hi-lo)
		}
	})
}

// Dot returns Σ a·b in float64. It sums each lane of a chunk, then the lanes of the chunk,
// then the chunks. Each sum runs in ascending order.
func Dot(a, b []float32, threads int) float64 {
	l := CurrentLevel()
	buf := zeroPartials((len(a) + chunk - 1) / chunk * Lanes)
	defer partials.put(buf)
	part := *buf // [chunks][16]
	chunks(threads, len(a), func(lo, hi int) {
		p := part[lo/chunk*Lanes:][:Lanes]
		whole := (hi - lo) / Lanes
		if whole > 0 {
			l.dot(&p[0], &a[lo], &b[lo], whole)
		}
		lo += whole * Lanes
		for i, v := range a[lo:hi] {
			p[i] += float64(v) * float64(b[lo+i])
		}
	})
	var sum float64
	for ; len(part) > 0; part = part[Lanes:] {
		var s float64
		for _, v := range part[:Lanes] {
			s += v
		}
		sum += s
	}
	return sum
}

// MaskScale computes dst = scale·x where the bit of mask is set, and 0 elsewhere. If add is
// set, it adds this to dst.
//
//	dst, x [n][16]
//	mask   [n]
func MaskScale(dst, x []float32, mask []uint16, scale float32, add bool, threads int) {
	Gate(dst, x, mask, nil, scale, 1, 1, 1, len(mask), add, threads)
}

// Flatten copies the values of a frame to the channels of one pixel, in the order C, H, W.
//
//	x   [⌈c/16⌉][frames][pixels][16]
//	dst [⌈c·pixels/16⌉][frames][16]
func Flatten(dst, x []float32, frames, c, pixels, threads int) {
	if pixels == 1 {
		copy(dst, x[:blocks(c)*frames*Lanes])
		return
	}
	type args struct {
		dst, x             []float32
		nb, frames, pixels int
	}
	// A block of channels fills as many blocks of features as it has pixels.
	eachWith(threads, blocks(c)*frames, pixels, args{dst, x, blocks(c * pixels), frames, pixels}, func(k args, from, to int) {
		buf := scratch(k.pixels * Lanes)
		defer release(buf)
		flat := *buf // [16][pixels]
		for u := from; u < to; u++ {
			b, f := u/k.frames, u%k.frames
			for px := range k.pixels {
				for l, v := range (*[Lanes]float32)(k.x[(u*k.pixels+px)*Lanes:]) {
					flat[l*k.pixels+px] = v
				}
			}
			for i := range min(k.pixels, k.nb-b*k.pixels) {
				copy(k.dst[((b*k.pixels+i)*k.frames+f)*Lanes:][:Lanes], flat[i*Lanes:])
			}
		}
	})
}

// Unflatten is the inverse of Flatten. It writes to dst, or adds to it if add is set.
//
//	dst [⌈c/16⌉][frames][pixels][16]
//	y   [⌈c·pixels/16⌉][frames][16]
func Unflatten(dst, y []float32, frames, c, pixels int, add bool, threads int) {
	nb := blocks(c * pixels)
	each(threads, blocks(c)*frames, pixels, func(u int) {
		b, f := u/frames, u%frames
		buf := scratch(pixels * Lanes)
		defer release(buf)
		flat := *buf // [16][pixels]
		for i := range min(pixels, nb-b*pixels) {
			copy(flat[i*Lanes:][:Lanes], y[((b*pixels+i)*frames+f)*Lanes:])
		}
		lanes := min(Lanes, c-b*Lanes)
		for px := range pixels {
			var v [Lanes]float32
			for l := range lanes {
				v[l] = flat[l*pixels+px]
			}
			store16(dst[(u*pixels+px)*Lanes:], &v, add)
		}
	})
}

// FlattenSpikes is Flatten for spikes.
//
//	s   [⌈c/16⌉][frames][pixels]
//	dst [⌈c·pixels/16⌉][frames]
func FlattenSpikes(dst, s []uint16, frames, c, pixels, threads int) {
	type args struct {
		l                  Level
		dst, s             []uint16
		nb, frames, pixels int
	}
	eachWith(threads, blocks(c)*frames, pixels, args{CurrentLevel(), dst, s, blocks(c * pixels), frames, pixels}, func(k args, from, to int) {
		buf := masks.get(ceilDiv(Lanes*k.pixels, 64) + 1)
		defer masks.put(buf)
		flat := *buf // bit lane·pixels + pixel
		for u := from; u < to; u++ {
			b, f := u/k.frames, u%k.frames
			clear(flat)
			for px := 0; px < k.pixels; px += 64 {
				var some [64]uint16
				var lanes [Lanes]uint64
				copy(some[:], k.s[u*k.pixels:][px:k.pixels])
				k.l.transposeBits(&lanes[0], &some[0], 1, 8)
				for i, v := range lanes {
					at := i*k.pixels + px
					flat[at/64] |= v << (at % 64)
					flat[at/64+1] |= v >> (64 - at%64)
				}
			}
			for i := range min(k.pixels, k.nb-b*k.pixels) {
				k.dst[(b*k.pixels+i)*k.frames+f] = uint16(flat[i/4] >> (i % 4 * Lanes))
			}
		}
	})
}
