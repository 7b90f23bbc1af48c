package snn

import "github.com/org/snnrat/autograd"

// Encoder turns images or frames into the input of a network over time.
type Encoder interface {
	// Encode records the encoding of x on p's tape. x has values in [0,1]. It has one step,
	// or a frame for each of the p.Steps steps. It holds dense values, but for Direct. The
	// result has p.Steps steps, or one step if it is the same at all of them.
	Encode(p *Pass, x *autograd.Value) *autograd.Value
}

// StepEncoder is an encoder that can encode step by step. A [Stream] needs it.
type StepEncoder interface {
	Encoder
	// EncodeStep records what Encode computes at one step, counted from 0. x is the image, or
	// the frame of that step. The result has one step.
	EncodeStep(p *Pass, x *autograd.Value, step int) *autograd.Value
}

// Direct encodes an image as itself at every step, and frames as themselves. The layers
// before the first neurons run once for an image, and not T times.
//
// The first layer computes only where there are spikes if all frames of a batch have the
// values 0 and 1 and the model does not normalize them.
type Direct struct{}

// Poisson is rate coding. At every step, each pixel spikes independently, with its value as
// the probability. For frames that is its value in the step's frame. The gradient of a pixel
// is the sum of its spikes' gradients over the steps of its frame (a straight-through
// estimate). The spikes of an image come from its key in Pass.Keys.
type Poisson struct{}

// Encode implements [Encoder].
func (Direct) Encode(_ *Pass, x *autograd.Value) *autograd.Value { return x }

// Encode implements [Encoder].
func (Poisson) Encode(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.Poisson(p.Tape, x, p.Steps, p.keys("poisson"))
}

// EncodeStep implements [StepEncoder].
func (Direct) EncodeStep(_ *Pass, x *autograd.Value, _ int) *autograd.Value { return x }

// EncodeStep implements [StepEncoder].
func (Poisson) EncodeStep(p *Pass, x *autograd.Value, step int) *autograd.Value {
	return autograd.PoissonFrom(p.Tape, x, step, 1, p.keys("poisson"))
}
