package snn

import (
	"fmt"

	"github.com/org/snnrat/autograd"
)

// RGA is the rate gradient approximation (Bu et al. 2023). The gradient of a spike goes to the
// current of its step with a factor that depends on z, the mean current over time in units of
// the threshold. For a neuron of Decay λ it is
//
//	0.2                          if 0 ≤ z < 1 − λ
//	(0.8 + 0.2·λ)/(1 + λ)        if 1 − λ ≤ z ≤ 2
//	0                            otherwise
//
// divided by the threshold. At z = 1 − λ the authors' code adds both factors; here the second
// one counts. The current is what a step adds to the membrane potential: with a synapse the
// synaptic current, and with DecayInput 1 − λ times the current. [autograd.FireGLIFThroughCurrent]
// has the equations. The forward pass is that of an evaluation, bit by bit. Neurons must be a
// [CurrentNeuron]; a recurrent layer is refused. Parameters of neurons get no gradient.
type RGA struct{}

// Encode implements [Gradient].
func (RGA) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Fire implements [Gradient]. It fails if n is no [CurrentNeuron].
func (g RGA) Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value {
	c, ok := n.(CurrentNeuron)
	if !ok {
		p.Fail(fmt.Errorf("layer %s: RGA of a %T, which has no rule for its mean current: expected an snn.CurrentNeuron, or another gradient", n.Name(), n))
		return n.FireThroughTime(p, current, nil)
	}
	if _, ok := thresholds(p, g, n, current); !ok {
		return n.FireThroughTime(p, current, nil)
	}
	return c.FireThroughCurrent(p, current)
}

// String returns "RGA".
func (RGA) String() string { return "RGA" }
