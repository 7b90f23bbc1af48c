package kernel

import (
	"math/bits"

	"github.com/org/snnrat/internal/parallel"
)

// Pool is the geometry of a pooling layer without padding over Planes planes of 16
// channels (blocks × frames).
type Pool struct {
	Planes     int
	Hin, Win   int
	Hout, Wout int
	KH, KW     int
	Stride     int
}

// windows calls fn with every output pixel of a plane and the input pixel at its
// window's upper left corner.
func (p *Pool) windows(fn func(out, in int)) {
	for y := range p.Hout {
		for x := range p.Wout {
			fn(y*p.Wout+x, y*p.Stride*p.Win+x*p.Stride)
		}
	}
}

// AvgPool averages every window of dense x.
//
//	dst [Planes][Hout·Wout][16]
//	x   [Planes][Hin·Win][16]
func AvgPool(dst, x []float32, p Pool, threads int) {
	scale := 1 / float32(p.KH*p.KW)
	in, out := p.Hin*p.Win*Lanes, p.Hout*p.Wout*Lanes
	parallel.For(threads, p.Planes, func(u int) {
		d, x := dst[u*out:][:out], x[u*in:][:in]
		p.windows(func(o, i int) {
			var sum [Lanes]float32
			for ky := range p.KH {
				for kx := range p.KW {
					add16(sum[:], x[(i+ky*p.Win+kx)*Lanes:])
				}
			}
			for l := range sum {
				sum[l] *= scale
			}
			store16(d[o*Lanes:], &sum, false)
		})
	})
}

// AvgPoolSpikes averages every window of spikes s [Planes][Hin·Win].
func AvgPoolSpikes(dst []float32, s []uint16, p Pool, threads int) {
	scale := 1 / float32(p.KH*p.KW)
	in, out := p.Hin*p.Win, p.Hout*p.Wout*Lanes
	parallel.For(threads, p.Planes, func(u int) {
		d, s := dst[u*out:][:out], s[u*in:][:in]
		p.windows(func(o, i int) {
			var count [Lanes]float32
			for ky := range p.KH {
				for kx := range p.KW {
					for w := s[i+ky*p.Win+kx]; w != 0; w &= w - 1 {
						count[bits.TrailingZeros16(w)&15]++
					}
				}
			}
			for l := range count {
				count[l] *= scale
			}
			store16(d[o*Lanes:], &count, false)
		})
	})
}

// AvgPoolGrad spreads dy over the windows, overwriting dx or adding to it.
func AvgPoolGrad(dx, dy []float32, p Pool, add bool, threads int) {
	scale := 1 / float32(p.KH*p.KW)
	in, out := p.Hin*p.Win*Lanes, p.Hout*p.Wout*Lanes
	parallel.For(threads, p.Planes, func(u int) {
		dx, dy := dx[u*in:][:in], dy[u*out:][:out]
		if !add {
			clear(dx)
		}
		p.windows(func(o, i int) {
			g := [Lanes]float32(dy[o*Lanes:])
			for l := range g {
				g[l] *= scale
			}
			for ky := range p.KH {
				for kx := range p.KW {
					add16(dx[(i+ky*p.Win+kx)*Lanes:], g[:])
				}
			}
		})
	})
}

// MaxPool takes the largest value of every window of dense x; shapes are as in
// AvgPool.
func MaxPool(dst, x []float32, p Pool, threads int) {
	in, out := p.Hin*p.Win*Lanes, p.Hout*p.Wout*Lanes
	parallel.For(threads, p.Planes, func(u int) {
		d, x := dst[u*out:][:out], x[u*in:][:in]
		p.windows(func(o, i int) {
			m := [Lanes]float32(x[i*Lanes:])
			for ky := range p.KH {
				for kx := range p.KW {
					for l, v := range (*[Lanes]float32)(x[(i+ky*p.Win+kx)*Lanes:]) {
						if v > m[l] || v != v {
							m[l] = v
						}
					}
				}
			}
			store16(d[o*Lanes:], &m, false)
		})
	})
}

// MaxPoolSpikes takes the largest value of every window of spikes: whether any
// fires.
//
//	dst [Planes][Hout·Wout]
//	s   [Planes][Hin·Win]
func MaxPoolSpikes(dst, s []uint16, p Pool, threads int) {
	in, out := p.Hin*p.Win, p.Hout*p.Wout
	parallel.For(threads, p.Planes, func(u int) {
		d, s := dst[u*out:][:out], s[u*in:][:in]
		p.windows(func(o, i int) {
			var any uint16
			for ky := range p.KH {
				for kx := range p.KW {
					any |= s[i+ky*p.Win+kx]
				}
			}
			d[o] = any
		})
	})
}

// MaxPoolGrad sends dy to the first largest value of every window of x, in rows
// and then columns, overwriting dx or adding to it.
func MaxPoolGrad(dx, x, dy []float32, p Pool, add bool, threads int) {
	in, out := p.Hin*p.Win*Lanes, p.Hout*p.Wout*Lanes
	parallel.For(threads, p.Planes, func(u int) {
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

// MaxPoolGradSpikes is MaxPoolGrad for spikes: the first that fires in the window
// takes the gradient, or the window's first pixel if none does.
func MaxPoolGradSpikes(dx []float32, s []uint16, dy []float32, p Pool, add bool, threads int) {
	px := p.Hin * p.Win
	in, out := px*Lanes, p.Hout*p.Wout*Lanes
	parallel.For(threads, p.Planes, func(u int) {
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
