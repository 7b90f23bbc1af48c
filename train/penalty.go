package train

import (
	"fmt"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Penalty is a function of what a layer of neurons does, which a training adds to its loss.
// [RatePenalty], [CurrentPenalty], [MembranePenalty], [ThresholdPenalty], [MPDPenalty] and
// [MPPDPenalty] are penalties. A penalty is a value without state, and its settings are exported
// fields.
type Penalty interface {
	// Validate returns an error that names the first field out of its range.
	Validate() error
	// Of returns the name of the layer, such as features.2, or "" for every layer of
	// neurons. The penalties of several layers add up.
	Of() string
	// Penalize returns the penalty of a layer for the images that the network trains on.
	// An error ends the training, and so does a value or a gradient that is not a finite
	// number. The error then names the penalty and the layer.
	Penalize(a *Activity) (PenaltyValue, error)
}

// PenaltyValue is the value of a [Penalty] for a batch, with its gradient.
type PenaltyValue struct {
	Value float64
	// Currents and Spikes are the gradients of Value with respect to the currents and the
	// spikes of the layer, or nil for zero. Each has the shape of what it is the gradient
	// of, or one step if it is the same at every step. The padding is zero.
	Currents, Spikes *tensor.Dense
}

// Activity is what a layer of neurons does in a pass of a training.
type Activity struct {
	Neuron snn.Neuron // the layer
	// Spikes is the output of the layer. It is nil if the output is not spikes, as under
	// snn.CBA.
	Spikes *tensor.Spikes

	// Clean holds the input currents of the layer for the images before the adversary, with the
	// shape of those of Currents but for the number of steps. It is nil unless the penalty has the
	// method NeedsClean() bool and it returns true. [New] refuses such a penalty without a loss
	// that needs the clean output.
	Clean *tensor.Dense
	// Progress is the share of the training's steps that are done, in [0, 1).
	Progress float64

	tape     *autograd.Tape
	currents *autograd.Value
	scratch  []*tensor.Dense
}

// Currents returns the input currents of the layer. They have the steps of the pass, or one
// step if they are the same at every step. They are zeros and ones if they are the spikes of
// a layer before, or binary frames. The caller must not change them.
func (a *Activity) Currents() *tensor.Dense {
	s := a.currents.Spikes()
	if s == nil {
		return a.currents.Dense()
	}
	d := a.NewGrad(s.Shape)
	kernel.Densify(d.Data, s.Bits, a.Threads())
	return d
}

// Threads returns the most goroutines that Penalize may use, or 0 for GOMAXPROCS.
func (a *Activity) Threads() int { return a.tape.Threads }

// NewGrad returns memory for a gradient of shape s. It is not cleared, and it is taken back
// after Penalize.
func (a *Activity) NewGrad(s tensor.Shape) *tensor.Dense {
	d := &tensor.Dense{Shape: s, Data: a.tape.Scratch(s.Floats())}
	a.scratch = append(a.scratch, d)
	return d
}

// free takes back the memory of NewGrad.
func (a *Activity) free() {
	for _, d := range a.scratch {
		a.tape.FreeScratch(d.Data)
	}
}

// isOf reports whether p is a penalty of the layer n.
func isOf(p Penalty, n snn.Neuron) bool { return p.Of() == "" || p.Of() == n.Name() }

// RatePenalty is Weight·(r − Target)². Here r is the firing rate of the layer, the mean
// number of spikes per neuron and step of the batch. With Target 0 it makes a network fire
// less.
type RatePenalty struct {
	Layer  string  // as Of returns it
	Weight float64 // finite and positive
	Target float64 // in [0, 1]
}

// CurrentPenalty is Weight times the mean of the squared input currents of the layer, over
// images, steps and neurons.
type CurrentPenalty struct {
	Layer  string  // as Of returns it
	Weight float64 // finite and positive
}

// MembranePenalty is Weight times the mean of the squared membrane potentials m⁻(t) of the
// layer before a spike, over images, steps and neurons. The layer is a [snn.LIF]. The gradient
// goes through the leak from step to step, and takes the spikes as constants.
type MembranePenalty struct {
	Layer  string  // as Of returns it
	Weight float64 // finite and positive
}

// Of implements [Penalty].
func (p RatePenalty) Of() string { return p.Layer }

// Of implements [Penalty].
func (p CurrentPenalty) Of() string { return p.Layer }

// Of implements [Penalty].
func (p MembranePenalty) Of() string { return p.Layer }

// Validate implements [Penalty].
func (p RatePenalty) Validate() error {
	if !(p.Target >= 0 && p.Target <= 1) {
		return fmt.Errorf("RatePenalty.Target is %v, want a number in [0, 1]", p.Target)
	}
	return validateWeight("RatePenalty", p.Weight)
}

// Validate implements [Penalty].
func (p CurrentPenalty) Validate() error { return validateWeight("CurrentPenalty", p.Weight) }

// Validate implements [Penalty].
func (p MembranePenalty) Validate() error { return validateWeight("MembranePenalty", p.Weight) }

func validateWeight(of string, w float64) error {
	if !finite(w) || w <= 0 {
		return fmt.Errorf("%s.Weight is %v, want a finite positive number", of, w)
	}
	return nil
}

// Penalize implements [Penalty].
func (p RatePenalty) Penalize(a *Activity) (PenaltyValue, error) {
	s := a.Spikes
	if s == nil {
		return PenaltyValue{}, fmt.Errorf("the layer has no spikes in this pass, want another Config.Gradient")
	}
	count := float64(s.Frames()) * float64(s.Neurons())
	d := float64(s.Count())/count - p.Target
	g := a.NewGrad(s.WithSteps(1))
	constant(g, float32(2*p.Weight*d/count), a.Threads())
	return PenaltyValue{Value: p.Weight * d * d, Spikes: g}, nil
}

// constant sets all of d except its padding to v.
func constant(d *tensor.Dense, v float32, threads int) {
	block := d.Frames() * d.Pixels() * tensor.Lanes
	parallel.For(threads, d.Blocks(), func(b int) {
		lanes := min(tensor.Lanes, d.C-b*tensor.Lanes)
		for i, data := 0, d.Data[b*block:][:block]; i < block; i++ {
			data[i] = 0
			if i%tensor.Lanes < lanes {
				data[i] = v
			}
		}
	})
}

// Penalize implements [Penalty].
func (p CurrentPenalty) Penalize(a *Activity) (PenaltyValue, error) {
	x := a.Currents()
	g := a.NewGrad(x.Shape)
	count := float64(x.Frames()) * float64(x.Neurons())
	factor := 2 * p.Weight / count
	value := sumParts(x.Blocks()*x.Frames(), a.Threads(), func(i int) (sum float64) {
		part := x.Pixels() * tensor.Lanes
		dst := g.Data[i*part:][:part]
		for k, v := range x.Data[i*part:][:part] {
			sum += float64(v) * float64(v)
			dst[k] = float32(factor * float64(v))
		}
		return sum
	})
	return PenaltyValue{Value: p.Weight * value / count, Currents: g}, nil
}

// Penalize implements [Penalty].
func (p MembranePenalty) Penalize(a *Activity) (PenaltyValue, error) {
	v, err := a.potentials()
	if err != nil {
		return PenaltyValue{}, err
	}
	g := a.NewGrad(v.x.Shape)
	factor := 2 * p.Weight / v.count
	sum := v.scan(a.Threads(), g, func(sum float64, us, derivatives []float32) float64 {
		for k, u := range us {
			sum += float64(u) * float64(u)
			derivatives[k] = float32(factor * float64(u))
		}
		return sum
	})
	return PenaltyValue{Value: p.Weight * sum / v.count, Currents: g}, nil
}

// sumParts returns the sum of part(i) for i < n, in that order. It calls part from several
// goroutines.
func sumParts(n, threads int, part func(i int) float64) (sum float64) {
	sums := make([]float64, n)
	parallel.For(threads, n, func(i int) { sums[i] = part(i) })
	for _, v := range sums {
		sum += v
	}
	return sum
}

// validatePenalties returns an error that names the first penalty whose settings are out of
// range, or whose layer the model does not have.
func validatePenalties(ps []Penalty, loss Loss, m *snn.Model) error {
	var layers []string
	for _, r := range m.Summary().Rows {
		if r.Neurons > 0 {
			layers = append(layers, r.Name)
		}
	}
	for i, p := range ps {
		name := fmt.Sprintf("train: Config.Penalties[%d]", i)
		if p == nil {
			return fmt.Errorf("%s is nil, want one such as RatePenalty{Weight: 0.1}", name)
		}
		if err := p.Validate(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if needsClean(p) && !loss.NeedsClean() {
			return fmt.Errorf("%s: %T compares with the clean images: want a loss that needs them, such as CleanMix, not %s", name, p, lossName(loss))
		}
		known := len(layers) > 0 && p.Of() == ""
		for _, l := range layers {
			known = known || l == p.Of()
		}
		if !known {
			return fmt.Errorf("%s: %T: the model has no layer of neurons %q, want one of %s", name, p, p.Of(), strings.Join(layers, ", "))
		}
	}
	return nil
}

// penalize adds the penalties of a layer to the gradients of its values, times the share of the
// batch that the part is. It returns the sum of the penalties.
func (s *Step) penalize(of *part, pass *snn.Pass, n snn.Neuron, currents, output *autograd.Value) (sum float64, err error) {
	ps, share := s.t.cfg.Penalties, float64(of.hi-of.lo)/float64(s.images)
	for _, p := range ps {
		if !isOf(p, n) {
			continue
		}
		a := &Activity{Neuron: n, tape: pass.Tape, currents: currents, Spikes: output.Spikes(), Progress: s.progress()}
		if needsClean(p) {
			a.Clean = of.clean[n.Name()]
		}
		c, err := p.Penalize(a)
		if err == nil && !finite(c.Value) {
			err = fmt.Errorf("its value is %v, want a finite number", c.Value)
		}
		if err == nil {
			err = a.add("currents", currents, c.Currents, share)
		}
		if err == nil {
			err = a.add("spikes", output, c.Spikes, share)
		}
		if err != nil {
			return 0, fmt.Errorf("penalty %T of layer %s: %w", p, n.Name(), err)
		}
		a.free()
		sum += c.Value
	}
	return sum, nil
}

// add adds share·g to the gradient of v.
func (a *Activity) add(of string, v *autograd.Value, g *tensor.Dense, share float64) error {
	if g == nil {
		return nil
	}
	if g.Shape != v.Shape().WithSteps(g.Steps) || g.Steps != 1 && g.Steps != v.Shape().Steps {
		return fmt.Errorf("its gradient of the %s is %v, want %v, or that with one step", of, g.Shape, v.Shape())
	}
	if len(g.Data) != g.Floats() {
		return fmt.Errorf("its gradient of the %s has %d values, want %d for %v", of, len(g.Data), g.Floats(), g.Shape)
	}
	if !kernel.Finite(g.Data, a.tape.Threads) {
		return fmt.Errorf("its gradient of the %s has a value that is not a finite number", of)
	}
	if share != 1 {
		whole := g
		g = a.NewGrad(g.Shape)
		kernel.AXPY(g.Data, float32(share), whole.Data, false, a.Threads())
	}
	a.tape.AddGrad(v, g.Data, g.Steps)
	return nil
}
