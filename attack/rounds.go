package attack

import (
	"context"
	"errors"
	"fmt"

	"gonum.org/v1/gonum/stat"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Rounds runs attacks one after the other, and does so N times. Each round begins anew: an attack
// that begins at the best point before begins at that of its round. A round has random numbers of
// its own. Searches of several rounds find more than one search of as many passes, because each
// ends in a local minimum of its own.
type Rounds struct {
	N       int        // ≥ 1
	Attacks []Searcher // at least one, in one norm
	// GiveUp, if positive, spares the passes of hopeless images. The rounds of an image end once
	// three or more of them have ended at margins whose mean is above GiveUp times their standard
	// deviation. Few rounds estimate these roughly: with 3 and normally distributed margins, a further
	// round succeeds with a chance of at most 6 % after three rounds, and of 1 % after ten.
	GiveUp float64
}

// Threat implements [Bounded]. It returns the largest of the attacks' threat models.
func (r Rounds) Threat() (Threat, bool) {
	m := make(Mix, len(r.Attacks))
	for i, a := range r.Attacks {
		m[i] = a
	}
	return m.Threat()
}

// Validate returns an error that names a field or an attack whose settings are out of range.
func (r Rounds) Validate() error {
	if r.N < 1 {
		return fmt.Errorf("attack: rounds: N %d: expected at least 1", r.N)
	}
	if !(r.GiveUp >= 0) {
		return fmt.Errorf("attack: rounds: GiveUp %v: expected at least 0", r.GiveUp)
	}
	if len(r.Attacks) == 0 {
		return errors.New("attack: rounds of no attacks: expected at least one")
	}
	for i, a := range r.Attacks {
		if a == nil {
			return fmt.Errorf("attack: rounds: attack %d is nil", i)
		}
		if v, ok := a.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				return fmt.Errorf("attack: rounds: attack %d: %w", i, err)
			}
		}
	}
	if _, known := r.Threat(); !known {
		return errors.New("attack: rounds: attacks in different norms: expected one norm")
	}
	return nil
}

// Search implements [Searcher].
func (r Rounds) Search(o *Oracle) error {
	if err := r.Validate(); err != nil {
		return err
	}
	var margins []float64
	for n := range r.N {
		round := o.anew(o.key.Derive("round", uint64(n)))
		var err error
		for i, a := range r.Attacks {
			t, _ := a.Threat()
			round.Threat, round.key = t.of(o.Shape.Steps), o.key.Derive("round", uint64(n)).Derive("attack", uint64(i))
			before := round.gradients
			if err = a.Search(round); err != nil {
				round.byScores = errors.Is(err, ErrFound) && round.gradients == before
				break
			}
		}
		o.take(round)
		if err != nil {
			return err
		}
		_, margin := round.Best()
		margins = append(margins, float64(margin))
		if mean, std := stat.MeanStdDev(margins, nil); n >= 2 && r.GiveUp > 0 && mean > r.GiveUp*std {
			return nil
		}
	}
	return nil
}

// anew returns an oracle about the same image that has not been asked anything.
func (o *Oracle) anew(key rng.Key) *Oracle {
	n := *o
	n.key, n.asked, n.effort = key, 0, effort{}
	n.Forget()
	n.before, n.standing = standing{}, standing{}
	return &n
}

// take adds what another oracle about the same image was asked, and its best point.
func (o *Oracle) take(from *Oracle) {
	o.passes += from.passes
	o.gradients += from.gradients
	o.zeros += from.zeros
	o.late = max(o.late, from.late)
	o.byScores = o.byScores || from.byScores
	if from.beats(o.standing) {
		o.standing = from.standing
	}
}

// Perturb implements [snn.Adversary].
func (r Rounds) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if err := r.Validate(); err != nil {
		return tensor.NCHW{}, err
	}
	return PerturbEach(ctx, r, m, x, y, ids, key)
}

// Describe implements [Describer].
func (r Rounds) Describe() Settings {
	d := Settings{Kind: "rounds", Rounds: r.N, GiveUp: r.GiveUp}
	for _, a := range r.Attacks {
		d.Mix = append(d.Mix, Describe(a))
	}
	return d
}
