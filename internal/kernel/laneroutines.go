package kernel

import (
	"math"
	"math/bits"
	"unsafe"
)

// The portable twins of the routines that work lane by lane. Every product is
// rounded before it is added to anything, on every architecture and level.

func word(p unsafe.Pointer, off uint64) *uint16 { return (*uint16)(unsafe.Add(p, int(off))) }

// vector64 returns the 16 float64 at p + off.
func vector64(p unsafe.Pointer, off uint64) *[Lanes]float64 {
	return (*[Lanes]float64)(unsafe.Add(p, int(off)))
}

// vector32 returns the 16 float32 at p + off.
func vector32(p unsafe.Pointer, off uint64) *[Lanes]float32 {
	return (*[Lanes]float32)(unsafe.Add(p, int(off)))
}

// neuronForwardPortable runs all steps of a run of neurons and writes s.
func neuronForwardPortable(r *neuronRun) {
	a, b := *vector32(r.a, 0), *vector32(r.b, 0)
	leak, threshold, soft := r.leak, r.threshold, r.soft != 0
	var check float32
	for t := range r.steps {
		for px := range r.pixels {
			x, m := vector32(r.x, t*r.xStep+px*64), vector32(r.state, px*64)
			var fires uint32
			for l := range Lanes {
				v := float32(leak*m[l]) + (float32(a[l]*x[l]) + b[l])
				check += v - v
				fire := uint32(0)
				if v >= threshold {
					fire = 1
				}
				fires |= fire << l
				m[l] = reset(v, threshold, fire, soft)
			}
			*word(r.s, t*r.sStep+px*2) = uint16(fires)
		}
	}
	vector32(r.check, 0)[0] += check
}

// reset returns the membrane potential v after the step. Fire is 1 if the neuron fires, or 0. A
// branch would be slow, since the processor cannot foresee it.
func reset(v, threshold float32, fire uint32, soft bool) float32 {
	if soft {
		return v - keepIf(fire, threshold)
	}
	return keepIf(fire^1, v)
}

// keepIf returns x if bit is 1, or 0 if it is 0.
func keepIf(bit uint32, x float32) float32 {
	return math.Float32frombits(math.Float32bits(x) & -bit)
}

// neuronSupportPortable runs neurons and writes, for spikes, where the membrane before
// the reset is less than width away from the threshold, or not a number.
func neuronSupportPortable(r *neuronRun) {
	a, b := *vector32(r.a, 0), *vector32(r.b, 0)
	leak, threshold, width, soft := r.leak, r.threshold, r.width, r.soft != 0
	for t := range r.steps {
		for px := range r.pixels {
			x, m := vector32(r.x, t*r.xStep+px*64), vector32(r.state, px*64)
			var all uint32
			for l := range Lanes {
				v := float32(leak*m[l]) + (float32(a[l]*x[l]) + b[l])
				near, fire := uint32(1), uint32(0)
				if abs32(v-threshold) >= width {
					near = 0
				}
				if v >= threshold {
					fire = 1
				}
				all |= near << l
				m[l] = reset(v, threshold, fire, soft)
			}
			*word(r.s, t*r.sStep+px*2) = uint16(all)
		}
	}
}

// neuronMembranesPortable recomputes the membranes before each reset, resetting
// where s says, and, if slope is set, writes their distance above threshold there.
func neuronMembranesPortable(r *neuronRun) {
	a, b := *vector32(r.a, 0), *vector32(r.b, 0)
	leak, threshold, soft := r.leak, r.threshold, r.soft != 0
	for t := range r.steps {
		for px := range r.pixels {
			x, m := vector32(r.x, t*r.xStep+px*64), vector32(r.state, px*64)
			p := vector32(r.mem, t*r.memStep+px*64)
			s := uint32(*word(r.s, t*r.sStep+px*2))
			for l := range Lanes {
				v := float32(leak*m[l]) + (float32(a[l]*x[l]) + b[l])
				p[l] = v
				m[l] = reset(v, threshold, s>>l&1, soft)
			}
			if r.slope != nil {
				u := vector32(r.slope, t*r.memStep+px*64)
				for l, v := range p {
					u[l] = v - threshold
				}
			}
		}
	}
}

// neuronBackwardPortable goes back over the steps. It writes dx and adds to total
// and sums, those that are set.
func neuronBackwardPortable(r *neuronRun) {
	scale := vector32(r.scale, 0)
	for t := r.steps - 1; t < r.steps; t-- {
		for px := range r.pixels {
			p, q := vector32(r.mem, t*r.memStep+px*64), vector32(r.state, px*64)
			dout := vector32(r.dout, t*r.doutStep+px*64)
			s := *word(r.s, t*r.sStep+px*2)
			var slope *[Lanes]float32
			if r.slope != nil {
				slope = vector32(r.slope, t*r.memStep+px*64)
			}
			var g [Lanes]float32
			for l := range Lanes {
				ds := dout[l]
				switch {
				case r.detach != 0:
				case r.soft != 0:
					ds -= float32(r.threshold * q[l])
				default:
					ds -= float32(p[l] * q[l])
				}
				var phi float32
				if slope != nil {
					phi = slope[l]
				} else {
					u := p[l] - r.threshold
					if u < 0 {
						u = -u
					}
					phi = max(0, r.width-u) * r.height
				}
				v := float32(ds * phi)
				if r.soft != 0 || s>>l&1 == 0 {
					v += q[l]
				}
				g[l] = v
				q[l] = r.leak * v
			}
			if r.total != nil {
				add16(vector32(r.total, px*64)[:], g[:])
			}
			if r.sums != nil {
				x, mean := vector32(r.x, t*r.xStep+px*64), vector64(r.mean, 0)
				sum, dot := vector64(r.sums, 0), vector64(r.sums, 128)
				for l, v := range g {
					sum[l] += float64(v)
					dot[l] += float64(float64(v) * (float64(x[l]) - mean[l]))
				}
			}
			if r.dx != nil {
				for l := range g {
					g[l] = float32(scale[l] * g[l])
				}
				store16(vector32(r.dx, t*r.dxStep+px*64)[:], &g, r.add != 0)
			}
		}
	}
}

// sumPortable adds n vectors to sum [16].
func sumPortable(sum *float64, x *float32, n int) {
	const lanes = 4 // whose sums stay in registers
	for l := 0; l < Lanes; l += lanes {
		s := (*[lanes]float64)(vector64(unsafe.Pointer(sum), 0)[l:])
		s0, s1, s2, s3 := s[0], s[1], s[2], s[3]
		for i := range n {
			v := (*[lanes]float32)(unsafe.Add(unsafe.Pointer(x), i*64+4*l))
			s0 += float64(v[0])
			s1 += float64(v[1])
			s2 += float64(v[2])
			s3 += float64(v[3])
		}
		s[0], s[1], s[2], s[3] = s0, s1, s2, s3
	}
}

// scalePortable writes c·src, or adds it to dst.
func scalePortable(dst, src, c *float32, n int, add bool) {
	f := vector32(unsafe.Pointer(c), 0)
	for i := range uint64(n) {
		var g [Lanes]float32
		for l, v := range vector32(unsafe.Pointer(src), i*64) {
			g[l] = float32(f[l] * v)
		}
		store16(vector32(unsafe.Pointer(dst), i*64)[:], &g, add)
	}
}

// maskPortable writes c·src where the mask's bit is set and zero elsewhere, or
// adds it to dst.
func maskPortable(dst, src *float32, mask *uint16, c *float32, n int, add bool) {
	f := vector32(unsafe.Pointer(c), 0)
	for i, w := range unsafe.Slice(mask, n) {
		d := vector32(unsafe.Pointer(dst), uint64(i*64))
		var g [Lanes]float32
		for l, v := range vector32(unsafe.Pointer(src), uint64(i*64)) {
			if w>>l&1 == 1 {
				g[l] = float32(f[l] * v)
			}
		}
		store16(d[:], &g, add)
	}
}

// halvePortable splits n vectors into their lower and their upper halves.
func halvePortable(low, high, src *float32, n int) {
	l, h := unsafe.Slice((*[8]float32)(unsafe.Pointer(low)), n), unsafe.Slice((*[8]float32)(unsafe.Pointer(high)), n)
	for i, v := range unsafe.Slice((*[2][8]float32)(unsafe.Pointer(src)), n) {
		l[i], h[i] = v[0], v[1]
	}
}

// affinePortable writes a·x + b by channel.
func affinePortable(dst, x, a, b *float32, n int) {
	av, bv := vector32(unsafe.Pointer(a), 0), vector32(unsafe.Pointer(b), 0)
	for i := range uint64(n) {
		d := vector32(unsafe.Pointer(dst), i*64)
		for l, v := range vector32(unsafe.Pointer(x), i*64) {
			d[l] = float32(av[l]*v) + bv[l]
		}
	}
}

// squaresPortable adds (x − shift)² of n vectors to sum [16].
func squaresPortable(sum *float64, x *float32, shift *float64, n int) {
	const lanes = 4 // whose sums stay in registers
	for l := 0; l < Lanes; l += lanes {
		s := (*[lanes]float64)(vector64(unsafe.Pointer(sum), 0)[l:])
		m := (*[lanes]float64)(vector64(unsafe.Pointer(shift), 0)[l:])
		s0, s1, s2, s3 := s[0], s[1], s[2], s[3]
		m0, m1, m2, m3 := m[0], m[1], m[2], m[3]
		for i := range n {
			v := (*[lanes]float32)(unsafe.Add(unsafe.Pointer(x), i*64+4*l))
			d0, d1, d2, d3 := float64(v[0])-m0, float64(v[1])-m1, float64(v[2])-m2, float64(v[3])-m3
			s0 += float64(d0 * d0)
			s1 += float64(d1 * d1)
			s2 += float64(d2 * d2)
			s3 += float64(d3 * d3)
		}
		s[0], s[1], s[2], s[3] = s0, s1, s2, s3
	}
}

// productsPortable adds dy and dy·(x − shift) of n vectors to sum [2][16].
func productsPortable(sum *float64, dy, x *float32, shift *float64, n int) {
	s, q := vector64(unsafe.Pointer(sum), 0), vector64(unsafe.Pointer(sum), 128)
	m := vector64(unsafe.Pointer(shift), 0)
	for i := range uint64(n) {
		x := vector32(unsafe.Pointer(x), i*64)
		for l, g := range vector32(unsafe.Pointer(dy), i*64) {
			s[l] += float64(g)
			q[l] += float64(float64(g) * (float64(x[l]) - m[l]))
		}
	}
}

// dotPortable adds the products a·b of n vectors, which float64 holds exactly, to
// sum [16].
func dotPortable(sum *float64, a, b *float32, n int) {
	s := vector64(unsafe.Pointer(sum), 0)
	for i := range uint64(n) {
		b := vector32(unsafe.Pointer(b), i*64)
		for l, v := range vector32(unsafe.Pointer(a), i*64) {
			s[l] += float64(v) * float64(b[l])
		}
	}
}

// normBackwardPortable writes a·(dy − b) + c·(x − mean), or adds it; k holds a, b,
// c and mean, [4][16].
func normBackwardPortable(dx, dy, x, k *float32, n int, add bool) {
	a, b := vector32(unsafe.Pointer(k), 0), vector32(unsafe.Pointer(k), 64)
	c, mean := vector32(unsafe.Pointer(k), 128), vector32(unsafe.Pointer(k), 192)
	for i := range uint64(n) {
		dy, x := vector32(unsafe.Pointer(dy), i*64), vector32(unsafe.Pointer(x), i*64)
		var g [Lanes]float32
		for l := range Lanes {
			g[l] = float32(a[l]*(dy[l]-b[l])) + float32(c[l]*(x[l]-mean[l]))
		}
		store16(vector32(unsafe.Pointer(dx), i*64)[:], &g, add)
	}
}

// reluPortable writes max(x, 0); NaN and −0 stay.
func reluPortable(dst, x *float32, n int) {
	for i := range uint64(n) {
		d := vector32(unsafe.Pointer(dst), i*64)
		for l, v := range vector32(unsafe.Pointer(x), i*64) {
			if v < 0 {
				v = 0
			}
			d[l] = v
		}
	}
}

// reluGradPortable writes dy where y is not ≤ 0 and zero elsewhere, or adds it.
func reluGradPortable(dx, y, dy *float32, n int, add bool) {
	for i := range uint64(n) {
		g := *vector32(unsafe.Pointer(dy), i*64)
		for l, v := range vector32(unsafe.Pointer(y), i*64) {
			if v <= 0 {
				g[l] = 0
			}
		}
		store16(vector32(unsafe.Pointer(dx), i*64)[:], &g, add)
	}
}

// orPortable sets in dst the bits of src; n is a multiple of 32.
func orPortable(dst, src *uint16, n int) {
	d := unsafe.Slice(dst, n)
	for i, w := range unsafe.Slice(src, n) {
		d[i] |= w
	}
}

func (w *windowRun) each(fn func(out, in unsafe.Pointer, offsets []int64)) {
	offsets := unsafe.Slice((*int64)(w.offsets), w.count)
	out := 0
	for y := range w.rows {
		for x := range w.n {
			fn(unsafe.Add(w.out, out*64), unsafe.Add(w.in, int(y*w.row+x*w.pixel)), offsets)
			out++
		}
	}
}

// countPortable writes scale times the number of spikes of every window.
func countPortable(w *windowRun) {
	w.each(func(out, in unsafe.Pointer, offsets []int64) {
		var count [Lanes]float32
		for _, o := range offsets {
			for m := *word(in, uint64(o)); m != 0; m &= m - 1 {
				count[bits.TrailingZeros16(m)&15]++
			}
		}
		for l, v := range count {
			vector32(out, 0)[l] = w.scale * v
		}
	})
}

// averagePortable writes scale times the sum of every window.
func averagePortable(w *windowRun) {
	w.each(func(out, in unsafe.Pointer, offsets []int64) {
		sum := *vector32(in, uint64(offsets[0]))
		for _, o := range offsets[1:] {
			add16(sum[:], vector32(in, uint64(o))[:])
		}
		for l, v := range sum {
			vector32(out, 0)[l] = w.scale * v
		}
	})
}

// largestPortable writes the largest value of every window, or NaN if it has one.
func largestPortable(w *windowRun) {
	w.each(func(out, in unsafe.Pointer, offsets []int64) {
		m := *vector32(in, uint64(offsets[0]))
		for _, o := range offsets[1:] {
			for l, v := range vector32(in, uint64(o)) {
				if v > m[l] || v != v {
					m[l] = v
				}
			}
		}
		*vector32(out, 0) = m
	})
}

// spreadPortable writes scale·out to every position of the window, or adds it.
func spreadPortable(w *windowRun) {
	w.each(func(out, in unsafe.Pointer, offsets []int64) {
		g := *vector32(out, 0)
		for l := range g {
			g[l] = float32(w.scale * g[l])
		}
		for _, o := range offsets {
			store16(vector32(in, uint64(o))[:], &g, w.add != 0)
		}
	})
}

// sgdPortable is SGD with momentum; nesterov only looks ahead.
func sgdPortable(w, dw, v *float32, k *sgdStep, n int, nesterov bool) {
	ws, gs, vs := unsafe.Slice(w, n), unsafe.Slice(dw, n), unsafe.Slice(v, n)
	for i, x := range ws {
		d := gs[i] + float32(k.decay*x)
		u := float32(k.momentum*vs[i]) + d
		vs[i] = u
		if nesterov {
			u = d + float32(k.momentum*u)
		}
		ws[i] = x - float32(k.lr*u)
	}
}

// adamPortable is Adam.
func adamPortable(w, dw, m, v *float32, k *AdamStep, n int) {
	ws, gs := unsafe.Slice(w, n), unsafe.Slice(dw, n)
	ms, vs := unsafe.Slice(m, n), unsafe.Slice(v, n)
	for i, x := range ws {
		d := gs[i] + float32(k.Decay*x)
		a := float32(k.Beta1*ms[i]) + float32(k.Rest1*d)
		b := float32(k.Beta2*vs[i]) + float32(k.Rest2*float32(d*d))
		ms[i], vs[i] = a, b
		root := float32(math.Sqrt(float64(b)))
		ws[i] = x - float32(k.Size*a)/(root/k.Correction+k.Eps)
	}
}

// extrapolatePortable goes from x away from dst: dst = x + beta·(x − dst).
func extrapolatePortable(dst, x *float32, beta float32, n int) {
	d := unsafe.Slice(dst, n)
	for i, v := range unsafe.Slice(x, n) {
		d[i] = v + float32(beta*(v-d[i]))
	}
}

// combinePortable writes a·x + b·y.
func combinePortable(dst, x, y *float32, a, b float32, n int) {
	d, ys := unsafe.Slice(dst, n), unsafe.Slice(y, n)
	for i, v := range unsafe.Slice(x, n) {
		d[i] = float32(a*v) + float32(b*ys[i])
	}
}
