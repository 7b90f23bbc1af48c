package snn

import (
	"errors"
	"fmt"

	"github.com/org/snnrat/autograd"
)

// Gradient approximates the gradient of a spiking network, whose spikes have no useful
// derivative. It is a setting of a [Pass]. A model calls Encode once in a pass, and every
// layer of neurons calls Fire.
//
// String returns its name, with its settings, for reports and error messages.
//
// A Gradient whose forward pass is not that of an evaluation has the method ChangesForward, see
// [ChangesForward]. One whose passes have one step, whatever p.Steps is, says so by a method
// WithoutTime() bool. [Model.Chunks] then counts one frame for an image.
type Gradient interface {
	fmt.Stringer
	// Encode records the encoding of the images x by the model's encoder e, and returns
	// the input of the network.
	Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value
	// Fire records the neurons n with the given currents, and returns their output. The
	// output has p.Steps steps, or one step if it is the same at all of them.
	Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value
}

// BPTT is backpropagation through time. A surrogate replaces the derivative of a spike
// with respect to the membrane potential. The forward pass is that of an evaluation, bit by
// bit.
type BPTT struct {
	// Surrogate replaces the surrogate of every neuron. If it is nil, each neuron uses its
	// own.
	Surrogate Surrogate
	// Relative makes Surrogate a function of u/θ, with the threshold θ of each neuron: the
	// derivative is s(u/θ)/θ. A network whose thresholds and currents are scaled together has
	// the same gradients then. It needs a Surrogate, and neurons that are a [ThresholdNeuron].
	Relative bool
}

// BPTR is backpropagation through the firing rate (Ding et al. 2022). A neuron that fired at
// least once passes the gradient of its output to its currents. A neuron that never fired
// passes zero. The gradient is the same at every step, so it is computed once. The forward
// pass is that of an evaluation, bit by bit.
type BPTR struct{}

// CBA is the conversion-based approximation (Sharmin et al. 2019). Forward and backward pass
// are those of a network without time. It has the same weights, and a ReLU in place of each
// neuron. The input is the image, or the mean of the frames. Large convolutions that follow a ReLU
// use Winograd's algorithm, see [autograd.Value.AllowWinograd].
type CBA struct{}

// Encode implements [Gradient].
func (BPTT) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Encode implements [Gradient].
func (BPTR) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Encode implements [Gradient]. It returns the image itself, or the mean of the frames.
func (CBA) Encode(p *Pass, _ Encoder, x *autograd.Value) *autograd.Value {
	return autograd.MeanOverTime(p.Tape, x)
}

// Fire implements [Gradient].
func (g BPTT) Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value {
	if g.Surrogate != nil {
		if err := validateSurrogate(g.Surrogate); err != nil {
			p.Fail(fmt.Errorf("BPTT: %w", err))
		}
	}
	s := g.Surrogate
	switch {
	case g.Relative && s == nil:
		p.Fail(errors.New("BPTT: Relative without a Surrogate: expected one such as Triangle{1}"))
	case g.Relative && p.err == nil:
		if theta, ok := thresholds(p, g, n, current); ok {
			s = relative(s, theta, p, current)
		}
	}
	return n.FireThroughTime(p, current, s)
}

// Fire implements [Gradient]. It fails if n is no [RateNeuron].
func (BPTR) Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value {
	if r, ok := n.(RateNeuron); ok {
		return r.FireThroughRate(p, current)
	}
	p.Fail(fmt.Errorf("layer %s: BPTR of a %T, which has no rule for its firing rate: expected an snn.RateNeuron, or another gradient", n.Name(), n))
	return n.FireThroughTime(p, current, nil)
}

// Fire implements [Gradient].
func (CBA) Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value {
	var y *autograd.Value
	if r, ok := n.(ReLUNeuron); ok {
		y = r.FireAsReLU(p, current)
	} else {
		y = autograd.ReLU(p.Tape, current)
	}
	y.AllowWinograd()
	return y
}

// String returns "BPTT", with the surrogate and Relative in parentheses if they are set.
func (g BPTT) String() string {
	switch {
	case g.Surrogate == nil && g.Relative:
		return "BPTT(relative)"
	case g.Surrogate == nil:
		return "BPTT"
	case g.Relative:
		return fmt.Sprintf("BPTT(%v of u/θ)", g.Surrogate)
	}
	return fmt.Sprintf("BPTT(%v)", g.Surrogate)
}

// String returns "BPTR".
func (BPTR) String() string { return "BPTR" }

// String returns "CBA".
func (CBA) String() string { return "CBA" }

// ChangesForward reports whether passes with g compute other logits than an evaluation of the
// network. CBA does. An attack must not judge an image by the logits of such a pass. A Gradient
// says so by a method ChangesForward() bool. Those without the method do not.
func ChangesForward(g Gradient) bool {
	c, ok := g.(interface{ ChangesForward() bool })
	return ok && c.ChangesForward()
}

// ChangesForward returns true, see [ChangesForward].
func (CBA) ChangesForward() bool { return true }

// withoutTime reports whether all values of a pass with g have one step, but for its input.
func withoutTime(g Gradient) bool {
	w, ok := g.(interface{ WithoutTime() bool })
	return ok && w.WithoutTime()
}

// WithoutTime returns true, see [Gradient].
func (CBA) WithoutTime() bool { return true }
