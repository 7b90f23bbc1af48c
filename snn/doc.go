// Package snn builds spiking neural networks of layers, runs them, and takes their
// gradients by a choice of approximations.
//
//	body := snn.NewSequential(
//		snn.NewConv2D(1, 16, 3, 1, 1, true), snn.NewBatchNorm(16), snn.IF(), snn.AvgPool{},
//		snn.NewLinear(16, 10, true),
//	)
//	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 28, Width: 28, Steps: 4}, body)
//	m.Init(rng.New(1))
//	logits, err := m.Logits(snn.Pass{}, images)
//
// Package zoo builds those of the literature. Images have values in [0,1] in NCHW
// order; logits are the mean over T steps of what the last layer puts out.
//
// # Neurons and gradients
//
// A [Neuron] integrates its currents with a leak, fires where its membrane potential
// reaches the threshold, and is reset. Firing has no derivative; what stands in for it
// is a [Gradient], which belongs to a [Pass] and not to the network: [BPTT] by a
// [Surrogate], [BPTR] by the firing rate, [CBA] by the ReLU network with the same
// weights. BPTT and BPTR run the evaluated network, to the bit.
//
// # Neurons of other libraries
//
// A neuron of SpikingJelly, of snnTorch or of a NIR file is a Neuron with these settings.
// θ, v₀ and τ stand for v_threshold, v_reset (0 for None) and tau; x is the current.
//
//	theirs                              one step                        Decay      Threshold
//	SpikingJelly IFNode                 v ← v + x                       1          θ − v₀
//	LIFNode(decay_input=False)          v ← v − (v − v₀)/τ + x          1 − 1/τ    θ − v₀
//	LIFNode (decay_input=True)          v ← v + (x − (v − v₀))/τ        1 − 1/τ    τ·(θ − v₀)
//	snnTorch Leaky(reset "zero")        U ← β·U·(1 − S) + x             β          above θ
//	snnTorch Leaky(beta=1)              U ← U − θ·S + x                 1          above θ
//	NIR IF                              v ← v + dt·r·x                  1          θ/(r·dt)
//	NIR LIF                             v ← v + dt/τ·(v₀ − v + r·x)     1 − dt/τ   (θ − v₀)·τ/(r·dt)
//
// SoftReset is v_reset=None in SpikingJelly and reset_mechanism="subtract" in snnTorch.
// DetachReset is detach_reset in SpikingJelly; snnTorch's resets carry no gradient unless
// reset_delay=False. snnTorch fires above the threshold and does not fire at it: Threshold
// here is the next larger float32. Its subtraction with beta < 1 has no equal here, since
// the decay of the next step comes before it; here the decay comes after it. The page
// docs/pytorch.md has the surrogates, examples, and the other differences.
//
// # Randomness
//
// What is random about an image, its Poisson spikes and its dropout masks, comes from
// the key that the pass has for it, so that no result depends on how images are
// batched, nor on the number of threads.
//
// # Panics and errors
//
// A network whose layers do not fit, images that are not the network's or hold a
// value outside [0,1], and files that are not a state of it are errors. Keys and
// gradients of another number than the images' are panics.
package snn
