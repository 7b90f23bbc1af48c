package attack_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// searching is a Searcher in L∞ made of a function.
type searching struct {
	eps float32
	fn  func(o *attack.Oracle) error
}

func (s searching) Threat() (attack.Threat, bool) {
	return attack.Threat{Norm: attack.LInf{}, Eps: s.eps}, true
}

func (s searching) Search(o *attack.Oracle) error { return s.fn(o) }

func (s searching) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	return attack.PerturbEach(ctx, s, m, x, y, ids, key)
}

// battery runs unchecked attacks of radius eps around the images that m classifies as y.
func battery(t *testing.T, m *snn.Model, data snn.Dataset, eps float32, attacks ...snn.Adversary) (*attack.BatteryReport, error) {
	t.Helper()
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: eps}}
	for i, a := range attacks {
		b.Attacks = append(b.Attacks, attack.Named{Name: string(rune('a' + i)), Attack: a})
	}
	cfg := attack.DefaultBatteryConfig()
	cfg.Unchecked = true
	return b.Evaluate(ctx, m, data, cfg)
}

// A battery judges the last point of an attack that does not keep its best one.
func TestBatteryJudgesLastPoint(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 40, 0, 1)
	y := correct(t, m, x)
	fgsm := attack.FGSM(0.2, snn.BPTT{})
	want := 0
	for _, v := range margins(t, m, perturb(t, fgsm, m, x, y, nil), y) {
		if v < 0 {
			want++
		}
	}
	require.Positive(t, want)
	r, err := battery(t, m, set{x: x, y: y}, 0.2, fgsm)
	require.NoError(t, err)
	assert.Equal(t, want, r.Attacks[0].Broke)
}

// A search that goes on after the battery was stopped is not finished.
func TestStoppedSearchIsNotFinished(t *testing.T) {
	m := model(t, small, false)
	m.Threads = 1
	x, _, _ := images(m, 20, 0, 1)
	y := correct(t, m, x)
	stopped, cancel := context.WithCancel(ctx)
	asked := 0
	careless := searching{0.1, func(o *attack.Oracle) error {
		for range 10 {
			if _, err := o.Logits(o.Clean); err != nil {
				return nil //nolint:nilerr // the fault
			}
			if asked++; asked == 50 {
				cancel()
			}
		}
		return nil
	}}
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "careless", Attack: careless}}}
	r, err := b.Evaluate(stopped, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, r.Partial)
	for _, i := range r.Results {
		assert.Equal(t, 10, i.Trials[0].Passes)
	}
}

// A search that ignores all errors ends when the battery is stopped.
func TestEndlessSearchEnds(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 4, 0, 1)
	y := correct(t, m, x)
	stopped, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		s := searching{0.1, func(o *attack.Oracle) error {
			for {
				_, _ = o.Logits(o.Clean)
			}
		}}
		_, err := s.Perturb(stopped, m, x, y, nil, rng.New(1))
		ended <- err
	}()
	select {
	case err := <-ended:
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
}

// Results of a battery of other attacks are refused.
func TestBatteryDoneOfOtherBattery(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 10, 0, 1)
	y := correct(t, m, x)
	data := set{x: x, y: y}
	weak, err := battery(t, m, data, 0.2, attack.RandomNoise{Norm: attack.LInf{}, Eps: 0.001, Points: 1})
	require.NoError(t, err)
	require.Equal(t, 1.0, weak.WorstCase)
	pgd := attack.PGD(0.2, 0.05, 5, snn.BPTT{})
	pgd.KeepBest = true
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.2}, Attacks: []attack.Named{
		{Name: "a", Attack: attack.RandomNoise{Norm: attack.LInf{}, Eps: 0.001, Points: 1}}, {Name: "b", Attack: pgd},
	}}
	cfg := attack.DefaultBatteryConfig()
	cfg.Done, cfg.Unchecked = weak.Results, true
	_, err = b.Evaluate(ctx, m, data, cfg)
	assert.ErrorContains(t, err, "field Done: image 0 met 1 attacks: expected the 2 of the battery")
	for name, spoil := range map[string]func(r *attack.ImageResult){
		"broken by an attack that did not break it": func(r *attack.ImageResult) { r.BrokenBy = 0 },
		"met attacks although misclassified":        func(r *attack.ImageResult) { r.BrokenBy = attack.Misclassified },
	} {
		one := attack.Battery{Threat: b.Threat, Attacks: b.Attacks[:1]}
		cfg.Done = slices.Clone(weak.Results)
		spoil(&cfg.Done[0])
		_, err = one.Evaluate(ctx, m, data, cfg)
		assert.ErrorContains(t, err, "field Done: image 0", name)
	}
}

// A random network shows on images without grey values too, where Poisson encoding is certain.
func TestBatteryFindsRandomnessOfBinaryImages(t *testing.T) {
	m := model(t, small, true)
	x, _, _ := images(m, 8, 0, 1)
	for i, v := range x.Data {
		x.Data[i] = float32(math.Round(float64(v)))
	}
	r, err := battery(t, m, set{x: x, y: correct(t, m, x)}, 0.2, attack.RandomNoise{Norm: attack.LInf{}, Eps: 0.2, Points: 2})
	require.NoError(t, err)
	assert.True(t, r.Random)
	assert.Equal(t, 10, r.Draws)
}

// cheat is L∞ by its name, without a bound.
type cheat struct{ attack.LInf }

func (cheat) Distance(_, _ []float32) float64 { return 0 }

// cheating is a search that states cheat.
type cheating struct{ searching }

func (c cheating) Threat() (attack.Threat, bool) {
	return attack.Threat{Norm: cheat{}, Eps: c.eps}, true
}

// A battery finds out about points beyond its bound, whatever the attack does to the oracle.
func TestBatteryChecksPoints(t *testing.T) {
	racetest.Costly(t)
	m := model(t, small, false)
	x, _, _ := images(m, 10, 0.4, 0.6)
	data := set{x: x, y: correct(t, m, x)}
	far := func(o *attack.Oracle) error {
		r := o.Rand("far", 0)
		for range 500 {
			p := make([]float32, len(o.Clean))
			for i := range p {
				p[i] = float32(r.IntN(2))
			}
			if _, err := o.Logits(p); err != nil {
				return err
			}
		}
		return nil
	}
	for name, a := range map[string]snn.Adversary{
		"the bound": searching{0.1, func(o *attack.Oracle) error { o.Threat.Eps = 1; return far(o) }},
		"the original": searching{0.1, func(o *attack.Oracle) error {
			for i := range o.Clean {
				o.Clean[i] = 0
			}
			return far(o)
		}},
		"the best point": searching{0.1, func(o *attack.Oracle) error {
			best, _ := o.Best()
			for i := range best {
				best[i] = 0
			}
			_, err := o.Logits(best)
			return err
		}},
		"the norm": cheating{searching{0.1, far}},
		"nothing":  searching{0.1, far},
	} {
		r, err := battery(t, m, data, 0.1, a)
		if err == nil {
			assert.Equal(t, 1.0, r.WorstCase, name)
			for _, i := range r.Results {
				assert.Equal(t, i.CleanMargin, i.Margin, name)
			}
		}
		again, _ := battery(t, m, data, 0.1, attack.RandomNoise{Norm: attack.LInf{}, Eps: 0.001, Points: 1})
		require.Equal(t, 1.0, again.Clean, name)
	}
}

// The results around one image have only finite numbers, whatever the logits and the number of
// classes.
func TestBatteryReportIsJSON(t *testing.T) {
	cfg := zoo.Default(small)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Mean, cfg.Std = 2, 6, 6, 1, 1, nil, nil
	single, err := zoo.New(cfg, rng.New(7))
	require.NoError(t, err)
	cfg.Classes = 3
	large, err := zoo.New(cfg, rng.New(7))
	require.NoError(t, err)
	p := large.Params()[len(large.Params())-1]
	p.Import([]float32{3e38, -3e38, -3e38})
	for name, m := range map[string]*snn.Model{"one class": single, "large": large} {
		x, _, _ := images(m, 3, 0, 1)
		pgd := attack.PGD(0.1, 0.03, 3, snn.BPTT{})
		pgd.KeepBest, pgd.Objective = true, attack.Margin{}
		r, err := battery(t, m, set{x: x, y: make([]int, 3)}, 0.1, pgd)
		require.NoError(t, err, name)
		text, err := json.Marshal(r)
		require.NoError(t, err, name)
		var got attack.BatteryReport
		require.NoError(t, json.Unmarshal(text, &got))
		assert.Equal(t, r.Results, got.Results)
		assert.Equal(t, r.Report().Attacks, got.Report().Attacks)
	}
}

// undefined is an objective that is not a number.
type undefined struct{ attack.Margin }

func (u undefined) Evaluate(value []float64, grad, logits []float32, y, target []int) {
	u.Margin.Evaluate(value, grad, logits, y, target)
	value[0] = math.NaN()
}

// Settings that would make an attack stand still are refused.
func TestAttackRefuses(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 4, 0, 1)
	y := correct(t, m, x)
	for want, spoil := range map[string]func(a *attack.Attack){
		"objective is NaN: expected a finite number":         func(a *attack.Attack) { a.Objective = undefined{} },
		"momentum: Decay NaN: expected a number of at least": func(a *attack.Attack) { a.Rule = attack.Momentum{Decay: float32(math.NaN())} },
		"momentum: Decay -1: expected a number of at least":  func(a *attack.Attack) { a.Rule = attack.Momentum{Decay: -1} },
	} {
		a := attack.PGD(0.1, 0.03, 3, snn.BPTT{})
		spoil(a)
		_, err := a.Perturb(ctx, m, x, y, nil, rng.New(1))
		assert.ErrorContains(t, err, want)
	}
	_, err := battery(t, m, set{x: x, y: y}, 0.1, searching{0.1, func(o *attack.Oracle) error {
		_, _, err := o.Gradient(o.Clean, snn.BPTT{}, nil)
		return err
	}})
	assert.ErrorContains(t, err, "no objective: expected one such as Margin{}")
	_, err = battery(t, m, set{x: x, y: y}, 0.1, attack.Transfer{Sources: []*snn.Model{brightest(t)}, Attack: attack.FGSM(0.1, snn.BPTT{})})
	assert.ErrorContains(t, err, "source 0: snn: images 1×2×6×6: expected N×1×1×3")
	_, err = battery(t, m, set{x: x, y: y}, 0.1, attack.Transfer{Sources: []*snn.Model{nil}, Attack: attack.FGSM(0.1, snn.BPTT{})})
	assert.ErrorContains(t, err, "transfer: source 0 is nil")
	targeted := nextClass(attack.PGD(0.1, 0.03, 3, snn.BPTT{}), 3)
	for _, a := range []snn.Adversary{
		targeted, attack.Rounds{N: 1, Attacks: []attack.Searcher{targeted}}, attack.Transfer{Sources: []*snn.Model{m}, Attack: targeted},
	} {
		_, err = battery(t, m, set{x: x, y: y}, 0.1, a)
		assert.ErrorContains(t, err, "Target outside Perturb: expected Targets")
	}
}

// An attack whose frames share a perturbation begins at the best point before.
func TestSharedFramesBeginAtBest(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := frames(m, 6, 0, 1)
	y := correct(t, m, x)
	before := share(attack.PGD(0.02, 0.02, 2, snn.BPTT{}))
	before.KeepBest, before.Alpha = true, 0.01
	r, err := battery(t, m, set{x: x, y: y}, 0.02, before,
		attack.LocalSearch{Eps: 0.02, Passes: 1, FromBest: true, SharedFrames: true})
	require.NoError(t, err)
	alone, err := battery(t, m, set{x: x, y: y}, 0.02, before, searching{0.02, func(o *attack.Oracle) error {
		a := share(attack.BIM(0.02, 0.01, 1, snn.BPTT{}))
		a.Start = attack.AtBest{}
		a.Objective = seenMargin{t, o}
		return a.Search(o)
	}})
	require.NoError(t, err)
	require.NotZero(t, r.Attacks[1].Met)
	require.NotZero(t, alone.Attacks[1].Met)
}

// seenMargin expects the first margin to be that of the best point.
type seenMargin struct {
	t *testing.T
	o *attack.Oracle
}

func (s seenMargin) Evaluate(value []float64, grad, logits []float32, y, target []int) {
	attack.Margin{}.Evaluate(value, grad, logits, y, target)
	_, margin := s.o.Best()
	assert.InDelta(s.t, float64(margin), -value[0], 1e-4)
}

// Partial reports of other images of the same data are not compared.
func TestMcNemarOfPartialBatteries(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 10, 0, 1)
	y := correct(t, m, x)
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})}}}
	whole, err := battery(t, m, set{x: x, y: y}, 0.1, attack.FGSM(0.1, snn.BPTT{}))
	require.NoError(t, err)
	one := slices.IndexFunc(whole.Results, func(r attack.ImageResult) bool { return r.Label == whole.Results[9].Label })
	require.NotEqual(t, 9, one)
	of := func(i int) *attack.BatteryReport {
		cfg := attack.DefaultBatteryConfig()
		cfg.Done = whole.Results[i : i+1]
		stopped, cancel := context.WithCancel(ctx)
		cancel()
		r, err := b.Evaluate(stopped, m, set{x: x, y: y}, cfg)
		require.ErrorIs(t, err, context.Canceled)
		require.NotNil(t, r)
		require.Equal(t, 1, r.Images)
		require.True(t, r.Partial)
		require.Len(t, r.Checks, 12)
		assert.Contains(t, r.Checks[0].Text, "stopped")
		assert.Equal(t, attack.Warning, r.Checks[11].Status)
		return r
	}
	_, err = attack.McNemar(of(one).Report(), of(one).Report(), "worst case")
	assert.NoError(t, err)
	_, err = attack.McNemar(of(one).Report(), of(9).Report(), "worst case")
	assert.ErrorContains(t, err, "expected reports of the same images")
}

// A battery that is stopped while it is checked says which checks it left out.
func TestBatteryStopsInChecks(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 10, 0, 1)
	y := correct(t, m, x)
	stopped, cancel := context.WithCancel(ctx)
	cfg := attack.DefaultBatteryConfig()
	done := 0
	cfg.OnResult = func(attack.ImageResult) error {
		if done++; done == 10 {
			cancel()
		}
		return nil
	}
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})}}}
	r, err := b.Evaluate(stopped, m, set{x: x, y: y}, cfg)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 10, r.Images)
	require.Len(t, r.Checks, 12)
	assert.Equal(t, attack.Skipped, r.Checks[0].Status)
}

// A panic of one search leaves no other search behind, even if more panic when they are stopped.
func TestPanicsLeaveNoGoroutines(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 30, 0, 1)
	y := correct(t, m, x)
	perturb(t, attack.FGSM(0.1, snn.BPTT{}), m, x, y, nil)
	time.Sleep(50 * time.Millisecond)
	before := runtime.NumGoroutine()
	s := searching{0.1, func(o *attack.Oracle) error {
		for i := range 10 {
			if _, err := o.Logits(o.Clean); err != nil {
				panic("stopped")
			}
			if o.ID == 3 && i == 4 {
				panic("boom")
			}
		}
		return errors.New("the end")
	}}
	assert.Panics(t, func() { _, _ = s.Perturb(ctx, m, x, y, nil, rng.New(1)) })
	time.Sleep(100 * time.Millisecond)
	assert.LessOrEqual(t, runtime.NumGoroutine(), before+2)
}

// Adversaries that reuse their memory are judged by their own points.
func TestBatteryCopiesPoints(t *testing.T) {
	m := model(t, small, false)
	m.Threads = 1
	x, _, _ := images(m, 20, 0, 1)
	y := correct(t, m, x)
	data := set{x: x, y: y}
	own, err := battery(t, m, data, 0.3, &onePlace{})
	require.NoError(t, err)
	shared, err := battery(t, m, data, 0.3, &onePlace{buffer: make([]float32, x.Pixels())})
	require.NoError(t, err)
	assert.Equal(t, own.Results, shared.Results)
}

// onePlace is an adversary of random noise. Its images are in one place, if it has one.
type onePlace struct{ buffer []float32 }

func (a *onePlace) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	adv := x.Clone()
	r := key.Derive("image", ids[0]).Rand()
	for i, v := range adv.Data {
		adv.Data[i] = min(max(v+0.29*float32(1-2*rand.New(r).IntN(2)), 0), 1)
	}
	if a.buffer != nil {
		copy(a.buffer, adv.Data)
		adv.Data = a.buffer
	}
	return adv, nil
}

// A battery that is stopped before its first image says so.
func TestBatteryStopsAtOnce(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 4, 0, 1)
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})}}}
	r, err := b.Evaluate(stopped, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, r.Partial)
	assert.Zero(t, r.Images)
	assert.Equal(t, attack.Warning, r.Checks[11].Status)
	assert.Contains(t, r.Checks[0].Text, "stopped")
}

// A network without neurons has no layer to tell of.
func TestChecksWithoutNeurons(t *testing.T) {
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})}}}
	r, err := b.Evaluate(ctx, brightest(t), set{x: pixels(0, 1, 2), y: []int{0, 1, 2}}, attack.DefaultBatteryConfig())
	require.NoError(t, err)
	assert.Equal(t, "0 of 3 images had mostly zero gradients.", r.Checks[3].Text)
}

// A check that fails does not lose what the battery has found.
func TestFailedCheckIsAFault(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 10, 0, 1)
	y := correct(t, m, x)
	g := &failing{}
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, g)}}}
	cfg := attack.DefaultBatteryConfig()
	done := 0
	cfg.OnResult = func(attack.ImageResult) error {
		done++
		g.fails.Store(done == 10)
		return nil
	}
	r, err := b.Evaluate(ctx, m, set{x: x, y: y}, cfg)
	require.NoError(t, err)
	assert.Equal(t, 10, r.Images)
	assert.Equal(t, attack.Fault, r.Checks[0].Status)
	assert.Contains(t, r.Checks[0].Advice, "The check itself failed")
}

// failing is BPTT that fails on demand.
type failing struct {
	snn.BPTT
	fails atomic.Bool
}

func (g *failing) Fire(p *snn.Pass, n snn.Neuron, x *autograd.Value) *autograd.Value {
	if g.fails.Load() {
		p.Fail(errors.New("broken"))
	}
	return g.BPTT.Fire(p, n, x)
}

// A panic keeps the other workers from beginning with further images.
func TestPanicStopsOtherWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	m := model(t, small, false)
	x, _, _ := images(m, 600, 0, 1)
	var begun atomic.Int64
	s := searching{0.1, func(o *attack.Oracle) error {
		begun.Add(1)
		for i := range 20 {
			_, _ = o.Logits(o.Clean)
			if o.ID == 0 && i == 1 {
				panic("boom")
			}
		}
		return nil
	}}
	assert.PanicsWithValue(t, "boom", func() { _, _ = s.Perturb(ctx, m, x, make([]int, 600), nil, rng.New(1)) })
	assert.Less(t, begun.Load(), int64(600))
}

// The checks see gradient attacks in rounds, and those of a search that does not describe itself.
func TestChecksSeeGradients(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 6, 0, 1)
	data := set{x: x, y: correct(t, m, x)}
	inner := attack.PGD(0.01, 0.002, 25, snn.BPTT{})
	run := func(a snn.Adversary) []attack.Check {
		b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.01}, Attacks: []attack.Named{{Name: "it", Attack: a}}}
		r, err := b.Evaluate(ctx, m, data, attack.DefaultBatteryConfig())
		require.NoError(t, err)
		return r.Checks
	}
	checks := run(attack.Rounds{N: 3, Attacks: []attack.Searcher{inner}})
	assert.Contains(t, checks[1].Text, "in the last tenth of its 25 steps")
	assert.NotContains(t, checks[1].Advice, "too few")
	assert.Equal(t, "1 gradient approximations, 1 objectives and 3 starts.", checks[4].Text)
	checks = run(searching{0.01, inner.Search})
	assert.NotContains(t, checks[1].Advice, "No attack of the battery follows gradients")
}

// A source makes its passes with its own number of steps, whatever that of the network under attack.
func TestSourcesHaveTheirSteps(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 1, 0, 1)
	for _, steps := range []int{2, 7} {
		source := model(t, "conv4 | fc", false)
		source.Steps = steps
		want, err := source.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		var got, withGradient []float32
		_, err = attack.Transfer{Sources: []*snn.Model{source}, Attack: searching{0.1, func(o *attack.Oracle) (err error) {
			if got, err = o.Logits(o.Clean); err != nil {
				return err
			}
			_, _, err = o.Gradient(o.Clean, snn.BPTT{}, seenLogits{&withGradient})
			return err
		}}}.Perturb(ctx, m, x, y, nil, rng.New(1))
		require.NoError(t, err)
		assert.Equal(t, want, got, steps)
		assert.Equal(t, want, withGradient, steps)
	}
}

// seenLogits notes the logits that it was last asked about.
type seenLogits struct{ logits *[]float32 }

func (s seenLogits) Evaluate(_ []float64, _, logits []float32, _, _ []int) {
	*s.logits = slices.Clone(logits)
}

// counting is CBA, which finds no misclassified image by itself. It counts the images of its passes.
type counting struct {
	snn.CBA
	images *int
}

func (c counting) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	*c.images += x.Shape().N
	return c.CBA.Encode(p, e, x)
}

// Draws counts for an attack within others, too. A search beside it makes one pass for each question.
func TestDrawsWithinOtherAttacks(t *testing.T) {
	m := model(t, small, true)
	m.Threads = 1
	x, y, _ := images(m, 1, 0, 1)
	for name, within := range map[string]func(a attack.Searcher) attack.Searcher{
		"alone":    func(a attack.Searcher) attack.Searcher { return a },
		"rounds":   func(a attack.Searcher) attack.Searcher { return attack.Rounds{N: 1, Attacks: []attack.Searcher{a}} },
		"transfer": func(a attack.Searcher) attack.Searcher { return attack.Transfer{Sources: []*snn.Model{m}, Attack: a} },
	} {
		images, beside := 0, 0
		a := attack.BIM(0.1, 0.1, 1, counting{images: &images})
		a.Draws = 5
		_, err := within(searching{0.1, func(o *attack.Oracle) error {
			if err := a.Search(o); err != nil && err != attack.ErrFound {
				return err
			}
			_, _, err := o.Gradient(o.Clean, counting{images: &beside}, attack.Margin{})
			return err
		}}).Perturb(ctx, m, x, y, nil, rng.New(1))
		require.NoError(t, err)
		assert.Equal(t, 5, images, name)
		assert.Equal(t, 1, beside, name)
	}
}

// KeepBest returns the best of all points, also of a gradient approximation whose forward pass is not
// that of the network.
func TestKeepBestOfAllPoints(t *testing.T) {
	m := model(t, small, false)
	m.Threads = 1
	x, _, _ := images(m, 12, 0, 1)
	y := correct(t, m, x)
	for _, g := range []snn.Gradient{snn.BPTT{}, snn.CBA{}} {
		for i := range y {
			var points [][]float32
			a := attack.BIM(0.05, 0.03, 8, g)
			a.KeepBest, a.Norm = true, watched{attack.LInf{}, &points}
			one := x.Slice(i, i+1)
			adv := perturb(t, a, m, one, y[i:i+1], nil)
			got := margins(t, m, adv, y[i:i+1])[0]
			for _, p := range points {
				one.Data = p
				assert.LessOrEqual(t, got, margins(t, m, one, y[i:i+1])[0], "%v, image %d", g, i)
			}
		}
	}
}
