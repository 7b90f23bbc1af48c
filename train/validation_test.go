package train_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// invert is an adversary that inverts brightness.
type invert struct{}

func (invert) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	x = x.Clone()
	for i, v := range x.Data {
		x.Data[i] = 1 - v
	}
	return x, nil
}

// inverted is toy with inverted images.
func inverted(t testing.TB) *dataset.Set {
	set, all := toy(t), make([]int, 22)
	for i := range all {
		all[i] = i
	}
	x := tensor.NewNCHW(22, 1, 6, 6)
	require.NoError(t, set.Fill(x, all))
	pixels := make([]uint8, len(x.Data))
	for i, v := range x.Data {
		pixels[i] = uint8(255 - math.Round(float64(v)*255))
	}
	labels := make([]int, 22)
	for i := range labels {
		labels[i] = set.Label(i)
	}
	set, err := dataset.New("inverted", dataset.NewMemory(1, 6, 6, pixels), labels, set.ClassNames())
	require.NoError(t, err)
	return set
}

// Scores are accuracies of the network after the epoch, and leave the training as it is.
func TestValidation(t *testing.T) {
	cfg := train.Default(7)
	cfg.Loader.BatchSize, cfg.LR = 8, 0.02
	want := tiny(t, nil)
	wantMetrics := fit(t, want, cfg)
	for _, every := range []int{1, 3} {
		cfg.Validation = train.DefaultValidation(toy(t), invert{})
		cfg.Validation.Every = every
		model, seen := tiny(t, nil), map[float64]bool{}
		for m, err := range trainer(t, model, cfg).Epochs(t.Context()) {
			require.NoError(t, err)
			scores := m.Validation
			m.Validation = nil
			assert.Equal(t, wantMetrics[m.Epoch-1], timeless(m))
			if m.Epoch%every != 0 && m.Epoch != 7 {
				assert.Nil(t, scores)
				continue
			}
			clean, err := train.Accuracy(t.Context(), model, toy(t), 5)
			require.NoError(t, err)
			attacked, err := train.Accuracy(t.Context(), model, inverted(t), 22)
			require.NoError(t, err)
			assert.Equal(t, clean, scores.Clean)
			assert.InDelta(t, attacked, *scores.Attacked, 2./22, "but for pixels at a threshold")
			seen[clean], seen[attacked] = true, true
		}
		assert.Greater(t, len(seen), 2)
		assert.Equal(t, values(want), values(model))
	}
	cfg.Validation = train.DefaultValidation(toy(t), nil)
	assert.Nil(t, fit(t, tiny(t, nil), cfg)[0].Validation.Attacked)
}

func TestValidationRefused(t *testing.T) {
	other, err := dataset.New("other", dataset.NewMemory(1, 5, 5, make([]uint8, 25)), []int{0}, []string{"dark", "grey", "bright"})
	require.NoError(t, err)
	good := train.DefaultValidation(toy(t), nil)
	for want, change := range map[string]func(v *train.Validation){
		"train: Config.Validation.Set is nil, want a data set":                          func(v *train.Validation) { v.Set = nil },
		"train: Config.Validation.Every is 0, want at least 1":                          func(v *train.Validation) { v.Every = 0 },
		"train: Config.Validation.BatchSize is -1, want at least 1":                     func(v *train.Validation) { v.BatchSize = -1 },
		"train: Config.Validation.Set: snn: images of 1×5×5: the network expects 1×6×6": func(v *train.Validation) { v.Set = other },
	} {
		cfg, v := rat(), *good
		change(&v)
		cfg.Validation = &v
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.EqualError(t, err, want)
	}
	cfg, broken := rat(), *good
	broken.Adversary = perturb(func(x tensor.NCHW) (tensor.NCHW, error) { return x, errBroken })
	cfg.Validation = &broken
	model := tiny(t, nil)
	tr := trainer(t, model, cfg)
	for _, err := range tr.Epochs(t.Context()) {
		require.ErrorIs(t, err, errBroken)
		assert.EqualError(t, err, "train: epoch 1 of 3: validation: accuracy: images 0 to 21: adversary: broken")
	}
	// The steps of the epoch are kept.
	assert.Equal(t, 1.0, tr.Completed())
	broken.Adversary = nil
	finish(t, tr)
	want := tiny(t, nil)
	fit(t, want, rat())
	assert.Equal(t, values(want), values(model))
}

// SaveBest keeps the network of the best epoch, the first of equal ones, also over a resume.
func TestSaveBest(t *testing.T) {
	for _, adversary := range []snn.Adversary{nil, invert{}} {
		cfg := train.Default(8)
		cfg.Loader.BatchSize, cfg.LR = 8, 0.3
		cfg.Validation = train.DefaultValidation(toy(t), adversary)
		dir := t.TempDir()
		best, checkpoint := filepath.Join(dir, "best"), filepath.Join(dir, "checkpoint")
		model := tiny(t, nil)
		tr := trainer(t, model, cfg)
		require.NoError(t, tr.SaveBest(best))
		var networks [][][]float32
		var scores []float64
		for m, err := range tr.Epochs(t.Context()) {
			require.NoError(t, err)
			networks = append(networks, values(model))
			score := m.Validation.Clean
			if adversary != nil {
				score = *m.Validation.Attacked
			}
			scores = append(scores, score)
			at := slices.Index(scores, slices.Max(scores))
			loaded := tiny(t, nil)
			require.NoError(t, loaded.Load(best))
			require.Equal(t, networks[at], values(loaded), "after epoch %d", m.Epoch)
			if m.Epoch == at+1 {
				require.NoError(t, tr.Save(checkpoint))
			}
		}
		last := slices.Index(scores, slices.Max(scores))
		require.Less(t, last, 7, "the last epoch is not the best: %v", scores)
		require.NoError(t, os.Remove(best))
		tr = trainer(t, tiny(t, nil), cfg)
		require.NoError(t, tr.Resume(checkpoint))
		require.NoError(t, tr.SaveBest(best))
		finish(t, tr)
		assert.NoFileExists(t, best, "nothing better after the resume")
	}
	assert.EqualError(t, trainer(t, tiny(t, nil), rat()).SaveBest("x"), "train: save best network x: Config.Validation is nil, want one")
}

// TestAverageByHand follows the moving average over the updates, and looks at it in the ways
// that show it.
func TestAverageByHand(t *testing.T) {
	cfg := rat()
	cfg.Epochs, cfg.EMA = 6, 0.8
	model := tiny(t, nil)
	want := values(model) // the average
	var validated [][]float32
	cfg.Validation = train.DefaultValidation(toy(t), perturb(func(x tensor.NCHW) (tensor.NCHW, error) {
		validated = values(model)
		return x, nil
	}))
	var tr *train.Trainer
	n := 0.0
	cfg.Progress = func(train.Progress) {
		n++
		d := min(0.8, (1+n)/(10+n))
		for i, v := range values(model) {
			for k := range v {
				want[i][k] = float32(d*float64(want[i][k]) + (1-d)*float64(v[k]))
			}
		}
	}
	best := filepath.Join(t.TempDir(), "best")
	tr = trainer(t, model, cfg)
	require.NoError(t, tr.SaveBest(best))
	top := 0.0
	for m, err := range tr.Epochs(t.Context()) {
		require.NoError(t, err)
		weights := values(model)
		require.NoError(t, tr.WithAverage(func() error {
			for i, v := range values(model) {
				require.InDeltaSlice(t, want[i], v, 1e-5)
			}
			require.NotEqual(t, weights, values(model))
			require.Equal(t, validated, values(model))
			a, err := train.Accuracy(t.Context(), model, toy(t), 8)
			require.NoError(t, err)
			require.Equal(t, a, m.Validation.Clean)
			if a > top {
				top = a
				loaded := tiny(t, nil)
				require.NoError(t, loaded.Load(best))
				require.Equal(t, values(model), values(loaded))
			}
			return nil
		}))
		require.Equal(t, weights, values(model))
	}
	require.Equal(t, 18.0, n)
	assert.Positive(t, top)
	assert.Equal(t, errBroken, tr.WithAverage(func() error { return errBroken }))

	plain := tiny(t, nil)
	cfg.EMA, cfg.Progress = 0, nil
	fit(t, plain, cfg)
	assert.Equal(t, values(plain), values(model), "the average does not affect the training")
}

// averaged returns the state of a model with its parameters averaged.
func averaged(t testing.TB, tr *train.Trainer, m *snn.Model) (vs [][]float32) {
	require.NoError(t, tr.WithAverage(func() error { vs = values(m); return nil }))
	return vs
}

// Parameters of neurons are trained, clipped, averaged and penalized as others are, and the
// penalty of membrane potentials refuses a layer whose potentials it does not know.
func TestNeuronParameters(t *testing.T) {
	build := func() *snn.Model {
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: 4}, snn.NewSequential(
			snn.Flatten{}, snn.NewLinear(36, 20, true), snn.NewPLIF(2), snn.NewLinear(20, 20, true),
			snn.NewParamLIF(20, 0.9, 0.5), snn.NewLinear(20, 3, true)))
		require.NoError(t, err)
		m.Init(rng.New(1))
		return m
	}
	cfg := train.Default(4)
	cfg.Loader.BatchSize, cfg.ClipNorm, cfg.EMA, cfg.Recipe = 8, 1, 0.8, train.AWP{Gamma: 0.01}
	cfg.Penalties = []train.Penalty{train.RatePenalty{Weight: 1, Target: 0.5}, train.CurrentPenalty{Weight: 0.1}}
	want, got := build(), build()
	before := values(want)
	tr := trainer(t, want, cfg)
	path := filepath.Join(t.TempDir(), "checkpoint")
	for m, err := range tr.Epochs(t.Context()) {
		require.NoError(t, err)
		assert.Positive(t, m.Penalty)
		if m.Epoch == 2 {
			require.NoError(t, tr.Save(path))
		}
	}
	trained := 0
	for i, p := range want.State() {
		if p.Trainable {
			assert.NotEqual(t, before[i], p.Data(), p.Name)
			trained++
		}
	}
	assert.Equal(t, 6+1+2, trained)
	resumed := trainer(t, got, cfg)
	require.NoError(t, resumed.Resume(path))
	finish(t, resumed)
	assert.Equal(t, values(want), values(got))
	assert.Equal(t, averaged(t, tr, want), averaged(t, resumed, got))

	cfg.Penalties = []train.Penalty{train.MembranePenalty{Layer: "2", Weight: 1}}
	for _, err := range trainer(t, build(), cfg).Epochs(t.Context()) {
		assert.ErrorContains(t, err, "penalty train.MembranePenalty of layer 2: it has no membrane potentials of a *snn.GLIF in this pass, want a *snn.LIF under BPTT or BPTR")
	}
}

// A resumed training goes on with the average, to the bit, and a fused update of a large
// layer does not come before the average begins.
func TestAverageResumes(t *testing.T) {
	cfg := rat()
	cfg.EMA = 0.9
	want := tiny(t, nil)
	tr := trainer(t, want, cfg)
	finish(t, tr)
	for epochs := range 3 {
		model := tiny(t, nil)
		model.Threads = 1
		resumed := trainer(t, model, cfg)
		require.NoError(t, resumed.Resume(saveAt(t, cfg, epochs)))
		finish(t, resumed)
		require.Equal(t, averaged(t, tr, want), averaged(t, resumed, model))
		require.Equal(t, values(want), values(model))
	}
	cfg.EMA = 0.8
	path := saveAt(t, cfg, 1)
	cfg.EMA = 0
	assert.ErrorContains(t, trainer(t, tiny(t, nil), cfg).Resume(path), "Config.EMA is 0, but the checkpoint has 0.8")

	one, _ := whole(t, 1)
	one.EMA = 0.9
	m := tiny(t, plain)
	before := values(m)
	tr = trainer(t, m, one)
	finish(t, tr)
	for i, v := range averaged(t, tr, m) {
		for k := range v {
			d := 2. / 11
			require.InDelta(t, d*float64(before[i][k])+(1-d)*float64(m.State()[i].Data()[k]), v[k], 1e-6)
		}
	}
}

// TestClipByHand compares with a loop by hand, in which the gradient of all parameters has at
// most the norm.
func TestClipByHand(t *testing.T) {
	const bound = 4.0
	cfg, x := whole(t, 3)
	cfg.ClipNorm = bound
	model := tiny(t, plain)
	fit(t, model, cfg)

	other := tiny(t, plain)
	u, err := train.NewUpdater(cfg.Optimizer, other.Params())
	require.NoError(t, err)
	var clipped []bool
	for range 3 {
		for _, p := range other.Params() {
			p.ClearGrad()
		}
		_, err := other.Differentiate(snn.Pass{Train: true}, x, snn.OfParams, func(o snn.Output) ([]float32, error) {
			grad, _ := cfg.Loss.Compute(make([]float64, x.N), train.BatchOutput{Output: o, Labels: toy(t).Labels})
			for i := range grad {
				grad[i] /= float32(x.N)
			}
			return grad, nil
		})
		require.NoError(t, err)
		square := 0.0
		for _, p := range other.Params() {
			for _, g := range p.ExportGrad() {
				square += float64(g) * float64(g)
			}
		}
		clipped = append(clipped, math.Sqrt(square) > bound)
		if math.Sqrt(square) <= bound {
			square = bound * bound
		}
		for _, p := range other.Params() {
			for i := range p.Grad() {
				p.Grad()[i] *= float32(bound / math.Sqrt(square))
			}
		}
		u.Step(cfg.LR, 0)
	}
	require.True(t, clipped[0])
	require.Contains(t, clipped, false)
	for i, p := range other.State() {
		assert.InDeltaSlice(t, p.Data(), model.State()[i].Data(), 1e-5, p.Name)
	}

	want, got := tiny(t, plain), tiny(t, plain)
	cfg.ClipNorm = 0
	fit(t, want, cfg)
	cfg.ClipNorm = 1e9 // no gradient is that large, and no update is fused
	fit(t, got, cfg)
	assert.Equal(t, values(want), values(got))
	assert.NotEqual(t, values(want), values(model))
	cfg = rat()
	cfg.ClipNorm = 0.1
	resumes(t, cfg, 1)
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1)} {
		cfg.ClipNorm = bad
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.ErrorContains(t, err, "train: Config.ClipNorm is ")
	}
	for _, bad := range []float64{-0.1, 1, math.NaN()} {
		cfg = rat()
		cfg.EMA = bad
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.ErrorContains(t, err, "train: Config.EMA is ")
	}
}

// A training that resumes for more epochs is the longer training, to the bit, if the learning
// rates of what is done are the same.
func TestResumeForMoreEpochs(t *testing.T) {
	short := func(s train.Schedule) train.Config {
		cfg := rat()
		cfg.Epochs, cfg.Schedule = 2, s
		return cfg
	}
	for _, s := range []train.Schedule{train.Constant{}, train.StepDecay{Every: 1, Gamma: 0.5}, train.Warmup{Epochs: 1, Then: train.Constant{}}} {
		path := saveAt(t, short(s), 2)
		cfg := short(s)
		cfg.Epochs = 4
		want, got := tiny(t, nil), tiny(t, nil)
		metrics := fit(t, want, cfg)
		tr := trainer(t, got, cfg)
		require.NoError(t, tr.Resume(path))
		assert.Equal(t, metrics[2:], finish(t, tr))
		assert.Equal(t, values(want), values(got))
	}
	cfg := short(train.Cosine{})
	path := saveAt(t, cfg, 2)
	cfg.Epochs = 4
	model := tiny(t, nil)
	tr := trainer(t, model, cfg)
	assert.ErrorContains(t, tr.Resume(path), "Config.Epochs is 4, but the checkpoint has 2: with more epochs, train.Cosine gives epoch 2 the learning rate 0.085")
	assert.Empty(t, tr.History())

	// The rate of the first epoch is the same for any number of epochs, unless it changes
	// from step to step.
	cfg = short(train.Cosine{})
	path = saveAt(t, cfg, 1)
	cfg.Epochs = 4
	want := tiny(t, nil)
	fit(t, want, cfg)
	tr = trainer(t, model, cfg)
	require.NoError(t, tr.Resume(path))
	finish(t, tr)
	assert.Equal(t, values(want), values(model))
	cfg = short(train.Cosine{EveryStep: true})
	path = saveAt(t, cfg, 1)
	cfg.Epochs = 4
	assert.ErrorContains(t, trainer(t, tiny(t, nil), cfg).Resume(path), "train.Cosine gives epoch 1 the learning rate ")

	// A penalty that sees the share of the steps that are done would have been another one.
	for _, c := range []struct {
		penalty train.Penalty
		want    string
	}{
		{train.ThresholdPenalty{Weight: 0.1, Margin: 1}, ""},
		{train.MembranePenalty{Weight: 0.1}, ""},
		{train.ThresholdPenalty{Weight: 0.1, Margin: 1, Rising: true}, "Config.Epochs is 4, but the checkpoint has 2: the completed steps may have another penalty train.ThresholdPenalty then"},
		{&train.RatePenalty{Weight: 0.1}, "another penalty *train.RatePenalty then"}, // not known
	} {
		cfg := short(train.Constant{})
		cfg.Penalties = []train.Penalty{c.penalty}
		begun, path := saveAt(t, cfg, 0), saveAt(t, cfg, 1)
		cfg.Epochs = 4
		tr := trainer(t, tiny(t, nil), cfg)
		assert.NoError(t, tr.Resume(begun), "no step is done")
		if err := tr.Resume(path); c.want == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, c.want)
		}
	}
}
