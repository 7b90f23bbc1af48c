package certify

import "slices"

// analysis holds what is known about the layers of a network for the images of a ball.
type analysis struct {
	net    *network
	ball   ball
	region *region            // the images of ball, if half-spaces cut it; nil otherwise
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

// run computes the spikes of all layers that have none, by plain interval arithmetic or, if list is set, as lists of
// spike trains.
func (a *analysis) run(list bool) error {
	for _, n := range a.net.nodes {
		if a.spikes[n.index] != nil {
			continue
		}
		switch op := n.op.(type) {
		case *neurons:
			s, err := a.fire(n, op, list)
			if err != nil {
				return err
			}
			a.spikes[n.index] = s
		case largest:
			a.spikes[n.index] = op.pool(n, a.spikes[n.in[0].index])
		}
	}
	return nil
}

// fire returns the spikes of the neurons n.
func (a *analysis) fire(n *node, op *neurons, list bool) (*spikeSet, error) {
	x, err := a.currents(n.in[0])
	if err != nil {
		return nil, err
	}
	T, plane := a.net.steps, n.h*n.w
	s := &spikeSet{must: make([]uint64, n.size()), may: make([]uint64, n.size())}
	own := make([]potential, T)
	var most float32
	certain := true
	for i := range s.must {
		for t := range own {
			own[t] = x[min(t, len(x)-1)][i]
		}
		var m float32
		s.must[i], s.may[i], m = op.scan(i/plane, own)
		most = max(most, m)
		certain = certain && s.must[i] == s.may[i]
	}
	if !(most < mostValue) {
		return nil, &overflowError{n.name}
	}
	if !list || certain {
		return s, nil
	}
	s.sets = make([][]train, n.size())
	if n.in[0].static {
		for i := range s.sets {
			if s.must[i] != s.may[i] {
				s.put(i, op.listStatic(i/plane, T, x[0][i]))
			}
		}
		return s, nil
	}
	var w *windows
	if op.uniform && !op.soft {
		w = newWindows(a, op, n.in[0], float64(most))
	}
	total := a.functional(n.in[0], ones(T))
	for i := range s.sets {
		if s.must[i] == s.may[i] {
			continue
		}
		for t := range own {
			own[t] = x[t][i]
		}
		c := i / plane
		h := &history{op: op, c: c, x: own, w: w, total: [2]float64{total.lo[i], total.hi[i]}, i: i}
		h.walk(0, 0, potential{op.start[c], op.start[c]}, 0)
		if !h.full && len(h.list) > 0 {
			s.put(i, h.list)
		}
	}
	return s, nil
}

// put makes list the trains of neuron i.
func (s *spikeSet) put(i int, list []train) {
	s.sets[i] = list
	s.must[i], s.may[i] = ^uint64(0), 0
	for _, t := range list {
		s.must[i] &= t.mask
		s.may[i] |= t.mask
	}
}

// pool returns the spikes of maximum pooling: a window fires if one of its neurons does.
func (op largest) pool(n *node, x *spikeSet) *spikeSet {
	s := &spikeSet{must: make([]uint64, n.size()), may: make([]uint64, n.size())}
	if x.sets != nil {
		s.sets = make([][]train, n.size())
	}
	in := n.in[0]
	for i := range s.must {
		c, y, px := i/(n.h*n.w), i/n.w%n.h, i%n.w
		list := []train{{}}
		for ky := range op.k {
			for kx := range op.k {
				at := (c*in.h+y*op.k+ky)*in.w + px*op.k + kx
				s.must[i] |= x.must[at]
				s.may[i] |= x.may[at]
				list = union(list, x.trains(at))
			}
		}
		if list != nil && s.sets != nil {
			s.put(i, list)
		}
	}
	return s
}

// trains returns the trains of neuron i, or nil if they are not listed.
func (s *spikeSet) trains(i int) []train {
	switch {
	case s.must[i] == s.may[i]:
		return []train{{mask: s.must[i]}}
	case s.sets == nil:
		return nil
	}
	return s.sets[i]
}

// ones returns the functional that is the sum over T steps.
func ones(T int) functional { return slices.Repeat(functional{1}, T) }
