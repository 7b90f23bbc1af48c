package snn

import (
	"errors"
	"fmt"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
)

// Forward records the network on p.Tape and returns the logits, a value of N images with
// one step, Classes channels and one pixel. x is a leaf of p.Tape. It holds images, with one
// step, or frames, with p.Steps steps.
//
// Forward is for callers with a tape of their own. Logits and the gradient calls check more
// and do more. Forward needs p.Tape, p.Steps, p.Gradient and, if the encoding or a layer is
// random, p.Keys. It validates neither images nor settings. The caller checks p.Err
// for an error of a layer.
func (m *Model) Forward(p *Pass, x *autograd.Value) *autograd.Value {
	out := m.forward(p, x)
	logits := autograd.MeanOverTime(p.Tape, out)
	if logits != out {
		p.Tape.Release(out)
	}
	return logits
}

// forward is Forward without the mean over time. It returns the output of the last layer.
func (m *Model) forward(p *Pass, x *autograd.Value) *autograd.Value {
	return m.afterEncoder(p, x, p.Gradient.Encode(p, m.Encoder, x))
}

// afterEncoder is forward from the encoding in of x on.
func (m *Model) afterEncoder(p *Pass, x, in *autograd.Value) *autograd.Value {
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
	return out
}

// InputGradient returns the gradient of a loss with respect to the images x, in x's shape.
// If x holds frames, it has a gradient for each of them.
//
// InputGradient runs the network on x, and calls fn once with the logits, row-major
// [N, classes]. fn returns the gradient of the loss with respect to the logits, in the same
// layout. If fn returns nil, InputGradient makes no backward pass and returns no gradient,
// the zero value of NCHW.
//
// The pass p may be the zero value: [Pass] has the defaults. InputGradient replaces p.Tape.
//
// InputGradient returns an error if ValidateImages refuses x, for p.Steps in place of the
// model's steps. It returns an error if a setting of p or of a layer is out of range. It also returns one if a current, a membrane potential or a logit
// is not a finite number. It does not call fn then. It also returns an error if no gradient
// reaches the images. It panics if the numbers of keys and images differ, or if fn returns
// another number of values than N·classes.
func (m *Model) InputGradient(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) (tensor.NCHW, error) {
	if err := m.validateRun(&p, x); err != nil {
		return tensor.NCHW{}, err
	}
	return m.run(p, x, OfImages, false, ofMean(fn))
}

// ParamGradients is like InputGradient, but computes the gradients of the parameters and
// not that of the images. It adds to what Param.Grad holds. The caller calls
// Param.ClearGrad before, to start from zero. If p.FusedUpdate is set, it receives some of
// the gradients instead.
func (m *Model) ParamGradients(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) error {
	if err := m.validateRun(&p, x); err != nil {
		return err
	}
	_, err := m.run(p, x, OfParams, false, ofMean(fn))
	return err
}

// Gradients does in one pass what InputGradient and ParamGradients do in two. It returns the
// gradient of the images, and adds to the gradients of the parameters.
func (m *Model) Gradients(p Pass, x tensor.NCHW, fn func(logits []float32) []float32) (tensor.NCHW, error) {
	if err := m.validateRun(&p, x); err != nil {
		return tensor.NCHW{}, err
	}
	return m.run(p, x, OfImages|OfParams, false, ofMean(fn))
}

// Logits runs the network on the images x and returns the logits, row-major [N, classes].
// The zero Pass is an ordinary evaluation. Unless p.Train is set, the logits of an image do
// not depend on the other images.
//
// Logits splits a batch into chunks, as ForEachChunk does, so its memory does not grow with
// N. With OnSpikes, OnNeurons or Train, it runs the whole batch at once.
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
		_, err := m.run(p, x.Slice(lo, hi), 0, false, func(o Output) ([]float32, error) {
			copy(out[lo*m.classes:], o.Mean)
			return nil, nil
		})
		if err != nil && lo > 0 {
			return fmt.Errorf("images from %d on: %w", lo, err)
		}
		return err
	}
	if p.OnSpikes != nil || p.OnNeurons != nil || p.Train {
		err = run(0, x.N, p)
	} else {
		err = m.ForEachChunk(x.Shape(), p, run)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// The sizes of chunks, in frames, see Chunks. A small network runs one chunk of
// fewFrames on each thread, so that values stay in its cache. A network with more than
// fewParams parameters, or more than fewFrames steps, runs one chunk of manyFrames at a time
// on all threads. That is enough frames to make up for reading the parameters.
const (
	fewParams  = 4 << 20
	fewFrames  = 32
	manyFrames = 128
)

// ForEachChunk splits images of the shape x into chunks and calls fn for each of them. A chunk is
// the images lo to hi − 1. fn makes its passes with the given p, in which Steps and Threads are
// set. The Keys of p are still those of all images.
//
// ForEachChunk bounds the memory of work that treats each image on its own. A chunk has at most
// 128 frames, see Chunks, and at least one image. In a model of at most 2²² parameters and at most
// 32 steps, a chunk has at most 32 frames, and chunks run side by side. fn is then called from
// several goroutines, and each pass has one thread. It has more if there are at least twice as many
// threads as chunks.
//
// ForEachChunk returns an error if a setting of p or of a layer is out of range. Otherwise it
// calls fn for all chunks, and returns the error of the first chunk that has one.
func (m *Model) ForEachChunk(x tensor.Shape, p Pass, fn func(lo, hi int, p Pass) error) error {
	images, workers, err := m.Chunks(&p, x)
	if err != nil {
		return err
	}
	n := x.N
	parts := (n + images - 1) / images
	p.Threads *= max(1, workers/max(1, parts)) // threads without a chunk of their own
	errs := make([]error, parts)
	first := func(i int) int { return int(int64(n) * int64(i) / int64(parts)) }
	parallel.For(workers, parts, func(i int) { errs[i] = fn(first(i), first(i+1), p) })
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Chunks is for callers that split work on images of the shape x themselves, and not as
// ForEachChunk does. It returns the number of images of a chunk, at least 1, and the number of
// chunks to run side by side, at least 1. It sets the Steps and Threads of p for a pass over a
// chunk. x.N does not count.
//
// An image counts as p.Steps frames. Under a gradient approximation without time, such as [CBA], it
// counts as the frames that it has itself: one, or x.Steps.
//
// Chunks returns an error if a setting of the pass or of a layer is out of range.
func (m *Model) Chunks(p *Pass, x tensor.Shape) (images, workers int, err error) {
	if err := m.setDefaults(p); err != nil {
		return 0, 0, err
	}
	frames := p.Steps // of an image
	if withoutTime(p.Gradient) {
		frames = max(1, x.Steps)
	}
	if m.params <= fewParams && p.Steps <= fewFrames {
		workers, p.Threads = parallel.Threads(p.Threads), 1
		return max(1, fewFrames/frames), workers, nil
	}
	return max(1, manyFrames/frames), 1, nil
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
	if err := m.validateImages(x, p.Steps); err != nil {
		return err
	}
	if p.Keys == nil {
		p.Keys = fixedKeys(x.N)
	}
	if len(p.Keys) != x.N {
		panic(fmt.Sprintf("snn: %d keys for %d images", len(p.Keys), x.N))
	}
	return nil
}

// run makes a pass that validateRun has checked. It computes the gradients that wrt asks for.
// steps says whether fn gets the logits of every step. A panic of the caller's code leaves the
// tape to the garbage collector, since an operation on its way holds memory that Reset does
// not free.
func (m *Model) run(p Pass, x tensor.NCHW, wrt Wrt, steps bool, fn func(Output) ([]float32, error)) (grad tensor.NCHW, err error) {
	if p.Gradient == nil {
		p.Gradient = BPTT{}
	}
	p.Tape = m.tape()
	var before map[*autograd.Param][]float32 // the buffers that the pass may change
	if p.Train && (p.Parts == nil || p.Parts.First()) {
		before = map[*autograd.Param][]float32{}
		for _, b := range m.State() {
			if !b.Trainable {
				before[b] = slices.Clone(b.Data())
			}
		}
	}
	if grad, err = m.runOn(&p, x, wrt, steps, fn); err != nil {
		for b, values := range before {
			copy(b.MutableData(), values)
		}
	}
	m.idle(p.Tape)
	return grad, err
}

// runOn is run on p.Tape.
func (m *Model) runOn(p *Pass, x tensor.NCHW, wrt Wrt, steps bool, fn func(Output) ([]float32, error)) (grad tensor.NCHW, err error) {
	p.Tape.Params, p.Tape.Threads, p.Tape.FusedUpdate = wrt&OfParams != 0, p.Threads, p.FusedUpdate
	p.Tape.Parts = p.Parts
	var in *autograd.Value
	if x.Steps > 1 && m.takesSpikes(x) {
		in = p.Tape.LeafSpikes(x, wrt&OfImages != 0)
	} else {
		in = p.Tape.Leaf(x, wrt&OfImages != 0)
	}
	last := m.forward(p, in)
	mean := autograd.MeanOverTime(p.Tape, last)
	if last != mean {
		if steps {
			spikes := last
			if last = autograd.Densify(p.Tape, last); last != spikes {
				p.Tape.Release(spikes)
			}
		} else {
			p.Tape.Release(last)
		}
	}
	if p.Tape.TakeNonFinite() {
		p.Fail(errors.New("the input of a layer is not a finite number"))
	}
	if err := p.Err(); err != nil {
		return grad, fmt.Errorf("snn: %w", err)
	}
	o := Output{N: x.N, Classes: m.classes, Mean: mean.Dense().Unpack().Data}
	for i, v := range o.Mean { // which is no number if that of a step is none
		if v-v != 0 {
			return grad, fmt.Errorf("snn: image %d: logit %d is %v: expected a finite number", i/m.classes, i%m.classes, v)
		}
	}
	if steps {
		o.Steps, o.Logits = last.Shape().Steps, o.Mean
		if last != mean {
			o.Logits = last.Dense().Unpack().Data
		}
	}
	seed, err := fn(o)
	if seed == nil || err != nil {
		return grad, err
	}
	if steps && last != mean && len(seed) == len(o.Logits) {
		g := tensor.NewDense(last.Shape())
		g.Pack(tensor.NCHW{N: g.Frames(), C: g.C, H: 1, W: 1, Data: seed})
		p.Tape.BackwardFrom(last, g)
	} else {
		p.Tape.Backward(mean, seed)
	}
	if err := p.Err(); err != nil {
		return grad, fmt.Errorf("snn: %w", err)
	}
	if wrt&OfImages != 0 {
		g := in.Grad()
		if g == nil {
			return grad, errors.New("snn: no gradient reaches the images: a layer has a result that is not recorded as an operation on its input")
		}
		grad = everyFrame(g, x)
	}
	return grad, nil
}

// takesSpikes reports whether the model can read the frames x as spikes: they have the values
// 0 and 1, and it neither encodes nor normalizes them.
func (m *Model) takesSpikes(x tensor.NCHW) bool {
	_, direct := m.Encoder.(Direct)
	return direct && m.mean == nil &&
		!slices.ContainsFunc(x.Data, func(v float32) bool { return v != 0 && v != 1 })
}

// everyFrame returns the gradient g of x in x's shape. g has one step if all frames of x
// have the same gradient.
func everyFrame(g *tensor.Dense, x tensor.NCHW) tensor.NCHW {
	grad := g.Unpack()
	if steps := x.Shape().Steps; steps > g.Steps {
		one := grad
		grad = tensor.NewFrames(x.Shape())
		frame := one.Pixels()
		for i := range x.N * steps {
			copy(grad.Data[i*frame:], one.Image(i/steps))
		}
	}
	grad.Steps = x.Steps
	return grad
}

// tape returns an idle tape, or a new one. It takes the tape with the most memory, so that the
// others need not grow. Of equal ones it takes the one that had the most in use.
func (m *Model) tape() *autograd.Tape {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.tapes) == 0 {
		return new(autograd.Tape)
	}
	most := 0
	for i, t := range m.tapes {
		if b := m.tapes[most]; t.Size() > b.Size() || t.Size() == b.Size() && t.Peak() > b.Peak() {
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
