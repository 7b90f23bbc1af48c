package certify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Effort bounds the search of [Complete] around one image. A search that reaches a bound leaves
// the image Unknown.
type Effort struct {
	// Nodes is the largest number of nodes of the search tree, at least 1. Verdicts that depend on
	// it alone are the same in every run.
	Nodes int
	// Time bounds the time of the search, from the first node on. 0 stands for no bound.
	Time time.Duration
}

// Validate returns an error that names the field that is out of range.
func (e Effort) Validate() error {
	switch {
	case e.Nodes < 1:
		return fmt.Errorf("certify: Nodes %d: expected at least 1", e.Nodes)
	case e.Time < 0:
		return fmt.Errorf("certify: Time %v: expected at least 0", e.Time)
	}
	return nil
}

// Completed is a result of [Complete].
type Completed struct {
	Result
	Nodes int // of the search tree; 0 if Certify has decided the image
}

// Complete decides for each image of x whether an image of its ball has another class than the
// label y. It first calls [Certify], with its Method and Search, and then searches for a proof by
// branch and bound where the verdict is Unknown. With enough effort, the search ends with a proof or
// a counterexample.
//
// A node of the search is a part of the ball. It is closed if the bounds of cfg.Method prove it, or if it
// is shown to be empty. At each node the network runs on an image of the part, which may be a
// counterexample. Other nodes are split in two:
//
//   - For images of one step, the first layers of neurons see a constant current, so that each of
//     their neurons has one of few spike trains. A larger current gives a later one in this list. The
//     halves of a node have the trains up to one of them, and those after it.
//   - Where the first layers have one train each, and where they see no constant current, the
//     images are split: those with a pixel of at most some value, and the others.
//
// If all spikes come from those first layers, a part with one train for each of their neurons has
// one output. The network then runs on an image with these trains, and its output proves the part,
// rounding included. A proof with such a part holds at the kernel level in use. Its Why says so.
//
// If ctx is done, Complete returns the error of ctx with the results so far. Images that it did
// not finish are Unknown. It returns the errors of Certify and of Validate with no results.
func Complete(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, cfg Config, effort Effort) ([]Completed, error) {
	if err := effort.Validate(); err != nil {
		return nil, err
	}
	first, err := Certify(ctx, m, x, y, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Method == nil {
		cfg.Method = Linear{}
	}
	results := make([]Completed, x.N)
	var open []int
	for i, r := range first {
		results[i].Result = r
		if r.Verdict == Unknown {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return results, nil
	}
	net, err := compile(m, x.Shape().Steps)
	if err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	errs := make([]error, len(open))
	parallel.For(parallel.Threads(m.Threads), len(open), func(k int) {
		i := open[k]
		errs[k] = completeImage(ctx, m, net, x.Slice(i, i+1), &results[i], cfg, effort)
	})
	for k, err := range errs {
		if err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
			return nil, fmt.Errorf("certify: image %d: %w", open[k], err)
		}
	}
	return results, ctx.Err()
}

// completeImage searches around the image x and fills in r.
func completeImage(ctx context.Context, m *snn.Model, net *network, x tensor.NCHW, r *Completed, cfg Config, effort Effort) error {
	b, root, err := newBrancher(m, net, x, r.Label, cfg, effort)
	if err != nil {
		return err
	}
	return b.run(ctx, root, r)
}

// brancher is the search around one image.
type brancher struct {
	m      *snn.Model
	net    *network
	method Method
	x      tensor.NCHW // an image to run the network on
	label  int
	effort Effort
	first  []*firstLayer
	exact  bool // the spikes of first decide the output
	ran    bool // a run of the network has proven a part
}

// firstLayer is a layer of neurons whose current is a sum over the pixels of the image.
type firstLayer struct {
	n      *node
	sums   []weightedSum // [c·h·w]
	trains [][]train     // [c·h·w], those of each neuron in the ball, by ascending current
	base   int           // index of its first neuron among those of all first layers
	lines  []line        // [c·h·w], see choose
}

// line is the relaxation of a neuron, slope·current + constant, which is below the parts of the margin
// that its trains have. parts is nil for a neuron without a part.
type line struct {
	slope, constant float64
	parts           []float64
}

// part is a node of the search tree: the images of a box that satisfy the cuts.
type part struct {
	ball
	cuts        []halfspace
	multipliers []float64 // [len(cuts)], see region.find
	rivals      []int     // the classes that are not excluded
	margin      float64   // a bound of the margins to the others
	point       []float64 // an image of the box, where find begins
	// Neuron i of the first layers has one of its trains from[i] to to[i]−1.
	from, to []int
}

// newBrancher returns the search around the image x, and the ball as its root.
func newBrancher(m *snn.Model, net *network, x tensor.NCHW, label int, cfg Config, effort Effort) (*brancher, *part, error) {
	b := &brancher{m: m, net: net, method: cfg.Method, x: x.Clone(), label: label, effort: effort}
	root := &part{ball: ballOf(x.Data, cfg.Epsilon), rivals: net.rivals(label), margin: math.Inf(1)}
	for _, v := range x.Data {
		root.point = append(root.point, float64(v))
	}
	a := newAnalysis(net, root.ball)
	var overflow *overflowError
	for _, n := range net.nodes {
		op, ok := n.op.(*neurons)
		if !ok || !n.in[0].static || !net.isLinear(n.in[0]) {
			continue
		}
		s, err := a.fire(n, op, true)
		switch {
		case errors.As(err, &overflow):
			continue
		case err != nil:
			return nil, nil, err
		}
		l := &firstLayer{n: n, sums: net.weightedSums(n.in[0]), base: len(root.from), lines: make([]line, n.size())}
		for i := range n.size() {
			list := s.trains(i)
			l.trains = append(l.trains, list)
			root.from, root.to = append(root.from, 0), append(root.to, len(list))
		}
		b.first = append(b.first, l)
	}
	b.exact = b.decides(net.nodes[len(net.nodes)-1])
	return b, root, nil
}

// decides reports whether the spikes of the first layers decide the value of n.
func (b *brancher) decides(n *node) bool {
	for _, l := range b.first {
		if l.n == n {
			return true
		}
	}
	for _, x := range n.in {
		if !b.decides(x) {
			return false
		}
	}
	return len(n.in) > 0
}

// run searches and fills in r.
func (b *brancher) run(ctx context.Context, root *part, r *Completed) error {
	began := time.Now()
	open := []*part{root}
	margin := math.Inf(1) // of the parts that are closed
	for len(open) > 0 {
		switch {
		case ctx.Err() != nil:
			r.Why = fmt.Sprintf("the search was stopped after %d nodes", r.Nodes)
			return ctx.Err()
		case r.Nodes == b.effort.Nodes || b.effort.Time > 0 && time.Since(began) >= b.effort.Time:
			r.Why = fmt.Sprintf("%d nodes of branch and bound do not decide it, %d are open", r.Nodes, len(open))
			return nil
		}
		p := open[len(open)-1]
		open = open[:len(open)-1]
		r.Nodes++
		least, halves, err := b.visit(p, &r.Result)
		if err != nil || r.Verdict == Broken {
			return err
		}
		margin = min(margin, least)
		open = append(open, halves...)
	}
	r.Verdict, r.Margin, r.Why = Certified, margin, fmt.Sprintf("%d nodes of branch and bound prove it", r.Nodes)
	if b.ran {
		r.Why += ", some by runs of the network at this kernel level"
	}
	return nil
}

// visit closes p or returns its halves. margin bounds the margins of a part that it closes. If it
// finds a counterexample, it makes r Broken.
func (b *brancher) visit(p *part, r *Result) (margin float64, halves []*part, err error) {
	g := &region{cuts: p.cuts}
	for i := range p.lo {
		g.lo, g.hi = append(g.lo, float64(p.lo[i])), append(g.hi, float64(p.hi[i]))
	}
	if len(p.cuts) > 0 {
		if !g.tighten() {
			return math.Inf(1), nil, nil
		}
		p.ball = ball{make([]float32, len(g.lo)), make([]float32, len(g.hi))}
		for i := range g.lo {
			if p.lo[i], p.hi[i] = up32(g.lo[i]), down32(g.hi[i]); p.lo[i] > p.hi[i] {
				return math.Inf(1), nil, nil
			}
			g.lo[i], g.hi[i] = float64(p.lo[i]), float64(p.hi[i])
		}
	}
	a := newAnalysis(b.net, p.ball)
	if len(p.cuts) > 0 {
		a.region = g
	}
	empty, err := b.narrow(a, p)
	if err != nil || empty {
		return math.Inf(1), nil, err
	}
	margins, err := b.method.margins(a, b.label, p.rivals)
	var overflow *overflowError
	if err != nil && !errors.As(err, &overflow) {
		return 0, nil, err
	}
	rival := 0
	if err == nil {
		var least float64
		var open []int
		if least, rival, open = judge(margins, p.rivals, b.label); len(open) == 0 {
			return min(p.margin, least), nil, nil
		}
		for i, j := range p.rivals {
			if !slices.Contains(open, j) {
				p.margin = min(p.margin, margins[i])
			}
		}
		p.rivals = open
	}
	leaf := true // all neurons of the first layers have one train
	for i := range p.to {
		leaf = leaf && p.to[i]-p.from[i] == 1
	}
	var same bool
	for _, slack := range []float64{1e-3, 0} { // first away from the cuts, where rounding decides
		found, empty := g.find(p.point, p.multipliers, slack)
		if empty {
			return math.Inf(1), nil, nil
		}
		if found || slack == 0 {
			if margin, same, err = b.try(p, r); err != nil || r.Verdict == Broken {
				return 0, nil, err
			}
			break
		}
	}
	if leaf {
		if b.exact && same {
			b.ran = true
			return margin, nil, nil
		}
		margin, halves = b.splitPixel(p, margin)
		return margin, halves, nil
	}
	if overflow != nil {
		a = nil // of later layers, it has no spikes
	}
	l, i := b.choose(a, p, rival)
	return math.Inf(1), b.splitTrains(p, l, i), nil
}

// narrow drops the trains of p that no image of its box has, and gives the others to a. It reports
// whether a neuron has none left.
func (b *brancher) narrow(a *analysis, p *part) (empty bool, err error) {
	if len(b.first) > 0 {
		p.from, p.to = slices.Clone(p.from), slices.Clone(p.to)
	}
	for _, l := range b.first {
		x, err := a.currents(l.n.in[0])
		if err != nil {
			return false, err
		}
		n := l.n.size()
		s := &spikeSet{must: make([]uint64, n), may: make([]uint64, n), sets: make([][]train, n)}
		for i, x := range x[0] {
			list := l.trains[i]
			from, to := &p.from[l.base+i], &p.to[l.base+i]
			if len(list) > 1 {
				for *from < *to && list[*from].hi < float64(x.lo) {
					*from++
				}
				for *from < *to && list[*to-1].lo > float64(x.hi) {
					*to--
				}
				if *from == *to {
					return true, nil
				}
			}
			list = list[*from:*to]
			if len(list) == 1 {
				s.must[i], s.may[i] = list[0].mask, list[0].mask
				continue
			}
			list = slices.Clone(list)
			list[0].lo = max(list[0].lo, float64(x.lo))
			list[len(list)-1].hi = min(list[len(list)-1].hi, float64(x.hi))
			s.put(i, list)
		}
		a.spikes[l.n.index] = s
	}
	return false, nil
}

// try runs the network on p.point. It returns the least margin of the logits, and whether the
// neurons of the first layers have the first of their trains in p. If the image has another class
// than the label, it makes r Broken.
func (b *brancher) try(p *part, r *Result) (margin float64, same bool, err error) {
	for i, v := range p.point {
		b.x.Data[i] = min(max(float32(v), p.lo[i]), p.hi[i])
	}
	matching := 0 // layers of first
	pass := snn.Pass{Threads: 1, OnSpikes: func(layer string, s *tensor.Spikes) {
		for _, l := range b.first {
			if l.n.name == layer && l.has(s, p) {
				matching++
			}
		}
	}}
	logits, err := b.m.Logits(pass, b.x)
	if err != nil {
		return 0, false, err
	}
	if class := argmax(logits); class != b.label {
		r.Verdict, r.Why = Broken, "branch and bound found an image that the network misclassifies"
		r.Counterexample, r.BrokenAs = slices.Clone(b.x.Data), class
	}
	margin = math.Inf(1)
	for j, z := range logits {
		if j != b.label {
			margin = min(margin, float64(logits[b.label])-float64(z))
		}
	}
	return margin, matching == len(b.first), nil
}

// has reports whether each neuron has the first of its trains in p.
func (l *firstLayer) has(s *tensor.Spikes, p *part) bool {
	for i := range l.n.size() {
		mask := l.trains[i][p.from[l.base+i]].mask
		c, y, x := i/(l.n.h*l.n.w), i/l.n.w%l.n.h, i%l.n.w
		for t := range s.Steps {
			if s.At(0, t, c, y, x) != (mask>>t&1 == 1) {
				return false
			}
		}
	}
	return true
}

// choose returns the neuron of the first layers to split. The linear relaxation of the margin to the
// class rival is attained at an image. There the neuron's line is furthest below the part of the margin
// that its train has. A thousandth of the range of these parts is added, for lines that are exact. Where
// a is nil, it is the first neuron with several trains.
func (b *brancher) choose(a *analysis, p *part, rival int) (l *firstLayer, i int) {
	for _, l := range b.first {
		clear(l.lines)
	}
	out := b.net.nodes[len(b.net.nodes)-1]
	k := newTerm(out.c, 0, 1, 0, 1)
	k.v[b.label], k.v[rival] = 1, -1
	hull, image := hullRelaxation(0.5), make([]float64, len(p.lo))
	for i, v := range p.lo {
		image[i] = float64(v)
	}
	lines := func(n *node, s *spikeSet, i int, w func(mask uint64) float64) (slope, constant float64) {
		slope, constant = hull(n, s, i, w)
		for _, l := range b.first {
			if l.n != n {
				continue
			}
			e := line{slope: slope, constant: constant}
			for _, t := range s.trains(i) {
				e.parts = append(e.parts, w(t.mask))
			}
			l.lines[i] = e
		}
		return slope, constant
	}
	if a != nil {
		a.lower(out, ones(b.net.steps), k, lines, image)
	}
	var best float64
	for _, m := range b.first {
		for k, e := range m.lines {
			from, to := p.from[m.base+k], p.to[m.base+k]
			if to-from < 2 {
				continue
			}
			gap := 0.0
			if e.parts != nil {
				current := m.sums[k].at(image)
				t := from
				for t < to-1 && m.trains[k][t].hi < current {
					t++
				}
				gap = e.parts[t-from] - (e.slope*current + e.constant) + 1e-3*(slices.Max(e.parts)-slices.Min(e.parts))
			}
			if l == nil || gap > best {
				best, l, i = gap, m, k
			}
		}
	}
	return l, i
}

// splitTrains returns the halves of p in which neuron i of l has its lower or its upper trains.
func (b *brancher) splitTrains(p *part, l *firstLayer, i int) []*part {
	from, to := p.from[l.base+i], p.to[l.base+i]
	at := (from + to) / 2
	list := l.trains[i]
	low, high := p.child(), p.child()
	low.to, high.from = slices.Clone(p.to), slices.Clone(p.from)
	low.to[l.base+i], high.from[l.base+i] = at, at
	low.cuts = append(low.cuts, l.sums[i].below(list[at-1].hi))
	high.cuts = append(high.cuts, l.sums[i].above(list[at].lo))
	for _, half := range []*part{low, high} {
		half.multipliers = append(half.multipliers, 0)
	}
	return []*part{low, high}
}

// child returns a copy of p with memory of its own for what a search changes.
func (p *part) child() *part {
	c := *p
	c.cuts = slices.Clip(p.cuts)
	c.multipliers, c.point = slices.Clone(p.multipliers), slices.Clone(p.point)
	return &c
}

// splitPixel returns the halves of the box of p at the widest pixel. If the box is one image, it has
// been tried.
func (b *brancher) splitPixel(p *part, margin float64) (float64, []*part) {
	widest := 0
	for i := range p.lo {
		if p.hi[i]-p.lo[i] > p.hi[widest]-p.lo[widest] {
			widest = i
		}
	}
	lo, hi := p.lo[widest], p.hi[widest]
	if lo == hi {
		b.ran = true
		return margin, nil
	}
	mid := min(lo+(hi-lo)/2, below(hi))
	low, high := p.child(), p.child()
	low.hi, high.lo = slices.Clone(p.hi), slices.Clone(p.lo)
	low.hi[widest], high.lo[widest] = mid, math.Nextafter32(mid, hi)
	return math.Inf(1), []*part{low, high}
}
