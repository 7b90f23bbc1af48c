// Package snn builds spiking neural networks of layers, runs them, and takes their
// gradients by a choice of approximations.
//
//	body := snn.NewSequential(
//		snn.NewConv2D(1, 16, 3, 1, 1, true), snn.NewBatchNorm(16), snn.IF(), snn.AvgPool{},
//		snn.NewLinear(16, 10, true),
//	)
//	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 28, Width: 28, Steps: 4}, body)
//	m.Init(rng.New(1))
//	logits, err := m.Logits(Pass{}, images)
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
