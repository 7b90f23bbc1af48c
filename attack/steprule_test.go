package attack

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// The checkpoints are those that Croce and Hein print for 100 iterations.
func TestCheckpoints(t *testing.T) {
	assert.Equal(t, []int{22, 41, 57, 70, 80, 87, 93, 99}, checkpoints(100))
	assert.Equal(t, []int{3, 5, 6, 7, 8, 9}, checkpoints(10), "rounded up, each once")
	assert.Empty(t, checkpoints(1))
}

// climb makes the steps of a rule on a function of x, and returns the best value and the points.
func climb(t *testing.T, rule StepRule, ball Ball, alpha float32, steps int, f func(x []float32) (float64, []float32)) (float64, [][]float32) {
	t.Helper()
	x := append([]float32(nil), ball.Center...)
	s := rule.Begin(ball, alpha, steps)
	best := math.Inf(-1)
	var points [][]float32
	for range steps {
		v, g := f(x)
		best = max(best, v)
		points = append(points, append([]float32(nil), x...))
		s.Step(x, g, v)
		require.LessOrEqual(t, ball.Norm.Distance(x, ball.Center), float64(ball.Eps))
		for _, v := range x {
			require.True(t, v >= 0 && v <= 1)
		}
	}
	return best, points
}

// Every rule comes close to the largest value of a concave function in the ball, which is known
// where the function is separable.
func TestRulesClimb(t *testing.T) {
	center := make([]float32, 20)
	peak := make([]float32, len(center))
	r := rng.New(1).Rand()
	for i := range center {
		center[i], peak[i] = 0.2+0.6*r.Float32(), r.Float32()
	}
	f := func(x []float32) (v float64, g []float32) {
		for i, p := range x {
			w := float32(1 + i)
			v -= float64(w * (p - peak[i]) * (p - peak[i]))
			g = append(g, -2*w*(p-peak[i]))
		}
		return v, g
	}
	ball := Ball{LInf{}, 0.1, center, true}
	at := append([]float32(nil), peak...)
	ball.Project(at)
	most, _ := f(at)
	start, _ := f(center)
	for _, rule := range []StepRule{steepest{}, Momentum{1}, APGD{}, SAPGD{}} {
		best, _ := climb(t, rule, ball, 0.01, 100, f)
		assert.LessOrEqual(t, best, most+1e-6, "%v", rule)
		assert.Greater(t, best, most-0.01*(most-start), "%v", rule)
		best, _ = climb(t, rule, Ball{L2{}, 0.3, center, true}, 0.02, 100, f)
		assert.Greater(t, best, start+0.2*(most-start), "%v", rule)
	}
}

// APGD's first step has length 2ε, so it ends on the border. It halves the step where nothing is
// gained, and goes back to the best point.
func TestAPGDGoesBack(t *testing.T) {
	center := []float32{0.5, 0.5}
	ball := Ball{LInf{}, 0.25, center, true}
	calls := 0
	// Only the second point is worth anything, and all gradients point right.
	_, points := climb(t, APGD{}, ball, 0, 50, func([]float32) (float64, []float32) {
		calls++
		if calls == 2 {
			return 1, []float32{-1, -1}
		}
		return 0, []float32{1, 1}
	})
	assert.Equal(t, []float32{0.75, 0.75}, points[1])
	// At the first checkpoint, step 11, it is back: the step from there goes left by ε.
	assert.Equal(t, []float32{0.5, 0.5}, points[12])
	// At the second checkpoint, 21, the same with ε/2.
	assert.Equal(t, []float32{0.625, 0.625}, points[22])
}

// A GradientMix takes all of its members, the same ones in every run, and others for other images.
func TestMixture(t *testing.T) {
	m := GradientMix{snn.BPTT{}, snn.BPTR{}, snn.CBA{}}
	assert.Equal(t, "one of [BPTT, BPTR, CBA] at each step", m.String())
	seen := map[string]int{}
	for step := range 300 {
		g := m.At(step, rng.New(1).Derive("gradient", uint64(step)).Rand())
		assert.Equal(t, g, m.At(step, rng.New(1).Derive("gradient", uint64(step)).Rand()))
		seen[g.String()]++
	}
	for _, g := range m {
		assert.InDelta(t, 100, seen[g.String()], 40, "%v", g)
	}
	assert.True(t, snn.ChangesForward(GradientMix{snn.CBA{}, snn.BPTT{}}), "the first one makes the passes")
	assert.False(t, snn.ChangesForward(GradientMix{snn.BPTT{}, snn.CBA{}}))
	assert.False(t, snn.ChangesForward(GradientMix{}))
	a := PGD(0.1, 0.1, 2, GradientMix{})
	assert.ErrorContains(t, a.Validate(), "a GradientMix of 0")
}

// A report has no Alpha for a rule that ignores it.
func TestAlphaOfRules(t *testing.T) {
	for rule, want := range map[StepRule]float32{Momentum{1}: 0.01, APGD{}: 0, SAPGD{}: 0, Greedy{1}: 0} {
		a := PGD(0.1, 0.01, 7, snn.BPTT{})
		a.Rule = rule
		assert.Equal(t, want, a.Describe().Alpha, rule)
	}
}
