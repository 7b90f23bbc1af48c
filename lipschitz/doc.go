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
// # Networks
//
// [Connections] finds what feeds every layer of neurons of a model, with average
// pooling, batch norm's scale and the weights of residual blocks folded in, so that the
// numbers describe what the neurons see; [Connection.Bound] computes them, and
// [Amplify] measures what a perturbation does to every layer, beside what bounds it.
// [Tracker] follows the weights during training.
//
// # What a layer's spikes can differ by
//
// The bounds that follow are this package's own. Trains x and y in {0,1}ⁿ come into a
// layer of N neurons with hard reset and a bias b, which is 0 where the bound is
// [Response.Gain],
//
//	m(t) = λ·m(t−1)·(1 − s(t−1)) + W·x(t) + b,  s(t) = 1[m(t) ≥ θ],  m(0) = 0
//
// s and z go out, over T steps; |x| is the number of spikes. D₂² counts differences.
//
// Differences ([Response.MostDifferences]). D₂²(s,z) ≤ Σ_i min(T − q_i + 1, 2·⌊T/q_i⌋),
// with q_i the least q of P_i·Σ_{k<q} λ^k ≥ θ and P_i the sum of b_i and of the positive
// weights of row i; and 0 of neurons that fire in every step. Proof: q steps after a
// potential of 0 or less it is at most P_i·Σ_{k<q} λ^k. It is 0 at the start and after a
// spike, so that a neuron fires not before step q_i, and at most ⌊T/q_i⌋ times.
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
// Reset ([Response.ResetBound]). θ·D₂(s,z) ≤ ‖ΔI‖ + R·√(N·((1+λ)²·(T−1) + 1)), with
// ‖ΔI‖ ≤ Λ·D₂(x,y) what the currents differ by, and R ≤ Γ the range of the potentials
// that are carried on. The proof is there.
//
// # Theorem 1 of the paper, and why no bound of its form is tight
//
// Theorem 1 bounds D₂(s,z) in terms of D₂(x,y), Λ, γ, Γ, λ, θ, N and T. Its statement
// is not reproduced here, since its text was not at hand; [Response.ResetBound] is a
// bound of that form with its proof. Whatever the exact terms, no such bound, for λ < 1
// or λ = 1, can be both true and below N·T, which D₂² never exceeds, as soon as one
// spike differs:
//
// For all λ in (0,1], θ, N, T and every Λ₀ > 0, there are layers with Λ ≤ Λ₀ and trains
// with D₂(x,y) = 1 and D₂²(s,z) = N·T.
//
// Proof: all N neurons have the weights c/k from k inputs, with c = θ/(1+λ), a/k from k
// others, with a = θ − ε, and ε from one more. In the first step the inputs of a fire, in
// all others those of c; x and y differ by the one spike of ε in the first step. With it,
// all neurons fire in step 1 and then, since c < θ ≤ λ·c + c, in 3, 5, …; without it,
// they reach θ − ε in step 1 and, if λ·(θ − ε) + c ≥ θ, fire in 2, 4, …. As
// λ + 1/(1+λ) > 1, that is so for small ε. And Λ² ≤ N·(2·θ²/k + ε²), which is as small
// as one likes; γ and Γ are of the order of θ.
//
// So a bound of that form, if it is true, is at least N·T. To be below, it needs the
// potentials (Margin), the number of input spikes (Gain), or row sums that keep neurons
// from firing (Differences).
//
// All of them are checked for all pairs of input trains of small layers, with λ < 1 and
// λ = 1, and all but Gain and Reset are attained. They are statements on neurons that
// compute exactly: where float32 rounds a potential across θ, a network can differ from
// them.
//
// # Panics and errors
//
// Functions panic when a slice does not hold rows × cols values. Weights that are not
// finite, p < 1, spike trains of different shapes and iterations that do not
// converge are errors, never a wrong number.
package lipschitz
