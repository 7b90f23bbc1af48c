package lipschitz

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// Image and Logits are the names that a model's ends have among those of its layers
// of neurons.
const (
	Image  = "image"
	Logits = "logits"
)

// Connection is what a layer of neurons, or the logits, are fed by, up to the layers of
// neurons before it: a sum of linear maps of their spikes, and a bias. At a step,
//
//	I = Bias + Σ_p Paths[p].Map·s_p
//
// with all that lies between folded in: average pooling, the scale of batch norm in
// evaluation, the weights of convex combinations, and the 1/std of the image's
// normalization. Where neurons come behind maximum pooling, s_p are the pooled spikes,
// which differ no more than the spikes do.
type Connection struct {
	Layer   string      // name of the neurons, or Logits
	Neurons *snn.Neuron // nil for the logits
	Paths   []Path
	// Bias is that of each channel, without the image's mean.
	Bias []float64
	// Positive and Negative are how far above and below Bias the current of each channel
	// can be, for any spikes and for any image with values in [0,1].
	Positive, Negative []float64
}

// Path is one of the linear maps of a [Connection].
type Path struct {
	From   string          // name of the layer of neurons that it begins at, or Image
	Weight *autograd.Param // of its convolution or linear layer; nil for none
	Map    Conv            // all of it; a linear layer is a convolution of one window
}

// Connections returns the connections of m, in the order in which their neurons run;
// the last is that to the logits. It returns an error that names the layer if one is
// of a type that it does not know, or if the maps are not linear between neurons:
// pooling by maximum of a sum of maps, or a second convolution or linear layer.
func Connections(m *snn.Model) ([]Connection, error) {
	w := &walker{model: m, after: Image}
	s := signal{c: m.Channels, h: m.Height, w: m.Width, parts: []part{{from: Image}}}
	out, err := w.walk(m.Body(), s)
	if err == nil {
		err = w.connect(Logits, nil, out)
	}
	if err != nil {
		return nil, fmt.Errorf("lipschitz: Connections: after %s: %w", w.after, err)
	}
	return w.found, nil
}

// signal is an affine map of spikes: what is on the way to the next neurons.
type signal struct {
	c, h, w int
	parts   []part
	bias    []float64 // [c], or nil for none
}

// part is one path of a signal.
type part struct {
	from   string
	weight *autograd.Param
	pools  []int // windows of average pooling before the convolution
	conv   *Conv // nil as long as there is none
}

// mapped returns p with a convolution, which is the identity if there was none.
func (p part) mapped(s signal) Conv {
	if p.conv != nil {
		return *p.conv
	}
	c := Conv{Weight: make([]float32, s.c*s.c), Cout: s.c, Cin: s.c, KH: 1, KW: 1, Stride: 1, Height: s.h, Width: s.w}
	for i := range s.c {
		c.Weight[i*s.c+i] = 1
	}
	return c
}

// each returns s with what fn makes of the convolutions of its parts.
func (s signal) each(fn func(Conv) Conv) signal {
	s.parts = slices.Clone(s.parts)
	for i, p := range s.parts {
		c := fn(p.mapped(s))
		s.parts[i].conv = &c
	}
	return s
}

// scale returns s with channel i multiplied by scale[i] and raised by shift[i].
func (s signal) scale(scale []float32, shift []float64) signal {
	s = s.each(func(c Conv) Conv { return c.Scale(scale) })
	bias := slices.Clone(shift)
	for i, b := range s.bias {
		bias[i] += float64(scale[i]) * b
	}
	s.bias = bias
	return s
}

// uniform returns s, all of it multiplied by x.
func (s signal) uniform(x float32) signal {
	return s.scale(slices.Repeat([]float32{x}, s.c), make([]float64, s.c))
}

// plus returns the sum of two signals of one shape.
func (s signal) plus(r signal) signal {
	s.parts = slices.Concat(s.parts, r.parts)
	s.bias = slices.Clone(s.bias)
	for i, b := range r.bias {
		s.bias[i] += b
	}
	return s
}

// linear returns s through the convolution c, which fits it.
func (s signal) linear(c Conv, weight, bias *autograd.Param) (signal, error) {
	if len(s.parts) != 1 || s.parts[0].conv != nil || s.bias != nil {
		return s, fmt.Errorf("%s: expected neurons between it and the linear layer before it", weight.Name)
	}
	p := s.parts[0]
	p.weight, p.conv = weight, &c
	s.parts = []part{p}
	s.c = c.Cout
	s.h, s.w = c.Out()
	if bias != nil {
		s.bias = make([]float64, s.c)
		for i, b := range bias.Export() {
			s.bias[i] = float64(b)
		}
	}
	return s, nil
}

// walker finds the connections of a model.
type walker struct {
	model *snn.Model
	after string // name of the last neurons
	found []Connection
}

// walk returns the signal s after the layer l, and keeps the connections on the way.
func (w *walker) walk(l snn.Layer, s signal) (signal, error) {
	switch l := l.(type) {
	case *snn.Sequential:
		for _, l := range l.Layers() {
			var err error
			if s, err = w.walk(l, s); err != nil {
				return s, err
			}
		}
		return s, nil
	case *snn.Conv2D:
		return s.linear(NewConv(l.Weight, l.Stride, l.Pad, s.h, s.w), l.Weight, l.Bias)
	case *snn.Linear:
		return s.linear(Conv{
			Weight: l.Weight.Export(), Cout: l.Weight.Shape[0], Cin: s.c, KH: s.h, KW: s.w, Stride: 1, Height: s.h, Width: s.w,
		}, l.Weight, l.Bias)
	case *snn.BatchNorm:
		scale := BatchNormScale(&l.BatchNormState)
		mean, shift := l.RunningMean.Export(), make([]float64, s.c)
		for i, b := range l.Bias.Export() {
			shift[i] = float64(b) - float64(scale[i])*float64(mean[i])
		}
		return s.scale(scale, shift), nil
	case snn.AvgPool:
		return s.averaged(l.K)
	case snn.MaxPool:
		if p := s.parts; len(p) != 1 || p[0].conv != nil || p[0].pools != nil || s.bias != nil {
			return s, fmt.Errorf("maximum pooling: expected spikes, or the image, before it")
		}
		s.h, s.w = s.h/l.K, s.w/l.K
		return s, nil
	case *snn.Dropout, snn.Flatten: // a linear layer sees C × H × W in this order
		return s, nil
	case *snn.Neuron:
		if err := w.connect(l.Name(), l, s); err != nil {
			return s, err
		}
		w.after = l.Name()
		return signal{c: s.c, h: s.h, w: s.w, parts: []part{{from: l.Name()}}}, nil
	case *snn.Residual:
		return w.residual(l, s)
	}
	return s, fmt.Errorf("a layer of type %T: expected one of package snn", l)
}

// averaged returns s after average pooling by k × k, or by all of the image if k is 0.
func (s signal) averaged(k int) (signal, error) {
	if k == 0 {
		if k = s.h; s.h != s.w {
			return s, fmt.Errorf("global average pooling of %d×%d: expected a square", s.h, s.w)
		}
	}
	if len(s.parts) == 1 && s.parts[0].conv == nil && s.bias == nil {
		p := s.parts[0]
		p.pools = append(slices.Clone(p.pools), k)
		s.parts = []part{p}
	} else {
		s = s.each(func(c Conv) Conv { return c.BeforeAvgPool(k) })
	}
	s.h, s.w = s.h/k, s.w/k
	return s, nil
}

func (w *walker) residual(b *snn.Residual, x signal) (signal, error) {
	stem, branch := snn.NewSequential(), snn.NewSequential()
	if b.BN1 != nil {
		stem.Append("", b.BN1)
	}
	stem.Append("", b.N1)
	branch.Append("", b.Conv1)
	if b.BN2 != nil {
		branch.Append("", b.BN2)
	}
	branch.Append("", b.N2).Append("", b.Conv2)
	o, err := w.walk(stem, x)
	if err != nil {
		return x, err
	}
	short := x
	if b.Short != nil {
		if short, err = w.walk(b.Short, o); err != nil {
			return x, err
		}
	}
	r, err := w.walk(branch, o)
	if err != nil {
		return x, err
	}
	comb := b.Comb.Export()
	return short.uniform(comb[0]).plus(r.uniform(comb[1])), nil
}

// connect keeps the connection that a signal makes to a layer.
func (w *walker) connect(layer string, n *snn.Neuron, s signal) error {
	c := Connection{
		Layer: layer, Neurons: n, Bias: make([]float64, s.c),
		Positive: make([]float64, s.c), Negative: make([]float64, s.c),
	}
	copy(c.Bias, s.bias)
	for _, p := range s.parts {
		m := p.mapped(s)
		for _, k := range slices.Backward(p.pools) {
			m = m.AfterAvgPool(k, k*m.Height, k*m.Width) // the rest is in no window
		}
		lo, hi := slices.Repeat([]float32{0}, m.Cin), slices.Repeat([]float32{1}, m.Cin)
		if p.from == Image && w.model.Mean != nil {
			per := make([]float32, m.Cin)
			for i, std := range w.model.Std {
				per[i] = 1 / std
				lo[i], hi[i] = -w.model.Mean[i], 1-w.model.Mean[i]
			}
			m = m.scaleInput(per)
		}
		for i, v := range m.Weight {
			o, in := i/(m.Cin*m.KH*m.KW), i/(m.KH*m.KW)%m.Cin
			a, b := float64(v)*float64(lo[in]), float64(v)*float64(hi[in])
			c.Positive[o] = addUp(c.Positive[o], max(a, b, 0)) // 0 beyond the image's border
			c.Negative[o] = addUp(c.Negative[o], max(-a, -b, 0))
		}
		c.Paths = append(c.Paths, Path{From: p.from, Weight: p.weight, Map: m})
	}
	w.found = append(w.found, c)
	return nil
}
