package train

import (
	"fmt"
	"math"
)

// GradientSparsity is the loss of Liu, Bu, Ding, Yu, Huang: Enhancing Adversarial Robustness in
// SNNs with Sparse Gradients, ICML 2024. With z the mean output and y the label, let
//
//	f = e^{z_y} / (e^{z_y} + max_{j≠y} e^{z_j})
//
// The loss is the cross-entropy for the clean image x, and the squared slope of f towards the
// adversary's image:
//
//	CE(x) + Lambda·(f(adversary's image) − f(x))²/Step²
//
// The adversary of the paper is one step of length Step along the sign of ∂f/∂x, which makes the
// slope an estimate of ‖∂f/∂x‖₁. The gradient goes through both outputs. The training makes the
// two passes of [TRADES].
type GradientSparsity struct {
	Lambda float64 // λ, finite and at least 0
	Step   float64 // h, finite and positive, for pixels in [0,1]; the paper has 0.01
}

// Validate implements [Loss].
func (l GradientSparsity) Validate() error {
	switch {
	case !finite(l.Lambda) || l.Lambda < 0:
		return fmt.Errorf("GradientSparsity.Lambda is %v, want a finite number of at least 0", l.Lambda)
	case !finite(l.Step) || l.Step <= 0:
		return fmt.Errorf("GradientSparsity.Step is %v, want a finite positive number", l.Step)
	}
	return nil
}

// NeedsClean implements [Loss].
func (GradientSparsity) NeedsClean() bool { return true }

// Compute implements [Loss].
func (l GradientSparsity) Compute(losses []float64, o BatchOutput) (grad, clean []float32) {
	C := o.Classes
	grad = make([]float32, o.N*C)
	clean, _ = CrossEntropy{}.Compute(losses, BatchOutput{Output: o.Clean, Labels: o.Labels})
	for n, y := range o.Labels {
		moved, ofMoved, rivalMoved := labelShare(o.Mean[n*C:][:C], y)
		f, ofF, rival := labelShare(o.Clean.Mean[n*C:][:C], y)
		slope := (moved - f) / l.Step
		losses[n] += l.Lambda * slope * slope
		factor := 2 * l.Lambda * slope / l.Step
		// Of one class, f is a constant 1/2.
		grad[n*C+y] += float32(factor * ofMoved)
		grad[n*C+rivalMoved] -= float32(factor * ofMoved)
		clean[n*C+y] -= float32(factor * ofF)
		clean[n*C+rival] += float32(factor * ofF)
	}
	return grad, clean
}

// labelShare returns f of [GradientSparsity] for logits z, its derivative with respect to the
// logit of the label y, and the other class in it. The derivative with respect to that class's
// logit is the negative one. The other class is y if there is no other.
func labelShare(z []float32, y int) (f, derivative float64, other int) {
	other = y
	for k, v := range z {
		if k != y && (other == y || v > z[other]) {
			other = k
		}
	}
	f = 1 / (1 + math.Exp(float64(z[other])-float64(z[y])))
	return f, f * (1 - f), other
}
