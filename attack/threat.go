package attack

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Threat is a threat model: the bound of a perturbation. An image within it has a distance
// of at most Eps in Norm from the original, and values in [0,1]. The zero Threat has no
// Norm and bounds the values alone.
type Threat struct {
	Norm Norm
	Eps  float32 // ε ≥ 0, the radius; pixels are in [0,1]
	// PerFrame measures the distance of each frame of an example from its original. All of
	// them are at most Eps. Otherwise the distance is that of the whole example. For images,
	// and in LInf, both are the same.
	PerFrame bool
}

// Bounded is an adversary that states its threat model. Known is false if it has none, as a
// [Mix] of attacks in different norms has none.
type Bounded interface {
	Threat() (t Threat, known bool)
}

// ThreatOf returns the threat model that an adversary states. Known is false for one that
// is not [Bounded].
func ThreatOf(a snn.Adversary) (t Threat, known bool) {
	if b, ok := a.(Bounded); ok {
		return b.Threat()
	}
	return Threat{}, false
}

// Threat implements [Bounded]. With SharedFrames, it is one of each frame.
func (a *Attack) Threat() (Threat, bool) { return Threat{a.Norm, a.Eps, a.SharedFrames}, true }

// Threat implements [Bounded]. It returns the zero Threat: noise has no bound.
func (GaussianNoise) Threat() (Threat, bool) { return Threat{}, true }

// Threat implements [Bounded]. It returns the largest of the attacks' threat models if all
// of them are known and in the same norm.
func (m Mix) Threat() (Threat, bool) {
	var largest Threat
	for i, a := range m {
		t, known := ThreatOf(a)
		if !known || i > 0 && t.name() != largest.name() {
			return Threat{}, false
		}
		if i == 0 || t.Eps > largest.Eps {
			largest = t
		}
	}
	return largest, len(m) > 0
}

// name returns the name of the norm and whether it is that of a frame, or "none" without a
// bound.
func (t Threat) name() string {
	if t.Norm == nil {
		return "none"
	}
	if _, same := t.Norm.(LInf); t.PerFrame && !same {
		return t.Norm.String() + " per frame"
	}
	return t.Norm.String()
}

// of returns the threat model for examples of so many frames.
func (t Threat) of(frames int) Threat {
	t.PerFrame = t.PerFrame && frames > 1
	return t
}

// validate returns an error if the radius is out of range.
func (t Threat) validate() error {
	switch {
	case t.Norm == nil && t.Eps != 0:
		return fmt.Errorf("eps %v without a norm: expected one such as LInf{}", t.Eps)
	case !(t.Eps >= 0) || math.IsInf(float64(t.Eps), 0):
		return fmt.Errorf("eps %v: expected a number of at least 0", t.Eps)
	}
	if n, ok := t.Norm.(spikeNorm); ok {
		switch {
		case t.Eps > mostChanges || t.Eps != float32(math.Trunc(float64(t.Eps))):
			return fmt.Errorf("eps %v of %v: expected a whole number of at most 2²⁴", t.Eps, n)
		case t.PerFrame:
			return fmt.Errorf("%v with PerFrame: expected a bound of the whole example", n)
		}
		return n.validate(0)
	}
	return nil
}

// start returns an error if attacks cannot start at the images x: in a norm of spikes, if they have
// another number of frames than the norm or are not frames of spikes. The first image is image from.
func (t Threat) start(x tensor.NCHW, from int) error {
	n, ok := t.Norm.(spikeNorm)
	if !ok {
		return nil
	}
	if err := n.validate(x.Shape().Steps); err != nil {
		return err
	}
	if i := offGrid(x.Data, n.levels()); i >= 0 {
		return fmt.Errorf("%s is %v: expected a multiple of 1/%d in [0, 1], for %v", x.Place(i, from), x.Data[i], n.levels(), n)
	}
	return nil
}

// check returns an error that names the first image of adv outside t around its original
// in x. The first image is image from.
func (t Threat) check(adv, x tensor.NCHW, from int) error {
	if adv.Shape() != x.Shape() || len(adv.Data) != len(x.Data) {
		return fmt.Errorf("returned %v with %d values for images %v: expected the same shape", adv, len(adv.Data), x)
	}
	for i := range x.N {
		parts := 1
		if t.PerFrame {
			parts = x.Shape().Steps
		}
		size := x.Pixels() / parts
		for k := 0; t.Norm != nil && k < parts; k++ {
			if d := t.Norm.Distance(adv.Image(i)[k*size:][:size], x.Image(i)[k*size:][:size]); !(d <= float64(t.Eps)) {
				where := fmt.Sprintf("image %d", from+i)
				if parts > 1 {
					where += fmt.Sprintf(", step %d", k)
				}
				if n, ok := t.Norm.(spikeNorm); ok {
					if err := n.outside(adv.Image(i), x.Image(i)); err != nil {
						return fmt.Errorf("%s: %v: %w", where, n, err)
					}
				}
				return fmt.Errorf("%s: %v distance %v from the original: expected at most eps %v", where, t.Norm, d, t.Eps)
			}
		}
		if k := slices.IndexFunc(adv.Image(i), func(v float32) bool { return !(v >= 0 && v <= 1) }); k >= 0 {
			return fmt.Errorf("%s: %v: expected a number in [0, 1]", adv.Place(i*adv.Pixels()+k, from), adv.Image(i)[k])
		}
	}
	return nil
}

// largestThreat returns the common norm and the largest radius of the threats that have a
// norm, or an error if their norms differ.
func largestThreat(threats []Threat) (largest Threat, err error) {
	for _, t := range threats {
		switch {
		case t.Norm == nil:
		case largest.Norm == nil:
			largest = t
		case t.name() != largest.name():
			return Threat{}, fmt.Errorf("attacks bounded in %s and in %s: expected Config.Threat to say which bound the worst case is for", largest.name(), t.name())
		default:
			largest.Eps = max(largest.Eps, t.Eps)
		}
	}
	return largest, nil
}
