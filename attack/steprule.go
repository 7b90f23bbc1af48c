package attack

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// StepRule makes the steps of an attack from what it sees of the objective. String returns its
// name, with its settings, for reports.
type StepRule interface {
	fmt.Stringer
	// Begin returns the steps from one start, of an attack that makes so many steps of length
	// alpha within ball.
	Begin(ball Ball, alpha float32, steps int) Stepper
}

// Stepper makes the steps from one start.
type Stepper interface {
	// Step moves x, a point of the ball, to the next point of the ball. The objective has the
	// given value and the gradient g at x. The caller keeps x and g.
	Step(x, g []float32, value float64)
}

// Momentum adds up the gradients of all steps (Dong et al. 2018, MI-FGSM):
//
//	m ← Decay·m + g/‖g‖₁
//
// Each step has length alpha along the steepest direction for m.
type Momentum struct {
	Decay float32 // ≥ 0; the paper's is 1
}

// APGD chooses the length η of steps itself (Croce and Hein 2020). With the steepest direction d
// of the norm, the projection P and the previous point x₋, a step is
//
//	z = P(x + η·d),  x ← P(x + 0.75·(z − x) + 0.25·(x − x₋))
//
// The first η is 2ε. A checkpoint halves η and restores the best point, without momentum, in two
// cases. In the first, fewer than 75 % of the steps since the last checkpoint have raised the
// objective. In the second, the last checkpoint did not halve η, and the best value is still the
// same. The checkpoints are at the shares p₁ = 0.22, pⱼ₊₁ = pⱼ + max(pⱼ − pⱼ₋₁ − 0.03, 0.06) of
// all steps. APGD ignores the attack's Alpha.
type APGD struct{}

// SAPGD adapts the step of every value to the size of its gradients:
//
//	m ← 0.5·m + g/mean|g|,  v ← 0.8·v + g²/mean(g²),  x ← P(x + clip(η·m/√v, ±η))
//
// In another norm than L∞ the step has length η along m/√v. The first η is ε. At the checkpoints
// of [APGD], η is halved and the best point restored. SAPGD ignores the attack's Alpha.
type SAPGD struct{}

// String names the rule and its decay.
func (m Momentum) String() string { return fmt.Sprintf("momentum %v", m.Decay) }

// String returns "APGD".
func (APGD) String() string { return "APGD" }

// String returns "SA-PGD".
func (SAPGD) String() string { return "SA-PGD" }

// Validate returns an error if Decay is out of range.
func (m Momentum) Validate() error {
	if !(m.Decay >= 0) || math.IsInf(float64(m.Decay), 0) {
		return fmt.Errorf("attack: momentum: Decay %v: expected a number of at least 0", m.Decay)
	}
	return nil
}

// Begin implements [StepRule].
func (m Momentum) Begin(ball Ball, alpha float32, _ int) Stepper {
	return &momentumSteps{ball, alpha, m.Decay, make([]float32, len(ball.Center))}
}

// Begin implements [StepRule].
func (APGD) Begin(ball Ball, _ float32, steps int) Stepper {
	return &apgdSteps{highest: highest{ball: ball, eta: 2 * ball.Eps, at: checkpoints(steps)}}
}

// Begin implements [StepRule].
func (SAPGD) Begin(ball Ball, _ float32, steps int) Stepper {
	n := len(ball.Center)
	return &sapgdSteps{
		highest: highest{ball: ball, eta: ball.Eps, at: checkpoints(steps)},
		m:       make([]float32, n), v: make([]float32, n), d: make([]float32, n),
	}
}

// steepest makes steps of length alpha along the steepest direction of the norm.
type steepest struct{}

func (steepest) String() string { return "fixed steps" }

func (steepest) Begin(ball Ball, alpha float32, _ int) Stepper { return &steepestSteps{ball, alpha} }

type steepestSteps struct {
	ball  Ball
	alpha float32
}

func (s *steepestSteps) Step(x, g []float32, _ float64) {
	s.ball.Norm.Step(x, g, s.alpha)
	s.ball.Project(x)
}

type momentumSteps struct {
	ball  Ball
	alpha float32
	decay float32
	m     []float32
}

func (s *momentumSteps) Step(x, g []float32, _ float64) {
	var sum float64
	for _, v := range g {
		sum += math.Abs(float64(v))
	}
	for i, v := range g {
		s.m[i] *= s.decay
		if sum > 0 {
			s.m[i] += float32(float64(v) / sum)
		}
	}
	s.ball.Norm.Step(x, s.m, s.alpha)
	s.ball.Project(x)
}

// checkpoints returns the steps, counted from 0, before which an attack of so many steps looks
// back.
func checkpoints(steps int) (at []int) {
	last, p := 0, 22 // hundredths of the steps
	for p < 100 {
		if k := (p*steps + 99) / 100; k < steps && (len(at) == 0 || k > at[len(at)-1]) {
			at = append(at, k)
		}
		last, p = p, p+max(p-last-3, 6)
	}
	return at
}

// highest remembers the best point of a path, and the length of its steps.
type highest struct {
	ball Ball
	eta  float32
	at   []int // the checkpoints that are left

	step  int // the number of this one
	value float64
	x, g  []float32 // the best point and its gradient
}

// see takes note of the point x and reports whether the step is at a checkpoint.
func (h *highest) see(x, g []float32, value float64) (checkpoint bool) {
	if h.step == 0 || value > h.value {
		h.value, h.x, h.g = value, append(h.x[:0], x...), append(h.g[:0], g...)
	}
	if len(h.at) > 0 && h.step == h.at[0] {
		h.at, checkpoint = h.at[1:], true
	}
	h.step++
	return checkpoint
}

// restore halves the length of steps and moves x to the best point, whose gradient it returns.
func (h *highest) restore(x []float32) (g []float32) {
	h.eta /= 2
	copy(x, h.x)
	return h.g
}

type apgdSteps struct {
	highest
	previous []float32
	value    float64 // of the previous point
	raised   int     // steps since the last checkpoint that raised the objective
	since    int     // the last checkpoint
	best     float64 // the best value there
	halved   bool    // whether η was halved there
}

func (s *apgdSteps) Step(x, g []float32, value float64) {
	step := s.step
	if step > 0 && value > s.value {
		s.raised++
	}
	s.value = value
	momentum := step > 0
	checkpoint := s.see(x, g, value)
	if step == 0 {
		s.best = value
	}
	if checkpoint {
		s.halved = float64(s.raised) < 0.75*float64(step-s.since) || !s.halved && s.best == s.highest.value
		if s.halved {
			g, momentum = s.restore(x), false
			s.value = s.highest.value
		}
		s.raised, s.since, s.best = 0, step, s.highest.value
	}
	here := slices.Clone(x)
	s.ball.Norm.Step(x, g, s.eta)
	s.ball.Project(x)
	if momentum {
		for i, z := range x {
			x[i] = here[i] + float32(0.75*(z-here[i])) + float32(0.25*(here[i]-s.previous[i]))
		}
		s.ball.Project(x)
	}
	s.previous = here
}

type sapgdSteps struct {
	highest
	m, v, d []float32
}

func (s *sapgdSteps) Step(x, g []float32, value float64) {
	if s.see(x, g, value) {
		g = s.restore(x)
	}
	var abs, square float64
	for _, v := range g {
		abs += math.Abs(float64(v))
		square += float64(v) * float64(v)
	}
	n := float64(len(g))
	for i, v := range g {
		s.m[i] *= 0.5
		s.v[i] *= 0.8
		if abs > 0 && square > 0 {
			s.m[i] += float32(float64(v) * n / abs)
			s.v[i] += float32(float64(v) * float64(v) * n / square)
		}
		if s.d[i] = 0; s.v[i] > 0 {
			s.d[i] = s.m[i] / float32(math.Sqrt(float64(s.v[i])))
		}
	}
	if s.ball.Norm == (LInf{}) {
		for i, d := range s.d {
			x[i] += s.eta * min(max(d, -1), 1)
		}
	} else {
		s.ball.Norm.Step(x, s.d, s.eta)
	}
	s.ball.Project(x)
}

// Varying is a gradient approximation that changes from step to step of an [Attack].
type Varying interface {
	snn.Gradient
	// At returns the approximation of a step, from 0 on. Its random numbers come from r, a
	// stream of the image, the start and the step.
	At(step int, r *rand.Rand) snn.Gradient
}

// GradientMix chooses one of several gradient approximations at random for every step of an
// [Attack]. In a pass that is no step of an Attack, it is the first of them. It has at least one.
type GradientMix []snn.Gradient

// At implements [Varying].
func (m GradientMix) At(_ int, r *rand.Rand) snn.Gradient { return m[r.IntN(len(m))] }

// Encode implements [snn.Gradient].
func (m GradientMix) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	return m[0].Encode(p, e, x)
}

// Fire implements [snn.Gradient].
func (m GradientMix) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	return m[0].Fire(p, n, current)
}

// ChangesForward reports whether the first of them does, see [snn.ChangesForward].
func (m GradientMix) ChangesForward() bool { return len(m) > 0 && snn.ChangesForward(m[0]) }

// String lists the approximations.
func (m GradientMix) String() string {
	names := make([]string, len(m))
	for i, g := range m {
		names[i] = g.String()
	}
	return "one of [" + strings.Join(names, ", ") + "] at each step"
}
