package snn

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
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
// Peak returns the sum of their peaks. It does not count passes that are running.
func (m *Model) Peak() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	peak := 0
	for _, t := range m.tapes {
		peak += t.Peak()
	}
	return peak
}

// ValidateImages returns an error if x does not have the shape of the model's images, if it
// is empty, or if a value is not a number in [0,1]. The error names that value.
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

// Forward records the network on p.Tape and returns the logits, a value of N images with
// one step, Classes channels and one pixel. x holds the images and is a leaf of p.Tape.
//
// Forward is for callers with a tape of their own. Logits and the gradient calls check more
// and do more. Forward needs p.Tape, p.Steps, p.Gradient and, if the encoding or a layer is
// random, p.Keys. It validates neither images nor settings. The caller checks p.Err
// for an error of a layer.
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

// InputGradient returns the gradient of a loss with respect to the images x, in x's shape.
//
// InputGradient runs the network on x, and calls fn once with the logits, row-major
// [N, classes]. fn returns the gradient of the loss with respect to the logits, in the same
// layout. If fn returns nil, InputGradient makes no backward pass and returns no gradient,
// the zero value of NCHW.
//
// The pass p may be the zero value: [Pass] has the defaults. InputGradient replaces p.Tape.
//
// InputGradient returns an error if ValidateImages refuses x, or if a setting of p or of a
// layer is out of range. It also returns one if a current, a membrane potential or a logit
// is not a finite number. It does not call fn then. It also returns an error if no gradient
// reaches the images. It panics if the numbers of keys and images differ, or if fn returns
// another number of values than N·classes.
func (m *Model) InputGradient(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) (tensor.NCHW, error) {
	if err := m.validateRun(&p, x); err != nil {
		return tensor.NCHW{}, err
	}
	return m.run(p, x, true, false, fn)
}

// ParamGradients is like InputGradient, but computes the gradients of the parameters and
// not that of the images. It adds to what Param.Grad holds. The caller calls
// Param.ClearGrad before, to start from zero. If p.FusedUpdate is set, it receives some of
// the gradients instead.
func (m *Model) ParamGradients(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) error {
	if err := m.validateRun(&p, x); err != nil {
		return err
	}
	_, err := m.run(p, x, false, true, fn)
	return err
}

// Gradients does in one pass what InputGradient and ParamGradients do in two. It returns the
// gradient of the images, and adds to the gradients of the parameters.
func (m *Model) Gradients(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) (tensor.NCHW, error) {
	if err := m.validateRun(&p, x); err != nil {
		return tensor.NCHW{}, err
	}
	return m.run(p, x, true, true, fn)
}

// Logits runs the network on the images x and returns the logits, row-major [N, classes].
// The zero Pass is an ordinary evaluation. Unless p.Train is set, the logits of an image do
// not depend on the other images.
//
// Logits splits a batch into chunks, as ForEachChunk does, so its memory does not grow with
// N. With OnSpikes or Train, it runs the whole batch at once.
//
// Logits returns an error if ValidateImages refuses x, or if a setting of p or of a layer
// is out of range. It also returns one if a current, a membrane potential or a logit is not
// a finite number. It panics if the numbers of keys and images differ.
func (m *Model) Logits(p Pass, x tensor.NCHW) ([]float32, error) {
	err := m.validateRun(&p, x)
	if err != nil {
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
		err = run(0, x.N, p)
	} else {
		err = m.ForEachChunk(x.N, p, run)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// The sizes of chunks, in frames (images × steps). A small network runs one chunk of
// fewFrames on each thread, so that values stay in its cache. A network with more than
// fewParams parameters, or more than fewFrames steps, runs one chunk of manyFrames at a time
// on all threads. That is enough frames to make up for reading the parameters.
const (
	fewParams  = 4 << 20
	fewFrames  = 32
	manyFrames = 128
)

// ForEachChunk splits n images into chunks and calls fn for each of them. A chunk is the
// images lo to hi − 1. fn makes its passes with the given p, in which Steps and Threads are
// set. The Keys of p are still those of all images.
//
// ForEachChunk bounds the memory of work that treats each image on its own. A chunk has about
// 128 frames (images × steps), and at least one image. In a model of at most 2²²
// parameters and at most 32 steps, a chunk has about 32 frames, and chunks run side by side:
// fn is called from several goroutines, with p.Threads = 1.
//
// ForEachChunk returns an error if a setting of p or of a layer is out of range. Otherwise it
// calls fn for all chunks, and returns the error of the first chunk that has one.
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
	first := func(i int) int { return int(int64(n) * int64(i) / int64(parts)) }
	parallel.For(side, parts, func(i int) { errs[i] = fn(first(i), first(i+1), p) })
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// setDefaults sets the steps and threads of a pass to the model's where they are 0. It
// returns an error if a setting of the pass or of a layer is out of range.
func (m *Model) setDefaults(p *Pass) error {
	if p.Steps == 0 {
		p.Steps = m.Steps
	}
	if p.Threads == 0 {
		p.Threads = m.Threads
	}
	if err := m.validateSettings(); err != nil {
		return err
	}
	return validateSteps(p.Steps)
}

// validateRun checks a pass over the images x, and sets its defaults except Gradient.
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

// run makes a pass that validateRun has checked. input and params say which gradients it
// computes. A panic of the caller's code leaves the tape to the garbage collector, since an
// operation on its way holds memory that Reset does not free.
func (m *Model) run(p Pass, x tensor.NCHW, input, params bool, fn func(logits []float32) []float32) (grad tensor.NCHW, err error) {
	if p.Gradient == nil {
		p.Gradient = BPTT{}
	}
	p.Tape = m.tape()
	grad, err = m.runOn(&p, x, input, params, fn)
	m.idle(p.Tape)
	return grad, err
}

// runOn is run on p.Tape.
func (m *Model) runOn(p *Pass, x tensor.NCHW, input, params bool, fn func(logits []float32) []float32) (grad tensor.NCHW, err error) {
	p.Tape.Params, p.Tape.Threads, p.Tape.FusedUpdate = params, p.Threads, p.FusedUpdate
	in := p.Tape.Leaf(x, input)
	out := m.Forward(p, in)
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

// tape returns an idle tape, or a new one. It takes the tape with the most memory, so that
// the others need not grow.
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

// idle takes a tape back for later passes.
func (m *Model) idle(t *autograd.Tape) {
	t.Reset()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tapes = append(m.tapes, t)
}
