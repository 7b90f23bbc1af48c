package lipschitz

import (
	"fmt"
	"math"
)

// PaperGamma returns γ as Eq. 15 of Ding et al. 2022 prints it, for the row-major
// rows × cols matrix w,
//
//	γ = sup ‖W·s‖_∞ + sup ‖−W·s‖_∞  over the s of {0,1}ⁿ that are not 0, n = cols
//
// Both suprema are equal, because ‖−v‖_∞ = ‖v‖_∞. Each is the largest sum of weights of
// one sign in a row: the spikes select exactly these weights. Hence
//
//	γ = 2·max_i max(Σ_j max(w_ij, 0), Σ_j max(−w_ij, 0))
//
// This is at least γ of [Gamma], which adds the largest positive and the largest negative
// sum. For W = diag(3, −1) PaperGamma is 6 and Gamma is 4.
//
// Proposition 2 holds for this γ: γ ≤ 2·‖W‖_∞ ≤ 2·√n·‖W‖₂, where ‖W‖_∞ is the largest sum
// of magnitudes of a row. The first relation is an equality if the row with the largest
// sum has weights of one sign only.
//
// The result is the exact γ, or it is rounded upwards. PaperGamma returns an error if w
// holds a value that is not finite.
func PaperGamma(w []float32, rows, cols int) (float64, error) {
	sums, err := signedRowSums("PaperGamma", w, rows, cols)
	return largestSums(sums).paperGamma(), err
}

// paperGamma returns γ of Eq. 15 for a layer whose largest sums are s.
func (s rowSums) paperGamma() float64 { return 2 * max(s.pos, s.neg) }

// Theorem1 returns the right-hand side of Eq. 13, the inequality of Theorem 1 of Ding et
// al. 2022, as printed:
//
//	D₂(s,z)² ≤ Λ²·D₂(x,y)²/θ² + Γ                     (Eq. 13)
//	Γ = N·T·(T+1)/λ·(γ/θ + (γ/θ)²)                    (Eq. 15)
//
// x and y are two input spike trains of a layer of N = neurons neurons, and s and z are
// its outputs. lambda is Λ of Eq. 14, see [Lambda]. gamma is γ of Eq. 15, see [PaperGamma].
// distance is D₂(x,y). λ is the decay of Eq. 3: 1 for IF neurons and in (0,1) for LIF
// neurons. With distance 0 the result is Γ.
//
// This package does not rely on the inequality, for two reasons.
//
// Without a bias, as in the paper's Eq. 1, it is true and says nothing: Γ exceeds 2·N·T as
// soon as one neuron can fire, while D₂(s,z)² never exceeds N·T. Proof: If no neuron fires
// for either train, D₂(s,z) is 0. Otherwise a neuron fires. Let P be the sum of its
// positive weights. Its potential starts at 0, and a step raises the larger of 0 and the
// potential by at most P, because the decay is at most 1. The first spike comes at step T
// at the latest, and no reset comes before it; hence T·P ≥ θ. γ is at least 2·P, so
// γ/θ ≥ 2/T. As λ ≤ 1, Γ ≥ N·T·(T+1)·(2/T + 4/T²) > 2·N·T. The proof does not use Λ. It
// covers every reset rule. With γ of [Gamma], which is at least P, it gives Γ > N·T.
//
// With a bias it is false. One neuron with the weight 0.01, the bias 0.995 and the
// threshold 1 fires in one step if its input does, and only then. So D₂(s,z)² = 1, and the
// right-hand side is 0.0001 + 2·(0.02 + 0.0004) = 0.0409 for λ = 1. Every batch norm
// contributes such a bias.
//
// The result is rounded upwards. It is +Inf if float64 cannot hold it. Theorem1 returns an
// error if lambda, gamma or distance is negative or not finite, if neurons is negative, or
// if a field of d is out of its range.
func (d Dynamics) Theorem1(lambda, gamma, distance float64, neurons int) (float64, error) {
	if err := d.validate("Theorem1"); err != nil {
		return 0, err
	}
	for _, v := range []struct {
		name  string
		value float64
	}{{"lambda", lambda}, {"gamma", gamma}, {"distance", distance}, {"neurons", float64(neurons)}} {
		if !(v.value >= 0) || math.IsInf(v.value, 0) {
			return 0, fmt.Errorf("lipschitz: Theorem1: %s is %v; expected a finite number of at least 0", v.name, v.value)
		}
	}
	linear := divUp(mulUp(lambda, distance), d.Threshold)
	ratio := divUp(gamma, d.Threshold)
	pairs := mulUp(float64(neurons), mulUp(float64(d.Steps), float64(d.Steps)+1))
	constant := mulUp(divUp(pairs, d.Decay), addUp(ratio, mulUp(ratio, ratio)))
	return addUp(mulUp(linear, linear), constant), nil
}
