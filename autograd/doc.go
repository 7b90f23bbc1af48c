// Package autograd records the operations of a spiking network's forward pass on a
// tape, and carries gradients back through them.
//
//	t := &autograd.Tape{Params: true}
//	x := t.Leaf(images, true)
//	s := autograd.FireThroughRate(t, autograd.Conv2D(t, x, w, b, 1, 1), dynamics, steps)
//	y := autograd.MeanOverTime(t, autograd.Linear(t, autograd.Flatten(t, s), v, c))
//	t.Backward(y, seed)
//	gradient := x.Grad() // and w.Grad(), b.Grad(), …
//	t.Reset()
//
// # Time
//
// A [Value] has as many steps as it needs: T, or 1 when it is the same at every step,
// as an image is. Operations on a value of one step run once. So do their backward
// passes where the gradient is the same at every step, as that of a mean over time is;
// BPTR keeps it so all the way down. The gradient of a value of one step is the sum
// over time.
//
// # What is computed
//
// Only what is asked for: gradients of parameters if the tape's Params is set, those
// of a leaf if it says so, and those of the values between them. An operation whose
// output wants none is not recorded.
//
// # Memory
//
// Values and gradients live in the tape's arena, and are overwritten after [Tape.Reset].
// A step like the one before it needs no new ones. [Tape.Release] gives a value back
// early.
//
// # Fusion
//
// A convolution whose input nobody needs for a gradient of weights, and batch norm, are
// deferred: their outputs are computed when they are read. Neurons take the work over
// instead: batch norm's output is then never in memory, and where the currents are not
// needed again (in evaluation without a gradient, and under BPTR) the convolution runs on
// a few images at a time and its output stays in cache. Results are the same to the bit
// but for batch norm's gradients, whose sums are rounded otherwise.
//
// # Adding an operation
//
// An operation is a file: its equation, a struct that keeps what the backward pass
// needs, the function that runs and records it, and Backward. Its test is a row of
// the table in op_test.go.
package autograd
