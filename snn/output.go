package snn

import "github.com/org/snnrat/tensor"

// Output is the output of a network for a batch of N images.
type Output struct {
	N, Classes int
	// Steps is the number of steps of Logits: that of the pass, or 1 if the output is the
	// same at every step, as it is under CBA.
	Steps  int
	Logits []float32 // [N, Steps, Classes], the output of the last layer at every step
	Mean   []float32 // [N, Classes], the mean of Logits over the steps
}

// Wrt says which gradients [Model.Differentiate] computes.
type Wrt uint8

// The gradients that a pass can compute. OfImages|OfParams asks for both.
const (
	OfImages Wrt = 1 << iota // the gradient of the images
	OfParams                 // the gradients of the parameters
)

// Differentiate runs the network on the images x and calls fn once with its output, of the
// mean over time and of every step. fn returns the gradient of a loss. Its layout is that of
// Output.Mean for a gradient with respect to the mean, or that of Output.Logits for one with
// respect to every step. The gradient of the mean is the faster one: it is the same at every
// step, so some of the backward pass runs once instead of T times. If fn returns nil, there
// is no backward pass.
//
// InputGradient, ParamGradients and Gradients are this call for a loss of the mean alone.
// Differentiate computes the gradients that wrt names. It returns that of the images, in x's
// shape, or the zero value of NCHW. It adds those of the parameters to Param.Grad.
//
// fn may make passes over the same model, such as a Differentiate over other images. Two
// passes, one in the other's fn, give both gradients of a loss that compares their outputs.
// FusedUpdate must be nil in both: the inner backward pass would change parameters that the
// outer one reads.
//
// Differentiate returns the errors of InputGradient, and that of fn as it is. It panics if
// the numbers of keys and images differ. It also panics if fn returns neither N·Classes nor
// N·Steps·Classes values.
func (m *Model) Differentiate(p Pass, x tensor.NCHW, wrt Wrt, fn func(Output) (grad []float32, err error)) (tensor.NCHW, error) {
	if err := m.validateRun(&p, x); err != nil {
		return tensor.NCHW{}, err
	}
	return m.run(p, x, wrt, true, fn)
}

// ofMean returns fn as a function of the whole output.
func ofMean(fn func(logits []float32) []float32) func(Output) ([]float32, error) {
	return func(o Output) ([]float32, error) { return fn(o.Mean), nil }
}
