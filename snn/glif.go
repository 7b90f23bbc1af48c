package snn

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// GLIF is a layer of leaky integrate-and-fire neurons with parameters. A parameter that is
// nil leaves its part out. [NewParamLIF], [NewPLIF], [NewALIF] and [NewCuBaLIF] return the
// neurons of the literature, and Recurrent makes each of them recurrent. With the current
// x(t), step t computes
//
//	i ← α·i + x(t) + R·s(t−1)              synaptic current
//	m ← λ·m + κ·i                          membrane potential
//	s(t) = 1 if m ≥ θ + b·a, else 0        spike
//	m ← Reset if s(t) = 1                  hard reset, or
//	m ← m − (θ + b·a)·s(t)                 with SoftReset
//	a ← ρ·a + (1 − ρ)·s(t)                 adaptation
//
// i, a and s are 0 before the first step, and m is Start. κ is 1, or 1 − λ with DecayInput.
//
// A parameter has the shape [], one value for the layer, or [C], one for each channel. It is
// fixed if its Trainable is false: autograd.NewBuffer makes a fixed one. In files and in
// [Row].Params, a fixed parameter of shape [] is a setting, and the others are tensors.
//
// λ, α and ρ are limited
// to [0,1] where they are used, as snnTorch does: beyond, they act as 0 or 1 and their
// gradient is zero. At 0 and 1 the gradient passes, so that a decay that begins at 1 can be
// trained. The other parameters can have any finite value. The values of parameters may change
// at any time, and a setting may be replaced by another one. A pass and Save return an error if
// another parameter is no longer that with which the network was built.
//
// Under [BPTR] a neuron that fired at least once passes the gradient of its output to its
// currents, and the parameters get no gradient. Under [CBA] the layer is a ReLU. A recurrent
// layer has neither: a pass under BPTR or CBA fails with an error that names the layer.
type GLIF struct {
	Threshold       *autograd.Param // θ, saved as threshold
	Decay           *autograd.Param // λ, saved as beta; nil with W
	W               *autograd.Param // saved as w; λ = 1 − σ(W) with the logistic function σ
	SynapticDecay   *autograd.Param // α, saved as alpha; nil for 0
	Adaptation      *autograd.Param // b, saved as adaptation; nil for 0
	AdaptationDecay *autograd.Param // ρ, saved as rho; nil without Adaptation
	// Recurrent is R, or nil for 0. With the shape [] or [C] a neuron's spikes return to
	// itself, and R is saved as V. With the shape [C, C] they return to the neurons of all
	// channels at the same pixel, and R is saved as recurrent.weight.
	Recurrent   *autograd.Param
	DecayInput  bool      // κ = 1 − λ
	Reset       float32   // the potential after a spike, without SoftReset
	Start       float32   // the potential before the first step
	SoftReset   bool      // a spike lowers the potential by the threshold
	DetachReset bool      // gradients do not cross the spike of the reset
	Surrogate   Surrogate // for BPTT

	name    string
	tensors *[glifParams]*autograd.Param // those in Row.Params, by their place in params; nil before Describe
}

// glifParams is the number of parameters that a GLIF can have.
const glifParams = 7

// scalar returns a parameter of shape [] with the value v.
func scalar(v float32, trainable bool) *autograd.Param {
	p := autograd.NewParam()
	p.Trainable = trainable
	p.Import([]float32{v})
	return p
}

// NewParamLIF returns LIF neurons with a trainable decay λ and a trainable threshold θ for each
// of c channels, or for the whole layer if c is 0. They begin at the given values. The reset is
// hard, and the surrogate a triangle of width 1. With a threshold just above θ, DetachReset and
// Arctan{2}, they are snnTorch's Leaky(learn_beta=True, learn_threshold=True,
// reset_mechanism="zero").
func NewParamLIF(c int, decay, threshold float32) *GLIF {
	vector := func(v float32) *autograd.Param {
		if c == 0 {
			return scalar(v, true)
		}
		p := autograd.NewParam(c)
		p.Fill(func(int) (float32, error) { return v, nil })
		return p
	}
	return &GLIF{Decay: vector(decay), Threshold: vector(threshold), Surrogate: Triangle{1}}
}

// NewPLIF returns parametric LIF neurons (Fang et al. 2021). The layer trains W, which begins
// at −ln(tau − 1), so that 1/τ = σ(W). tau is greater than 1, or NewModel returns an error.
// One step is
//
//	m ← m + (x − m)/τ
//
// The threshold is 1 and fixed, the reset is hard, and the surrogate a triangle of width 1.
// SpikingJelly's ParametricLIFNode(init_tau=tau) is the same with the surrogate Sigmoid{4}.
func NewPLIF(tau float32) *GLIF {
	return &GLIF{
		W: scalar(float32(-math.Log(float64(tau)-1)), true), Threshold: scalar(1, false),
		DecayInput: true, Surrogate: Triangle{1},
	}
}

// NewALIF returns LIF neurons with an adaptive threshold, θ + adaptation·a (Bellec et al.
// 2018). A spike raises a, which decays by adaptationDecay. The parameters are fixed, θ is 1,
// the reset is soft, and the surrogate a triangle of width 1. Sinabs' ALIF is the same with
// decay = exp(−1/tau_mem), adaptation = adapt_scale, adaptationDecay = exp(−1/tau_adapt), and
// DecayInput.
func NewALIF(decay, adaptation, adaptationDecay float32) *GLIF {
	return &GLIF{
		Decay: scalar(decay, false), Threshold: scalar(1, false),
		Adaptation: scalar(adaptation, false), AdaptationDecay: scalar(adaptationDecay, false),
		SoftReset: true, Surrogate: Triangle{1},
	}
}

// NewCuBaLIF returns current-based LIF neurons: the current decays by synapticDecay, and the
// potential by decay. The parameters are fixed, the threshold is 1, the reset is hard, and the
// surrogate a triangle of width 1. snnTorch's Synaptic(alpha=synapticDecay, beta=decay,
// reset_mechanism="zero", reset_delay=False) is the same with a threshold just above 1.
func NewCuBaLIF(synapticDecay, decay float32) *GLIF {
	return &GLIF{
		SynapticDecay: scalar(synapticDecay, false), Decay: scalar(decay, false), Threshold: scalar(1, false),
		Surrogate: Triangle{1},
	}
}

// named is a parameter, the last part of its name, and its symbol.
type named struct {
	name, symbol string
	p            *autograd.Param
	place        int  // among all that a GLIF can have
	setting      bool // whether it is a setting of one value
}

// params returns the parameters that are not nil.
func (n *GLIF) params() (ps []named) {
	recurrent := "V"
	if n.allToAll() {
		recurrent = "recurrent.weight"
	}
	for i, q := range [glifParams]named{
		{name: "beta", symbol: "λ", p: n.Decay}, {name: "w", symbol: "w", p: n.W}, {name: "threshold", symbol: "θ", p: n.Threshold},
		{name: "alpha", symbol: "α", p: n.SynapticDecay}, {name: "adaptation", symbol: "b", p: n.Adaptation},
		{name: "rho", symbol: "ρ", p: n.AdaptationDecay}, {name: recurrent, symbol: "R", p: n.Recurrent},
	} {
		if q.p == nil {
			continue
		}
		q.place, q.setting = i, !q.p.Trainable && len(q.p.Shape) == 0
		if n.tensors != nil && n.tensors[i] == q.p { // also if it is no longer trained
			q.setting = false
		}
		ps = append(ps, q)
	}
	return ps
}

// allToAll reports whether the spikes return to all channels.
func (n *GLIF) allToAll() bool { return n.Recurrent != nil && len(n.Recurrent.Shape) == 2 }

// Init draws recurrent weights of shape [C, C] from U(−1/√C, 1/√C), as PyTorch's linear layer
// does by default. The other parameters keep their values.
func (n *GLIF) Init(key rng.Key) {
	if n.allToAll() {
		(&Linear{Weight: n.Recurrent}).Init(key)
	}
}

// Name implements [Neuron].
func (n *GLIF) Name() string { return n.name }

// Validate implements [Neuron]. It also returns an error if parameters are missing, or contradict
// each other.
func (n *GLIF) Validate() error {
	switch {
	case n.Threshold == nil:
		return errors.New("no Threshold: expected a parameter")
	case (n.Decay == nil) == (n.W == nil):
		return errors.New("expected either Decay or W")
	case (n.Adaptation == nil) != (n.AdaptationDecay == nil):
		return errors.New("expected both Adaptation and AdaptationDecay, or neither")
	case n.Start-n.Start != 0:
		return fmt.Errorf("start at %v: expected a finite number", n.Start)
	case n.Reset-n.Reset != 0:
		return fmt.Errorf("reset to %v: expected a finite number", n.Reset)
	case n.SoftReset && n.Reset != 0:
		return fmt.Errorf("soft reset and a reset to %v: expected one of them", n.Reset)
	}
	if err := n.sameParams(); err != nil {
		return err
	}
	for _, q := range n.params() {
		if len(q.p.Shape) > 1 {
			continue // recurrent weights, which are checked like those of other layers
		}
		for _, v := range q.p.Data() {
			switch {
			case v-v == 0:
			case q.p == n.W:
				return fmt.Errorf("%s %v: expected a finite number (the tau of NewPLIF is greater than 1)", q.name, v)
			default:
				return fmt.Errorf("%s %v: expected a finite number", q.name, v)
			}
		}
	}
	return validateSurrogate(n.Surrogate)
}

// sameParams returns an error if parameters that are tensors are not those of Describe, which
// the optimizer and files have.
func (n *GLIF) sameParams() error {
	if n.tensors == nil {
		return nil
	}
	var have [glifParams]named
	for _, q := range n.params() {
		if !q.setting {
			have[q.place] = q
		}
	}
	for i, p := range n.tensors {
		if q := have[i]; q.p != p {
			if q.p == nil {
				q.name = strings.TrimPrefix(p.Name, n.name+".")
			}
			return fmt.Errorf("parameter %s was replaced, added, removed or made trainable after the network was built: expected that before, or a new network", q.name)
		}
	}
	return nil
}

// Forward implements [Layer].
func (n *GLIF) Forward(p *Pass, x *autograd.Value) *autograd.Value { return Fire(p, n, x) }

// FireThroughTime implements [Neuron].
func (n *GLIF) FireThroughTime(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value {
	if s == nil {
		s = n.Surrogate
	}
	if n.allToAll() {
		return autograd.FireGLIFRecurrent(p.Tape, x, n.Dynamics(), n.Recurrent, p.Steps, s, n.DetachReset)
	}
	return autograd.FireGLIFThroughTime(p.Tape, x, n.Dynamics(), p.Steps, s, n.DetachReset)
}

// FireThroughRate implements [RateNeuron]. It fails if the layer is recurrent.
func (n *GLIF) FireThroughRate(p *Pass, x *autograd.Value) *autograd.Value {
	if n.Recurrent != nil {
		p.Fail(fmt.Errorf("layer %s: BPTR of a recurrent layer (%s): the rate has no rule for spikes that return; expected another gradient", n.name, n.Kind()))
	}
	return autograd.FireGLIFThroughRate(p.Tape, x, n.Dynamics(), p.Steps)
}

// Thresholds implements [ThresholdNeuron]. An adaptation does not count.
func (n *GLIF) Thresholds() []float32 { return n.Threshold.Export() }

// FireThroughCurrent implements [CurrentNeuron]. It fails if the layer is recurrent.
func (n *GLIF) FireThroughCurrent(p *Pass, x *autograd.Value) *autograd.Value {
	if n.Recurrent != nil {
		p.Fail(fmt.Errorf("layer %s: RGA of a recurrent layer (%s): the mean current has no rule for spikes that return; expected another gradient", n.name, n.Kind()))
	}
	return autograd.FireGLIFThroughCurrent(p.Tape, x, n.Dynamics(), p.Steps)
}

// FireStepwise implements [StepwiseNeuron]. It fails if the spikes return to all channels.
func (n *GLIF) FireStepwise(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value {
	if n.allToAll() {
		p.Fail(fmt.Errorf("layer %s: HART of a recurrent layer (%s): no gradient passes from one step to another; expected another gradient", n.name, n.Kind()))
	}
	return autograd.FireGLIFStepwise(p.Tape, x, n.Dynamics(), p.Steps, s)
}

// Dynamics returns the coefficients that a step computes with. Those of a parameter of shape
// [] have one value.
func (n *GLIF) Dynamics() autograd.GLIF {
	of := func(p *autograd.Param, f func(float32) float32) []float32 {
		if p == nil {
			return nil
		}
		v := p.Export()
		for i := range v {
			v[i] = f(v[i])
		}
		return v
	}
	same := func(v float32) float32 { return v }
	d := autograd.GLIF{
		Decay: of(n.Decay, limit), Threshold: of(n.Threshold, same), SynapticDecay: of(n.SynapticDecay, limit),
		Adaptation: of(n.Adaptation, same), AdaptationDecay: of(n.AdaptationDecay, limit), SoftReset: n.SoftReset,
		Reset: unlessZero(n.Reset), Start: unlessZero(n.Start), Chain: n.addGrads,
	}
	if n.W != nil {
		d.Decay = of(n.W, func(w float32) float32 { return 1 - logistic(w) })
	}
	if n.DecayInput && n.W != nil {
		d.Gain = of(n.W, logistic)
	} else if n.DecayInput {
		d.Gain = of(n.Decay, func(v float32) float32 { return 1 - limit(v) })
	}
	if !n.allToAll() {
		d.Recurrence = of(n.Recurrent, same)
	}
	for _, q := range n.params() {
		if q.p.Trainable && (q.p != n.Recurrent || !n.allToAll()) {
			d.Params = append(d.Params, q.p)
		}
	}
	return d
}

// limit returns v in [0,1].
func limit(v float32) float32 { return min(max(v, 0), 1) }

func logistic(w float32) float32 { return float32(1 / (1 + math.Exp(-float64(w)))) }

// unlessZero returns v as a coefficient, or nil if it is 0.
func unlessZero(v float32) []float32 {
	if v == 0 {
		return nil
	}
	return []float32{v}
}

// addGrads adds the gradients with respect to the coefficients to those of the parameters.
func (n *GLIF) addGrads(g autograd.GLIFGrads) {
	// add gives p the gradient d, times f of its values.
	add := func(p *autograd.Param, d []float64, f func(v float64) float64) {
		if p == nil || !p.Trainable {
			return
		}
		sum := make([]float64, len(d))
		for i, v := range p.Export() {
			sum[i] = d[i] * f(float64(v))
		}
		p.AddGrad(sum)
	}
	same := func(float64) float64 { return 1 }
	inside := func(v float64) float64 { // the derivative of limit
		if v < 0 || v > 1 {
			return 0
		}
		return 1
	}
	leak := g.Decay
	if n.DecayInput { // the gain is 1 − decay
		leak = make([]float64, len(g.Decay))
		for i := range leak {
			leak[i] = g.Decay[i] - g.Gain[i]
		}
	}
	add(n.Decay, leak, inside)
	add(n.W, leak, func(w float64) float64 {
		s := 1 / (1 + math.Exp(-w))
		return -s * (1 - s)
	})
	add(n.Threshold, g.Threshold, same)
	add(n.SynapticDecay, g.SynapticDecay, inside)
	add(n.Adaptation, g.Adaptation, same)
	add(n.AdaptationDecay, g.AdaptationDecay, inside)
	if !n.allToAll() {
		add(n.Recurrent, g.Recurrence, same)
	}
}

// FireAsReLU implements [ReLUNeuron]. It fails if the layer is recurrent.
func (n *GLIF) FireAsReLU(p *Pass, x *autograd.Value) *autograd.Value {
	if n.Recurrent != nil {
		p.Fail(fmt.Errorf("layer %s: CBA of a recurrent layer (%s): a network without time has no step before; expected another gradient", n.name, n.Kind()))
	}
	return autograd.ReLU(p.Tape, x)
}

// Kind returns what the neurons are, with their settings of one value, such as PLIF θ=1.
func (n *GLIF) Kind() string {
	kind := "LIF"
	if n.W != nil {
		kind = "PLIF"
	}
	if n.Adaptation != nil {
		kind = "A" + kind
	}
	if n.SynapticDecay != nil {
		kind = "CuBa-" + kind
	}
	switch {
	case n.allToAll():
		kind = "recurrent " + kind
	case n.Recurrent != nil:
		kind = "self-recurrent " + kind
	}
	for _, q := range n.params() {
		if q.setting {
			kind += fmt.Sprintf(" %s=%v", q.symbol, q.p.Data()[0])
		}
	}
	if n.Reset != 0 {
		kind += fmt.Sprintf(" reset to %v", n.Reset)
	}
	if n.Start != 0 {
		kind += fmt.Sprintf(" start at %v", n.Start)
	}
	return kind
}

// Describe implements [Layer].
func (n *GLIF) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	n.name, n.tensors = name, nil
	if err := n.Validate(); err != nil {
		return in, err
	}
	tensors := new([glifParams]*autograd.Param)
	row := Row{Name: name, Kind: n.Kind(), In: in, Out: in, Neurons: in.Neurons(), Layer: n}
	for _, q := range n.params() {
		sh := q.p.Shape
		if q.p == n.Recurrent && n.allToAll() {
			if sh[0] != in.C || sh[1] != in.C {
				return in, fmt.Errorf("recurrent weights of shape %v: expected [%d %d]", sh, in.C, in.C)
			}
			row.MACs = q.p.Len() * in.Pixels()
		} else if len(sh) > 1 || len(sh) == 1 && sh[0] != in.C {
			return in, fmt.Errorf("%s of shape %v: expected [] or [%d]", q.name, sh, in.C)
		}
		if q.p.Name = join(name, q.name); !q.setting {
			row.Params = append(row.Params, q.p)
			tensors[q.place] = q.p
		}
	}
	n.tensors = tensors
	s.add(row)
	return in, nil
}

// glifSettings are the settings of a GLIF as JSON.
type glifSettings struct {
	Fixed map[string]float32 `json:"fixed,omitempty"` // by the last part of the parameter's name

	DecayInput  bool    `json:"decay_input,omitempty"`
	Reset       float32 `json:"reset,omitempty"`
	Start       float32 `json:"start,omitempty"`
	SoftReset   bool    `json:"soft_reset,omitempty"`
	DetachReset bool    `json:"detach_reset,omitempty"`
	Surrogate   string  `json:"surrogate"`
}

// MarshalJSON returns the settings. A surrogate of NewSurrogate is what its String returns.
// Another one is its Go type, which UnmarshalJSON refuses. MarshalJSON returns an error if
// parameters are not those of the network that was built.
func (n *GLIF) MarshalJSON() ([]byte, error) {
	if err := n.sameParams(); err != nil {
		return nil, err
	}
	fixed := map[string]float32{}
	for _, q := range n.params() {
		if q.setting {
			fixed[q.name] = q.p.Data()[0]
		}
	}
	return json.Marshal(glifSettings{fixed, n.DecayInput, n.Reset, n.Start, n.SoftReset, n.DetachReset, surrogateName(n.Surrogate)})
}

// UnmarshalJSON sets the settings. It returns an error if a setting is out of range, if other
// parameters are fixed, or if NewSurrogate does not know the surrogate.
func (n *GLIF) UnmarshalJSON(text []byte) error {
	var s glifSettings
	if err := decode(text, &s); err != nil {
		return err
	}
	surrogate, err := parseSurrogate(s.Surrogate)
	if err != nil {
		return err
	}
	var fixed []named
	for _, q := range n.params() {
		if q.setting {
			fixed = append(fixed, q)
		}
		if _, ok := s.Fixed[q.name]; ok != q.setting {
			return fmt.Errorf("parameter %s: fixed for the whole layer there: %v, here: %v", q.name, ok, q.setting)
		}
	}
	if len(fixed) != len(s.Fixed) {
		return fmt.Errorf("fixed parameters %v: expected %d of them", slices.Sorted(maps.Keys(s.Fixed)), len(fixed))
	}
	for _, q := range fixed {
		q.p.Import([]float32{s.Fixed[q.name]})
	}
	n.DecayInput, n.Reset, n.Start, n.SoftReset, n.DetachReset, n.Surrogate = s.DecayInput, s.Reset, s.Start, s.SoftReset, s.DetachReset, surrogate
	return n.Validate()
}
