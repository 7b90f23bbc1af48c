// Package regularize projects the parameters of a spiking network onto the sets
// that keep its layers from amplifying a perturbation: the REG part of SNN-RAT
// (Ding, Bu, Yu, Huang, Liu: SNN-RAT: Robustness-enhanced Spiking Neural Network
// through Regularized Adversarial Training, NeurIPS 2022). A trainer calls it after
// each update by the optimiser.
//
// # Orthogonal weights
//
// [Orthogonal] moves a weight matrix W, of one row an output channel or neuron,
// towards W·Wᵀ = I:
//
//	W ← W − β·(W·Wᵀ·W − W)                          (Eq. 19–20)
//
// which is a step down the gradient of (β/4)·‖W·Wᵀ − I‖²_F. A convolution's weight
// counts as C_out × C_in·k·k, a linear layer's as out × in.
//
// A step keeps the singular vectors and takes each singular value s to
// |s·(1 + β − β·s²)|. For β ≤ 1/2, every s between 0 and √(1 + 1/β) tends to 1, so
// that in the end ‖W‖₂ = 1; 0 stays 0, and a singular value beyond √(1 + 2/β) grows
// without bound, which Apply reports once it overflows.
//
// Projecting only a random share of the rows of a large layer, a new draw at each
// step, costs the square of that share (Cisse et al.: Parseval Networks, ICML 2017).
//
// [Defect] measures how far W is from that set, ‖W·Wᵀ − I‖_F.
//
// # Convex combinations
//
// [Simplex] keeps the learned weights with which branches are added non-negative
// and of sum 1, so that adding branches amplifies no more than the worst of them.
//
// # Weight decay
//
// The L2 term (λ/2)·‖w‖² is not here: its gradient λ·w is the weight decay of the
// optimisers in package train.
package regularize
