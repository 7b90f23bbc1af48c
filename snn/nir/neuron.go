package nir

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// values returns a field's values for the neurons of the shape in. The field has this shape, one
// value for all, or one for each channel.
func (b *builder) values(n *Node, field string, in []int) ([]float64, error) {
	a, err := n.numeric(field)
	if err != nil {
		return nil, err
	}
	neurons := 1
	for _, d := range in {
		neurons *= d
	}
	v := a.numbers()
	each := 0 // neurons that share a value
	switch {
	case slices.Equal(a.Shape, in):
		each = 1
	case len(v) == 1:
		each = neurons
	case len(a.Shape) == 1 && len(v) == in[0]:
		each = neurons / in[0]
	default:
		return nil, fmt.Errorf("field %s of shape %v for values of the shape %v", field, a.Shape, in)
	}
	if err := b.claim(int64(neurons), int64(len(v))); err != nil {
		return nil, fmt.Errorf("field %s: %w", field, err)
	}
	all := make([]float64, neurons)
	for i := range all {
		if all[i] = v[i/each]; math.IsNaN(all[i]) || math.IsInf(all[i], 0) {
			return nil, fmt.Errorf("field %s has the value %v: want finite numbers", field, all[i])
		}
	}
	return all, nil
}

// alike returns the shape in of neurons, or that of its channels if no field differs within a channel.
func (n *Node) alike(in []int) []int {
	for _, a := range n.Fields {
		if _, have := a.values(); have != 1 && !slices.Equal(a.Shape, in[:1]) {
			return in
		}
	}
	return in[:1]
}

// dynamics are the coefficients of neurons or integrators in discrete time, one for each neuron:
//
//	i ← α·i + κs·x,  v ← λ·v + κ·i + (1 − λ)·leak
//
// Without a synaptic current, α is 0 and κs 1.
type dynamics struct {
	alpha, inputGain, lambda, gain, leak, start []float64
}

// factor returns λ and 1 − λ for a time constant.
func (c *Config) factor(tau float64, field string) (lambda, gain float64, err error) {
	switch {
	case !(tau > 0):
		return 0, 0, fmt.Errorf("field %s has the value %v: want more than 0", field, tau)
	case c.Exponential:
		return math.Exp(-c.Dt / tau), -math.Expm1(-c.Dt / tau), nil
	case c.Dt > tau:
		return 0, 0, fmt.Errorf("field %s has the value %v, less than the time step %v: want a smaller step, or Exponential", field, tau, c.Dt)
	}
	return 1 - c.Dt/tau, c.Dt / tau, nil
}

// dynamics reads the equation of a node.
func (b *builder) dynamics(n *Node, in []int) (d dynamics, err error) {
	get := func(field string) (v []float64) {
		if err == nil {
			v, err = b.values(n, field, in)
		}
		return v
	}
	d.gain = get("r")
	one := func() []float64 { return slices.Repeat([]float64{1}, len(d.gain)) }
	zero := func() []float64 { return make([]float64, len(d.gain)) }
	d.alpha, d.inputGain, d.lambda, d.leak, d.start = zero(), one(), one(), zero(), zero()
	decay := func(field string, lambda, gain []float64) {
		tau := get(field)
		for i := range tau {
			if err != nil {
				return
			}
			var l, k float64
			l, k, err = b.cfg.factor(tau[i], field)
			lambda[i] = l
			gain[i] *= k
		}
	}
	switch n.Type {
	case "I", "IF":
		for i := range d.gain {
			d.gain[i] *= b.cfg.Dt
		}
	case "LI", "LIF":
		decay("tau", d.lambda, d.gain)
		d.leak = get("v_leak")
	case "CubaLI", "CubaLIF":
		decay("tau_mem", d.lambda, d.gain)
		decay("tau_syn", d.alpha, d.inputGain)
		d.leak = get("v_leak")
		if _, ok := n.Fields["w_in"]; ok {
			for i, w := range get("w_in") {
				d.inputGain[i] *= w
			}
		}
	}
	if err == nil && b.cfg.Start == AtLeak {
		copy(d.start, d.leak)
	}
	return d, err
}

// neuron returns spiking neurons. Their potential is the node's above v_leak, in units in which
// the input counts once. An input of r·x then needs no other weights, and thresholds are scaled.
func (b *builder) neuron(name string, n *Node, in []int) (snn.Layer, error) {
	if n.Type == "Threshold" {
		return b.threshold(name, n, in)
	}
	alike := n.alike(in)
	d, err := b.dynamics(n, alike)
	if err != nil {
		return nil, err
	}
	theta, err := b.values(n, "v_threshold", alike)
	if err != nil {
		return nil, err
	}
	reset := make([]float64, len(theta)) // v_reset is 0 in files of nir before version 1
	if _, ok := n.Fields["v_reset"]; ok {
		if reset, err = b.values(n, "v_reset", alike); err != nil {
			return nil, err
		}
	} else {
		b.note(name, "v_reset is not there and taken for 0")
	}
	if b.cfg.Start == AtReset {
		copy(d.start, reset)
	}
	units := make([]float64, len(theta)) // of the potential
	for i := range units {
		units[i] = d.inputGain[i] * d.gain[i]
		if !(units[i] > 0) {
			return nil, fmt.Errorf("its input counts %v times: want a factor above 0", units[i])
		}
		theta[i] = (theta[i] - d.leak[i]) / units[i]
		reset[i] = (reset[i] - d.leak[i]) / units[i]
		d.start[i] = (d.start[i] - d.leak[i]) / units[i]
	}
	if !b.cfg.AtThreshold {
		b.note(name, "fires above its threshold: at the next larger float32")
	}
	return b.fire(name, in, d, theta, reset)
}

// threshold returns neurons without a memory.
func (b *builder) threshold(name string, n *Node, in []int) (snn.Layer, error) {
	theta, err := b.values(n, "threshold", n.alike(in))
	if err != nil {
		return nil, err
	}
	zero := make([]float64, len(theta))
	return b.fire(name, in, dynamics{alpha: zero, lambda: zero, start: zero}, theta, zero)
}

// fire returns a LIF where its coefficients are those of all neurons and nothing else is needed,
// and a GLIF otherwise.
func (b *builder) fire(name string, in []int, d dynamics, theta, reset []float64) (snn.Layer, error) {
	p := &params{channels: in[0]}
	lambda, alpha := p.reduce("decay", d.lambda), p.reduce("synaptic decay", d.alpha)
	threshold := p.reduce("threshold", theta)
	for i, t := range threshold { // the smallest float32 that is above θ, or at it
		s := float32(t)
		at := math.Abs(float64(s)-t) <= 1e-12*math.Abs(t) // but for the rounding of t
		if at && !b.cfg.AtThreshold || !at && float64(s) < t {
			s = math.Nextafter32(s, float32(math.Inf(1)))
		}
		threshold[i] = float64(s)
	}
	v0, start := p.one("v_reset", reset), p.one("the potential at the start", d.start)
	if p.err != nil {
		return nil, p.err
	}
	soft := b.cfg.SoftReset
	if how, ok := b.nodes[name].Metadata[resetKey]; ok {
		if !slices.Equal(how.Texts, []string{subtract}) {
			return nil, fmt.Errorf("metadata %s is %q: want %s", resetKey, how.Texts, subtract)
		}
		soft = true
		b.note(name, "a spike lowers its potential by the threshold, as metadata %s says; NIR would set it to v_reset", resetKey)
	}
	if soft && v0 != 0 {
		return nil, errors.New("a soft reset, and a v_reset that is not v_leak (0 for an IF)")
	}
	base := snn.NewLIF(1)
	surrogate := b.cfg.Surrogate
	if surrogate == nil {
		surrogate = base.Surrogate
	}
	back := b.returns[name]
	if back == nil && len(lambda) == 1 && len(threshold) == 1 && slices.Equal(alpha, []float64{0}) && float32(lambda[0]) > 0 && threshold[0] > 0 {
		base.Decay, base.Threshold = float32(lambda[0]), float32(threshold[0])
		base.Reset, base.Start, base.SoftReset, base.Surrogate = v0, start, soft, surrogate
		return base, nil
	}
	l := &snn.GLIF{Threshold: p.fixed(threshold), Decay: p.fixed(lambda), Reset: v0, Start: start, SoftReset: soft, Surrogate: surrogate}
	if !slices.Equal(alpha, []float64{0}) {
		l.SynapticDecay = p.fixed(alpha)
	}
	switch {
	case back == nil:
	case back == b.nodes[name]:
		l.Recurrent = autograd.NewParam()
		l.Recurrent.Import([]float32{1})
	default:
		if len(in) != 1 {
			return nil, fmt.Errorf("spikes of the shape %v return through a %s: want one dimension", in, back.Type)
		}
		if back.Type == "Affine" {
			bias, err := back.numeric("bias")
			if err != nil {
				return nil, fmt.Errorf("its spikes return through an Affine: %w", err)
			}
			if slices.ContainsFunc(bias.numbers(), func(v float64) bool { return v != 0 }) {
				return nil, errors.New("its spikes return through an Affine with a bias: want none")
			}
		}
		w := back.Fields["weight"]
		if !slices.Equal(w.Shape, []int{in[0], in[0]}) {
			return nil, fmt.Errorf("its spikes return through a weight of shape %v: want %v", w.Shape, []int{in[0], in[0]})
		}
		l.Recurrent = autograd.NewParam(in[0], in[0])
		if err := set(l.Recurrent, w.numbers(), "weight"); err != nil {
			return nil, err
		}
	}
	if back != nil {
		b.note(name, "its spikes return in the next step")
	}
	return l, p.err
}

// params reduces values of neurons to those of channels, or to one.
type params struct {
	channels int
	err      error
}

// reduce returns one value for each channel, or one if all are equal.
func (p *params) reduce(what string, v []float64) []float64 {
	each := len(v) / p.channels
	channels := make([]float64, p.channels)
	for i, x := range v {
		if i%each == 0 {
			channels[i/each] = x
		} else if x != channels[i/each] && p.err == nil {
			p.err = fmt.Errorf("the %s of channel %d is %v at one pixel and %v at another: want one value for each channel", what, i/each, channels[i/each], x)
		}
	}
	if slices.Max(channels) == slices.Min(channels) {
		channels = channels[:1]
	}
	if _, err := float32s(channels, what); err != nil && p.err == nil {
		p.err = err
	}
	return channels
}

// one returns the value that all neurons have.
func (p *params) one(what string, v []float64) float32 {
	r := p.reduce(what, v)
	if len(r) > 1 && p.err == nil {
		p.err = fmt.Errorf("%s, in units of the input, is %v for one channel and %v for another: want one for all", what, slices.Min(r), slices.Max(r))
	}
	return float32(r[0])
}

// fixed returns a parameter that is not trained.
func (p *params) fixed(v []float64) *autograd.Param {
	shape := []int{len(v)}
	if len(v) == 1 {
		shape = nil
	}
	b := autograd.NewBuffer(shape...)
	if single, err := float32s(v, "parameter"); err == nil {
		b.Import(single)
	}
	return b
}
