package snn_test

import (
	"math"

	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
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
