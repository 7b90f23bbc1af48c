package attack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// SpikeSearch changes spikes one at a time, in [Flips] or [Retiming], and keeps a change unless the
// margin rises. If Flips allows no further change, the search exchanges one: it takes a random one back
// as well.
//
// It visits the possible changes in sweeps. Without Gradient a sweep visits all of them in random order,
// and asks for logits alone. With Gradient it visits those with the largest gain first, by the gradient
// at the point where the sweep begins. It then visits 64 changes if the sweep before has found a smaller
// margin, and twice as many as the sweep before otherwise. After a sweep over all changes that has found
// no smaller margin, the search begins anew at a random point of the ball.
type SpikeSearch struct {
	Norm     Norm         // Flips or Retiming
	Eps      float32      // the largest number of changes, or the largest shift in steps
	Passes   int          // ≥ 1, those of the start, two of each gradient and all draws of a random network included
	Gradient snn.Gradient // orders the changes; nil for random order
	// FromBest begins at the best point of the attacks before, in a [Battery] or [Rounds]. Otherwise
	// the search begins at the original.
	FromBest bool
	Reduce   bool // as in [Attack]
}

// Threat implements [Bounded].
func (s SpikeSearch) Threat() (Threat, bool) { return Threat{Norm: s.Norm, Eps: s.Eps}, true }

// Validate returns an error that names a field that is out of range.
func (s SpikeSearch) Validate() error {
	if _, ok := s.Norm.(spikeNorm); !ok {
		return fmt.Errorf("attack: spike search: Norm %v: expected a norm of spikes, Flips or Retiming", s.Norm)
	}
	if s.Passes < 1 {
		return fmt.Errorf("attack: spike search: Passes %d: expected at least 1", s.Passes)
	}
	if err := (Threat{Norm: s.Norm, Eps: s.Eps}).validate(); err != nil {
		return fmt.Errorf("attack: spike search: %w", err)
	}
	return nil
}

// leastSweep is the number of changes that a sweep in the order of a gradient visits at least.
const leastSweep = 64

// Search implements [Searcher].
func (s SpikeSearch) Search(o *Oracle) error {
	if err := s.Validate(); err != nil {
		return err
	}
	err := s.search(o, s.Norm.(spikeNorm))
	if s.Reduce && errors.Is(err, ErrFound) {
		return o.reduce()
	}
	return err
}

func (s SpikeSearch) search(o *Oracle, n spikeNorm) error {
	x := slices.Clone(o.Clean)
	if s.FromBest {
		x, _ = o.Best()
		n.Project(x, o.Clean, s.Eps) // the attacks before may have a larger Eps
	}
	before := o.passes
	spent := func(passes int) bool { return o.passes-before+passes*o.draws > s.Passes } // too much for so many more
	var margin float32
	begin := func() error {
		z, err := o.Logits(x)
		if err == nil {
			margin, _ = o.score(z)
		}
		return err
	}
	if err := begin(); err != nil {
		return err
	}
	r := o.Rand("spike search", 0)
	for width := leastSweep; ; {
		list := n.further(x, o.Clean, s.Eps)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		whole := len(list)
		if s.Gradient != nil {
			if spent(2) {
				return nil
			}
			_, g, err := o.Gradient(x, s.Gradient, Margin{})
			if err != nil {
				return err
			}
			slices.SortStableFunc(list, func(a, b edit) int { return cmp.Compare(b.gain(g), a.gain(g)) })
			list = list[:min(width, whole)]
		}
		fell, asked := false, false
		for _, e := range list {
			if spent(1) {
				return nil
			}
			if !n.allowed(x, o.Clean, s.Eps, e) { // any more
				continue
			}
			y := slices.Clone(x)
			if n.left(x, o.Clean, s.Eps) < 1 {
				back := slices.DeleteFunc(n.back(x, o.Clean), func(b edit) bool { return b == e.reverse() })
				if len(back) == 0 {
					continue
				}
				back[r.IntN(len(back))].apply(y, n.levels())
			}
			e.apply(y, n.levels())
			z, err := o.Logits(y)
			if err != nil {
				return err
			}
			asked = true
			if m, _ := o.score(z); m <= margin {
				fell = fell || m < margin
				x, margin = y, m
			}
		}
		if width *= 2; fell {
			width = leastSweep
		}
		if len(list) < whole || fell {
			continue
		}
		if !asked || spent(1) {
			return nil // there is no change, or no pass left
		}
		copy(x, o.Clean)
		n.around(x, s.Eps, r)
		if err := begin(); err != nil {
			return err
		}
	}
}

// Perturb implements [snn.Adversary].
func (s SpikeSearch) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if err := s.Validate(); err != nil {
		return tensor.NCHW{}, err
	}
	return PerturbEach(ctx, s, m, x, y, ids, key)
}

// Describe implements [Describer].
func (s SpikeSearch) Describe() Settings {
	d := Settings{Kind: "spike search", Start: AtImage{}.String(), Passes: s.Passes, Reduce: s.Reduce}
	if s.FromBest {
		d.Start = AtBest{}.String()
	}
	if s.Gradient != nil {
		d.Order = nameOf(s.Gradient)
	}
	return d
}
