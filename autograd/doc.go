// Package autograd records the operations of a spiking network's forward pass on a
// [Tape]. A backward pass then propagates gradients through the recorded operations:
//
//	t := &autograd.Tape{Params: true}
//	x := t.Leaf(images, true)
//	s := autograd.FireThroughRate(t, autograd.Conv2D(t, x, w, b, 1, 1), dynamics, steps)
//	y := autograd.MeanOverTime(t, autograd.Linear(t, autograd.Flatten(t, s), v, c))
//	t.Backward(y, seed)
//	gradient := x.Grad() // and w.Grad(), b.Grad(), …
//	t.Reset()
//
// In this documentation ∂x is the gradient with respect to x.
//
// # Time
//
// The number of steps of a [Value] is T, the number of time steps, if the value changes
// over time. It is 1 if the value is the same at every step, as an image is. An operation
// on a value of one step runs once instead of T times.
//
// A gradient, too, has T steps or one. The gradient of a mean over time, for example, is
// the same at every step and has one step. Backward passes then run once. [FireThroughRate]
// (BPTR) keeps a gradient of one step at one step.
//
// The gradient of a value of one step is the sum over time.
//
// # Neurons
//
// A layer of neurons is one operation. Which one depends on the type of the neurons and on
// the backward pass. The operations without a backward pass continue from a state:
//
//	neurons           BPTT                  BPTR                  without a gradient
//	Dynamics          FireThroughTime       FireThroughRate       FireStep
//	GLIF              FireGLIFThroughTime   FireGLIFThroughRate   FireGLIFSteps
//	GLIF, all to all  FireGLIFRecurrent     –                     FireGLIFRecurrentStep
//	NeuronModel       FireModelThroughTime  FireModelThroughRate  FireModelStep
//
// Dynamics is the fastest of them. GLIF adds parameters, adaptation, synaptic currents and
// recurrence. A NeuronModel is plain Go. Package snn has layers of each: snn.LIF, snn.GLIF and
// snn.Custom.
//
// # What is computed
//
// A backward pass computes only the gradients that were requested, and the gradients on the
// way to them:
//
//   - [Tape.Params] requests the gradients of parameters,
//   - the grad argument of [Tape.Leaf], [Tape.Input] and [Tape.InputSpikes] requests the
//     gradient of that input.
//
// An operation is not recorded if no gradient passes through it.
//
// # Memory
//
// Values and gradients are in the tape's memory. A training step of the same shapes as the
// one before it allocates no new memory for them. A value is valid
//
//   - in the forward pass, until [Tape.Release] lets it go, or until [Tape.Reset];
//   - in the backward pass, if an operation that is still to go back lists it in
//     [Tape.Record], or if the forward pass has not released it.
//
// Reading a value outside of this time is a panic that names the value, the layer that made
// it and its reader. So is a second Release. A gradient is valid until Backward of the
// operation that made its value has returned. Gradients of leaves are valid until Reset.
//
// # Fusion
//
// Batch norm is deferred: its output is computed when it is read. So is a convolution,
// unless its weights get a gradient. Neurons that read a deferred value do its work
// themselves where they can:
//
//   - Batch norm's output is then never in memory.
//   - The convolution runs on a few images at a time, so that its output stays in cache.
//     This is done where the neurons' input currents are not needed again: under BPTR, and
//     without a gradient.
//
// Fusion gives the same bits, with two exceptions that round differently. One is the gradients of
// batch norm. The other is the gradient of the input of a 3×3 convolution that reads neurons: only
// the elements that the neurons use are computed. The file fusion.go holds all of it.
//
// # An operation of one's own
//
// An operation is an [Op] and a function that runs and records it. The function
//
//   - reads its inputs by [Tape.Floats] or [Tape.Words],
//   - makes its output by [Tape.NewDense] or [Tape.NewSpikes], and writes all of it,
//   - calls [Tape.Record] with the Op and the values that Backward reads.
//
// Backward reads the gradient of the output by [Tape.Grad] or [Tape.GradEveryStep], and adds
// to the gradients of inputs that need one by [Tape.OpenGrad] and [Tape.CloseGrad] or by
// [Tape.AddGrad]. If Tape.Params is set, it adds to the gradients of parameters by
// [Param.OpenGrad] or [Param.AddGrad].
//
// The example Op builds an element-wise product. The operations of this package use the same
// calls; each has a file of its own, and a row of the table in op_test.go as its test.
//
// Channels are in blocks of 16, and missing channels are zero lanes: an output's padding
// must be zero where the inputs' is, or later sums over channels are wrong.
package autograd
