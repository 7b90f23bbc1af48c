package snn

import "github.com/org/snnrat/autograd"

// Encoder turns images into the input of a network over time.
type Encoder interface {
	// Encode records the encoding of the images x on p's tape. x has one step and values
	// in [0,1]. The result has p.Steps steps, or one step if it is the same at all of them.
	Encode(p *Pass, x *autograd.Value) *autograd.Value
}

// Direct is constant encoding: the input is the image itself at every step. The layers
// before the first neurons therefore run once, and not T times.
type Direct struct{}

// Poisson is rate coding. At every step, each pixel spikes independently, with its value as
// the probability. The gradient of a pixel is the sum over time of its spikes' gradients (a
// straight-through estimate). The spikes of an image come from its key in Pass.Keys.
type Poisson struct{}

// Encode implements [Encoder].
func (Direct) Encode(_ *Pass, x *autograd.Value) *autograd.Value { return x }

// Encode implements [Encoder].
func (Poisson) Encode(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.Poisson(p.Tape, x, p.Steps, p.keys("poisson"))
}
