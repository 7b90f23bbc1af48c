package attack_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
)

// Rounds have starts of their own and begin without a best point. They break what a round alone
// breaks, and more.
func TestRounds(t *testing.T) {
	m := model(t, small, false)
	x, _, _ := images(m, 60, 0, 1)
	y := correct(t, m, x)
	start := attack.PGD(0.03, 0.01, 2, snn.BPTT{})
	start.KeepBest = true
	search := attack.LocalSearch{Eps: 0.03, Passes: 30, FromBest: true}
	var left []int
	for _, n := range []int{1, 2, 8} {
		adv := perturb(t, attack.Rounds{N: n, Attacks: []attack.Searcher{start, search}}, m, x, y, nil)
		count := 0
		for _, v := range margins(t, m, adv, y) {
			if v > 0 {
				count++
			}
		}
		left = append(left, count)
	}
	assert.GreaterOrEqual(t, left[0], left[1])
	assert.Greater(t, left[0], left[2])
}

// A trial tells whether the gradient attack or the search of its rounds broke the image, and
// check 3 counts it so.
func TestRoundsByScores(t *testing.T) {
	racetest.Costly(t)
	m := model(t, small, false)
	x, _, _ := images(m, 60, 0, 1)
	data := set{x: x, y: correct(t, m, x)}
	evaluate := func(eps, radius float32) *attack.BatteryReport {
		b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: eps}, Attacks: []attack.Named{{
			Name: "rounds", Attack: attack.Rounds{N: 2, Attacks: []attack.Searcher{
				attack.PGD(radius, radius/3, 5, snn.BPTT{}), attack.LocalSearch{Eps: eps, Passes: 60, FromBest: true},
			}},
		}}}
		r, err := b.Evaluate(ctx, m, data, attack.DefaultBatteryConfig())
		require.NoError(t, err)
		return r
	}
	count := func(r *attack.BatteryReport) (gradients, scores int) {
		for _, i := range r.Results {
			if i.BrokenBy == 0 && i.Trials[0].ByScores {
				scores++
			} else if i.BrokenBy == 0 {
				gradients++
			}
		}
		assert.Contains(t, r.Checks[2].Text, fmt.Sprintf("Attacks with gradients break %d images, and those without break %d more", gradients, scores))
		return gradients, scores
	}
	gradients, scores := count(evaluate(0.1, 1e-6))
	assert.Zero(t, gradients, "a gradient attack of next to no radius")
	assert.Positive(t, scores)
	gradients, _ = count(evaluate(0.1, 0.1))
	assert.Positive(t, gradients)
}

// GiveUp ends the rounds of images that stand far from the border after three of them, and later or
// never those of others.
func TestRoundsGiveUp(t *testing.T) {
	costly(t)
	m := model(t, small, false)
	x, _, _ := images(m, 20, 0, 1)
	y := correct(t, m, x)
	passes := func(eps float32, giveUp float64) (of []int, left float64) {
		b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: eps}, Attacks: []attack.Named{{
			Name: "rounds", Attack: attack.Rounds{N: 8, GiveUp: giveUp, Attacks: []attack.Searcher{attack.LocalSearch{Eps: eps, Passes: 30}}},
		}}}
		r, err := b.Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
		require.NoError(t, err)
		for _, i := range r.Results {
			if i.BrokenBy == attack.Survived {
				of = append(of, i.Trials[0].Passes)
			}
		}
		return of, r.WorstCase
	}
	all, left := passes(0.001, 0)
	some, leftThen := passes(0.001, 3)
	assert.NotEmpty(t, all)
	for i := range all {
		assert.Equal(t, 240, all[i])
		assert.Equal(t, 90, some[i])
	}
	assert.Equal(t, left, leftThen)
	some, _ = passes(0.05, 3)
	assert.Contains(t, some, 120)
}

// In an exhaustive battery, what an attack leaves alone is what it leaves in a battery of its own.
func TestExhaustiveAlone(t *testing.T) {
	costly(t)
	m := model(t, small, false)
	x, _, _ := images(m, 40, 0, 1)
	data := set{x: x, y: correct(t, m, x)}
	const eps = 0.1
	strong := attack.PGD(eps, 0.02, 10, snn.BPTT{})
	strong.KeepBest = true
	list := []attack.Named{
		{Name: "PGD", Attack: strong},
		{Name: "noise", Attack: attack.RandomNoise{Norm: attack.LInf{}, Eps: eps, Points: 3}},
		{Name: "Square", Attack: attack.Square{Norm: attack.LInf{}, Eps: eps, Queries: 20, P: 0.8}},
		{Name: "rounds", Attack: attack.Rounds{N: 2, Attacks: []attack.Searcher{attack.LocalSearch{Eps: eps, Passes: 9, FromBest: true}}}},
		{Name: "FGSM", Attack: attack.FGSM(eps, snn.CBA{})},
	}
	evaluate := func(exhaustive bool, attacks ...attack.Named) *attack.BatteryReport {
		cfg := attack.DefaultBatteryConfig()
		cfg.Exhaustive = exhaustive
		r, err := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: eps}, Attacks: attacks}.Evaluate(ctx, m, data, cfg)
		require.NoError(t, err)
		return r
	}
	all := evaluate(true, list...)
	for i, a := range list {
		assert.Equal(t, evaluate(false, a).WorstCase, all.Attacks[i].Alone, a.Name)
	}
	assert.Equal(t, evaluate(false, list...).WorstCase, all.WorstCase)
}

// The description of rounds tells their number, the budget of a search, and both attacks.
func TestRoundsDescribe(t *testing.T) {
	r := attack.Rounds{N: 6, GiveUp: 3, Attacks: []attack.Searcher{attack.LocalSearch{Eps: 0.1, Passes: 2000, FromBest: true}}}
	assert.Equal(t, "up to 6 rounds (GiveUp 3) of (local search, at most 2000 passes, start: the best point before)", r.Describe().String())
	r.GiveUp = 0
	assert.Equal(t, "6 rounds of (local search, at most 2000 passes, start: the best point before)", r.Describe().String())
}
