package kernel

import (
	"math/bits"

	"github.com/org/snnrat/internal/parallel"
)

// chunk is the number of elements that one piece of element-wise work has.
const chunk = 1 << 14

func chunks(threads, n int, fn func(lo, hi int)) {
	parallel.For(threads, (n+chunk-1)/chunk, func(i int) { fn(i*chunk, min((i+1)*chunk, n)) })
}

// Densify writes spikes as zeros and ones.
func Densify(dst []float32, s []uint16, threads int) {
	chunks(threads, len(s), func(lo, hi int) {
		clear(dst[lo*Lanes : hi*Lanes])
		for i := lo; i < hi; i++ {
			for w := s[i]; w != 0; w &= w - 1 {
				dst[i*Lanes+bits.TrailingZeros16(w)] = 1
			}
		}
	})
}

// AXPY computes dst = a·x, or adds it to dst if add is set.
func AXPY(dst []float32, a float32, x []float32, add bool, threads int) {
	chunks(threads, len(dst), func(lo, hi int) {
		d, x := dst[lo:hi], x[lo:hi]
		switch {
		case add && a == 1:
			for i, v := range x {
				d[i] += v
			}
		case add:
			for i, v := range x {
				d[i] += float32(a * v)
			}
		case a == 1:
			copy(d, x)
		default:
			for i, v := range x {
				d[i] = a * v
			}
		}
	})
}

// Repeat copies, or adds if add is set, each of units runs of frame floats to all
// its steps.
//
//	dst [units][steps][frame]
//	src [units][frame]
func Repeat(dst, src []float32, units, steps, frame int, add bool, threads int) {
	parallel.For(threads, units, func(u int) {
		s := src[u*frame:][:frame]
		for t := range steps {
			d := dst[(u*steps+t)*frame:][:frame]
			if !add {
				copy(d, s)
				continue
			}
			for i, v := range s {
				d[i] += v
			}
		}
	})
}

// SumSteps computes dst = scale·Σ over steps, or adds it to dst if add is set;
// shapes are as in Repeat with dst and src exchanged.
func SumSteps(dst, src []float32, units, steps, frame int, scale float32, add bool, threads int) {
	parallel.For(threads, units, func(u int) {
		d := dst[u*frame:][:frame]
		buf := scratch(frame)
		defer release(buf)
		sum := *buf
		copy(sum, src[u*steps*frame:][:frame])
		for t := 1; t < steps; t++ {
			for i, v := range src[(u*steps+t)*frame:][:frame] {
				sum[i] += v
			}
		}
		for i, v := range sum {
			if add {
				d[i] += float32(scale * v)
			} else {
				d[i] = scale * v
			}
		}
	})
}

// SumStepsSpikes counts the spikes of every neuron.
//
//	dst [units][pixels][16]
//	s   [units][steps][pixels]
func SumStepsSpikes(dst []float32, s []uint16, units, steps, pixels, threads int) {
	parallel.For(threads, units, func(u int) {
		d := dst[u*pixels*Lanes:][:pixels*Lanes]
		clear(d)
		for t := range steps {
			for i, w := range s[(u*steps+t)*pixels:][:pixels] {
				for ; w != 0; w &= w - 1 {
					d[i*Lanes+bits.TrailingZeros16(w)]++
				}
			}
		}
	})
}

// ReLU computes dst = max(x, 0); NaN stays.
func ReLU(dst, x []float32, threads int) {
	chunks(threads, len(dst), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			v := x[i]
			if v <= 0 {
				v = 0
			}
			dst[i] = v
		}
	})
}

// ReLUGrad computes dx = dy where y > 0 and zero elsewhere, or adds it to dx.
func ReLUGrad(dx, y, dy []float32, add bool, threads int) {
	chunks(threads, len(dx), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g := dy[i]
			if y[i] <= 0 {
				g = 0
			}
			if add {
				g += dx[i]
			}
			dx[i] = g
		}
	})
}

// Dot returns Σ a·b in float64, in order.
func Dot(a, b []float32) float64 {
	var s float64
	for i, v := range a {
		s += float64(v) * float64(b[i])
	}
	return s
}

// MaskScale computes dst = scale·x where the mask's bit is set and zero elsewhere,
// or adds it to dst if add is set.
//
//	dst, x [n][16]
//	mask   [n]
func MaskScale(dst, x []float32, mask []uint16, scale float32, add bool, threads int) {
	chunks(threads, len(mask), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			var g [Lanes]float32
			for l, v := range (*[Lanes]float32)(x[i*Lanes:]) {
				if mask[i]>>l&1 == 1 {
					g[l] = scale * v
				}
			}
			store16(dst[i*Lanes:], &g, add)
		}
	})
}

// Flatten copies values to features of one pixel, in C, H, W order. Unflatten is
// its inverse, and overwrites dst or adds to it.
//
//	x   [⌈c/16⌉][frames][pixels][16]
//	dst [⌈c·pixels/16⌉][frames][16]
func Flatten(dst, x []float32, frames, c, pixels, threads int) {
	nb := blocks(c * pixels)
	parallel.For(threads, nb, func(b int) {
		for f := range frames {
			var v [Lanes]float32
			for l := range min(Lanes, c*pixels-b*Lanes) {
				i := b*Lanes + l
				ch, px := i/pixels, i%pixels
				v[l] = x[((ch/Lanes*frames+f)*pixels+px)*Lanes+ch%Lanes]
			}
			store16(dst[(b*frames+f)*Lanes:], &v, false)
		}
	})
}

// Unflatten is described at Flatten.
func Unflatten(dst, y []float32, frames, c, pixels int, add bool, threads int) {
	parallel.For(threads, blocks(c), func(b int) {
		for f := range frames {
			for px := range pixels {
				var v [Lanes]float32
				for l := range min(Lanes, c-b*Lanes) {
					i := (b*Lanes+l)*pixels + px
					v[l] = y[(i/Lanes*frames+f)*Lanes+i%Lanes]
				}
				store16(dst[((b*frames+f)*pixels+px)*Lanes:], &v, add)
			}
		}
	})
}

// FlattenSpikes is Flatten for spikes.
//
//	s   [⌈c/16⌉][frames][pixels]
//	dst [⌈c·pixels/16⌉][frames]
func FlattenSpikes(dst, s []uint16, frames, c, pixels, threads int) {
	parallel.For(threads, blocks(c*pixels), func(b int) {
		for f := range frames {
			var w uint16
			for l := range min(Lanes, c*pixels-b*Lanes) {
				i := b*Lanes + l
				ch, px := i/pixels, i%pixels
				w |= s[(ch/Lanes*frames+f)*pixels+px] >> (ch % Lanes) & 1 << l
			}
			dst[b*frames+f] = w
		}
	})
}
