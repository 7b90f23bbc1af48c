package quant

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/internal/kernel"
)

// Range is the range of an integer.
type Range struct{ Min, Max int64 }

func (r Range) plus(q Range) Range { return Range{r.Min + q.Min, r.Max + q.Max} }

func (r Range) times(f int64) Range {
	return Range{min(f*r.Min, f*r.Max), max(f*r.Min, f*r.Max)}
}

// fits reports whether the range is one of int32.
func (r Range) fits() bool { return r.Min >= math.MinInt32 && r.Max <= math.MaxInt32 }

// kind is the type of a value.
type kind int

const (
	bytes kind = iota
	spikes
	currents
)

func (k kind) String() string { return [...]string{"bytes", "spikes", "currents"}[k] }

// value is the output of a layer, or the image.
type value struct {
	kind    kind
	c, h, w int
	// ranges has the range of each channel and of all partial sums, [c].
	ranges []Range
	last   int // the last layer that reads it; len(Layers) for the output
}

func (v *value) String() string { return fmt.Sprintf("%v of %d×%d×%d", v.kind, v.c, v.h, v.w) }

// plan is a network that was checked, with what its layers need to run.
type plan struct {
	values []value // the image, and the output of each layer
	steps  []step  // the layers

	weights  int // the number of them
	channels int // of all layers
	updates  int64
	runners  runners
}

// step is a layer that is ready to run. Frames, planes, units and images are not set.
type step struct {
	layer   Layer
	in, add int // index in values; add is −1 for none

	conv    *kernel.IntConv
	neurons int     // the step of neurons that a convolution runs; −1 for none
	keep    bool    // whether others read the convolution's currents
	gain    []int32 // of a convolution, in whole blocks; nil for none

	fire kernel.IntNeurons
	done bool // whether a convolution runs these neurons

	pool kernel.Pool
}

// Limits of a network, which may come from a file.
const (
	mostSteps  = 1 << 16
	mostExtent = 1 << 20 // of channels, height, width, windows, strides
	mostValues = 1 << 28 // of a frame, or of the weights of a layer
	// Of all layers, so that a small file cannot keep Validate busy.
	mostChannels = 1 << 24
	mostUpdates  = 1 << 28 // of channels of neurons, in all steps
)

// positive returns an error unless all extents are from 1 to mostExtent and their product is at
// most mostValues.
func positive(what string, extents ...int) error {
	n := 1
	for _, e := range extents {
		if e < 1 || e > mostExtent {
			return fmt.Errorf("%s %v: expected numbers from 1 to %d", what, extents, mostExtent)
		}
		if n > mostValues/e {
			return fmt.Errorf("%s %v: expected a product of at most %d", what, extents, mostValues)
		}
		n *= e
	}
	return nil
}

// check makes the plan.
func (n *Network) check() (*plan, error) {
	if err := positive("quant: images of", n.Channels, n.Height, n.Width); err != nil {
		return nil, err
	}
	if n.Steps < 1 || n.Steps > mostSteps {
		return nil, fmt.Errorf("quant: %d steps: expected a number from 1 to %d", n.Steps, mostSteps)
	}
	if len(n.Layers) == 0 {
		return nil, errors.New("quant: no layers: expected at least one")
	}
	p := &plan{values: []value{{
		kind: bytes, c: n.Channels, h: n.Height, w: n.Width,
		ranges: slices.Repeat([]Range{{0, math.MaxUint8}}, n.Channels),
	}}}
	index := map[string]int{Image: 0} // of values
	for i, l := range n.Layers {
		if l == nil {
			return nil, fmt.Errorf("quant: layer %d is nil", i)
		}
		name, input := l.names()
		at, ok := index[input]
		s := step{layer: l, in: at, add: -1}
		var out value
		err := fmt.Errorf("input %q: expected %q or a layer before it", input, Image)
		if ok {
			out, err = s.check(n, p, index)
		}
		p.channels += out.c
		switch _, again := index[name]; {
		case err != nil:
		case again || name == "":
			err = errors.New("expected a name of its own for each layer")
		case p.channels > mostChannels:
			err = fmt.Errorf("%d channels of all layers: expected at most %d", p.channels, mostChannels)
		}
		if err != nil {
			return nil, fmt.Errorf("quant: layer %q: %w", name, err)
		}
		p.values[s.in].last = i
		if s.add >= 0 {
			p.values[s.add].last = i
		}
		p.values, p.steps, index[name] = append(p.values, out), append(p.steps, s), i+1
	}
	if err := n.checkOutput(p); err != nil {
		return nil, err
	}
	p.fuse()
	return p, nil
}

// checkOutput checks the logits.
func (n *Network) checkOutput(p *plan) error {
	out := &p.values[len(n.Layers)]
	out.last = len(n.Layers)
	if out.h*out.w != 1 || out.c != len(n.Bias) {
		return fmt.Errorf("quant: the last layer has %v, and there are %d biases of logits: expected one pixel, and a bias for each class", out, len(n.Bias))
	}
	if !(n.Scale > 0) || math.IsInf(n.Scale, 0) {
		return fmt.Errorf("quant: scale %v of the logits: expected a positive number", n.Scale)
	}
	if n.ClassNames != nil && len(n.ClassNames) != out.c {
		return fmt.Errorf("quant: %d names for %d classes", len(n.ClassNames), out.c)
	}
	for c, r := range out.ranges {
		b := int64(n.Bias[c])
		if sum := r.times(int64(n.Steps)); !sum.fits() || !sum.plus(Range{b, b}).fits() {
			return fmt.Errorf("quant: logit %d, the sum over %d steps of values from %d to %d, with bias %d, could overflow int32", c, n.Steps, r.Min, r.Max, b)
		}
	}
	return nil
}

// check checks the layer of s and returns its output. It sets the fields of s.
func (s *step) check(n *Network, p *plan, index map[string]int) (value, error) {
	in := p.values[s.in]
	switch l := s.layer.(type) {
	case *Conv:
		if l.Add != "" {
			at, ok := index[l.Add]
			if !ok {
				return value{}, fmt.Errorf("add %q: expected a layer before it", l.Add)
			}
			s.add = at
		}
		return s.checkConv(l, in, p)
	case *Neurons:
		return s.checkNeurons(l, in, n.Steps, p)
	case *SumPool:
		if err := s.checkPool(in, l.KH, l.KW); err != nil {
			return value{}, err
		}
		if in.kind == currents {
			return value{}, fmt.Errorf("the input is %v: expected spikes or bytes", &in)
		}
		out := value{kind: bytes, c: in.c, h: s.pool.Hout, w: s.pool.Wout}
		for _, r := range in.ranges {
			r = r.times(int64(l.KH) * int64(l.KW))
			if r.Max > math.MaxUint8 {
				return value{}, fmt.Errorf("a sum of %d×%d values could be %d: expected at most %d", l.KH, l.KW, r.Max, math.MaxUint8)
			}
			out.ranges = append(out.ranges, r)
		}
		return out, nil
	case *MaxPool:
		if err := s.checkPool(in, l.K, l.K); err != nil {
			return value{}, err
		}
		if in.kind != spikes {
			return value{}, fmt.Errorf("the input is %v: expected spikes", &in)
		}
		return value{kind: spikes, c: in.c, h: s.pool.Hout, w: s.pool.Wout, ranges: in.ranges}, nil
	}
	return value{}, fmt.Errorf("type %T: expected *Conv, *Neurons, *SumPool or *MaxPool", s.layer)
}

func (s *step) checkPool(in value, kh, kw int) error {
	if kh < 1 || kw < 1 || kh > in.h || kw > in.w {
		return fmt.Errorf("windows of %d×%d: expected 1×1 to %d×%d", kh, kw, in.h, in.w)
	}
	s.pool = kernel.Pool{Hin: in.h, Win: in.w, Hout: in.h / kh, Wout: in.w / kw, KH: kh, KW: kw, Stride: kh}
	if kh != kw && (kh != in.h || kw != in.w) {
		return fmt.Errorf("windows of %d×%d: expected squares, or one window for the whole input", kh, kw)
	}
	return nil
}

func (s *step) checkConv(l *Conv, in value, p *plan) (value, error) {
	none := value{}
	if in.kind == currents {
		return none, fmt.Errorf("the input is %v: expected spikes or bytes", &in)
	}
	if err := positive("channels and window", l.Cout, l.Cin, l.KH, l.KW); err != nil {
		return none, err
	}
	if l.Cin != in.c {
		return none, fmt.Errorf("%d input channels: the input is %v", l.Cin, &in)
	}
	if l.Stride < 1 || l.Stride > mostExtent || l.Pad < 0 || l.Pad > mostExtent {
		return none, fmt.Errorf("stride %d and padding %d: expected at least 1 and 0, and at most %d", l.Stride, l.Pad, mostExtent)
	}
	geom := kernel.Conv{Cin: l.Cin, Hin: in.h, Win: in.w, Cout: l.Cout, KH: l.KH, KW: l.KW, Stride: l.Stride, Pad: l.Pad}
	h, w := in.h+2*l.Pad-l.KH, in.w+2*l.Pad-l.KW
	if err := positive("the input with its padding", l.Cin, in.h+2*l.Pad, in.w+2*l.Pad); err != nil {
		return none, err
	}
	if h < 0 || w < 0 {
		return none, fmt.Errorf("a window of %d×%d with padding %d exceeds the input, %v", l.KH, l.KW, l.Pad, &in)
	}
	geom.Hout, geom.Wout = h/l.Stride+1, w/l.Stride+1
	if err := positive("the output of", l.Cout, geom.Hout, geom.Wout); err != nil {
		return none, err
	}
	row := l.Cin * l.KH * l.KW
	if len(l.Weight) != l.Cout*row {
		return none, fmt.Errorf("%d weights: expected %d×%d×%d×%d", len(l.Weight), l.Cout, l.Cin, l.KH, l.KW)
	}
	if l.Border != nil && (s.in != 0 || len(l.Border) != l.Cin) {
		return none, fmt.Errorf("%d values of the border: expected one for each channel of the image, or none", len(l.Border))
	}
	if len(l.Scale) != l.Cout {
		return none, fmt.Errorf("%d scales: expected one for each of %d channels", len(l.Scale), l.Cout)
	}
	for c, u := range l.Scale {
		if !(u > 0) || u-u != 0 {
			return none, fmt.Errorf("channel %d: scale %v: expected a positive number", c, u)
		}
	}
	if l.Gain != nil && (len(l.Gain) != l.Cout || slices.Min(l.Gain) < 1) {
		return none, fmt.Errorf("gains %v: expected a positive one for each of %d channels, or none", l.Gain, l.Cout)
	}
	out := value{kind: currents, c: l.Cout, h: geom.Hout, w: geom.Wout, ranges: make([]Range, l.Cout)}
	if s.add >= 0 {
		a := p.values[s.add]
		if a.kind != currents || a.c != out.c || a.h != out.h || a.w != out.w {
			return none, fmt.Errorf("add %q is %v: expected %v", l.Add, &a, &out)
		}
		copy(out.ranges, a.ranges)
	}
	for o := range l.Cout {
		sum := Range{}
		for i, w := range l.Weight[o*row : (o+1)*row] {
			if w == math.MinInt8 {
				return none, fmt.Errorf("channel %d: weight %d: expected −127 to 127", o, w)
			}
			top := in.ranges[i/(l.KH*l.KW)].Max
			sum.Min += min(0, int64(w)) * top
			sum.Max += max(0, int64(w)) * top
		}
		all := sum.times(int64(l.gain(o)))
		out.ranges[o] = out.ranges[o].plus(all)
		if r := out.ranges[o]; !sum.fits() || !all.fits() || !r.fits() {
			return none, fmt.Errorf("channel %d: currents from %d to %d could overflow int32", o, r.Min, r.Max)
		}
	}
	top := int64(0)
	for _, r := range in.ranges {
		top = max(top, r.Max)
	}
	s.conv = kernel.NewIntConv(geom, l.Weight, int(top))
	if l.Gain != nil {
		s.gain = padded(l.Gain, 1)
	}
	return out, nil
}

func (s *step) checkNeurons(l *Neurons, in value, steps int, p *plan) (value, error) {
	none := value{}
	if in.kind != currents {
		return none, fmt.Errorf("the input is %v: expected currents", &in)
	}
	if len(l.Bias) != in.c || len(l.Threshold) != in.c || l.Gain != nil && len(l.Gain) != in.c {
		return none, fmt.Errorf("%d biases, %d thresholds and %d gains: expected one for each of %d channels, or no gains", len(l.Bias), len(l.Threshold), len(l.Gain), in.c)
	}
	if l.LeakShift > 15 || l.Leak < 0 || l.Leak > 1<<l.LeakShift {
		return none, fmt.Errorf("leak %d/2^%d: expected a number from 0 to 1, and a power of at most 2^15", l.Leak, l.LeakShift)
	}
	if p.updates += int64(in.c) * int64(steps); p.updates > mostUpdates {
		return none, fmt.Errorf("%d steps of %d channels: expected at most %d of all neurons, and they have %d", steps, in.c, mostUpdates, p.updates)
	}
	for c, r := range in.ranges {
		gain := int64(1)
		if l.Gain != nil {
			gain = int64(l.Gain[c])
		}
		if gain < -1 || gain > 1 {
			return none, fmt.Errorf("channel %d: gain %d: expected −1, 0 or 1", c, gain)
		}
		if l.Threshold[c] < 1 {
			return none, fmt.Errorf("channel %d: threshold %d: expected at least 1", c, l.Threshold[c])
		}
		b := int64(l.Bias[c])
		current := r.times(gain)
		if !current.fits() || !l.membrane(current.plus(Range{b, b}), int64(l.Threshold[c]), steps) {
			return none, fmt.Errorf("channel %d: the membrane potential could overflow int32: currents from %d to %d, with bias %d, in %d steps", c, current.Min, current.Max, b, steps)
		}
	}
	s.fire = kernel.IntNeurons{Bias: padded(l.Bias, 0), Threshold: padded(l.Threshold, 1), Leak: l.Leak, Shift: l.LeakShift, Soft: l.SoftReset}
	if l.Gain != nil {
		s.fire.Gain = padded(l.Gain, 1)
	}
	return value{kind: spikes, c: in.c, h: in.h, w: in.w, ranges: slices.Repeat([]Range{{0, 1}}, in.c)}, nil
}

// membrane reports whether the potentials, and their products with the leak, fit int32 for
// currents of the given range.
func (l *Neurons) membrane(current Range, threshold int64, steps int) bool {
	var m Range // after the reset
	for range steps {
		product := m.times(int64(l.Leak))
		before := Range{product.Min >> l.LeakShift, product.Max >> l.LeakShift}.plus(current)
		if !product.fits() || !current.fits() || !before.fits() {
			return false
		}
		after := Range{min(before.Min, threshold-1), min(before.Max, threshold-1)} // without a spike
		if before.Max >= threshold {
			fired := Range{}
			if l.SoftReset {
				fired = Range{max(0, before.Min-threshold), before.Max - threshold}
			}
			after = Range{min(after.Min, fired.Min), max(after.Max, fired.Max)}
		}
		if after == m {
			break
		}
		m = after
	}
	return true
}

// lanes is the number of channels of a block.
const lanes = kernel.Lanes

// padded returns v with its length rounded up to whole blocks. The new values are pad.
func padded(v []int32, pad int32) []int32 {
	n := (len(v) + lanes - 1) / lanes * lanes
	return append(slices.Clone(v), slices.Repeat([]int32{pad}, n-len(v))...)
}
