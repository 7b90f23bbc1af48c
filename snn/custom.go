package snn

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// Dynamics is a neuron of one's own: a step and its derivative, in plain Go.
// [autograd.NeuronModel] says what its methods compute. String returns its name, with its
// settings. [NewCustom] makes a layer of it.
//
// These methods are optional:
//
//   - Params() []*autograd.Param returns parameters of shape [] or [C], in the order in which
//     they follow the states. Their Name is the last part of the full name, such as tau.
//     Once a network is built, Params returns the same ones.
//   - Start(z [][]float32) sets the states before the first step, which are 0 otherwise.
//   - Validate() error returns an error that names the setting that is out of range.
//
// The exported fields are the settings. They are saved with a model as JSON.
type Dynamics interface {
	autograd.NeuronModel
	fmt.Stringer
}

// Custom is a layer of neurons with dynamics of one's own. Under [BPTT] gradients go back
// through the derivatives of Dynamics. Under [BPTR] a neuron that fired at least once passes
// the gradient of its output to its currents. Under [CBA] the layer is a ReLU.
type Custom struct {
	Dynamics  Dynamics
	Surrogate Surrogate // for BPTT

	name string
	held []*autograd.Param // those in Row.Params; nil before Describe
}

// NewCustom returns a layer of neurons of the dynamics d with the surrogate s.
func NewCustom(d Dynamics, s Surrogate) *Custom { return &Custom{Dynamics: d, Surrogate: s} }

func (n *Custom) params() []*autograd.Param {
	if d, ok := n.Dynamics.(interface{ Params() []*autograd.Param }); ok {
		return d.Params()
	}
	return nil
}

// Name implements [Neuron].
func (n *Custom) Name() string { return n.name }

// Validate implements [Neuron]. It calls Validate of the dynamics.
func (n *Custom) Validate() error {
	if v := reflect.ValueOf(n.Dynamics); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("no dynamics: expected an snn.Dynamics")
	}
	if err := n.sameParams(); err != nil {
		return err
	}
	if d, ok := n.Dynamics.(interface{ Validate() error }); ok {
		if err := d.Validate(); err != nil {
			return fmt.Errorf("%T: %w", n.Dynamics, err)
		}
	}
	return validateSurrogate(n.Surrogate)
}

// sameParams returns an error if the parameters are not those of Describe, which the optimizer
// and files have.
func (n *Custom) sameParams() error {
	if n.held != nil && !slices.Equal(n.params(), n.held) {
		return fmt.Errorf("the %d parameters of %T are not the %d with which the network was built: expected the same", len(n.params()), n.Dynamics, len(n.held))
	}
	return nil
}

// Forward implements [Layer].
func (n *Custom) Forward(p *Pass, x *autograd.Value) *autograd.Value { return Fire(p, n, x) }

// FireThroughTime implements [Neuron]. The pass fails if a potential or a derivative is not
// finite.
func (n *Custom) FireThroughTime(p *Pass, x *autograd.Value, s Surrogate) *autograd.Value {
	if s == nil {
		s = n.Surrogate
	}
	return autograd.FireModelThroughTime(p.Tape, x, n.Dynamics, n.params(), p.Steps, s)
}

// FireThroughRate implements [RateNeuron].
func (n *Custom) FireThroughRate(p *Pass, x *autograd.Value) *autograd.Value {
	return autograd.FireModelThroughRate(p.Tape, x, n.Dynamics, n.params(), p.Steps)
}

// Describe implements [Layer].
func (n *Custom) Describe(s *Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	n.name, n.held = name, nil
	if err := n.Validate(); err != nil {
		return in, err
	}
	ps := n.params()
	for i, p := range ps {
		if p == nil || len(p.Shape) > 1 || len(p.Shape) == 1 && p.Shape[0] != in.C {
			return in, fmt.Errorf("parameter %d of %v: expected one of shape [] or [%d]", i, n.Dynamics, in.C)
		}
		p.Name = join(name, p.Name[strings.LastIndex(p.Name, ".")+1:])
	}
	n.held = append([]*autograd.Param{}, ps...)
	s.add(Row{Name: name, Kind: n.Dynamics.String(), In: in, Out: in, Neurons: in.Neurons(), Params: ps, Layer: n})
	return in, nil
}

// customSettings are the settings of a Custom as JSON.
type customSettings struct {
	Type      string          `json:"type"`
	Dynamics  json.RawMessage `json:"dynamics"`
	Surrogate string          `json:"surrogate"`
}

// MarshalJSON returns the settings of the dynamics and the surrogate. It returns an error if
// the dynamics cannot be written as JSON, or if the parameters are not those of the network
// that was built.
func (n *Custom) MarshalJSON() ([]byte, error) {
	if err := n.sameParams(); err != nil {
		return nil, err
	}
	d, err := json.Marshal(n.Dynamics)
	if err != nil {
		return nil, err
	}
	return json.Marshal(customSettings{fmt.Sprintf("%T", n.Dynamics), d, surrogateName(n.Surrogate)})
}

// UnmarshalJSON sets the settings of the dynamics, which must be of the saved type, and the
// surrogate. It returns an error if a setting is out of range, or if NewSurrogate does not know
// the surrogate.
func (n *Custom) UnmarshalJSON(text []byte) error {
	var s customSettings
	if err := decode(text, &s); err != nil {
		return err
	}
	if expected := fmt.Sprintf("%T", n.Dynamics); s.Type != expected {
		return fmt.Errorf("dynamics %.80q: expected %s", s.Type, expected)
	}
	surrogate, err := parseSurrogate(s.Surrogate)
	if err != nil {
		return err
	}
	own := reflect.ValueOf(n.Dynamics)
	pointer := own.Kind() == reflect.Pointer
	if pointer {
		own = own.Elem()
	}
	read := reflect.New(own.Type()) // a copy, so that an error changes nothing
	read.Elem().Set(own)
	if err := decode(s.Dynamics, read.Interface()); err != nil {
		return fmt.Errorf("dynamics %s: %w", s.Type, err)
	}
	next := &Custom{Surrogate: surrogate, held: append([]*autograd.Param{}, n.params()...)}
	if pointer {
		next.Dynamics = read.Interface().(Dynamics)
	} else {
		next.Dynamics = read.Elem().Interface().(Dynamics)
	}
	if err := next.Validate(); err != nil {
		return err
	}
	if n.Surrogate = surrogate; pointer {
		own.Set(read.Elem())
	} else {
		n.Dynamics = next.Dynamics
	}
	return nil
}
