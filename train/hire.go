package train

import (
	"context"
	"fmt"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// HIRE is the [Recipe] of training with crafted input noise (Kundu, Pedram, Beerel: HIRE-SNN, ICCV
// 2021). A training step splits the T time steps into equal periods. Each period is a
// pass of T/Periods time steps over the images, followed by an update. Between two
// periods, every pixel moves by Eps in the direction that raises the loss:
//
//	x ← clip(x + Eps·sign(∂L/∂x)),  clip to [0,1]
//
// The network thus sees Periods versions of a batch. They differ from the original by at
// most (Periods − 1)·Eps. The cost is about that of one pass over T time steps.
//
// The paper's training code is not public. This implementation makes the following
// choices where the text leaves room:
//
//   - Membrane potentials start at zero in every period. Spikes must therefore reach the last layer
//     within T/Periods steps: with too few, a deep network does not learn.
//   - The loss is that of the mean output over the period.
//   - ∂L/∂x comes from the same pass as the gradient of the weights.
//   - The noise is bounded by [0,1] alone, without an ε-ball.
//   - Every batch starts with its own images, without noise.
//
// HIRE is for images, which are the same at every time step. [New] refuses a data set of
// several frames.
type HIRE struct {
	Periods int     // at least 1, a divisor of the model's number of steps; 1 is plain training
	Eps     float32 // ε_s in [0, 1]
}

// Validate implements [Recipe].
func (h HIRE) Validate(m *snn.Model, set snn.Dataset) error {
	switch {
	case h.Periods < 1 || m.Steps%h.Periods != 0:
		return fmt.Errorf("HIRE.Periods is %d, want a divisor of the model's %d steps", h.Periods, m.Steps)
	case set.Shape().Steps > 1:
		return fmt.Errorf("HIRE is for images that are the same at every time step, want OneUpdate{} for examples of %d frames", set.Shape().Steps)
	case !(h.Eps >= 0 && h.Eps <= 1):
		return fmt.Errorf("HIRE.Eps is %v, want a number in [0, 1]", h.Eps)
	}
	return nil
}

// PassSteps returns the number of time steps of a period, for a model with the given number.
func (h HIRE) PassSteps(steps int) int { return steps / h.Periods }

// Step implements [Recipe].
func (h HIRE) Step(_ context.Context, s *Step) error {
	x := s.X
	for period := range h.Periods {
		last := period+1 == h.Periods
		grad, err := s.Update(StepPass{X: x, Steps: h.PassSteps(s.Model().Steps), Draw: period, Images: !last})
		if err != nil {
			return err
		}
		if !last {
			x = h.move(x, grad)
		}
	}
	return nil
}

// move returns the images of the next period. In the current one, the images were x and
// the gradient of the loss was grad.
func (h HIRE) move(x, grad tensor.NCHW) tensor.NCHW {
	x = x.Clone()
	for i, g := range grad.Data {
		switch {
		case g > 0:
			x.Data[i] = min(x.Data[i]+h.Eps, 1)
		case g < 0:
			x.Data[i] = max(x.Data[i]-h.Eps, 0)
		}
	}
	return x
}
