package snn

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// StreamConfig holds the settings of a [Stream].
type StreamConfig struct {
	// N is the number of inputs that run side by side, such as cameras. A step takes a frame
	// of each. 0 stands for 1.
	N int
	// Keys holds a key for each input, [N], as Pass.Keys does for each image. Nil stands for
	// the keys that nil stands for there.
	Keys []rng.Key
	// Threads bounds the goroutines of an operation. 0 stands for Model.Threads. Results do
	// not depend on it.
	Threads int
}

// Stream runs a model step by step, on frames that arrive one after the other. It holds what
// the neurons carry from one step to the next. [Model.NewStream] returns one.
//
// After T steps, the logits are those that [Model.Logits] returns for the same T frames and
// keys, bit by bit. They are also those of an image for all T steps, if every step gets it as
// its frame and the network has neurons. Batch norm uses its running statistics, and dropout
// does nothing.
//
// Any number of streams of one model may run side by side. A single stream is for one
// goroutine at a time. Parameters and buffers are read at every step: a change of theirs holds
// from the next step on, for all streams. As for every use of a model, nothing may change them
// during a step. The settings of neurons and the encoder must stay as they are; a step after
// such a change fails.
//
// Once warm, a step with Threads = 1 allocates no memory, if the network has no [Custom] and
// layers from outside of this package allocate none. With more threads, an operation that is split allocates what its goroutines
// share, a few hundred bytes.
type Stream struct {
	model   *Model
	frame   tensor.Shape // of a step's frames
	encoder StepEncoder
	tape    *autograd.Tape
	pass    Pass
	layers  []*streamed
	byName  map[string]*streamed
	derived map[string][]rng.Key // Pass.keys by purpose

	steps               int
	sum, output, logits []float32 // [N, classes]; sum is that of the outputs so far
	err                 error     // of the step after which the stream is unusable, or nil
}

// StepNeuron is a neuron that can run step by step. A [Stream] needs it.
type StepNeuron interface {
	Neuron
	// NewState returns the neurons' state before the first step. currents is the shape of
	// their input currents, with one step. NewState returns an error if neurons with these
	// settings cannot run step by step.
	NewState(currents tensor.Shape) (NeuronState, error)
}

// NeuronState is what a layer of neurons carries from one step to the next in one [Stream].
type NeuronState interface {
	// FireStep runs the next step with the currents x, which have one step, and returns the
	// spikes. It fails the pass if the neurons' settings are no longer those of NewState.
	FireStep(p *Pass, x *autograd.Value) *autograd.Value
	// Membrane returns the membrane potentials after the last step and its reset. They are in
	// the state's own memory, which later steps overwrite. Membrane returns nil if the neurons
	// have none.
	Membrane() *tensor.Dense
	// Reset makes the state that before the first step.
	Reset()
}

// Probe holds what the neurons of one layer did in the last step of a [Stream]. Shapes are
// [N, 1, C, H, W] with the C, H and W of the layer. The next step overwrites the values.
type Probe struct {
	Current  *tensor.Dense  // the input currents
	Membrane *tensor.Dense  // the membrane potentials after the step and its reset, or the first state of a [Custom]; nil if there are none
	Spikes   *tensor.Spikes // the output
}

// streamed is a layer of neurons in a stream.
type streamed struct {
	name  string
	state NeuronState
	shape tensor.Shape // of its currents
	steps int          // that it has run
	probe *Probe       // or nil
}

// NewStream returns a stream before its first step.
//
// NewStream returns an error that names the layer if the network has neurons that are no
// [StepNeuron], or a layer whose method ValidateStream returns an error. It names the encoder if
// that is no [StepEncoder]. It also returns an error if a setting is out of range.
func (m *Model) NewStream(c StreamConfig) (*Stream, error) {
	if c.N == 0 {
		c.N = 1
	}
	if c.Keys == nil && c.N > 0 {
		c.Keys = fixedKeys(c.N)
	}
	if c.N < 0 || len(c.Keys) != c.N {
		return nil, fmt.Errorf("snn: NewStream: %d inputs and %d keys: expected a positive number of inputs, and a key for each", c.N, len(c.Keys))
	}
	if err := m.validateSettings(); err != nil {
		return nil, err
	}
	encoder, ok := m.Encoder.(StepEncoder)
	if !ok {
		return nil, fmt.Errorf("snn: NewStream: encoder %T: expected an snn.StepEncoder, which can encode step by step", m.Encoder)
	}
	if c.Threads == 0 {
		c.Threads = m.Threads
	}
	values := make([]float32, 3*c.N*m.classes)
	s := &Stream{
		model: m, frame: tensor.Shape{N: c.N, Steps: 1, C: m.Channels, H: m.Height, W: m.Width},
		encoder: encoder, tape: new(autograd.Tape), byName: map[string]*streamed{}, derived: map[string][]rng.Key{},
		sum: values[:c.N*m.classes], output: values[c.N*m.classes:][:c.N*m.classes], logits: values[2*c.N*m.classes:],
	}
	s.pass = Pass{Steps: 1, Gradient: BPTT{}, Threads: c.Threads, Keys: slices.Clone(c.Keys), stream: s}
	for _, r := range m.summary.Rows {
		if l, ok := r.Layer.(interface{ ValidateStream() error }); ok {
			if err := l.ValidateStream(); err != nil {
				return nil, fmt.Errorf("snn: NewStream: layer %s: %w", r.Name, err)
			}
		}
		if n, ok := r.Layer.(Neuron); ok {
			if err := s.add(n, r.In); err != nil {
				return nil, fmt.Errorf("snn: NewStream: layer %s: %w", n.Name(), err)
			}
		}
	}
	return s, nil
}

// add adds a layer of neurons with currents of the given shape for one image.
func (s *Stream) add(n Neuron, in tensor.Shape) error {
	step, ok := n.(StepNeuron)
	if !ok {
		return fmt.Errorf("%T: expected an snn.StepNeuron, which can run step by step", n)
	}
	if s.byName[n.Name()] != nil {
		return errors.New("another layer of neurons has this name: expected a name of its own for each")
	}
	in.N = s.frame.N
	state, err := step.NewState(in)
	if err != nil {
		return err
	}
	l := &streamed{name: n.Name(), state: state, shape: in}
	s.layers = append(s.layers, l)
	s.byName[l.name] = l
	return nil
}

// Reset brings the stream back to before its first step. It also makes a stream usable that
// an error of Step has stopped.
func (s *Stream) Reset() {
	if s.err != nil { // operations that did not finish hold memory of the tape
		s.tape, s.err = new(autograd.Tape), nil
	}
	s.steps = 0
	clear(s.output)
	clear(s.logits)
	for _, l := range s.layers {
		l.state.Reset()
		l.steps = 0
		if p := l.probe; p != nil {
			clear(p.Current.Data)
			clear(p.Spikes.Bits)
		}
	}
}

// Steps returns the number of steps since NewStream or Reset.
func (s *Stream) Steps() int { return s.steps }

// Output returns the output of the network in the last step, row-major [N, classes]. The next
// step overwrites it.
func (s *Stream) Output() []float32 { return s.output }

// Logits returns the mean of the outputs of all steps so far, row-major [N, classes]. It is
// what the last call of Step returned. The next step overwrites it.
func (s *Stream) Logits() []float32 { return s.logits }

// Probe returns what a layer of neurons does in every step from now on. layer is its name in
// the model's Summary, such as features.2. A step copies the currents and the spikes of such
// layers alone. Probe returns an error that lists the layers of neurons if there is none of
// that name.
func (s *Stream) Probe(layer string) (*Probe, error) {
	l := s.byName[layer]
	if l == nil {
		return nil, fmt.Errorf("snn: Probe: no neurons have the name %q: expected one of %q", layer, slices.Sorted(maps.Keys(s.byName)))
	}
	if l.probe == nil {
		l.probe = &Probe{tensor.NewDense(l.shape), l.state.Membrane(), tensor.NewSpikes(l.shape)}
	}
	return l.probe, nil
}

// errPanic stops a stream that a panic of a layer has left within a step.
var errPanic = errors.New("snn: a step of the stream ended in a panic: expected Reset")

// Step runs the next step on a frame of each input: x has the N of the stream, one frame for
// each, and values in [0,1]. It returns the logits, see [Stream.Logits].
//
// Step returns an error if a frame has another size than the model's images or a value outside
// of [0,1]. The stream is then as it was before. It also returns an error if a setting of the
// network has changed, or if a current, a membrane potential or a logit is not a finite number.
// The stream then stays unusable until Reset: Step returns the same error.
func (s *Stream) Step(x tensor.NCHW) ([]float32, error) {
	if s.err != nil {
		return nil, s.err
	}
	if err := s.validate(x); err != nil {
		return nil, err
	}
	step := s.steps
	s.err = errPanic
	if s.err = s.run(x); s.err != nil {
		s.err = fmt.Errorf("snn: step %d of a stream: %w", step, s.err)
		return nil, s.err
	}
	return s.logits, nil
}

// validate checks the frames of a step.
func (s *Stream) validate(x tensor.NCHW) error {
	f := s.frame
	if x.Shape() != f || len(x.Data) != f.N*f.Neurons() {
		return fmt.Errorf("snn: step %d of a stream: frames %v with %d values: expected %d×%d×%d×%d, one frame for each input", s.steps, x, len(x.Data), f.N, f.C, f.H, f.W)
	}
	if err := x.ValidateRange(0, 1); err != nil {
		return fmt.Errorf("snn: step %d of a stream: %w", s.steps, err)
	}
	return nil
}

// run is Step for frames that validate has checked.
func (s *Stream) run(x tensor.NCHW) error {
	m, p := s.model, &s.pass
	if have := reflect.TypeOf(m.Encoder); have != reflect.TypeOf(s.encoder) {
		return fmt.Errorf("the encoder is now %v, and was %T when the stream began: expected a new stream", have, s.encoder)
	}
	p.Tape, p.err = s.tape, nil
	s.tape.Reset()
	s.tape.Threads = p.Threads
	var in *autograd.Value
	if m.takesSpikes(x) {
		in = s.tape.LeafSpikes(x, false)
	} else {
		in = s.tape.Leaf(x, false)
	}
	out := autograd.Densify(s.tape, m.afterEncoder(p, in, s.encoder.EncodeStep(p, in, s.steps)))
	if s.tape.TakeNonFinite() {
		p.Fail(errors.New("the input of a layer is not a finite number"))
	}
	if err := p.Err(); err != nil {
		return err
	}
	s.steps++
	for _, l := range s.layers {
		if l.steps != s.steps {
			return fmt.Errorf("layer %s has fired %d times in %d steps: expected its Forward to call snn.Fire once", l.name, l.steps, s.steps)
		}
	}
	return s.take(out)
}

// take adds the output of a step to the logits, in the order of autograd.MeanOverTime.
func (s *Stream) take(out *autograd.Value) error {
	data, classes, n := s.tape.Floats(out), s.model.classes, s.frame.N
	scale := 1 / float32(s.steps)
	for i := range s.output {
		v := data[(i%classes/tensor.Lanes*n+i/classes)*tensor.Lanes+i%classes%tensor.Lanes]
		s.output[i] = v
		if s.steps > 1 {
			v += s.sum[i]
		}
		s.sum[i] = v
		s.logits[i] = v * scale
		if v-v != 0 {
			return fmt.Errorf("image %d: logit %d is %v: expected a finite number", i/classes, i%classes, v)
		}
	}
	return nil
}

// fire runs the next step of the neurons n.
func (s *Stream) fire(n Neuron, x *autograd.Value) *autograd.Value {
	p, l := &s.pass, s.byName[n.Name()]
	switch sh := x.Shape(); {
	case l == nil:
		p.Fail(fmt.Errorf("layer %s: the stream does not know these neurons: expected their Describe to add a Row with the neurons as its Layer", n.Name()))
		return n.FireThroughTime(p, x, nil)
	case sh != l.shape:
		p.Fail(fmt.Errorf("layer %s: currents %v: expected %v, one step of the Row that Describe has added", n.Name(), sh, l.shape))
		return n.FireThroughTime(p, x, nil)
	}
	if l.probe != nil {
		x = autograd.Densify(s.tape, x)
		copy(l.probe.Current.Data, s.tape.Floats(x))
	}
	y := l.state.FireStep(p, x)
	l.steps++
	if l.probe != nil {
		if bits := s.tape.Words(y); bits != nil {
			copy(l.probe.Spikes.Bits, bits)
		}
	}
	return y
}

// keys is Pass.keys. It derives the keys once.
func (s *Stream) keys(purpose string) []rng.Key {
	ks, ok := s.derived[purpose]
	if !ok {
		ks = derived(s.pass.Keys, purpose)
		s.derived[purpose] = ks
	}
	return ks
}
