package certify

import (
	"math"
	"math/bits"
)

// The kinds of a term: weights of its node's values at the steps.
const (
	weighted = iota // those of the functional of the pass
	summed          // 1 at every step
	single          // the value of a static node, once
	kinds
)

// term is a part of a linear form: coefficients of the values of a node, of one kind. They are zero
// outside of a rectangle of pixels.
type term struct {
	y0, y1, x0, x1 int
	v              []float64 // [c][y1−y0][x1−x0]
}

func newTerm(c, y0, y1, x0, x1 int) *term {
	return &term{y0, y1, x0, x1, make([]float64, c*(y1-y0)*(x1-x0))}
}

// plane returns the coefficients of channel c.
func (k *term) plane(c int) []float64 {
	size := (k.y1 - k.y0) * (k.x1 - k.x0)
	return k.v[c*size:][:size]
}

// each calls fn for the coefficients that are not zero, with the index in [c][h][w] of n.
func (k *term) each(n *node, fn func(i int, v float64)) {
	w := k.x1 - k.x0
	for c := range n.c {
		for j, v := range k.plane(c) {
			if v != 0 {
				fn((c*n.h+k.y0+j/w)*n.w+k.x0+j%w, v)
			}
		}
	}
}

// backpass computes a lower bound of a linear form of a node's values by going back through the
// network (CROWN: Zhang et al. 2018).
type backpass struct {
	a     *analysis
	g     functional
	exact bool // no coefficient has been rounded so far
	relax relaxation
	terms [][kinds]*term // by node
	point []float64      // if not nil, it receives the image at which the bound is attained
	// The bound is total less slack. Slack has the errors of the program and of the pass itself.
	total, slack float64
}

// lower returns a lower bound of the functional g of the linear form k of n's values. If point is not
// nil, lower writes to it the pixels of an image at which the bound is attained. It leaves those that
// do not matter as they are.
func (a *analysis) lower(n *node, g functional, k *term, relax relaxation, point []float64) float64 {
	p := &backpass{a: a, g: g, exact: g.whole(), relax: relax, point: point, terms: make([][kinds]*term, n.index+1)}
	kind, factor := p.kindFor(n, weighted)
	for i := range k.v {
		k.v[i] *= factor
	}
	p.terms[n.index][kind] = k
	for i := n.index; i >= 0; i-- {
		if p.terms[i] != [kinds]*term{} {
			p.step(a.net.nodes[i], p.terms[i])
		}
	}
	return p.bound()
}

// add adds a constant to the bound, and the error of the sum to slack (Knuth's TwoSum). Sums that
// float64 can hold have none.
func (p *backpass) add(v float64) {
	s := p.total + v
	t := s - p.total
	p.slack += math.Abs((p.total - (s - t)) + (v - t))
	p.total = s
}

// bound returns the bound, rounded downwards.
func (p *backpass) bound() float64 {
	switch {
	case p.slack == 0:
		return p.total
	case math.IsNaN(p.total - p.slack):
		return math.Inf(-1)
	}
	return math.Nextafter(p.total-p.slack*(1+1e-6), math.Inf(-1))
}

// sum returns the sum of the weights of a kind.
func (p *backpass) sum(kind int) float64 {
	switch kind {
	case weighted:
		return p.g.sum()
	case summed:
		return float64(p.a.net.steps)
	}
	return 1
}

// kindFor returns the kind of a term of x that comes from a term of another kind, and a factor.
func (p *backpass) kindFor(x *node, kind int) (int, float64) {
	if x.static && kind != single {
		return single, p.sum(kind)
	}
	return kind, 1
}

// into returns the term of node x for what comes from a term of the given kind, and the factor for
// it. The term covers the rectangle.
func (p *backpass) into(x *node, kind int, y0, y1, x0, x1 int) (*term, float64) {
	kind, factor := p.kindFor(x, kind)
	at := &p.terms[x.index][kind]
	switch k := *at; {
	case k == nil:
		*at = newTerm(x.c, y0, y1, x0, x1)
	case y0 < k.y0 || y1 > k.y1 || x0 < k.x0 || x1 > k.x1:
		*at = newTerm(x.c, min(y0, k.y0), max(y1, k.y1), min(x0, k.x0), max(x1, k.x1))
		k.addTo(*at, x.c, func(int) float64 { return 1 })
	}
	return *at, factor
}

// addTo adds k to dst, whose rectangle is larger, with a factor for each channel.
func (k *term) addTo(dst *term, channels int, factor func(c int) float64) {
	w, wide := k.x1-k.x0, dst.x1-dst.x0
	for c := range channels {
		f, to := factor(c), dst.plane(c)
		for j, v := range k.plane(c) {
			to[(k.y0-dst.y0+j/w)*wide+k.x0-dst.x0+j%w] += f * v
		}
	}
}

// step goes back through node n.
func (p *backpass) step(n *node, terms [kinds]*term) {
	if s := p.a.spikes[n.index]; s != nil {
		p.spikes(n, s, terms)
		return
	}
	for kind, k := range terms {
		if k == nil {
			continue
		}
		if _, ok := n.op.(image); ok {
			p.image(n, kind, k)
			continue
		}
		if p.exact = p.exact && n.exact(p.g); !p.exact {
			for c := range n.c {
				var abs float64
				for _, v := range k.plane(c) {
					abs += math.Abs(v)
				}
				p.slack += abs * n.rho[c] * p.sum(kind)
			}
		}
		n.op.backward(n, p, kind, k)
	}
}

// image adds the least value of a term over the ball.
func (p *backpass) image(n *node, kind int, k *term) {
	g := functional{1}
	switch kind {
	case weighted:
		g = p.g
	case summed:
		g = ones(p.a.net.steps)
	}
	if r := p.a.region; r != nil && kind == single {
		form := make([]float64, n.size())
		k.each(n, func(i int, v float64) { form[i] = v })
		p.add(r.least(form, p.point))
		return
	}
	b := p.a.ball
	for t, w := range g {
		lo, hi := b.lo[t*n.size():], b.hi[t*n.size():]
		k.each(n, func(i int, v float64) {
			x := float64(lo[i])
			if v *= w; v < 0 {
				x = float64(hi[i])
			}
			if p.point != nil {
				p.point[i] = x
			}
			product := v * x
			p.slack += math.Abs(math.FMA(v, x, -product))
			p.add(product)
		})
	}
}

// spikes replaces the terms of spikes by their relaxation.
func (p *backpass) spikes(n *node, s *spikeSet, terms [kinds]*term) {
	k, more := terms[weighted], terms[summed]
	if k == nil || more != nil && (more.y0 < k.y0 || more.y1 > k.y1 || more.x0 < k.x0 || more.x1 > k.x1) {
		p.into(n, weighted, more.y0, more.y1, more.x0, more.x1)
		k = p.terms[n.index][weighted]
	}
	width := k.x1 - k.x0
	var slopes *term
	var factor float64
	x := n.in[0]
	for c := range n.c {
		for j, v := range k.plane(c) {
			y, px := k.y0+j/width, k.x0+j%width
			var u float64
			if more != nil && y >= more.y0 && y < more.y1 && px >= more.x0 && px < more.x1 {
				u = more.plane(c)[(y-more.y0)*(more.x1-more.x0)+px-more.x0]
			}
			if v == 0 && u == 0 {
				continue
			}
			i := (c*n.h+y)*n.w + px
			of := func(mask uint64) float64 { return v*p.g.of(mask) + u*float64(bits.OnesCount64(mask)) }
			slope, constant := p.relax(n, s, i, of)
			p.add(constant)
			if !p.exact {
				p.slack += gamma64(70) * (math.Abs(v)*p.g.sum() + math.Abs(u)*float64(p.a.net.steps))
			}
			if slope != 0 {
				if slopes == nil {
					slopes, factor = p.into(x, summed, k.y0, k.y1, k.x0, k.x1)
					if x.static {
						factor = 1
					}
				}
				p.exact = false
				slopes.plane(c)[(y-slopes.y0)*(slopes.x1-slopes.x0)+px-slopes.x0] += slope * factor
			}
		}
	}
}

func (image) backward(*node, *backpass, int, *term)    { panic("certify: an image has no input") }
func (*neurons) backward(*node, *backpass, int, *term) { panic("certify: neurons need their spikes") }
func (largest) backward(*node, *backpass, int, *term)  { panic("certify: pooling needs its spikes") }

func (op affine) backward(n *node, p *backpass, kind int, k *term) {
	p.addBias(n, kind, k, op.b)
	dst, f := p.into(n.in[0], kind, k.y0, k.y1, k.x0, k.x1)
	k.addTo(dst, n.c, func(c int) float64 { return f * op.a[c] })
}

// addBias adds what the bias b of each channel adds to a term of n.
func (p *backpass) addBias(n *node, kind int, k *term, b []float64) {
	for c := range n.c {
		f := b[c] * p.sum(kind)
		for _, v := range k.plane(c) {
			if v != 0 {
				p.add(v * f)
			}
		}
	}
}

func (op combine) backward(n *node, p *backpass, kind int, k *term) {
	for i, x := range n.in {
		dst, f := p.into(x, kind, k.y0, k.y1, k.x0, k.x1)
		k.addTo(dst, n.c, func(int) float64 { return f * op.w[i] })
	}
}

func (reshape) backward(n *node, p *backpass, kind int, k *term) {
	x := n.in[0]
	dst, f := p.into(x, kind, 0, x.h, 0, x.w)
	for i, v := range k.v {
		dst.v[i] += f * v
	}
}

func (op average) backward(n *node, p *backpass, kind int, k *term) {
	s := op.stride
	dst, f := p.into(n.in[0], kind, k.y0*s, (k.y1-1)*s+op.kh, k.x0*s, (k.x1-1)*s+op.kw)
	w, wide := k.x1-k.x0, dst.x1-dst.x0
	for c := range n.c {
		to := dst.plane(c)
		for j, v := range k.plane(c) {
			at := ((k.y0+j/w)*s-dst.y0)*wide + (k.x0+j%w)*s - dst.x0
			for ky := range op.kh {
				for kx := range op.kw {
					to[at+ky*wide+kx] += f * op.scale * v
				}
			}
		}
	}
}

func (op *conv) backward(n *node, p *backpass, kind int, k *term) {
	x, s := n.in[0], op.stride
	if op.bias != nil {
		p.addBias(n, kind, k, op.bias)
	}
	y0, y1 := max(0, k.y0*s-op.pad), min(x.h, (k.y1-1)*s-op.pad+op.kh)
	x0, x1 := max(0, k.x0*s-op.pad), min(x.w, (k.x1-1)*s-op.pad+op.kw)
	if y0 >= y1 || x0 >= x1 {
		return // the windows see padding alone
	}
	dst, f := p.into(x, kind, y0, y1, x0, x1)
	w, wide, window := k.x1-k.x0, dst.x1-dst.x0, op.kh*op.kw
	for o := range n.c {
		for j, v := range k.plane(o) {
			if v == 0 {
				continue
			}
			v *= f
			y, px := (k.y0+j/w)*s-op.pad, (k.x0+j%w)*s-op.pad
			for c := range x.c {
				to, weight := dst.plane(c), op.weight[(o*x.c+c)*window:][:window]
				for ky := max(0, -y); ky < min(op.kh, x.h-y); ky++ {
					at := (y+ky-dst.y0)*wide + px - dst.x0
					for kx := max(0, -px); kx < min(op.kw, x.w-px); kx++ {
						to[at+kx] += v * weight[ky*op.kw+kx]
					}
				}
			}
		}
	}
}
