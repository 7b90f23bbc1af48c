package kernel

import (
	"math/bits"
	"unsafe"
)

// Pool is the geometry of a pooling layer without padding. A plane is one block of 16
// channels of one frame, so that Planes = blocks × frames.
type Pool struct {
	Planes     int
	Hin, Win   int
	Hout, Wout int
	KH, KW     int
	Stride     int
}

// windows calls fn with every output pixel of a plane and the input pixel in the upper left
// corner of its window.
func (p *Pool) windows(fn func(out, in int)) {
	for y := range p.Hout {
		for x := range p.Wout {
			fn(y*p.Wout+x, y*p.Stride*p.Win+x*p.Stride)
		}
	}
}

// run returns the arguments for the windows of plane u. A pixel of the input has size bytes.
// offsets is what windowOffsets lends for that size.
func (p *Pool) run(u int, out, in unsafe.Pointer, size int, offsets []int64) windowRun {
	return windowRun{
		out:     unsafe.Add(out, u*p.Hout*p.Wout*Lanes*4),
		in:      unsafe.Add(in, u*p.Hin*p.Win*size),
		offsets: unsafe.Pointer(&offsets[0]),
		count:   uint64(len(offsets)),
		n:       uint64(p.Wout), rows: uint64(p.Hout),
		pixel: uint64(p.Stride * size), row: uint64(p.Stride * p.Win * size),
		scale: 1 / float32(p.KH*p.KW),
	}
}

// each calls fn for every plane.
func (p *Pool) each(threads int, fn func(u int)) { each(threads, p.Planes, p.Hin*p.Win, fn) }

// lists lends offsets.
var lists lender[int64]

// windowOffsets lends the offsets of the pixels of a window from its corner, in bytes. The
// caller puts them back into lists.
func (p *Pool) windowOffsets(size int) *[]int64 {
	o := lists.get(p.KH * p.KW)
	for ky := range p.KH {
		for kx := range p.KW {
			(*o)[ky*p.KW+kx] = int64((ky*p.Win + kx) * size)
		}
	}
	return o
}

// pooling are the variables of a pooling kernel.
type pooling struct {
	Pool
	l       Level
	out, in unsafe.Pointer
	size    int // bytes of a pixel of in
	offsets []int64
}

// pool calls fn for the windows of every plane.
func (p Pool) pool(out, in unsafe.Pointer, size, threads int, fn func(k pooling, from, to int)) {
	offsets := p.windowOffsets(size)
	defer lists.put(offsets)
	eachWith(threads, p.Planes, p.Hin*p.Win, pooling{p, CurrentLevel(), out, in, size, *offsets}, fn)
}

// Tiles reports whether the windows cover the input without overlap.
func (p *Pool) Tiles() bool {
	return p.KH == p.Stride && p.KW == p.Stride && p.Hout*p.Stride == p.Hin && p.Wout*p.Stride == p.Win
}

// AvgPool writes the mean of every window of dense x.
//
//	dst [Planes][Hout·Wout][16]
//	x   [Planes][Hin·Win][16]
func AvgPool(dst, x []float32, p Pool, threads int) {
	p.pool(unsafe.Pointer(&dst[0]), unsafe.Pointer(&x[0]), Lanes*4, threads, func(k pooling, from, to int) {
		for u := from; u < to; u++ {
			w := k.run(u, k.out, k.in, k.size, k.offsets)
			k.l.average(&w)
		}
	})
}

// AvgPoolSpikes writes the mean of every window of spikes s.
//
//	dst [Planes][Hout·Wout][16]
//	s   [Planes][Hin·Win]
func AvgPoolSpikes(dst []float32, s []uint16, p Pool, threads int) {
	p.pool(unsafe.Pointer(&dst[0]), unsafe.Pointer(&s[0]), 2, threads, func(k pooling, from, to int) {
		for u := from; u < to; u++ {
			w := k.run(u, k.out, k.in, k.size, k.offsets)
			k.l.count(&w)
		}
	})
}

// AvgPoolGrad is the backward pass of AvgPool. Each pixel of a window gets
// dy/(KH·KW). dx is overwritten, or added to if add is set.
//
//	dx [Planes][Hin·Win][16]
//	dy [Planes][Hout·Wout][16]
func AvgPoolGrad(dx, dy []float32, p Pool, add bool, threads int) {
	const size = Lanes * 4
	l, offsets := CurrentLevel(), p.windowOffsets(size)
	defer lists.put(offsets)
	overlap := p.Stride < p.KH || p.Stride < p.KW
	if overlap {
		l = Portable // the order in which windows add matters
	}
	in := p.Hin * p.Win * Lanes
	p.each(threads, func(u int) {
		w := p.run(u, unsafe.Pointer(&dy[0]), unsafe.Pointer(&dx[0]), size, *offsets)
		w.add = bit(add)
		if !add && !p.Tiles() {
			clear(dx[u*in:][:in])
			w.add = 1
		}
		l.spread(&w)
	})
}

// MaxPool writes the largest value of every window of dense x, or NaN if the window has one.
// Shapes are as in AvgPool.
func MaxPool(dst, x []float32, p Pool, threads int) {
	p.pool(unsafe.Pointer(&dst[0]), unsafe.Pointer(&x[0]), Lanes*4, threads, func(k pooling, from, to int) {
		for u := from; u < to; u++ {
			w := k.run(u, k.out, k.in, k.size, k.offsets)
			k.l.largest(&w)
		}
	})
}

// MaxPoolSpikes writes the largest value of every window of spikes: a spike if any pixel of
// the window fires.
//
//	dst [Planes][Hout·Wout]
//	s   [Planes][Hin·Win]
func MaxPoolSpikes(dst, s []uint16, p Pool, threads int) {
	type args struct {
		p      Pool
		dst, s []uint16
	}
	eachWith(threads, p.Planes, p.Hin*p.Win, args{p, dst, s}, func(k args, from, to int) {
		p, in, out := &k.p, k.p.Hin*k.p.Win, k.p.Hout*k.p.Wout
		for u := from; u < to; u++ {
			d, s := k.dst[u*out:][:out], k.s[u*in:][:in]
			p.windows(func(o, i int) {
				var any uint16
				for ky := range p.KH {
					for kx := range p.KW {
						any |= s[i+ky*p.Win+kx]
					}
				}
				d[o] = any
			})
		}
	})
}

// MaxPoolGrad is the backward pass of MaxPool. The largest value of a window gets dy; if
// several are equal, the first one in row-major order. dx is overwritten, or added to if add
// is set. Shapes are as in AvgPoolGrad, and x is as dx.
func MaxPoolGrad(dx, x, dy []float32, p Pool, add bool, threads int) {
	in, out := p.Hin*p.Win*Lanes, p.Hout*p.Wout*Lanes
	p.each(threads, func(u int) {
		dx, x, dy := dx[u*in:][:in], x[u*in:][:in], dy[u*out:][:out]
		if !add {
			clear(dx)
		}
		p.windows(func(o, i int) {
			m := [Lanes]float32(x[i*Lanes:])
			var at [Lanes]int
			for l := range at {
				at[l] = i
			}
			for ky := range p.KH {
				for kx := range p.KW {
					j := i + ky*p.Win + kx
					for l, v := range (*[Lanes]float32)(x[j*Lanes:]) {
						if v > m[l] || v != v {
							m[l], at[l] = v, j
						}
					}
				}
			}
			for l, j := range at {
				dx[j*Lanes+l] += dy[o*Lanes+l]
			}
		})
	})
}

// MaxPoolGradSpikes is MaxPoolGrad for spikes. The first pixel of the window that fires gets
// the gradient. If none fires, the first pixel of the window gets it.
func MaxPoolGradSpikes(dx []float32, s []uint16, dy []float32, p Pool, add bool, threads int) {
	px := p.Hin * p.Win
	in, out := px*Lanes, p.Hout*p.Wout*Lanes
	p.each(threads, func(u int) {
		dx, s, dy := dx[u*in:][:in], s[u*px:][:px], dy[u*out:][:out]
		if !add {
			clear(dx)
		}
		p.windows(func(o, i int) {
			route := func(to int, lanes uint16) {
				for ; lanes != 0; lanes &= lanes - 1 {
					l := bits.TrailingZeros16(lanes)
					dx[to*Lanes+l] += dy[o*Lanes+l]
				}
			}
			left := uint16(0xffff)
			for ky := range p.KH {
				for kx := range p.KW {
					j := i + ky*p.Win + kx
					route(j, s[j]&left)
					left &^= s[j]
				}
			}
			route(i, left)
		})
	})
}
