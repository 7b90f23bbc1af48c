package snn_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// trainable returns a parameter with the values of t.
func trainable(t golden.Tensor) *autograd.Param {
	p := autograd.NewParam(t.Shape...)
	p.Import(t.Floats)
	return p
}

// value returns a fixed parameter of one value.
func value(v float32) *autograd.Param {
	p := autograd.NewBuffer()
	p.Import([]float32{v})
	return p
}

// peerGLIF returns the neurons of each case of glif.safetensors. Its trainable parameters are
// those that the other library trains.
func peerGLIF(f map[string]golden.Tensor) map[string]snn.Neuron {
	p := func(name string) *autograd.Param { return trainable(f[name]) }
	// snnTorch and norse fire above the threshold: at the next float32.
	over := func(name string) *autograd.Param {
		q := trainable(f[name])
		v := q.Export()
		for i := range v {
			v[i] = above(v[i])
		}
		q.Import(v)
		return q
	}
	sigmoid, arctan := snn.Sigmoid{Alpha: 4}, snn.Arctan{Alpha: 2}
	const α, κ, ρ = 1 - 0.5, 0.4, 1 - 0.25 // of norse.lsnn, by dt = 1/1000
	adaptation := float32(ρ / (1 - ρ))     // norse adds beta to the threshold, which decays before its first use
	sinabs := func(plain bool) *snn.GLIF {
		n := snn.NewALIF(float32(math.Exp(-1.0/3)), 0.6, float32(math.Exp(-1.0/5)))
		n.Threshold, n.DecayInput, n.SoftReset = value(0.2), !plain, !plain
		if plain {
			n.Threshold = value(0.9)
		}
		return n
	}
	lsnn := &snn.GLIF{
		Threshold: value(above(0.4)), Decay: value(1 - κ), SynapticDecay: value(α), DecayInput: true,
		Adaptation: trainable(f["norse.lsnn.adaptation"]), AdaptationDecay: value(ρ), Surrogate: snn.FastSigmoid{Slope: 1},
	}
	lsnn.Adaptation.Import([]float32{lsnn.Adaptation.Export()[0] * adaptation})
	return map[string]snn.Neuron{
		"spikingjelly.plif":       &snn.GLIF{W: p("spikingjelly.plif.w"), Threshold: value(0.2), DecayInput: true, Surrogate: sigmoid},
		"spikingjelly.plif_grid":  &snn.GLIF{W: p("spikingjelly.plif_grid.w"), Threshold: value(0.25), DecayInput: true, Surrogate: sigmoid},
		"spikingjelly.plif_plain": &snn.GLIF{W: p("spikingjelly.plif_plain.w"), Threshold: value(0.8), Surrogate: arctan},
		"spikingjelly.plif_soft":  &snn.GLIF{W: p("spikingjelly.plif_soft.w"), Threshold: value(0.2), DecayInput: true, SoftReset: true, Surrogate: sigmoid},
		"spikingjelly.plif_detach": &snn.GLIF{
			W: p("spikingjelly.plif_detach.w"), Threshold: value(0.2), DecayInput: true, SoftReset: true, DetachReset: true, Surrogate: sigmoid,
		},
		"spikingjelly.qif":      snn.NewCustom(&quadratic{Tau: 1.5, Critical: 0.2, A: 0.7, Threshold: 0.4, Rest: -0.1, ResetTo: -0.2}, sigmoid),
		"spikingjelly.lif":      &snn.LIF{Decay: 0.5, Threshold: 0.25, DecayInput: true, Surrogate: sigmoid},
		"spikingjelly.lif_soft": &snn.LIF{Decay: 1 - 1.0/3, Threshold: 0.3, DecayInput: true, SoftReset: true, Surrogate: sigmoid},
		"spikingjelly.linear_recurrent": &snn.GLIF{
			Recurrent: p("spikingjelly.linear_recurrent.recurrent.weight"), Decay: value(0.5), Threshold: value(0.7), Surrogate: sigmoid,
		},
		"spikingjelly.linear_recurrent_plif": &snn.GLIF{
			Recurrent: p("spikingjelly.linear_recurrent_plif.recurrent.weight"), W: p("spikingjelly.linear_recurrent_plif.w"),
			Threshold: value(0.4), DecayInput: true, SoftReset: true, Surrogate: sigmoid,
		},
		"spikingjelly.elementwise_recurrent": &snn.GLIF{
			Recurrent: p("spikingjelly.elementwise_recurrent.V"), Decay: value(1), Threshold: value(0.7), Surrogate: sigmoid,
		},
		"snntorch.leaky": &snn.GLIF{Decay: p("snntorch.leaky.beta"), Threshold: over("snntorch.leaky.threshold"), DetachReset: true, Surrogate: arctan},
		"snntorch.leaky_layer": &snn.GLIF{
			Decay: p("snntorch.leaky_layer.beta"), Threshold: over("snntorch.leaky_layer.threshold"), DetachReset: true, Surrogate: snn.FastSigmoid{Slope: 5},
		},
		"snntorch.leaky_subtract_if": &snn.GLIF{
			Decay: value(1), Threshold: over("snntorch.leaky_subtract_if.threshold"), SoftReset: true, DetachReset: true, Surrogate: arctan,
		},
		"snntorch.synaptic": &snn.GLIF{
			SynapticDecay: p("snntorch.synaptic.alpha"), Decay: p("snntorch.synaptic.beta"), Threshold: over("snntorch.synaptic.threshold"), Surrogate: arctan,
		},
		"snntorch.synaptic_layer": &snn.GLIF{
			SynapticDecay: p("snntorch.synaptic_layer.alpha"), Decay: p("snntorch.synaptic_layer.beta"), Threshold: over("snntorch.synaptic_layer.threshold"), Surrogate: arctan,
		},
		"snntorch.rleaky": &snn.GLIF{
			Recurrent: p("snntorch.rleaky.V"), Decay: p("snntorch.rleaky.beta"), Threshold: over("snntorch.rleaky.threshold"), Surrogate: arctan,
		},
		"snntorch.rleaky_all": &snn.GLIF{
			Recurrent: p("snntorch.rleaky_all.recurrent.weight"), Decay: p("snntorch.rleaky_all.beta"), Threshold: over("snntorch.rleaky_all.threshold"), Surrogate: arctan,
		},
		"norse.lif": &snn.GLIF{
			SynapticDecay: value(1 - 0.3), Decay: value(1 - 0.4), Threshold: value(above(0.5)), DecayInput: true, Reset: -0.25, Surrogate: snn.FastSigmoid{Slope: 1},
		},
		"norse.lsnn":        lsnn,
		"sinabs.alif":       sinabs(false),
		"sinabs.alif_plain": sinabs(true),
	}
}

// Neurons with parameters fire where those of other libraries do, and have the same gradients
// of the currents and of the parameters.
func TestPeerGLIF(t *testing.T) {
	f := peers(t, "glif.safetensors")
	cases := peerGLIF(f)
	compared := 0
	for key := range f {
		name, ok := strings.CutSuffix(key, ".spikes")
		if !ok {
			continue
		}
		neuron := cases[name]
		require.NotNil(t, neuron, name)
		currents := "random"
		if strings.HasSuffix(name, "grid") || strings.HasSuffix(name, "_layer") || name == "spikingjelly.lif" {
			currents = "grid"
		}
		var summary snn.Summary
		n := f[currents].Shape[1]
		_, err := neuron.Describe(&summary, "n", tensor.Shape{N: 1, Steps: 1, C: n, H: 1, W: 1})
		require.NoError(t, err, name)
		spikes, grad := train(neuron, f[currents], f["seed"])
		assert.Equal(t, f[name+".spikes"].Floats, spikes, name)
		if strings.HasPrefix(name, "sinabs.") { // its spike has no gradient by the threshold
			continue
		}
		near(t, name, f[name+".grad"].Floats, grad)
		for _, p := range summary.Rows[0].Params {
			last := strings.TrimPrefix(p.Name, "n.")
			scale := float32(1)
			if name == "norse.lsnn" && last == "adaptation" {
				scale = p.Export()[0] / f[name+".adaptation"].Floats[0]
			}
			want, ok := f[fmt.Sprintf("%s.%s.grad", name, last)]
			assert.Equal(t, ok, p.Trainable, p.Name)
			if !ok {
				continue
			}
			got := p.ExportGrad()
			for i := range got {
				got[i] *= scale
			}
			near(t, name+" "+last, want.Floats, got)
			compared++
		}
	}
	assert.Equal(t, 27, compared)
}

// near holds values against another library's, to 1e-4 of the largest.
func near(t *testing.T, name string, want, got []float32) {
	largest, difference := 0.0, 0.0
	require.Len(t, got, len(want), name)
	for i, g := range want {
		largest = math.Max(largest, math.Abs(float64(g)))
		difference = math.Max(difference, math.Abs(float64(g-got[i])))
	}
	t.Logf("%s: largest difference %.1e of %.1e", name, difference, largest)
	assert.LessOrEqual(t, difference, 1e-4*largest, name)
}
