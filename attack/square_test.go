package attack_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// searches returns the attacks without gradients, in both norms and from both starts.
func searches(eps float32, passes int) map[string]attack.Searcher {
	return map[string]attack.Searcher{
		"Square L∞":         attack.Square{Norm: attack.LInf{}, Eps: eps, Queries: passes, P: 0.8},
		"Square L∞, best":   attack.Square{Norm: attack.LInf{}, Eps: eps, Queries: passes, P: 0.05, FromBest: true},
		"Square L∞, shared": attack.Square{Norm: attack.LInf{}, Eps: eps, Queries: passes, P: 0.8, SharedFrames: true},
		"Square L2":         attack.Square{Norm: attack.L2{}, Eps: 4 * eps, Queries: passes, P: 0.1},
		"Square L2, best":   attack.Square{Norm: attack.L2{}, Eps: 4 * eps, Queries: passes, P: 0.1, FromBest: true},
		"Square L2, shared": attack.Square{Norm: attack.L2{}, Eps: 4 * eps, Queries: passes, P: 0.1, SharedFrames: true},
		"local":             attack.LocalSearch{Eps: eps, Passes: passes},
		"local, best":       attack.LocalSearch{Eps: eps, Passes: passes, FromBest: true},
		"local, shared":     attack.LocalSearch{Eps: eps, Passes: passes, SharedFrames: true},
	}
}

// margins returns the label's logit minus the largest other one, for each image.
func margins(t testing.TB, m *snn.Model, x tensor.NCHW, y []int) []float32 {
	t.Helper()
	z, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	d := make([]float32, len(y))
	for i, label := range y {
		other := float32(math.Inf(-1))
		for k, v := range z[i*m.Classes():][:m.Classes()] {
			if k != label {
				other = max(other, v)
			}
		}
		d[i] = z[i*m.Classes()+label] - other
	}
	return d
}

// correct returns the images of x that m classifies as the class it gives them, which becomes
// their label. All of their margins are positive.
func correct(t testing.TB, m *snn.Model, x tensor.NCHW) []int {
	t.Helper()
	z, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	y := make([]int, x.N)
	for i := range y {
		row := z[i*m.Classes():][:m.Classes()]
		y[i] = slices.Index(row, slices.Max(row))
	}
	return y
}

// A search lowers the margin of every image, and lies within its ball: Perturb checks that. Frames have perturbations of their own, or share one.
func TestSearchesLowerMargins(t *testing.T) {
	costly(t)
	m := model(t, small, false)
	for name, x := range map[string]tensor.NCHW{
		"images": first(images(m, 12, 0, 1)), "frames": first(frames(m, 12, 0, 1)),
	} {
		y := correct(t, m, x)
		clean := margins(t, m, x, y)
		for attackName, few := range searches(0.05, 20) {
			t.Run(name+"/"+attackName, func(t *testing.T) {
				many := searches(0.05, 400)[attackName]
				before := margins(t, m, perturb(t, few, m, x, y, nil), y)
				adv := perturb(t, many, m, x, y, nil)
				after := margins(t, m, adv, y)
				lower := 0
				for i := range after {
					assert.LessOrEqual(t, min(after[i], before[i]), clean[i]) // a Square of stripes may be worse than the original
					if after[i] < clean[i] {
						lower++
					}
				}
				assert.GreaterOrEqual(t, lower, 10)
				if d, _ := many.Threat(); d.PerFrame && x.Steps > 1 {
					for i := range x.N {
						for k := range frame(x, i, 0) {
							d := frame(adv, i, 0)[k] - frame(x, i, 0)[k]
							e := frame(adv, i, 1)[k] - frame(x, i, 1)[k]
							if v, w := frame(adv, i, 0)[k], frame(adv, i, 1)[k]; v > 0 && v < 1 && w > 0 && w < 1 {
								require.InDelta(t, d, e, 1e-6)
							}
						}
					}
				}
			})
		}
	}
}

func first(x tensor.NCHW, _ []int, _ []uint64) tensor.NCHW { return x }

// The number of passes is the budget, and points are as the papers say: Square and the local
// search set values of L∞ to the ends of the ball, and a Square of L2 uses up ε.
func TestSearchPoints(t *testing.T) {
	costly(t)
	m := model(t, small, false)
	x, _, _ := images(m, 6, 0.3, 0.7)
	y := correct(t, m, x)
	const eps = 0.0625 // exact, as x ± eps nearly is
	for name, s := range searches(1e-4, 300) {
		threat, _ := s.Threat()
		report, err := attack.Battery{Threat: threat, Attacks: []attack.Named{{Name: "it", Attack: s}}}.
			Evaluate(ctx, m, set{x: x, y: y}, attack.DefaultBatteryConfig())
		require.NoError(t, err)
		for _, r := range report.Results {
			if r.BrokenBy == attack.Survived {
				assert.LessOrEqual(t, r.Trials[0].Passes, 300, name)
				assert.GreaterOrEqual(t, r.Trials[0].Passes, 250, name)
			}
		}
	}
	start := perturb(t, attack.Square{Norm: attack.L2{}, Eps: 0.25, Queries: 1, P: 0.1}, m, x, y, nil)
	for i := range x.N { // a grid of pyramids, here of one pixel each
		assert.InDelta(t, 0.25, attack.L2{}.Distance(start.Image(i), x.Image(i)), 1e-6)
		for k, v := range start.Image(i) {
			assert.InDelta(t, 0.25/math.Sqrt(float64(x.Pixels())), math.Abs(float64(v-x.Image(i)[k])), 1e-6)
		}
	}
	for name, s := range searches(eps, 500) {
		th, _ := s.Threat()
		adv := perturb(t, s, m, x, y, nil)
		for i := range x.N {
			if th.Norm == (attack.L2{}) {
				assert.InDelta(t, 4*eps, th.Norm.Distance(adv.Image(i), x.Image(i)), 0.02, name)
				continue
			}
			ends := 0
			for k, v := range adv.Image(i) {
				if d := v - x.Image(i)[k]; math.Abs(math.Abs(float64(d))-eps) < 1e-6 {
					ends++
				}
			}
			if name == "Square L∞" {
				assert.Equal(t, x.Pixels(), ends, name) // from stripes on
			}
			assert.NotZero(t, ends, name)
		}
	}
}

// Bad settings are named.
func TestSearchesRefuse(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := images(m, 2, 0, 1)
	for want, s := range map[string]attack.Searcher{
		"attack: square: Queries 0: expected at least 1":                                attack.Square{Norm: attack.LInf{}, Eps: 0.1, P: 0.8},
		"attack: square: P 0: expected a share of an image's pixels in (0,1]":           attack.Square{Norm: attack.LInf{}, Eps: 0.1, Queries: 5},
		"attack: square: P NaN: expected a share of an image's pixels in (0,1]":         attack.Square{Norm: attack.LInf{}, Eps: 0.1, Queries: 5, P: math.NaN()},
		"attack: square: norm <nil>: expected LInf{} or L2{}":                           attack.Square{Eps: 0.1, Queries: 5, P: 0.8},
		"attack: local search: eps -1: expected a number of at least 0":                 attack.LocalSearch{Eps: -1, Passes: 5},
		"attack: local search: Passes 0: expected at least 1":                           attack.LocalSearch{Eps: 0.1},
		"attack: rounds: N 0: expected at least 1":                                      attack.Rounds{},
		"attack: rounds of no attacks: expected at least one":                           attack.Rounds{N: 1},
		"attack: rounds: attack 0: attack: local search: Passes 0: expected at least 1": attack.Rounds{N: 1, Attacks: []attack.Searcher{attack.LocalSearch{Eps: 0.1}}},
		"attack: rounds: attacks in different norms: expected one norm": attack.Rounds{N: 1, Attacks: []attack.Searcher{
			attack.LocalSearch{Eps: 0.1, Passes: 1}, attack.Square{Norm: attack.L2{}, Eps: 0.1, Queries: 1, P: 1}}},
	} {
		_, err := s.Perturb(ctx, m, x, y, ids, rng.New(1))
		assert.EqualError(t, err, want, fmt.Sprintf("%+v", s))
	}
}

// A local search ends at a point that no flip of a single value improves, as a search over all of
// them finds.
func TestLocalSearchEndsAtMinimum(t *testing.T) {
	racetest.Costly(t)
	m := model(t, small, false)
	const eps = 0.03125
	x, _, _ := images(m, 8, 0, 1)
	y := correct(t, m, x)
	adv := perturb(t, attack.LocalSearch{Eps: eps, Passes: 4000}, m, x, y, nil)
	margin, survived := margins(t, m, adv, y), 0
	for i := range x.N {
		if margin[i] <= 0 {
			continue // the search stops there
		}
		survived++
		for k, v := range x.Image(i) {
			for _, end := range []float32{max(v-eps, 0), min(v+eps, 1)} {
				other := tensor.NCHW{N: 1, C: x.C, H: x.H, W: x.W, Data: slices.Clone(adv.Image(i))}
				other.Data[k] = end
				assert.GreaterOrEqual(t, margins(t, m, other, y[i:i+1])[0], margin[i]-1e-6, "image %d, value %d", i, k)
			}
		}
	}
	assert.NotZero(t, survived)
}

// An image of one pixel has two ends of its ball. Square begins at one, and its next query is the other.
func TestSquareAsksForOtherPoints(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1}, snn.NewSequential(
		new(snn.Flatten), snn.NewLinear(1, 1, false), snn.NewIF(), snn.NewLinear(1, 2, true),
	))
	require.NoError(t, err)
	for i, values := range [][]float32{{1 / 0.55}, {0, 1}, {0.5, 0}} { // class 1 from 0.55 on
		copy(m.Params()[i].MutableData(), values)
	}
	for seed := range uint64(20) {
		adv, err := attack.Square{Norm: attack.LInf{}, Eps: 0.1, Queries: 2, P: 1}.
			Perturb(ctx, m, tensor.NCHW{N: 1, C: 1, H: 1, W: 1, Data: []float32{0.5}}, []int{0}, []uint64{0}, rng.New(seed))
		require.NoError(t, err)
		assert.InDelta(t, 0.6, adv.Data[0], 1e-6, "seed %d", seed)
	}
}

// Reports of squares of other sizes are of other attacks.
func TestSquareDescribesP(t *testing.T) {
	a := attack.Square{Norm: attack.LInf{}, Eps: 0.1, Queries: 5, P: 0.8}
	b := a
	b.P = 0.3
	assert.NotEqual(t, attack.Describe(a), attack.Describe(b))
}
