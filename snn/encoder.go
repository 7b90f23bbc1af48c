package snn

import "github.com/org/snnrat/autograd"

// Encoder turns an image with values in [0,1] into a network's input over time.
type Encoder interface {
	Encode(p *Pass, x *autograd.Value) *autograd.Value
}

// Direct is the constant encoding: the image itself at every step. It and what is
// computed from it before the first neurons is computed once.
type Direct struct{}

// Poisson is rate coding: at every step a pixel fires with its value as the
// probability, independently. The gradient goes straight through.
type Poisson struct{}

// Encode implements [Encoder].
func (Direct) Encode(_ *Pass, x *autograd.Value) *autograd.Value { return x }

// Encode implements [Encoder].
func (Poisson) Encode(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.Poisson(p.Tape, x, p.Steps, p.keys("poisson"))
}
