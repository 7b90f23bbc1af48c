package train

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// potentials are the membrane potentials m⁻(t) of a layer before a spike. They are computed anew
// from the currents and the spikes.
type potentials struct {
	n     *snn.LIF
	x     *tensor.Dense  // the currents
	s     *tensor.Spikes // the output
	count float64        // of the potentials, over images, steps and neurons
}

// potentials returns those of the layer, which must be a [snn.LIF].
func (a *Activity) potentials() (potentials, error) {
	n, ok := a.Neuron.(*snn.LIF)
	if !ok || a.Spikes == nil {
		return potentials{}, fmt.Errorf("it has no membrane potentials of a %T in this pass, want a *snn.LIF under BPTT or BPTR", a.Neuron)
	}
	return potentials{n, a.Currents(), a.Spikes, float64(a.Spikes.Frames()) * float64(a.Spikes.Neurons())}, nil
}

// scan calls f for all potentials u, up to 16 of a pixel at a time, in a fixed order for each image and
// block. f adds their values to a sum, and scan returns the sum of these. With g, f also writes the
// derivatives of the values with respect to u. scan then writes to g the gradient with respect to the
// currents, in their shape. It goes through the leak from step to step, and takes the spikes as constants.
func (v potentials) scan(threads int, g *tensor.Dense, f func(sum float64, u, derivatives []float32) float64) float64 {
	n, x, s := v.n, v.x, v.s
	pixels := s.Pixels()
	frame := pixels * tensor.Lanes
	decay, gain := n.Decay, float32(1) // gain is that of the current
	if n.DecayInput {
		gain = 1 - decay
	}
	return sumParts(s.Blocks()*s.N, threads, func(unit int) (sum float64) { // blocks and images
		lanes := min(tensor.Lanes, s.C-unit/s.N*tensor.Lanes) // those that are no padding
		spikes := s.Bits[unit*s.Steps*pixels:]
		m := make([]float32, frame)
		var derivatives []float32
		if g != nil {
			derivatives = make([]float32, s.Steps*frame)
		}
		for k := range m {
			m[k] = n.Start
		}
		for t := range s.Steps {
			in := x.Data[(unit*x.Steps+min(t, x.Steps-1))*frame:][:frame]
			for p, fired := range spikes[t*pixels:][:pixels] {
				at := p * tensor.Lanes
				u, in := m[at:][:lanes], in[at:][:lanes]
				for k, i := range in {
					u[k] = float32(decay*u[k]) + float32(gain*i)
				}
				var d []float32
				if g != nil {
					d = derivatives[t*frame+at:][:lanes]
				}
				sum = f(sum, u, d)
				for ; fired != 0; fired &= fired - 1 {
					k := bits.TrailingZeros16(fired)
					if n.SoftReset {
						u[k] -= n.Threshold
					} else {
						u[k] = n.Reset
					}
				}
			}
		}
		if g == nil {
			return sum
		}
		clear(m) // now the gradient of the potential after the spike
		dst := g.Data[unit*x.Steps*frame:][:x.Steps*frame]
		clear(dst)
		for t := s.Steps - 1; t >= 0; t-- {
			if !n.SoftReset {
				for p, fired := range spikes[t*pixels:][:pixels] {
					for ; fired != 0; fired &= fired - 1 {
						m[p*tensor.Lanes+bits.TrailingZeros16(fired)] = 0
					}
				}
			}
			dst, m := dst[min(t, x.Steps-1)*frame:][:frame], m[:frame]
			for k, d := range derivatives[t*frame:][:frame] {
				d += m[k]
				dst[k] += float32(gain * d)
				m[k] = decay * d
			}
		}
		return sum
	})
}

// ThresholdPenalty is Weight times the mean of max(0, Margin − |m⁻(t) − θ|), over the membrane
// potentials m⁻(t) before a spike of the layer's images, steps and neurons. It keeps potentials
// away from the threshold θ, as in threshold guarding optimization. The layer is a [snn.LIF]. The
// gradient is as in [MembranePenalty].
type ThresholdPenalty struct {
	Layer  string  // as Of returns it
	Weight float64 // finite and positive
	Margin float64 // δ, finite and positive
	// Rising lets the weight rise with the training's progress p along a cosine, from 0 to Weight:
	// it is Weight·(1 − cos πp)/2.
	Rising bool
}

// MPDPenalty is Weight times the share of a normal distribution within Width of the threshold θ:
//
//	Φ((μ + Width)/σ) − Φ((μ − Width)/σ)
//
// Here μ and σ are the mean and the standard deviation of m⁻(t) − θ, over the membrane potentials
// before a spike of the layer's images, steps and neurons. With the width of the surrogate, it is
// about the share of the neurons that pass a gradient (MPD-SGR, AAAI 2026). It is 0, with a zero
// gradient, where σ is 0. The layer is a [snn.LIF]. The gradient is as in [MembranePenalty].
type MPDPenalty struct {
	Layer  string  // as Of returns it
	Weight float64 // finite and positive
	Width  float64 // γ, finite and positive
}

// MPPDPenalty compares the layer's input currents for the perturbed images, x(t), with those for
// the images before the adversary, x'(t). With Y before the first step 0, let
//
//	Y(t) = Decay·Y(t−1) + x'(t) − x(t)
//
// The penalty is Weight times the mean of Y(t)², or of |Y(t)| with L1, over images, steps and
// neurons. These are the ℓ2 and the TV-ℓ1 form of the membrane potential perturbation dynamics.
// x' counts as constant. The loss of the training must need the clean output, as [CleanMix] does.
type MPPDPenalty struct {
	Layer  string  // as Of returns it
	Weight float64 // α, finite and positive
	Decay  float64 // τ, in [0, 1]; the authors have 0.99
	L1     bool
}

// Of implements [Penalty].
func (p ThresholdPenalty) Of() string { return p.Layer }

// Of implements [Penalty].
func (p MPDPenalty) Of() string { return p.Layer }

// Of implements [Penalty].
func (p MPPDPenalty) Of() string { return p.Layer }

// Validate implements [Penalty].
func (p ThresholdPenalty) Validate() error {
	if !finite(p.Margin) || p.Margin <= 0 {
		return fmt.Errorf("ThresholdPenalty.Margin is %v, want a finite positive number", p.Margin)
	}
	return validateWeight("ThresholdPenalty", p.Weight)
}

// Validate implements [Penalty].
func (p MPDPenalty) Validate() error {
	if !finite(p.Width) || p.Width <= 0 {
		return fmt.Errorf("MPDPenalty.Width is %v, want a finite positive number", p.Width)
	}
	return validateWeight("MPDPenalty", p.Weight)
}

// Validate implements [Penalty].
func (p MPPDPenalty) Validate() error {
	if !(p.Decay >= 0 && p.Decay <= 1) {
		return fmt.Errorf("MPPDPenalty.Decay is %v, want a number in [0, 1]", p.Decay)
	}
	return validateWeight("MPPDPenalty", p.Weight)
}

// Penalize implements [Penalty].
func (p ThresholdPenalty) Penalize(a *Activity) (PenaltyValue, error) {
	v, err := a.potentials()
	if err != nil {
		return PenaltyValue{}, err
	}
	weight := p.Weight
	if p.Rising {
		weight *= (1 - math.Cos(math.Pi*a.Progress)) / 2
	}
	theta := float64(v.n.Threshold)
	g := a.NewGrad(v.x.Shape)
	slope := float32(weight / v.count)
	sum := v.scan(a.Threads(), g, func(sum float64, us, derivatives []float32) float64 {
		for k, u := range us {
			d := float64(u) - theta
			switch near := p.Margin - math.Abs(d); {
			case near <= 0:
				derivatives[k] = 0
			case d < 0:
				sum += near
				derivatives[k] = slope
			default:
				sum += near
				derivatives[k] = -slope
			}
		}
		return sum
	})
	return PenaltyValue{Value: weight * sum / v.count, Currents: g}, nil
}

// Penalize implements [Penalty].
func (p MPDPenalty) Penalize(a *Activity) (PenaltyValue, error) {
	v, err := a.potentials()
	if err != nil {
		return PenaltyValue{}, err
	}
	theta := float64(v.n.Threshold)
	mean := v.scan(a.Threads(), nil, func(sum float64, us, _ []float32) float64 {
		for _, u := range us {
			sum += float64(u) - theta
		}
		return sum
	}) / v.count
	variance := v.scan(a.Threads(), nil, func(sum float64, us, _ []float32) float64 {
		for _, u := range us {
			d := float64(u) - theta - mean
			sum += float64(d * d)
		}
		return sum
	}) / v.count
	sd := math.Sqrt(variance)
	if sd == 0 {
		return PenaltyValue{}, nil
	}
	high, low := (mean+p.Width)/sd, (mean-p.Width)/sd
	cumulative := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	density := func(x float64) float64 { return math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) }
	ofMean := p.Weight * (density(high) - density(low)) / sd
	ofSD := -p.Weight * (density(high)*high - density(low)*low) / sd
	g := a.NewGrad(v.x.Shape)
	v.scan(a.Threads(), g, func(_ float64, us, derivatives []float32) float64 {
		for k, u := range us {
			derivatives[k] = float32((ofMean + ofSD*(float64(u)-theta-mean)/sd) / v.count)
		}
		return 0
	})
	return PenaltyValue{Value: p.Weight * (cumulative(high) - cumulative(low)), Currents: g}, nil
}

// NeedsClean says that Penalize reads Activity.Clean.
func (MPPDPenalty) NeedsClean() bool { return true }

// needsClean reports whether a penalty reads Activity.Clean.
func needsClean(p Penalty) bool {
	c, ok := p.(interface{ NeedsClean() bool })
	return ok && c.NeedsClean()
}

// Penalize implements [Penalty].
func (p MPPDPenalty) Penalize(a *Activity) (PenaltyValue, error) {
	x, clean := a.Currents(), a.Clean
	if clean == nil {
		return PenaltyValue{}, errors.New("the layer did not fire in the pass over the clean images")
	}
	steps := x.Steps
	if a.Spikes != nil {
		steps = a.Spikes.Steps
	}
	g := a.NewGrad(x.Shape)
	count := float64(x.N*steps) * float64(x.Neurons())
	frame := x.Pixels() * tensor.Lanes
	value := sumParts(x.Blocks()*x.N, a.Threads(), func(unit int) (sum float64) { // blocks and images
		y, derivatives := make([]float64, frame), make([]float64, steps*frame)
		for t := range steps {
			perturbed := x.Data[(unit*x.Steps+min(t, x.Steps-1))*frame:]
			original := clean.Data[(unit*clean.Steps+min(t, clean.Steps-1))*frame:]
			for k := range y {
				y[k] = p.Decay*y[k] + float64(original[k]) - float64(perturbed[k])
				d := 2 * y[k]
				if p.L1 {
					sum += math.Abs(y[k])
					d = 0
					if y[k] != 0 {
						d = math.Copysign(1, y[k])
					}
				} else {
					sum += y[k] * y[k]
				}
				derivatives[t*frame+k] = p.Weight / count * d
			}
		}
		clear(y) // now the gradient of Y
		dst := g.Data[unit*x.Steps*frame:][:x.Steps*frame]
		clear(dst)
		for t := steps - 1; t >= 0; t-- {
			dst := dst[min(t, x.Steps-1)*frame:]
			for k := range y {
				y[k] = derivatives[t*frame+k] + p.Decay*y[k]
				dst[k] -= float32(y[k])
			}
		}
		return sum
	})
	return PenaltyValue{Value: p.Weight * value / count, Currents: g}, nil
}

// keepClean returns what a pass over the clean images calls for its layers of neurons. It copies
// the currents of the layers whose penalties need them. It is nil if no penalty does.
func (s *Step) keepClean(in *part) func(p *snn.Pass, n snn.Neuron, currents, output *autograd.Value) {
	penalties := s.t.cfg.Penalties
	if !slices.ContainsFunc(penalties, needsClean) {
		return nil
	}
	in.clean = map[string]*tensor.Dense{}
	return func(p *snn.Pass, n snn.Neuron, currents, _ *autograd.Value) {
		if !slices.ContainsFunc(penalties, func(q Penalty) bool { return needsClean(q) && isOf(q, n) }) {
			return
		}
		a := &Activity{tape: p.Tape, currents: currents}
		defer a.free()
		x := a.Currents()
		in.clean[n.Name()] = &tensor.Dense{Shape: x.Shape, Data: slices.Clone(x.Data)}
	}
}

// progress returns the share of the training's steps that are done.
func (s *Step) progress() float64 {
	batches := float64(s.t.loader.Batches())
	return (float64(s.Epoch) + float64(s.t.part.Steps)/batches) / float64(s.t.cfg.Epochs)
}
