package snn

import (
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// ASSG is backpropagation through time with the adaptive-sharpness surrogate gradient (Wang et
// al. 2026). The derivative of a spike is an arctan, which is steeper where the membrane
// potential stays close to the threshold θ. With u the potential minus θ and w = |u|/θ, each
// neuron has at each step
//
//	M ← 0.9·M + 0.1·w          D ← 0.9·D + 0.1·|w − M|          from M = 1 and D = 0
//	α = a/(M + 1.5·D + 0.0001) with a = (2/π)·tan(π·A)
//	h = (α/2)/(1 + (π·α·u/(2θ))²)/θ
//
// M and D belong to an image and persist over the passes of an attack, in Pass.Memory. Each
// backward pass updates them once, before it uses them; logits alone do not. Without memory
// each pass starts anew. The authors choose A for each network, in [0.35, 0.49]. Where a
// threshold adapts, u is the distance from it, and θ the threshold without adaptation. The
// forward pass is that of an evaluation, bit by bit. Neurons must be a [ThresholdNeuron].
type ASSG struct {
	A float32 // in [0.35, 0.49]
}

// Encode implements [Gradient].
func (ASSG) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Fire implements [Gradient]. It fails if A is out of range, if n is no [ThresholdNeuron], or if
// the memory of an image does not fit.
func (g ASSG) Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value {
	if !(g.A >= 0.35 && g.A <= 0.49) {
		p.Fail(fmt.Errorf("ASSG: A %v: expected a number in [0.35, 0.49]", g.A))
	}
	theta, ok := thresholds(p, g, n, current)
	if !ok {
		return n.FireThroughTime(p, current, nil)
	}
	s := &adaptiveSharpness{blocks: blocksOf(g, p, current, theta), a: float32(2 / math.Pi * math.Tan(math.Pi*float64(g.A)))}
	if p.Memory != nil && (current.NeedsGrad() || p.Tape.Params) {
		s.memory = p.remember(n, current.Shape().WithSteps(p.Steps))
	}
	return n.FireThroughTime(p, current, s)
}

// String returns "ASSG" with A in parentheses.
func (g ASSG) String() string { return fmt.Sprintf("ASSG(%v)", g.A) }

// adaptiveSharpness is ASSG's surrogate of a layer.
type adaptiveSharpness struct {
	blocks
	a      float32
	memory []*layerMemory // of each image; nil without
}

// BlockDerivative implements [autograd.BlockSurrogate].
func (s *adaptiveSharpness) BlockDerivative(u []float32, image, block int) {
	s.each(u, block, func(block int, u []float32, theta *[tensor.Lanes]float32) {
		var m, d []float32
		if s.memory != nil && s.memory[image] != nil {
			state := s.memory[image]
			m, d = state.mean[block*s.size:][:s.size], state.deviation[block*s.size:][:s.size]
			state.updated.Store(true)
		}
		kernel.AdaptiveSlope(u, m, d, s.a, theta)
	})
}
