package snn

import (
	"errors"
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// Neuron is a layer of spiking neurons. Its Forward is usually a call of [Fire]. The page
// docs/extend.md shows how to write one.
type Neuron interface {
	Layer
	// Name returns the layer's name in its model, such as features.2. It is the name that
	// Describe was given.
	Name() string
	// Validate returns an error that names the setting that is out of range.
	Validate() error
	// FireThroughTime records the neurons with the currents x, and returns their spikes.
	// The backward pass is backpropagation through time with the surrogate s, or with the
	// neuron's own if s is nil. x has p.Steps steps, or one step that stands for all.
	FireThroughTime(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value
}

// RateNeuron is a neuron with a backward pass through its firing rate. [BPTR] needs it.
type RateNeuron interface {
	Neuron
	// FireThroughRate is FireThroughTime with the backward pass of BPTR.
	FireThroughRate(p *Pass, x *autograd.Value) *autograd.Value
}

// ThresholdNeuron is a neuron that knows its threshold. [PDSG], [ASSG] and a [BPTT] with
// Relative need it. They hand FireThroughTime a surrogate that may be an
// [autograd.BlockSurrogate], which FireThroughTime passes on to an operation that takes one.
type ThresholdNeuron interface {
	Neuron
	// Thresholds returns the threshold of every channel, or one value for all. They are
	// positive, or the gradient fails the pass.
	Thresholds() []float32
}

// CurrentNeuron is a neuron with a backward pass through its mean current. [RGA] needs it.
type CurrentNeuron interface {
	ThresholdNeuron
	// FireThroughCurrent is FireThroughTime with the backward pass of RGA.
	FireThroughCurrent(p *Pass, x *autograd.Value) *autograd.Value
}

// StepwiseNeuron is a neuron with a backward pass in which each step counts alone. [HART] needs
// it.
type StepwiseNeuron interface {
	ThresholdNeuron
	// FireStepwise is FireThroughTime with the backward pass of HART. s is a function of the
	// membrane potential minus the threshold.
	FireStepwise(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value
}

// ReLUNeuron is a neuron that says itself what it is in the network without time of [CBA].
// Other neurons are a ReLU there.
type ReLUNeuron interface {
	Neuron
	// FireAsReLU records that network's function of the currents x.
	FireAsReLU(p *Pass, x *autograd.Value) *autograd.Value
}

// Fire runs the neurons n in the pass p and returns their output. It is what Forward of a
// neuron calls. p's gradient decides how the neurons fire; in a [Stream], they run one step.
// Fire fails the pass if a current or membrane potential is not finite, and calls p.OnSpikes
// and p.OnNeurons.
func Fire(p *Pass, n Neuron, x *autograd.Value) *autograd.Value {
	outer := p.Tape.Layer
	p.Tape.Layer = n.Name()
	var y *autograd.Value
	if p.stream != nil {
		y = p.stream.fire(n, x)
	} else {
		y = p.Gradient.Fire(p, n, x)
	}
	p.Tape.Layer = outer
	if p.Tape.TakeNonFinite() {
		p.Fail(fmt.Errorf("layer %s: a current or membrane potential is not a finite number", n.Name()))
	}
	if p.OnSpikes != nil {
		if s := y.Spikes(); s != nil {
			p.OnSpikes(n.Name(), s)
		}
	}
	if p.OnNeurons != nil {
		p.OnNeurons(p, n, x, y)
	}
	return y
}

// LIF is a layer of leaky integrate-and-fire neurons in discrete time (Eq. 1–3 of Ding et
// al. 2022). The membrane potential m is Start before the first step. With the current x(t),
// step t computes
//
//	m ← Decay·m + x(t), or m ← Decay·m + (1 − Decay)·x(t) with DecayInput
//	s(t) = 1 if m ≥ Threshold, else 0
//	m ← Reset if s(t) = 1, or m ← m − Threshold·s(t) with SoftReset
//
// The output is the spikes s(t). The paper stores Decay·m where m is stored here, and has the
// same spikes. Under [CBA] the layer is a ReLU.
type LIF struct {
	Decay       float32   // λ in (0,1], the factor that m keeps in a step; 1 for the IF neuron
	Threshold   float32   // θ > 0
	Reset       float32   // the value of m after a spike, without SoftReset
	Start       float32   // the value of m before the first step
	SoftReset   bool      // a spike lowers m by Threshold, instead of setting it to Reset
	DecayInput  bool      // the current counts 1 − Decay times
	DetachReset bool      // gradients do not cross the reset
	Surrogate   Surrogate // for BPTT

	name string
}

// NewIF returns the neurons of Ding et al. 2022: Decay 1, Threshold 1, hard reset, and a
// triangle surrogate of width 1.
func NewIF() *LIF { return NewLIF(1) }

// NewLIF returns the neurons of NewIF with another Decay, in (0,1].
func NewLIF(decay float32) *LIF {
	return &LIF{Decay: decay, Threshold: 1, Surrogate: Triangle{1}}
}

func (n *LIF) dynamics() autograd.Dynamics {
	return autograd.Dynamics{Decay: n.Decay, Threshold: n.Threshold, SoftReset: n.SoftReset}
}

// special reports whether the neurons have a setting that dynamics has no place for.
func (n *LIF) special() bool { return n.Reset != 0 || n.Start != 0 || n.DecayInput }

// general returns the dynamics with all settings.
func (n *LIF) general() autograd.GLIF {
	g := autograd.GLIF{
		Decay: []float32{n.Decay}, Threshold: []float32{n.Threshold}, SoftReset: n.SoftReset,
		Reset: unlessZero(n.Reset), Start: unlessZero(n.Start),
	}
	if n.DecayInput {
		g.Gain = []float32{1 - n.Decay}
	}
	return g
}

// Name returns the layer's name in its model, such as features.2. It is empty before
// NewModel.
func (n *LIF) Name() string { return n.name }

// Validate returns an error that names the field that is out of range.
func (n *LIF) Validate() error {
	switch {
	case !(n.Decay > 0 && n.Decay <= 1):
		return fmt.Errorf("decay %v: expected a number in (0, 1]", n.Decay)
	case !(n.Threshold > 0) || math.IsInf(float64(n.Threshold), 0):
		return fmt.Errorf("threshold %v: expected a positive number", n.Threshold)
	case !(n.Reset < n.Threshold) || math.IsInf(float64(n.Reset), 0):
		return fmt.Errorf("reset to %v: expected a number below the threshold, %v", n.Reset, n.Threshold)
	case n.Start-n.Start != 0:
		return fmt.Errorf("start at %v: expected a finite number", n.Start)
	case n.SoftReset && n.Reset != 0:
		return fmt.Errorf("soft reset and a reset to %v: expected one of them", n.Reset)
	case n.DecayInput && n.Decay == 1:
		return errors.New("decay 1 with DecayInput: no current would count; expected a decay below 1")
	}
	return validateSurrogate(n.Surrogate)
}

// Forward implements [Layer].
func (n *LIF) Forward(p *Pass, x *autograd.Value) *autograd.Value { return Fire(p, n, x) }

// FireThroughTime implements [Neuron].
func (n *LIF) FireThroughTime(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value {
	if s == nil {
		s = n.Surrogate
	}
	if n.special() {
		return autograd.FireGLIFThroughTime(p.Tape, x, n.general(), p.Steps, s, n.DetachReset)
	}
	return autograd.FireThroughTime(p.Tape, x, n.dynamics(), p.Steps, s, n.DetachReset)
}

// FireThroughRate implements [RateNeuron].
func (n *LIF) FireThroughRate(p *Pass, x *autograd.Value) *autograd.Value {
	if n.special() {
		return autograd.FireGLIFThroughRate(p.Tape, x, n.general(), p.Steps)
	}
	return autograd.FireThroughRate(p.Tape, x, n.dynamics(), p.Steps)
}

// Thresholds implements [ThresholdNeuron].
func (n *LIF) Thresholds() []float32 { return []float32{n.Threshold} }

// FireThroughCurrent implements [CurrentNeuron].
func (n *LIF) FireThroughCurrent(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.FireGLIFThroughCurrent(p.Tape, x, n.general(), p.Steps)
}

// FireStepwise implements [StepwiseNeuron].
func (n *LIF) FireStepwise(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value {
	return autograd.FireGLIFStepwise(p.Tape, x, n.general(), p.Steps, s)
}

// Describe implements [Layer].
func (n *LIF) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	n.name = name
	kind := "IF"
	if n.Decay != 1 {
		kind = fmt.Sprintf("LIF λ=%v", n.Decay)
	}
	if n.Threshold != 1 {
		kind += fmt.Sprintf(" θ=%v", n.Threshold)
	}
	if n.Reset != 0 {
		kind += fmt.Sprintf(" reset to %v", n.Reset)
	}
	if n.Start != 0 {
		kind += fmt.Sprintf(" start at %v", n.Start)
	}
	s.add(Row{Name: name, Kind: kind, In: in, Out: in, Neurons: in.Neurons(), Layer: n})
	return in, n.Validate()
}
