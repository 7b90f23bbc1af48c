package snn

import (
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Pass holds the settings of one run of a model on a batch. The zero value is an ordinary
// evaluation: [Model.Logits] and the gradient calls then set the defaults below.
// [Model.Forward] sets no defaults.
type Pass struct {
	// Tape records the operations. Model sets it, except in Forward.
	Tape *autograd.Tape
	// Steps is the number of time steps, T ≥ 1. 0 stands for Model.Steps.
	Steps int
	// Gradient says how gradients cross neurons. Nil stands for BPTT{}.
	Gradient Gradient
	// Train is the training mode: batch norm uses the statistics of the batch and updates
	// the running ones, and dropout is on.
	Train bool
	// Threads bounds the goroutines of an operation. 0 stands for Model.Threads. Results do
	// not depend on it.
	Threads int
	// FusedUpdate, if not nil, may receive the gradients of weights in parts, in place of
	// Param.Grad. See [autograd.FusedUpdate].
	FusedUpdate autograd.FusedUpdate
	// Parts, if not nil, joins this pass with those over the other parts of a batch, so that
	// batch norm in training normalizes by the whole batch. See [autograd.Parts].
	Parts autograd.Parts
	// Keys holds a key for each image, [N]. The random numbers of image n (those of random
	// encoders, dropout masks and noise of neurons) come from Keys[n] alone. Nil stands for
	// fixed keys, which differ from image to image.
	Keys []rng.Key
	// Memory holds the state of each image over the passes of an attack, [N], for gradients that
	// keep one, such as [ASSG]. Where it is nil, and for nil elements, each pass starts anew. A
	// pass without a backward pass leaves it as it is. The other gradients do not read it.
	Memory []*Memory
	// OnSpikes, if not nil, is called by every layer of neurons with its name and its
	// spikes. The spikes are valid during the call. Under CBA there are none.
	OnSpikes func(layer string, s *tensor.Spikes)
	// OnNeurons, if not nil, is called by every layer of neurons n with its input currents
	// and its output, which are values on p.Tape. They are valid during the call. It may add
	// to their gradients with Tape.AddGrad, as a penalty of spikes or currents does, and may
	// call p.Fail. To read currents takes time and memory, since fused layers have none.
	OnNeurons func(p *Pass, n Neuron, currents, output *autograd.Value)

	stream  *Stream  // the stream whose step the pass is, or nil
	margins *margins // of a pass of bounds, or nil
	err     error    // the first error given to Fail
}

// Fail marks the pass as failed. A layer calls it if the data are bad, and then returns any
// value of the right shape. Logits or the gradient call that made the pass returns the first
// error given to Fail, and no result.
func (p *Pass) Fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// Err returns the first error given to Fail or to Tape.Fail, or nil. A caller of
// Model.Forward checks it, after its backward pass too.
func (p *Pass) Err() error {
	if p.err != nil {
		return p.err
	}
	return p.Tape.Err()
}

// fixedKeys returns the keys that stand for nil Keys.
func fixedKeys(n int) []rng.Key {
	ks := make([]rng.Key, n)
	for i := range ks {
		ks[i] = rng.New(0).Derive("image", uint64(i))
	}
	return ks
}

// keys returns a key for each image, derived from the image's key and a purpose.
func (p *Pass) keys(purpose string) []rng.Key {
	if p.stream != nil {
		return p.stream.keys(purpose)
	}
	return derived(p.Keys, purpose)
}

// derived returns the keys for a purpose.
func derived(keys []rng.Key, purpose string) []rng.Key {
	ks := make([]rng.Key, len(keys))
	for i, k := range keys {
		ks[i] = k.Derive(purpose, 0)
	}
	return ks
}
