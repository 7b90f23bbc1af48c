// Package lipschitz measures how much the layers of a spiking network amplify a
// perturbation, and it bounds that amplification by properties of the weights. It covers
// Sec. 4 of Ding et al.: SNN-RAT, NeurIPS 2022.
//
// # Distance of spike trains
//
//	D_p(a, b) = (Σ_t ‖a(t) − b(t)‖_p^p)^(1/p),  p ≥ 1          (Eq. 12)
//
// The sum runs over T steps, the norm over the neurons of one layer. Spikes are 0 or 1, so
// D_p^p is the number of differences for every p. [Distance] computes D_p for each image
// of a batch. [SpikeDistances] does so for every layer of neurons of a model.
//
// # Quantities of a weight matrix
//
// A weight matrix W has one row for each output channel or neuron. The weight of a
// convolution is the matrix C_out × C_in·k·k; [Conv] treats it as a map of images too. Only R
// depends on the bias.
//
//	Λ = max ‖W·s‖₂/‖s‖₂, s in {−1,0,1}ⁿ                     (Eq. 14) [Lambda]
//	‖W‖₂ = max ‖W·v‖₂/‖v‖₂                                  [SpectralNorm], [SpectralUpper]
//	‖conv‖₂, the norm of a map of images                    [Conv.Norm]
//	σ₁ ≥ σ₂ ≥ …, the singular values                        [SingularValues]
//	γ = max_i Σ_j max(w_ij, 0) + max_i Σ_j max(−w_ij, 0)    [Gamma]
//	γ = sup ‖W·s‖_∞ + sup ‖−W·s‖_∞, s in {0,1}ⁿ             (Eq. 15) [PaperGamma]
//	R, the range of the membrane potentials                 [MembraneBounds]
//
// Λ bounds the amplification of differences of spikes, and ‖W‖₂ that of any vector:
// Λ ≤ ‖W‖₂ (Proposition 1). A lower bound comes with the vector that attains it. An upper
// bound is proven, and the proof covers the rounding of the computation; [Lambda],
// [SpectralUpper] and [Conv.Norm] describe the proofs.
//
// The paper and its authors' code disagree about γ. [Gamma] is the γ of the code: the range
// of the input currents W·s over all neurons and all spikes s in {0,1}ⁿ. [PaperGamma] is
// the γ of Eq. 15 as printed. PaperGamma is never less than Gamma, and it satisfies
// Proposition 2.
//
// # Networks
//
// [Connections] finds the linear maps between the layers of neurons of a model. It folds
// average pooling, the scale of batch norm and the weights of residual blocks into these
// maps. [Connection.Bound] computes the quantities above for a connection.
// [MeasureAmplification] measures the effect of a perturbation on every layer, beside its
// bounds. [Tracker] follows the weights during training.
//
// # Bounds of the output distance
//
// [Dynamics] bounds D₂² of the output spikes of a layer with hard reset. Each method
// documents its proof.
//
//	[Dynamics.MaxDifferences]   from row sums: some neurons cannot fire often
//	[Dynamics.Gain]             from Λ and the number of input spikes; no bias
//	[Dynamics.MarginBound]      from Λ and the distance of the potentials from θ
//	[Dynamics.Theorem1]         the right-hand side of Eq. 13 as printed
//
// Theorem 1 is here for comparison. Without a bias it is true, but its right-hand side
// exceeds N·T as soon as a neuron of the layer can fire, and D₂² never exceeds N·T. With a
// bias it is false. docs/lipschitz.md shows which bounds of this form can say more.
//
// # Panics and errors
//
// A function panics if a slice does not hold rows × cols values. It returns an error for
// weights that are not finite, for p < 1, for spike trains of different shapes and for an
// iteration that does not converge.
package lipschitz
