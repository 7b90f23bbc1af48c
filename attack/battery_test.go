package attack_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"

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

// The results of a battery do not depend on the number of threads or on what was done before.
func TestBatteryRepeats(t *testing.T) {
	racetest.Costly(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	m := model(t, small, false)
	x, y, _ := images(m, 40, 0, 1)
	pgd := attack.PGD(0.1, 0.03, 5, snn.BPTT{})
	pgd.KeepBest = true
	again := attack.PGD(0.1, 0.03, 5, snn.BPTR{})
	again.Start, again.KeepBest = attack.AtBest{}, true
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{
		{Name: "FGSM", Attack: attack.FGSM(0.1, snn.CBA{})}, {Name: "PGD", Attack: pgd}, {Name: "again", Attack: again},
	}}
	cfg := attack.DefaultBatteryConfig()
	cfg.Keep = func(i int) bool { return i%3 == 0 }
	data := set{x: x, y: y}
	want, err := b.Evaluate(ctx, m, data, cfg)
	require.NoError(t, err)
	assert.Equal(t, 40, want.Images)
	assert.False(t, want.Partial)
	for _, threads := range []int{1, 2} {
		m.Threads = threads
		got, err := b.Evaluate(ctx, m, data, cfg)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	cfg.Done, cfg.Keep = want.Results[10:20], nil
	got, err := b.Evaluate(ctx, m, data, cfg)
	require.NoError(t, err)
	assert.Equal(t, want.Results, got.Results)
	assert.Equal(t, want.Attacks, got.Attacks)
}

// twoClasses returns a network of two classes.
func twoClasses(t *testing.T) *snn.Model {
	t.Helper()
	cfg := zoo.Default(small)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 2, 6, 6, 2, 4
	cfg.Mean, cfg.Std, cfg.Threshold = nil, nil, 0.3
	m, err := zoo.New(cfg, rng.New(7))
	require.NoError(t, err)
	return m
}

// The memory of a gradient that keeps one belongs to the image and the start: an image alone and
// among others, and a second start and a first one, come to the same points.
func TestMemoryBelongsToImageAndStart(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := images(m, 12, 0, 1)
	a := attack.PGD(0.3, 0.02, 6, snn.ASSG{A: 0.4})
	together := perturb(t, a, m, x, y, ids)
	none := perturb(t, attack.PGD(0.3, 0.02, 6, forgetful{snn.ASSG{A: 0.4}}), m, x, y, ids)
	assert.NotEqual(t, none.Data, together.Data, "the memory has an effect")
	for i := range x.N {
		alone := perturb(t, a, m, x.Slice(i, i+1), y[i:i+1], ids[i:i+1])
		require.Equal(t, together.Image(i), alone.Data)
	}
	twice := &repeats{}
	_, err := twice.Perturb(ctx, m, x.Slice(0, 1), y[:1], ids[:1], rng.New(1))
	require.NoError(t, err)
	require.Len(t, twice.gradients, 6)
	assert.Equal(t, twice.gradients[:3], twice.gradients[3:], "after Forget")
	assert.NotEqual(t, twice.gradients[0], twice.gradients[1])
}

// repeats notes the gradient at the image again and again, and forgets after three times.
type repeats struct {
	attack.RandomNoise
	gradients [][]float32
}

func (*repeats) Threat() (attack.Threat, bool) { return attack.Threat{Norm: attack.LInf{}}, true }

func (r *repeats) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	return attack.PerturbEach(ctx, r, m, x, y, ids, key)
}

func (r *repeats) Search(o *attack.Oracle) error {
	for i := range 6 {
		if i == 3 {
			o.Forget()
		}
		_, g, err := o.Gradient(o.Clean, snn.ASSG{A: 0.4}, attack.Margin{})
		if err != nil && !errors.Is(err, attack.ErrFound) {
			return err
		}
		r.gradients = append(r.gradients, g)
	}
	return nil
}

// forgetful passes no memory on.
type forgetful struct{ snn.ASSG }

func (f forgetful) Fire(p *snn.Pass, n snn.Neuron, x *autograd.Value) *autograd.Value {
	q := *p
	q.Memory = nil
	return f.ASSG.Fire(&q, n, x)
}

// refusing is a gradient approximation that no neuron has a rule for.
type refusing struct{ snn.BPTT }

func (g refusing) Fire(p *snn.Pass, n snn.Neuron, x *autograd.Value) *autograd.Value {
	p.Fail(errors.New("no rule"))
	return g.BPTT.Fire(p, n, x)
}

// A preset leaves out what the network's neurons refuse, and says so. A list of one's own does
// not.
func TestBatteryRefused(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 20, 0, 1)
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{
		{Name: "refused", Attack: attack.FGSM(0.1, refusing{})}, {Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})},
	}}
	_, err := b.Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	assert.EqualError(t, err, "attack: battery: attack refused: snn: no rule")
	b.Name = "preset"
	r, err := b.Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	require.NoError(t, err)
	assert.Equal(t, "snn: no rule", r.Attacks[0].Refused)
	assert.Zero(t, r.Attacks[0].Met)
	b.Attacks = b.Attacks[1:]
	alone, err := b.Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	require.NoError(t, err)
	assert.Equal(t, alone.Attacks[0], r.Attacks[1])
	assert.Contains(t, r.Checks[4].Advice, "The network refused refused: snn: no rule.")
	mixed := b
	mixed.Attacks = append([]attack.Named{{Name: "mixed", Attack: attack.FGSM(0.1, attack.GradientMix{snn.BPTT{}, refusing{}})}}, b.Attacks...)
	r, err = mixed.Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	require.NoError(t, err)
	assert.Equal(t, "snn: no rule", r.Attacks[0].Refused)
	b.Attacks = []attack.Named{{Name: "refused", Attack: attack.FGSM(0.1, refusing{})}}
	_, err = b.Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	assert.ErrorContains(t, err, "the network refuses all attacks: snn: no rule")
}

// What a battery cannot run is refused by name before the first pass.
func TestBatteryErrors(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 4, 0, 1)
	good := func() (attack.Battery, attack.BatteryConfig, set) {
		return attack.Battery{
			Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})}},
		}, attack.DefaultBatteryConfig(), set{x: x, y: y}
	}
	nan := float32(math.NaN())
	for want, spoil := range map[string]func(b *attack.Battery, c *attack.BatteryConfig, s *set){
		"eps 0: expected a positive number, of at most 1":                     func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Threat.Eps = 0 },
		"eps 1.5: expected a positive number, of at most 1":                   func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Threat.Eps = 1.5 },
		"eps NaN: expected a positive number":                                 func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Threat.Eps = nan },
		"threat model without a norm":                                         func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Threat = attack.Threat{} },
		"no attacks: expected at least one":                                   func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Attacks = nil },
		"attack FGSM is nil":                                                  func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Attacks[0].Attack = nil },
		`attack 0 has the name "clean"`:                                       func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Attacks[0].Name = "clean" },
		`attack 1 has the name "FGSM"`:                                        func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Attacks = append(b.Attacks, b.Attacks[0]) },
		"attack FGSM is bounded by L∞, eps 0.1: expected L∞ and at most 0.05": func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) { b.Threat.Eps = 0.05 },
		"attack FGSM: attack: 0 steps": func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) {
			b.Attacks[0].Attack.(*attack.Attack).Steps = 0
		},
		"random noise: 0 points": func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) {
			b.Attacks[0].Attack = attack.RandomNoise{Norm: attack.LInf{}, Eps: 0.1}
		},
		"transfer of no sources": func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) {
			b.Attacks[0].Attack = attack.Transfer{Attack: attack.FGSM(0.1, snn.BPTT{})}
		},
		"-1 draws": func(_ *attack.Battery, c *attack.BatteryConfig, _ *set) { c.Draws = -1 },
		"field Certified of 1 images: expected the 4":                                         func(_ *attack.Battery, c *attack.BatteryConfig, _ *set) { c.Certified = []bool{true} },
		"field Done: a result of image 9: expected one for each of some of the images 0 to 3": func(_ *attack.Battery, c *attack.BatteryConfig, _ *set) { c.Done = []attack.ImageResult{{Index: 9}} },
		"field Done: image 1 met 0 attacks and was broken by attack 3: the battery has 1": func(_ *attack.Battery, c *attack.BatteryConfig, s *set) {
			c.Done = []attack.ImageResult{{Index: 1, Label: s.y[1], BrokenBy: 3}}
		},
		"image 2, value 1: 1.25: expected a number in [0, 1]": func(_ *attack.Battery, _ *attack.BatteryConfig, s *set) { s.x = s.x.Clone(); s.x.Image(2)[1] = 1.25 },
		"source 0: a network of 2 classes: expected 3, as the network under attack has": func(b *attack.Battery, _ *attack.BatteryConfig, _ *set) {
			b.Attacks[0].Attack = attack.Transfer{Sources: []*snn.Model{twoClasses(t)}, Attack: attack.FGSM(0.1, snn.BPTT{})}
		},
	} {
		b, cfg, data := good()
		spoil(&b, &cfg, &data)
		_, err := b.Evaluate(ctx, m, data, cfg)
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "attack: battery: ")
	}
}

// A battery that is stopped reports the images that are finished, and what it has kept lets a
// second run complete it.
func TestBatteryStops(t *testing.T) {
	m := model(t, small, false)
	m.Threads = 1
	x, y, _ := images(m, 40, 0, 1)
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})}}}
	whole, err := b.Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
	require.NoError(t, err)
	stopped, cancel := context.WithCancel(ctx)
	cfg := attack.DefaultBatteryConfig()
	var kept []attack.ImageResult
	cfg.OnResult = func(r attack.ImageResult) error {
		if kept = append(kept, r); len(kept) == 7 {
			cancel()
		}
		return nil
	}
	r, err := b.Evaluate(stopped, m, set{x: x, y: y}, cfg)
	require.ErrorIs(t, err, context.Canceled)
	require.NotNil(t, r)
	assert.True(t, r.Partial)
	assert.Equal(t, len(kept), r.Images)
	assert.Less(t, r.Images, 40)
	cfg.Done, cfg.OnResult = kept, nil
	again, err := b.Evaluate(ctx, m, set{x: x, y: y}, cfg)
	require.NoError(t, err)
	assert.Equal(t, whole, again)
	cfg.Done, cfg.OnResult = nil, func(attack.ImageResult) error { return errors.New("disk full") }
	_, err = b.Evaluate(ctx, m, set{x: x, y: y}, cfg)
	assert.ErrorContains(t, err, "disk full")
}

// The memory of a battery grows neither with the number of images nor with that of attacks or
// their steps. Only results do, by about a hundred bytes for each image and attack.
func TestBatteryMemory(t *testing.T) {
	costly(t)
	m := model(t, small, false)
	m.Threads = 1
	peak := func(n, attacks, steps int) uint64 {
		x, _, _ := images(m, n, 0, 1)
		data := set{x: x, y: correct(t, m, x)}
		b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 1e-3}}
		for i := range attacks {
			a := attack.PGD(1e-3, 1e-4, steps, snn.ASSG{A: 0.4})
			a.Rule, a.Alpha, a.KeepBest = attack.APGD{}, 0, true
			b.Attacks = append(b.Attacks, attack.Named{Name: fmt.Sprint(i), Attack: a})
		}
		cfg := attack.DefaultBatteryConfig()
		cfg.Unchecked = true
		live := func() uint64 {
			runtime.GC()
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			return s.HeapAlloc
		}
		for range 3 { // what pools keep of earlier tests goes in the second collection
			live()
		}
		before, most := live(), uint64(0)
		cfg.OnResult = func(attack.ImageResult) error {
			most = max(most, live())
			return nil
		}
		_, err := b.Evaluate(ctx, m, data, cfg)
		require.NoError(t, err)
		runtime.KeepAlive(data)
		return most - min(most, before)
	}
	const base, results, slack = 64, 128, 1 << 17
	peak(base, 1, 4) // what is made once, such as tables of convolutions
	few := peak(base, 1, 4)
	t.Logf("live heap with %d images, 1 attack of 4 steps: %d", base, few)
	for _, c := range [][3]int{{8 * base, 1, 4}, {base, 8, 4}, {base, 1, 64}} {
		got := peak(c[0], c[1], c[2])
		t.Logf("with %v: %d", c, got)
		assert.Less(t, got, few+slack+uint64(results*c[0]*c[1]), "%d images, %d attacks, %d steps", c[0], c[1], c[2])
	}
}

// An error of OnResult ends the searches that are on their way around later images.
func TestBatteryEndsAtAnError(t *testing.T) {
	m := model(t, small, false)
	m.Threads = 1
	x, _, _ := images(m, 12, 0, 1)
	later := 0
	a := searching{0, func(o *attack.Oracle) error {
		for range 1000 {
			if _, err := o.Logits(o.Clean); err != nil || o.ID == 0 {
				return err
			}
			later++
		}
		return nil
	}}
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{{Name: "a", Attack: a}}}
	cfg := attack.DefaultBatteryConfig()
	cfg.OnResult = func(attack.ImageResult) error { return errors.New("disk full") }
	_, err := b.Evaluate(ctx, m, set{x: x, y: correct(t, m, x)}, cfg)
	assert.EqualError(t, err, "attack: battery: image 0: disk full")
	assert.Less(t, later, 100)
}
