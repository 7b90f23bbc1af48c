package certify

import "math"

// weightedSum is a current as a sum over pixels: the program's current is a·x + b, plus an error of at
// most err, for every image with values in [0,1]. Like a halfspace, it has the pixels index alone.
type weightedSum struct {
	index  []int     // ascending
	a      []float64 // [len(index)]
	b, err float64
}

// at returns the current of an image, rounded to nearest.
func (s *weightedSum) at(image []float64) float64 {
	v := s.b
	for i, p := range s.index {
		v += s.a[i] * image[p]
	}
	return v
}

// below returns a half-space that holds all images for which the current is at most v.
func (s *weightedSum) below(v float64) halfspace {
	return halfspace{s.index, s.a, s.room(v-s.b, v)}
}

// above returns a half-space that holds all images for which the current is at least v.
func (s *weightedSum) above(v float64) halfspace {
	a := make([]float64, len(s.a))
	for i, v := range s.a {
		a[i] = -v
	}
	return halfspace{s.index, a, s.room(s.b-v, v)}
}

// room returns d, which is the rounded difference of b and v, plus the error of the current, rounded
// upwards.
func (s *weightedSum) room(d, v float64) float64 {
	return d + s.err + 8*unit64*(math.Abs(v)+math.Abs(s.b)+s.err)
}

// weightedSums returns the values of n as sums over pixels, or nil if n depends on the image in another
// way.
func (net *network) weightedSums(n *node) []weightedSum {
	if !n.static || !net.isLinear(n) {
		return nil
	}
	a := newAnalysis(net, ball{})
	out := make([]weightedSum, n.size())
	for i := range out {
		p := &backpass{a: a, terms: make([][kinds]*term, n.index+1)}
		c, y, x := i/(n.h*n.w), i/n.w%n.h, i%n.w
		k := newTerm(n.c, y, y+1, x, x+1)
		k.v[c] = 1
		p.terms[n.index][single] = k
		for j := n.index; j > 0; j-- {
			if p.terms[j] != [kinds]*term{} {
				p.step(net.nodes[j], p.terms[j])
			}
		}
		s := &out[i]
		s.b = p.total
		s.err = p.slack*(1+1e-6) + least32
		if k := p.terms[0][single]; k != nil {
			k.each(net.nodes[0], func(i int, v float64) {
				s.index = append(s.index, i)
				s.a = append(s.a, v)
			})
		}
	}
	return out
}

// isLinear reports whether no neurons lie between the image and n.
func (net *network) isLinear(n *node) bool {
	switch n.op.(type) {
	case *neurons, largest:
		return false
	}
	for _, x := range n.in {
		if !net.isLinear(x) {
			return false
		}
	}
	return true
}
