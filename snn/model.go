package snn

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Config is what a model needs beside its layers.
type Config struct {
	Channels, Height, Width int       // of its images
	Steps                   int       // T from 1 to 65536
	Mean, Std               []float32 // of each channel; images are normalized by them. nil for none
	Encoder                 Encoder   // nil stands for Direct
	// ClassNames holds the name of each class, in the order of the logits; nil if they are
	// unknown.
	ClassNames []string
}

// Model is a spiking network: images with values in [0,1] in, logits out, the mean
// over time of what its last layer puts out. Its methods may be called from several
// goroutines as long as nothing changes the parameters.
type Model struct {
	Config
	// Threads bounds the goroutines of an operation; 0 stands for GOMAXPROCS. Results
	// do not depend on it.
	Threads int
	// Meta is saved and loaded with the model's state.
	Meta map[string]string

	body      Layer
	mean, std *autograd.Param
	classes   int
	params    int // numbers in Params
	summary   Summary

	mu    sync.Mutex
	tapes []*autograd.Tape // idle, with their memory
}

// NewModel builds a model of a body of layers, which must end in one pixel of
// classes. It returns an error that names the layer or the field that does not fit.
// Parameters are zero until Init.
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
			if !(s > 0) || math.IsInf(float64(s), 0) || math.IsNaN(float64(cfg.Mean[c])) {
				return nil, fmt.Errorf("snn: channel %d: mean %v, standard deviation %v: expected numbers, the latter positive", c, cfg.Mean[c], s)
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
	if cfg.ClassNames != nil && len(cfg.ClassNames) != m.classes {
		return nil, fmt.Errorf("snn: %d names for the %d classes that the network ends in", len(cfg.ClassNames), m.classes)
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
	for _, p := range m.Params() {
		m.params += p.Len()
	}
	return m, nil
}

// mostSteps bounds T, which a file can ask for and memory grows with.
const mostSteps = 1 << 16

func validateSteps(steps int) error {
	if steps < 1 {
		return fmt.Errorf("snn: %d time steps: expected at least 1", steps)
	}
	if steps > mostSteps {
		return fmt.Errorf("snn: %d time steps: expected at most %d", steps, mostSteps)
	}
	return nil
}

// Init draws the parameters from key.
func (m *Model) Init(key rng.Key) {
	if l, ok := m.body.(Initializer); ok {
		l.Init(key.Derive("init", 0))
	}
}

// Body returns the layers, as they were given to NewModel.
func (m *Model) Body() Layer { return m.body }

// Classes returns the number of classes, which is that of the logits of an image.
func (m *Model) Classes() int { return m.classes }

// ClassNames returns the name of each class, in the order of the logits, or nil if they
// are unknown.
func (m *Model) ClassNames() []string { return m.Config.ClassNames }

// Summary describes the layers.
func (m *Model) Summary() *Summary { return &m.summary }

// Params returns the trained parameters in the order of their layers.
func (m *Model) Params() []*autograd.Param {
	return slices.DeleteFunc(m.State(), func(p *autograd.Param) bool { return !p.Trainable })
}

// ValidateParams returns an error that names a parameter or running statistic with a
// value that is not finite, a running variance v with v + eps ≤ 0, or a standard deviation
// that is not positive. Spikes do not show them: a neuron whose current is NaN never fires.
func (m *Model) ValidateParams() error {
	eps := map[*autograd.Param]float32{} // of running variances
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

// ConvexParams returns the weights of convex combinations, which training keeps on
// the probability simplex.
func (m *Model) ConvexParams() (ps []*autograd.Param) {
	for _, r := range m.summary.Rows {
		if r.Convex {
			ps = append(ps, r.Params...)
		}
	}
	return ps
}

// State returns all parameters and buffers, in the order of their layers.
func (m *Model) State() (ps []*autograd.Param) {
	if m.mean != nil {
		ps = append(ps, m.mean, m.std)
	}
	for _, r := range m.summary.Rows {
		ps = append(ps, r.Params...)
	}
	return ps
}

// Peak returns the largest amount of memory, in bytes, that the values and gradients of
// a pass have taken at a time, beside the parameters and theirs; the sum of those of
// passes that were made side by side.
func (m *Model) Peak() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	peak := 0
	for _, t := range m.tapes {
		peak += t.Peak()
	}
	return peak
}

// ValidateImages returns an error if x's shape is not that of the model's images, or
// if it names a value that is not a number in [0,1].
func (m *Model) ValidateImages(x tensor.NCHW) error {
	if x.C != m.Channels || x.H != m.Height || x.W != m.Width || x.N < 1 {
		return fmt.Errorf("snn: images %v: expected N×%d×%d×%d with N ≥ 1", x, m.Channels, m.Height, m.Width)
	}
	if len(x.Data) != x.N*x.Pixels() {
		return fmt.Errorf("snn: images %v with %d values: expected %d", x, len(x.Data), x.N*x.Pixels())
	}
	if err := x.ValidateRange(0, 1); err != nil {
		return fmt.Errorf("snn: %w", err)
	}
	return nil
}

// Forward records the network on p's tape and returns its logits, of shape
// N×1×classes×1×1. x is a leaf of p's tape that holds the images.
func (m *Model) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	in := p.Gradient.Encode(p, m.Encoder, x)
	h := in
	if m.mean != nil {
		h = autograd.Normalize(p.Tape, in, m.mean, m.std)
		if in != x {
			p.Tape.Release(in)
		}
	}
	out := m.body.Forward(p, h)
	if h != x && h != out {
		p.Tape.Release(h)
	}
	logits := autograd.MeanOverTime(p.Tape, out)
	if logits != out {
		p.Tape.Release(out)
	}
	return logits
}

// InputGradient makes a pass over the images x and calls fn with its logits, row-major
// [N, classes]. p says how: all its fields but Tape are the caller's; 0 Steps and Threads
// stand for the model's, nil Keys for ones derived from the images' places in the batch, a nil
// Gradient for BPTT. What fn returns is the gradient of a loss by the logits, [N, classes];
// InputGradient carries it back and returns the loss's gradient by the images. If fn returns
// nil there is none.
//
// It returns an error if the images do not fit the model or hold a value that is not
// a number in [0,1].
func (m *Model) InputGradient(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) (tensor.NCHW, error) {
	if err := m.validateRun(&p, x); err != nil {
		return tensor.NCHW{}, err
	}
	return m.run(p, x, true, false, fn)
}

// ParamGradients is InputGradient for the parameters' gradients instead of the images'; they are
// added to what the parameters hold since ClearGrad.
func (m *Model) ParamGradients(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) error {
	if err := m.validateRun(&p, x); err != nil {
		return err
	}
	_, err := m.run(p, x, false, true, fn)
	return err
}

// Gradients is InputGradient and ParamGradients in one pass: it returns the images' gradient and adds
// to the parameters'.
func (m *Model) Gradients(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) (tensor.NCHW, error) {
	if err := m.validateRun(&p, x); err != nil {
		return tensor.NCHW{}, err
	}
	return m.run(p, x, true, true, fn)
}

// Logits evaluates the network on the images x and returns its logits, row-major
// [N, classes]. The zero Pass stands for an ordinary evaluation; the caller may set all
// fields of p but Tape, as for InputGradient. In evaluation mode, the logits of an image
// do not depend on the other images. Errors are those of InputGradient.
//
// A pass without OnSpikes and without Train is split into chunks; see ForEachChunk.
func (m *Model) Logits(p Pass, x tensor.NCHW) ([]float32, error) {
	if err := m.validateRun(&p, x); err != nil {
		return nil, err
	}
	out := make([]float32, x.N*m.classes)
	run := func(lo, hi int, p Pass) error {
		p.Keys = p.Keys[lo:hi]
		_, err := m.run(p, x.Slice(lo, hi), false, false, func(logits []float32) []float32 {
			copy(out[lo*m.classes:], logits)
			return nil
		})
		if err != nil && lo > 0 {
			return fmt.Errorf("images from %d on: %w", lo, err)
		}
		return err
	}
	if p.OnSpikes != nil || p.Train {
		return out, run(0, x.N, p)
	}
	return out, m.ForEachChunk(x.N, p, run)
}

// A network of few parameters is evaluated in parts of fewFrames frames, images × steps, as
// many side by side as there are threads: their values stay in a cache. Another one, or
// more steps than that, in parts of manyFrames, one after the other, with all threads:
// enough to spread the cost of reading the parameters.
const (
	fewParams  = 4 << 20
	fewFrames  = 32
	manyFrames = 128
)

// ForEachChunk calls fn for ranges of n images, from lo to hi−1, that cover them, with p for a
// pass over each, and returns the error of the first range that has one. 0 Steps and
// Threads of p stand for the model's.
//
// What is to be known of each image alone needs no more memory then, however many images
// there are, than 128 frames (images × steps) do, or one image. A model of at most 2²²
// parameters has ranges of 32 frames, if that is an image or more, on each thread: fn is
// called from several goroutines at a time, and p bids it use one thread.
func (m *Model) ForEachChunk(n int, p Pass, fn func(lo, hi int, p Pass) error) error {
	if err := m.setDefaults(&p); err != nil {
		return err
	}
	frames, side := manyFrames, 1
	if m.params <= fewParams && p.Steps <= fewFrames {
		frames, side, p.Threads = fewFrames, p.Threads, 1
	}
	parts := min(n, (n*p.Steps+frames-1)/frames)
	errs := make([]error, parts)
	parallel.For(side, parts, func(i int) { errs[i] = fn(n*i/parts, n*(i+1)/parts, p) })
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// setDefaults fills in the steps and threads of a pass, and checks its settings.
func (m *Model) setDefaults(p *Pass) error {
	if p.Steps == 0 {
		p.Steps = m.Steps
	}
	if p.Threads == 0 {
		p.Threads = m.Threads
	}
	if g, ok := p.Gradient.(BPTT); ok && g.Surrogate != nil {
		if err := validateSurrogate(g.Surrogate); err != nil {
			return fmt.Errorf("snn: BPTT: %w", err)
		}
	}
	if err := m.validateSettings(); err != nil {
		return err
	}
	return validateSteps(p.Steps)
}

// validateRun checks a pass over x, and fills in what it leaves to the model.
func (m *Model) validateRun(p *Pass, x tensor.NCHW) error {
	if err := m.setDefaults(p); err != nil {
		return err
	}
	if err := m.ValidateImages(x); err != nil {
		return err
	}
	if p.Keys == nil {
		p.Keys = make([]rng.Key, x.N)
		for i := range p.Keys {
			p.Keys[i] = rng.New(0).Derive("image", uint64(i))
		}
	}
	if len(p.Keys) != x.N {
		panic(fmt.Sprintf("snn: %d keys for %d images", len(p.Keys), x.N))
	}
	return nil
}

// run makes a checked pass.
func (m *Model) run(p Pass, x tensor.NCHW, input, params bool, fn func(logits []float32) []float32) (grad tensor.NCHW, err error) {
	if p.Gradient == nil {
		p.Gradient = BPTT{}
	}
	p.Tape = m.tape()
	defer m.idle(p.Tape)
	p.Tape.Params, p.Tape.Threads, p.Tape.FusedUpdate = params, p.Threads, p.FusedUpdate
	in := p.Tape.Leaf(x, input)
	out := m.Forward(&p, in)
	if p.Tape.TakeNonFinite() {
		p.Fail(errors.New("the input of a max pooling layer is not a finite number"))
	}
	if p.err != nil {
		return grad, fmt.Errorf("snn: %w", p.err)
	}
	logits := out.Dense().Unpack().Data
	for i, v := range logits {
		if v-v != 0 {
			return grad, fmt.Errorf("snn: image %d: logit %d is %v: expected a finite number", i/m.classes, i%m.classes, v)
		}
	}
	seed := fn(logits)
	if seed == nil {
		return grad, nil
	}
	p.Tape.Backward(out, seed)
	if input {
		g := in.Grad()
		if g == nil {
			return grad, errors.New("snn: no gradient reaches the images: a layer has a result that is not recorded as an operation on its input")
		}
		grad = g.Unpack()
	}
	return grad, nil
}

// tape returns an idle tape: the one that has the most memory, so that others stay as
// small as passes side by side need them.
func (m *Model) tape() *autograd.Tape {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.tapes) == 0 {
		return new(autograd.Tape)
	}
	most := 0
	for i, t := range m.tapes {
		if t.Peak() > m.tapes[most].Peak() {
			most = i
		}
	}
	t := m.tapes[most]
	m.tapes = slices.Delete(m.tapes, most, most+1)
	return t
}

func (m *Model) idle(t *autograd.Tape) {
	t.Reset()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tapes = append(m.tapes, t)
}
