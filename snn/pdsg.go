package snn

import (
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
)

// PDSG is backpropagation through time with the potential-dependent surrogate gradient (Lun et
// al. 2025). The derivative of a spike at step t is the normal density of mean σ/2 and standard
// deviation σ at u, the membrane potential minus the threshold θ:
//
//	h(u) = exp(−(u − σ/2)²/(2σ²))/(σ·√(2π))
//
// σ is the standard deviation (of a sample, with n − 1) of u in units of θ, over the neurons of
// a channel at all pixels and the steps 1 to t. For a layer of one pixel it is that of all
// channels. σ = 0 counts as 1. The authors take σ over the batch too. Here each image has its
// own, so that its gradient does not depend on its batch. h(u/θ)/θ is the derivative. Where a
// threshold adapts, u is the distance from it, and θ the threshold without adaptation. The
// forward pass is that of an evaluation, bit by bit. Neurons must be a [ThresholdNeuron].
type PDSG struct{}

// Encode implements [Gradient].
func (PDSG) Encode(p *Pass, e Encoder, x *autograd.Value) *autograd.Value { return e.Encode(p, x) }

// Fire implements [Gradient]. It fails if n is no [ThresholdNeuron].
func (g PDSG) Fire(p *Pass, n Neuron, current *autograd.Value) *autograd.Value {
	theta, ok := thresholds(p, g, n, current)
	if !ok {
		return n.FireThroughTime(p, current, nil)
	}
	return n.FireThroughTime(p, current, &potentialDependent{blocksOf(g, p, current, theta)})
}

// String returns "PDSG".
func (PDSG) String() string { return "PDSG" }

// potentialDependent is PDSG's surrogate of a layer.
type potentialDependent struct{ blocks }

// leastSigma is the part of the threshold below which σ counts as 0: its inverse is finite.
const leastSigma = 1e-30

// BlockDerivative implements [autograd.BlockSurrogate].
func (s *potentialDependent) BlockDerivative(u []float32, _, block int) {
	frame := s.size / s.steps
	if frame == tensor.Lanes {
		s.onePixel(u)
		return
	}
	theta := (*[tensor.Lanes]float32)(s.theta[block*tensor.Lanes:])
	var shift, sum, square [tensor.Lanes]float64
	for l := range shift {
		shift[l] = float64(u[l])
	}
	var sigma [tensor.Lanes]float32
	for t := range s.steps {
		now := u[t*frame:][:frame]
		kernel.ShiftedSums(&sum, &square, now, &shift)
		for l := range sigma {
			sigma[l] = theta[l] * deviation(sum[l]/float64(theta[l]), square[l]/float64(theta[l])/float64(theta[l]), (t+1)*frame/tensor.Lanes)
		}
		kernel.GaussianSlope(now, &sigma)
	}
}

// onePixel is BlockDerivative for u of all blocks, [⌈C/16⌉][T][16].
func (s *potentialDependent) onePixel(u []float32) {
	at := func(c, t int) *float32 {
		return &u[(c/tensor.Lanes*s.steps+t)*tensor.Lanes+c%tensor.Lanes]
	}
	shift := float64(*at(0, 0)) / float64(s.theta[0])
	var sum, square float64
	for t := range s.steps {
		for c := range s.channels {
			d := float64(*at(c, t))/float64(s.theta[c]) - shift
			sum += d
			square += d * d
		}
		one := deviation(sum, square, (t+1)*s.channels)
		for b := 0; b*s.size < len(u); b++ {
			var sigma [tensor.Lanes]float32
			for l := range sigma {
				sigma[l] = one * s.theta[b*tensor.Lanes+l]
			}
			kernel.GaussianSlope(u[b*s.size+t*tensor.Lanes:][:tensor.Lanes], &sigma)
		}
	}
}

// deviation returns the standard deviation of n values, or 1 if it is 0. It takes their sum and
// the sum of their squares, both less one of the values.
func deviation(sum, square float64, n int) float32 {
	if n > 1 {
		if s := math.Sqrt(max(0, square-sum*sum/float64(n)) / float64(n-1)); s > leastSigma {
			return float32(s)
		}
	}
	return 1
}
