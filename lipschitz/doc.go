// Package lipschitz measures how much the layers of a spiking network amplify a
// perturbation, and computes the quantities of their weights that bound it (Sec. 4
// of Ding et al.: SNN-RAT, NeurIPS 2022).
//
// # Distance of spike trains
//
//	D_p(a, b) = (Σ_t ‖a(t) − b(t)‖_p^p)^(1/p),  p ≥ 1          (Eq. 12)
//
// over the neurons of one layer and T steps. Spikes are 0 or 1, so D_p^p is the number
// of differences, for every p. [D] computes it for each image of a batch, [Profile]
// does so at every layer of neurons of a model.
//
// # Quantities of a weight matrix
//
// W has one row an output channel or neuron; a convolution's weight is taken as
// C_out × C_in·k·k. All of them are those of the layer without its bias.
//
//	‖W‖₂ = max ‖W·v‖₂/‖v‖₂                        [SpectralNorm]
//	γ = max_i Σ_j max(w_ij, 0) + max_i Σ_j max(−w_ij, 0)    [Gamma]
//	Γ: what membrane potentials can differ by     [MembraneBounds]
//
// γ is the range of the input currents W·s over all neurons and all spikes s in
// {0,1}ⁿ: no change of the input moves a current by more, and no two neurons are
// further apart.
//
// For Γ this package gives the range of the membrane potentials over T steps, under
// leak λ, threshold θ and hard reset: Γ = hi − lo of [MembraneBounds], which is γ
// for T = 1. This definition is its own, derived there; it has not been compared
// with what Theorem 1 of the paper calls Γ.
//
// # Panics and errors
//
// Functions panic when a slice does not hold rows × cols values. Weights that are not
// finite, p < 1, spike trains of different shapes and iterations that do not
// converge are errors, never a wrong number.
package lipschitz
