package snn

import (
	"fmt"

	"github.com/org/snnrat/autograd"
)

// Gradient is an approximation of the gradient of a network whose neurons' firing
// has none. It belongs to a pass. The forward pass under BPTT and BPTR is that of the
// evaluated network, to the bit.
type Gradient interface {
	fmt.Stringer
	// Encode turns the image x into the network's input.
	Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value
	// Fire runs a layer of neurons on its currents.
	Fire(p *Pass, n *Neuron, current *autograd.Value) *autograd.Value
}

// BPTT is backpropagation through time: a surrogate's derivative stands in for that
// of the Heaviside step.
type BPTT struct {
	// Surrogate replaces the neurons' own; nil leaves it to them.
	Surrogate Surrogate
}

// BPTR is backpropagation through the firing rate: a neuron that fired at least once
// passes the gradient of its rate on as it is, one that did not passes none
// (Ding et al. 2022). The gradient is the same at every step and carried once.
type BPTR struct{}

// CBA is the conversion-based approximation: the gradient, and the forward pass, of
// the ReLU network that has the same weights and no time (Sharmin et al. 2019).
type CBA struct{}

// Encode implements [Gradient].
func (BPTT) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Encode implements [Gradient].
func (BPTR) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Encode implements [Gradient]: the ReLU network sees the image itself.
func (CBA) Encode(_ *Pass, _ Encoder, x *autograd.Value) *autograd.Value { return x }

// Fire implements [Gradient].
func (g BPTT) Fire(p *Pass, n *Neuron, current *autograd.Value) *autograd.Value {
	s := n.Surrogate
	if g.Surrogate != nil {
		s = g.Surrogate
	}
	return autograd.FireThroughTime(p.Tape, current, n.dynamics(), p.Steps, s, n.DetachReset)
}

// Fire implements [Gradient].
func (BPTR) Fire(p *Pass, n *Neuron, current *autograd.Value) *autograd.Value {
	return autograd.FireThroughRate(p.Tape, current, n.dynamics(), p.Steps)
}

// Fire implements [Gradient].
func (CBA) Fire(p *Pass, _ *Neuron, current *autograd.Value) *autograd.Value {
	return autograd.ReLU(p.Tape, current)
}

// String names the approximation, and the surrogate if it replaces the neurons' own.
func (g BPTT) String() string {
	if g.Surrogate != nil {
		return fmt.Sprintf("BPTT(%v)", g.Surrogate)
	}
	return "BPTT"
}

// String names the approximation.
func (BPTR) String() string { return "BPTR" }

// String names the approximation.
func (CBA) String() string { return "CBA" }
