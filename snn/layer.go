package snn

import (
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Layer is a part of a network.
type Layer interface {
	// Forward records the layer's operations on p's tape.
	Forward(p *Pass, x *autograd.Value) *autograd.Value
	// Describe is called once, when a model is built. It gives the layer its name,
	// adds its rows to s, and returns the shape of its output for an input of shape
	// in (N = Steps = 1), or an error that says why the input or the layer's settings
	// do not fit. A row lists the layer's parameters and buffers, which are trained and
	// saved by that; Describe names them: name + ".weight" and the like. The layers
	// inside of a layer are described by their own Describe.
	Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error)
}

// Initializer is a layer with parameters to set before training.
type Initializer interface {
	// Init draws the parameters from the layer's key.
	Init(key rng.Key)
}
