package attack_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Every kind of attack in a battery comes to the same bits with other threads, other images
// beside it, and with images that stay after they are broken.
func TestBatteryBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	for name, c := range map[string]struct {
		poisson, frames bool
		threat          attack.Threat
	}{
		"L∞":              {threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.05}},
		"L2":              {threat: attack.Threat{Norm: attack.L2{}, Eps: 0.3}},
		"Poisson":         {poisson: true, threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}},
		"frames":          {frames: true, threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.05}},
		"L2 of one frame": {frames: true, threat: attack.Threat{Norm: attack.L2{}, Eps: 0.3, PerFrame: true}},
		"Poisson, frames": {poisson: true, frames: true, threat: attack.Threat{Norm: attack.L2{}, Eps: 2}},
	} {
		if costly := c.poisson || c.threat.Norm == attack.Norm(attack.L2{}); costly && testing.Short() {
			continue // the race detector sees the same code
		}
		m := model(t, small, c.poisson)
		other := model(t, "conv4 | fc", c.poisson)
		var x tensor.NCHW
		if c.frames {
			x, _, _ = frames(m, 24, 0, 1)
		} else {
			x, _, _ = images(m, 24, 0, 1)
		}
		at := func(s attack.Start, g snn.Gradient, r attack.StepRule) *attack.Attack {
			return &attack.Attack{
				Objective: attack.Margin{}, Gradient: g, Start: s, Rule: r, Steps: 5, Alpha: c.threat.Eps / 4, KeepBest: true,
				Norm: c.threat.Norm, Eps: c.threat.Eps, SharedFrames: c.threat.PerFrame,
			}
		}
		square := attack.Square{Norm: c.threat.Norm, Eps: c.threat.Eps, Queries: 15, P: 0.1, FromBest: true, SharedFrames: c.threat.PerFrame}
		targets := at(attack.InBall{}, snn.ASSG{A: 0.42}, attack.APGD{})
		targets.Targets, targets.Starts, targets.Objective, targets.Steps = 2, 2, attack.DLR{}, 10
		b := attack.Battery{Threat: c.threat, Attacks: []attack.Named{
			{Name: "assg", Attack: targets},
			{Name: "mixture", Attack: at(attack.InBall{}, attack.GradientMix{snn.BPTT{}, snn.ASSG{A: 0.42}, snn.BPTR{}, snn.CBA{}}, attack.SAPGD{})},
			{Name: "transfer", Attack: attack.Transfer{Sources: []*snn.Model{other, m}, Attack: at(attack.InBall{}, snn.BPTT{}, nil)}},
			{Name: "rounds", Attack: attack.Rounds{N: 3, GiveUp: 3, Attacks: []attack.Searcher{at(attack.InBall{}, snn.RGA{}, attack.Momentum{Decay: 1}), square}}},
			{Name: "best", Attack: at(attack.AtBest{}, snn.BPTT{}, attack.APGD{})},
			{Name: "mix", Attack: attack.Mix{at(attack.InBall{}, snn.BPTT{}, nil), at(attack.AtImage{}, snn.ASSG{A: 0.4}, nil)}},
		}}
		if !c.threat.PerFrame {
			b.Attacks = append(b.Attacks, attack.Named{Name: "noise", Attack: attack.RandomNoise{Norm: c.threat.Norm, Eps: c.threat.Eps, Points: 5}})
		}
		data := set{x: x, y: correct(t, m, x)}
		cfg := attack.DefaultBatteryConfig()
		cfg.Unchecked, cfg.Draws, cfg.Keep = true, 1, every
		if c.poisson {
			cfg.Draws = 3
		}
		want, err := b.Evaluate(ctx, m, data, cfg)
		require.NoError(t, err, name)
		require.Less(t, want.WorstCase, want.Clean, name)
		require.Positive(t, want.WorstCase, name)
		for _, r := range want.Results {
			for _, trial := range r.Trials {
				assert.False(t, trial.Broke && trial.Late != 0, "Late is 0 for an attack that broke the image")
			}
		}
		if testing.Short() {
			continue
		}
		m.Threads = 1
		got, err := b.Evaluate(ctx, m, data, cfg)
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
		alone := cfg
		alone.Done = append(append([]attack.ImageResult(nil), want.Results[:11]...), want.Results[12:]...)
		got, err = b.Evaluate(ctx, m, data, alone)
		require.NoError(t, err, name)
		assert.Equal(t, want.Results, got.Results, name)
		cfg.Exhaustive, m.Threads = true, 2
		got, err = b.Evaluate(ctx, m, data, cfg)
		require.NoError(t, err, name)
		for i, r := range got.Results {
			w := want.Results[i]
			assert.Equal(t, w.Trials, r.Trials[:len(w.Trials)], name)
			assert.Equal(t, w.BrokenBy, r.BrokenBy, name)
			assert.Equal(t, w.PassesToBreak, r.PassesToBreak, name)
		}
		assert.Equal(t, want.WorstCase, got.WorstCase, name)
	}
}
