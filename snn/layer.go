package snn

import (
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Layer is a part of a network. The page docs/extend.md shows how to write one.
type Layer interface {
	// Forward records the layer's operations on p's tape and returns its output. It calls
	// p.Fail if the data are bad. Evaluations may run side by side, so Forward must not
	// change the layer unless p.Train is set.
	Forward(p *Pass, x *autograd.Value) *autograd.Value
	// Describe is called once, when a model is built. It returns the shape of the output
	// for an input of shape in. Both have N = Steps = 1. It returns an error if the input
	// or the layer's settings do not fit.
	//
	// Describe adds a [Row] to s.Rows. Each pass calls the method Validate() error of
	// Row.Layer, if it has one, since a caller can change a layer's fields.
	//
	// Parameters and buffers in Row.Params are trained, saved and loaded. Describe sets their
	// names to name + ".weight" and the like. For layers inside the layer, it calls their
	// Describe.
	Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error)
}

// Initializer is a layer that sets its parameters before training.
type Initializer interface {
	// Init draws the parameters. All its random numbers come from key.
	Init(key rng.Key)
}
