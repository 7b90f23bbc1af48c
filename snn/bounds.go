package snn

import (
	"errors"
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// Bounds are intervals for the values of a layer, one for each element: Center ± Radius. Both are
// values on the tape of a pass, dense and of the same shape and number of steps.
//
// If Counts is set, they do not bound the values of each step. They bound their sums over the
// steps 1 to t, for every t; a Radius may then be negative at single steps. A layer that computes
// w·x + b at every step maps both kinds in the same way.
type Bounds struct {
	Center, Radius *autograd.Value
	Counts         bool
}

// BoundedLayer is a layer that bounds its output for an interval of inputs. Those of this package
// that do are Sequential, Conv2D, Linear, BatchNorm, AvgPool, Flatten, Dropout and LIF.
type BoundedLayer interface {
	Layer
	// ForwardBounds records the bounds of the layer's output in an evaluation, for every input
	// within b. It releases the values of b that it does not return. It calls p.Fail if it has
	// no bounds for such a b.
	ForwardBounds(p *Pass, b Bounds) Bounds
}

// affine bounds the output of an affine layer. center is Forward, and radius maps the radius.
func (b Bounds) affine(p *Pass, center, radius func(x *autograd.Value) *autograd.Value) Bounds {
	out := Bounds{center(b.Center), radius(b.Radius), b.Counts}
	if out.Center != b.Center {
		p.Tape.Release(b.Center)
	}
	if out.Radius != b.Radius {
		p.Tape.Release(b.Radius)
	}
	return out
}

// ForwardBounds implements [BoundedLayer].
func (l *Conv2D) ForwardBounds(p *Pass, b Bounds) Bounds {
	return b.affine(p,
		func(x *autograd.Value) *autograd.Value { return l.Forward(p, x) },
		func(r *autograd.Value) *autograd.Value {
			return autograd.Conv2DRadius(p.Tape, r, l.Weight, l.Stride, l.Pad)
		})
}

// ForwardBounds implements [BoundedLayer].
func (l *Linear) ForwardBounds(p *Pass, b Bounds) Bounds {
	if p.margins != nil && p.margins.layer == l {
		return p.margins.keep(p, b)
	}
	return b.affine(p,
		func(x *autograd.Value) *autograd.Value { return l.Forward(p, x) },
		func(r *autograd.Value) *autograd.Value { return autograd.LinearRadius(p.Tape, r, l.Weight) })
}

// ForwardBounds implements [BoundedLayer]. It takes the running statistics.
func (l *BatchNorm) ForwardBounds(p *Pass, b Bounds) Bounds {
	return b.affine(p,
		func(x *autograd.Value) *autograd.Value { return autograd.BatchNormEval(p.Tape, x, &l.BatchNormState) },
		func(r *autograd.Value) *autograd.Value { return autograd.BatchNormRadius(p.Tape, r, &l.BatchNormState) })
}

// ForwardBounds implements [BoundedLayer].
func (l AvgPool) ForwardBounds(p *Pass, b Bounds) Bounds {
	pool := func(x *autograd.Value) *autograd.Value { return l.Forward(p, x) }
	return b.affine(p, pool, pool)
}

// ForwardBounds implements [BoundedLayer].
func (l Flatten) ForwardBounds(p *Pass, b Bounds) Bounds {
	flatten := func(x *autograd.Value) *autograd.Value { return l.Forward(p, x) }
	return b.affine(p, flatten, flatten)
}

// ForwardBounds implements [BoundedLayer]. Dropout does nothing in evaluation.
func (l *Dropout) ForwardBounds(_ *Pass, b Bounds) Bounds { return b }

// ForwardBounds implements [BoundedLayer].
func (s *Sequential) ForwardBounds(p *Pass, b Bounds) Bounds {
	outer := p.Tape.Layer
	defer func() { p.Tape.Layer = outer }()
	for i, l := range s.layers {
		p.Tape.Layer = s.full[i]
		bounded, ok := l.(BoundedLayer)
		if !ok {
			p.Fail(unbounded(s.full[i], l))
			return b
		}
		b = bounded.ForwardBounds(p, b)
		if p.Tape.TakeNonFinite() {
			p.Fail(fmt.Errorf("layer %s: a bound of an input is not a finite number", s.full[i]))
		}
		if p.Err() != nil {
			return b
		}
	}
	return b
}

func unbounded(name string, l Layer) error {
	return fmt.Errorf("layer %s: a %T has no bounds: expected an snn.BoundedLayer, such as Conv2D, Linear, BatchNorm, AvgPool, Flatten, Dropout or LIF", name, l)
}

// ForwardBounds implements [BoundedLayer].
//
// With Decay 1 and SoftReset, the number of spikes up to each step rises with the sums of the
// currents up to it. The neurons with the lower and with the upper currents then have the fewest
// and the most spikes of all in between, and the bounds are Counts. Gradients cross these neurons
// as p.Gradient says.
//
// Other neurons follow their potential in an interval, see [autograd.FireBound]. They need bounds
// of each step and the gradient BPTT, and Reset, Start and DecayInput unset.
func (n *LIF) ForwardBounds(p *Pass, b Bounds) Bounds {
	t := p.Tape
	lo := autograd.Combine(t, b.Center, b.Radius, 1, -1)
	hi := autograd.Combine(t, b.Center, b.Radius, 1, 1)
	t.Release(b.Center)
	t.Release(b.Radius)
	var least, most *autograd.Value
	counts := n.Decay == 1 && n.SoftReset
	if counts {
		least, most = p.Gradient.Fire(p, n, lo), p.Gradient.Fire(p, n, hi)
	} else {
		s := n.Surrogate
		g, ok := p.Gradient.(BPTT)
		if g.Surrogate != nil {
			s = g.Surrogate
			if err := validateSurrogate(s); err != nil {
				p.Fail(fmt.Errorf("BPTT: %w", err))
			}
		}
		switch {
		case b.Counts:
			p.Fail(fmt.Errorf("layer %s: no bounds for these neurons after ones with decay 1 and soft reset: expected the same kind in all layers", n.name))
		case !ok || g.Relative:
			p.Fail(fmt.Errorf("layer %s: bounds under %v: expected BPTT, or neurons with decay 1 and soft reset", n.name, p.Gradient))
		}
		least = autograd.FireBound(t, lo, hi, n.dynamics(), p.Steps, s, autograd.Lower)
		most = autograd.FireBound(t, lo, hi, n.dynamics(), p.Steps, s, autograd.Upper)
	}
	t.Release(lo)
	t.Release(hi)
	out := Bounds{autograd.Combine(t, least, most, 0.5, 0.5), autograd.Combine(t, least, most, -0.5, 0.5), counts}
	t.Release(least)
	t.Release(most)
	return out
}

// margins holds the input of a last linear layer, of which the differences of two outputs have
// tighter bounds than the outputs.
type margins struct {
	layer  *Linear
	radius *autograd.Value // mean over time
}

// keep runs the layer on the center. The bounds that it returns have no radius of their own.
func (m *margins) keep(p *Pass, b Bounds) Bounds {
	m.radius = autograd.MeanOverTime(p.Tape, b.Radius)
	if m.radius != b.Radius {
		p.Tape.Release(b.Radius)
	}
	center := m.layer.Forward(p, b.Center)
	p.Tape.Release(b.Center)
	return Bounds{center, m.radius, b.Counts}
}

// lastLinear returns the linear layer in which the network ends, or nil.
func lastLinear(l Layer) *Linear {
	switch l := l.(type) {
	case *Linear:
		return l
	case *Sequential:
		if n := len(l.layers); n > 0 {
			return lastLinear(l.layers[n-1])
		}
	}
	return nil
}

// ValidateBounds returns an error that names the first layer or setting for which
// [Model.DifferentiateBounds] has no bounds.
func (m *Model) ValidateBounds() error {
	if _, ok := m.Encoder.(Direct); !ok {
		return fmt.Errorf("snn: no bounds for the encoder %T: expected Direct", m.Encoder)
	}
	counts := false
	if err := validateBounds(m.body, "", &counts); err != nil {
		return fmt.Errorf("snn: %w", err)
	}
	return nil
}

// validateBounds looks through a layer. counts says whether the bounds of its input are Counts.
func validateBounds(l Layer, name string, counts *bool) error {
	switch l := l.(type) {
	case *Sequential:
		for i, l2 := range l.layers {
			if err := validateBounds(l2, l.full[i], counts); err != nil {
				return err
			}
		}
	case *LIF:
		own := l.Decay == 1 && l.SoftReset
		switch {
		case !own && *counts:
			return fmt.Errorf("layer %s: no bounds for neurons that have a decay or a hard reset, after ones that have neither: expected the same kind in all layers", name)
		case !own && l.special():
			return fmt.Errorf("layer %s: no bounds for neurons with Reset, Start or DecayInput and a decay or a hard reset: expected them unset", name)
		}
		*counts = own
	case BoundedLayer:
	default:
		return unbounded(name, l)
	}
	return nil
}

// DifferentiateBounds bounds the network's output over the images within eps of x in the L∞ norm
// and in [0,1], by interval arithmetic. It calls fn once with the worst logits of each image,
// row-major [N, classes]: for the label y of an image,
//
//	worst[k] − worst[y] ≥ z[k] − z[y] for the logits z of every such image
//
// so if worst[y] is the largest, all of them have the class y. fn returns the gradient of a loss
// with respect to the worst logits, or nil for no backward pass. DifferentiateBounds adds the
// gradients of the parameters to Param.Grad.
//
// The bounds are those of an evaluation, batch norm's running statistics included. They are
// computed in float32 and rounded to nearest. They are for training: a certificate that includes
// all rounding is that of package lipschitz/certify.
//
// p may be the zero value. p.Gradient says how gradients cross the neurons; p.Train must not be
// set. FusedUpdate, OnSpikes and OnNeurons of p are not used.
//
// DifferentiateBounds returns the errors of ValidateBounds and of [Model.Differentiate]. It also
// returns one if x holds frames, or if eps is not in [0, 1]. It panics if there is not one label in
// [0, classes) for each image.
func (m *Model) DifferentiateBounds(p Pass, x tensor.NCHW, eps float32, labels []int, fn func(worst []float32) (grad []float32, err error)) error {
	switch {
	case len(labels) != x.N:
		panic(fmt.Sprintf("snn: %d labels for %d images", len(labels), x.N))
	case x.Steps > 1:
		return fmt.Errorf("snn: no bounds for examples of %d frames: expected images", x.Steps)
	case !(eps >= 0 && eps <= 1):
		return fmt.Errorf("snn: eps %v: expected a number in [0, 1]", eps)
	case p.Train:
		return errors.New("snn: bounds in training mode: expected Pass.Train unset")
	}
	if err := m.validateRun(&p, x); err != nil {
		return err
	}
	if err := m.ValidateBounds(); err != nil {
		return err
	}
	if p.Gradient == nil {
		p.Gradient = BPTT{}
	}
	if ChangesForward(p.Gradient) {
		return fmt.Errorf("snn: bounds under %v: expected a gradient with the forward pass of an evaluation", p.Gradient)
	}
	p.Tape = m.tape()
	err := m.boundsOn(&p, x, eps, labels, fn)
	m.idle(p.Tape)
	return err
}

// boundsOn is DifferentiateBounds on p.Tape.
func (m *Model) boundsOn(p *Pass, x tensor.NCHW, eps float32, labels []int, fn func(worst []float32) (grad []float32, err error)) error {
	t := p.Tape
	t.Params, t.Threads, t.FusedUpdate, t.Parts = true, p.Threads, nil, p.Parts
	center, radius := x.Clone(), x.Clone()
	for i, v := range x.Data {
		lo, hi := max(v-eps, 0), min(v+eps, 1)
		center.Data[i], radius.Data[i] = (lo+hi)/2, (hi-lo)/2
	}
	b := Bounds{Center: t.Leaf(center, false), Radius: t.Leaf(radius, false)}
	if m.mean != nil {
		zero := autograd.NewBuffer(m.Channels)
		b = b.affine(p,
			func(x *autograd.Value) *autograd.Value { return autograd.Normalize(t, x, m.mean, m.std) },
			func(r *autograd.Value) *autograd.Value { return autograd.Normalize(t, r, zero, m.std) })
	}
	p.margins = &margins{layer: lastLinear(m.body)}
	bounded, ok := m.body.(BoundedLayer)
	if !ok {
		return fmt.Errorf("snn: %w", unbounded("", m.body))
	}
	b = bounded.ForwardBounds(p, b)
	if err := p.Err(); err != nil {
		return fmt.Errorf("snn: %w", err)
	}
	z, r := autograd.MeanOverTime(t, b.Center), autograd.MeanOverTime(t, b.Radius)
	var w *autograd.Param
	if last := p.margins.layer; last != nil {
		w = last.Weight
	} else { // the outputs themselves
		w = autograd.NewBuffer(m.classes, m.classes)
		w.Fill(func(i int) (float32, error) {
			if i%(m.classes+1) == 0 {
				return 1, nil
			}
			return 0, nil
		})
	}
	y := autograd.WorstLogits(t, z, r, w, labels)
	worst := y.Dense().Unpack().Data
	for i, v := range worst {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("snn: image %d: the bound of logit %d is %v: expected a finite number", i/m.classes, i%m.classes, v)
		}
	}
	seed, err := fn(worst)
	if seed == nil || err != nil {
		return err
	}
	t.Backward(y, seed)
	if err := p.Err(); err != nil {
		return fmt.Errorf("snn: %w", err)
	}
	return nil
}
