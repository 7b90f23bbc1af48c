package train_test

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// TestAWPByHand compares AWP with a loop by hand: the weights move to twice Gamma of their
// size along the normalized gradient, and the update is made from where they were.
func TestAWPByHand(t *testing.T) {
	const epochs, gamma = 3, 0.05
	cfg, x := whole(t, epochs)
	cfg.Recipe = train.AWP{Gamma: gamma, Warmup: 1}
	model := tiny(t, plain)
	got := fit(t, model, cfg)

	other, labels := tiny(t, plain), toy(t).Labels
	u, err := train.NewUpdater(cfg.Optimizer, other.Params())
	require.NoError(t, err)
	loss := 0.0
	gradient := func() {
		for _, p := range other.Params() {
			p.ClearGrad()
		}
		require.NoError(t, other.ParamGradients(snn.Pass{Train: true}, x, func(logits []float32) []float32 {
			losses, grad := make([]float64, x.N), make([]float32, len(logits))
			autograd.CrossEntropy(losses, grad, logits, labels, 0)
			for i := range grad {
				grad[i] /= float32(x.N)
			}
			loss = mean(losses)
			return grad
		}))
	}
	size := func(v []float32) (s float64) {
		for _, x := range v {
			s += float64(x) * float64(x)
		}
		return math.Sqrt(s)
	}
	for e := range epochs {
		before := map[*autograd.Param][]float32{}
		for _, p := range other.State() {
			before[p] = p.Export()
		}
		moved := 0
		if e >= 1 {
			gradient()
			for _, p := range other.State() {
				switch {
				case !p.Trainable:
					p.Import(before[p])
				case len(p.Shape) > 1:
					g, w := p.ExportGrad(), p.Export()
					factor := gamma * size(w) / size(g)
					for i := range w {
						w[i] += float32(factor * float64(g[i]))
					}
					p.Import(w)
					moved++
				}
			}
			require.Equal(t, 4, moved)
		}
		gradient()
		for _, p := range other.Params() {
			p.Import(before[p])
		}
		u.Step(cfg.LR, 0)
		assert.InDelta(t, loss, got[e].Loss, 1e-6)
	}
	for i, p := range other.State() {
		// Up to the rounding of norms, whose sums have another order.
		assert.InDeltaSlice(t, p.Data(), model.State()[i].Data(), 1e-4, p.Name)
	}
	cfg.Recipe = train.OneUpdate{}
	assert.NotEqual(t, fit(t, tiny(t, plain), cfg)[2], got[2])
}

// AWP that moves nothing, or not yet, is plain training, and it resumes.
func TestAWPResumes(t *testing.T) {
	want := fit(t, tiny(t, nil), rat())
	for _, r := range []train.AWP{{}, {Gamma: 0.1, Warmup: 3}} {
		cfg := rat()
		cfg.Recipe = r
		assert.Equal(t, want, fit(t, tiny(t, nil), cfg))
	}
	cfg := rat()
	cfg.Recipe = train.AWP{Gamma: 0.1, Warmup: 1}
	got := resumes(t, cfg, 1, 2)
	assert.Equal(t, want[0], got[0])
	assert.NotEqual(t, want[1], got[1])
}

// recipe is a function as a recipe.
type recipe func(s *train.Step) error

func (recipe) Validate(*snn.Model, snn.Dataset) error        { return nil }
func (r recipe) Step(_ context.Context, s *train.Step) error { return r(s) }

// A recipe of two updates on the same images counts them both, with the losses of both. A
// gradient that no update follows does not count.
func TestRecipeOfTwoUpdates(t *testing.T) {
	cfg, _ := whole(t, 4)
	want := fit(t, tiny(t, plain), cfg)
	cfg.Epochs = 2
	seen := 0
	cfg.Recipe = recipe(func(s *train.Step) error {
		assert.Equal(t, s.X, s.Clean)
		assert.Equal(t, toy(t).Labels, s.Labels)
		for range 2 {
			before := values(s.Model())
			_, err := s.Gradient(train.StepPass{X: s.X})
			require.NoError(t, err)
			for i, p := range s.Model().State() {
				if p.Trainable {
					require.Equal(t, before[i], p.Data())
				} else {
					p.MutableData()
					copy(p.Data(), before[i]) // the statistics
				}
			}
			if _, err := s.Update(train.StepPass{X: s.X}); err != nil {
				return err
			}
			seen++
		}
		return nil
	})
	got := fit(t, tiny(t, plain), cfg)
	require.Equal(t, 4, seen)
	for e, m := range got {
		assert.InDelta(t, (want[2*e].Loss+want[2*e+1].Loss)/2, m.Loss, 1e-9)
		assert.InDelta(t, (want[2*e].Accuracy+want[2*e+1].Accuracy)/2, m.Accuracy, 1e-9)
	}
}

func TestRecipeRefused(t *testing.T) {
	for want, r := range map[string]recipe{
		"recipe train_test.recipe: it made no update, want at least one": func(*train.Step) error { return nil },
		"Step.Apply: want a call of Step.Gradient before it":             func(s *train.Step) error { return s.Apply() },
		"Step.Apply: want a call of Step.Gradient before it ": func(s *train.Step) error {
			if _, err := s.Update(train.StepPass{X: s.X}); err != nil {
				return err
			}
			return fmt.Errorf("%w ", s.Apply())
		},
		"broken": func(*train.Step) error { return errBroken },
		"a pass over 3×1×6×6, want the 8 images of the step": func(s *train.Step) error {
			_, err := s.Update(train.StepPass{X: s.X.Slice(0, 3)})
			return err
		},
	} {
		cfg := rat()
		cfg.Recipe = r
		for _, err := range trainer(t, tiny(t, nil), cfg).Epochs(t.Context()) {
			assert.EqualError(t, err, "train: epoch 1 of 3, step 1 of 3: "+want)
		}
	}
	for _, c := range []struct {
		recipe train.Recipe
		want   string
	}{
		{nil, "train: Config.Recipe is nil, want one such as OneUpdate{}"},
		{train.AWP{Gamma: -1}, "train: Config.Recipe: AWP.Gamma is -1, want a finite number of at least 0"},
		{train.AWP{Warmup: -1}, "train: Config.Recipe: AWP.Warmup is -1, want at least 0"},
	} {
		cfg := rat()
		cfg.Recipe = c.recipe
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.EqualError(t, err, c.want)
	}
}
