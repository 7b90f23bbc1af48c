package train_test

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/race"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// ibp is rat with an epoch of a ramp after one of warm-up.
func ibp() train.Config {
	cfg := rat()
	cfg.Recipe = train.IBP{Eps: 0.1, Kappa: 0.25, Warmup: 1, Ramp: 1}
	return cfg
}

// bounded is a network with bounds, and a layer that is large enough to be updated while its
// gradient is computed.
func bounded(c *zoo.Config) {
	c.Arch, c.Dropout, c.Poisson, c.SoftReset, c.Detach = "conv16 A | fc520 fc", 0, false, true, true
}

// TestIBPByHand compares the training on the whole set at once with a loop by hand.
func TestIBPByHand(t *testing.T) {
	const epochs = 5
	set := toy(t)
	cfg := train.Default(epochs)
	cfg.Loader.BatchSize, cfg.Loader.Shuffle = set.N, false
	cfg.Schedule = train.Constant{}
	cfg.Recipe = train.IBP{Eps: 0.1, Kappa: 0.25, Warmup: 1, Ramp: 2}
	model := tiny(t, bounded)
	got := fit(t, model, cfg)

	other := tiny(t, bounded)
	u, err := train.NewUpdater(cfg.Optimizer, other.Params())
	require.NoError(t, err)
	x, all := tensor.NewNCHW(set.N, 1, 6, 6), make([]int, set.N)
	for i := range all {
		all[i] = i
	}
	require.NoError(t, set.Fill(x, all))
	for e, at := range []struct {
		eps    float32
		weight float64 // of the worst logits
	}{{0, 0}, {0, 0}, {0.05, 0.375}, {0.1, 0.75}, {0.1, 0.75}} {
		var loss float64
		entropy := func(weight float64) func(z []float32) []float32 {
			return func(z []float32) []float32 {
				losses, grad := make([]float64, set.N), make([]float32, len(z))
				autograd.CrossEntropy(losses, grad, z, set.Labels, 0)
				for i := range grad {
					grad[i] *= float32(weight / float64(set.N))
				}
				loss += weight * mean(losses)
				return grad
			}
		}
		for _, p := range other.Params() {
			p.ClearGrad()
		}
		require.NoError(t, other.ParamGradients(snn.Pass{Train: true}, x, entropy(1-at.weight)))
		if at.weight > 0 {
			require.NoError(t, other.DifferentiateBounds(snn.Pass{}, x, at.eps, set.Labels, func(w []float32) ([]float32, error) {
				return entropy(at.weight)(w), nil
			}))
		}
		u.Step(cfg.LR, 0)
		assert.InDelta(t, loss, got[e].Loss, 1e-5, "epoch %d", e+1)
	}
	want := values(other)
	for i, v := range values(model) {
		assert.InDeltaSlice(t, want[i], v, 1e-4)
	}
}

// Micro-shards, threads and a resume within the ramp change nothing but rounding, or nothing.
func TestIBPIsTheSameHoweverItRuns(t *testing.T) {
	want := tiny(t, bounded)
	metrics := fit(t, want, ibp())
	assert.NotEqual(t, metrics[0].Loss, metrics[2].Loss)

	threads := tiny(t, bounded)
	threads.Threads = 3
	assert.Equal(t, metrics, fit(t, threads, ibp()))
	assert.Equal(t, values(want), values(threads))

	path := filepath.Join(t.TempDir(), "checkpoint")
	cfg, saved := ibp(), false
	var tr *train.Trainer
	cfg.Progress = func(p train.Progress) {
		if p.Epoch == 2 && p.Step == 2 {
			require.NoError(t, tr.Save(path))
			saved = true
		}
	}
	tr = trainer(t, tiny(t, bounded), cfg)
	finish(t, tr)
	require.True(t, saved)
	resumed := tiny(t, bounded)
	tr = trainer(t, resumed, ibp())
	require.NoError(t, tr.Resume(path))
	finish(t, tr)
	assert.Equal(t, values(want), values(resumed))

	one, shards := ibp(), ibp()
	one.Adversary, shards.Adversary, shards.MicroShards = nil, nil, 2
	a, b := tiny(t, bounded), tiny(t, bounded)
	fit(t, a, one)
	fit(t, b, shards)
	for i, v := range values(a) {
		assert.InDeltaSlice(t, v, values(b)[i], 1e-3)
	}
}

// The training raises the certified share, above that of a plain one.
func TestIBPCertifies(t *testing.T) {
	if race.Enabled {
		t.Skip("too slow")
	}
	certified := func(recipe train.Recipe) (n int) {
		cfg := train.Default(30)
		cfg.Loader.BatchSize, cfg.Recipe = 8, recipe
		m := tiny(t, bounded)
		fit(t, m, cfg)
		set := toy(t)
		x, all := tensor.NewNCHW(set.N, 1, 6, 6), make([]int, set.N)
		for i := range all {
			all[i] = i
		}
		require.NoError(t, set.Fill(x, all))
		require.NoError(t, m.DifferentiateBounds(snn.Pass{}, x, 0.1, set.Labels, func(w []float32) ([]float32, error) {
			for i, y := range set.Labels {
				best := 0
				for k := range 3 {
					if w[3*i+k] > w[3*i+best] {
						best = k
					}
				}
				if best == y {
					n++
				}
			}
			return nil, nil
		}))
		return n
	}
	plain, trained := certified(train.OneUpdate{}), certified(train.IBP{Eps: 0.1, Kappa: 0.25, Warmup: 3, Ramp: 15})
	t.Logf("certified of 22 images: %d plain, %d with IBP", plain, trained)
	assert.Greater(t, trained, plain+5)
}

func TestIBPRefuses(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		ibp  train.IBP
		want string
	}{
		{train.IBP{}, "train: Config.Recipe: IBP.Eps is 0, want a number in (0, 1]"},
		{train.IBP{Eps: 1.5}, "train: Config.Recipe: IBP.Eps is 1.5, want a number in (0, 1]"},
		{train.IBP{Eps: float32(nan)}, "train: Config.Recipe: IBP.Eps is NaN, want a number in (0, 1]"},
		{train.IBP{Eps: 0.1, Kappa: 1}, "train: Config.Recipe: IBP.Kappa is 1, want a number in [0, 1)"},
		{train.IBP{Eps: 0.1, Kappa: nan}, "train: Config.Recipe: IBP.Kappa is NaN, want a number in [0, 1)"},
		{train.IBP{Eps: 0.1, Warmup: -1}, "train: Config.Recipe: IBP.Warmup is -1, want at least 0"},
		{train.IBP{Eps: 0.1, Ramp: -1}, "train: Config.Recipe: IBP.Ramp is -1, want at least 0"},
	} {
		cfg := rat()
		cfg.Recipe = c.ibp
		_, err := train.New(tiny(t, bounded), toy(t), cfg, rng.New(1))
		assert.EqualError(t, err, c.want)
	}
	_, err := train.New(tiny(t, func(c *zoo.Config) { bounded(c); c.Arch = "conv16 M | fc" }), toy(t), ibp(), rng.New(1))
	assert.ErrorContains(t, err, "train: Config.Recipe: IBP: snn: layer features.3: a snn.MaxPool has no bounds")
	_, err = train.New(tiny(t, nil), toy(t), ibp(), rng.New(1))
	assert.EqualError(t, err, "train: Config.Recipe: IBP: snn: no bounds for the encoder snn.Poisson: expected Direct")

	cfg := ibp()
	cfg.Loss = train.TRADES{Beta: 1}
	for _, err := range trainer(t, tiny(t, bounded), cfg).Epochs(t.Context()) {
		assert.ErrorContains(t, err, "IBP with the loss train.TRADES, want one that needs no clean output")
	}
	relu := ibp()
	relu.Gradient = snn.CBA{}
	failed := 0
	for _, err := range trainer(t, tiny(t, bounded), relu).Epochs(t.Context()) {
		assert.ErrorContains(t, err, "IBP with the gradient CBA, whose passes are those of another network, want one such as snn.BPTT{}")
		failed++
	}
	assert.Equal(t, 1, failed)

	for worst, want := range map[float64]string{-1: "StepPass.Worst is -1, want a number in [0, 1]", nan: "StepPass.Worst is NaN, want", 0.5: "worst logits with the loss train.TRADES, want one that needs no clean output"} {
		cfg.Recipe = worstOnly{worst}
		for _, err := range trainer(t, tiny(t, bounded), cfg).Epochs(t.Context()) {
			assert.ErrorContains(t, err, want)
		}
	}
}

// worstOnly is a recipe that asks for a share of the loss of the worst logits.
type worstOnly struct{ Worst float64 }

func (worstOnly) Validate(*snn.Model, snn.Dataset) error { return nil }

func (r worstOnly) Step(_ context.Context, s *train.Step) error {
	_, err := s.Update(train.StepPass{X: s.X, Worst: r.Worst, Eps: 0.1})
	return err
}
