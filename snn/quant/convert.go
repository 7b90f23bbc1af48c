package quant

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// Config are the settings of a conversion.
type Config struct {
	// Bits is the number of bits of a weight, from 2 to 8. A weight is from −(2^(Bits−1) − 1) to
	// 2^(Bits−1) − 1, and is stored as int8 in any case.
	Bits int
	// LeakBits is the number of bits of the leak, from 1 to 15: a leak λ < 1 becomes the nearest
	// multiple of 1/2^LeakBits.
	LeakBits int
}

// DefaultConfig returns weights of 8 bits and leaks of 8 bits.
func DefaultConfig() Config { return Config{Bits: 8, LeakBits: 8} }

// validate returns an error that names the field that is out of range.
func (c Config) validate() error {
	switch {
	case c.Bits < 2 || c.Bits > 8:
		return fmt.Errorf("config: Bits %d: expected 2 to 8", c.Bits)
	case c.LeakBits < 1 || c.LeakBits > 15:
		return fmt.Errorf("config: LeakBits %d: expected 1 to 15", c.LeakBits)
	}
	return nil
}

// most is the largest weight.
func (c Config) most() float64 { return float64(int(1)<<(c.Bits-1) - 1) }

// mostUnits bounds the thresholds and biases of neurons.
const mostUnits = 1 << 20

// Convert returns the network of integers of m. The package comment says how it is made. m stays
// as it is.
//
// Convert returns an error if a parameter of m is not finite. It returns one that names the layer
// if a layer has no form in integers, or if its integers could overflow. These layers have one:
//
//   - convolutions and linear layers, each behind spikes or the image
//   - batch norm behind them, and in residual blocks
//   - [snn.LIF] without Reset and Start
//   - average pooling of spikes, if no window has more than 255, and maximum pooling of spikes
//   - residual blocks whose weights are not negative
//   - dropout, and flattening in front of a linear layer
//
// The encoder must be [snn.Direct].
func Convert(m *snn.Model, cfg Config) (*Network, error) {
	c, err := convert(m, cfg)
	if err != nil {
		return nil, fmt.Errorf("quant: Convert: %w", err)
	}
	if err := c.net.Validate(); err != nil {
		return nil, err
	}
	return c.net, nil
}

// Round sets the weights of m to those that its network of integers has, in float32. Thresholds
// and biases are not changed. An attack on m then meets nearly the network of [Convert]. The errors
// are those of Convert. On an error m stays as it is.
func Round(m *snn.Model, cfg Config) error {
	c, err := convert(m, cfg)
	if err != nil {
		return fmt.Errorf("quant: Round: %w", err)
	}
	if err := c.net.Validate(); err != nil {
		return err
	}
	for _, n := range c.nodes {
		n.round()
	}
	return nil
}

// signal describes the values behind a layer during the conversion.
type signal struct {
	c, h, w int
	flat    bool // whether the layers see c·h·w channels of one pixel
	// Spikes or bytes: the name of the layer, and what a unit is worth in the float network.
	// The image has a worth of each channel, and is worth −offset at 0.
	from          string
	worth, offset []float64 // [c]
	// Currents: the node, behind a factor and a shift. shared says that others read the node too.
	node         *node
	scale, shift []float64 // [c], or nil for ones and zeros
	shared       bool
}

// node is a convolution in the float network, whose output is added to that of others.
type node struct {
	conv   *Conv
	weight []float64 // [Cout][Cin][KH][KW], with all factors
	bias   []float64 // [Cout], of all that is added up
	add    *node     // the node to which it is added, or nil
	rel    float64   // the unit as a multiple of that of the first node to which it is added
	root   *node     // that node
	unit   []float64 // of the root, [Cout]

	largest []float64 // what the unit would be without others, times rel, [Cout]

	param   *autograd.Param
	out, in []float64 // the factors of the weights, [Cout] and [Cin]
}

// pending is a layer of neurons during the conversion.
type pending struct {
	neurons      *Neurons
	node         *node
	scale, shift []float64 // [C], or nil
	threshold    float64
	alone        bool // whether the node has no other reader
}

type converter struct {
	cfg   Config
	model *snn.Model
	net   *Network
	nodes []*node
	reads []*pending
	after string
}

func convert(m *snn.Model, cfg Config) (*converter, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := m.ValidateParams(); err != nil {
		return nil, err
	}
	if _, ok := m.Encoder.(snn.Direct); !ok {
		return nil, fmt.Errorf("encoder %T: expected snn.Direct, which is not random", m.Encoder)
	}
	c := &converter{cfg: cfg, model: m, after: Image, net: &Network{
		Channels: m.Channels, Height: m.Height, Width: m.Width, Steps: m.Steps, ClassNames: slices.Clone(m.ClassNames()),
	}}
	s := signal{c: m.Channels, h: m.Height, w: m.Width, from: Image, worth: slices.Repeat([]float64{1. / 255}, m.Channels), offset: make([]float64, m.Channels)}
	if mean, std := m.Normalization(); mean != nil {
		for i := range mean {
			s.worth[i] /= float64(std[i])
			s.offset[i] = float64(mean[i]) / float64(std[i])
		}
	}
	out, err := c.walk(m.Body(), s)
	if err != nil {
		return nil, fmt.Errorf("after %s: %w", c.after, err)
	}
	c.chooseUnits(out)
	for _, n := range c.nodes {
		n.quantize(cfg.most())
	}
	for _, r := range c.reads {
		r.quantize(cfg)
	}
	return c, c.output(out)
}

// walk returns the signal behind the layer l.
func (c *converter) walk(l snn.Layer, s signal) (signal, error) {
	if s.flat {
		what := ""
		switch l.(type) {
		case *snn.Conv2D:
			what = "a convolution"
		case *snn.BatchNorm:
			what = "batch norm"
		case snn.AvgPool:
			what = "average pooling"
		case snn.MaxPool:
			what = "maximum pooling"
		}
		if what != "" {
			return s, fmt.Errorf("%s behind flattening: expected a linear layer between them", what)
		}
	}
	switch l := l.(type) {
	case *snn.Sequential:
		for _, l := range l.Layers() {
			var err error
			if s, err = c.walk(l, s); err != nil {
				return s, err
			}
		}
		return s, nil
	case *snn.Conv2D:
		w := l.Weight.Shape
		return c.linear(s, l.Weight, l.Bias, w[0], w[2], w[3], l.Stride, l.Pad)
	case *snn.Linear:
		return c.linear(s, l.Weight, l.Bias, l.Weight.Shape[0], s.h, s.w, 1, 0)
	case *snn.BatchNorm:
		return c.batchNorm(l, s)
	case snn.AvgPool:
		kh, kw := l.K, l.K
		if l.K == 0 {
			kh, kw = s.h, s.w
		}
		return c.sum(s, kh, kw)
	case snn.MaxPool:
		if s.node != nil || s.from == Image || s.worth[0] != 1 {
			return s, errors.New("maximum pooling: expected spikes before it")
		}
		p := &MaxPool{Name: c.poolName(s), Input: s.from, K: l.K}
		c.net.Layers = append(c.net.Layers, p)
		s.from, s.h, s.w = p.Name, s.h/l.K, s.w/l.K
		return s, nil
	case *snn.Dropout:
		return s, nil
	case snn.Flatten: // a linear layer reads C × H × W in this order
		s.flat = s.flat || s.h*s.w > 1
		return s, nil
	case *snn.LIF:
		return c.neurons(l, s)
	case *snn.Residual:
		return c.residual(l, s)
	case snn.Neuron:
		return s, fmt.Errorf("layer %s: neurons of type %T have no form in integers: expected *snn.LIF", l.Name(), l)
	}
	return s, fmt.Errorf("a layer of type %T has no form in integers: expected one of the list at quant.Convert", l)
}

// poolName returns a name for the pooling of s.
func (c *converter) poolName(s signal) string { return s.from + ".pool" }

// linear adds a convolution of s.
func (c *converter) linear(s signal, weight, bias *autograd.Param, cout, kh, kw, stride, pad int) (signal, error) {
	name := strings.TrimSuffix(weight.Name, ".weight")
	if s.node != nil {
		return s, fmt.Errorf("layer %s: expected neurons between it and the linear layer before it", name)
	}
	n := &node{
		conv:  &Conv{Name: name, Input: s.from, Cout: cout, Cin: s.c, KH: kh, KW: kw, Stride: stride, Pad: pad},
		param: weight, out: slices.Repeat([]float64{1}, cout), in: s.worth, bias: make([]float64, cout), rel: 1,
	}
	n.root = n
	if s.from == Image && slices.ContainsFunc(s.offset, func(v float64) bool { return v != 0 }) {
		for i, v := range s.offset {
			n.conv.Border = append(n.conv.Border, uint8(min(255, max(0, math.Round(v/s.worth[i])))))
		}
	}
	for _, v := range weight.Export() {
		n.weight = append(n.weight, float64(v))
	}
	if bias != nil {
		for o, v := range bias.Export() {
			n.bias[o] = float64(v)
		}
	}
	k := kh * kw
	for i, w := range n.weight {
		o, in := i/(s.c*k), i/k%s.c
		if s.offset != nil {
			n.bias[o] -= w * s.offset[in]
		}
		n.weight[i] = w * s.worth[in]
	}
	c.nodes = append(c.nodes, n)
	c.net.Layers = append(c.net.Layers, n.conv)
	return signal{c: cout, h: (s.h+2*pad-kh)/stride + 1, w: (s.w+2*pad-kw)/stride + 1, node: n}, nil
}

// times multiplies channel i of a node by f[i].
func (n *node) times(f []float64) {
	row := len(n.weight) / len(f)
	for i := range n.weight {
		n.weight[i] *= f[i/row]
	}
	for i, f := range f {
		n.out[i] *= f
		n.bias[i] *= f
	}
}

func (c *converter) batchNorm(l *snn.BatchNorm, s signal) (signal, error) {
	if s.node == nil {
		return s, errors.New("batch norm of spikes or of the image has no form in integers: expected a convolution or a linear layer before it")
	}
	a, b := l.Weight.Export(), l.Bias.Export()
	mean, variance := l.RunningMean.Export(), l.RunningVar.Export()
	scale, shift := make([]float64, s.c), make([]float64, s.c)
	for i := range scale {
		scale[i] = float64(a[i]) / math.Sqrt(float64(variance[i])+float64(l.Eps))
		shift[i] = float64(b[i]) - scale[i]*float64(mean[i])
	}
	if s.scale != nil {
		return s, errors.New("batch norm behind batch norm of a residual sum: expected one of them")
	}
	if s.shared || s.node.add != nil {
		s.scale, s.shift = scale, shift
		return s, nil
	}
	s.node.times(scale)
	for i, v := range shift {
		s.node.bias[i] += v
	}
	return s, nil
}

// sum adds average pooling of s.
func (c *converter) sum(s signal, kh, kw int) (signal, error) {
	if s.node != nil || s.from == Image {
		return s, errors.New("average pooling of currents or of the image: expected spikes before it")
	}
	p := &SumPool{Name: c.poolName(s), Input: s.from, KH: kh, KW: kw}
	c.net.Layers = append(c.net.Layers, p)
	s.from, s.h, s.w, s.worth = p.Name, s.h/kh, s.w/kw, slices.Clone(s.worth)
	for i := range s.worth {
		s.worth[i] /= float64(kh * kw)
	}
	return s, nil
}

// neurons adds neurons that read s.
func (c *converter) neurons(l *snn.LIF, s signal) (signal, error) {
	if err := l.Validate(); err != nil {
		return s, fmt.Errorf("layer %s: %w", l.Name(), err)
	}
	if s.node == nil {
		return s, fmt.Errorf("layer %s: neurons of spikes or of the image: expected a convolution or a linear layer before them", l.Name())
	}
	if l.Reset != 0 || l.Start != 0 {
		return s, fmt.Errorf("layer %s: reset to %v, start at %v: expected 0", l.Name(), l.Reset, l.Start)
	}
	n := &Neurons{Name: l.Name(), Input: s.node.conv.Name, Leak: 1, SoftReset: l.SoftReset}
	if l.Decay != 1 {
		n.LeakShift = uint(c.cfg.LeakBits)
		n.Leak = int32(math.Round(math.Ldexp(float64(l.Decay), c.cfg.LeakBits)))
	}
	r := &pending{neurons: n, node: s.node, scale: s.scale, shift: s.shift, threshold: float64(l.Threshold), alone: !s.shared && s.node.add == nil}
	if l.DecayInput {
		r.threshold /= 1 - float64(l.Decay) // the current counts 1 − λ times
	}
	c.reads = append(c.reads, r)
	c.net.Layers = append(c.net.Layers, n)
	c.after = n.Name
	return signal{c: s.c, h: s.h, w: s.w, flat: s.flat, from: n.Name, worth: slices.Repeat([]float64{1}, s.c)}, nil
}

// residual adds a residual block.
func (c *converter) residual(l *snn.Residual, x signal) (signal, error) {
	stem, branch := snn.NewSequential(), snn.NewSequential(l.Conv1)
	if l.BN1 != nil {
		stem.Append("bn1", l.BN1)
	}
	stem.Append("n1", l.N1)
	if l.BN2 != nil {
		branch.Append("bn2", l.BN2)
	}
	branch.Append("n2", l.N2).Append("conv2", l.Conv2)
	comb := l.Comb.Export()
	c0, c1 := float64(comb[0]), float64(comb[1])
	if c0 < 0 || c1 < 0 {
		return x, fmt.Errorf("%s: %v: expected weights of at least 0", l.Comb.Name, comb)
	}
	in := x
	in.shared = in.node != nil && l.Short == nil && c0 != 0
	o, err := c.walk(stem, in)
	if err != nil {
		return x, err
	}
	short := x
	if l.Short != nil {
		if short, err = c.walk(l.Short, o); err != nil {
			return x, err
		}
		short.node.times(slices.Repeat([]float64{c0}, short.c))
		c0 = 1
	}
	y, err := c.walk(branch, o)
	if err != nil {
		return x, err
	}
	y.node.times(slices.Repeat([]float64{c1}, y.c))
	if short.node == nil || short.scale != nil {
		return x, fmt.Errorf("%s: the shortcut: expected the output of a convolution or of a residual block", l.Comb.Name)
	}
	if c0 == 0 {
		return y, nil
	}
	s := short.node
	y.node.add, y.node.conv.Add, y.node.root, y.node.rel = s, s.conv.Name, s.root, s.rel*c0
	for i, b := range s.bias {
		y.node.bias[i] += c0 * b
	}
	return y, nil
}
