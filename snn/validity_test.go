package snn_test

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/paramfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// A value that is not finite makes every kind of pass fail, with the name of the layer of
// neurons that would have hidden it.
func TestNonFiniteCurrents(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, gradient := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}, snn.CBA{}} {
		for _, bad := range []float32{float32(math.NaN()), inf, -inf} {
			m := newModel(t, defaults())
			w := m.Params()[0]
			v := w.Export()
			v[3] = bad
			w.Import(v)
			none := func(logits []float32) []float32 { t.Error("logits are handed out"); return nil }
			_, err := m.Logits(snn.Pass{Gradient: gradient}, images(m, 3))
			assert.ErrorContains(t, err, "layer features.2: a current or membrane potential is not a finite number", "%v %v", gradient, bad)
			_, err = m.InputGradient(snn.Pass{Gradient: gradient}, images(m, 3), none)
			assert.ErrorContains(t, err, "layer features.2: ")
			err = m.ParamGradients(snn.Pass{Gradient: gradient, Train: true}, images(m, 3), none)
			assert.ErrorContains(t, err, "layer features.2: ")
		}
	}
	// Finite weights whose products overflow.
	m := newModel(t, defaults())
	w := m.Params()[0]
	v := w.Export()
	for i := range v {
		v[i] = 3e38 * float32(1-2*(i%2))
	}
	w.Import(v)
	require.NoError(t, m.ValidateParams())
	_, err := m.Logits(snn.Pass{}, images(m, 1))
	assert.ErrorContains(t, err, "layer features.2: ")

	m = newModel(t, defaults())
	m.Params()[len(m.Params())-1].Import([]float32{0, 0, inf, 0, 0})
	_, err = m.Logits(snn.Pass{}, images(m, 70))
	assert.ErrorContains(t, err, "image 0: logit 2 is +Inf: expected a finite number")
}

// Max pooling would hide −∞ and NaN, where no neurons follow it too.
func TestNonFiniteMaxPool(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		c := snn.NewConv2D(1, 2, 1, 1, 0, true)
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 2, Width: 2, Steps: 2}, snn.NewSequential(c, snn.MaxPool{K: 2}, snn.NewLinear(2, 2, true)))
		require.NoError(t, err)
		x := images(m, 2)
		x.Data[5] = 0
		c.Weight.Import([]float32{1, 3e38})
		c.Bias.Import([]float32{0, bad})
		_, err = m.Logits(snn.Pass{}, x)
		assert.ErrorContains(t, err, "layer 1: an input is not a finite number", "%v", bad)
	}
}

// What would make currents NaN is refused when it is loaded, and the model stays as it was.
func TestLoadRefusesInvalidStatistics(t *testing.T) {
	m := newModel(t, defaults())
	before, err := m.Logits(snn.Pass{}, images(m, 2))
	require.NoError(t, err)
	for suffix, bad := range map[string]float32{"features.1.running_var": -2e-5, "block.bn2.running_var": -1e-5, "std": 0} {
		other := newModel(t, defaults())
		for _, p := range other.State() {
			if p.Name == suffix {
				v := p.Export()
				v[1] = bad
				p.Import(v)
			}
		}
		assert.ErrorContains(t, other.ValidateParams(), suffix+": value 1 is ")
		path := filepath.Join(t.TempDir(), "m.safetensors")
		require.NoError(t, other.Save(path))
		assert.ErrorContains(t, m.Load(path), suffix+": value 1 is ")
	}
	after, err := m.Logits(snn.Pass{}, images(m, 2))
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

// Every parameter of a surrogate that is accepted has a finite derivative, positive at the
// threshold.
func TestSurrogateParameters(t *testing.T) {
	u := []float32{0, 1e-30, 1e-6, 0.5, -0.5, 1, 100, -100}
	d := make([]float32, len(u))
	refused := 0
	for _, name := range []string{"triangle", "rectangle", "sigmoid", "arctan", "fast_sigmoid", "exponential", "dampened_exponential"} {
		for _, v := range []float32{1e-45, 1e-38, 1e-30, 1e-20, 1e-10, 1, 1e10, 1e20, 1e30, 1e38} {
			s, err := snn.NewSurrogate(name, v)
			if err != nil {
				refused++
				continue
			}
			s.Derivative(d, u)
			assert.Greater(t, d[0], float32(0), "%v", s)
			for i := range d {
				assert.Zero(t, d[i]-d[i], "%v at %v", s, u[i])
			}
		}
	}
	// Seven triangles whose 1/Width² is no positive float32, and 1e-45 for a rectangle, whose
	// 1/Width is infinite, and for a sigmoid and an arctan, whose heights round to zero.
	assert.Equal(t, 10, refused)
}

// wrapped is a surrogate of a caller's.
type wrapped struct{ snn.Surrogate }

func TestSurrogatesAreValidatedBehindPointersAndWrappers(t *testing.T) {
	m := newModel(t, defaults())
	for _, s := range []snn.Surrogate{
		&snn.Triangle{}, wrapped{snn.Triangle{Width: 1e20}}, &wrapped{snn.Sigmoid{Alpha: -1}}, &snn.FastSigmoid{Slope: -0.3}, (*snn.Arctan)(nil),
	} {
		n := snn.NewIF()
		n.Surrogate = s
		assert.ErrorContains(t, n.Validate(), "surrogate", "%T", s)
		_, err := m.Logits(snn.Pass{Gradient: snn.BPTT{Surrogate: s}}, images(m, 1))
		assert.ErrorContains(t, err, "surrogate", "%T", s)
	}
	require.NoError(t, (&snn.LIF{Decay: 1, Threshold: 1, Surrogate: wrapped{&snn.Triangle{Width: 2}}}).Validate())
}

// Settings that are out of range when a pass begins are refused, whenever they were set.
func TestChangedSettingsAreValidated(t *testing.T) {
	n := snn.NewIF()
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 2}, snn.NewSequential(n))
	require.NoError(t, err)
	n.Threshold = -1
	_, err = m.Logits(snn.Pass{}, images(m, 1))
	assert.ErrorContains(t, err, "layer 0: threshold -1")
}

// What is saved is what the network is, whatever was changed since it was built.
func TestSettingsAreSaved(t *testing.T) {
	build := func() (*snn.Model, *snn.LIF, *snn.Dropout, *snn.BatchNorm) {
		n, d, b := snn.NewIF(), &snn.Dropout{P: 0.1}, snn.NewBatchNorm(2)
		m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewSequential(b, n, d))
		require.NoError(t, err)
		return m, n, d, b
	}
	m, n, d, b := build()
	m.Steps, m.Encoder = 5, snn.Poisson{}
	n.Decay, n.Threshold, n.SoftReset, n.DetachReset, n.Surrogate = 0.3, 0.7, true, true, snn.Arctan{Alpha: 2.5}
	d.P, d.EveryStep = 0.4, true
	b.Eps, b.Momentum = 1e-3, 0.5
	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, m.Save(path))

	other, on, od, ob := build()
	require.NoError(t, other.Load(path))
	assert.Equal(t, 2, other.Steps, "Load leaves settings alone")
	assert.NotContains(t, fmt.Sprint(other.Meta), "settings")
	var notes []string
	require.NoError(t, other.LoadWith(path, snn.LoadOptions{Note: func(s string) { notes = append(notes, s) }}))
	require.Len(t, notes, 1)
	assert.Contains(t, notes[0], `the settings of the file are not taken over: it has {"steps":5,`)
	require.NoError(t, other.LoadWith(path, snn.LoadOptions{Settings: true}))
	require.NoError(t, other.LoadWith(path, snn.LoadOptions{Note: func(s string) { t.Error(s) }}), "they are the same")
	assert.Equal(t, m.Steps, other.Steps)
	assert.Equal(t, m.Encoder, other.Encoder)
	for _, pair := range [][2]interface{ MarshalJSON() ([]byte, error) }{{n, on}, {d, od}, {b, ob}} {
		want, err := pair[0].MarshalJSON()
		require.NoError(t, err)
		got, err := pair[1].MarshalJSON()
		require.NoError(t, err)
		assert.JSONEq(t, string(want), string(got))
	}
	assert.Equal(t, n.Surrogate, on.Surrogate)

	n.Surrogate = wrapped{snn.Triangle{Width: 1}} // its String is triangle's
	require.NoError(t, m.Save(path))
	assert.ErrorContains(t, other.SetSettings(meta(t, path)), `layer 1: surrogate "snn_test.wrapped"`)
	n.Surrogate = &snn.Triangle{Width: 1}
	require.NoError(t, m.Save(path))
	for key, change := range map[string][2]string{
		`surrogate "triangle": expected a name and a number`:                                {"triangle 1", "triangle"},
		"batch norm's momentum NaN":                                                         {`,\"momentum\":0.5`, ``},
		"dropout probability NaN":                                                           {`\"p\":0.4,`, ``},
		`layer 0: json: unknown field "impetus"`:                                            {`\"momentum\":`, `\"impetus\":1,\"momentum\":`},
		`layer 1: json: unknown field "refractory"`:                                         {`\"decay\":`, `\"refractory\":2,\"decay\":`},
		`layer 2: json: unknown field "q"`:                                                  {`\"p\":`, `\"q\":1,\"p\":`},
		`metadata snnrat.settings: json: unknown field "dt"`:                                {`{\"steps\":`, `{\"dt\":1,\"steps\":`},
		`metadata snnrat.settings: invalid character`:                                       {`{\"steps\":5,`, `{}{\"steps\":5,`},
		"decay 7: expected a number in (0, 1]":                                              {`\"decay\":0.3`, `\"decay\":7`},
		"no settings of layer 2":                                                            {`\"2\":{`, `\"3\":{`},
		`encoder "morse": expected direct, poisson, frequencies or stochastic quantization`: {`\"poisson\"`, `\"morse\"`},
		`settings of layer "2 ": the network has no layer of that name`:                     {`\"2\":{`, `\"2 \":{},\"2\":{`},
		"-5 time steps":                     {`\"steps\":5`, `\"steps\":-5`},
		"dropout probability 1.4":           {`\"p\":0.4`, `\"p\":1.4`},
		"eps 0: expected a positive number": {`\"eps\":0.001`, `\"eps\":0`},
	} {
		changed := maps.Clone(meta(t, path))
		for k, v := range changed {
			changed[k] = strings.Replace(v, strings.ReplaceAll(change[0], `\`, ""), strings.ReplaceAll(change[1], `\`, ""), 1)
			require.NotEqual(t, v, changed[k], key)
		}
		other, _, _, _ := build()
		assert.ErrorContains(t, other.SetSettings(changed), key)
	}
}

// meta returns the metadata of a file.
func meta(t *testing.T, path string) map[string]string {
	f, err := paramfile.Open(path, paramfile.Options{})
	require.NoError(t, err)
	defer f.Close()
	return f.Meta
}

func TestClassNames(t *testing.T) {
	cfg := snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 1, ClassNames: []string{"cat", "dog"}}
	m, err := snn.NewModel(cfg, snn.NewIF())
	require.NoError(t, err)
	assert.Equal(t, cfg.ClassNames, m.ClassNames())
	cfg.ClassNames = cfg.ClassNames[:1]
	_, err = snn.NewModel(cfg, snn.NewIF())
	assert.ErrorContains(t, err, "1 names for the 2 classes that the network ends in")
}

// Batch norm in training refuses one value a channel, and trains nothing by it.
func TestBatchNormOfOneValue(t *testing.T) {
	first, second := snn.NewBatchNorm(2), snn.NewBatchNorm(2)
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 3}, snn.NewSequential(first, snn.NewIF(), second))
	require.NoError(t, err)
	before := first.RunningVar.Export()
	train := func(n int) error {
		return m.ParamGradients(snn.Pass{Train: true}, images(m, n), func(logits []float32) []float32 { return logits })
	}
	assert.ErrorContains(t, train(1), "layer 0: batch norm in training has one value a channel")
	assert.Equal(t, before, first.RunningVar.Export())
	assert.NoError(t, train(2))
	_, err = m.Logits(snn.Pass{}, images(m, 1))
	assert.NoError(t, err)

	m, err = snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 3}, snn.NewSequential(snn.NewIF(), snn.NewBatchNorm(2)))
	require.NoError(t, err)
	assert.NoError(t, train(1), "three steps are three values")
}

// The logits of a network that ends in neurons are their firing rates, at T = 1 too.
func TestNetworkThatEndsInNeurons(t *testing.T) {
	for _, body := range []snn.Layer{snn.NewIF(), snn.NewSequential(snn.NewIF(), snn.MaxPool{K: 1}), snn.Flatten{}} {
		for _, steps := range []int{1, 2} {
			m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: steps, Encoder: snn.Poisson{}}, body)
			require.NoError(t, err)
			x := images(m, 2)
			copy(x.Data, []float32{1, 0, 0, 1})
			for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}} {
				_, err = m.InputGradient(snn.Pass{Gradient: g}, x, func(logits []float32) []float32 {
					assert.Equal(t, []float32{1, 0, 0, 1}, logits)
					return logits
				})
				require.NoError(t, err)
			}
		}
	}
}

// tap keeps its input for a join further on: a long skip connection.
type tap struct {
	retain bool
	kept   *autograd.Value
}

func (l *tap) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	if l.retain {
		p.Tape.Retain(x)
	}
	l.kept = x
	return x
}

func (l *tap) Describe(_ *snn.Summary, _ string, in tensor.Shape) (tensor.Shape, error) {
	return in, nil
}

type join struct{ *tap }

func (l join) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	y := autograd.Add(p.Tape, x, l.kept)
	if l.retain {
		p.Tape.Release(l.kept)
	}
	return y
}

// A value that a layer retains for a later one is there in training and in evaluation;
// one that it does not retain is missed with a word in both.
func TestLongSkip(t *testing.T) {
	build := func(retain bool) *snn.Model {
		from := &tap{retain: retain}
		m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 3}, snn.NewSequential(
			snn.NewLinear(2, 2, true), snn.NewIF(), from, snn.NewLinear(2, 2, true), snn.NewIF(), snn.NewLinear(2, 2, true), join{from},
		))
		require.NoError(t, err)
		m.Init(rng.New(1))
		m.Threads = 1
		return m
	}
	good, bad := build(true), build(false)
	x := images(good, 2)
	var trained []float32
	require.NoError(t, good.ParamGradients(snn.Pass{}, x, func(logits []float32) []float32 { trained = slices.Clone(logits); return logits }))
	evaluated, err := good.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	assert.Equal(t, trained, evaluated)
	const message = "was released; Tape.Retain keeps one that is read later"
	missed := func(fn func()) {
		defer func() { assert.Contains(t, fmt.Sprint(recover()), message) }()
		fn()
	}
	missed(func() { bad.Logits(snn.Pass{}, x) })
	missed(func() { bad.ParamGradients(snn.Pass{}, x, func(l []float32) []float32 { return l }) })
}

// Neurons of one object would report under one name.
func TestLayersAreObjectsOfTheirOwn(t *testing.T) {
	n := snn.NewIF()
	_, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 3}, snn.NewSequential(n, snn.NewLinear(2, 2, true), n))
	assert.ErrorContains(t, err, "layer 2: it is the same *snn.LIF as layer 0: expected an object of its own for each layer")
	_, err = snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 3}, snn.NewSequential(&snn.Flatten{}, &snn.Flatten{}))
	assert.NoError(t, err)
}

// cut is a layer whose output is no operation on its input.
type cut struct{ snn.Flatten }

func (cut) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	return p.Tape.Input(x.Dense(), false)
}

func TestNoGradientToTheImages(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 3}, snn.NewSequential(cut{}, snn.NewLinear(2, 2, true), snn.NewIF()))
	require.NoError(t, err)
	same := func(logits []float32) []float32 { return logits }
	_, err = m.InputGradient(snn.Pass{}, images(m, 2), same)
	assert.ErrorContains(t, err, "no gradient reaches the images")
	assert.NoError(t, m.ParamGradients(snn.Pass{}, images(m, 2), same))
}

// A panic in a caller's code reaches the caller, from whatever goroutine.
func TestPanicsReachTheCaller(t *testing.T) {
	m := newModel(t, defaults())
	m.Threads = 2
	assert.PanicsWithValue(t, "the caller's", func() {
		m.Logits(snn.Pass{Gradient: panicking{}}, images(m, 70))
	})
	_, err := m.Logits(snn.Pass{}, images(m, 70))
	assert.NoError(t, err)
}

type panicking struct{ snn.BPTT }

func (panicking) Fire(*snn.Pass, snn.Neuron, *autograd.Value) *autograd.Value { panic("the caller's") }
