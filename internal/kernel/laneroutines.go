package kernel

import "unsafe"

// The portable twins of the routines that work lane by lane. Every product is
// rounded before it is added to anything, on every architecture and level.

func word(p unsafe.Pointer, off uint64) *uint16 { return (*uint16)(unsafe.Add(p, int(off))) }

// vector32 returns the 16 float32 at p + off.
func vector32(p unsafe.Pointer, off uint64) *[Lanes]float32 {
	return (*[Lanes]float32)(unsafe.Add(p, int(off)))
}

// neuronForwardPortable runs all steps of a run of neurons and writes s.
func neuronForwardPortable(r *neuronRun) {
	a, b := vector32(r.a, 0), vector32(r.b, 0)
	for t := range r.steps {
		for px := range r.pixels {
			x, m := vector32(r.x, t*r.xStep+px*64), vector32(r.state, px*64)
			var fires uint16
			for l, v := range m {
				v = float32(r.leak*v) + (float32(a[l]*x[l]) + b[l])
				if v >= r.threshold {
					fires |= 1 << l
					v = r.reset(v)
				}
				m[l] = v
			}
			*word(r.s, t*r.sStep+px*2) = fires
		}
	}
}

func (r *neuronRun) reset(v float32) float32 {
	if r.soft != 0 {
		return v - r.threshold
	}
	return 0
}

// neuronMembranesPortable recomputes the membranes before each reset, resetting
// where s says, and, if slope is set, writes their distance above threshold there.
func neuronMembranesPortable(r *neuronRun) {
	a, b := vector32(r.a, 0), vector32(r.b, 0)
	for t := range r.steps {
		for px := range r.pixels {
			x, m := vector32(r.x, t*r.xStep+px*64), vector32(r.state, px*64)
			p := vector32(r.mem, t*r.memStep+px*64)
			s := *word(r.s, t*r.sStep+px*2)
			for l, v := range m {
				v = float32(r.leak*v) + (float32(a[l]*x[l]) + b[l])
				p[l] = v
				if s>>l&1 == 1 {
					v = r.reset(v)
				}
				m[l] = v
			}
			if r.slope != nil {
				u := vector32(r.slope, t*r.memStep+px*64)
				for l, v := range p {
					u[l] = v - r.threshold
				}
			}
		}
	}
}

// neuronBackwardPortable goes back over the steps. It writes or adds to those of
// dx, total and dot that are set, dot only if total is.
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
				if r.dot != nil {
					x, mean, dot := vector32(r.x, t*r.xStep+px*64), vector32(r.mean, 0), vector32(r.dot, px*64)
					for l, v := range g {
						dot[l] += float32(v * (x[l] - mean[l]))
					}
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

// foldPortable adds n vectors to sum [16], one after the other.
func foldPortable(sum *float64, v *float32, n int) {
	s := (*[Lanes]float64)(unsafe.Pointer(sum))
	for i := range n {
		for l, x := range vector32(unsafe.Pointer(v), uint64(i*64)) {
			s[l] += float64(x)
		}
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
