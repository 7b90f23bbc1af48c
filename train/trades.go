package train

import (
	"fmt"
	"math"
)

// TRADES is the loss of Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan: Theoretically Principled
// Trade-off between Robustness and Accuracy, ICML 2019. With p the softmax of the mean output
// for the clean image, q that for the adversary's image, and y the label, it is
//
//	−log p_y + Beta·KL(p ‖ q),  KL(p ‖ q) = Σ_k p_k·(log p_k − log q_k)
//
// The gradient goes through both outputs. The adversary of the paper raises the KL divergence
// instead of the cross-entropy; attack.TRADES is that attack.
//
// The training makes two passes in training mode, the clean images first. Each normalizes by
// its own batch statistics and updates the running ones of batch norm. The authors' code makes
// a third pass, over the clean images again, for the p of the divergence.
type TRADES struct {
	Beta float64 // β = 1/λ of the paper, finite and at least 0; the paper has 1 and 6
	// Temperature τ makes p and q of the divergence the softmax of the outputs divided by τ, and
	// the divergence τ² times as large. It is finite and positive; 0 stands for 1.
	Temperature float64
	// PerStep makes the first term the mean over the steps of −log p_y of each step's output, as
	// in [TET] with Lambda 0.
	PerStep bool
}

// Validate implements [Loss].
func (l TRADES) Validate() error {
	if !finite(l.Beta) || l.Beta < 0 {
		return fmt.Errorf("TRADES.Beta is %v, want a finite number of at least 0", l.Beta)
	}
	if !finite(l.Temperature) || l.Temperature < 0 {
		return fmt.Errorf("TRADES.Temperature is %v, want a finite positive number, or 0 for 1", l.Temperature)
	}
	return nil
}

// NeedsClean implements [Loss].
func (TRADES) NeedsClean() bool { return true }

// Compute implements [Loss].
func (l TRADES) Compute(losses []float64, o BatchOutput) (grad, clean []float32) {
	C := o.Classes
	grad, clean = make([]float32, o.N*C), make([]float32, o.N*C)
	tau := l.Temperature
	if tau == 0 {
		tau = 1
	}
	logP, logQ := make([]float64, C), make([]float64, C)
	for n := range o.N {
		logSoftmaxAt(logP, o.Clean.Mean[n*C:][:C], tau)
		logSoftmaxAt(logQ, o.Mean[n*C:][:C], tau)
		kl := divergence(logP, logQ)
		losses[n] = l.Beta * tau * tau * kl
		for k := range C {
			p, q := math.Exp(logP[k]), math.Exp(logQ[k])
			grad[n*C+k] = float32(l.Beta * tau * (q - p))
			clean[n*C+k] = float32(l.Beta * tau * p * (logP[k] - logQ[k] - kl))
		}
	}
	first := Loss(CrossEntropy{})
	if l.PerStep {
		first = TET{}
	}
	entropy := make([]float64, o.N)
	ofEntropy, _ := first.Compute(entropy, BatchOutput{Output: o.Clean, Labels: o.Labels})
	for n := range losses {
		losses[n] += entropy[n]
	}
	if steps := len(ofEntropy) / len(clean); steps > 1 { // the mean passes its gradient to every step
		each := make([]float32, len(ofEntropy))
		for i := range each {
			each[i] = clean[i/(steps*C)*C+i%C] / float32(steps)
		}
		clean = each
	}
	for i, g := range ofEntropy {
		clean[i] += g
	}
	return grad, clean
}

// MART is the loss of misclassification aware adversarial training (Wang, Zou, Yi, Bailey,
// Ma, Gu: Improving Adversarial Robustness Requires Revisiting Misclassified Examples, ICLR
// 2020). With p the softmax of the mean output for the clean image, q that for the
// adversary's image, and y the label, it is
//
//	−log q_y − log(1 − max_{k≠y} q_k) + Lambda·KL(p ‖ q)·(1 − p_y)
//
// The gradient goes through both outputs. The training makes the two passes of [TRADES]. The
// authors' code adds constants such as 1e-12 inside the logarithms; this one computes them
// without, from the logits.
type MART struct {
	Lambda float64 // λ, finite and at least 0; the paper has 5
}

// Validate implements [Loss].
func (l MART) Validate() error {
	if !finite(l.Lambda) || l.Lambda < 0 {
		return fmt.Errorf("MART.Lambda is %v, want a finite number of at least 0", l.Lambda)
	}
	return nil
}

// NeedsClean implements [Loss].
func (MART) NeedsClean() bool { return true }

// Compute implements [Loss].
func (l MART) Compute(losses []float64, o BatchOutput) (grad, clean []float32) {
	C := o.Classes
	grad, clean = make([]float32, o.N*C), make([]float32, o.N*C)
	logP, logQ := make([]float64, C), make([]float64, C)
	for n, y := range o.Labels {
		logSoftmax(logP, o.Clean.Mean[n*C:][:C])
		logSoftmax(logQ, o.Mean[n*C:][:C])
		other := -1 // the most probable class other than the label
		for k, v := range logQ {
			if k != y && (other < 0 || v > logQ[other]) {
				other = k
			}
		}
		var margin float64                      // log(1 − q_other)
		rest := make([]float64, 0, max(C-1, 0)) // log q of all but that class
		if other >= 0 {
			rest = append(append(rest, logQ[:other]...), logQ[other+1:]...)
			margin = logSum(rest)
		}
		kl, weight := divergence(logP, logQ), -math.Expm1(logP[y])
		losses[n] = -logQ[y] - margin + l.Lambda*kl*weight
		for k := range C {
			p, q := math.Exp(logP[k]), math.Exp(logQ[k])
			g := q + l.Lambda*weight*(q-p)
			c := l.Lambda * (weight*p*(logP[k]-logQ[k]-kl) + kl*math.Exp(logP[y])*p)
			if other >= 0 {
				g += q
				if k != other {
					g -= math.Exp(logQ[k] - margin)
				}
			}
			if k == y {
				g--
				c -= l.Lambda * kl * p
			}
			grad[n*C+k], clean[n*C+k] = float32(g), float32(c)
		}
	}
	return grad, clean
}

// logSoftmax writes the logarithm of the softmax of z to dst.
func logSoftmax(dst []float64, z []float32) { logSoftmaxAt(dst, z, 1) }

// logSoftmaxAt writes the logarithm of the softmax of z/tau to dst.
func logSoftmaxAt(dst []float64, z []float32, tau float64) {
	for k, v := range z {
		dst[k] = float64(v) / tau
	}
	sum := logSum(dst)
	for k := range dst {
		dst[k] -= sum
	}
}

// logSum returns log Σ_k exp(v_k).
func logSum(v []float64) float64 {
	top := math.Inf(-1)
	for _, x := range v {
		top = max(top, x)
	}
	var sum float64
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}

// divergence returns KL(p ‖ q) of two distributions, given by their logarithms.
func divergence(logP, logQ []float64) (kl float64) {
	for k, v := range logP {
		kl += math.Exp(v) * (v - logQ[k])
	}
	return kl
}
