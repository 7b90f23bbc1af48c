package attack

import (
	"fmt"
	"math/rand/v2"

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

// Varying is a gradient approximation that changes from step to step.
type Varying interface {
	snn.Gradient
	// At returns the approximation of a step, from 0 on. Its random numbers come from r, which
	// is at the beginning of a stream of the image and the start.
	At(step int, r *rand.Rand) snn.Gradient
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
