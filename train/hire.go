package train

import (
	"fmt"

	"github.com/org/snnrat/tensor"
)

// HIRE is training with crafted input noise (Kundu, Pedram, Beerel: HIRE-SNN, ICCV
// 2021). A step splits the T time steps into equal periods. Each is a pass of T/Periods
// steps over the images, and an update; between two of them every pixel moves so as to
// raise the loss,
//
//	x ← clip(x + Eps·sign(∂L/∂x)),  clip to [0,1]
//
// so a batch is seen in Periods versions, at most (Periods − 1)·Eps from the original,
// at about the cost of a pass over T steps.
//
// The paper's training code is not public. Where its text leaves room, membrane
// potentials begin at zero in every period, the loss is that of the mean output over
// the period, ∂L/∂x comes from the same pass as the gradient of the weights (a second
// one would not be free, as the paper's is), there is no ball beside [0,1], and the
// next batch begins with its own images.
type HIRE struct {
	Periods int     // at least 1, a divisor of the model's number of steps; 1 is plain training
	Eps     float32 // ε_s in [0, 1]
}

// validate returns an error that names the field that is out of its range, for a model
// of so many steps. Nil stands for no noise.
func (h *HIRE) validate(steps int) error {
	switch {
	case h == nil:
		return nil
	case h.Periods < 1 || steps%h.Periods != 0:
		return fmt.Errorf("train: Config.HIRE.Periods is %d, want a divisor of the model's %d steps", h.Periods, steps)
	case !(h.Eps >= 0 && h.Eps <= 1):
		return fmt.Errorf("train: Config.HIRE.Eps is %v, want a number in [0, 1]", h.Eps)
	}
	return nil
}

// periods returns the number of passes, and updates, that a step has.
func (h *HIRE) periods() int {
	if h == nil {
		return 1
	}
	return h.Periods
}

// move returns the images of the period after that of x, in which the loss had the
// gradient grad.
func (h *HIRE) move(x, grad tensor.NCHW) tensor.NCHW {
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
