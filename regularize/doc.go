// Package regularize projects the parameters of a spiking network onto sets on which layers
// do not amplify a perturbation. It is the REG part of SNN-RAT (Ding, Bu, Yu, Huang, Liu:
// SNN-RAT: Robustness-enhanced Spiking Neural Network through Regularized Adversarial
// Training, NeurIPS 2022). A trainer projects after each update by the optimizer:
//
//	cfg := train.RAT(epochs, attack.RATMix(2./255), regularize.ForVGG(), regularize.Simplex)
//
// # Orthogonal weights
//
// [Orthogonal] moves a weight matrix W, with one row per output channel or neuron,
// towards W·Wᵀ = I:
//
//	W ← W − β·(W·Wᵀ·W − W)                          (Eq. 19–20)
//
// This is a gradient step on (β/4)·‖W·Wᵀ − I‖²_F. The weight of a convolution is a matrix
// of C_out × C_in·k·k, that of a linear layer one of out × in.
//
// A step keeps the singular vectors and maps each singular value s to
// |s·(1 + β − β·s²)|. For β ≤ 1/2:
//
//   - A singular value between 0 and √(1 + 1/β) tends to 1, and ‖W‖₂ with it.
//   - A singular value of 0 stays 0.
//   - A singular value above √(1 + 2/β) grows without bound. Apply returns an error before
//     it overflows.
//
// The cost of a step grows with the square of the number of rows. A random share of the
// rows of a large layer, drawn anew at each step, therefore costs the square of that share
// (Cisse et al.: Parseval Networks, ICML 2017).
//
// [Defect] measures how far W is from W·Wᵀ = I, as ‖W·Wᵀ − I‖_F.
//
// # Convex combinations
//
// [Simplex] keeps the learned weights of a sum of branches non-negative, with sum 1. The
// sum then amplifies no more than the worst of its branches.
//
// # Weight decay
//
// REG replaces weight decay, the L2 term (λ/2)·‖w‖². Weight decay is a setting of the
// optimizers in package train.
package regularize
