package snn

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Config holds the settings of a model, without its layers.
type Config struct {
	Channels, Height, Width int       // shape of an image
	Steps                   int       // T, the number of time steps, from 1 to 65536
	Mean, Std               []float32 // [Channels], by which images are normalized; nil for none
	Encoder                 Encoder   // nil for Direct
	ClassNames              []string  // [classes], in the order of the logits; nil if unknown
}

// Model is a spiking neural network. It maps images with values in [0,1] to logits, which
// are the mean over time of the last layer's output. The package comment has a table of its
// methods.
//
// Several goroutines may use a model at a time while none of them changes its parameters,
// gradients or settings. A pass with Train set changes the running statistics of batch norm.
type Model struct {
	Config
	// Threads bounds the goroutines of an operation. 0 stands for GOMAXPROCS. Results do
	// not depend on it.
	Threads int
	// Meta holds metadata by key. Save and Load include it.
	Meta map[string]string

	body      Layer
	mean, std *autograd.Param
	classes   int
	params    int // number of trained values
	summary   Summary

	mu    sync.Mutex
	tapes []*autograd.Tape // idle ones, which keep their memory for the next pass
}

// NewModel returns a model of a layer, body, which is usually a [Sequential]. The output of
// body must have one pixel. Its channels are the classes. The weights of convolutions and
// linear layers are zero until Init or Load.
//
// NewModel returns an error that names the layer or the field that does not fit.
func NewModel(cfg Config, body Layer) (*Model, error) {
	if cfg.Channels < 1 || cfg.Height < 1 || cfg.Width < 1 {
		return nil, fmt.Errorf("snn: images of %d×%d×%d: expected positive extents", cfg.Channels, cfg.Height, cfg.Width)
	}
	if cfg.Encoder == nil {
		cfg.Encoder = Direct{}
	}
	m := &Model{Config: cfg, body: body}
	if err := validateSteps(cfg.Steps); err != nil {
		return nil, err
	}
	if (cfg.Mean == nil) != (cfg.Std == nil) {
		return nil, errors.New("snn: mean and standard deviation: expected both or neither")
	}
	if cfg.Mean != nil {
		if len(cfg.Mean) != cfg.Channels || len(cfg.Std) != cfg.Channels {
			return nil, fmt.Errorf("snn: %d means and %d standard deviations for %d channels", len(cfg.Mean), len(cfg.Std), cfg.Channels)
		}
		for c, s := range cfg.Std {
			if mean := cfg.Mean[c]; !(s > 0) || s-s != 0 || mean-mean != 0 {
				return nil, fmt.Errorf("snn: channel %d: mean %v, standard deviation %v: expected finite numbers, the latter positive", c, mean, s)
			}
		}
		m.mean, m.std = autograd.NewBuffer(cfg.Channels), autograd.NewBuffer(cfg.Channels)
		m.mean.Name, m.std.Name = "mean", "std"
		m.mean.Import(cfg.Mean)
		m.std.Import(cfg.Std)
	}
	out, err := describe(&m.summary, body, "", tensor.Shape{N: 1, Steps: 1, C: cfg.Channels, H: cfg.Height, W: cfg.Width})
	if err != nil {
		return nil, fmt.Errorf("snn: %w", err)
	}
	if out.Pixels() != 1 {
		return nil, fmt.Errorf("snn: the network ends in %d×%d×%d: expected one pixel of classes", out.C, out.H, out.W)
	}
	m.classes = out.C
	if err := m.validateClassNames(cfg.ClassNames); err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, p := range m.State() {
		if p.Name == "" {
			return nil, fmt.Errorf("snn: a parameter of shape %v has no name: expected its layer's Describe to set one", p.Shape)
		}
		if named[p.Name] {
			return nil, fmt.Errorf("snn: two parameters are named %s: expected every layer once, under a name of its own", p.Name)
		}
		named[p.Name] = true
	}
	layers := map[string]bool{}
	for _, r := range m.summary.Rows {
		if _, ok := r.Layer.(configurable); !ok {
			continue
		}
		if layers[r.Name] { // their spikes, random numbers and settings go by the name
			return nil, fmt.Errorf("snn: two layers are named %q: expected a name of its own for each", r.Name)
		}
		layers[r.Name] = true
	}
	for _, p := range m.Params() {
		m.params += p.Len()
	}
	return m, nil
}

// mostSteps bounds T. Memory grows with T, and T can come from a file.
const mostSteps = 1 << 16

// validateSteps returns an error if a number of steps is out of range.
func validateSteps(steps int) error {
	if steps < 1 {
		return fmt.Errorf("snn: %d time steps: expected at least 1", steps)
	}
	if steps > mostSteps {
		return fmt.Errorf("snn: %d time steps: expected at most %d", steps, mostSteps)
	}
	return nil
}

// Init draws the parameters. All random numbers come from key.
func (m *Model) Init(key rng.Key) {
	if l, ok := m.body.(Initializer); ok {
		l.Init(key.Derive("init", 0))
	}
}

// Body returns the layer that NewModel was given.
func (m *Model) Body() Layer { return m.body }

// Classes returns the number of classes. An image has one logit for each class.
func (m *Model) Classes() int { return m.classes }

// ClassNames returns the name of each class, in the order of the logits, or nil if they
// are unknown.
func (m *Model) ClassNames() []string { return m.Config.ClassNames }

// Normalization returns the mean and the standard deviation of each channel, by which the
// model normalizes images, or nil for none. After Load they are those of the file, while the
// fields Mean and Std of Config are what NewModel was given.
func (m *Model) Normalization() (mean, std []float32) {
	if m.mean == nil {
		return nil, nil
	}
	return m.mean.Export(), m.std.Export()
}

// Summary returns the layers with their shapes and parameters.
func (m *Model) Summary() *Summary { return &m.summary }

// Params returns the trained parameters in the order of their layers.
func (m *Model) Params() []*autograd.Param {
	return slices.DeleteFunc(m.State(), func(p *autograd.Param) bool { return !p.Trainable })
}

// ValidateParams checks all parameters and buffers. It returns an error that names the
// first bad one. A parameter or buffer is bad if a value is not finite, if v + eps ≤ 0 for
// a running variance v, or if a standard deviation is not positive.
//
// Such values could otherwise go unnoticed, because a neuron never fires if its current is
// NaN.
func (m *Model) ValidateParams() error {
	eps := map[*autograd.Param]float32{} // batch norm's Eps by running variance
	for _, r := range m.summary.Rows {
		if l, ok := r.Layer.(*BatchNorm); ok {
			eps[l.RunningVar] = l.Eps
		}
	}
	for _, p := range m.State() {
		e, variance := eps[p]
		if !variance && p != m.std && kernel.Finite(p.Data(), m.Threads) {
			continue
		}
		i := 0
		for v := range p.Values() {
			switch {
			case v-v != 0:
				return fmt.Errorf("snn: %s: value %d is %v: expected a finite number", p.Name, i, v)
			case variance && !(v+e > 0):
				return fmt.Errorf("snn: %s: value %d is %v: expected a variance that is positive with batch norm's eps, %v", p.Name, i, v, e)
			case p == m.std && !(v > 0):
				return fmt.Errorf("snn: %s: value %d is %v: expected a positive number", p.Name, i, v)
			}
			i++
		}
	}
	return nil
}

// ConvexParams returns the weights of convex combinations. Package train projects them onto
// the probability simplex after each update.
func (m *Model) ConvexParams() (ps []*autograd.Param) {
	for _, r := range m.summary.Rows {
		if r.Convex {
			ps = append(ps, r.Params...)
		}
	}
	return ps
}

// State returns all parameters and buffers in the order of their layers. Those of the
// normalization, mean and std, come first.
func (m *Model) State() (ps []*autograd.Param) {
	if m.mean != nil {
		ps = append(ps, m.mean, m.std)
	}
	for _, r := range m.summary.Rows {
		ps = append(ps, r.Params...)
	}
	return ps
}

// Peak returns the largest amount of memory, in bytes, that a pass has needed for values and
// gradients. It does not count parameters and their gradients. If passes ran side by side,
// Peak returns the sum of their peaks. It does not count passes that are running, or that ended
// before FreeMemory was called.
func (m *Model) Peak() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	peak := 0
	for _, t := range m.tapes {
		peak += t.Peak()
	}
	return peak
}

// FreeMemory gives back the memory that passes have left for the passes that follow: that of
// values and gradients, and the kernels' scratch memory, which all models of the program share.
// The garbage collector frees it. Later passes have the same results; the first of them allocates
// memory anew. Passes that run at the time keep theirs until the next call.
//
// Passes that repeat need no call. Without one, memory of which 64 passes in a row needed less
// than a quarter is given back, too. A [Stream] keeps its own memory until it is dropped.
func (m *Model) FreeMemory() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tapes = nil
	kernel.FreeMemory()
}

// ValidateImages returns an error if x is empty or does not have the shape of the model's
// images. It returns one that names the value if a value is not a number in [0,1]. It also
// returns an error if x has several frames, but not one for each of the model's steps.
func (m *Model) ValidateImages(x tensor.NCHW) error { return m.validateImages(x, m.Steps) }

// validateImages is ValidateImages for a pass of the given number of steps.
func (m *Model) validateImages(x tensor.NCHW, steps int) error {
	if x.C != m.Channels || x.H != m.Height || x.W != m.Width || x.N < 1 {
		return fmt.Errorf("snn: images %v: expected N×%d×%d×%d with N ≥ 1", x, m.Channels, m.Height, m.Width)
	}
	if err := validateFrames(x.Steps, steps); err != nil {
		return err
	}
	if len(x.Data) != x.N*x.Pixels() {
		return fmt.Errorf("snn: images %v with %d values: expected %d", x, len(x.Data), x.N*x.Pixels())
	}
	if err := x.ValidateRange(0, 1); err != nil {
		return fmt.Errorf("snn: %w", err)
	}
	return nil
}

// validateFrames returns an error if examples of so many frames do not fit a number of time
// steps. 0 and 1 frames stand for an image.
func validateFrames(frames, steps int) error {
	if frames < 0 || frames > 1 && frames != steps {
		return fmt.Errorf("snn: %d frames for %d time steps: expected a frame for each step, or one image for all of them", frames, steps)
	}
	return nil
}
