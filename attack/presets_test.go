package attack_test

import (
	"slices"
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

// A preset runs in L∞ and L2, on images and on frames, on two classes, and on a random network, and
// none of its attacks is refused.
func TestPresets(t *testing.T) {
	costly(t)
	m := model(t, small, false)
	two := zoo.Default(small)
	two.Channels, two.Height, two.Width, two.Classes, two.Steps = 2, 6, 6, 2, 4
	two.Mean, two.Std, two.Threshold = nil, nil, 0.3
	pair, err := zoo.New(two, rng.New(7))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		m      *snn.Model
		x      tensor.NCHW
		threat attack.Threat
	}{
		"images":      {m, first(images(m, 2, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 1e-4}},
		"L2":          {m, first(images(m, 2, 0, 1)), attack.Threat{Norm: attack.L2{}, Eps: 1e-4}},
		"frames":      {m, first(frames(m, 2, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 1e-4}},
		"L2 a frame":  {m, first(frames(m, 2, 0, 1)), attack.Threat{Norm: attack.L2{}, Eps: 1e-4, PerFrame: true}},
		"two classes": {pair, first(images(pair, 2, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 1e-4}},
		"Poisson":     {model(t, small, true), first(images(m, 1, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 1e-4}},
	} {
		t.Run(name, func(t *testing.T) {
			data := set{x: c.x, y: correct(t, c.m, c.x)}
			b, err := attack.Preset("standard", c.threat)
			require.NoError(t, err)
			r, err := b.Evaluate(ctx, c.m, data, attack.DefaultBatteryConfig())
			require.NoError(t, err)
			assert.Equal(t, "standard", r.Battery)
			for _, a := range r.Attacks {
				assert.Empty(t, a.Refused, a.Name)
				assert.NotZero(t, a.Met, a.Name)
			}
		})
	}
	for norm, shared := range map[attack.Norm]bool{attack.LInf{}: false, attack.L2{}: true} {
		for _, a := range attack.Thorough(attack.Threat{Norm: norm, Eps: 0.1, PerFrame: true}).Attacks {
			if d := attack.Describe(a.Attack); d.Mix == nil {
				assert.Equal(t, shared, d.SharedFrames, a.Name)
			}
		}
	}
	_, err = attack.Preset("fast", attack.Threat{})
	assert.EqualError(t, err, `attack: preset "fast": expected one of quick, standard, thorough`)
}

// plain is a neuron that tells neither its threshold nor its rate.
type plain struct{ snn.Neuron }

func (n plain) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value { return snn.Fire(p, n, x) }

// Where neurons do not tell their thresholds, surrogates are in units of the membrane potential.
// The network refuses only the gradients that need more.
func TestPresetsOfPlainNeurons(t *testing.T) {
	racetest.Costly(t)
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 6, Width: 6, Steps: 4}, snn.NewSequential(
		new(snn.Flatten), snn.NewLinear(72, 20, true), plain{snn.NewIF()}, snn.NewLinear(20, 3, true),
	))
	require.NoError(t, err)
	m.Init(rng.New(1))
	x, _, _ := images(m, 2, 0, 1)
	r, err := attack.Standard(attack.Threat{Norm: attack.LInf{}, Eps: 1e-4}).
		Evaluate(ctx, m, set{x: x, y: correct(t, m, x)}, attack.DefaultBatteryConfig())
	require.NoError(t, err)
	for _, a := range r.Attacks {
		assert.Equal(t, a.Name == "APGD, margin, ASSG" || a.Name == "APGD, margin, BPTR", a.Refused != "", a.Name)
	}
}

// An image that stands costs what the comment of its preset says: the least if its rounds end after
// three, and the most if none is spared.
func TestPresetCosts(t *testing.T) {
	costly(t)
	m := model(t, small, false)
	x := first(images(m, 1, 0, 1))
	passes := func(b attack.Battery, last attack.Named) int {
		cfg := attack.DefaultBatteryConfig()
		cfg.Unchecked = true
		b.Attacks = append(slices.Clone(b.Attacks[:len(b.Attacks)-1]), last)
		r, err := b.Evaluate(ctx, m, set{x: x, y: correct(t, m, x)}, cfg)
		require.NoError(t, err)
		require.Equal(t, attack.Survived, r.Results[0].BrokenBy)
		return r.Results[0].Passes
	}
	for preset, want := range map[string]struct{ least, most int }{
		"quick": {2323, 2323}, "standard": {8309, 14612}, "thorough": {17309, 169046},
	} {
		b, err := attack.Preset(preset, attack.Threat{Norm: attack.LInf{}, Eps: 1e-6})
		require.NoError(t, err)
		last := b.Attacks[len(b.Attacks)-1]
		rounds, ok := last.Attack.(attack.Rounds)
		if !ok {
			assert.Equal(t, want.least, passes(b, last), preset)
			continue
		}
		n := rounds.N
		rounds.GiveUp, rounds.N = 0, 3
		last.Attack = rounds
		least := passes(b, last)
		rounds.N = 4
		last.Attack = rounds
		assert.Equal(t, want.least, least, preset)
		assert.Equal(t, want.most, least+(n-3)*(passes(b, last)-least), preset)
	}
}
