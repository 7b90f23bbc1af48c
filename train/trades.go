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
}

// Validate implements [Loss].
func (l TRADES) Validate() error {
	if !finite(l.Beta) || l.Beta < 0 {
		return fmt.Errorf("TRADES.Beta is %v, want a finite number of at least 0", l.Beta)
	}
	return nil
}

// NeedsClean implements [Loss].
func (TRADES) NeedsClean() bool { return true }

// Compute implements [Loss].
func (l TRADES) Compute(losses []float64, o BatchOutput) (grad, clean []float32) {
	C := o.Classes
	grad, clean = make([]float32, o.N*C), make([]float32, o.N*C)
	logP, logQ := make([]float64, C), make([]float64, C)
	for n, y := range o.Labels {
		logSoftmax(logP, o.Clean.Mean[n*C:][:C])
		logSoftmax(logQ, o.Mean[n*C:][:C])
		kl := divergence(logP, logQ)
		losses[n] = -logP[y] + l.Beta*kl
		for k := range C {
			p, q := math.Exp(logP[k]), math.Exp(logQ[k])
			grad[n*C+k] = float32(l.Beta * (q - p))
			g := p + l.Beta*p*(logP[k]-logQ[k]-kl)
			if k == y {
				g--
			}
			clean[n*C+k] = float32(g)
		}
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
func logSoftmax(dst []float64, z []float32) {
	for k, v := range z {
		dst[k] = float64(v)
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
