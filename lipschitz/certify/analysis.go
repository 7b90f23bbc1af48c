package certify

import "slices"

// analysis holds what is known about the layers of a network for the images of a ball.
type analysis struct {
	net    *network
	ball   ball
	spikes []*spikeSet        // by node, nil where it emits no spikes
	fixed  map[*node]interval // the values of static nodes
}

func newAnalysis(net *network, b ball) *analysis {
	return &analysis{net: net, ball: b, spikes: make([]*spikeSet, len(net.nodes)), fixed: map[*node]interval{}}
}

// constant returns the bounds of a static node.
func (a *analysis) constant(n *node) interval {
	v, ok := a.fixed[n]
	if !ok {
		v = (&forward{a, nil, a.fixed}).bounds(n)
	}
	return v
}

// functional returns the bounds of a functional of n.
func (a *analysis) functional(n *node, g functional) interval {
	return (&forward{a, g, map[*node]interval{}}).bounds(n)
}

// currents returns the bounds of the currents n of neurons, of every step or, if they are static, of
// one: [steps][c·h·w]. They are the least and the largest float32.
func (a *analysis) currents(n *node) ([][]potential, error) {
	var steps []interval
	if n.static {
		steps = []interval{a.constant(n)}
	} else {
		for t := range a.net.steps {
			steps = append(steps, a.functional(n, step(t, a.net.steps)))
		}
	}
	out := make([][]potential, len(steps))
	for t, v := range steps {
		out[t] = make([]potential, n.size())
		for i := range v.lo {
			if !(v.lo[i] > -mostValue && v.hi[i] < mostValue) {
				return nil, &overflowError{n.name}
			}
			out[t][i] = potential{down32(v.lo[i]), up32(v.hi[i])}
		}
	}
	return out, nil
}

// intervals computes the spikes of all layers by plain interval arithmetic.
func (a *analysis) intervals() error {
	for _, n := range a.net.nodes {
		switch op := n.op.(type) {
		case *neurons:
			x, err := a.currents(n.in[0])
			if err != nil {
				return err
			}
			s := &spikeSet{must: make([]uint64, n.size()), may: make([]uint64, n.size())}
			own := make([]potential, len(x))
			for i := range s.must {
				for t := range x {
					own[t] = x[t][i]
				}
				var most float32
				s.must[i], s.may[i], most = op.scan(i/(n.h*n.w), a.net.steps, own)
				if !(most < mostValue) {
					return &overflowError{n.name}
				}
			}
			a.spikes[n.index] = s
		case largest:
			a.spikes[n.index] = op.pool(n, a.spikes[n.in[0].index])
		}
	}
	return nil
}

// pool returns the spikes of maximum pooling: a window fires if one of its neurons does.
func (op largest) pool(n *node, x *spikeSet) *spikeSet {
	s := &spikeSet{must: make([]uint64, n.size()), may: make([]uint64, n.size())}
	in := n.in[0]
	for i := range s.must {
		c, y, px := i/(n.h*n.w), i/n.w%n.h, i%n.w
		for ky := range op.k {
			for kx := range op.k {
				at := (c*in.h+y*op.k+ky)*in.w + px*op.k + kx
				s.must[i] |= x.must[at]
				s.may[i] |= x.may[at]
			}
		}
	}
	return s
}

// ones returns the functional that is the sum over T steps.
func ones(T int) functional { return slices.Repeat(functional{1}, T) }
