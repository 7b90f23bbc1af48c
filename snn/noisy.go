package snn

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// NoisyLIF is a layer of LIF neurons with a noisy membrane potential (Ma, Yan, Tang: Exploiting
// noise as a resource for computation and learning in spiking neural networks, Patterns 2023). In
// every step, the current of every neuron gets noise from N(0, Std²), in training and in
// evaluation alike:
//
//	m ← Decay·m + x(t) + Std·N(0, 1)
//
// With LIF.DecayInput, noise and current both have the factor 1 − Decay.
//
// A network with such neurons is random. The noise of an image comes from its key in Pass.Keys.
// Gradients pass the noise as they are. [CBA] has no steps and therefore no noise. [Model.NewStream]
// refuses the layer.
type NoisyLIF struct {
	LIF *LIF
	Std float32 // σ ≥ 0, finite; 0 is no noise
}

// Name implements [Neuron].
func (n *NoisyLIF) Name() string { return n.LIF.Name() }

// Validate implements [Neuron].
func (n *NoisyLIF) Validate() error {
	if n.LIF == nil {
		return errors.New("noise of no neurons: expected a LIF")
	}
	if !(n.Std >= 0) || math.IsInf(float64(n.Std), 0) {
		return fmt.Errorf("noise of standard deviation %v: expected a finite number of at least 0", n.Std)
	}
	return n.LIF.Validate()
}

// Forward implements [Layer]. It adds the noise and calls the neurons.
func (n *NoisyLIF) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	if n.Std == 0 || ChangesForward(p.Gradient) {
		return n.LIF.Forward(p, x)
	}
	noisy := autograd.StraightThrough(p.Tape, x, p.Steps, p.keys(n.Name()+" noise"), func(v float32, r *rand.Rand) float32 {
		return v + float32(n.Std*float32(r.NormFloat64()))
	})
	y := n.LIF.Forward(p, noisy)
	p.Tape.Release(noisy)
	return y
}

// FireThroughTime implements [Neuron]. The currents x have their noise.
func (n *NoisyLIF) FireThroughTime(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value {
	return n.LIF.FireThroughTime(p, x, s)
}

// Describe implements [Layer]. The row of the noise is named after that of the neurons.
func (n *NoisyLIF) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	if err := n.Validate(); err != nil {
		return in, err
	}
	s.add(Row{Name: name + ".noise", Kind: fmt.Sprintf("noise σ=%v", n.Std), In: in, Out: in, Layer: n})
	return n.LIF.Describe(s, name, in)
}

// noiseSettings are the settings of the noise as JSON.
type noiseSettings struct {
	Std float32 `json:"std"`
}

// MarshalJSON returns the setting of the noise.
func (n *NoisyLIF) MarshalJSON() ([]byte, error) { return json.Marshal(noiseSettings{n.Std}) }

// UnmarshalJSON sets that of the noise. It returns an error if it is out of range.
func (n *NoisyLIF) UnmarshalJSON(text []byte) error {
	s := noiseSettings{float32(math.NaN())} // refused, if the text has no value
	if err := decode(text, &s); err != nil {
		return err
	}
	n.Std = s.Std
	return n.Validate()
}

// StochasticQuantization encodes images, or frames, in steps of 1/N (SQE, 2026). At every step
// each value v becomes ⌊N·v⌋/N or ⌈N·v⌉/N. It is the upper one with the probability N·v − ⌊N·v⌋,
// so that its mean is v. The gradient of a pixel is the sum of those of its steps. The random
// numbers of an image come from its key in Pass.Keys. [CBA] has no steps and takes the image as it
// is. [Model.NewStream] refuses the encoder.
type StochasticQuantization struct {
	Levels int // N ≥ 1
}

// Encode implements [Encoder]. It fails the pass if Levels is out of range.
func (e StochasticQuantization) Encode(p *Pass, x *autograd.Value) *autograd.Value {
	if e.Levels < 1 {
		p.Fail(fmt.Errorf("stochastic quantization to %d levels: expected at least 1", e.Levels))
		return x
	}
	levels := float32(e.Levels)
	return autograd.StraightThrough(p.Tape, x, p.Steps, p.keys("quantization"), func(v float32, r *rand.Rand) float32 {
		scaled := levels * v
		low := float32(math.Floor(float64(scaled)))
		if r.Float32() < scaled-low {
			low++
		}
		return low / levels
	})
}
