package train

import (
	"context"
	"fmt"

	"github.com/org/snnrat/snn"
)

// IBP is certified training by interval bound propagation (Gowal et al.: On the Effectiveness of
// Interval Bound Propagation for Training Verifiably Robust Models, 2018; S-IBP for spiking
// networks: Liang et al., NeurIPS 2022). The loss of an image x is
//
//	κ·L(z) + (1 − κ)·L(worst)
//
// where z are the logits of x in training mode, and worst are the logits of
// [snn.Model.DifferentiateBounds] for the images within ε of x in the L∞ norm. For Warmup epochs,
// κ is 1. It then falls to Kappa while ε rises from 0 to Eps, both linearly over Ramp epochs, step
// by step.
//
// All layers need bounds, see [snn.BoundedLayer]. IF neurons with soft reset have bounds without an
// interval of their potential. A step of examples/certify takes about three times the processor time
// of one of [OneUpdate]. Losses that need the clean output, such as TRADES, are refused, and so is
// [snn.CBA], whose passes are those of a ReLU network.
type IBP struct {
	Eps    float32 // ε at the end of the ramp, in (0, 1]
	Kappa  float64 // κ at the end of the ramp, in [0, 1)
	Warmup int     // ordinary epochs before the ramp, at least 0
	Ramp   int     // epochs of the ramp, at least 0
}

// Validate implements [Recipe].
func (r IBP) Validate(m *snn.Model, set snn.Dataset) error {
	switch {
	case !(r.Eps > 0 && r.Eps <= 1):
		return fmt.Errorf("IBP.Eps is %v, want a number in (0, 1]", r.Eps)
	case !(r.Kappa >= 0 && r.Kappa < 1):
		return fmt.Errorf("IBP.Kappa is %v, want a number in [0, 1)", r.Kappa)
	case r.Warmup < 0:
		return fmt.Errorf("IBP.Warmup is %d, want at least 0", r.Warmup)
	case r.Ramp < 0:
		return fmt.Errorf("IBP.Ramp is %d, want at least 0", r.Ramp)
	case set.Shape().Steps > 1:
		return fmt.Errorf("IBP is for images, want OneUpdate{} for examples of %d frames", set.Shape().Steps)
	}
	if err := m.ValidateBounds(); err != nil {
		return fmt.Errorf("IBP: %w", err)
	}
	return nil
}

// Step implements [Recipe].
func (r IBP) Step(_ context.Context, s *Step) error {
	if l := s.t.cfg.Loss; l.NeedsClean() { // in the warm-up, too
		return fmt.Errorf("IBP with the loss %s, want one that needs no clean output", lossName(l))
	}
	if g := s.t.cfg.Gradient; snn.ChangesForward(g) {
		return fmt.Errorf("IBP with the gradient %v, whose passes are those of another network, want one such as snn.BPTT{}", g)
	}
	part := 0.0
	if at := s.t.Completed() - float64(r.Warmup); at >= 0 {
		part = 1
		if r.Ramp > 0 {
			part = min(at/float64(r.Ramp), 1)
		}
	}
	_, err := s.Update(StepPass{X: s.X, Eps: float32(part) * r.Eps, Worst: part * (1 - r.Kappa)})
	return err
}
