package train_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// saveAt trains for that many epochs of cfg and saves a checkpoint.
func saveAt(t testing.TB, cfg train.Config, epochs int) string {
	path := filepath.Join(t.TempDir(), "checkpoint.safetensors")
	tr := trainer(t, tiny(t, nil), cfg)
	for range epochs {
		for _, err := range tr.Epochs(context.Background()) {
			require.NoError(t, err)
			break
		}
	}
	require.NoError(t, tr.Save(path))
	return path
}

// TestResumeRepeats resumes after each number of epochs, by a trainer whose model
// was something else.
func TestResumeRepeats(t *testing.T) {
	adam := rat()
	adam.Optimizer, adam.LR = train.DefaultAdam(), 0.01
	for name, cfg := range map[string]train.Config{"SGD": rat(), "Adam": adam} {
		t.Run(name, func(t *testing.T) {
			want := tiny(t, nil)
			wantMetrics := fit(t, want, cfg)
			for epochs := range 4 {
				path := saveAt(t, cfg, epochs)
				model := tiny(t, nil)
				fit(t, model, train.Default(1)) // to something else
				model.Init(rng.New(99))
				cfg.Loader.Prefetch = 7
				tr := trainer(t, model, cfg)
				require.NoError(t, tr.Resume(path))
				require.Len(t, tr.History(), epochs)
				require.ElementsMatch(t, wantMetrics[epochs:], finish(t, tr))
				assert.Equal(t, values(want), values(model), "from epoch %d", epochs)
				for i, m := range tr.History() {
					assert.Equal(t, wantMetrics[i], timeless(m))
				}
			}
		})
	}
}

// TestResumeWithinEpoch resumes after every step, and then goes on at another number of
// threads.
func TestResumeWithinEpoch(t *testing.T) {
	racetest.Costly(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	adam, hire := rat(), rat()
	adam.Optimizer, adam.LR = train.DefaultAdam(), 0.01
	hire.Recipe = train.HIRE{Periods: 3, Eps: 0.05}
	all := rat()
	all.Loss, all.Recipe, all.ClipNorm, all.EMA = train.TRADES{Beta: 6}, train.AWP{Gamma: 0.05, Warmup: 1}, 0.5, 0.9
	all.Schedule = train.Warmup{Epochs: 1, Then: train.Cosine{EveryStep: true}}
	all.Penalties = []train.Penalty{train.RatePenalty{Weight: 1}, train.CurrentPenalty{Layer: "n", Weight: 0.1}}
	all.Validation = train.DefaultValidation(toy(t), invert{})
	for name, cfg := range map[string]train.Config{"SGD": rat(), "Adam": adam, "HIRE": hire, "all": all} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := func(step int) string { return filepath.Join(folder, strconv.Itoa(step)) }
			var tr *train.Trainer
			step := 0
			cfg.Progress = func(train.Progress) {
				step++
				require.NoError(t, tr.Save(path(step)))
				assert.ErrorContains(t, tr.Resume(path(step)), "an epoch is under way")
			}
			want := tiny(t, nil)
			tr = trainer(t, want, cfg)
			wantMetrics := finish(t, tr)
			require.Equal(t, 9, step)
			average := averaged(t, tr, want)
			cfg.Progress = nil
			for k := 1; k <= step; k++ {
				runtime.GOMAXPROCS(1 + k%2)
				model := tiny(t, nil)
				model.Init(rng.New(99))
				cfg.Loader.Prefetch = k
				tr := trainer(t, model, cfg)
				require.NoError(t, tr.Resume(path(k)))
				require.InDelta(t, float64(k)/3, tr.Completed(), 1e-9)
				history := tr.History()
				finish(t, tr)
				require.True(t, slices.EqualFunc(values(want), values(model), slices.Equal), "from step %d", k)
				require.True(t, slices.EqualFunc(average, averaged(t, tr, model), slices.Equal), "from step %d", k)
				for i, m := range tr.History() {
					require.Equal(t, wantMetrics[i], timeless(m), "from step %d", k)
					require.Greater(t, m.Seconds, 0.0)
				}
				require.ElementsMatch(t, history, tr.History()[:len(history)])
			}
		})
	}
}

// A context that is done loses no step, and the time that was spent before it counts.
func TestResumeAfterCancel(t *testing.T) {
	want := tiny(t, nil)
	wantMetrics := fit(t, want, rat())
	path := filepath.Join(t.TempDir(), "checkpoint")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cfg := rat()
	cfg.Progress = func(p train.Progress) {
		if p.Epoch == 3 && p.Step == 2 {
			time.Sleep(50 * time.Millisecond)
			cancel()
		}
	}
	var last error
	first := trainer(t, tiny(t, nil), cfg)
	first.SaveEvery(time.Hour, path)
	for _, err := range first.Epochs(ctx) {
		last = err
	}
	require.EqualError(t, last, "train: epoch 3 of 3, step 3 of 3: context canceled")
	model := tiny(t, nil)
	tr := trainer(t, model, rat())
	require.NoError(t, tr.Resume(path))
	require.InDelta(t, 2+2./3, tr.Completed(), 1e-9)
	assert.Equal(t, wantMetrics[2:], finish(t, tr))
	assert.Equal(t, values(want), values(model))
	assert.Greater(t, tr.History()[2].Seconds, 0.05)
}

// TestSaveEvery looks at the checkpoint during the training.
func TestSaveEvery(t *testing.T) {
	for interval, behind := range map[time.Duration]func(p train.Progress) float64{
		0:         func(p train.Progress) float64 { return float64(p.Epoch-1) + float64(p.Step-1)/3 },
		time.Hour: func(p train.Progress) float64 { return float64(p.Epoch - 1) },
	} {
		path := filepath.Join(t.TempDir(), "checkpoint")
		other := trainer(t, tiny(t, nil), rat())
		cfg, calls := rat(), 0
		cfg.Progress = func(p train.Progress) {
			calls++
			require.NoError(t, other.Resume(path))
			require.InDelta(t, behind(p), other.Completed(), 1e-9)
		}
		tr := trainer(t, tiny(t, nil), cfg)
		tr.SaveEvery(interval, path)
		finish(t, tr)
		require.Equal(t, 9, calls)
		require.NoError(t, other.Resume(path))
		require.Equal(t, 3.0, other.Completed())
	}

	// A trainer that has gone back to an earlier checkpoint saves where it stands.
	earlier, path := saveAt(t, rat(), 1), filepath.Join(t.TempDir(), "checkpoint")
	tr := trainer(t, tiny(t, nil), rat())
	tr.SaveEvery(time.Hour, path)
	finish(t, tr)
	require.NoError(t, tr.Resume(earlier))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range tr.Epochs(ctx) {
		require.Error(t, err)
	}
	other := trainer(t, tiny(t, nil), rat())
	require.NoError(t, other.Resume(path))
	require.Equal(t, 1.0, other.Completed())
}

// A checkpoint that cannot be written is known before the first step, and later ends the
// sequence without loss.
func TestSaveEveryErrors(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere", "checkpoint")
	cfg, steps := rat(), 0
	var tr *train.Trainer
	cfg.Progress = func(p train.Progress) {
		if steps++; p.Epoch == 2 && p.Step == 1 {
			tr.SaveEvery(0, nowhere)
		}
	}
	want := tiny(t, nil)
	wantMetrics := fit(t, want, rat())
	model := tiny(t, nil)
	tr = trainer(t, model, cfg)
	tr.SaveEvery(0, nowhere)
	for _, err := range tr.Epochs(context.Background()) {
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorContains(t, err, "train: save "+nowhere+": ")
	}
	require.Zero(t, steps)
	tr.SaveEvery(0, "")
	var last error
	for _, last = range tr.Epochs(context.Background()) {
	}
	require.ErrorIs(t, last, os.ErrNotExist)
	require.InDelta(t, 1+1./3, tr.Completed(), 1e-9)
	tr.SaveEvery(0, "")
	assert.Equal(t, wantMetrics[1:], finish(t, tr))
	assert.Equal(t, values(want), values(model))
}

func TestResumeRefusesAnother(t *testing.T) {
	path := saveAt(t, rat(), 1)
	set0 := toy(t)
	labels := slices.Clone(set0.Labels)
	labels[4] = 2
	dark := make([]uint8, 22*36)
	for name, c := range map[string]struct {
		cfg   func(*train.Config)
		arch  func(*zoo.Config)
		model func(*snn.Model)
		set   func() (*dataset.Set, error)
		seed  uint64
		want  string
	}{
		"epochs":    {cfg: func(c *train.Config) { c.Epochs = 2 }, want: "Config.Epochs is 2, but the checkpoint has 3"},
		"rate":      {cfg: func(c *train.Config) { c.LR = 0.2 }, want: "Config.LR is 0.2, but the checkpoint has 0.1"},
		"schedule":  {cfg: func(c *train.Config) { c.Schedule = train.Constant{} }, want: "Config.Schedule is train.Constant{}, but the checkpoint has train.Cosine{Floor:0 EveryStep:false}"},
		"momentum":  {cfg: func(c *train.Config) { c.Optimizer = train.SGD{Momentum: 0.8} }, want: "Config.Optimizer is train.SGD{Momentum:0.8 WeightDecay:0 Nesterov:false}, but the checkpoint has train.SGD{Momentum:0.9 WeightDecay:0.0005 Nesterov:false}"},
		"optimizer": {cfg: func(c *train.Config) { c.Optimizer = train.DefaultAdam() }, want: "Config.Optimizer is train.Adam{"},
		"batch":     {cfg: func(c *train.Config) { c.Loader.BatchSize = 4 }, want: "Config.Loader is dataset.LoaderConfig{BatchSize:4 "},
		"gradient":  {cfg: func(c *train.Config) { c.Gradient = snn.BPTR{} }, want: "Config.Gradient is snn.BPTR{}, but the checkpoint has snn.BPTT{Surrogate:none Relative:false}"},
		"surrogate of the gradient": {cfg: func(c *train.Config) { c.Gradient = snn.BPTT{Surrogate: snn.Triangle{Width: 2}} },
			want: "Config.Gradient is snn.BPTT{Surrogate:snn.Triangle{Width:2} Relative:false}, but the checkpoint has snn.BPTT{Surrogate:none Relative:false}"},
		"smoothing":    {cfg: func(c *train.Config) { c.Loss = train.CrossEntropy{} }, want: "Config.Loss is train.CrossEntropy{Smoothing:0}, but the checkpoint has train.CrossEntropy{Smoothing:0.1}"},
		"no adversary": {cfg: func(c *train.Config) { c.Adversary = nil }, want: "Config.Adversary is none, but the checkpoint has train_test.noise{Std:0.05}"},
		"adversary":    {cfg: func(c *train.Config) { c.Adversary = noise{0.06} }, want: "Config.Adversary is train_test.noise{Std:0.06}, but the checkpoint has train_test.noise{Std:0.05}"},
		"regularizer":  {cfg: func(c *train.Config) { c.Regularizer = &shrink{0.5} }, want: "Config.Regularizer is train_test.shrink{Share:0.5}, but the checkpoint has train_test.shrink{Share:0.01}"},
		"simplex":      {cfg: func(c *train.Config) { c.Simplex = nil }, want: "Config.Simplex is none, but the checkpoint has a function"},
		"threshold":    {arch: func(c *zoo.Config) { c.Threshold = 2 }, want: "layer blocks.0.n1 is IF θ=2, 4×6×6 to 4×6×6, but the checkpoint has IF, 4×6×6 to 4×6×6"},
		"width":        {arch: func(c *zoo.Config) { c.WidthMultiplier = 2 }, want: "layer conv1 is conv 3×3 /1, 1×6×6 to 8×6×6, but the checkpoint has conv 3×3 /1, 1×6×6 to 4×6×6"},
		"batch norm":   {arch: func(c *zoo.Config) { c.BatchNorm = false }, want: "layer blocks.0.bn1 is missing, but the checkpoint has batch norm"},
		"surrogate":    {arch: func(c *zoo.Config) { c.SurrogateParam = 0.5 }, want: "the model's Meta snnrat surrogate_param is 0.5, but the checkpoint has 1"},
		"encoder":      {model: func(m *snn.Model) { m.Encoder = snn.Direct{} }, want: "the model's encoder is snn.Direct{}, but the checkpoint has snn.Poisson{}"},
		"steps":        {model: func(m *snn.Model) { m.Steps = 5 }, want: "the model's number of steps is 5, but the checkpoint has 3"},
		"metadata":     {model: func(m *snn.Model) { m.Meta["note"] = "hi" }, want: "the model's Meta note is hi, but the checkpoint has none"},
		"fewer images": {set: func() (*dataset.Set, error) { return set0.First(21) }, want: "the set's size is 21 images of 1×6×6, but the checkpoint has 22 images of 1×6×6"},
		"labels": {set: func() (*dataset.Set, error) {
			return dataset.New("", toyImages(t), labels, set0.ClassNames())
		}, want: "the set's content is "},
		"pixels": {set: func() (*dataset.Set, error) {
			return dataset.New("", dataset.NewMemory(1, 6, 6, dark), set0.Labels, set0.ClassNames())
		}, want: "the set's content is "},
		"classes": {set: func() (*dataset.Set, error) {
			return dataset.New("", toyImages(t), set0.Labels, []string{"dark", "grey", "light"})
		}, want: "the set's classes is dark, grey, light, but the checkpoint has dark, grey, bright"},
		"key": {seed: 6, want: "the key is the one with digest "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, set, seed := rat(), set0, uint64(5)
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			model := tiny(t, c.arch)
			if c.model != nil {
				c.model(model)
			}
			if c.set != nil {
				var err error
				set, err = c.set()
				require.NoError(t, err)
			}
			if c.seed != 0 {
				seed = c.seed
			}
			tr, err := train.New(model, set, cfg, rng.New(seed))
			require.NoError(t, err)
			before := values(model)
			err = tr.Resume(path)
			require.ErrorContains(t, err, "train: resume "+path+": "+c.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.Equal(t, before, values(model))
			assert.Empty(t, tr.History())
		})
	}
}

// parts are the layers of a network for toy's images that have settings.
type parts struct {
	conv *snn.Conv2D
	norm *snn.BatchNorm
	n    *snn.LIF
	drop *snn.Dropout
}

// TestResumeRefusesOtherSettingsOfLayers changes, in a network that no Meta describes,
// each setting of a layer that neither its kind nor a shape shows, or may show.
func TestResumeRefusesOtherSettingsOfLayers(t *testing.T) {
	build := func(change func(parts)) *train.Trainer {
		p := parts{snn.NewConv2D(1, 4, 1, 4, 0, true), snn.NewBatchNorm(4), snn.NewIF(), &snn.Dropout{P: 0.2}}
		change(p)
		body := (&snn.Sequential{}).Append("conv", p.conv).Append("norm", p.norm).Append("n", p.n).
			Append("drop", p.drop).Append("", snn.Flatten{}).Append("fc", snn.NewLinear(16, 3, true))
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: 2}, body)
		require.NoError(t, err)
		m.Init(rng.New(1))
		return trainer(t, m, train.Default(1))
	}
	path := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, build(func(parts) {}).Save(path))
	require.NoError(t, build(func(parts) {}).Resume(path))
	for name, c := range map[string]struct {
		change func(parts)
		want   string
	}{
		"padding":        {func(p parts) { p.conv.Pad = 1 }, "the setting of layer conv is snn.Conv2D{Stride:4 Pad:1}, but the checkpoint has snn.Conv2D{Stride:4 Pad:0}"},
		"eps":            {func(p parts) { p.norm.Eps = 1e-3 }, "the setting of layer norm is snn.BatchNorm{BatchNormState:autograd.BatchNormState{Eps:0.001 Momentum:0.1}}, but the checkpoint has "},
		"momentum":       {func(p parts) { p.norm.Momentum = 0.2 }, "Eps:1e-05 Momentum:0.2}}, but the checkpoint has "},
		"decay":          {func(p parts) { p.n.Decay = 0.5 }, "layer n is LIF λ=0.5, "},
		"threshold":      {func(p parts) { p.n.Threshold = 2 }, "layer n is IF θ=2, "},
		"soft reset":     {func(p parts) { p.n.SoftReset = true }, "the setting of layer n is snn.LIF{Decay:1 Threshold:1 Reset:0 Start:0 SoftReset:true DecayInput:false DetachReset:false Surrogate:snn.Triangle{Width:1}}, but the checkpoint has "},
		"detached reset": {func(p parts) { p.n.DetachReset = true }, "SoftReset:false DecayInput:false DetachReset:true "},
		"surrogate":      {func(p parts) { p.n.Surrogate = snn.Arctan{Alpha: 1} }, "Surrogate:snn.Arctan{Alpha:1}}, but the checkpoint has "},
		"width":          {func(p parts) { p.n.Surrogate = snn.Triangle{Width: 2} }, "Surrogate:snn.Triangle{Width:2}}, but the checkpoint has "},
		"dropout":        {func(p parts) { p.drop.P = 0.3 }, "layer drop is dropout 0.3, "},
		"every step":     {func(p parts) { p.drop.EveryStep = true }, "the setting of layer drop is snn.Dropout{P:0.2 EveryStep:true}, but the checkpoint has snn.Dropout{P:0.2 EveryStep:false}"},
	} {
		t.Run(name, func(t *testing.T) {
			err := build(c.change).Resume(path)
			require.ErrorContains(t, err, "train: resume "+path+": ")
			assert.ErrorContains(t, err, c.want)
		})
	}
}

// toyImages returns toy's images.
func toyImages(t testing.TB) *dataset.Memory {
	const n, pixels = 22, 36
	set, data := toy(t), make([]uint8, n*pixels)
	for i := range n {
		x := tensor.NewNCHW(1, 1, 6, 6)
		require.NoError(t, set.Fill(x, []int{i}))
		for k, v := range x.Data {
			data[i*pixels+k] = uint8(math.Round(float64(v) * 255))
		}
	}
	return dataset.NewMemory(1, 6, 6, data)
}

// A trainer that has failed with NoRollback stays failed after a file that turns out to be corrupt.
func TestCorruptFileAfterFailure(t *testing.T) {
	path := saveAt(t, rat(), 2)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content[len(content)-1] ^= 1
	require.NoError(t, os.WriteFile(path, content, 0o644))
	cfg := rat()
	cfg.NoRollback = true
	cfg.Simplex = func([]float32) error { return errors.New("no simplex") }
	tr := trainer(t, tiny(t, nil), cfg)
	for _, err := range tr.Epochs(t.Context()) {
		require.ErrorContains(t, err, "no simplex")
	}
	require.ErrorContains(t, tr.Resume(path), "it is corrupt")
	require.ErrorContains(t, tr.Save(filepath.Join(t.TempDir(), "c")), "expected Resume from a checkpoint first")
}

// TestResumeRefusesBadFiles cuts a checkpoint off and flips bytes, everywhere.
func TestResumeRefusesBadFiles(t *testing.T) {
	good := saveAt(t, rat(), 2)
	content, err := os.ReadFile(good)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "bad")
	model := tiny(t, nil)
	tr := trainer(t, model, rat())
	before := values(model)
	refuses := func(b []byte, what string, args ...any) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, b, 0o644))
		err := tr.Resume(path)
		require.ErrorContains(t, err, "train: resume "+path+": ", append([]any{what}, args...)...)
		require.Empty(t, tr.History())
	}
	for n := 0; n < len(content); n += 1 + n/100 {
		refuses(content[:n], "cut off after %d bytes of %d", n, len(content))
	}
	refuses(append(slices.Clone(content), 0), "trailing byte")
	for i := 0; i < len(content); i += 1 + i/100 {
		b := slices.Clone(content)
		b[i] ^= 1
		refuses(b, "byte %d of %d flipped", i, len(content))
	}
	require.NoError(t, tiny(t, nil).Save(path))
	err = tr.Resume(path)
	require.ErrorContains(t, err, "train: resume "+path+`: no "snnrat.train" in the file's metadata, want a file written by Trainer.Save`)
	missing := filepath.Join(t.TempDir(), "missing")
	err = tr.Resume(missing)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, missing)
	assert.Equal(t, before, values(model))
	require.NoError(t, tr.Resume(good))
}

// A step that fails on its way takes the trainer back to the beginning of the epoch, but
// leaves the checkpoint of the steps before it.
func TestFailedStepKeepsCheckpoint(t *testing.T) {
	want := tiny(t, nil)
	fit(t, want, rat())
	path := filepath.Join(t.TempDir(), "checkpoint")
	cfg, calls := rat(), 0
	good := cfg.Simplex
	cfg.Simplex = func(v []float32) error {
		if calls++; calls == 14 { // three convex combinations a step
			return errBroken
		}
		return good(v)
	}
	model := tiny(t, nil)
	tr := trainer(t, model, cfg)
	tr.SaveEvery(0, path)
	var last error
	for _, last = range tr.Epochs(context.Background()) {
	}
	require.ErrorIs(t, last, errBroken)
	require.Equal(t, 1.0, tr.Completed())
	resumed := tiny(t, nil)
	other := trainer(t, resumed, rat())
	require.NoError(t, other.Resume(path))
	require.InDelta(t, 1+1./3, other.Completed(), 1e-9)
	finish(t, other)
	assert.Equal(t, values(want), values(resumed))
	finish(t, tr)
	assert.Equal(t, values(want), values(model))
	require.NoError(t, other.Resume(path))
	assert.Equal(t, 3.0, other.Completed())
}

// TestSaveRefuses asks for a checkpoint in the middle of a step.
func TestSaveRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	cfg := rat()
	var tr *train.Trainer
	calls := 0
	cfg.Simplex = func([]float32) error {
		calls++
		assert.ErrorContains(t, tr.Save(path), "train: save "+path+": a step is under way")
		return nil
	}
	tr = trainer(t, tiny(t, nil), cfg)
	finish(t, tr)
	assert.Equal(t, 27, calls)
	assert.NoFileExists(t, path)
	nowhere := filepath.Join(t.TempDir(), "nowhere", "checkpoint")
	err := tr.Save(nowhere)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "train: save "+nowhere+": ")
}
