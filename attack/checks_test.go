package attack_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/train/dataset/fashion"
)

// sound returns a network that was trained on Fashion-MNIST, 84.2 % right:
// conv4 A conv8 A | fc, T = 4, 4 epochs of train.Default, seed 1.
func sound(t *testing.T) *snn.Model {
	t.Helper()
	m, _, err := zoo.Load("testdata/fashion_plain.safetensors")
	require.NoError(t, err)
	return m
}

// costly skips a test under the race detector and at a kernel level that was asked for, where it
// takes minutes. What it tests depends on neither.
func costly(t *testing.T) {
	t.Helper()
	racetest.Costly(t)
	if os.Getenv("SNNRAT_KERNEL") != "" {
		t.Skip("takes minutes at a chosen kernel level")
	}
}

var fashionBall = attack.Threat{Norm: attack.LInf{}, Eps: 16. / 255}

// checkedBattery is strong enough to pass all checks on the trained network.
func checkedBattery(g snn.Gradient, steps int) attack.Battery {
	apgd := func(o attack.Objective, g snn.Gradient) *attack.Attack {
		return &attack.Attack{
			Objective: o, Gradient: g, Norm: attack.LInf{}, Start: attack.InBall{}, Eps: fashionBall.Eps,
			Rule: attack.APGD{}, Steps: steps, KeepBest: true,
		}
	}
	return attack.Battery{Threat: fashionBall, Attacks: []attack.Named{
		{Name: "APGD-CE", Attack: apgd(attack.CrossEntropy{}, g)},
		{Name: "APGD-margin", Attack: apgd(attack.Margin{}, snn.BPTR{})},
		{Name: "noise", Attack: attack.RandomNoise{Norm: attack.LInf{}, Eps: fashionBall.Eps, Points: 100}},
	}}
}

// checked returns the report of a battery on a number of images, and the checks by their point.
func checked(t *testing.T, m *snn.Model, b attack.Battery, images int, cfg attack.BatteryConfig) (*attack.BatteryReport, map[int]attack.Check) {
	t.Helper()
	set, err := fashion.Test()
	require.NoError(t, err)
	set, err = set.First(images)
	require.NoError(t, err)
	r, err := b.Evaluate(ctx, m, set, cfg)
	require.NoError(t, err)
	checks := map[int]attack.Check{}
	require.Len(t, r.Checks, 12)
	for i, c := range r.Checks {
		require.Equal(t, i+1, c.Point)
		assert.NotEmpty(t, c.Name)
		assert.NotEmpty(t, c.Text)
		assert.Equal(t, c.Status == attack.OK || c.Status == attack.Skipped, c.Advice == "", "%v", c)
		checks[c.Point] = c
	}
	return r, checks
}

// raised lists the points that are neither OK nor Skipped.
func raised(checks map[int]attack.Check) (points []int) {
	for p := 1; p <= 12; p++ {
		if s := checks[p].Status; s != attack.OK && s != attack.Skipped {
			points = append(points, p)
		}
	}
	return points
}

// neurons calls fn for each layer of neurons and the layer of weights before it.
func neurons(m *snn.Model, fn func(n *snn.LIF, before snn.Layer)) {
	var before snn.Layer
	for _, r := range m.Summary().Rows {
		if n, ok := r.Layer.(*snn.LIF); ok {
			fn(n, before)
		} else if len(r.Params) > 0 {
			before = r.Layer
		}
	}
}

// scaleParam multiplies a parameter.
func scaleParam(t *testing.T, m *snn.Model, by float32, names ...string) {
	t.Helper()
	for _, name := range names {
		done := false
		for _, p := range m.State() {
			if p.Name == name {
				v := p.Export()
				for i := range v {
					v[i] *= by
				}
				p.Import(v)
				done = true
			}
		}
		require.True(t, done, name)
	}
}

// A network that has none of the faults passes every check that applies.
func TestChecksOfSoundNetwork(t *testing.T) {
	costly(t)
	r, checks := checked(t, sound(t), checkedBattery(snn.BPTT{}, 40), 60, attack.DefaultBatteryConfig())
	assert.Empty(t, raised(checks), "%v", r.Checks)
	assert.Equal(t, attack.Skipped, checks[11].Status)
	assert.Less(t, r.WorstCase, 0.4)
}

// Each planted fault raises the check that is there for it.
func TestChecksFindPlantedFaults(t *testing.T) {
	costly(t)
	surrogate := func(width float32) func(m *snn.Model) {
		return func(m *snn.Model) {
			neurons(m, func(n *snn.LIF, _ snn.Layer) { n.Surrogate = snn.Triangle{Width: width} })
		}
	}
	certified := make([]bool, 40)
	for i := range certified {
		certified[i] = true
	}
	for name, c := range map[string]struct {
		plant  func(m *snn.Model)
		steps  int
		cfg    func(c *attack.BatteryConfig)
		points []int
		want   string
		status attack.Status
	}{
		"logits × 10⁴": {
			plant:  func(m *snn.Model) { scaleParam(t, m, 1e4, "classifier.0.weight", "classifier.0.bias") },
			points: []int{6}, want: "The softmax is constant", status: attack.Warning,
		},
		"surrogate of width 0.01":  {plant: surrogate(1e-2), points: []int{6}, want: "is almost zero an eighth", status: attack.Warning},
		"surrogate of width 0.001": {plant: surrogate(1e-3), points: []int{1, 4, 6, 10}, want: "Hardly any gradient", status: attack.Fault},
		"first layer that saturates": {
			plant:  func(m *snn.Model) { scaleParam(t, m, 1e4, "features.0.weight") },
			points: []int{4}, want: "hardly reacts to its input", status: attack.Fault,
		},
		"attack stopped early": {steps: 5, points: []int{2}, want: "has 5 steps, too few to converge", status: attack.Warning},
		"wrong certificates": {
			cfg:    func(c *attack.BatteryConfig) { c.Certified = certified },
			points: []int{11}, want: "A certificate is wrong", status: attack.Fault,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := sound(t)
			if c.plant != nil {
				c.plant(m)
			}
			cfg := attack.DefaultBatteryConfig()
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			if c.steps == 0 {
				c.steps = 40
			}
			_, checks := checked(t, m, checkedBattery(snn.BPTT{}, c.steps), 40, cfg)
			for _, p := range c.points {
				assert.Contains(t, raised(checks), p, "%v", checks)
			}
			some := false
			for _, p := range c.points {
				some = some || strings.Contains(checks[p].Advice, c.want) && checks[p].Status == c.status
			}
			assert.True(t, some, "%v", checks)
		})
	}
}

// A random network that is judged by one draw is a fault. With the default, attacks and verdicts
// average over ten.
func TestChecksOfRandomNetwork(t *testing.T) {
	costly(t)
	m := sound(t)
	m.Encoder = snn.Poisson{}
	b := checkedBattery(snn.BPTT{}, 5)
	cfg := attack.DefaultBatteryConfig()
	r, checks := checked(t, m, b, 4, cfg)
	assert.Equal(t, 10, r.Draws)
	assert.Equal(t, attack.OK, checks[7].Status)
	cfg.Draws = 1
	r, checks = checked(t, m, b, 4, cfg)
	assert.Equal(t, 1, r.Draws)
	assert.Equal(t, attack.Fault, checks[7].Status)
}

// A network whose thresholds and currents are 100 times as large is the same function. The flag
// rises, for its own surrogates are now too narrow to attack with.
func TestThresholdsTimes100(t *testing.T) {
	costly(t)
	b := checkedBattery(snn.BPTT{}, 20)
	before, checks := checked(t, sound(t), b, 40, attack.DefaultBatteryConfig())
	assert.NotContains(t, raised(checks), 6)
	m := sound(t)
	times100(t, m)
	after, checks := checked(t, m, b, 40, attack.DefaultBatteryConfig())
	assert.Contains(t, checks[6].Advice, "is almost zero an eighth of the threshold away")
	assert.Greater(t, after.Attacks[0].Left, before.Attacks[0].Left+0.1, "the network's own surrogates")
}

// times100 multiplies the thresholds and currents of all neurons.
func times100(t *testing.T, m *snn.Model) {
	neurons(m, func(n *snn.LIF, _ snn.Layer) { n.Threshold *= 100 })
	scaleParam(t, m, 100, "features.1.weight", "features.1.bias", "features.5.weight", "features.5.bias")
}

// Many rounds of a short attack are not an attack of many steps.
func TestChecksOfRounds(t *testing.T) {
	costly(t)
	b := checkedBattery(snn.BPTT{}, 5)
	for i, a := range b.Attacks[:2] {
		b.Attacks[i].Attack = attack.Rounds{N: 25, Attacks: []attack.Searcher{a.Attack.(attack.Searcher)}}
	}
	_, checks := checked(t, sound(t), b, 6, attack.DefaultBatteryConfig())
	assert.Contains(t, checks[2].Advice, "has 5 steps, too few to converge")
}

// Where gradients are useless and scores are not, the check on masked gradients is a fault.
func TestChecksOfMaskedGradients(t *testing.T) {
	costly(t)
	m := sound(t)
	narrow(m, 1e-3)
	b := checkedBattery(snn.BPTT{}, 20)
	b.Attacks = []attack.Named{b.Attacks[0], {Name: "search", Attack: attack.LocalSearch{Eps: fashionBall.Eps, Passes: 300, FromBest: true}}}
	_, checks := checked(t, m, b, 20, attack.DefaultBatteryConfig())
	assert.Equal(t, attack.Fault, checks[3].Status)
	assert.Contains(t, checks[3].Advice, "Scores alone break more images than gradients do")
}

// narrow gives all neurons a triangle of another width.
func narrow(m *snn.Model, width float32) {
	neurons(m, func(n *snn.LIF, _ snn.Layer) { n.Surrogate = snn.Triangle{Width: width} })
}

// A preset breaks a network with a fault that leaves its function as it is, to within a point of
// the network without it. Of 50 images that is none.
func TestPresetSeesPastFaults(t *testing.T) {
	costly(t)
	cfg := attack.DefaultBatteryConfig()
	cfg.Unchecked = true
	quick := attack.Quick(fashionBall)
	left := func(m *snn.Model) float64 {
		set, err := fashion.Test()
		require.NoError(t, err)
		set, err = set.First(50)
		require.NoError(t, err)
		r, err := quick.Evaluate(ctx, m, set, cfg)
		require.NoError(t, err)
		return r.WorstCase
	}
	want := left(sound(t))
	for name, plant := range map[string]func(m *snn.Model){
		"logits × 10⁴":                  func(m *snn.Model) { scaleParam(t, m, 1e4, "classifier.0.weight", "classifier.0.bias") },
		"thresholds and currents × 100": func(m *snn.Model) { times100(t, m) },
		"surrogate of width 0.001":      func(m *snn.Model) { narrow(m, 1e-3) },
	} {
		m := sound(t)
		plant(m)
		assert.InDelta(t, want, left(m), 0.01, name)
	}
}

// Check 3 counts an image once, for the first attack that broke it, in an exhaustive battery too.
func TestChecksOfExhaustive(t *testing.T) {
	costly(t)
	b := checkedBattery(snn.BPTT{}, 20)
	b.Attacks[2].Attack = attack.LocalSearch{Eps: fashionBall.Eps, Passes: 200, FromBest: true}
	cfg := attack.DefaultBatteryConfig()
	_, once := checked(t, sound(t), b, 20, cfg)
	cfg.Exhaustive = true
	_, all := checked(t, sound(t), b, 20, cfg)
	assert.Contains(t, once[3].Text, "those without break 0 more")
	assert.Equal(t, once[3], all[3])
}
