package attack

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/org/snnrat/snn"
)

// CleanObjective is an objective that compares an image's logits with those of the original
// image. An [Attack] calls WithClean once for an image, before each start, and then uses the
// objective that WithClean returns.
type CleanObjective interface {
	Objective
	// WithClean returns the objective for images whose originals have the given logits,
	// row-major, [N, classes].
	WithClean(logits []float32) Objective
}

// KL is the Kullback–Leibler divergence of the softmax q of an image's logits from the
// softmax p of the original image's, Σ_k p_k·(log p_k − log q_k). It ignores the label and has
// no targeted form. Its gradient is zero at the original image, and wherever the network has the
// same spikes. An attack must start elsewhere. [TRADES] uses it.
type KL struct{ clean []float32 }

// String returns "KL divergence".
func (KL) String() string { return "KL divergence" }

// WithClean implements [CleanObjective].
func (KL) WithClean(logits []float32) Objective { return KL{logits} }

// Evaluate implements [Objective]. It panics unless WithClean returned the objective.
func (o KL) Evaluate(value []float64, grad, logits []float32, y, _ []int) {
	if len(o.clean) != len(logits) {
		panic(fmt.Sprintf("attack: KL: %d clean logits for %d logits: expected a KL of WithClean", len(o.clean), len(logits)))
	}
	classes := len(logits) / len(y)
	for i := range y {
		q, p := logits[i*classes:][:classes], o.clean[i*classes:][:classes]
		sumQ, sumP := expSum(q), expSum(p)
		for k := range q {
			logQ, logP := float64(q[k])-sumQ, float64(p[k])-sumP
			grad[i*classes+k] = float32(math.Exp(logQ) - math.Exp(logP))
			value[i] += math.Exp(logP) * (logP - logQ)
		}
	}
}

// expSum returns log Σ_k exp(z_k).
func expSum(z []float32) float64 {
	top := math.Inf(-1)
	for _, v := range z {
		top = max(top, float64(v))
	}
	var sum float64
	for _, v := range z {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

// Gaussian starts at the image with noise from N(0, Std²) on every value.
type Gaussian struct{ Std float32 }

// Initialize implements [Start].
func (s Gaussian) Initialize(x []float32, _ Norm, _ float32, r *rand.Rand) {
	for i := range x {
		x[i] += s.Std * float32(r.NormFloat64())
	}
}

// String names the start and its standard deviation.
func (s Gaussian) String() string { return fmt.Sprintf("Gaussian noise of %v", s.Std) }

// TRADES returns the attack inside training with train.TRADES (Zhang et al. 2019). It is PGD
// on the [KL] divergence. The paper trains with 10 steps of alpha = eps/4.
//
// The attack starts uniformly in the ball. The authors' code starts with Gaussian noise of
// 0.001, as [Gaussian] with Std 0.001 does. So little noise often changes no spike of a spiking
// network. The divergence and its gradient are then zero, and the image never moves.
func TRADES(eps, alpha float32, steps int, g snn.Gradient) *Attack {
	return &Attack{Objective: KL{}, Gradient: g, Norm: LInf{}, Start: InBall{}, Eps: eps, Alpha: alpha, Steps: steps}
}
