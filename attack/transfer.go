package attack

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Transfer attacks a network by images that are made on others, its sources (Papernot et al.
// 2016). Attack runs on each source in turn. Of the points that it asks the source about, the
// one with the smallest margin there is shown to the network under attack. Attack does not end at a
// point that its source misclassifies, so its Reduce has no effect.
type Transfer struct {
	Sources []*snn.Model // at least one, of the images and classes of the network under attack
	Attack  Searcher
}

// Threat implements [Bounded]. It is that of Attack.
func (t Transfer) Threat() (Threat, bool) { return ThreatOf(t.Attack) }

// Validate returns an error if there is no source or no attack, or if the attack's settings are
// out of range.
func (t Transfer) Validate() error {
	if len(t.Sources) == 0 {
		return fmt.Errorf("attack: transfer of no sources: expected at least one network")
	}
	if i := slices.Index(t.Sources, nil); i >= 0 {
		return fmt.Errorf("attack: transfer: source %d is nil: expected a network", i)
	}
	if t.Attack == nil {
		return fmt.Errorf("attack: transfer of no attack: expected one such as *Attack")
	}
	if v, ok := t.Attack.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// Search implements [Searcher].
func (t Transfer) Search(o *Oracle) error {
	if err := t.Validate(); err != nil {
		return err
	}
	for i, source := range t.Sources {
		if err := t.fits(source, o); err != nil {
			return fmt.Errorf("source %d: %w", i, err)
		}
		there := &Oracle{
			Clean: o.Clean, Shape: o.Shape, Label: o.Label, Target: o.Target, Classes: o.Classes, ID: o.ID, Threat: o.Threat,
			key: o.key.Derive("source", uint64(i)), draws: o.draws, own: o.own, keep: true, yield: o.yield, model: source,
		}
		err := t.Attack.Search(there)
		o.passes += there.passes
		if err != nil {
			return fmt.Errorf("source %d: %w", i, err)
		}
		point, _ := there.Best()
		if _, err := o.Logits(point); err != nil {
			return err
		}
	}
	return nil
}

// fits returns an error if a source does not take the oracle's image or has other classes.
func (t Transfer) fits(source *snn.Model, o *Oracle) error {
	if source.Classes() != o.Classes {
		return fmt.Errorf("a network of %d classes: expected %d, as the network under attack has", source.Classes(), o.Classes)
	}
	return source.ValidateImages(o.image(o.Clean))
}

// Perturb implements [snn.Adversary].
func (t Transfer) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	return PerturbEach(ctx, t, m, x, y, ids, key)
}

// Describe implements [Describer].
func (t Transfer) Describe() Settings {
	return Settings{Kind: "transfer from " + count(len(t.Sources), "network"), Mix: []Settings{Describe(t.Attack)}}
}

// RandomNoise asks about random points of the ball: by turns one drawn uniformly, and one on its
// border, which for L∞ is a corner. It is a baseline: no attack should be weaker.
type RandomNoise struct {
	Norm   Norm
	Eps    float32 // ε ≥ 0
	Points int     // ≥ 1
}

// Threat implements [Bounded].
func (n RandomNoise) Threat() (Threat, bool) { return Threat{n.Norm, n.Eps, false}, true }

// Validate returns an error that names a field that is out of range.
func (n RandomNoise) Validate() error {
	if n.Norm == nil {
		return fmt.Errorf("attack: random noise without a norm: expected one such as LInf{}")
	}
	if n.Points < 1 {
		return fmt.Errorf("attack: random noise: %d points: expected at least 1", n.Points)
	}
	if err := (Threat{Norm: n.Norm, Eps: n.Eps}).validate(); err != nil {
		return fmt.Errorf("attack: random noise: %w", err)
	}
	return nil
}

// Search implements [Searcher].
func (n RandomNoise) Search(o *Oracle) error {
	if err := n.Validate(); err != nil {
		return err
	}
	ball := Ball{n.Norm, n.Eps, o.Clean, true}
	r := o.Rand("noise", 0)
	for i := range n.Points {
		x := append([]float32(nil), o.Clean...)
		if i%2 == 0 {
			InBall{}.Initialize(x, n.Norm, n.Eps, r)
		} else {
			RandomStep{n.Eps}.Initialize(x, n.Norm, n.Eps, r)
		}
		ball.Project(x)
		if _, err := o.Logits(x); err != nil {
			return err
		}
	}
	return nil
}

// Perturb implements [snn.Adversary].
func (n RandomNoise) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if err := n.Validate(); err != nil {
		return tensor.NCHW{}, err
	}
	return PerturbEach(ctx, n, m, x, y, ids, key)
}

// Describe implements [Describer].
func (n RandomNoise) Describe() Settings { return Settings{Kind: "random noise", Passes: n.Points} }
