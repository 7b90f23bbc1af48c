// Package snn builds spiking neural networks, runs them, and computes their gradients.
//
//	body := snn.NewSequential(
//		snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewBatchNorm(8), snn.NewIF(), snn.AvgPool{K: 2},
//		snn.Flatten{}, snn.NewLinear(8*4*4, 10, true),
//	)
//	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 8, Width: 8, Steps: 4}, body)
//	if err != nil {
//		log.Fatal(err)
//	}
//	m.Init(rng.New(1))
//
//	image := tensor.NewNCHW(1, 1, 8, 8) // values in [0,1]
//	logits, err := m.Logits(snn.Pass{}, image)
//	if err != nil {
//		log.Fatal(err)
//	}
//	fmt.Println(len(logits), "logits")
//
// Package zoo builds networks of the literature by name. Package train trains a model, and
// package attack attacks it.
//
// # Networks and layers
//
// A [Model] takes images with values in [0,1], in NCHW order. It normalizes them, encodes
// them as an input over T time steps, and runs its layers. Its logits are the mean over
// time of the last layer's output. In place of an image, an example may have T frames, one
// for each time step; see [tensor.NCHW].
//
// A [Layer] describes itself when the model is built, and records its operations on a tape
// in each pass. A [Sequential] is a layer that runs others one after another. Parameters
// have the names that PyTorch would give them, such as features.0.weight.
//
// A [Pass] holds what can differ from one run of a model to the next: the gradient
// approximation, the number of steps, training or evaluation, and the random keys. Layers
// have no modes.
//
// # Neurons
//
// A [LIF] is a layer of leaky integrate-and-fire neurons. With decay λ, threshold θ and
// current x(t), each neuron computes at step t = 1, …, T
//
//	m⁻(t) = λ·m(t−1) + x(t)          the potential before a spike
//	s(t)  = 1 if m⁻(t) ≥ θ, else 0   the spike
//	m(t)  = m⁻(t)·(1 − s(t))         hard reset
//	m(t)  = m⁻(t) − θ·s(t)           soft reset, if SoftReset is set
//
// and m(0) = 0. Decay = 1 is the IF neuron, which has no leak.
//
// Equations 1–3 of Ding et al. 2022 apply the decay after the spike instead. Their stored
// potential is λ·m⁻(t)·(1 − s(t)), which is λ times the m(t) above. The next step adds
// x(t+1) to it. The potential before a spike, m⁻, and the spikes are the same in both.
//
// A [GLIF] is a layer of such neurons with parameters, fixed or trained, for the layer or for
// each channel:
//
//	NewParamLIF   trained leak and threshold
//	NewPLIF       trained time constant (Fang et al. 2021)
//	NewALIF       adaptive threshold (Bellec et al. 2018)
//	NewCuBaLIF    synaptic current
//	Recurrent     a field: spikes return, to the neuron itself or to all channels
//
// A [NoisyLIF] is a LIF with a noisy potential. A [Custom] is a layer of neurons that are written
// in plain Go, as a [Dynamics]. Any other layer of neurons is a [Neuron]. These are what the gradient approximations do with them:
//
//	                      BPTT   BPTR                  CBA
//	LIF, NoisyLIF         yes    yes                   ReLU
//	GLIF                  yes    yes, no parameters    ReLU
//	GLIF with Recurrent   yes    refused               refused
//	Custom                yes    yes, no parameters    ReLU
//	Neuron                yes    if a RateNeuron       ReLU, or what a ReLUNeuron says
//
// and the approximations for attacks:
//
//	                      RGA                   HART                  PDSG, ASSG, BPTT with Relative
//	LIF, NoisyLIF         yes                   yes                   yes
//	GLIF                  yes, no parameters    yes, no parameters    yes
//	GLIF with Recurrent   refused               refused for [C, C]    yes
//	Custom                refused               refused               refused
//	Neuron                if a CurrentNeuron    if a StepwiseNeuron   if a ThresholdNeuron
//
// # Surrogates
//
// A spike has no useful derivative: the derivative of the step function is zero, except at
// the threshold, where it does not exist. A [Surrogate] is a function of u = m⁻ − θ that
// replaces it in the backward pass. Each neuron has a surrogate, and [BPTT] can bring
// another one. [Triangle], [Rectangle], [Sigmoid], [Arctan], [FastSigmoid], [Exponential],
// [DampenedExponential] and [StraightThrough] are surrogates. Their widths are in units of the
// membrane potential, or of the threshold if BPTT.Relative is set.
//
// # Gradient approximations
//
// A [Gradient] says how gradients cross neurons. It belongs to the pass, so that one network
// can be trained by one approximation and attacked by another.
//
//	BPTT   through time, by a surrogate               forward pass of the spiking network
//	BPTR   through the firing rate                    forward pass of the spiking network
//	RGA    through the rate by the mean current       forward pass of the spiking network
//	HART   at each step alone, mean over time         forward pass of the spiking network
//	PDSG   through time, width by the spread of u     forward pass of the spiking network
//	ASSG   through time, steepness by each neuron     forward pass of the spiking network
//	CBA    through a ReLU network of these weights    forward pass of the ReLU network
//
// All but CBA compute the same spikes and logits as an evaluation, bit by bit, see
// [ChangesForward]. RGA, HART, PDSG, ASSG and a BPTT with Relative measure potentials in units of
// the threshold. ASSG keeps a state of each image over the passes of an attack, a [Memory].
//
// # Which call does what
//
// Each of these runs the network on a batch of N images:
//
//	call             backward pass   returns                         changes
//	Logits           no              logits, [N, classes]            –
//	InputGradient    yes             gradient of the images, NCHW    –
//	ParamGradients   yes             –                               gradients of parameters
//	Gradients        yes             gradient of the images, NCHW    gradients of parameters
//	Differentiate    yes             either or both of these         gradients of parameters
//	Forward          no              a value on the caller's tape    the tape
//
// [Model.NewStream] runs the network step by step, on frames that arrive one after the other.
//
// With [Pass].Train set, each of these calls also changes the running statistics of batch
// norm. A call that fails leaves them as they were, but for Forward.
//
// The calls with a backward pass take a function fn. They call fn once with the
// logits, and fn returns the gradient of a loss with respect to them. If fn returns nil,
// there is no backward pass. Gradients of parameters are added to those from earlier calls,
// until Param.ClearGrad.
//
// Differentiate is the general one of them. Its fn gets the logits of every step too, and may
// return a gradient for every step.
//
// Forward is the lowest of these calls. It checks nothing and needs a Pass with Tape, Steps,
// Gradient and, for random layers, Keys.
//
// These calls do not run the network:
//
//	call               does                                                  changes
//	ForEachChunk       splits a batch, to bound the memory of evaluations    –
//	Init               draws the parameters at random                        parameters
//	Save, Write        write parameters, buffers, settings and Meta          –
//	Load, LoadWith     read a .safetensors or .pth file                      parameters, buffers, Meta
//	                   with LoadOptions.Settings                             settings too
//	SetState           does the same with a file's content                   parameters, buffers, Meta
//	SetSettings        takes steps, encoder, class names and layer settings  settings
//	ValidateParams     looks for NaN, infinities and bad variances           –
//	ValidateImages     checks the shape and the range of images              –
//	ValidateDataset    compares shape, steps and classes of a data set       –
//
// Models may be used by several goroutines at a time while nothing changes them.
//
// # Errors and panics
//
// Data, files and settings can be wrong, and cause an error that names the value:
//
//   - NewModel returns an error if two layers do not fit together, or a setting is out of
//     range.
//   - A run returns an error if an image does not fit the model or has a value outside
//     [0,1], or if a layer's settings are out of range. It also returns one if a current, a
//     potential or a logit is not a finite number.
//   - Load and SetState return an error if the file is not a state of this network. The
//     model then stays as it was.
//
// A mistake in the calling program is a panic: a number of keys that differs from the number
// of images, or a gradient from fn of another length than the logits.
//
// # Randomness
//
// Poisson encoding and dropout are random. The random numbers of an image come from its own
// key in Pass.Keys. They depend neither on the batch nor on the number of threads. If Keys
// is nil, image i gets a fixed key derived from i: two calls then draw the same numbers.
//
// # Neurons of other libraries
//
// The page docs/pytorch.md has the settings with which a LIF or a GLIF is a neuron of SpikingJelly,
// snnTorch, norse, Sinabs or NIR, the surrogates, and the differences that remain. The page
// docs/extend.md shows how to write a surrogate, a neuron, a gradient approximation, a layer or an
// encoder.
package snn
