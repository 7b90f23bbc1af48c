package snn_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// whole is a neuron that cannot run step by step.
type whole struct{ *snn.LIF }

func (w whole) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	out, err := w.LIF.Describe(s, name, in)
	s.Rows[len(s.Rows)-1].Layer = w
	return out, err
}

func (w whole) NewState() {} // hides that of LIF

// backwards is an encoder that cannot encode step by step.
type backwards struct{}

func (backwards) Encode(_ *snn.Pass, x *autograd.Value) *autograd.Value { return x }

// calls is a layer that calls a neuron's Forward so many times.
type calls struct {
	n     *snn.LIF
	times int
}

func (l *calls) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	y := autograd.Add(p.Tape, x, x)
	for range l.times {
		y = l.n.Forward(p, x)
	}
	return y
}

func (l *calls) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	return l.n.Describe(s, name+".n", in)
}

// hidden is a layer of neurons that the model's Summary does not have.
type hidden struct{ *snn.LIF }

func (l hidden) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	var own snn.Summary
	return l.LIF.Describe(&own, name, in)
}

// panics is a layer that panics if it is on.
type panics struct{ on bool }

func (l *panics) Forward(_ *snn.Pass, x *autograd.Value) *autograd.Value {
	if l.on {
		panic("boom")
	}
	return x
}

func (l *panics) Describe(_ *snn.Summary, _ string, in tensor.Shape) (tensor.Shape, error) {
	return in, nil
}

// three returns a model of three inputs whose layers keep them.
func three(t *testing.T, layers ...snn.Layer) *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: 3, Height: 1, Width: 1, Steps: 4}, snn.NewSequential(layers...))
	require.NoError(t, err)
	return m
}

func ones(n int) tensor.NCHW {
	x := tensor.NewNCHW(n, 3, 1, 1)
	for i := range x.Data {
		x.Data[i] = 1
	}
	return x
}

func TestNewStreamRefuses(t *testing.T) {
	for want, fn := range map[string]func() (*snn.Model, snn.StreamConfig){
		"snn: NewStream: layer 1: snn_test.whole: expected an snn.StepNeuron, which can run step by step": func() (*snn.Model, snn.StreamConfig) {
			return three(t, snn.NewIF(), whole{snn.NewIF()}), snn.StreamConfig{}
		},
		"snn: NewStream: encoder snn_test.backwards: expected an snn.StepEncoder, which can encode step by step": func() (*snn.Model, snn.StreamConfig) {
			m := three(t, snn.NewIF())
			m.Encoder = backwards{}
			return m, snn.StreamConfig{}
		},
		"snn: NewStream: -1 inputs and 0 keys: expected a positive number of inputs, and a key for each": func() (*snn.Model, snn.StreamConfig) {
			return three(t, snn.NewIF()), snn.StreamConfig{N: -1}
		},
		"snn: NewStream: 2 inputs and 1 keys: expected a positive number of inputs, and a key for each": func() (*snn.Model, snn.StreamConfig) {
			return three(t, snn.NewIF()), snn.StreamConfig{N: 2, Keys: keys(1)}
		},
		"snn: layer 0: threshold -1: expected a positive number": func() (*snn.Model, snn.StreamConfig) {
			n := snn.NewIF()
			m := three(t, n)
			n.Threshold = -1
			return m, snn.StreamConfig{}
		},
	} {
		m, c := fn()
		_, err := m.NewStream(c)
		assert.EqualError(t, err, want)
	}
	_, err := three(t, whole{snn.NewIF()}).Logits(snn.Pass{}, ones(1))
	assert.NoError(t, err, "the whole pass of the network that NewStream refuses")
}

// A bad frame leaves the stream as it was.
func TestStreamRefusesFrames(t *testing.T) {
	m := three(t, &snn.LIF{Decay: 0.5, Threshold: 1.2, Surrogate: snn.Triangle{Width: 1}})
	s, err := m.NewStream(snn.StreamConfig{N: 2})
	require.NoError(t, err)
	_, err = s.Step(ones(2))
	require.NoError(t, err)
	nan, above, frames := ones(2), ones(2), tensor.NewFrames(tensor.Shape{N: 2, Steps: 2, C: 3, H: 1, W: 1})
	nan.Data[4], above.Data[1] = float32(math.NaN()), 1.5
	short := ones(2)
	short.Data = short.Data[:5]
	for want, x := range map[string]tensor.NCHW{
		"snn: step 1 of a stream: frames 3×3×1×1 with 9 values: expected 2×3×1×1, one frame for each input":    ones(3),
		"snn: step 1 of a stream: frames 2×4×1×1 with 8 values: expected 2×3×1×1, one frame for each input":    tensor.NewNCHW(2, 4, 1, 1),
		"snn: step 1 of a stream: frames 2×2×3×1×1 with 12 values: expected 2×3×1×1, one frame for each input": frames,
		"snn: step 1 of a stream: frames 2×3×1×1 with 5 values: expected 2×3×1×1, one frame for each input":    short,
		"snn: step 1 of a stream: image 1, value 1: NaN not a number; expected a value in [0, 1]":              nan,
		"snn: step 1 of a stream: image 0, value 1: 1.5 outside [0, 1]":                                        above,
	} {
		_, err := s.Step(x)
		assert.EqualError(t, err, want)
	}
	logits, err := s.Step(ones(2))
	require.NoError(t, err)
	assert.Equal(t, []float32{0.5, 0.5, 0.5, 0.5, 0.5, 0.5}, logits, "1 is below the threshold, and 1 + 1/2 above it")
	assert.Equal(t, []float32{1, 1, 1, 1, 1, 1}, s.Output())
}

// An error within a step stops the stream until Reset.
func TestStreamStops(t *testing.T) {
	neuron, boom := snn.NewIF(), &panics{}
	linear := snn.NewLinear(3, 3, false)
	linear.Weight.Import([]float32{1, 0, 0, 0, 1, 0, 0, 0, 1})
	m := three(t, linear, boom, neuron)
	s, err := m.NewStream(snn.StreamConfig{})
	require.NoError(t, err)
	_, err = s.Step(ones(1))
	require.NoError(t, err)
	stops := func(want string, change, back func()) {
		change()
		_, err := s.Step(ones(1))
		require.EqualError(t, err, want)
		back()
		_, err = s.Step(ones(1))
		require.EqualError(t, err, want, "until Reset")
		s.Reset()
		logits, err := s.Step(ones(1))
		require.NoError(t, err)
		require.Equal(t, []float32{1, 1, 1}, logits)
	}
	stops("snn: step 1 of a stream: layer 2: its settings have changed since the stream began: expected a new stream",
		func() { neuron.Threshold = 2 }, func() { neuron.Threshold = 1 })
	stops("snn: step 1 of a stream: the encoder is now snn.Poisson, and was snn.Direct when the stream began: expected a new stream",
		func() { m.Encoder = snn.Poisson{} }, func() { m.Encoder = snn.Direct{} })
	huge := float32(math.MaxFloat32)
	stops("snn: step 1 of a stream: layer 2: a current or membrane potential is not a finite number",
		func() { linear.Weight.Import([]float32{huge, huge, 0, 0, 1, 0, 0, 0, 1}) }, func() { linear.Weight.Import([]float32{1, 0, 0, 0, 1, 0, 0, 0, 1}) })
	assert.Panics(t, func() {
		boom.on = true
		s.Step(ones(1))
	})
	boom.on = false
	_, err = s.Step(ones(1))
	require.EqualError(t, err, "snn: a step of the stream ended in a panic: expected Reset")
	s.Reset()
	_, err = s.Step(ones(1))
	require.NoError(t, err)

	m = three(t, snn.NewLinear(3, 3, false))
	m.Params()[0].Import([]float32{huge, huge, 0, 0, 1, 0, 0, 0, 1})
	s, err = m.NewStream(snn.StreamConfig{})
	require.NoError(t, err)
	_, err = s.Step(ones(1))
	assert.EqualError(t, err, "snn: step 0 of a stream: image 0: logit 0 is +Inf: expected a finite number")
}

// Neurons of every type notice that their settings change, and take new values of parameters.
func TestStreamOfEveryNeuron(t *testing.T) {
	lif := &snn.LIF{Decay: 1, Threshold: 1, Start: 0.25, Surrogate: snn.Triangle{Width: 1}}
	glif, custom := snn.NewParamLIF(3, 1, 1), newLeaky(3, 1, 1)
	for _, c := range []struct {
		n                    snn.Neuron
		first                float32 // the potential after a step with the current 1/2
		change, back, update func()
	}{
		{lif, 0.75, func() { lif.Start = 0 }, func() { lif.Start = 0.25 }, nil},
		{glif, 0.5, func() { glif.Reset = -1 }, func() { glif.Reset = 0 }, func() { glif.Threshold.Fill(func(int) (float32, error) { return 0.5, nil }) }},
		{snn.NewCustom(custom, snn.Triangle{Width: 1}), 0.5, func() { custom.Soft = true }, func() { custom.Soft = false }, nil},
	} {
		m := three(t, c.n)
		half := ones(1)
		for i := range half.Data {
			half.Data[i] = 0.5
		}
		s, err := m.NewStream(snn.StreamConfig{})
		require.NoError(t, err)
		p, err := s.Probe("0")
		require.NoError(t, err)
		step := func() {
			_, err := s.Step(half)
			require.NoError(t, err)
		}
		for range 2 {
			step()
			assert.Equal(t, []float32{c.first, c.first, c.first}, p.Membrane.Unpack().Data, "%T", c.n)
			step()
			assert.Equal(t, 3, p.Spikes.Count(), "%T", c.n)
			s.Reset()
		}
		c.change()
		_, err = s.Step(half)
		assert.EqualError(t, err, "snn: step 0 of a stream: layer 0: its settings have changed since the stream began: expected a new stream", "%T", c.n)
		c.back()
		s.Reset()
		if step(); c.update != nil {
			s.Reset()
			c.update()
			step()
			assert.Equal(t, 3, p.Spikes.Count(), "1/2 reaches the new threshold")
		}
	}
}

// Neurons that fire twice in a step, or not at all, would leave their state behind.
func TestStreamCountsSteps(t *testing.T) {
	for times, want := range map[int]string{
		0: "snn: step 0 of a stream: layer 0.n has fired 0 times in 1 steps: expected its Forward to call snn.Fire once",
		1: "",
		2: "snn: step 0 of a stream: layer 0.n has fired 2 times in 1 steps: expected its Forward to call snn.Fire once",
	} {
		s, err := three(t, &calls{snn.NewIF(), times}).NewStream(snn.StreamConfig{})
		require.NoError(t, err)
		if _, err = s.Step(ones(1)); want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, want)
		}
	}
	s, err := three(t, hidden{snn.NewIF()}).NewStream(snn.StreamConfig{})
	require.NoError(t, err)
	_, err = s.Step(ones(1))
	assert.EqualError(t, err, "snn: step 0 of a stream: layer 0: the stream does not know these neurons: expected their Describe to add a Row with the neurons as its Layer")
}

// A changed parameter holds from the next step on: the membranes stay, the new currents add.
func TestStreamReadsParameters(t *testing.T) {
	linear := snn.NewLinear(3, 3, false)
	linear.Weight.Import([]float32{0.25, 0, 0, 0, 0.5, 0, 0, 0, 0.75})
	m := three(t, linear, snn.NewIF())
	s, err := m.NewStream(snn.StreamConfig{})
	require.NoError(t, err)
	p, err := s.Probe("1")
	require.NoError(t, err)
	_, err = s.Step(ones(1))
	require.NoError(t, err)
	assert.Equal(t, []float32{0.25, 0.5, 0.75}, p.Membrane.Unpack().Data)
	linear.Weight.Import([]float32{0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.125})
	_, err = s.Step(ones(1))
	require.NoError(t, err)
	assert.Equal(t, []float32{0.5, 0.5, 0.125}, p.Current.Unpack().Data)
	assert.Equal(t, []float32{0.75, 0, 0.875}, p.Membrane.Unpack().Data)
	assert.Equal(t, []float32{0, 1, 0}, p.Spikes.Dense().Unpack().Data)
	s.Reset()
	zero := []float32{0, 0, 0}
	assert.Equal(t, [][]float32{zero, zero, zero, zero, zero}, [][]float32{
		p.Current.Unpack().Data, p.Membrane.Unpack().Data, p.Spikes.Dense().Unpack().Data, s.Output(), s.Logits(),
	})
	assert.Zero(t, s.Steps())
}

// A probe has the currents that batch norm and neurons compute in one go otherwise.
func TestProbe(t *testing.T) {
	m := newStreamed(t, snn.Direct{})
	s, err := m.NewStream(snn.StreamConfig{})
	require.NoError(t, err)
	_, err = s.Probe("4.n3")
	assert.EqualError(t, err, `snn: Probe: no neurons have the name "4.n3": expected one of ["12" "14" "16" "2" "4.n1" "4.n2" "5" "9"]`)
	p, err := s.Probe("2")
	require.NoError(t, err)
	again, err := s.Probe("2")
	require.NoError(t, err)
	assert.Same(t, p, again)
	body := m.Body().(*snn.Sequential).Layers()
	conv, norm := body[0].(*snn.Conv2D), body[1].(*snn.BatchNorm)
	r := rng.New(3).Rand()
	want := tensor.NewDense(tensor.Shape{N: 1, Steps: 1, C: 20, H: 8, W: 8})
	membrane := make([]float32, len(want.Data))
	for range 5 {
		x := tensor.NewNCHW(1, 2, 8, 8)
		for i := range x.Data {
			x.Data[i] = r.Float32()
		}
		_, err = s.Step(x)
		require.NoError(t, err)
		var tape autograd.Tape
		v := autograd.BatchNormEval(&tape, autograd.Conv2D(&tape, tape.Leaf(x, false), conv.Weight, conv.Bias, 1, 1), &norm.BatchNormState)
		require.Equal(t, v.Dense().Data, p.Current.Data)
		for i, x := range p.Current.Data {
			membrane[i] = float32(0.9*membrane[i]) + x
			if membrane[i] >= 1 {
				membrane[i]--
			}
		}
		require.Equal(t, membrane, p.Membrane.Data)
	}
}
