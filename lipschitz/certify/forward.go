package certify

import "math"

// interval holds bounds of a node's value, or of a functional of it, for one step: [c][h][w].
type interval struct{ lo, hi []float64 }

func newInterval(n int) interval { return interval{make([]float64, n), make([]float64, n)} }

// scaled returns the interval times s ≥ 0.
func (v interval) scaled(s float64) interval {
	if s == 1 {
		return v
	}
	r := newInterval(len(v.lo))
	for i := range v.lo {
		r.lo[i], r.hi[i] = v.lo[i]*s, v.hi[i]*s
	}
	return r
}

// functional is a weighted sum over the steps of a node's value, with weights of at least 0. The
// value of a static node counts once for each step.
type functional []float64 // [T]

// sum returns the sum of the weights.
func (g functional) sum() (s float64) {
	for _, w := range g {
		s += w
	}
	return s
}

// whole reports whether the weights are whole numbers.
func (g functional) whole() bool {
	for _, w := range g {
		if w != math.Trunc(w) {
			return false
		}
	}
	return true
}

// step returns the functional that is step t of T.
func step(t, T int) functional {
	g := make(functional, T)
	g[t] = 1
	return g
}

// forward evaluates functionals from the spikes of earlier layers, or from the image.
type forward struct {
	a    *analysis
	g    functional
	memo map[*node]interval
}

// bounds returns bounds of the functional of n. Those of a static node are of its value if g is
// nil.
func (f *forward) bounds(n *node) interval {
	if v, ok := f.memo[n]; ok {
		return v
	}
	v := f.compute(n)
	f.memo[n] = v
	return v
}

func (f *forward) compute(n *node) interval {
	if n.static && f.g != nil {
		return f.a.constant(n).scaled(f.g.sum())
	}
	if s := f.a.spikes[n.index]; s != nil {
		return s.functional(f.g)
	}
	if _, ok := n.op.(image); ok {
		return f.a.ball.functional(f.g, n.size())
	}
	in := make([]interval, len(n.in))
	for i, x := range n.in {
		in[i] = f.bounds(x)
	}
	sum := 1.0
	if f.g != nil {
		sum = f.g.sum()
	}
	v := n.op.forward(n, sum, in)
	if n.exact(f.g) {
		return v
	}
	plane := n.h * n.w
	for i := range v.lo {
		e := n.rho[i/plane] * sum
		v.lo[i] -= e
		v.hi[i] += e
	}
	return v
}

// exact reports whether sums of the functional g of n have no rounding errors.
func (n *node) exact(g functional) bool {
	_, ok := n.op.(reshape)
	return ok || n.grid > 0 && g.whole()
}

// functional returns the bounds of the functional g of the images of the ball, or of an image of
// one step if g is nil.
func (b ball) functional(g functional, size int) interval {
	v := newInterval(size)
	if g == nil {
		g = functional{1}
	}
	for t, w := range g {
		for i := range size {
			v.lo[i] += w * float64(b.lo[t*size+i])
			v.hi[i] += w * float64(b.hi[t*size+i])
		}
	}
	return v
}

func (image) forward(*node, float64, []interval) interval { panic("certify: an image has no input") }

func (*neurons) forward(*node, float64, []interval) interval {
	panic("certify: neurons are evaluated by their spikes")
}

func (largest) forward(*node, float64, []interval) interval {
	panic("certify: pooled spikes are evaluated by themselves")
}

func (reshape) forward(_ *node, _ float64, in []interval) interval { return in[0] }

func (op affine) forward(n *node, g float64, in []interval) interval {
	v, plane := newInterval(n.size()), n.h*n.w
	for i := range v.lo {
		a, b := op.a[i/plane], op.b[i/plane]*g
		lo, hi := a*in[0].lo[i], a*in[0].hi[i]
		v.lo[i], v.hi[i] = min(lo, hi)+b, max(lo, hi)+b
	}
	return v
}

func (op combine) forward(n *node, _ float64, in []interval) interval {
	v := newInterval(n.size())
	for k, w := range op.w {
		for i := range v.lo {
			lo, hi := w*in[k].lo[i], w*in[k].hi[i]
			v.lo[i] += min(lo, hi)
			v.hi[i] += max(lo, hi)
		}
	}
	return v
}

func (op average) forward(n *node, _ float64, in []interval) interval {
	v, x := newInterval(n.size()), n.in[0]
	for i := range v.lo {
		c, y, px := i/(n.h*n.w), i/n.w%n.h, i%n.w
		var lo, hi float64
		for ky := range op.kh {
			at := (c*x.h+y*op.stride+ky)*x.w + px*op.stride
			for kx := range op.kw {
				lo += in[0].lo[at+kx]
				hi += in[0].hi[at+kx]
			}
		}
		v.lo[i], v.hi[i] = lo*op.scale, hi*op.scale
	}
	return v
}

func (op *conv) forward(n *node, g float64, in []interval) interval {
	v, x := newInterval(n.size()), n.in[0]
	terms := x.c * op.kh * op.kw
	for o := range n.c {
		out := interval{v.lo[o*n.h*n.w:][:n.h*n.w], v.hi[o*n.h*n.w:][:n.h*n.w]}
		if op.bias != nil {
			for i := range out.lo {
				out.lo[i], out.hi[i] = op.bias[o]*g, op.bias[o]*g
			}
		}
		for i, w := range op.weight[o*terms:][:terms] {
			if w == 0 {
				continue
			}
			src := interval{in[0].lo, in[0].hi}
			if w < 0 {
				src = interval{src.hi, src.lo}
			}
			c, ky, kx := i/(op.kh*op.kw), i/op.kw%op.kh, i%op.kw
			from, to := op.range1(kx, x.w, n.w)
			for y := range n.h {
				iy := y*op.stride + ky - op.pad
				if iy < 0 || iy >= x.h {
					continue
				}
				at := (c*x.h+iy)*x.w + kx - op.pad
				for px := from; px < to; px++ {
					out.lo[y*n.w+px] += w * src.lo[at+px*op.stride]
					out.hi[y*n.w+px] += w * src.hi[at+px*op.stride]
				}
			}
		}
	}
	return v
}

// range1 returns the outputs of a row of out for which the input of window column k lies in a row
// of in.
func (op *conv) range1(k, in, out int) (from, to int) {
	from = max(0, int(math.Ceil(float64(op.pad-k)/float64(op.stride))))
	to = min(out, (in-1-k+op.pad)/op.stride+1)
	if in-1-k+op.pad < 0 {
		to = 0
	}
	return from, max(from, to)
}
