package train_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
)

// toy returns a set of 22 images of 1×6×6 in 3 classes, which differ in brightness.
func toy(t testing.TB) *dataset.Set {
	const n, pixels = 22, 36
	r := rng.New(3).Rand()
	labels, data := make([]int, n), make([]uint8, n*pixels)
	for i := range labels {
		labels[i] = i % 3
		for k := range pixels {
			data[i*pixels+k] = uint8(80*labels[i] + r.IntN(90))
		}
	}
	set, err := dataset.New("toy", dataset.NewMemory(1, 6, 6, data), labels, []string{"dark", "grey", "bright"})
	require.NoError(t, err)
	return set
}

// tiny returns a wide residual network for toy's images, with dropout and Poisson
// input, so that a step draws what it can, or another one by change.
func tiny(t testing.TB, change func(*zoo.Config)) *snn.Model {
	cfg := zoo.Default("WRN widths 4,4,6,8, 1 blocks a group, strides 1,2,2")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 6, 6, 3, 3
	cfg.Mean, cfg.Std = []float32{0.5}, []float32{0.3}
	cfg.Dropout, cfg.Poisson = 0.2, true
	if change != nil {
		change(&cfg)
	}
	model, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	return model
}

// rat returns a configuration with everything in it: 3 epochs of 3 steps, an
// adversary and projections that are simple and draw from their keys.
func rat() train.Config {
	cfg := train.Default(3)
	cfg.Loader.BatchSize = 8
	cfg.Loader.Augment = []dataset.Augmentation{dataset.Crop{Padding: 1}, dataset.Flip{}}
	cfg.Loss = train.CrossEntropy{Smoothing: 0.1}
	cfg.Adversary = noise{Std: 0.05}
	cfg.Regularizer = &shrink{Share: 0.01}
	cfg.Simplex = normalize
	return cfg
}

// noise is an adversary.
type noise struct{ Std float64 }

func (a noise) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	x = x.Clone()
	for n, id := range ids {
		r := key.Derive("image", id).Rand()
		for i, v := range x.Image(n) {
			x.Image(n)[i] = float32(min(1, max(0, float64(v)+a.Std*r.NormFloat64())))
		}
	}
	return x, nil
}

// shrink is a regularizer.
type shrink struct{ Share float64 }

func (s *shrink) Apply(p *autograd.Param, key rng.Key, _ int) error {
	f := float32(1 - s.Share*key.Rand().Float64())
	for i := range p.MutableData() {
		p.MutableData()[i] *= f
	}
	return nil
}

// normalize puts positive weights on the simplex.
func normalize(v []float32) error {
	if len(v) != 2 || v[0] <= 0 || v[1] <= 0 {
		return fmt.Errorf("weights %v", v)
	}
	v[0] /= v[0] + v[1]
	v[1] = 1 - v[0]
	return nil
}

func trainer(t testing.TB, model *snn.Model, cfg train.Config) *train.Trainer {
	tr, err := train.New(model, toy(t), cfg, rng.New(5))
	require.NoError(t, err)
	return tr
}

// fit trains to the end and returns the metrics.
func fit(t testing.TB, model *snn.Model, cfg train.Config) (ms []train.Metrics) {
	return finish(t, trainer(t, model, cfg))
}

func finish(t testing.TB, tr *train.Trainer) (ms []train.Metrics) {
	for m, err := range tr.Epochs(context.Background()) {
		require.NoError(t, err)
		ms = append(ms, timeless(m))
	}
	return ms
}

// timeless returns metrics without what a clock measured.
func timeless(m train.Metrics) train.Metrics {
	m.Seconds, m.ImagesPerSecond = 0, 0
	return m
}

// values returns a model's whole state.
func values(m *snn.Model) (vs [][]float32) {
	for _, p := range m.State() {
		vs = append(vs, slices.Clone(p.Data()))
	}
	return vs
}

func TestRepeatsAtAnyNumberOfThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want [][]float32
	var metrics []train.Metrics
	for _, procs := range []int{2, 2, 1} {
		runtime.GOMAXPROCS(procs)
		model := tiny(t, nil)
		got := fit(t, model, rat())
		if want == nil {
			want, metrics = values(model), got
			continue
		}
		require.Equal(t, want, values(model))
		require.Equal(t, metrics, got)
	}
	model := tiny(t, nil)
	tr, err := train.New(model, toy(t), rat(), rng.New(6))
	require.NoError(t, err)
	finish(t, tr)
	assert.NotEqual(t, want, values(model), "another key")
}

// TestByHand trains a network without anything random, on batches of 8, 8 and 6 images,
// and compares with the same written as a loop.
func TestByHand(t *testing.T) {
	plain := func(c *zoo.Config) { c.Dropout, c.Poisson = 0, false }
	set := toy(t)
	cfg := train.Default(4)
	cfg.Loader.BatchSize, cfg.Loader.Shuffle = 8, false
	cfg.Loss = train.CrossEntropy{Smoothing: 0.2}
	cfg.Gradient = snn.BPTR{}
	model := tiny(t, plain)
	got := fit(t, model, cfg)

	other := tiny(t, plain)
	x := tensor.NewNCHW(set.N, 1, 6, 6)
	all := make([]int, set.N)
	for i := range all {
		all[i] = i
	}
	require.NoError(t, set.Fill(x, all))
	u, err := train.NewUpdater(cfg.Optimizer, other.Params())
	require.NoError(t, err)
	for e := range 4 {
		var loss, correct float64
		for lo := 0; lo < set.N; lo += 8 {
			hi := min(lo+8, set.N)
			labels := set.Labels[lo:hi]
			for _, p := range other.Params() {
				p.ClearGrad()
			}
			require.NoError(t, other.ParamGradients(snn.Pass{Train: true, Gradient: snn.BPTR{}}, x.Slice(lo, hi), func(logits []float32) []float32 {
				losses, grad := make([]float64, hi-lo), make([]float32, len(logits))
				autograd.CrossEntropy(losses, grad, logits, labels, 0.2)
				for i, l := range losses {
					loss += l / float64(set.N)
					z := logits[3*i : 3*i+3]
					if slices.Index(z, slices.Max(z)) == labels[i] {
						correct++
					}
				}
				for i := range grad {
					grad[i] /= float32(hi - lo)
				}
				return grad
			}))
			u.Step(0.1*(1+math.Cos(math.Pi*float64(e)/4))/2, 0)
		}
		assert.InDelta(t, loss, got[e].Loss, 1e-9, "epoch %d", e+1)
		assert.InDelta(t, correct/float64(set.N), got[e].Accuracy, 1e-9)
		assert.Equal(t, e+1, got[e].Epoch)
	}
	assert.Equal(t, values(other), values(model))
}

// TestMetrics checks the numbers of an epoch that do not change when nothing learns.
func TestMetrics(t *testing.T) {
	cfg := train.Default(2)
	cfg.LR, cfg.Loader.BatchSize = 1e-30, 8
	var seen []train.Progress
	cfg.Progress = func(p train.Progress) { seen = append(seen, p) }
	model := tiny(t, nil)
	tr := trainer(t, model, cfg)
	start := time.Now()
	for m, err := range tr.Epochs(context.Background()) {
		require.NoError(t, err)
		assert.Equal(t, 1e-30*(1+math.Cos(math.Pi*float64(m.Epoch-1)/2))/2, m.LR)
		assert.InDelta(t, 22, m.Seconds*m.ImagesPerSecond, 1e-6)
		assert.Less(t, m.Seconds, time.Since(start).Seconds())
		var mean float64
		for i, images := range []float64{8, 8, 6} {
			p := seen[3*(m.Epoch-1)+i]
			assert.Equal(t, [4]int{m.Epoch, 2, i + 1, 3}, [4]int{p.Epoch, p.Epochs, p.Step, p.Steps})
			mean += p.Loss * images / 22
		}
		assert.InDelta(t, mean, m.Loss, 1e-9)
		assert.Equal(t, m, tr.History()[m.Epoch-1])
		assert.True(t, m.FiringRate > 0 && m.FiringRate < 1, m.FiringRate)
	}
	assert.Len(t, seen, 6)
}

// TestFiringRate makes neurons fire always.
func TestFiringRate(t *testing.T) {
	model := tiny(t, func(c *zoo.Config) { c.Arch, c.Poisson, c.BatchNorm = "conv4 | fc", false, false })
	for _, p := range model.Params() {
		if p.Name == "features.0.bias" {
			p.Import([]float32{100, 100, 100, -100})
		}
	}
	assert.Equal(t, 0.75, fit(t, model, train.Default(1))[0].FiringRate)
}

// TestDrawsOfAnImage freezes a network without batch norm, in which the loss of an
// epoch is that of its images: what they draw is new in each epoch, and depends
// neither on their batch nor on its order.
func TestDrawsOfAnImage(t *testing.T) {
	loss := func(batch int, shuffle, draws bool) [2]float64 {
		cfg := train.Default(2)
		cfg.LR, cfg.Loader.BatchSize, cfg.Loader.Shuffle = 1e-30, batch, shuffle
		ms := fit(t, tiny(t, func(c *zoo.Config) {
			c.Arch, c.BatchNorm = "conv4 conv4 | fc", false
			if !draws {
				c.Dropout, c.Poisson = 0, false
			}
		}), cfg)
		return [2]float64{ms[0].Loss, ms[1].Loss}
	}
	fixed := loss(8, true, false)
	assert.InDelta(t, fixed[0], fixed[1], 1e-9)
	drawn := loss(8, true, true)
	assert.Greater(t, math.Abs(drawn[0]-drawn[1]), 1e-6)
	other := loss(5, false, true)
	assert.InDeltaSlice(t, drawn[:], other[:], 1e-9)
}

// recorder notes what a trainer asks of it.
type recorder struct {
	model   *snn.Model
	batches map[rng.Key][]uint64
	applied map[rng.Key]string
}

func (r *recorder) Perturb(_ context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	r.model = m
	r.batches[key] = slices.Clone(ids)
	for i, id := range ids {
		if y[i] != int(id)%3 {
			return x, fmt.Errorf("image %d has label %d", id, y[i])
		}
	}
	return x, nil
}

func (r *recorder) Apply(p *autograd.Param, key rng.Key, threads int) error {
	r.applied[key] = p.Name
	if threads != 2 {
		return fmt.Errorf("%d threads", threads)
	}
	p.Import(make([]float32, p.Len()))
	return nil
}

func TestAdversaryAndRegularizer(t *testing.T) {
	r := &recorder{batches: map[rng.Key][]uint64{}, applied: map[rng.Key]string{}}
	cfg := train.Default(2)
	cfg.Loader.BatchSize = 8
	cfg.Adversary, cfg.Regularizer = r, r
	model := tiny(t, nil)
	model.Threads = 2
	fit(t, model, cfg)

	assert.Same(t, model, r.model)
	assert.Len(t, r.batches, 6, "one key a step")
	count := map[uint64]int{}
	for _, ids := range r.batches {
		for _, id := range ids {
			count[id]++
		}
	}
	assert.Len(t, count, 22)
	for id, n := range count {
		assert.Equal(t, 2, n, "image %d", id)
	}
	weights := map[string]int{}
	for _, name := range r.applied {
		weights[name]++
	}
	for _, p := range model.Params() {
		if strings.HasSuffix(p.Name, "weight") && len(p.Shape) > 1 {
			assert.Equal(t, 6, weights[p.Name], "%s: one key a step", p.Name)
			delete(weights, p.Name)
			assert.Zero(t, slices.Max(p.Data()), "%s: projected last", p.Name)
		}
	}
	assert.Empty(t, weights)
}

// TestPerturbedImagesAreTrainedOn gives an adversary that returns what differs from
// its batch, so that training on one set is like plain training on another.
func TestPerturbedImagesAreTrainedOn(t *testing.T) {
	black := train.Default(1)
	black.Adversary = perturb(func(x tensor.NCHW) (tensor.NCHW, error) { return tensor.NewNCHW(x.N, x.C, x.H, x.W), nil })
	m1, m2 := tiny(t, nil), tiny(t, nil)
	got := fit(t, m1, black)
	set, err := dataset.New("black", dataset.NewMemory(1, 6, 6, make([]uint8, 22*36)), toy(t).Labels, toy(t).ClassNames())
	require.NoError(t, err)
	tr, err := train.New(m2, set, train.Default(1), rng.New(5))
	require.NoError(t, err)
	assert.Equal(t, finish(t, tr), got)
	assert.Equal(t, values(m2), values(m1))
}

type perturb func(x tensor.NCHW) (tensor.NCHW, error)

func (f perturb) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	return f(x)
}

func TestSimplex(t *testing.T) {
	free, held := tiny(t, nil), tiny(t, nil)
	cfg := rat()
	fit(t, held, cfg)
	cfg.Simplex = nil
	fit(t, free, cfg)
	require.Len(t, held.ConvexParams(), 3)
	for i, p := range held.ConvexParams() {
		v := p.Export()
		assert.Equal(t, float32(1), v[0]+v[1], p.Name)
		u := free.ConvexParams()[i].Export()
		assert.NotEqual(t, float32(1), u[0]+u[1], p.Name)
	}
}

var errBroken = errors.New("broken")

// TestFailedStep fails the second epoch in its second step in all ways, and then goes on
// as if that had not been. Before the step changes anything, the first step is kept.
func TestFailedStep(t *testing.T) {
	want := tiny(t, nil)
	wantMetrics := fit(t, want, rat())
	for name, c := range map[string]struct {
		fail func(cfg *train.Config, model *snn.Model, fails func() bool, cancel func())
		want string
		kept int // steps of the epoch
	}{
		"cancelled": {func(cfg *train.Config, _ *snn.Model, fails func() bool, cancel func()) {
			cfg.Progress = func(p train.Progress) {
				if p.Epoch == 2 && p.Step == 1 {
					fails()
					cancel()
				}
			}
		}, "context canceled", 1},
		"cancelled while perturbing": {func(cfg *train.Config, _ *snn.Model, fails func() bool, cancel func()) {
			good := cfg.Adversary
			cfg.Adversary = adversary(func(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
				if fails() {
					cancel()
					return x, fmt.Errorf("attack: %w", ctx.Err())
				}
				return good.Perturb(ctx, m, x, y, ids, key)
			})
		}, "context canceled", 1},
		"adversary": {broken(func(x tensor.NCHW) (tensor.NCHW, error) { return x, errBroken }), "adversary: broken", 1},
		"adversary out of range": {broken(func(x tensor.NCHW) (tensor.NCHW, error) {
			x = x.Clone()
			x.Data[5] = 1.5
			return x, nil
		}), "1.5", 0},
		"adversary drops images": {broken(func(x tensor.NCHW) (tensor.NCHW, error) { return x.Slice(0, 3), nil }),
			"adversary: 3×1×6×6 images for a batch of 8×1×6×6", 1},
		"adversary changes shape": {broken(func(x tensor.NCHW) (tensor.NCHW, error) { return tensor.NewNCHW(x.N, 1, 5, 5), nil }), "adversary: 8×1×5×5 images for a batch of 8×1×6×6", 1},
		"regularizer": {func(cfg *train.Config, _ *snn.Model, fails func() bool, _ func()) {
			good := cfg.Regularizer
			cfg.Regularizer = regularizer(func(p *autograd.Param, key rng.Key, threads int) error {
				if p.Name == "fc.weight" && fails() {
					return errBroken
				}
				return good.Apply(p, key, threads)
			})
		}, "regularizer: broken", 0},
		"padding in a weight": {func(cfg *train.Config, _ *snn.Model, fails func() bool, _ func()) {
			good := cfg.Regularizer
			cfg.Regularizer = regularizer(func(p *autograd.Param, key rng.Key, threads int) error {
				if p.Name == "fc.weight" && fails() {
					w := p.MutableData()
					w[len(w)-1] = 0.1 // of the last of 16 channels
				}
				return good.Apply(p, key, threads)
			})
		}, "fc.weight: the padding is not zero", 0},
		"simplex": {func(cfg *train.Config, _ *snn.Model, fails func() bool, _ func()) {
			good := cfg.Simplex
			calls := 0
			cfg.Simplex = func(v []float32) error {
				if calls++; calls%3 == 0 && fails() {
					return errBroken
				}
				return good(v)
			}
		}, "simplex: blocks.2.convex.comb: broken", 0},
		"NaN in a weight": {func(cfg *train.Config, model *snn.Model, fails func() bool, _ func()) {
			good := cfg.Simplex
			calls := 0
			cfg.Simplex = func(v []float32) error {
				if calls++; calls%3 == 0 && fails() {
					model.Params()[0].MutableData()[0] = float32(math.NaN())
				}
				return good(v)
			}
		}, "conv1.weight holds a value that is not a finite number", 0},
		"NaN in a logit": {func(cfg *train.Config, model *snn.Model, fails func() bool, _ func()) {
			good := cfg.Adversary
			cfg.Adversary = adversary(func(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
				if fails() {
					ps := model.Params()
					ps[len(ps)-1].MutableData()[0] = float32(math.NaN())
				}
				return good.Perturb(ctx, m, x, y, ids, key)
			})
		}, "logit 0 is NaN: expected a finite number", 0},
	} {
		t.Run(name, func(t *testing.T) {
			model, cfg := tiny(t, nil), rat()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			calls := 0
			c.fail(&cfg, model, func() bool { calls++; return calls == 5 }, cancel)
			var before [][]float32
			progress := cfg.Progress
			cfg.Progress = func(p train.Progress) {
				if c.kept > 0 && p.Epoch == 2 {
					before = values(model)
				}
				if progress != nil {
					progress(p)
				}
			}
			tr := trainer(t, model, cfg)
			path := filepath.Join(t.TempDir(), "checkpoint")
			failed := 0
			for m, err := range tr.Epochs(ctx) {
				if err != nil {
					failed++
					assert.ErrorContains(t, err, "train: epoch 2 of 3, step 2 of 3: ")
					assert.ErrorContains(t, err, c.want)
					assert.NotContains(t, err.Error(), "\n")
					if ctx.Err() != nil {
						assert.EqualError(t, err, "train: epoch 2 of 3, step 2 of 3: context canceled")
						assert.ErrorIs(t, err, context.Canceled)
					}
					assert.Zero(t, m)
					continue
				}
				before = values(model)
			}
			require.Equal(t, 1, failed)
			require.True(t, slices.EqualFunc(before, values(model), slices.Equal))
			require.InDelta(t, 1+float64(c.kept)/3, tr.Completed(), 1e-9)

			require.NoError(t, tr.Save(path))
			resumed := tiny(t, nil)
			other := trainer(t, resumed, rat())
			if err := other.Resume(path); err == nil { // refused where the case has another adversary
				assert.Equal(t, wantMetrics[1:], finish(t, other))
				assert.Equal(t, values(want), values(resumed))
			} else {
				require.ErrorContains(t, err, ", but the checkpoint has ")
			}
			assert.Equal(t, wantMetrics[1:], finish(t, tr))
			assert.Equal(t, values(want), values(model))
		})
	}
}

type adversary func(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error)

func (f adversary) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	return f(ctx, m, x, y, ids, key)
}

type regularizer func(p *autograd.Param, key rng.Key, threads int) error

func (f regularizer) Apply(p *autograd.Param, key rng.Key, threads int) error {
	return f(p, key, threads)
}

// broken has the adversary return what wrong makes of the images of one step.
func broken(wrong func(x tensor.NCHW) (tensor.NCHW, error)) func(*train.Config, *snn.Model, func() bool, func()) {
	return func(cfg *train.Config, _ *snn.Model, fails func() bool, _ func()) {
		good := cfg.Adversary
		cfg.Adversary = adversary(func(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
			if fails() {
				return wrong(x)
			}
			return good.Perturb(ctx, m, x, y, ids, key)
		})
	}
}

// Weights whose currents overflow end the training with an error that names the step and
// the layer.
func TestCurrentsThatAreNotFinite(t *testing.T) {
	model := tiny(t, func(c *zoo.Config) { c.Arch, c.BatchNorm, c.Poisson = "conv4 conv4 | fc", false, false })
	for _, p := range model.Params() {
		if p.Name == "features.3.weight" {
			v := p.Export()
			for i := range v {
				v[i] = 3e38
			}
			p.Import(v)
		}
		if p.Name == "features.0.bias" { // all neurons fire
			p.Import([]float32{100, 100, 100, 100})
		}
	}
	var last error
	for _, last = range trainer(t, model, train.Default(1)).Epochs(context.Background()) {
	}
	require.ErrorContains(t, last, "train: epoch 1 of 1, step 1 of 1: ")
	assert.ErrorContains(t, last, "layer features.4")
}

// TestDiverges has too high a learning rate.
func TestDiverges(t *testing.T) {
	cfg := train.Default(5)
	cfg.LR, cfg.Loader.BatchSize = 1e38, 8
	model := tiny(t, nil)
	before := values(model)
	for _, err := range trainer(t, model, cfg).Epochs(context.Background()) {
		require.ErrorContains(t, err, "train: epoch 1 of 5, step ")
		require.ErrorContains(t, err, "a finite number")
	}
	assert.Equal(t, before, values(model))
}

// A panic of the caller's code, between two steps and in the middle of one, is the
// caller's, who may go on.
func TestPanics(t *testing.T) {
	want := tiny(t, nil)
	fit(t, want, rat())
	calls := 0
	stop := func() {
		if calls++; calls == 2 {
			panic("stop")
		}
	}
	for name, c := range map[string]struct {
		panics func(cfg *train.Config)
		kept   float64
	}{
		"progress": {func(cfg *train.Config) { cfg.Progress = func(train.Progress) { stop() } }, 2},
		"adversary": {func(cfg *train.Config) {
			good := cfg.Adversary
			cfg.Adversary = adversary(func(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
				stop()
				return good.Perturb(ctx, m, x, y, ids, key)
			})
		}, 1},
		"regularizer": {func(cfg *train.Config) {
			good := cfg.Regularizer
			cfg.Regularizer = regularizer(func(p *autograd.Param, key rng.Key, threads int) error {
				if p.Name == "fc.weight" {
					stop()
				}
				return good.Apply(p, key, threads)
			})
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			calls = 0
			cfg := rat()
			c.panics(&cfg)
			model := tiny(t, nil)
			tr := trainer(t, model, cfg)
			assert.PanicsWithValue(t, "stop", func() { finish(t, tr) })
			assert.InDelta(t, c.kept/3, tr.Completed(), 1e-9)
			finish(t, tr)
			assert.Equal(t, values(want), values(model))
		})
	}
}

// explosive is a source of images whose image 5 panics once.
type explosive struct {
	*dataset.Memory
	done *bool
}

func (e explosive) ReadImage(dst []uint8, i int) error {
	if i == 5 && !*e.done {
		*e.done = true
		panic("no image 5")
	}
	return e.Memory.ReadImage(dst, i)
}

// A panic of the source of the images, which is read on another goroutine, reaches the
// caller.
func TestPanicOfSource(t *testing.T) {
	want := tiny(t, nil)
	fit(t, want, rat())
	set, err := dataset.New("", explosive{toyImages(t), new(bool)}, toy(t).Labels, toy(t).ClassNames())
	require.NoError(t, err)
	model := tiny(t, nil)
	tr, err := train.New(model, set, rat(), rng.New(5))
	require.NoError(t, err)
	require.PanicsWithValue(t, "no image 5", func() { finish(t, tr) })
	finish(t, tr)
	assert.Equal(t, values(want), values(model))
}

func TestEpochsGoesOn(t *testing.T) {
	want := tiny(t, nil)
	wantMetrics := fit(t, want, rat())
	model := tiny(t, nil)
	tr := trainer(t, model, rat())
	var got []train.Metrics
	for range 5 {
		for m, err := range tr.Epochs(context.Background()) {
			require.NoError(t, err)
			got = append(got, timeless(m))
			break
		}
	}
	assert.Equal(t, wantMetrics, got)
	assert.Equal(t, values(want), values(model))
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for range tr.Epochs(done) {
		t.Error("an epoch after the last")
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cfg := rat()
	cfg.Progress = func(p train.Progress) {
		if p.Epoch == 2 {
			cancel()
		}
	}
	tr := trainer(t, tiny(t, nil), cfg)
	for _, err := range tr.Epochs(ctx) {
		if err != nil {
			assert.ErrorIs(t, err, context.Canceled)
		}
	}
	for range tr.Epochs(context.Background()) {
		break
	}
	// Helpers of parallel loops stay for a moment.
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(time.Millisecond)
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*train.Config)
		want   string
	}{
		{func(c *train.Config) { c.Epochs = 0 }, "train: Config.Epochs is 0, want"},
		{func(c *train.Config) { c.LR = 0 }, "train: Config.LR is 0, want"},
		{func(c *train.Config) { c.LR = math.Inf(1) }, "train: Config.LR is +Inf, want"},
		{func(c *train.Config) { c.LR = math.NaN() }, "train: Config.LR is NaN, want"},
		{func(c *train.Config) { c.Schedule = nil }, "train: Config.Schedule is nil, want"},
		{func(c *train.Config) { c.Schedule = train.StepDecay{} }, "train: StepDecay.Every is 0, want"},
		{func(c *train.Config) { c.Optimizer = nil }, "train: Config.Optimizer is nil, want"},
		{func(c *train.Config) { c.Optimizer = train.Adam{} }, "train: Adam.Eps is 0, want"},
		{func(c *train.Config) { c.Gradient = nil }, "train: Config.Gradient is nil, want"},
		{func(c *train.Config) { c.Recorders = []train.Recorder{train.CSV{Path: "m.csv"}, nil} }, "train: Config.Recorders[1] is nil, want one such as CSV"},
		{func(c *train.Config) { c.Loss = train.CrossEntropy{Smoothing: 1} }, "train: Config.Loss: CrossEntropy.Smoothing is 1, want"},
		{func(c *train.Config) { c.Loss = train.CrossEntropy{Smoothing: -0.5} }, "train: Config.Loss: CrossEntropy.Smoothing is -0.5, want"},
		{func(c *train.Config) { c.Loader.BatchSize = 0 }, "LoaderConfig.BatchSize is 0, want"},
	} {
		cfg := rat()
		c.change(&cfg)
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.ErrorContains(t, err, c.want)
	}
	_, err := train.New(tiny(t, func(c *zoo.Config) { c.Height = 8 }), toy(t), rat(), rng.New(1))
	assert.EqualError(t, err, "train: snn: images of 1×6×6: the network expects 1×8×6")
	// A set of fewer classes has other labels, as one of more has.
	few, err := toy(t).Only(0, 2)
	require.NoError(t, err)
	for _, set := range []*dataset.Set{few, toy(t)} {
		model := tiny(t, func(c *zoo.Config) { c.Classes = 5 - set.Classes })
		want := fmt.Sprintf("train: snn: a data set of %d classes: the network has %d", set.Classes, 5-set.Classes)
		_, err = train.New(model, set, rat(), rng.New(1))
		assert.ErrorContains(t, err, want)
		_, err = train.Accuracy(context.Background(), model, set, 4)
		assert.ErrorContains(t, err, want)
	}
	// So has one of the same classes in another order, where the model knows its own.
	model := tiny(t, func(c *zoo.Config) { c.ClassNames = []string{"dark", "bright", "grey"} })
	_, err = train.New(model, toy(t), rat(), rng.New(1))
	want := `train: snn: class 1 is "grey" in the data set and "bright" in the network`
	assert.ErrorContains(t, err, want)
	_, err = train.Accuracy(context.Background(), model, toy(t), 4)
	assert.ErrorContains(t, err, want)
}

// TestLearnsFashion trains a small network for an epoch on half of the embedded set.
func TestLearnsFashion(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	set, err := fashion.Train()
	require.NoError(t, err)
	set, err = set.First(3000)
	require.NoError(t, err)
	test, err := fashion.Test()
	require.NoError(t, err)
	arch := zoo.Default("conv16 A conv32 A | fc")
	arch.Channels, arch.Height, arch.Width, arch.Steps = 1, 28, 28, 2
	arch.Mean, arch.Std = []float32{0.286}, []float32{0.353}
	model, err := zoo.New(arch, rng.New(1))
	require.NoError(t, err)
	cfg := train.Default(1)
	cfg.Loader.BatchSize = 32
	var losses []float64
	cfg.Progress = func(p train.Progress) { losses = append(losses, p.Loss) }
	tr, err := train.New(model, set, cfg, rng.New(2))
	require.NoError(t, err)
	finish(t, tr)
	accuracy, err := train.Accuracy(context.Background(), model, test, 64)
	require.NoError(t, err)
	t.Logf("loss %.3f to %.3f, test accuracy %.3f", losses[0], losses[len(losses)-1], accuracy)
	assert.Greater(t, accuracy, 0.7)
	assert.Less(t, mean(losses[80:]), mean(losses[:10])/2)
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

func TestAccuracy(t *testing.T) {
	ctx := context.Background()
	set := toy(t)
	model := tiny(t, func(c *zoo.Config) { c.Arch, c.BatchNorm, c.Steps = "conv4 | fc", false, 1 }) // unsure
	want := -1.0
	for _, batch := range []int{1, 5, 22, 100, math.MaxInt} {
		got, err := train.Accuracy(ctx, model, set, batch)
		require.NoError(t, err)
		if want < 0 {
			want = got
		}
		assert.Equal(t, want, got, "batches of %d", batch)
	}
	// A model that ignores its input says "grey", and with equal logits "dark".
	blind := tiny(t, nil)
	for _, p := range blind.Params() {
		if strings.HasPrefix(p.Name, "fc") {
			p.Import(make([]float32, p.Len()))
		}
	}
	got, err := train.Accuracy(ctx, blind, set, 4)
	require.NoError(t, err)
	assert.Equal(t, 8.0/22, got)
	bias := blind.Params()[len(blind.Params())-1]
	bias.Import([]float32{0, 1, 0})
	part, err := set.Subset([]int{0, 1, 4, 7})
	require.NoError(t, err)
	got, err = train.Accuracy(ctx, blind, part, 4)
	require.NoError(t, err)
	assert.Equal(t, 0.75, got)

	bias.Import([]float32{0, float32(math.NaN()), 0})
	_, err = train.Accuracy(ctx, blind, set, 4)
	assert.EqualError(t, err, "train: accuracy: snn: fc.bias: value 1 is NaN: expected a finite number")
	_, err = train.Accuracy(ctx, model, set, 0)
	assert.ErrorContains(t, err, "LoaderConfig.BatchSize is 0, want")
	_, err = train.Accuracy(ctx, tiny(t, func(c *zoo.Config) { c.Channels, c.Mean, c.Std = 3, nil, nil }), set, 4)
	assert.ErrorContains(t, err, "images of 1×6×6: the network expects 3×6×6")
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err = train.Accuracy(done, model, set, 4)
	assert.ErrorIs(t, err, context.Canceled)
}

// BenchmarkEpoch reports what a warm epoch of 3 steps allocates, beside its batches.
func BenchmarkEpoch(b *testing.B) {
	cfg := train.Default(b.N + 1)
	cfg.Loader.BatchSize = 8
	tr := trainer(b, tiny(b, nil), cfg)
	b.ReportAllocs()
	b.ResetTimer()
	for _, err := range tr.Epochs(context.Background()) {
		if err != nil {
			b.Fatal(err)
		}
	}
}

// Without a copy to return to, a failed step leaves a trainer that says so, until a checkpoint is
// restored. The training goes on as if that had not been.
func TestFailedStepWithoutRollback(t *testing.T) {
	want := tiny(t, nil)
	wantMetrics := fit(t, want, rat())
	model, cfg := tiny(t, nil), rat()
	cfg.NoRollback = true
	calls, good := 0, cfg.Simplex
	cfg.Simplex = func(v []float32) error {
		if calls++; calls == 14 { // the second projection of the fifth step
			return errBroken
		}
		return good(v)
	}
	tr := trainer(t, model, cfg)
	path := filepath.Join(t.TempDir(), "checkpoint")
	tr.SaveEvery(time.Hour, path)
	var errs []error
	for _, err := range tr.Epochs(context.Background()) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	require.Len(t, errs, 1)
	assert.EqualError(t, errs[0], "train: epoch 2 of 3, step 2 of 3: simplex: blocks.1.convex.comb: broken")
	const failed = "a step has failed, and with Config.NoRollback there is no earlier state: expected Resume from a checkpoint first"
	assert.ErrorContains(t, tr.Save(path), failed)
	for _, err := range tr.Epochs(context.Background()) {
		assert.EqualError(t, err, "train: "+failed)
	}
	require.NoError(t, tr.Resume(path))
	assert.Equal(t, wantMetrics[1:], finish(t, tr))
	assert.Equal(t, values(want), values(model))
	require.NoError(t, tr.Save(path))

	other := trainer(t, tiny(t, nil), rat()) // which keeps a copy
	require.NoError(t, other.Resume(path))
}
