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
// C_out × C_in·k·k, or as the map of the image that it is. All of them are those of
// the layer without its bias.
//
//	Λ = max ‖W·s‖₂/‖s‖₂, s in {−1,0,1}ⁿ           (Eq. 14) [Lambda]
//	‖W‖₂ = max ‖W·v‖₂/‖v‖₂                        [SpectralNorm], [SpectralUpper]
//	‖conv‖₂, of the image                         [Conv.Norm]
//	σ₁ ≥ σ₂ ≥ …                                   [SingularValues]
//	γ = max_i Σ_j max(w_ij, 0) + max_i Σ_j max(−w_ij, 0)    [Gamma]
//	Γ: what membrane potentials can differ by     [MembraneBounds]
//
// Λ is what spikes can be amplified by, ‖W‖₂ what anything can. Lower ends come with
// the vector that attains them, upper ends are proven, rounding included; [Lambda],
// [SpectralUpper] and [Conv.Norm] say how.
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
// # What a layer's spikes can differ by
//
// The bounds that follow are this package's own, not the paper's Theorem 1. Trains x
// and y in {0,1}ⁿ come into a layer of N neurons with hard reset and without bias,
//
//	m(t) = λ·m(t−1)·(1 − s(t−1)) + W·x(t),  s(t) = 1[m(t) ≥ θ],  m(0) = 0
//
// s and z go out, over T steps; |x| is the number of spikes. D₂² counts differences.
//
// Differences ([Response.MostDifferences]). D₂²(s,z) ≤ Σ_i min(T − q_i + 1, 2·⌊T/q_i⌋),
// with q_i the least q of P_i·Σ_{k<q} λ^k ≥ θ and P_i the sum of the positive weights
// of row i. Proof: q steps after a potential of 0 or less it is at most
// P_i·Σ_{k<q} λ^k. It is 0 at the start and after a spike, so that a neuron fires not
// before step q_i, and at most ⌊T/q_i⌋ times.
//
// Gain ([Response.Gain]). |s| ≤ K·|x| with K = Λ²·Σ_{k<T} λ^2k/θ², and so
//
//	D₂²(s,z) ≤ |s| + |z| ≤ K·(|x| + |y|) ≤ K·(2·n·T − D₂²(x,y))
//
// Proof: a spike in step t, L steps after the neuron's last, takes θ ≤ Σ λ^(t−k)·I(k)
// over these L ≤ T steps, hence θ² ≤ Σ_{k<T} λ^2k·Σ I(k)² by Cauchy and Schwarz. The
// steps of different spikes are different ones, so that θ²·|s| ≤ Σ_{k<T} λ^2k·Σ_t
// ‖W·x(t)‖², and x(t) is in {−1,0,1}ⁿ: ‖W·x(t)‖² ≤ Λ²·‖x(t)‖². Where K < 1, activity
// dies out from layer to layer.
//
// Margin ([Response.MarginBound]). Given x, and Λ²·D₂²(x,y), no more neurons can change
// than have potentials close to θ; this one goes to 0 with Λ·D₂(x,y).
//
// Without the potentials, there is no such bound: D₂²(s,z) can be N·T as soon as
// D₂²(x,y) is 1, however large N and T are. With λ = 1 and θ = 1, the current ½ in all
// steps fires every second; one more ½ in the first step puts the spikes into
// antiphase. For these, no bound in terms of D₂²(x,y), Λ, λ, θ and T is below N·T.
//
// All three are checked for all pairs of input trains of small layers, and attained.
// They are statements on neurons that compute exactly: where float32 rounds a
// potential across θ, a network can differ from them.
//
// # Panics and errors
//
// Functions panic when a slice does not hold rows × cols values. Weights that are not
// finite, p < 1, spike trains of different shapes and iterations that do not
// converge are errors, never a wrong number.
package lipschitz
