package train_test

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// hire is rat with two periods for networks of four steps.
func hire() train.Config {
	cfg := rat()
	cfg.Recipe = train.HIRE{Periods: 2, Eps: 0.05}
	return cfg
}

func fourSteps(c *zoo.Config) { c.Steps = 4 }

// TestHIREByHand compares training with crafted noise, on the whole set at once, with a
// loop by hand. In the loop every gradient has a pass of its own, over a network that has
// only the steps of one period.
func TestHIREByHand(t *testing.T) {
	const epochs, periods, eps = 3, 3, 0.04
	plain := func(steps int) func(*zoo.Config) {
		// With a large layer, which is updated while its gradient is computed.
		return func(c *zoo.Config) {
			c.Arch = "conv16 A | fc520 fc520 fc"
			c.Dropout, c.Poisson, c.Steps = 0, false, steps
		}
	}
	set := toy(t)
	cfg := train.Default(epochs)
	cfg.Loader.BatchSize, cfg.Loader.Shuffle = set.N, false
	cfg.Schedule = train.Constant{}
	cfg.Recipe = train.HIRE{Periods: periods, Eps: eps}
	model := tiny(t, plain(6))
	got := fit(t, model, cfg)

	other := tiny(t, plain(2))
	u, err := train.NewUpdater(cfg.Optimizer, other.Params())
	require.NoError(t, err)
	all := make([]int, set.N)
	for i := range all {
		all[i] = i
	}
	for e := range epochs {
		x := tensor.NewNCHW(set.N, 1, 6, 6)
		require.NoError(t, set.Fill(x, all))
		var loss, moved float64
		for range periods {
			ofLogits := func(logits []float32) []float32 {
				losses, grad := make([]float64, set.N), make([]float32, len(logits))
				autograd.CrossEntropy(losses, grad, logits, set.Labels, 0)
				for i := range grad {
					grad[i] /= float32(set.N)
				}
				loss += mean(losses) / periods
				return grad
			}
			pass := snn.Pass{Train: true}
			var state bytes.Buffer
			require.NoError(t, other.Write(&state))
			grad, err := other.InputGradient(pass, x, ofLogits)
			require.NoError(t, err)
			require.NoError(t, other.SetState(state.Bytes())) // the statistics
			for _, p := range other.Params() {
				p.ClearGrad()
			}
			require.NoError(t, other.ParamGradients(pass, x, ofLogits))
			u.Step(cfg.LR, 0)
			for i, g := range grad.Data {
				before := x.Data[i]
				if g != 0 {
					x.Data[i] += float32(math.Copysign(eps, float64(g)))
				}
				x.Data[i] = float32(math.Min(1, math.Max(0, float64(x.Data[i]))))
				moved += math.Abs(float64(x.Data[i] - before))
			}
		}
		assert.InDelta(t, loss/2, got[e].Loss, 1e-9, "epoch %d", e+1) // each was computed twice
		assert.Positive(t, moved)
	}
	assert.Equal(t, values(other), values(model))
}

// One period is plain training, and images that do not move are trained on again.
func TestHIREOfOnePeriod(t *testing.T) {
	want := tiny(t, fourSteps)
	metrics := fit(t, want, rat())
	cfg := hire()
	cfg.Recipe = train.HIRE{Periods: 1, Eps: 0.05}
	got := tiny(t, fourSteps)
	assert.Equal(t, metrics, fit(t, got, cfg))
	assert.Equal(t, values(want), values(got))
	got = tiny(t, fourSteps)
	assert.NotEqual(t, metrics, fit(t, got, hire()))
	assert.NotEqual(t, values(want), values(got))
}

// What is random about an image is drawn anew in every period.
func TestHIREDraws(t *testing.T) {
	cfg := hire()
	cfg.Epochs = 1
	seen := map[rng.Key]bool{}
	cfg.Gradient = spy{see: func(p *snn.Pass) {
		for _, k := range p.Keys {
			assert.False(t, seen[k])
			seen[k] = true
		}
	}}
	fit(t, tiny(t, fourSteps), cfg)
	assert.Len(t, seen, 2*22)
}

// spy shows the passes that begin.
type spy struct {
	snn.BPTT
	see func(*snn.Pass)
}

func (s spy) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	s.see(p)
	return s.BPTT.Encode(p, e, x)
}

func TestHIRERepeatsAtAnyNumberOfThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want [][]float32
	var metrics []train.Metrics
	for _, procs := range []int{2, 1} {
		runtime.GOMAXPROCS(procs)
		model := tiny(t, fourSteps)
		got := fit(t, model, hire())
		if want == nil {
			want, metrics = values(model), got
		}
		assert.Equal(t, metrics, got)
		assert.Equal(t, want, values(model), "%d threads", procs)
	}
}

func TestHIREResumes(t *testing.T) {
	path := t.TempDir() + "/checkpoint"
	want := tiny(t, fourSteps)
	tr := trainer(t, want, hire())
	for m, err := range tr.Epochs(context.Background()) {
		require.NoError(t, err)
		if m.Epoch == 1 {
			require.NoError(t, tr.Save(path))
		}
	}
	got := tiny(t, fourSteps)
	tr = trainer(t, got, hire())
	require.NoError(t, tr.Resume(path))
	finish(t, tr)
	assert.Equal(t, values(want), values(got))

	cfg := hire()
	cfg.Recipe = train.HIRE{Periods: 2, Eps: 0.25}
	assert.EqualError(t, trainer(t, got, cfg).Resume(path), "train: resume "+path+
		": Config.Recipe is train.HIRE{Periods:2 Eps:0.25}, but the checkpoint has train.HIRE{Periods:2 Eps:0.05}")
	cfg.Recipe = train.OneUpdate{}
	assert.EqualError(t, trainer(t, got, cfg).Resume(path), "train: resume "+path+
		": Config.Recipe is train.OneUpdate{}, but the checkpoint has train.HIRE{Periods:2 Eps:0.05}")
}

func TestHIRERefuses(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		hire train.HIRE
		want string
	}{
		{train.HIRE{Periods: 0}, "train: Config.Recipe: HIRE.Periods is 0, want a divisor of the model's 4 steps"},
		{train.HIRE{Periods: -2}, "train: Config.Recipe: HIRE.Periods is -2, want a divisor of the model's 4 steps"},
		{train.HIRE{Periods: 3}, "train: Config.Recipe: HIRE.Periods is 3, want a divisor of the model's 4 steps"},
		{train.HIRE{Periods: 2, Eps: -1}, "train: Config.Recipe: HIRE.Eps is -1, want a number in [0, 1]"},
		{train.HIRE{Periods: 2, Eps: 1.5}, "train: Config.Recipe: HIRE.Eps is 1.5, want a number in [0, 1]"},
		{train.HIRE{Periods: 2, Eps: nan}, "train: Config.Recipe: HIRE.Eps is NaN, want a number in [0, 1]"},
	} {
		cfg := rat()
		cfg.Recipe = c.hire
		_, err := train.New(tiny(t, fourSteps), toy(t), cfg, rng.New(1))
		assert.EqualError(t, err, c.want)
	}
}
