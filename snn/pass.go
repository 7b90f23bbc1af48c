package snn

import (
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Pass is one run of a model over a batch. What differs between runs is a value
// here; layers have no modes.
type Pass struct {
	Tape *autograd.Tape
	// Steps is the number of time steps T ≥ 1.
	Steps int
	// Gradient decides how gradients cross neurons.
	Gradient Gradient
	// Train normalizes by the batch's statistics and drops out.
	Train bool
	// Threads bounds the goroutines of an operation; 0 stands for GOMAXPROCS. Results do
	// not depend on it.
	Threads int
	// FusedUpdate may take gradients of weights over; see [autograd.FusedUpdate].
	FusedUpdate autograd.FusedUpdate
	// Keys holds a key for each image. What is random for image n (its spikes, its
	// dropout masks) comes from Keys[n] alone.
	Keys []rng.Key
	// OnSpikes, if not nil, is shown the spikes of every layer of neurons, under the
	// layer's name. They are valid during the call.
	OnSpikes func(layer string, s *tensor.Spikes)

	err error // the first that a layer had
}

// Fail ends the pass with an error: the call of Model that made the pass returns the
// first error that a layer gives here, and nothing that the pass computed. A layer calls
// it for what it finds wrong with data, and returns any value of the right shape.
func (p *Pass) Fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// Err returns the first error given to Fail, or nil. Who calls Model.Forward on a pass of
// their own asks for it.
func (p *Pass) Err() error { return p.err }

// keys derives a key for each image from a purpose.
func (p *Pass) keys(purpose string) []rng.Key {
	ks := make([]rng.Key, len(p.Keys))
	for i, k := range p.Keys {
		ks[i] = k.Derive(purpose, 0)
	}
	return ks
}
