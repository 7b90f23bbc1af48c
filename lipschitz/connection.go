package lipschitz

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// Image and Logits name the input and the output of a model among its layers of neurons.
const (
	Image  = "image"
	Logits = "logits"
)

// Connection describes the input current of a layer of neurons, or the logits. The current
// is a sum of linear maps of the spikes of earlier layers, plus a bias. At a step,
//
//	I = Bias + Σ_p Paths[p].Map·s_p
//
// The maps include average pooling, the scale of batch norm in evaluation mode, the weights
// of convex combinations, and the 1/std of the image normalization. Behind maximum pooling,
// s_p are the pooled spikes; pooling does not increase the number of differences.
//
// The weights of a Map are rounded to float32, and Bias is computed in float64. The network
// itself rounds in another order. The bounds of a connection hold for its maps as they are.
type Connection struct {
	Layer   string     // name of the neurons, or Logits
	Neurons snn.Neuron // nil for the logits
	// Decay and Threshold are those of [Dynamics] for the current I. A gain of the neurons,
	// as that of DecayInput, is in Threshold. SoftReset says that the reset is soft.
	Decay, Threshold float64
	SoftReset        bool
	Paths            []Path
	// Bias has a value for each channel. It does not include the mean of the image
	// normalization.
	Bias []float64
	// Positive and Negative bound the distance of the current of each channel above and
	// below Bias. They cover all spikes and all images with values in [0,1], and they are
	// rounded upwards.
	Positive, Negative []float64
}

// Path is one of the linear maps of a [Connection].
type Path struct {
	From   string          // name of the layer of neurons at its start, or Image
	Weight *autograd.Param // weight of its convolution or linear layer; nil for none
	Map    Conv            // the whole map; a linear layer is a convolution with one window
}

// Connections returns the connections of m, in the order in which their neurons run. The
// last one belongs to the logits. Connections returns an error that names the layer
// if a layer has an unknown type or neurons that [Dynamics] does not describe. It also returns
// one if a map between neurons is not supported: maximum pooling behind a linear map, two
// convolutions or linear layers in a row, or a layer other than neurons and linear layers behind
// Flatten. The values of the model's encoder must lie in [0,1] for images in [0,1]; Connections
// refuses [snn.FrequencyEncoding].
func Connections(m *snn.Model) ([]Connection, error) {
	if _, ok := m.Encoder.(snn.FrequencyEncoding); ok {
		return nil, fmt.Errorf("lipschitz: Connections: encoder %T: its values may lie outside of [0, 1]; expected another one", m.Encoder)
	}
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

// signal is an affine map of spikes. It describes the values between two layers of neurons.
type signal struct {
	c, h, w int
	parts   []part
	bias    []float64 // [c], or nil for none
	flat    bool      // the network has the pixels as channels, in the order C, H, W
}

// part is one path of a signal.
type part struct {
	from   string
	weight *autograd.Param
	pools  []int // windows of average pooling before the convolution
	conv   *Conv // nil before the first convolution
}

// mapped returns the convolution of p, or the identity if p has none.
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

// each applies fn to the convolutions of all parts of s.
func (s signal) each(fn func(Conv) Conv) signal {
	s.parts = slices.Clone(s.parts)
	for i, p := range s.parts {
		c := fn(p.mapped(s))
		s.parts[i].conv = &c
	}
	return s
}

// scale multiplies channel i of s by scale[i] and then adds shift[i].
func (s signal) scale(scale []float32, shift []float64) signal {
	s = s.each(func(c Conv) Conv { return c.Scale(scale) })
	bias := slices.Clone(shift)
	for i, b := range s.bias {
		bias[i] += float64(scale[i]) * b
	}
	s.bias = bias
	return s
}

// uniform multiplies all of s by x.
func (s signal) uniform(x float32) signal {
	return s.scale(slices.Repeat([]float32{x}, s.c), make([]float64, s.c))
}

// plus returns the sum of two signals with the same shape.
func (s signal) plus(r signal) signal {
	s.parts = slices.Concat(s.parts, r.parts)
	s.bias = slices.Clone(s.bias)
	for i, b := range r.bias {
		s.bias[i] += b
	}
	return s
}

// linear applies the convolution c to s. The shapes fit.
func (s signal) linear(c Conv, weight, bias *autograd.Param) (signal, error) {
	if len(s.parts) != 1 || s.parts[0].conv != nil || s.bias != nil {
		return s, fmt.Errorf("%s: expected neurons between it and the linear layer before it", weight.Name)
	}
	p := s.parts[0]
	p.weight, p.conv = weight, &c
	s.parts = []part{p}
	s.c, s.flat = c.Cout, false
	s.h, s.w = c.Out()
	if bias != nil {
		s.bias = make([]float64, s.c)
		for i, b := range bias.Export() {
			s.bias[i] = float64(b)
		}
	}
	return s, nil
}

// walker collects the connections of a model.
type walker struct {
	model *snn.Model
	after string // name of the last layer of neurons, for errors
	found []Connection
}

// walk returns the signal behind the layer l, and collects the connections inside l.
func (w *walker) walk(l snn.Layer, s signal) (signal, error) {
	switch l.(type) {
	case *snn.Conv2D, *snn.BatchNorm, snn.AvgPool, snn.MaxPool, *snn.Residual:
		if s.flat {
			return s, fmt.Errorf("a layer of type %T of features that Flatten made of %d×%d×%d: expected a linear layer between", l, s.c, s.h, s.w)
		}
	}
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
	case *snn.Dropout:
		return s, nil
	case snn.Flatten: // a linear layer reads C × H × W in this order
		s.flat = s.flat || s.h*s.w > 1
		return s, nil
	case snn.Neuron:
		if err := w.connect(l.Name(), l, s); err != nil {
			return s, err
		}
		w.after = l.Name()
		return signal{c: s.c, h: s.h, w: s.w, parts: []part{{from: l.Name()}}, flat: s.flat}, nil
	case *snn.Residual:
		return w.residual(l, s)
	}
	return s, fmt.Errorf("a layer of type %T: expected one of package snn", l)
}

// averaged applies average pooling over k × k windows to s, or over the image if k is 0.
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

// connect collects the connection of the signal s to a layer.
func (w *walker) connect(layer string, n snn.Neuron, s signal) error {
	c := Connection{
		Layer: layer, Neurons: n, Bias: make([]float64, s.c),
		Positive: make([]float64, s.c), Negative: make([]float64, s.c),
	}
	if err := c.fold(n); err != nil {
		return err
	}
	copy(c.Bias, s.bias)
	for _, p := range s.parts {
		m := p.mapped(s)
		for _, k := range slices.Backward(p.pools) {
			m = m.AfterAvgPool(k, k*m.Height, k*m.Width) // a remainder of the image is in no window
		}
		lo, hi := slices.Repeat([]float32{0}, m.Cin), slices.Repeat([]float32{1}, m.Cin)
		if mean, std := w.model.Normalization(); p.from == Image && mean != nil {
			per := make([]float32, m.Cin)
			for i, mean := range mean {
				per[i] = 1 / std[i]
				lo[i], hi[i] = -mean, 1-mean
			}
			m = m.scaleInput(per)
		}
		for i, v := range m.Weight {
			o, in := i/(m.Cin*m.KH*m.KW), i/(m.KH*m.KW)%m.Cin
			a, b := float64(v)*float64(lo[in]), float64(v)*float64(hi[in])
			c.Positive[o] = addUp(c.Positive[o], max(a, b, 0)) // 0 beyond the border of the image
			c.Negative[o] = addUp(c.Negative[o], max(-a, -b, 0))
		}
		c.Paths = append(c.Paths, Path{From: p.from, Weight: p.weight, Map: m})
	}
	w.found = append(w.found, c)
	return nil
}

// fold sets Decay, Threshold and SoftReset to those of n. It returns an error if n is not a
// neuron of [Dynamics] with other units of the current.
func (c *Connection) fold(n snn.Neuron) error {
	const expected = "expected neurons with one decay and one threshold, a reset to 0 or a soft reset, and no other state"
	var decay, gain, threshold float64
	switch n := n.(type) {
	case nil: // the logits
		return nil
	case *snn.LIF:
		if n.Reset != 0 || n.Start != 0 {
			return fmt.Errorf("layer %s (%T): reset to %v, start at %v: %s", n.Name(), n, n.Reset, n.Start, expected)
		}
		decay, gain, threshold, c.SoftReset = float64(n.Decay), 1, float64(n.Threshold), n.SoftReset
		if n.DecayInput {
			gain = float64(1 - n.Decay)
		}
	case *snn.GLIF:
		d := n.Dynamics()
		if d.SynapticDecay != nil || n.Recurrent != nil || d.Adaptation != nil || d.Reset != nil || d.Start != nil {
			return fmt.Errorf("layer %s (%T, %s): %s", n.Name(), n, n.Kind(), expected)
		}
		if d.Gain == nil {
			d.Gain = []float32{1}
		}
		for _, k := range []struct {
			what string
			v    []float32
		}{{"decay", d.Decay}, {"gain", d.Gain}, {"threshold", d.Threshold}} {
			if lo, hi := slices.Min(k.v), slices.Max(k.v); lo != hi {
				return fmt.Errorf("layer %s (%T): a %s from %v to %v: %s", n.Name(), n, k.what, lo, hi, expected)
			}
		}
		decay, gain, threshold, c.SoftReset = float64(d.Decay[0]), float64(d.Gain[0]), float64(d.Threshold[0]), n.SoftReset
	default:
		return fmt.Errorf("layer %s: neurons of type %T: %s", n.Name(), n, expected)
	}
	if !(gain > 0) {
		return fmt.Errorf("layer %s: a gain of %v: expected a positive number", n.Name(), gain)
	}
	if !(decay > 0 && decay <= 1) { // a trained decay may be 0
		return fmt.Errorf("layer %s: a decay of %v: expected a number in (0, 1]", n.Name(), decay)
	}
	if !(threshold > 0) || math.IsInf(threshold/gain, 0) {
		return fmt.Errorf("layer %s: a threshold of %v with a gain of %v: expected a positive number", n.Name(), threshold, gain)
	}
	c.Decay, c.Threshold = decay, threshold
	if gain != 1 {
		c.Threshold = math.Nextafter(threshold/gain, 0) // a lower threshold has larger bounds
	}
	return nil
}
