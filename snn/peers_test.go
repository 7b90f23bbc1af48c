package snn_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// peers reads a file that SpikingJelly or snnTorch made; see testdata/peers/make.py.
func peers(t *testing.T, file string) map[string]golden.Tensor {
	f, err := golden.Read(filepath.Join("testdata/peers", file))
	require.NoError(t, err)
	return f.Tensors
}

// train runs neurons on currents of shape [steps, neurons]. It returns their spikes and the
// gradient of Σ spikes·seed by the currents, in the same order.
func train(neuron snn.Neuron, currents, seed golden.Tensor) (spikes, grad []float32) {
	steps, n := currents.Shape[0], currents.Shape[1]
	shape := tensor.Shape{N: 1, Steps: steps, C: n, H: 1, W: 1}
	dense := func(v []float32) *tensor.Dense {
		d := tensor.NewDense(shape)
		for i, x := range v {
			d.Set(0, i/n, i%n, 0, 0, x)
		}
		return d
	}
	tape := &autograd.Tape{Params: true}
	x := tape.Input(dense(currents.Floats), true)
	y := neuron.Forward(&snn.Pass{Tape: tape, Steps: steps, Gradient: snn.BPTT{}}, x)
	spikes, grad = make([]float32, steps*n), make([]float32, steps*n)
	for i := range spikes {
		if y.Spikes().At(0, i/n, i%n, 0, 0) {
			spikes[i] = 1
		}
	}
	tape.BackwardFrom(y, dense(seed.Floats))
	for i := range grad {
		grad[i] = x.Grad().At(0, i/n, i%n, 0, 0)
	}
	return spikes, grad
}

// above returns the least float32 above the threshold.
func above(threshold float32) float32 { return math.Nextafter32(threshold, 2) }

// peerNeurons are neurons of other libraries, the currents they were run on, and the
// neuron of package snn that is the same. w is the parameter of the ParametricLIFNode.
func peerNeurons(w float64) []struct {
	name, currents string
	neuron         snn.LIF
} {
	plif := 1 / (1 + math.Exp(-w)) // 1/τ
	return []struct {
		name, currents string
		neuron         snn.LIF
	}{
		{"spikingjelly.if", "grid", snn.LIF{Decay: 1, Threshold: 1, Surrogate: snn.Sigmoid{Alpha: 4}}},
		{"spikingjelly.if_soft", "grid", snn.LIF{Decay: 1, Threshold: 0.75, SoftReset: true, DetachReset: true, Surrogate: snn.Arctan{Alpha: 2}}},
		{"spikingjelly.if_reset", "random", snn.LIF{Decay: 1, Threshold: 0.5 + 0.25, Surrogate: snn.Sigmoid{Alpha: 4}}},
		{"spikingjelly.lif_plain", "grid", snn.LIF{Decay: 1 - 1.0/2, Threshold: 1, Surrogate: snn.Sigmoid{Alpha: 4}}},
		{"spikingjelly.lif_plain_soft", "random", snn.LIF{Decay: 1 - 1.0/3, Threshold: 1, SoftReset: true, DetachReset: true, Surrogate: snn.Arctan{Alpha: 3}}},
		{"spikingjelly.lif_plain_reset", "random", snn.LIF{Decay: 1 - 1.0/4, Threshold: 0.5 + 0.25, Surrogate: snn.Sigmoid{Alpha: 4}}},
		// decay_input: threshold and width are in units of the current, τ times as large.
		{"spikingjelly.lif", "grid", snn.LIF{Decay: 1 - 1.0/2, Threshold: 2 * 0.25, Surrogate: snn.Sigmoid{Alpha: 4.0 / 2}}},
		{"spikingjelly.lif_soft", "random", snn.LIF{Decay: 1 - 1.0/3, Threshold: 3 * 0.3, SoftReset: true, Surrogate: snn.Sigmoid{Alpha: 4.0 / 3}}},
		{"spikingjelly.lif_reset", "random", snn.LIF{Decay: 1 - 1/2.5, Threshold: 2.5 * (0.5 - 0.25), Surrogate: snn.Arctan{Alpha: 2 / 2.5}}},
		{"spikingjelly.plif", "random", snn.LIF{Decay: float32(1 - plif), Threshold: float32(0.2 / plif), Surrogate: snn.Sigmoid{Alpha: float32(4 * plif)}}},
		{"spikingjelly.piecewise_quadratic", "random", snn.LIF{Decay: 1 - 1.0/2, Threshold: 2 * 0.25, Surrogate: snn.Triangle{Width: 2 * 1 / 2.0}}},
		{"spikingjelly.rect", "random", snn.LIF{Decay: 1, Threshold: 1, Surrogate: snn.Rectangle{Width: 1 / 2.0}}},
		{"spikingjelly.soft_sign", "random", snn.LIF{Decay: 1, Threshold: 1, Surrogate: snn.FastSigmoid{Slope: 2}}},
		// snnTorch fires above the threshold: at the next float32 and what follows it.
		{"snntorch.zero", "grid", snn.LIF{Decay: 0.5, Threshold: above(1), DetachReset: true, Surrogate: snn.Arctan{Alpha: 2}}},
		{"snntorch.zero_random", "random", snn.LIF{Decay: 0.9, Threshold: above(0.7), DetachReset: true, Surrogate: snn.FastSigmoid{Slope: 25}}},
		{"snntorch.zero_now", "random", snn.LIF{Decay: 0.9, Threshold: above(1), Surrogate: snn.Sigmoid{Alpha: 5}}},
		{"snntorch.subtract_if", "grid", snn.LIF{Decay: 1, Threshold: above(1), SoftReset: true, DetachReset: true, Surrogate: snn.Arctan{Alpha: 2}}},
		{"snntorch.subtract_now", "random", snn.LIF{Decay: 0.5, Threshold: above(1), SoftReset: true, Surrogate: snn.Arctan{Alpha: 2}}},
	}
}

// The neurons of SpikingJelly and snnTorch fire where package snn's do, and have the same
// gradients.
func TestPeerNeurons(t *testing.T) {
	f := peers(t, "neurons.safetensors")
	for _, c := range peerNeurons(float64(f["plif.w"].Floats[0])) {
		spikes, grad := train(&c.neuron, f[c.currents], f["seed"])
		assert.Equal(t, f[c.name+".spikes"].Floats, spikes, c.name)
		near(t, c.name, f[c.name+".grad"].Floats, grad)
	}
}

// subtract is what snnTorch's Leaky with reset_mechanism "subtract" does: it fires above
// the threshold, and a spike lowers the potential at the next step, after the decay. With
// reset_delay=False (now), it lowers it at once, unless it was above the threshold before.
func subtract(x []float32, beta, threshold float32, now bool) (spikes []float32) {
	above := func(m float32) float32 {
		if m > threshold {
			return 1
		}
		return 0
	}
	m := float32(0)
	for _, current := range x {
		reset := above(m)
		m = float32(beta*m) + current - reset*threshold
		spike := above(m)
		if now {
			m -= (spike - reset) * threshold
		}
		spikes = append(spikes, spike)
	}
	return spikes
}

// Where snnTorch's neurons differ from the nearest one of package snn, on currents that
// tell the two apart.
func TestPeerNeuronsThatDiffer(t *testing.T) {
	f := peers(t, "neurons.safetensors")
	for _, c := range []struct {
		name            string
		neuron          snn.LIF
		place           int // of the neuron whose currents tell them apart
		currents        []float32
		theirs, nearest []float32
	}{
		// The potential is 1 at the second step, the threshold itself.
		{"snntorch.zero", snn.LIF{Decay: 0.5, Threshold: 1, Surrogate: snn.Arctan{Alpha: 2}},
			0, []float32{0.5, 0.75, 0, 0}, []float32{0, 0, 0, 0}, []float32{0, 1, 0, 0}},
		// At the second step 1.5/2 + 1 − 1 there, and (1.5 − 1)/2 + 1 here.
		{"snntorch.subtract", snn.LIF{Decay: 0.5, Threshold: above(1), SoftReset: true, Surrogate: snn.Arctan{Alpha: 2}},
			1, []float32{1.5, 1, 0, 0}, []float32{1, 0, 0, 0}, []float32{1, 1, 0, 0}},
		// The reset leaves 2, above the threshold, where the neuron there does not fire.
		{"snntorch.subtract_now_stuck", snn.LIF{Decay: 0.9, Threshold: above(1), SoftReset: true, Surrogate: snn.Arctan{Alpha: 2}},
			2, []float32{3, 0, 0, 0.5}, []float32{1, 0, 0, 0}, []float32{1, 1, 0, 1}},
	} {
		spikes, _ := train(&c.neuron, f["grid"], f["seed"])
		column := func(v []float32) (col []float32) {
			for step := range c.currents {
				col = append(col, v[step*f["grid"].Shape[1]+c.place])
			}
			return col
		}
		assert.Equal(t, c.currents, column(f["grid"].Floats), c.name)
		assert.Equal(t, c.theirs, column(f[c.name+".spikes"].Floats), c.name)
		assert.Equal(t, c.nearest, column(spikes), c.name)
	}
	for _, c := range []struct {
		name, currents string
		beta           float32
		now            bool
	}{
		{"snntorch.subtract_if", "grid", 1, false}, {"snntorch.subtract", "grid", 0.5, false},
		{"snntorch.subtract_now", "random", 0.5, true}, {"snntorch.subtract_now_stuck", "grid", 0.9, true},
	} {
		x := f[c.currents]
		steps, n := x.Shape[0], x.Shape[1]
		for i := range n {
			var currents, want []float32
			for step := range steps {
				currents = append(currents, x.Floats[step*n+i])
				want = append(want, f[c.name+".spikes"].Floats[step*n+i])
			}
			assert.Equal(t, want, subtract(currents, c.beta, 1, c.now), "%s, neuron %d", c.name, i)
		}
	}
}

// Networks that SpikingJelly and snnTorch saved have the logits and gradients here that
// they had there. The second ends in neurons: its logits are their firing rates.
func TestPeerNetworks(t *testing.T) {
	f := peers(t, "networks.safetensors")
	node := func() *snn.LIF { return &snn.LIF{Decay: 1, Threshold: 1, Surrogate: snn.Arctan{Alpha: 2}} }
	// LIFNode(tau=2, v_threshold=θ), whose input decays.
	lif := func(threshold float32) *snn.LIF {
		return &snn.LIF{Decay: 0.5, Threshold: 2 * threshold, Surrogate: snn.Sigmoid{Alpha: 4.0 / 2}}
	}
	// Leaky(beta=0.9, threshold=0.5, reset_mechanism="zero")
	leaky := func() *snn.LIF {
		return &snn.LIF{Decay: 0.9, Threshold: above(0.5), DetachReset: true, Surrogate: snn.Arctan{Alpha: 2}}
	}
	for _, c := range []struct {
		name, file string
		body       snn.Layer
	}{
		{"convnet", "convnet.pth", snn.NewSequential(
			snn.NewConv2D(2, 8, 3, 1, 1, false), snn.NewBatchNorm(8), node(),
			snn.MaxPool{K: 2},
			snn.NewConv2D(8, 12, 3, 1, 1, true), snn.NewBatchNorm(12), node(),
			snn.AvgPool{K: 2}, snn.Flatten{}, snn.NewLinear(48, 20, true), node(),
			&snn.Dropout{P: 0.5}, snn.NewLinear(20, 5, true))},
		{"rates", "rates.safetensors", snn.NewSequential(
			snn.NewConv2D(2, 8, 3, 1, 1, true), snn.NewBatchNorm(8), lif(0.5),
			snn.AvgPool{K: 4}, snn.Flatten{}, snn.NewLinear(32, 5, true), lif(0.1))},
		{"leaky", "leaky.safetensors", (&snn.Sequential{}).
			Append("conv1", snn.NewConv2D(2, 8, 3, 1, 1, true)).Append("bn1", snn.NewBatchNorm(8)).Append("lif1", leaky()).
			Append("pool", snn.AvgPool{K: 2}).Append("", snn.Flatten{}).
			Append("fc1", snn.NewLinear(128, 20, true)).Append("lif2", leaky()).Append("fc2", snn.NewLinear(20, 5, true))},
	} {
		m, err := snn.NewModel(snn.Config{Channels: 2, Height: 8, Width: 8, Steps: 4}, c.body)
		require.NoError(t, err)
		require.NoError(t, m.Load(filepath.Join("testdata/peers", c.file)))
		x := tensor.NCHW{N: 6, C: 2, H: 8, W: 8, Data: f["images"].Floats}
		grad, err := m.InputGradient(snn.Pass{}, x, func(logits []float32) []float32 {
			assert.InDeltaSlice(t, f[c.name+".logits"].Floats, logits, 1e-5, c.name)
			return f["seed"].Floats
		})
		require.NoError(t, err)
		assert.InDeltaSlice(t, f[c.name+".grad"].Floats, grad.Data, 1e-5, c.name)
	}
}

// nirNeuron is the neuron of forward Euler steps of dt of a NIR neuron,
// τ·dv/dt = (v_leak − v) + r·x, or dv/dt = r·x where τ is 0, reset to v_leak.
func nirNeuron(tau, r, threshold, leak, dt float64) (decay, theta float64) {
	if tau == 0 {
		return 1, (threshold - leak) / (r * dt)
	}
	return 1 - dt/tau, (threshold - leak) * tau / (r * dt)
}

// What SpikingJelly exports to NIR describes the neuron that its own settings do.
func TestPeerNeuronsByNIR(t *testing.T) {
	f := peers(t, "neurons.safetensors")
	compared := 0
	for _, c := range peerNeurons(float64(f["plif.w"].Floats[0])) {
		v := f[c.name+".nir"].Floats
		// The export of an IFNode with v_reset has the reset and not the potential at the start.
		if v == nil || c.name == "spikingjelly.if_reset" {
			continue
		}
		decay, threshold := nirNeuron(float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3]), 1e-4)
		assert.InDelta(t, c.neuron.Decay, decay, 1e-6, c.name)
		assert.InDelta(t, c.neuron.Threshold, threshold, 1e-6, c.name)
		compared++
	}
	assert.Equal(t, 9, compared)
}
