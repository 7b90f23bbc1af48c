package train_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
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

// torchLosses is testdata/losses/losses.json, which losses.py beside it computed with PyTorch.
type torchLosses struct {
	Labels           []int
	Steps, Classes   int
	Clean, Perturbed []float32 // [N, Steps, Classes]
	Losses           map[string]struct {
		Loss        []float64 // [N]
		Grad, Clean []float64 // [N, Steps, Classes], of the sum of Loss
	}
}

// output returns logits as what a network puts out.
func output(logits []float32, steps, classes int) snn.Output {
	o := snn.Output{N: len(logits) / steps / classes, Steps: steps, Classes: classes, Logits: logits}
	for n := range o.N {
		for k := range classes {
			var sum float64
			for s := range steps {
				sum += float64(logits[(n*steps+s)*classes+k])
			}
			o.Mean = append(o.Mean, float32(sum/float64(steps)))
		}
	}
	return o
}

// everyStep returns a gradient as one of every step. That of the mean is the same at all.
func everyStep(g []float32, o snn.Output) []float64 {
	v := make([]float64, len(o.Logits))
	for i := range v {
		n, k := i/(o.Steps*o.Classes), i%o.Classes
		if len(g) == len(v) {
			v[i] = float64(g[i])
		} else if g != nil {
			v[i] = float64(g[n*o.Classes+k]) / float64(o.Steps)
		}
	}
	return v
}

// The losses and their gradients are those that PyTorch computes from the papers' formulas.
func TestLossesOfPyTorch(t *testing.T) {
	text, err := os.ReadFile("testdata/losses/losses.json")
	require.NoError(t, err)
	var g torchLosses
	require.NoError(t, json.Unmarshal(text, &g))
	require.Len(t, g.Losses, 4)
	for name, loss := range map[string]train.Loss{
		"TRADES": train.TRADES{Beta: 6}, "MART": train.MART{Lambda: 5}, "TET": train.TET{Lambda: 0.1, Mean: 1},
		"CleanMix": train.CleanMix{Share: 0.25, Loss: train.CrossEntropy{}},
	} {
		o := train.BatchOutput{
			Output: output(g.Perturbed, g.Steps, g.Classes), Clean: output(g.Clean, g.Steps, g.Classes), Labels: g.Labels,
		}
		losses := make([]float64, o.N)
		grad, clean := loss.Compute(losses, o)
		want := g.Losses[name]
		assert.InDeltaSlice(t, want.Loss, losses, 1e-5, name)
		assert.InDeltaSlice(t, want.Grad, everyStep(grad, o.Output), 1e-6, name)
		if loss.NeedsClean() {
			assert.InDeltaSlice(t, want.Clean, everyStep(clean, o.Clean), 1e-6, name)
		} else {
			assert.Nil(t, clean)
			assert.Empty(t, want.Clean)
		}
	}
}

// Where the probabilities have no digits left, losses and gradients are still right.
func TestLossesOfSureNetworks(t *testing.T) {
	sure := output([]float32{200, 0, -50}, 1, 3)
	for _, loss := range []train.Loss{train.TRADES{Beta: 6}, train.MART{Lambda: 5}} {
		for label, want := range []float64{0, 200, 250} {
			losses := make([]float64, 1)
			grad, clean := loss.Compute(losses, train.BatchOutput{Output: sure, Clean: sure, Labels: []int{label}})
			if _, ok := loss.(train.MART); ok && label > 0 {
				want += 200 // −log(1 − q_0)
			}
			assert.InDelta(t, want, losses[0], 1e-9, "%T %d", loss, label)
			for _, v := range append(grad, clean...) {
				assert.False(t, math.IsNaN(float64(v)))
			}
		}
	}
}

// plain is a network without anything random, and with a large layer that plain training
// updates while its gradient is computed.
func plain(c *zoo.Config) {
	c.Arch = "conv16 A | fc520 fc520 fc"
	c.Dropout, c.Poisson, c.Steps, c.Threshold = 0, false, 2, 0.2
}

// whole is training on all of toy's images at once.
func whole(t testing.TB, epochs int) (train.Config, tensor.NCHW) {
	set := toy(t)
	cfg := train.Default(epochs)
	cfg.Loader.BatchSize, cfg.Loader.Shuffle = set.N, false
	cfg.Schedule = train.Constant{}
	all := make([]int, set.N)
	for i := range all {
		all[i] = i
	}
	x := tensor.NewNCHW(set.N, 1, 6, 6)
	require.NoError(t, set.Fill(x, all))
	return cfg, x
}

// darker is an adversary.
type darker struct{}

func (darker) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	x = x.Clone()
	for i, v := range x.Data {
		x.Data[i] = v * v
	}
	return x, nil
}

// TestTwoPassesByHand compares a training with TRADES with a loop by hand: a pass over the
// clean images, then one over the perturbed ones, each for its own gradient.
func TestTwoPassesByHand(t *testing.T) {
	const epochs = 3
	cfg, x := whole(t, epochs)
	cfg.Loss, cfg.Adversary = train.TRADES{Beta: 2}, darker{}
	model := tiny(t, plain)
	got := fit(t, model, cfg)

	other, labels := tiny(t, plain), toy(t).Labels
	u, err := train.NewUpdater(cfg.Optimizer, other.Params())
	require.NoError(t, err)
	perturbed, err := darker{}.Perturb(t.Context(), nil, x, nil, nil, rng.Key{})
	require.NoError(t, err)
	for e := range epochs {
		for _, p := range other.Params() {
			p.ClearGrad()
		}
		losses := make([]float64, x.N)
		_, err := other.Differentiate(snn.Pass{Train: true}, x, snn.OfParams, func(clean snn.Output) (ofClean []float32, err error) {
			_, err = other.Differentiate(snn.Pass{Train: true}, perturbed, snn.OfParams, func(o snn.Output) (grad []float32, err error) {
				grad, ofClean = cfg.Loss.Compute(losses, train.BatchOutput{Output: o, Clean: clean, Labels: labels})
				for i := range grad {
					grad[i] /= float32(x.N)
					ofClean[i] /= float32(x.N)
				}
				return grad, nil
			})
			return ofClean, err
		})
		require.NoError(t, err)
		u.Step(cfg.LR, 0)
		assert.InDelta(t, mean(losses), got[e].Loss, 1e-9)
	}
	assert.Equal(t, values(other), values(model))
}

// stepwise is cross-entropy with its gradient spread over the steps by hand.
type stepwise struct{ train.CrossEntropy }

func (l stepwise) Compute(losses []float64, o train.BatchOutput) (grad, clean []float32) {
	mean, _ := l.CrossEntropy.Compute(losses, o)
	for _, g := range everyStep(mean, o.Output) {
		grad = append(grad, float32(g))
	}
	return grad, nil
}

// A loss of every step trains as that of the mean does, if their gradients are equal, and
// TET of networks without time is cross-entropy.
func TestLossOfEveryStep(t *testing.T) {
	cfg, _ := whole(t, 2)
	want := fit(t, tiny(t, plain), cfg)
	cfg.Loss = stepwise{}
	got := fit(t, tiny(t, plain), cfg)
	for i := range want {
		assert.InDelta(t, want[i].Loss, got[i].Loss, 1e-4)
	}
	one := func(c *zoo.Config) { plain(c); c.Steps = 1 }
	cfg.Loss = train.CrossEntropy{}
	want = fit(t, tiny(t, one), cfg)
	cfg.Loss = train.TET{}
	assert.Equal(t, want, fit(t, tiny(t, one), cfg))
	cfg.Loss = train.TET{Lambda: 0.05, Mean: 1}
	assert.NotEqual(t, want, fit(t, tiny(t, one), cfg))
}

// Every loss trains: it repeats at any number of threads, and a resumed training equals an
// uninterrupted one.
func TestLossesResume(t *testing.T) {
	for _, loss := range []train.Loss{
		train.TET{Lambda: 0.05, Mean: 1, Smoothing: 0.1}, train.TRADES{Beta: 6}, train.MART{Lambda: 5},
		train.CleanMix{Share: 0.5, Loss: train.TET{}},
	} {
		cfg := rat()
		cfg.Loss = loss
		resumes(t, cfg, 1)
	}
}

// resumes trains without an interruption, and again from a checkpoint after each of some
// epochs, with another number of threads.
func resumes(t *testing.T, cfg train.Config, epochs ...int) []train.Metrics {
	t.Helper()
	want := tiny(t, nil)
	metrics := fit(t, want, cfg)
	for _, e := range epochs {
		got := tiny(t, nil)
		got.Threads = 1
		tr := trainer(t, got, cfg)
		require.NoError(t, tr.Resume(saveAt(t, cfg, e)))
		require.Equal(t, metrics[e:], finish(t, tr))
		require.Equal(t, values(want), values(got))
	}
	return metrics
}

// bad is a loss that fails in some way in the second epoch.
type bad struct {
	train.CrossEntropy
	calls  *int
	change func(losses []float64, grad []float32) (g, clean []float32)
}

func (l bad) Compute(losses []float64, o train.BatchOutput) (grad, clean []float32) {
	grad, _ = l.CrossEntropy.Compute(losses, o)
	if *l.calls++; *l.calls == 5 {
		return l.change(losses, grad)
	}
	return grad, nil
}

// An error of a loss names the loss, the epoch, the step and the value, and the training can
// go on from the beginning of the epoch.
func TestLossRefused(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, c := range map[string]struct {
		change func(losses []float64, grad []float32) (g, clean []float32)
		want   string
	}{
		"loss": {func(l []float64, g []float32) ([]float32, []float32) { l[3] = math.NaN(); return g, nil },
			"that of image 3 of the batch is NaN, want a finite number"},
		"gradient": {func(_ []float64, g []float32) ([]float32, []float32) { g[7] = inf; return g, nil },
			"gradient: value 7, of image 2 of the batch and class 1, is +Inf, want a finite number"},
		"gradient of steps": {func(_ []float64, g []float32) ([]float32, []float32) {
			v := make([]float32, 72)
			v[10] = nan
			return v, nil
		},
			"gradient: value 10, of image 1 of the batch and class 1, is NaN, want a finite number"},
		"length": {func(_ []float64, g []float32) ([]float32, []float32) { return g[1:], nil },
			"gradient: 23 values, want 24 for the mean of 8 images and 3 classes, or 72 for every one of 3 steps"},
		"nil":   {func([]float64, []float32) ([]float32, []float32) { return nil, nil }, "gradient: 0 values, want 24"},
		"clean": {func(_ []float64, g []float32) ([]float32, []float32) { return g, g }, "it returns a gradient of the clean output, want nil if NeedsClean is false"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := rat()
			want := tiny(t, nil)
			fit(t, want, cfg)
			cfg.Loss = bad{train.CrossEntropy{Smoothing: 0.1}, new(int), c.change}
			model := tiny(t, nil)
			tr := trainer(t, model, cfg)
			var last error
			for _, last = range tr.Epochs(t.Context()) {
			}
			require.ErrorContains(t, last, "train: epoch 2 of 3, step 2 of 3: loss train_test.bad: "+c.want)
			finish(t, tr)
			assert.Equal(t, values(want), values(model))
		})
	}
}

func TestLossSettings(t *testing.T) {
	for _, c := range []struct {
		loss train.Loss
		want string
	}{
		{nil, "train: Config.Loss is nil, want one such as CrossEntropy{}"},
		{train.TET{Lambda: 2}, "train: Config.Loss: TET.Lambda is 2, want a number in [0, 1]"},
		{train.TET{Mean: math.Inf(1)}, "train: Config.Loss: TET.Mean is +Inf, want a finite number"},
		{train.TET{Smoothing: 1}, "train: Config.Loss: TET.Smoothing is 1, want a number in [0, 1)"},
		{train.TRADES{Beta: -1}, "train: Config.Loss: TRADES.Beta is -1, want a finite number of at least 0"},
		{train.MART{Lambda: math.NaN()}, "train: Config.Loss: MART.Lambda is NaN, want a finite number of at least 0"},
		{train.CleanMix{Share: 2, Loss: train.CrossEntropy{}}, "train: Config.Loss: CleanMix.Share is 2, want a number in [0, 1]"},
		{train.CleanMix{}, "train: Config.Loss: CleanMix.Loss is nil, want one such as CrossEntropy{}"},
		{train.CleanMix{Loss: train.MART{}}, "train: Config.Loss: CleanMix.Loss is train.MART, want a loss that needs no clean output"},
		{train.CleanMix{Loss: train.TET{Lambda: -1}}, "train: Config.Loss: TET.Lambda is -1, want a number in [0, 1]"},
	} {
		cfg := rat()
		cfg.Loss = c.loss
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.EqualError(t, err, c.want)
	}
}

// The loss of the trainer is autograd.CrossEntropy, bit by bit.
func TestCrossEntropyIsThatOfAutograd(t *testing.T) {
	o := output([]float32{1, 2, -3, 0.5, 0, 4}, 1, 3)
	want, wantGrad := make([]float64, 2), make([]float32, 6)
	autograd.CrossEntropy(want, wantGrad, o.Mean, []int{0, 2}, 0.3)
	got := make([]float64, 2)
	grad, _ := train.CrossEntropy{Smoothing: 0.3}.Compute(got, train.BatchOutput{Output: o, Labels: []int{0, 2}})
	assert.Equal(t, want, got)
	assert.Equal(t, wantGrad, grad)
}
