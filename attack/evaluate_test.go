package attack_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var _ snn.Dataset = (*dataset.Set)(nil)

// set is a data set in memory.
type set struct {
	x    tensor.NCHW
	y    []int
	fail error
}

func (s set) Shape() tensor.Shape { return s.x.Shape() }
func (s set) Label(i int) int     { return s.y[i] }
func (s set) Fill(dst tensor.NCHW, indices []int) error {
	for k, i := range indices {
		copy(dst.Image(k), s.x.Image(i))
	}
	return s.fail
}

// made is an attack that returns images made beforehand, by their ids.
type made struct{ x tensor.NCHW }

func (a made) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, ids []uint64, _ rng.Key) (tensor.NCHW, error) {
	shape := a.x.Shape()
	shape.N = x.N
	adv := tensor.NewFrames(shape)
	for k, i := range ids {
		copy(adv.Image(k), a.x.Image(int(i)))
	}
	return adv, nil
}

// brightest returns a network for images of one row of 3 pixels whose class is the
// brightest pixel.
func brightest(t testing.TB) *snn.Model {
	t.Helper()
	cfg := zoo.Default("| fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Mean, cfg.Std = 1, 1, 3, 3, 2, nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	m.Params()[0].Import([]float32{1, 0, 0, 0, 1, 0, 0, 0, 1})
	m.Params()[1].Import([]float32{0, 0, 0})
	return m
}

// pixels returns images of one row of 3 in which the pixels listed are bright.
func pixels(bright ...int) tensor.NCHW {
	x := tensor.NewNCHW(len(bright), 1, 1, 3)
	for i, j := range bright {
		x.Image(i)[j] = 1
	}
	return x
}

// results returns a report without what it says of how it was made.
func results(r *attack.Report) *attack.Report {
	c := *r
	c.Norm, c.Eps, c.Key, c.Library, c.Digest, c.Attacks = "", 0, "", "", "", slices.Clone(r.Attacks)
	for k := range c.Attacks {
		o := &c.Attacks[k]
		o.Norm, o.Eps, o.InWorstCase, o.Settings = "", 0, false, nil
	}
	return &c
}

// The counts of a case that is done by hand.
func TestEvaluateCounts(t *testing.T) {
	m := brightest(t)
	data := set{x: pixels(0, 1, 2, 0), y: []int{0, 1, 2, 1}} // the network errs on the last
	toNext := attack.FGSM(0.25, snn.BPTT{})
	toNext.Target = func(_ uint64, label int) int { return (label + 1) % 3 }
	cfg := attack.DefaultConfig()
	cfg.Batch, cfg.Threat = 3, whole
	var seen []attack.Progress
	cfg.Progress = func(p attack.Progress) { seen = append(seen, p) }
	r, err := attack.Evaluate(ctx, m, data, []attack.Named{
		{Name: "first", Attack: made{pixels(1, 1, 2, 1)}},
		{Name: "second", Attack: made{pixels(0, 1, 0, 0)}},
		{Name: "target", Attack: toNext},
	}, cfg)
	require.NoError(t, err)
	assert.Equal(t, &attack.Report{
		Images: 4, Labels: []int{0, 1, 2, 1},
		Clean: attack.Outcome{Name: "clean", Accuracy: 0.75, Predicted: []int{0, 1, 2, 0}},
		Attacks: []attack.Outcome{
			{Name: "first", Accuracy: 0.75, Predicted: []int{1, 1, 2, 1}, Success: []bool{true, false, false, false}},
			{Name: "second", Accuracy: 0.5, Predicted: []int{0, 1, 0, 0}, Success: []bool{false, false, true, false}},
			{Name: "target", Accuracy: 0.75, Predicted: []int{0, 1, 2, 0}, Success: []bool{false, false, false, false}, Target: []int{1, 2, 0, 2}},
		},
		Survived: []bool{false, true, false, false}, WorstCase: 0.25,
	}, results(r))
	assert.Equal(t, []attack.Progress{
		{Attack: "clean", Done: 3, Total: 16}, {Attack: "first", Done: 6, Total: 16},
		{Attack: "second", Done: 9, Total: 16}, {Attack: "target", Done: 12, Total: 16},
		{Attack: "clean", Done: 13, Total: 16}, {Attack: "first", Done: 14, Total: 16},
		{Attack: "second", Done: 15, Total: 16}, {Attack: "target", Done: 16, Total: 16},
	}, seen)

	toNext.Eps, toNext.Alpha = 0.75, 0.75 // 1 − 0.75 < 0 + 0.75
	r, err = attack.Evaluate(ctx, m, data, []attack.Named{{Name: "target", Attack: toNext}}, cfg)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2, 0, 2}, r.Attacks[0].Predicted)
	assert.Equal(t, []bool{true, true, true, true}, r.Attacks[0].Success)

	// On the third class a targeted attack has no success, but nor does the image survive.
	astray := *toNext
	astray.Objective = pastTarget{}
	r, err = attack.Evaluate(ctx, m, data, []attack.Named{{Name: "astray", Attack: &astray}}, cfg)
	require.NoError(t, err)
	assert.Equal(t, attack.Outcome{
		Name: "astray", Predicted: []int{2, 0, 1, 0}, Success: []bool{false, false, false, false}, Target: []int{1, 2, 0, 2},
	}, results(r).Attacks[0])
	assert.Equal(t, []bool{false, false, false, false}, r.Survived)
	assert.Zero(t, r.WorstCase)

	text, err := json.Marshal(r)
	require.NoError(t, err)
	var back attack.Report
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, *r, back)

	// Of equal logits the first counts; and an image that only the attack puts right
	// has not survived.
	r, err = attack.Evaluate(ctx, m, set{x: tensor.NewNCHW(1, 1, 1, 3), y: []int{1}},
		[]attack.Named{{Name: "help", Attack: made{pixels(1)}}}, cfg)
	require.NoError(t, err)
	assert.Equal(t, []int{0}, r.Clean.Predicted)
	assert.Equal(t, attack.Outcome{Name: "help", Accuracy: 1, Predicted: []int{1}, Success: []bool{false}}, results(r).Attacks[0])
	assert.Equal(t, []bool{false}, r.Survived)
}

// Images for which an attack has no gradient are listed.
func TestEvaluateZeroGradient(t *testing.T) {
	m := brightest(t)
	m.Params()[0].Import([]float32{0, 0, 0, 0, 0, 1e-30, 0, 0, 1e-30})
	m.Params()[1].Import([]float32{0, 0, 0})
	data := set{x: pixels(0, 1, 2, 0), y: []int{0, 1, 2, 0}}
	ahead := attack.FGSM(0.25, snn.CBA{})
	ahead.Objective = onlyLast{}
	cfg := attack.DefaultConfig()
	cfg.Batch = 3
	m.Threads = 1 // the first steps of images 0 to 2 come before their second ones
	r, err := attack.Evaluate(ctx, m, data, []attack.Named{
		{Name: "seeing", Attack: attack.PGD(0.25, 0.1, 2, snn.CBA{})},
		{Name: "zero_gradient", Attack: ahead},
		{Name: "noise", Attack: attack.GaussianNoise{Std: 0.1}},
		{Name: "first step alone", Attack: &attack.Attack{
			Objective: &onlyFirst{}, Gradient: snn.CBA{}, Norm: attack.LInf{}, Start: attack.AtImage{}, Eps: 0.25, Alpha: 0.1, Steps: 2,
		}},
	}, cfg)
	require.NoError(t, err)
	assert.Nil(t, r.Attacks[0].ZeroGradient)
	assert.Equal(t, []int{0, 1, 3}, r.Attacks[1].ZeroGradient)
	assert.Nil(t, r.Attacks[2].ZeroGradient)
	assert.Equal(t, []int{3}, r.Attacks[3].ZeroGradient, "images 0 to 2 had a gradient in their first step")
}

// onlyLast is an objective that has a gradient for images of class 2 alone.
type onlyLast struct{}

func (onlyLast) Evaluate(_ []float64, grad, _ []float32, y, _ []int) {
	for i, label := range y {
		if label == 2 {
			grad[i*3+2] = 1
		}
	}
}

// onlyFirst is an objective that has a gradient in its first three calls alone.
type onlyFirst struct{ calls int }

func (o *onlyFirst) Evaluate(_ []float64, grad, _ []float32, _, _ []int) {
	if o.calls++; o.calls <= 3 {
		grad[2] = 1
	}
}

// pastTarget is an objective that raises the class after the target over the others.
type pastTarget struct{}

func (pastTarget) Evaluate(_ []float64, grad, logits []float32, y, target []int) {
	classes := len(logits) / len(y)
	for i := range grad {
		grad[i] = -1
	}
	for i, k := range target {
		grad[i*classes+(k+1)%classes] = 1
	}
}

func suite() []attack.Named {
	return []attack.Named{
		{Name: "noise", Attack: attack.GaussianNoise{Std: 0.1}},
		{Name: "RFGSM", Attack: attack.RFGSM(0.1, snn.BPTR{})},
		{Name: "PGD", Attack: attack.PGD(0.1, 0.04, 3, snn.BPTT{})},
		{Name: "mix", Attack: attack.RATMix(0.1)},
	}
}

// Reports are the same for any batch, GOMAXPROCS and order of attacks.
func TestEvaluateIndependence(t *testing.T) {
	m := model(t, small, true)
	x, y, _ := images(m, 7, 0, 1)
	cfg := attack.DefaultConfig()
	cfg.Threat = whole
	run := func(batch, threads int) *attack.Report {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
		cfg.Batch = batch
		r, err := attack.Evaluate(ctx, m, set{x: x, y: y}, suite(), cfg)
		require.NoError(t, err)
		return r
	}
	want := run(7, 1)
	for _, batch := range []int{1, 3, 64} {
		assert.Equal(t, want, run(batch, 2))
	}
	// Each attack has a key of its own, whichever are evaluated beside it.
	u, v := map[rng.Key]bool{}, map[rng.Key]bool{}
	a, b := attack.Named{Name: "a", Attack: keyed(u)}, attack.Named{Name: "b", Attack: keyed(v)}
	for _, s := range [][]attack.Named{{a, b}, {b, a}, {a}, {b}} {
		_, err := attack.Evaluate(ctx, m, set{x: x, y: y}, s, cfg)
		require.NoError(t, err)
	}
	assert.Len(t, u, 1)
	assert.Len(t, v, 1)
	assert.NotEqual(t, u, v)
}

// keyed keeps the keys that it is called with.
type keyed map[rng.Key]bool

func (k keyed) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, key rng.Key) (tensor.NCHW, error) {
	k[key] = true
	return x, nil
}

// counted counts the calls of an attack, and keeps the networks it was called for.
type counted struct {
	snn.Adversary
	on *[]*snn.Model
}

func (c counted) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	*c.on = append(*c.on, m)
	return c.Adversary.Perturb(ctx, m, x, y, ids, key)
}

// Black-box images are made once, on the source; white-box ones on each network; and
// several networks at once get the reports that each gets alone.
func TestEvaluateAll(t *testing.T) {
	a, b, source := model(t, small, false), model(t, "conv4 conv4 | fc", false), model(t, "conv8 A | fc", false)
	x, y, _ := images(a, 5, 0, 1)
	data := set{x: x, y: y}
	var on []*snn.Model
	pgd := []attack.Named{{Name: "PGD", Attack: counted{attack.PGD(0.3, 0.1, 4, snn.BPTT{}), &on}}}
	for _, src := range []*snn.Model{nil, source} {
		cfg := attack.DefaultConfig()
		cfg.Source, cfg.Threat, on = src, whole, nil
		both, err := attack.EvaluateAll(ctx, []*snn.Model{a, b}, data, pgd, cfg)
		require.NoError(t, err)
		if src == nil {
			assert.Equal(t, []*snn.Model{a, b}, on)
		} else {
			assert.Equal(t, []*snn.Model{source}, on)
		}
		for i, m := range []*snn.Model{a, b} {
			alone, err := attack.Evaluate(ctx, m, data, pgd, cfg)
			require.NoError(t, err)
			assert.Equal(t, alone, both[i])
		}
	}
}

// Against a trained network the source's own images work best, and the accuracy under
// attack is that of the images which Perturb returns.
func TestEvaluateTrained(t *testing.T) {
	racetest.Costly(t)
	m, x, y, _ := trained(t)
	cfg := attack.DefaultConfig()
	cfg.Batch = 20
	r, err := attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{
		{Name: "noise", Attack: attack.GaussianNoise{Std: 0.1}},
		{Name: "PGD", Attack: attack.PGD(0.1, 0.025, 7, snn.BPTT{})},
	}, cfg)
	require.NoError(t, err)
	t.Logf("clean %v, noise %v, PGD %v", r.Clean.Accuracy, r.Attacks[0].Accuracy, r.Attacks[1].Accuracy)
	assert.Greater(t, r.Clean.Accuracy, 0.95)
	assert.Less(t, r.Attacks[1].Accuracy, r.Attacks[0].Accuracy-0.2)
	assert.LessOrEqual(t, r.WorstCase, r.Attacks[1].Accuracy)
}

// A stopped evaluation returns the batches that were completed.
func TestEvaluateStopped(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 6, 0, 1)
	whole, err := attack.Evaluate(ctx, m, set{x: x, y: y}, suite(), attack.DefaultConfig())
	require.NoError(t, err)
	stopped, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := attack.DefaultConfig()
	cfg.Batch = 2
	cfg.Progress = func(p attack.Progress) {
		if p.Done >= 2*2*5-2 { // within the second batch
			cancel()
		}
	}
	r, err := attack.Evaluate(stopped, m, set{x: x, y: y}, suite(), cfg)
	assert.Equal(t, context.Canceled, err)
	assert.Equal(t, 2, r.Images)
	assert.Equal(t, whole.Attacks[2].Predicted[:2], r.Attacks[2].Predicted)
	assert.Equal(t, whole.Survived[:2], r.Survived)

	r, err = attack.Evaluate(stopped, m, set{x: x, y: y}, suite(), cfg)
	assert.Equal(t, context.Canceled, err)
	assert.Equal(t, 0, r.Images)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	var again *attack.Report
	require.NoError(t, json.Unmarshal(text, &again))
	assert.Equal(t, r, again)
}

func TestEvaluateErrors(t *testing.T) {
	m := brightest(t)
	cfg4 := zoo.Default("| fc")
	cfg4.Channels, cfg4.Height, cfg4.Width, cfg4.Classes = m.Channels, m.Height, m.Width, 4
	four, err := zoo.New(cfg4, rng.New(1))
	require.NoError(t, err)
	_, err = attack.EvaluateAll(ctx, []*snn.Model{m, four}, set{x: pixels(0, 1), y: []int{0, 1}}, nil, attack.DefaultConfig())
	assert.ErrorContains(t, err, "networks of 3 and 4 classes")
	good := set{x: pixels(0, 1), y: []int{0, 1}}
	cfg := attack.DefaultConfig()
	cfg.Threat = whole
	run := func(data snn.Dataset, cfg attack.Config, attacks ...attack.Named) error {
		r, err := attack.Evaluate(ctx, m, data, attacks, cfg)
		assert.Nil(t, r)
		return err
	}
	no := cfg
	no.Batch = 0
	other := cfg
	other.Source = model(t, small, false)
	same := cfg
	same.Source = m
	outside := pixels(0, 1)
	outside.Data[4] = 1.5
	fgsm := attack.FGSM(0.1, snn.BPTT{})
	for _, c := range []struct {
		err  error
		want string
	}{
		{run(good, no), "attack: evaluate: batches of 0 images: expected at least 1"},
		{run(set{x: tensor.NCHW{C: 1, H: 1, W: 3}}, cfg), "attack: evaluate: snn: a data set of no images: expected at least one"},
		{run(set{x: tensor.NewNCHW(1, 1, 2, 3), y: []int{0}}, cfg), "attack: evaluate: snn: images of 1×2×3: the network expects 1×1×3"},
		{run(good, same), "attack: evaluate: Config.Source is a network that is judged"},
		{run(good, other), "attack: evaluate: snn: images of 1×1×3: the network expects 2×6×6"},
		{run(set{x: pixels(0, 1), y: []int{0, 3}}, cfg), "attack: evaluate: snn: image 1: label 3: expected 0 to 2"},
		{run(good, cfg, attack.Named{Attack: fgsm}), `attack: evaluate: attack 0 has the name "": expected one of its own`},
		{run(good, cfg, attack.Named{Name: "a", Attack: fgsm}, attack.Named{Name: "a", Attack: fgsm}), `attack 1 has the name "a"`},
		{run(good, cfg, attack.Named{Name: "a"}), "attack: evaluate: attack a is nil"},
		{run(set{x: pixels(0, 1), y: []int{0, 1}, fail: errors.New("unreadable")}, cfg), "attack: evaluate: images 0 to 1: unreadable"},
		{run(good, cfg, attack.Named{Name: "a", Attack: attack.FGSM(-1, snn.BPTT{})}), "attack: evaluate: attack a: eps -1"},
		// Images outside [0,1] are refused, whoever made them.
		{run(good, cfg, attack.Named{Name: "a", Attack: made{outside}}), "images 0 to 1: a: image 1, value 1: 1.5: expected a number in [0, 1]"},
		{run(set{x: outside, y: []int{0, 1}}, cfg), "images 0 to 1: image 1, value 1: 1.5: expected a number in [0, 1]"},
		{run(good, cfg, attack.Named{Name: "a", Attack: fewer{}}), "a: returned 1×1×1×3 with 3 values for images 2×1×1×3: expected the same shape"},
	} {
		assert.ErrorContains(t, c.err, c.want)
	}
	_, err = attack.EvaluateAll(ctx, nil, good, nil, cfg)
	assert.ErrorContains(t, err, "no networks")
	m.Params()[0].Import([]float32{1, 0, 0, 3e38, 1, 0, 0, 0, 1})
	m.Params()[1].Import([]float32{0, 3e38, 0})
	assert.ErrorContains(t, run(good, cfg), "images 0 to 1: clean: snn: image 0: logit 1 is +Inf: expected a finite number")
	m.Params()[1].Import([]float32{0, float32(math.NaN()), 0})
	assert.ErrorContains(t, run(good, cfg), "attack: evaluate: snn: classifier.0.bias: value 1 is NaN: expected a finite number")
}

// fewer loses an image.
type fewer struct{}

func (fewer) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	return x.Slice(0, 1), nil
}
