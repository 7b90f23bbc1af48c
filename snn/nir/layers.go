package nir

import (
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// A vertex is a layer of a network and where its input comes from. Without a layer, it adds up.
type vertex struct {
	name  string
	layer snn.Layer // nil for the sum alone
	from  []int     // 0 is the input, i > 0 the output of vertex i−1
}

// network runs layers in order. The input of a layer is the sum of earlier values.
type network struct {
	nodes []vertex
	full  []string
}

func (l *network) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	shapes := []tensor.Shape{in}
	l.full = nil
	for _, n := range l.nodes {
		full := n.name
		if name != "" {
			full = name + "." + n.name
		}
		l.full = append(l.full, full)
		x := shapes[n.from[0]]
		if len(n.from) > 1 {
			s.Rows = append(s.Rows, snn.Row{Name: full, Kind: fmt.Sprintf("sum of %d", len(n.from)), In: x, Out: x})
		}
		if n.layer != nil {
			var err error
			if x, err = n.layer.Describe(s, full, x); err != nil {
				return in, fmt.Errorf("layer %s: %w", full, err)
			}
		}
		shapes = append(shapes, x)
	}
	return shapes[len(shapes)-1], nil
}

func (l *network) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	values := []*autograd.Value{x}
	last := make([]int, len(l.nodes)+1) // the last vertex that reads a value
	for i, n := range l.nodes {
		for _, f := range n.from {
			last[f] = i
		}
	}
	outer := p.Tape.Layer
	for i, n := range l.nodes {
		p.Tape.Layer = l.full[i]
		in := values[n.from[0]]
		for k, f := range n.from[1:] {
			sum := autograd.Add(p.Tape, in, values[f])
			if k > 0 {
				p.Tape.Release(in)
			}
			in = sum
		}
		y := in
		if n.layer != nil {
			if y = n.layer.Forward(p, in); len(n.from) > 1 && y != in {
				p.Tape.Release(in)
			}
		}
		if p.Tape.TakeNonFinite() {
			p.Fail(fmt.Errorf("layer %s: an input is not a finite number", l.full[i]))
		}
		values = append(values, y)
		for _, f := range n.from {
			// A layer may return its input.
			if f > 0 && last[f] == i && !slices.Contains(values[f+1:], values[f]) {
				p.Tape.Release(values[f])
			}
		}
	}
	p.Tape.Layer = outer
	return values[len(values)-1]
}

// Scale multiplies each value by a factor of its own, the same at every step.
type Scale struct {
	Factor []float64 // [C·H·W]

	packed *tensor.Dense // [C, H, W]
}

// Describe implements [snn.Layer].
func (l *Scale) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	if len(l.Factor) != in.C*in.H*in.W {
		return in, fmt.Errorf("%d factors for %d values", len(l.Factor), in.C*in.H*in.W)
	}
	single, err := float32s(l.Factor, "scale")
	if err != nil {
		return in, err
	}
	l.packed = pack(single, in)
	s.Rows = append(s.Rows, snn.Row{Name: name, Kind: "scale", In: in, Out: in, Layer: l})
	return in, nil
}

// pack returns values [C·H·W] in blocks of channels.
func pack(v []float32, s tensor.Shape) *tensor.Dense {
	d := tensor.NewDense(tensor.Shape{N: 1, Steps: 1, C: s.C, H: s.H, W: s.W})
	d.Pack(tensor.NCHW{N: 1, C: s.C, H: s.H, W: s.W, Data: v})
	return d
}

// Forward implements [snn.Layer].
func (l *Scale) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	t := p.Tape
	x = autograd.Densify(t, x)
	y := t.NewDense(x.Shape(), x.NeedsGrad())
	each(x.Shape(), func(at, neuron int) { t.Floats(y)[at] = t.Floats(x)[at] * l.packed.Data[neuron] })
	t.Record(&scaled{x, y, l})
	return y
}

// each calls fn for all places of a value, with the place in a value of one frame.
func each(s tensor.Shape, fn func(at, neuron int)) {
	frame := s.Pixels() * tensor.Lanes
	for i := range s.Blocks() * s.Frames() {
		for k := range frame {
			fn(i*frame+k, i/s.Frames()*frame+k)
		}
	}
}

type scaled struct {
	x, y *autograd.Value
	l    *Scale
}

func (o *scaled) Output() *autograd.Value { return o.y }

func (o *scaled) Backward(t *autograd.Tape) {
	dy, steps := t.Grad(o.y)
	s := o.y.Shape().WithSteps(steps)
	g := t.Scratch(s.Floats())
	each(s, func(at, neuron int) { g[at] = dy[at] * o.l.packed.Data[neuron] })
	t.AddGrad(o.x, g, steps)
	t.FreeScratch(g)
}

// Integrator is a layer of leaky integrators, NIR's I, LI and CubaLI. Its output is the potential:
//
//	i ← α·i + κs·x,  v ← λ·v + κ·i + (1 − λ)·leak
//
// i is 0 before the first step, and v is Start.
type Integrator struct {
	SynapticDecay, InputGain   []float64 // α and κs, [C·H·W]
	Decay, Gain, Offset, Start []float64 // λ, κ, (1 − λ)·leak, [C·H·W]

	coefficients [6]*tensor.Dense
}

// integrator returns the layer of a node.
func (b *builder) integrator(n *Node, in []int) (snn.Layer, error) {
	d, err := b.dynamics(n, in)
	if err != nil {
		return nil, err
	}
	if b.cfg.Start == AtReset {
		copy(d.start, d.leak)
	}
	l := &Integrator{SynapticDecay: d.alpha, InputGain: d.inputGain, Decay: d.lambda, Gain: d.gain, Start: d.start, Offset: d.leak}
	for i := range l.Offset {
		l.Offset[i] *= 1 - l.Decay[i]
	}
	return l, nil
}

// Describe implements [snn.Layer].
func (l *Integrator) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	for i, v := range [][]float64{l.SynapticDecay, l.InputGain, l.Decay, l.Gain, l.Offset, l.Start} {
		if len(v) != in.C*in.H*in.W {
			return in, fmt.Errorf("%d coefficients for %d values", len(v), in.C*in.H*in.W)
		}
		single, err := float32s(v, "coefficients")
		if err != nil {
			return in, err
		}
		l.coefficients[i] = pack(single, in)
	}
	s.Rows = append(s.Rows, snn.Row{Name: name, Kind: "integrator", In: in, Out: in, Layer: l})
	return in, nil
}

// ValidateStream returns an error: a stream would not keep the potential from step to step.
func (l *Integrator) ValidateStream() error {
	return errors.New("an integrator, whose potential a stream does not keep: expected a whole pass")
}

// Forward implements [snn.Layer].
func (l *Integrator) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	t := p.Tape
	x = autograd.Densify(t, x)
	in, out := x.Shape(), x.Shape().WithSteps(p.Steps)
	y := t.NewDense(out, x.NeedsGrad())
	c := &l.coefficients
	over(out, func(frame, neuron, k int) {
		var i float32
		v := c[5].Data[neuron]
		for step := range out.Steps {
			i = float32(c[0].Data[neuron]*i) + float32(c[1].Data[neuron]*t.Floats(x)[at(in, frame, step, k)])
			v = float32(c[2].Data[neuron]*v) + float32(c[3].Data[neuron]*i) + c[4].Data[neuron]
			t.Floats(y)[at(out, frame, step, k)] = v
		}
	})
	t.Record(&integrated{x, y, l})
	return y
}

// over calls fn for all neurons of all images, with the number of the image's block.
func over(s tensor.Shape, fn func(image, neuron, k int)) {
	frame := s.Pixels() * tensor.Lanes
	for i := range s.Blocks() * s.N {
		for k := range frame {
			fn(i, i/s.N*frame+k, k)
		}
	}
}

// at returns the place of a step of neuron k in a block of an image.
func at(s tensor.Shape, image, step, k int) int {
	return (image*s.Steps+min(step, s.Steps-1))*s.Pixels()*tensor.Lanes + k
}

type integrated struct {
	x, y *autograd.Value
	l    *Integrator
}

func (o *integrated) Output() *autograd.Value { return o.y }

func (o *integrated) Backward(t *autograd.Tape) {
	dy := t.GradEveryStep(o.y)
	in, out, c := o.x.Shape(), o.y.Shape(), &o.l.coefficients
	g := t.Scratch(in.Floats())
	clear(g)
	over(out, func(image, neuron, k int) {
		var dv, di float32
		for step := out.Steps - 1; step >= 0; step-- {
			dv = dy[at(out, image, step, k)] + float32(c[2].Data[neuron]*dv)
			di = float32(c[3].Data[neuron]*dv) + float32(c[0].Data[neuron]*di)
			g[at(in, image, step, k)] += float32(c[1].Data[neuron] * di)
		}
	})
	t.AddGrad(o.x, g, in.Steps)
	t.FreeScratch(g)
}
