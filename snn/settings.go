package snn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/autograd"
)

// settingsKey is the metadata key of a model's settings in the files of Save.
const settingsKey = "snnrat.settings"

// descriptionKey is the metadata key of package zoo's description of a network's layers.
const descriptionKey = "snnrat"

// settings are the settings of a model as JSON.
type settings struct {
	Steps      int                        `json:"steps"`
	Encoder    string                     `json:"encoder"`
	ClassNames []string                   `json:"class_names"` // nil if unknown
	Layers     map[string]json.RawMessage `json:"layers"`      // by layer name, for layers with settings
}

// configurable is a layer whose settings are saved with a model.
type configurable interface {
	json.Marshaler
	json.Unmarshaler
}

// decode sets v from JSON. It returns an error for a key that v has not: a file of a later version may
// have a setting without which the network is another.
func decode(text []byte, v any) error {
	if err := json.Unmarshal(text, new(json.RawMessage)); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// settings returns the model's settings as JSON.
func (m *Model) settings() (string, error) {
	s := settings{m.Steps, encoderName(m.Encoder), m.ClassNames(), map[string]json.RawMessage{}}
	if err := m.validateClassNames(s.ClassNames); err != nil {
		return "", err
	}
	for _, r := range m.summary.Rows {
		l, ok := r.Layer.(configurable)
		if !ok {
			continue
		}
		text, err := l.MarshalJSON()
		if err != nil {
			return "", fmt.Errorf("settings of layer %s: %w", r.Name, err)
		}
		s.Layers[r.Name] = text
	}
	text, err := json.Marshal(s)
	return string(text), err
}

// SetSettings reads a model's settings from meta, the metadata of a file that Save wrote. It
// sets the number of steps, the encoder, the names of the classes, and the settings of
// neurons, batch norm and dropout. If meta has no settings, SetSettings changes nothing.
//
// SetSettings returns an error if the settings are unknown, those of another network or out of range.
// The error names the layer and the value. The model may be partly changed then and must not
// be used.
func (m *Model) SetSettings(meta map[string]string) error {
	text, ok := meta[settingsKey]
	if !ok {
		return nil
	}
	s := settings{ClassNames: m.ClassNames()} // files of earlier versions have none
	if err := decode([]byte(text), &s); err != nil {
		return fmt.Errorf("metadata %s: %w", settingsKey, err)
	}
	if err := validateSteps(s.Steps); err != nil {
		return fmt.Errorf("metadata %s: %w", settingsKey, err)
	}
	encoder, ok := parseEncoder(s.Encoder)
	if !ok {
		return fmt.Errorf("metadata %s: encoder %.80q: expected direct, poisson, frequencies or stochastic quantization; build a network with another encoder and use Model.Load", settingsKey, s.Encoder)
	}
	if err := m.validateClassNames(s.ClassNames); err != nil {
		return fmt.Errorf("metadata %s: %w", settingsKey, err)
	}
	m.Steps, m.Encoder, m.Config.ClassNames = s.Steps, encoder, s.ClassNames
	for _, r := range m.summary.Rows {
		l, ok := r.Layer.(configurable)
		if !ok {
			continue
		}
		text, ok := s.Layers[r.Name]
		if !ok {
			return fmt.Errorf("metadata %s: no settings of layer %s", settingsKey, r.Name)
		}
		if err := l.UnmarshalJSON(text); err != nil {
			return fmt.Errorf("metadata %s: layer %s: %w", settingsKey, r.Name, err)
		}
		delete(s.Layers, r.Name)
	}
	if rest := slices.Sorted(maps.Keys(s.Layers)); len(rest) > 0 {
		return fmt.Errorf("metadata %s: settings of layer %.80q: the network has no layer of that name with settings", settingsKey, rest[0])
	}
	return m.validateSettings()
}

// validateSettings returns an error that names the first layer whose settings are out of
// range. A caller can change the fields of a layer at any time, so each pass checks them.
func (m *Model) validateSettings() error {
	if m.Encoder == nil {
		return errors.New("snn: Config.Encoder is nil: expected one such as Direct{}")
	}
	for _, r := range m.summary.Rows {
		l, ok := r.Layer.(interface{ Validate() error })
		if !ok {
			continue
		}
		if err := l.Validate(); err != nil {
			return fmt.Errorf("snn: layer %s: %w", r.Name, err)
		}
	}
	return nil
}

// encoderName returns the name of an encoder in files.
func encoderName(e Encoder) string {
	switch e := e.(type) {
	case Direct:
		return "direct"
	case Poisson:
		return "poisson"
	case StochasticQuantization:
		return fmt.Sprintf("%s %d", quantization, e.Levels)
	case FrequencyEncoding:
		return "frequencies"
	}
	return fmt.Sprintf("%T", e)
}

// quantization begins the name of a StochasticQuantization in files.
const quantization = "stochastic quantization"

// parseEncoder returns the encoder of a name in files.
func parseEncoder(name string) (e Encoder, ok bool) {
	switch name {
	case "direct":
		return Direct{}, true
	case "poisson":
		return Poisson{}, true
	case "frequencies":
		return FrequencyEncoding{}, true
	}
	levels, ok := strings.CutPrefix(name, quantization+" ")
	n, err := strconv.Atoi(levels)
	return StochasticQuantization{n}, ok && err == nil && n >= 1
}

// neuronSettings are the settings of a LIF as JSON.
type neuronSettings struct {
	Decay       float32 `json:"decay"`
	Threshold   float32 `json:"threshold"`
	SoftReset   bool    `json:"soft_reset,omitempty"`
	DetachReset bool    `json:"detach_reset,omitempty"`
	Surrogate   string  `json:"surrogate"`
	Reset       float32 `json:"reset,omitempty"`
	Start       float32 `json:"start,omitempty"`
	DecayInput  bool    `json:"decay_input,omitempty"`
}

// MarshalJSON returns the neuron's settings. A surrogate of NewSurrogate is what its String
// returns. Another one is its Go type, which UnmarshalJSON refuses.
func (n *LIF) MarshalJSON() ([]byte, error) {
	return json.Marshal(neuronSettings{n.Decay, n.Threshold, n.SoftReset, n.DetachReset, surrogateName(n.Surrogate), n.Reset, n.Start, n.DecayInput})
}

// UnmarshalJSON sets the neuron's settings. It returns an error if a setting is out of range,
// or if NewSurrogate does not know the surrogate.
func (n *LIF) UnmarshalJSON(text []byte) error {
	var s neuronSettings
	if err := decode(text, &s); err != nil {
		return err
	}
	surrogate, err := parseSurrogate(s.Surrogate)
	if err != nil {
		return err
	}
	n.Decay, n.Threshold, n.SoftReset, n.DetachReset, n.Surrogate = s.Decay, s.Threshold, s.SoftReset, s.DetachReset, surrogate
	n.Reset, n.Start, n.DecayInput = s.Reset, s.Start, s.DecayInput
	return n.Validate()
}

// surrogateName returns the text of s in files: what its String returns if NewSurrogate makes
// the same surrogate of it, and the Go type of s otherwise.
func surrogateName(s Surrogate) string {
	text := fmt.Sprint(s)
	if known, err := parseSurrogate(text); err == nil && reflect.Indirect(reflect.ValueOf(s)).Interface() == any(known) {
		return text
	}
	return fmt.Sprintf("%T", s)
}

// parseSurrogate returns the surrogate whose String returns text.
func parseSurrogate(text string) (Surrogate, error) {
	name, value, _ := strings.Cut(text, " ")
	var parameter float32
	if _, err := fmt.Sscan(value, &parameter); err != nil {
		return nil, fmt.Errorf("surrogate %.80q: expected a name and a number, as in \"triangle 1\"", text)
	}
	return NewSurrogate(name, parameter)
}

// batchNormSettings are the settings of a BatchNorm as JSON.
type batchNormSettings struct {
	Eps      float32 `json:"eps"`
	Momentum float32 `json:"momentum"`
}

// MarshalJSON returns Eps and Momentum.
func (l *BatchNorm) MarshalJSON() ([]byte, error) {
	return json.Marshal(batchNormSettings{l.Eps, l.Momentum})
}

// UnmarshalJSON sets Eps and Momentum. It returns an error if Eps is not positive or
// Momentum not in [0,1].
func (l *BatchNorm) UnmarshalJSON(text []byte) error {
	nan := float32(math.NaN()) // refused, if the text has no value
	s := batchNormSettings{nan, nan}
	if err := decode(text, &s); err != nil {
		return err
	}
	state := autograd.BatchNormState{Eps: s.Eps, Momentum: s.Momentum}
	if err := validateBatchNorm(&state); err != nil {
		return err
	}
	l.Eps, l.Momentum = s.Eps, s.Momentum
	return nil
}

// Validate returns an error if Eps or Momentum is out of range.
func (l *BatchNorm) Validate() error { return validateBatchNorm(&l.BatchNormState) }

// validateBatchNorm returns an error if Eps or Momentum is out of range.
func validateBatchNorm(s *autograd.BatchNormState) error {
	if !(s.Eps > 0) || s.Eps-s.Eps != 0 {
		return fmt.Errorf("batch norm's eps %v: expected a positive number", s.Eps)
	}
	if !(s.Momentum >= 0 && s.Momentum <= 1) {
		return fmt.Errorf("batch norm's momentum %v: expected a number in [0, 1]", s.Momentum)
	}
	return nil
}

// dropoutSettings are the settings of a Dropout as JSON.
type dropoutSettings struct {
	P         float32 `json:"p"`
	EveryStep bool    `json:"every_step,omitempty"`
}

// MarshalJSON returns P and EveryStep.
func (l *Dropout) MarshalJSON() ([]byte, error) {
	return json.Marshal(dropoutSettings{l.P, l.EveryStep})
}

// UnmarshalJSON sets P and EveryStep. It returns an error if P is not in [0,1).
func (l *Dropout) UnmarshalJSON(text []byte) error {
	s := dropoutSettings{P: float32(math.NaN())} // refused, if the text has no value
	if err := decode(text, &s); err != nil {
		return err
	}
	l.P, l.EveryStep = s.P, s.EveryStep
	return l.Validate()
}
