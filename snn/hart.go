package snn

import (
	"fmt"

	"github.com/org/snnrat/autograd"
)

// HART is the hybrid attack gradient based on rate and temporal information (Hao et al. 2024).
// No gradient passes from one step to another. The gradient of the currents is the mean over
// time, the same at every step:
//
//	∂x(t) = (1/T)·Σ_t' ∂s(t')·h(u(t')/θ)/θ        h(u) = max(0, Width − |u|)/Width²
//
// u is the membrane potential minus the threshold θ. The authors search Width, γ in their
// paper, for each network. With DecayInput the gradient counts 1 − Decay times. The forward
// pass is that of an evaluation, bit by bit. Neurons must be a [StepwiseNeuron]; a layer whose
// spikes return to all channels is refused. Parameters of neurons get no gradient.
type HART struct {
	Width float32 // positive
}

// Encode implements [Gradient].
func (HART) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Fire implements [Gradient]. It fails if Width is not positive, or if n is no [StepwiseNeuron].
func (g HART) Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value {
	h := Triangle(g)
	if err := validateSurrogate(h); err != nil {
		p.Fail(fmt.Errorf("HART: width %v: expected a positive number", g.Width))
		return n.FireThroughTime(p, current, nil)
	}
	s, ok := n.(StepwiseNeuron)
	if !ok {
		p.Fail(fmt.Errorf("layer %s: HART of a %T, which has no rule for steps that count alone: expected an snn.StepwiseNeuron, or another gradient", n.Name(), n))
		return n.FireThroughTime(p, current, nil)
	}
	theta, ok := thresholds(p, g, n, current)
	if !ok {
		return n.FireThroughTime(p, current, nil)
	}
	return s.FireStepwise(p, current, relative(h, theta, p, current))
}

// String returns "HART" with the width in parentheses.
func (g HART) String() string { return fmt.Sprintf("HART(%v)", g.Width) }
