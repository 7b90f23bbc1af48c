package snn_test

import (
	"math"

	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// approximations are the gradients that keep the forward pass.
func approximations() []snn.Gradient {
	return []snn.Gradient{snn.RGA{}, snn.HART{Width: 0.8}, snn.PDSG{}, snn.ASSG{A: 0.4}}
}

// values returns a fixed parameter with a value for each channel.
func values(v ...float32) *autograd.Param {
	p := autograd.NewBuffer(len(v))
	p.Import(v)
	return p
}

// goldenNeurons are the neurons of testdata/approximations/make.py, for a layer of c channels.
func goldenNeurons(name string, c int) snn.Neuron {
	triangle := snn.Triangle{Width: 1}
	switch name {
	case "if":
		return snn.NewIF()
	case "lif":
		return &snn.LIF{Decay: 0.875, Threshold: 0.75, SoftReset: true, Surrogate: triangle}
	case "general":
		return &snn.LIF{Decay: 0.5, Threshold: 0.375, Reset: -0.25, Start: 0.125, DecayInput: true, Surrogate: triangle}
	case "cuba":
		return snn.NewCuBaLIF(0.5, 0.875)
	case "alif":
		return snn.NewALIF(0.875, 0.5, 0.75)
	}
	return &snn.GLIF{Decay: value(0.875), Threshold: values([]float32{0.5, 0.75, 1.25, 1, 0.625}[:c]...), Surrogate: triangle}
}

func goldenNet(t *testing.T, f map[string]golden.Tensor, neuron string) *snn.Model {
	conv, hidden, last := snn.NewConv2D(1, 3, 3, 1, 1, true), snn.NewLinear(48, 5, true), snn.NewLinear(5, 2, false)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 4},
		snn.NewSequential(conv, goldenNeurons(neuron, 3), snn.Flatten{}, hidden, goldenNeurons(neuron, 5), last))
	require.NoError(t, err)
	for p, name := range map[*autograd.Param]string{
		conv.Weight: "conv", conv.Bias: "conv_bias", hidden.Weight: "hidden", hidden.Bias: "hidden_bias", last.Weight: "last",
	} {
		p.Import(f[name].Floats)
	}
	return m
}

// The gradients are those of an implementation in PyTorch by the equations.
func TestApproximationsAgainstPyTorch(t *testing.T) {
	file, err := golden.Read("testdata/approximations/golden.safetensors")
	require.NoError(t, err)
	f := file.Tensors
	for _, neuron := range []string{"if", "lif", "general", "cuba", "alif", "channels"} {
		m := goldenNet(t, f, neuron)
		for i, g := range approximations() {
			want := f[neuron+"."+[]string{"rga", "hart", "pdsg", "assg"}[i]]
			x := tensor.NewNCHW(2, 1, 4, 4)
			memory := []*snn.Memory{snn.NewMemory(), {}}
			for iteration := range want.Shape[0] {
				at := iteration * len(x.Data)
				copy(x.Data, f["images"].Floats[at:])
				got, err := m.InputGradient(snn.Pass{Gradient: g, Memory: memory}, x, func([]float32) []float32 { return f["seed"].Floats })
				require.NoError(t, err)
				var scale float64
				for _, v := range want.Floats[at:][:len(x.Data)] {
					scale = max(scale, math.Abs(float64(v)))
				}
				for j, v := range got.Data {
					require.InDelta(t, want.Floats[at+j], v, 1e-5*scale, "%s, %v, iteration %d, value %d", neuron, g, iteration, j)
				}
			}
		}
	}
}

// memories returns n new memories.
func memories(n int) []*snn.Memory {
	all := make([]*snn.Memory, n)
	for i := range all {
		all[i] = snn.NewMemory()
	}
	return all
}

// ASSG's state belongs to the image. An image has the same gradients alone, in a batch on one or
// two threads, and at changing places in it, over five iterations. It has others without memory.
func TestMemoryBelongsToTheImage(t *testing.T) {
	s := defaults()
	s.hidden = 19
	m := newModel(t, s)
	const n, iterations = 4, 5
	xs := make([]tensor.NCHW, iterations)
	all := images(m, n*iterations)
	warmStatistics(t, m, all)
	for i := range xs {
		xs[i] = all.Slice(i*n, (i+1)*n)
	}
	weights := seed(make([]float32, n*m.Classes()))
	// run makes a pass over some images of an iteration, and returns the gradient of each.
	run := func(iteration int, order []int, memory []*snn.Memory, threads int) [][]float32 {
		x := tensor.NewNCHW(len(order), m.Channels, m.Height, m.Width)
		var back []float32
		for i, image := range order {
			copy(x.Image(i), xs[iteration].Image(image))
			back = append(back, weights[image*m.Classes():][:m.Classes()]...)
		}
		g, err := m.InputGradient(snn.Pass{Gradient: snn.ASSG{A: 0.4}, Memory: memory, Threads: threads}, x, func([]float32) []float32 { return back })
		require.NoError(t, err)
		grads := make([][]float32, len(order))
		for i := range order {
			grads[i] = g.Image(i)
		}
		return grads
	}
	want := make([][][]float32, iterations) // [iteration][image]
	for image := range n {
		memory := memories(1)
		for i := range iterations {
			want[i] = append(want[i], run(i, []int{image}, memory, 1)[0])
		}
	}
	for _, threads := range []int{1, 2} {
		memory := memories(n)
		for i := range iterations {
			order := []int{0, 1, 2, 3}
			if i%2 == 1 { // two images swap their places
				order = []int{0, 3, 2, 1}
			}
			own := make([]*snn.Memory, n)
			for place, image := range order {
				own[place] = memory[image]
			}
			got := run(i, order, own, threads)
			for place, image := range order {
				require.Equal(t, want[i][image], got[place], "iteration %d, image %d", i, image)
			}
			// Logits, and a pass that goes forward alone, leave the state as it is.
			_, err := m.Logits(snn.Pass{Gradient: snn.ASSG{A: 0.4}, Memory: memory}, xs[i])
			require.NoError(t, err)
			_, err = m.InputGradient(snn.Pass{Gradient: snn.ASSG{A: 0.4}, Memory: memory}, xs[i], func([]float32) []float32 { return nil })
			require.NoError(t, err)
		}
	}
	none := run(0, []int{0, 1, 2, 3}, nil, 1)
	assert.Equal(t, want[0], none)
	for i := 1; i < iterations; i++ {
		mixed := run(i, []int{0, 1}, []*snn.Memory{nil, nil}, 1)
		assert.NotEqual(t, want[i][0], mixed[0])
		assert.Equal(t, run(i, []int{0, 1, 2, 3}, nil, 1)[:2], mixed)
	}
}

// Memory that does not fit is an error that names the layer.
func TestMemoryErrors(t *testing.T) {
	m, other := newModel(t, defaults()), newModel(t, defaults())
	run := func(m *snn.Model, p snn.Pass, n int) error {
		p.Gradient = snn.ASSG{A: 0.4}
		_, err := m.InputGradient(p, images(m, n), seed)
		return err
	}
	memory := memories(2)
	require.NoError(t, run(m, snn.Pass{Memory: memory}, 2))
	const foreign = "snn: layer features.2: the memory of image 0 is that of another network, or of another number of steps"
	assert.ErrorContains(t, run(other, snn.Pass{Memory: memory}, 2), foreign)
	assert.ErrorContains(t, run(m, snn.Pass{Memory: memory, Steps: 5}, 2), foreign)
	assert.ErrorContains(t, run(pixelNet(t, 3, snn.NewIF()), snn.Pass{Memory: memory}, 2), "snn: layer n: the memory of image 0 is that of another network")
	assert.ErrorContains(t, run(m, snn.Pass{Memory: memory}, 3), "snn: layer features.2: 2 memories for 3 images")
	one := snn.NewMemory()
	assert.ErrorContains(t, run(m, snn.Pass{Memory: []*snn.Memory{nil, one, one}}, 3), "snn: layer features.2: images 1 and 2 have the same memory")
	require.NoError(t, run(m, snn.Pass{Memory: memory}, 2))
	// Logits run a batch in parts, and do not read memory.
	_, err := m.Logits(snn.Pass{Gradient: snn.ASSG{A: 0.4}, Memory: memories(30)}, images(m, 30))
	require.NoError(t, err)
	// A memory of a pass without a backward pass is still new.
	fresh := memories(2)
	_, err = m.InputGradient(snn.Pass{Gradient: snn.ASSG{A: 0.4}, Memory: fresh}, images(m, 2), func([]float32) []float32 { return nil })
	require.NoError(t, err)
	require.NoError(t, run(other, snn.Pass{Memory: fresh}, 2))
}

// rescaled is a network whose first layer of neurons has all currents, thresholds and potentials
// multiplied by f, which is the same function.
func rescaled(t *testing.T, neuron func(f float32) snn.Neuron, f float32) *snn.Model {
	conv := snn.NewConv2D(2, 17, 3, 1, 1, true)
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 9, Width: 7, Steps: 4}, snn.NewSequential(
		conv, neuron(f), snn.Flatten{}, snn.NewLinear(17*9*7, 19, true), snn.NewLIF(0.875), snn.NewLinear(19, 5, true)))
	require.NoError(t, err)
	m.Init(rng.New(1))
	for _, p := range []*autograd.Param{conv.Weight, conv.Bias} {
		v := p.Export()
		for i := range v {
			v[i] *= f * 2
		}
		p.Import(v)
	}
	return m
}

// If the currents and thresholds of a layer are scaled together, the gradient is the same.
func TestGradientsInUnitsOfTheThreshold(t *testing.T) {
	racetest.Costly(t)
	for name, neuron := range map[string]func(f float32) snn.Neuron{
		"LIF": func(f float32) snn.Neuron {
			return &snn.LIF{Decay: 0.875, Threshold: 0.5 * f, SoftReset: true, Surrogate: snn.Triangle{Width: 1}}
		},
		"general": func(f float32) snn.Neuron {
			return &snn.LIF{Decay: 0.5, Threshold: 0.25 * f, Reset: -0.125 * f, Start: 0.125 * f, DecayInput: true, Surrogate: snn.Triangle{Width: 1}}
		},
		"channels": func(f float32) snn.Neuron {
			theta := make([]float32, 17)
			for i := range theta {
				theta[i] = (0.25 + float32(i)/16) * f
			}
			return &snn.GLIF{Decay: value(0.875), Threshold: values(theta...), Surrogate: snn.Triangle{Width: 1}}
		},
	} {
		relative := []snn.Gradient{}
		for _, s := range []snn.Surrogate{
			snn.Triangle{Width: 0.5}, &snn.Triangle{Width: 0.5}, snn.Rectangle{Width: 1}, snn.Sigmoid{Alpha: 4}, snn.Arctan{Alpha: 2}, snn.FastSigmoid{Slope: 5},
			snn.Exponential{Alpha: 2}, snn.DampenedExponential{Alpha: 0.5}, snn.StraightThrough{}, wrapped{snn.Rectangle{Width: 1}},
		} {
			relative = append(relative, snn.BPTT{Surrogate: s, Relative: true})
		}
		for _, g := range append(relative, approximations()...) {
			gradient := func(f float32) []float32 {
				m := rescaled(t, neuron, f)
				x := images(m, 3)
				d, err := m.InputGradient(snn.Pass{Gradient: g, Memory: memories(3)}, x, seed)
				require.NoError(t, err)
				return d.Data
			}
			want := gradient(1)
			require.NotEqual(t, make([]float32, len(want)), want)
			var size float64
			for _, v := range want {
				size = max(size, math.Abs(float64(v)))
			}
			for i, v := range gradient(128) {
				require.InDelta(t, want[i], v, 1e-5*size, "%s, %v: value %d", name, g, i)
			}
			if g == relative[0] {
				absolute := snn.BPTT{Surrogate: snn.Triangle{Width: 0.5}}
				g = absolute
				require.NotEqual(t, want, gradient(1))
			}
		}
	}
}

// With a threshold of 1, a relative surrogate has the bits of the surrogate itself.
func TestRelativeAtThresholdOne(t *testing.T) {
	racetest.Costly(t)
	s := defaults()
	s.neuron.Threshold = 1
	m := newModel(t, s)
	warmStatistics(t, m, images(m, 3))
	for _, own := range []snn.Surrogate{snn.Triangle{Width: 0.5}, snn.Sigmoid{Alpha: 4}, snn.FastSigmoid{Slope: 3}, wrapped{snn.Arctan{Alpha: 2}}} {
		var grads [2]tensor.NCHW
		for i := range grads {
			var err error
			grads[i], err = m.InputGradient(snn.Pass{Gradient: snn.BPTT{Surrogate: own, Relative: i == 1}}, images(m, 3), seed)
			require.NoError(t, err)
		}
		assert.Equal(t, grads[0], grads[1], own)
	}
	// With another threshold it is a triangle of that many times the width.
	s.neuron.Threshold = 0.75
	m = newModel(t, s)
	warmStatistics(t, m, images(m, 3))
	want, err := m.InputGradient(snn.Pass{Gradient: snn.BPTT{Surrogate: snn.Triangle{Width: 0.375}}}, images(m, 3), seed)
	require.NoError(t, err)
	got, err := m.InputGradient(snn.Pass{Gradient: snn.BPTT{Surrogate: snn.Triangle{Width: 0.5}, Relative: true}}, images(m, 3), seed)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// A gradient refuses what it has no rule for, by the name of the layer.
func TestApproximationsRefuse(t *testing.T) {
	run := func(n snn.Neuron, g snn.Gradient) error {
		m := pixelNet(t, 3, n)
		_, err := m.InputGradient(snn.Pass{Gradient: g}, images(m, 2), func(l []float32) []float32 { return l })
		return err
	}
	custom := func() snn.Neuron { return snn.NewCustom(newLeaky(3, 0.8, 0.3), snn.Triangle{Width: 1}) }
	relative := snn.BPTT{Surrogate: snn.Triangle{Width: 1}, Relative: true}
	for _, g := range append(approximations(), relative) {
		assert.ErrorContains(t, run(custom(), g), "snn: layer n: ")
		assert.ErrorContains(t, run(custom(), g), "of a *snn.Custom")
	}
	assert.ErrorContains(t, run(custom(), snn.ASSG{A: 0.4}), "layer n: ASSG(0.4) of a *snn.Custom, whose thresholds are not known")
	recurrent := func(shape ...int) snn.Neuron {
		n := snn.NewPLIF(2)
		n.Recurrent = autograd.NewParam(shape...)
		return n
	}
	assert.ErrorContains(t, run(recurrent(3), snn.RGA{}), "layer n: RGA of a recurrent layer (self-recurrent PLIF")
	assert.ErrorContains(t, run(recurrent(3, 3), snn.RGA{}), "layer n: RGA of a recurrent layer (recurrent PLIF")
	assert.ErrorContains(t, run(recurrent(3, 3), snn.HART{Width: 1}), "layer n: HART of a recurrent layer (recurrent PLIF")
	for _, g := range []snn.Gradient{snn.PDSG{}, snn.ASSG{A: 0.4}, relative} {
		assert.NoError(t, run(recurrent(3), g))
		assert.NoError(t, run(recurrent(3, 3), g))
	}
	for _, a := range []float32{0, 0.34, 0.5, float32(math.NaN())} {
		assert.ErrorContains(t, run(snn.NewIF(), snn.ASSG{A: a}), "expected a number in [0.35, 0.49]")
	}
	for _, w := range []float32{0, -1, float32(math.NaN()), float32(math.Inf(1))} {
		assert.ErrorContains(t, run(snn.NewIF(), snn.HART{Width: w}), "expected a positive number")
	}
	assert.ErrorContains(t, run(snn.NewIF(), snn.BPTT{Relative: true}), "BPTT: Relative without a Surrogate")
	low := &snn.GLIF{Decay: value(0.5), Threshold: values(1, 0, 1), Surrogate: snn.Triangle{Width: 1}}
	for _, g := range append(approximations(), relative) {
		assert.ErrorContains(t, run(low, g), "layer n: "+g.String()+" with the threshold 0 of channel 1: expected a positive number")
	}
}

// Names of gradients have their settings, and CBA alone has another forward pass.
func TestGradientNames(t *testing.T) {
	var names []string
	for _, g := range append(approximations(), snn.BPTT{Relative: true}, snn.BPTT{Surrogate: snn.Exponential{Alpha: 0.5}, Relative: true}) {
		names = append(names, g.String())
		assert.False(t, snn.ChangesForward(g))
	}
	assert.Equal(t, []string{"RGA", "HART(0.8)", "PDSG", "ASSG(0.4)", "BPTT(relative)", "BPTT(exponential 0.5 of u/θ)"}, names)
	assert.True(t, snn.ChangesForward(snn.CBA{}))
	assert.False(t, snn.ChangesForward(nil))
}

// sums is CBA whose convolutions sum directly.
type sums struct{ snn.CBA }

func (sums) Fire(p *snn.Pass, _ snn.Neuron, current *autograd.Value) *autograd.Value {
	return autograd.ReLU(p.Tape, current)
}

// Under CBA, large convolutions use Winograd's algorithm at the levels that have it. The result is
// that of the sums but for rounding. Other gradients have the spikes of an evaluation.
func TestCBAUsesWinograd(t *testing.T) {
	body := snn.NewSequential(
		snn.NewConv2D(3, 64, 3, 1, 1, true), snn.NewIF(), snn.NewConv2D(64, 80, 3, 1, 1, true), snn.NewIF(), snn.AvgPool{K: 2},
		snn.NewConv2D(80, 64, 3, 1, 1, false), snn.NewIF(), snn.Flatten{}, snn.NewLinear(64*16, 3, true),
	)
	m, err := snn.NewModel(snn.Config{Channels: 3, Height: 8, Width: 8, Steps: 2}, body)
	require.NoError(t, err)
	m.Init(rng.New(4))
	defer m.FreeMemory() // of kernels, which tests that measure the heap would find
	x := images(m, 3)
	logits := func(g snn.Gradient) []float32 {
		z, err := m.Logits(snn.Pass{Gradient: g}, x)
		require.NoError(t, err)
		return z
	}
	got, direct := logits(snn.CBA{}), logits(sums{})
	require.InDeltaSlice(t, direct, got, 1e-5)
	if kernel.CurrentLevel() == kernel.NEON {
		assert.Equal(t, direct, got)
	} else {
		assert.NotEqual(t, direct, got)
	}
}
