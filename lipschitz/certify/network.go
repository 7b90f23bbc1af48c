package certify

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// network is a model as a graph of nodes. Nodes come after those that they read. The last one
// gives the logits of every step.
type network struct {
	nodes   []*node
	steps   int // T
	classes int
}

// node is a layer. Its value is what the program computes: op of the values of in, exactly, plus
// an error of at most rho of its channel.
type node struct {
	name    string
	op      op
	in      []*node
	index   int
	c, h, w int
	static  bool      // the value is the same at every step
	mag     []float64 // [c], at least the magnitude of the values
	rho     []float64 // [c]
	// grid is a power of two if all values are multiples of it, are at most 2²⁴ times as large, and
	// are computed without rounding. Then rho only counts in sums with weights that round. It is 0
	// otherwise.
	grid float64
}

// size returns the number of values of a step.
func (n *node) size() int { return n.c * n.h * n.w }

// op is what a node computes.
type op interface {
	// forward returns bounds of the op for bounds of its inputs, without the error rho. g is the
	// sum of the weights of the functional, see functionals.
	forward(n *node, g float64, in []interval) interval
	// backward adds to the terms of n's inputs what the term k of n stands for.
	backward(n *node, p *backpass, kind int, k *term)
}

// The ops. Values of weights are those of the float32 that the program uses.
type (
	image struct{} // of one step, or of all
	conv  struct {
		weight      []float64 // [cout][cin][kh][kw]
		bias        []float64 // [cout], or nil
		kh, kw      int
		stride, pad int
		sums        []float64 // [cout], Σ|w|
	}
	affine  struct{ a, b []float64 } // [c], a·x + b
	average struct {
		kh, kw, stride int
		scale          float64
	}
	reshape struct{}               // to c·h·w × 1 × 1
	combine struct{ w [2]float64 } // w₀·x₀ + w₁·x₁
	largest struct{ k int }        // of spikes, over windows of k × k
	neurons struct {
		decay, gain, threshold, reset, start []float32 // [c]
		soft                                 bool
		uniform                              bool // one decay and one gain for all channels
	}
)

// layerError names the layer that has no bound.
type layerError struct{ name, why string }

func (e *layerError) Error() string { return fmt.Sprintf("layer %s: %s", e.name, e.why) }

// overflowError says that the bounds do not exclude an overflow of float32.
type overflowError struct{ name string }

func (e *overflowError) Error() string {
	return fmt.Sprintf("layer %s: the bounds do not exclude that a value overflows", e.name)
}

// compiler builds a network.
type compiler struct{ net *network }

// compile returns m as a network for images of the given number of frames.
func compile(m *snn.Model, frames int) (*network, error) {
	if err := m.ValidateParams(); err != nil {
		return nil, err
	}
	switch m.Encoder.(type) {
	case snn.Direct:
	case snn.Poisson:
		return nil, errors.New("encoder snn.Poisson is random: a certificate would hold for one draw of its spikes only; expected snn.Direct, or randomized smoothing")
	default:
		return nil, fmt.Errorf("encoder %T has no bound, and it may be random: expected snn.Direct, or randomized smoothing", m.Encoder)
	}
	if m.Steps > 64 {
		return nil, fmt.Errorf("%d time steps: expected at most 64", m.Steps)
	}
	c := &compiler{net: &network{steps: m.Steps, classes: m.Classes()}}
	h := c.add(&node{name: "image", op: image{}, c: m.Channels, h: m.Height, w: m.Width, static: frames == 1, mag: slices.Repeat([]float64{1}, m.Channels)})
	if mean, std := m.Normalization(); mean != nil {
		op := affine{make([]float64, m.Channels), make([]float64, m.Channels)}
		for i := range mean {
			op.a[i], op.b[i] = float64(1/std[i]), float64(-mean[i]/std[i])
		}
		h = c.affine("normalization", op, h)
	}
	out, err := c.layer(m.Body(), "", h)
	if err != nil {
		return nil, err
	}
	if out != c.net.nodes[len(c.net.nodes)-1] {
		return nil, errors.New("the last layer is not the output")
	}
	for _, n := range c.net.nodes {
		for i, v := range n.mag {
			if !(v < mostValue) {
				return nil, fmt.Errorf("layer %s: channel %d may reach %.3g in magnitude: a sum may overflow", n.name, i, v)
			}
		}
	}
	return c.net, nil
}

// add appends a node. It completes its error rho, which holds what one step of the op rounds at
// most, and its magnitude, by that of the float64 bounds.
func (c *compiler) add(n *node) *node {
	n.index = len(c.net.nodes)
	if n.rho == nil {
		n.rho = make([]float64, n.c)
	}
	if n.grid == 0 {
		for i := range n.mag {
			n.mag[i] = n.mag[i]*(1+1e-9) + n.rho[i]
		}
	}
	c.net.nodes = append(c.net.nodes, n)
	return n
}

// onGrid sets n's grid if n's values are multiples of grid, and the program computes them exactly. Sums
// of multiples of a power of two are exact if that of the magnitudes has at most 24 bits.
func (n *node) onGrid(grid float64) {
	if most := slices.Max(n.mag); grid > 0 && most <= 0x1p24*grid && grid >= 0x1p-60 {
		n.grid = grid
	}
}

// gridOf returns the largest power of two that divides all of v, or 0 if v has other values than
// multiples of 2⁻⁴⁰.
func gridOf(v ...[]float64) float64 {
	grid := 1.0
	for _, v := range v {
		for _, x := range v {
			for x != grid*math.Trunc(x/grid) {
				if grid /= 2; grid < 0x1p-40 {
					return 0
				}
			}
		}
	}
	return grid
}

func (c *compiler) affine(name string, op affine, x *node) *node {
	n := &node{name: name, op: op, in: []*node{x}, c: x.c, h: x.h, w: x.w, static: x.static, mag: make([]float64, x.c), rho: make([]float64, x.c)}
	for i := range n.mag {
		n.mag[i] = math.Abs(op.a[i])*x.mag[i] + math.Abs(op.b[i])
		n.rho[i] = (gamma32(3)+gamma64(72))*n.mag[i] + 2*least32
	}
	return c.add(n)
}

// layer adds the layer l, which reads x.
func (c *compiler) layer(l snn.Layer, name string, x *node) (*node, error) {
	switch l := l.(type) {
	case *snn.Sequential:
		names := l.Names()
		for i, l := range l.Layers() {
			var err error
			if x, err = c.layer(l, join(name, names[i]), x); err != nil {
				return nil, err
			}
		}
		return x, nil
	case *snn.Conv2D:
		return c.conv(name, conv{weight: wide(l.Weight), bias: wide(l.Bias), kh: l.Weight.Shape[2], kw: l.Weight.Shape[3], stride: l.Stride, pad: l.Pad}, l.Weight.Shape[0], x)
	case *snn.Linear:
		return c.conv(name, conv{weight: wide(l.Weight), bias: wide(l.Bias), kh: 1, kw: 1, stride: 1}, l.Weight.Shape[0], x)
	case *snn.BatchNorm:
		return c.affine(name, batchNorm(l), x), nil
	case snn.AvgPool:
		return c.average(name, l.K, x)
	case snn.MaxPool:
		switch x.op.(type) {
		case *neurons, largest:
			return c.add(&node{name: name, op: largest{l.K}, in: []*node{x}, c: x.c, h: x.h / l.K, w: x.w / l.K, mag: slices.Clone(x.mag), grid: 1}), nil
		}
		return nil, &layerError{name, "max pooling has no bound here: expected neurons before it"}
	case snn.Flatten:
		n := &node{name: name, op: reshape{}, in: []*node{x}, c: x.size(), h: 1, w: 1, static: x.static, grid: x.grid}
		for _, v := range x.mag {
			n.mag = append(n.mag, slices.Repeat([]float64{v}, x.h*x.w)...)
		}
		return c.add(n), nil
	case *snn.Dropout: // does nothing in an evaluation
		return x, nil
	case *snn.Residual:
		return c.residual(l, name, x)
	case snn.Neuron:
		op, err := neuronsOf(l, x.c)
		if err != nil {
			return nil, &layerError{l.Name(), err.Error()}
		}
		return c.add(&node{name: l.Name(), op: op, in: []*node{x}, c: x.c, h: x.h, w: x.w, mag: slices.Repeat([]float64{1}, x.c), grid: 1}), nil
	}
	return nil, &layerError{name, fmt.Sprintf("a layer of type %T has no bound", l)}
}

func (c *compiler) conv(name string, op conv, cout int, x *node) (*node, error) {
	terms := x.c * op.kh * op.kw
	if terms > mostTerms {
		return nil, &layerError{name, fmt.Sprintf("sums of %d terms have no bound: expected at most %d", terms, mostTerms)}
	}
	n := &node{
		name: name, op: &op, in: []*node{x}, c: cout, static: x.static, mag: make([]float64, cout), rho: make([]float64, cout),
		h: (x.h+2*op.pad-op.kh)/op.stride + 1, w: (x.w+2*op.pad-op.kw)/op.stride + 1,
	}
	op.sums = make([]float64, cout)
	for o := range cout {
		if op.bias != nil {
			n.mag[o] = math.Abs(op.bias[o])
		}
		for i, w := range op.weight[o*terms:][:terms] {
			n.mag[o] += math.Abs(w) * x.mag[i/(op.kh*op.kw)]
			op.sums[o] += math.Abs(w)
		}
		n.rho[o] = (gamma32(terms+1)+gamma64(terms+cout*op.kh*op.kw+72))*n.mag[o] + 2*float64(terms+1)*least32
	}
	n.onGrid(min(x.grid*gridOf(op.weight), gridOf(op.bias)))
	return c.add(n), nil
}

func (c *compiler) average(name string, k int, x *node) (*node, error) {
	op := average{kh: k, kw: k, stride: k}
	n := &node{name: name, in: []*node{x}, c: x.c, static: x.static, mag: slices.Clone(x.mag), rho: make([]float64, x.c)}
	if k == 0 {
		op = average{kh: x.h, kw: x.w, stride: 1}
	}
	n.h, n.w = (x.h-op.kh)/op.stride+1, (x.w-op.kw)/op.stride+1
	size := op.kh * op.kw
	if size > mostTerms {
		return nil, &layerError{name, fmt.Sprintf("sums of %d terms have no bound: expected at most %d", size, mostTerms)}
	}
	op.scale = float64(1 / float32(size))
	n.op = op
	for i := range n.mag {
		n.mag[i] *= 1 + 2*unit32 // the scale is rounded
		n.rho[i] = (gamma32(size+1)+gamma64(size+72))*n.mag[i] + 2*float64(size)*least32
	}
	if size&(size-1) == 0 && slices.Max(n.mag)*float64(size) <= 0x1p24*x.grid {
		n.onGrid(x.grid * op.scale)
	}
	return c.add(n), nil
}

// residual adds the block b, see [snn.Residual].
func (c *compiler) residual(b *snn.Residual, name string, x *node) (*node, error) {
	var err error
	run := func(part string, l snn.Layer, x *node) *node {
		if err != nil {
			return nil
		}
		x, err = c.layer(l, join(name, part), x)
		return x
	}
	o := x
	if b.BN1 != nil {
		o = run("bn1", b.BN1, o)
	}
	o = run("n1", b.N1, o)
	short := x
	if b.Short != nil {
		short = run("short", b.Short, o)
	}
	r := run("conv1", b.Conv1, o)
	if b.BN2 != nil {
		r = run("bn2", b.BN2, r)
	}
	r = run("n2", b.N2, r)
	r = run("conv2", b.Conv2, r)
	if err != nil {
		return nil, err
	}
	w := wide(b.Comb)
	n := &node{
		name: join(name, "convex"), op: combine{[2]float64{w[0], w[1]}}, in: []*node{short, r}, c: r.c, h: r.h, w: r.w,
		static: short.static && r.static, mag: make([]float64, r.c), rho: make([]float64, r.c),
	}
	for i := range n.mag {
		n.mag[i] = math.Abs(w[0])*short.mag[i] + math.Abs(w[1])*r.mag[i]
		n.rho[i] = (gamma32(3)+gamma64(72))*n.mag[i] + 3*least32
	}
	return c.add(n), nil
}

// batchNorm returns the map that the program computes in an evaluation, with its constants as the
// program rounds them.
func batchNorm(l *snn.BatchNorm) affine {
	weight, bias := l.Weight.Export(), l.Bias.Export()
	mean, variance := l.RunningMean.Export(), l.RunningVar.Export()
	op := affine{make([]float64, len(weight)), make([]float64, len(weight))}
	for c := range weight {
		w := float64(weight[c]) / math.Sqrt(float64(variance[c])+float64(l.Eps))
		op.a[c] = float64(float32(w))
		op.b[c] = float64(float32(float64(bias[c]) - float64(w*float64(mean[c]))))
	}
	return op
}

// neuronsOf returns the neurons l of c channels, or an error if they have no bound.
func neuronsOf(l snn.Neuron, c int) (*neurons, error) {
	all := func(v float32) []float32 { return slices.Repeat([]float32{v}, c) }
	spread := func(v []float32, absent float32) []float32 {
		switch len(v) {
		case 0:
			return all(absent)
		case 1:
			return all(v[0])
		}
		return v
	}
	var op *neurons
	switch l := l.(type) {
	case *snn.LIF:
		op = &neurons{decay: all(l.Decay), gain: all(1), threshold: all(l.Threshold), reset: all(l.Reset), start: all(l.Start), soft: l.SoftReset}
		if l.DecayInput {
			op.gain = all(1 - l.Decay)
		}
	case *snn.GLIF:
		d := l.Dynamics()
		if d.SynapticDecay != nil || d.Adaptation != nil || l.Recurrent != nil {
			return nil, fmt.Errorf("neurons of type %T (%s) have no bound: expected no synaptic current, no adaptation and no recurrence", l, l.Kind())
		}
		op = &neurons{decay: spread(d.Decay, 1), gain: spread(d.Gain, 1), threshold: spread(d.Threshold, 1), reset: spread(d.Reset, 0), start: spread(d.Start, 0), soft: l.SoftReset}
	case *snn.NoisyLIF:
		return nil, fmt.Errorf("neurons of type %T are random: expected other neurons, or randomized smoothing", l)
	default:
		return nil, fmt.Errorf("neurons of type %T have no bound", l)
	}
	if err := l.Validate(); err != nil {
		return nil, err
	}
	for i, d := range op.decay {
		if !(d >= 0 && d <= 1 && op.gain[i] >= 0 && op.threshold[i] > 0) {
			return nil, fmt.Errorf("channel %d with decay %v, gain %v, threshold %v has no bound: expected a decay in [0, 1], a gain of at least 0 and a positive threshold", i, d, op.gain[i], op.threshold[i])
		}
	}
	one := func(v []float32) bool { return slices.Min(v) == slices.Max(v) }
	op.uniform = one(op.decay) && one(op.gain)
	return op, nil
}

// wide returns the values of p in PyTorch's order, or nil for none.
func wide(p *autograd.Param) []float64 {
	if p == nil {
		return nil
	}
	var v []float64
	for _, x := range p.Export() {
		v = append(v, float64(x))
	}
	return v
}

// join returns the name of part b of layer a.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "." + b
}
