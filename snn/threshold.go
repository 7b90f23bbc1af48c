package snn

import (
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// thresholds returns the threshold of each channel of the neurons n in whole blocks. It fails
// the pass and returns false if n does not know them, or if one is not positive. Channels that
// do not exist have the threshold 1.
func thresholds(p *Pass, g Gradient, n Neuron, current *autograd.Value) (theta []float32, ok bool) {
	t, ok := n.(ThresholdNeuron)
	if !ok {
		p.Fail(fmt.Errorf("layer %s: %v of a %T, whose thresholds are not known: expected an snn.ThresholdNeuron, or another gradient", n.Name(), g, n))
		return nil, false
	}
	c, values := current.Shape().C, t.Thresholds()
	if len(values) != 1 && len(values) != c {
		p.Fail(fmt.Errorf("layer %s: %d thresholds for %d channels: expected %d or 1", n.Name(), len(values), c, c))
		return nil, false
	}
	theta = make([]float32, current.Shape().Blocks()*tensor.Lanes)
	for i := range theta {
		switch {
		case i >= c:
			theta[i] = 1
		case len(values) == 1:
			theta[i] = values[0]
		default:
			theta[i] = values[i]
		}
		if !(theta[i] > 0 && theta[i] <= math.MaxFloat32 && 1/theta[i] <= math.MaxFloat32) {
			p.Fail(fmt.Errorf("layer %s: %v with the threshold %v of channel %d: expected a positive number", n.Name(), g, theta[i], i))
			return nil, false
		}
	}
	return theta, true
}

// blocks is the part of a block surrogate that the rules have in common: the extent of the
// layer, and the thresholds of its channels in whole blocks.
type blocks struct {
	fmt.Stringer           // the gradient
	steps, size  int       // T, and T·H·W·16
	channels     int       // C
	theta        []float32 // [⌈C/16⌉][16]
}

func blocksOf(g Gradient, p *Pass, current *autograd.Value, theta []float32) blocks {
	sh := current.Shape()
	return blocks{g, p.Steps, p.Steps * sh.Pixels() * tensor.Lanes, sh.C, theta}
}

// each calls fn for each block of u, with the thresholds of its channels.
func (b *blocks) each(u []float32, block int, fn func(block int, u []float32, theta *[tensor.Lanes]float32)) {
	for ; len(u) > 0; block++ {
		fn(block, u[:b.size], (*[tensor.Lanes]float32)(b.theta[block*tensor.Lanes:]))
		u = u[b.size:]
	}
}

// Derivative panics: the derivative at a neuron depends on where it is.
func (b *blocks) Derivative(dst, u []float32) {
	panic(fmt.Sprintf("snn: %v: a neuron calls Derivative of an autograd.BlockSurrogate: expected BlockDerivative, as autograd.FireThroughTime calls it", b.Stringer))
}

// relative returns the surrogate s(u/θ)/θ.
func relative(s Surrogate, theta []float32, p *Pass, current *autograd.Value) Surrogate {
	c := current.Shape().C
	first := theta[0]
	for _, v := range theta[:c] {
		if v != first {
			return &perChannel{blocksOf(BPTT{Surrogate: s, Relative: true}, p, current, theta), s}
		}
	}
	if first == 1 {
		return s
	}
	if t, ok := s.(interface{ TriangleWidth() float32 }); ok {
		return Triangle{t.TriangleWidth() * first}
	}
	switch s := s.(type) {
	case Rectangle:
		return Rectangle{s.Width * first}
	case Sigmoid:
		return Sigmoid{s.Alpha / first}
	case Arctan:
		return Arctan{s.Alpha / first}
	}
	if c, ok := s.(interface{ Support() float32 }); ok {
		return compactScaled{scaled{s, first}, c.Support() * first}
	}
	return scaled{s, first}
}

// scaled is s(u/theta)/theta.
type scaled struct {
	Surrogate
	theta float32
}

func (s scaled) Derivative(dst, u []float32) { s.at(dst, u, s.theta) }

func (s scaled) at(dst, u []float32, theta float32) {
	dst = dst[:len(u)]
	scale(dst, u, 1/theta)
	s.Surrogate.Derivative(dst, dst)
	scale(dst, dst, 1/theta)
}

func scale(dst, u []float32, f float32) {
	for i, v := range u {
		dst[i] = v * f
	}
}

// compactScaled is scaled for a surrogate with a Support.
type compactScaled struct {
	scaled
	support float32
}

func (s compactScaled) Support() float32 { return s.support }

// perChannel is s(u/θ)/θ with a threshold for each channel.
type perChannel struct {
	blocks
	s Surrogate
}

// BlockDerivative implements [autograd.BlockSurrogate].
func (s *perChannel) BlockDerivative(u []float32, _, block int) {
	s.each(u, block, func(_ int, u []float32, theta *[tensor.Lanes]float32) {
		over := [tensor.Lanes]float32{}
		for l, t := range theta {
			over[l] = 1 / t
		}
		byLane := func() {
			for i := range u {
				u[i] *= over[i%tensor.Lanes]
			}
		}
		byLane()
		s.s.Derivative(u, u)
		byLane()
	})
}
