package snn

import (
	"encoding/json"
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// This file has the states of this package's neurons in a [Stream].

// changed fails the pass because the settings of neurons are no longer those of NewState.
func changed(p *Pass, layer string) {
	p.Fail(fmt.Errorf("layer %s: its settings have changed since the stream began: expected a new stream", layer))
}

// settings returns n without what a forward pass does not depend on.
func (n *LIF) settings() LIF {
	s := *n
	s.DetachReset, s.Surrogate = false, nil
	return s
}

// NewState implements [StepNeuron].
func (n *LIF) NewState(currents tensor.Shape) (NeuronState, error) {
	began := n.settings()
	same := func() bool { return n.settings() == began }
	if g := n.general(); n.special() {
		return &glifState{name: n.name, same: same, neurons: g, state: autograd.NewGLIFState(g, currents)}, nil
	}
	return &lifState{n, same, n.dynamics(), tensor.NewDense(currents)}, nil
}

type lifState struct {
	n        *LIF
	same     func() bool // whether the settings are those of NewState
	dynamics autograd.Dynamics
	membrane *tensor.Dense
}

func (s *lifState) FireStep(p *Pass, x *autograd.Value) *autograd.Value {
	if !s.same() {
		changed(p, s.n.name)
	}
	return autograd.FireStep(p.Tape, x, s.dynamics, s.membrane)
}

func (s *lifState) Membrane() *tensor.Dense { return s.membrane }

func (s *lifState) Reset() { clear(s.membrane.Data) }

// settings returns n without what a forward pass does not depend on.
func (n *GLIF) settings() GLIF {
	s := *n
	s.DetachReset, s.Surrogate, s.tensors = false, nil, nil
	return s
}

// NewState implements [StepNeuron].
func (n *GLIF) NewState(currents tensor.Shape) (NeuronState, error) {
	began := n.settings()
	s := &glifState{name: n.name, same: func() bool { return n.settings() == began }, update: n.Dynamics}
	for _, q := range n.params() {
		s.params = append(s.params, q.p)
		s.versions = append(s.versions, q.p.Version())
	}
	s.neurons = n.Dynamics()
	s.state = autograd.NewGLIFState(s.neurons, currents)
	if n.allToAll() {
		s.w, s.last = n.Recurrent, tensor.NewSpikes(currents)
	}
	return s, nil
}

type glifState struct {
	name    string
	same    func() bool // whether the settings are those of NewState
	neurons autograd.GLIF
	state   *autograd.GLIFState

	// update computes neurons from parameters. It runs if a version has changed.
	update   func() autograd.GLIF
	params   []*autograd.Param
	versions []uint64

	w    *autograd.Param // of a layer that is recurrent over all channels, or nil
	last *tensor.Spikes  // its spikes in the last step
}

func (s *glifState) FireStep(p *Pass, x *autograd.Value) *autograd.Value {
	if !s.same() {
		changed(p, s.name)
	}
	s.read()
	if s.w != nil {
		return autograd.FireGLIFRecurrentStep(p.Tape, x, s.neurons, s.w, s.state, s.last)
	}
	return autograd.FireGLIFSteps(p.Tape, x, s.neurons, 1, s.state)
}

// read updates neurons if a parameter has changed.
func (s *glifState) read() {
	current := true
	for i, p := range s.params {
		current = current && p.Version() == s.versions[i]
		s.versions[i] = p.Version()
	}
	if !current {
		s.neurons = s.update()
	}
}

func (s *glifState) Membrane() *tensor.Dense { return s.state.Membrane() }

func (s *glifState) Reset() {
	s.read()
	s.state.Clear(s.neurons)
	if s.last != nil {
		clear(s.last.Bits)
	}
}

// settings returns the settings of the dynamics as text.
func (n *Custom) settings() string {
	text, err := json.Marshal(n.Dynamics)
	if err != nil {
		return n.Dynamics.String()
	}
	return string(text)
}

// NewState implements [StepNeuron].
func (n *Custom) NewState(currents tensor.Shape) (NeuronState, error) {
	return &customState{n, n.settings(), autograd.NewNeuronModelState(n.Dynamics, currents)}, nil
}

type customState struct {
	n     *Custom
	began string // the settings of NewState
	state *autograd.NeuronModelState
}

func (s *customState) FireStep(p *Pass, x *autograd.Value) *autograd.Value {
	if s.n.settings() != s.began {
		changed(p, s.n.name)
	}
	return autograd.FireModelStep(p.Tape, x, s.n.Dynamics, s.n.params(), s.state)
}

// Membrane returns the first state.
func (s *customState) Membrane() *tensor.Dense {
	if z := s.state.States(); len(z) > 0 {
		return z[0]
	}
	return nil
}

func (s *customState) Reset() { s.state.Clear() }
