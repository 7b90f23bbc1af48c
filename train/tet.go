package train

import (
	"fmt"

	"github.com/org/snnrat/autograd"
)

// TET is temporal efficient training (Deng, Li, Zhang, Gu: Temporal Efficient Training of
// Spiking Neural Network via Gradient Re-weighting, ICLR 2022). It is the cross-entropy of
// the output z(t) of every step in place of that of the mean, and a pull of every logit
// towards Mean:
//
//	(1 − Lambda)·1/T·Σ_t CE(z(t), y) + Lambda·1/(T·C)·Σ_t Σ_k (z_k(t) − Mean)²
//
// C is the number of classes. The gradient differs between steps, so the backward pass runs
// through all of them.
type TET struct {
	Lambda    float64 // λ, the share of the squared error, in [0, 1]
	Mean      float64 // φ, towards which logits are pulled, finite; Deng et al. use the threshold of the neurons
	Smoothing float64 // of the cross-entropy, as in [CrossEntropy], in [0, 1)
}

// Validate implements [Loss].
func (l TET) Validate() error {
	switch {
	case !(l.Lambda >= 0 && l.Lambda <= 1):
		return fmt.Errorf("TET.Lambda is %v, want a number in [0, 1]", l.Lambda)
	case !finite(l.Mean):
		return fmt.Errorf("TET.Mean is %v, want a finite number", l.Mean)
	case !(l.Smoothing >= 0 && l.Smoothing < 1):
		return fmt.Errorf("TET.Smoothing is %v, want a number in [0, 1)", l.Smoothing)
	}
	return nil
}

// NeedsClean implements [Loss].
func (TET) NeedsClean() bool { return false }

// Compute implements [Loss]. It returns the gradient of every step.
func (l TET) Compute(losses []float64, o BatchOutput) (grad, clean []float32) {
	labels := make([]int, 0, o.N*o.Steps) // of every step
	for _, y := range o.Labels {
		for range o.Steps {
			labels = append(labels, y)
		}
	}
	entropy := make([]float64, len(labels))
	grad = make([]float32, len(o.Logits))
	autograd.CrossEntropy(entropy, grad, o.Logits, labels, l.Smoothing)
	T, C := float64(o.Steps), float64(o.Classes)
	values := o.Steps * o.Classes // of an image
	for n := range losses {
		var ce, square float64
		for _, v := range entropy[n*o.Steps:][:o.Steps] {
			ce += v
		}
		g := grad[n*values:][:values]
		for i, z := range o.Logits[n*values:][:values] {
			d := float64(z) - l.Mean
			square += d * d
			g[i] = float32((1-l.Lambda)/T*float64(g[i]) + 2*l.Lambda/(T*C)*d)
		}
		losses[n] = (1-l.Lambda)/T*ce + l.Lambda/(T*C)*square
	}
	return grad, nil
}
