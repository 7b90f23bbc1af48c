package attack

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// PerturbEach is the Perturb of a [Searcher]: it returns the best image that s finds around each
// of the images x. That is the first misclassified one, or else the one with the smallest margin.
// It is the original where s asks about no image within its Threat.
func PerturbEach(ctx context.Context, s Searcher, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	adv, _, err := perturbEach(ctx, s, m, x, y, ids, key, nil, true)
	return adv, err
}

// perturbEach is PerturbEach for targets, if any. Without best, it returns the last point of a
// search.
func perturbEach(ctx context.Context, s Searcher, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key, target []int, best bool) (tensor.NCHW, Detail, error) {
	ids, keys, err := prepare(m, x, y, ids, key)
	if err != nil {
		return tensor.NCHW{}, Detail{}, err
	}
	threat, _ := s.Threat()
	if err := threat.start(x, 0); err != nil {
		return tensor.NCHW{}, Detail{}, fmt.Errorf("attack: %w", err)
	}
	adv, zero := x.Clone(), make([]bool, x.N)
	frame := x.Shape()
	frame.N = 1
	e := engine{model: m, n: x.N, shape: frame, run: func(ask asker, i int) error {
		o := &Oracle{
			Clean: slices.Clone(x.Image(i)), Shape: frame, Label: y[i], Target: -1, Classes: m.Classes(), ID: ids[i], Threat: threat.of(frame.Steps),
			key: keys[i], draws: 1, own: true, keep: best, early: true, yield: ask, model: m,
		}
		if target != nil {
			o.Target = target[i]
		}
		err := s.Search(o)
		point := o.last
		if best {
			point, _ = o.Best()
		}
		copy(adv.Image(i), point)
		zero[i] = o.gradients > 0 && o.zeros == o.gradients
		return err
	}}
	if a, ok := s.(*Attack); ok {
		e.gradient = a.Gradient
	}
	if err := e.do(ctx); err != nil {
		return tensor.NCHW{}, Detail{}, fmt.Errorf("attack: %w", err)
	}
	if err := threat.of(frame.Steps).check(adv, x, 0); err != nil {
		return tensor.NCHW{}, Detail{}, fmt.Errorf("attack: %w", err)
	}
	return adv, Detail{target, zero}, nil
}
