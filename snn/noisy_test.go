package snn_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// noisyModel returns a network of the zoo, and images for it.
func noisyModel(t *testing.T, arch string, change func(*zoo.Config)) (*snn.Model, tensor.NCHW) {
	cfg := zoo.Default(arch)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Threshold = 2, 6, 6, 3, 4, 0.2
	change(&cfg)
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	x := tensor.NewNCHW(5, 2, 6, 6)
	r := rng.New(2).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	return m, x
}

const noisyVGG, noisyWRN = "conv6 A conv8 | fc9 fc", "WRN widths 4,4,6,8, 1 blocks a group, strides 1,2,2"

// currentsOf returns the currents of the first layer of neurons, and the spikes of it.
func currentsOf(t *testing.T, m *snn.Model, x tensor.NCHW, p snn.Pass) (currents tensor.NCHW, spikes *tensor.Spikes) {
	seen := false
	p.OnNeurons = func(p *snn.Pass, n snn.Neuron, c, output *autograd.Value) {
		if !seen {
			seen = true
			currents = c.Dense().Unpack()
			s := *output.Spikes()
			s.Bits = append([]uint16{}, s.Bits...)
			spikes = &s
		}
	}
	_, err := m.Logits(p, x)
	require.NoError(t, err)
	return currents, spikes
}

// The currents of noisy neurons are those without noise and a normal one of every step. The
// noise is that of the image's key. Without noise the network is that of LIF neurons.
func TestNoisyLIF(t *testing.T) {
	for _, arch := range []string{noisyVGG, noisyWRN} {
		quiet, x := noisyModel(t, arch, func(*zoo.Config) {})
		m, _ := noisyModel(t, arch, func(c *zoo.Config) { c.Noise = 0.25 })
		var layers []*snn.NoisyLIF
		for _, r := range m.Summary().Rows {
			if n, ok := r.Layer.(*snn.NoisyLIF); ok {
				layers = append(layers, n)
			}
		}
		assert.Len(t, layers, map[string]int{noisyVGG: 3, noisyWRN: 7}[arch])
		want, _ := currentsOf(t, quiet, x, snn.Pass{})
		got, spikes := currentsOf(t, m, x, snn.Pass{})
		assert.Equal(t, 4, spikes.Steps)
		var n, sum, square float64
		per := len(got.Data) / 20
		for i := range x.N * 4 {
			for k, v := range got.Data[i*per:][:per] {
				d := float64(v - want.Data[i/4*per+k])
				n, sum, square = n+1, sum+d, square+d*d
			}
		}
		assert.InDelta(t, 0, sum/n, 4*0.25/math.Sqrt(n))
		assert.InDelta(t, 0.25, math.Sqrt(square/n), 0.01)

		logits := func(m *snn.Model, key uint64, g snn.Gradient) []float32 {
			keys := make([]rng.Key, x.N)
			for i := range keys {
				keys[i] = rng.New(key).Derive("image", uint64(i))
			}
			z, err := m.Logits(snn.Pass{Keys: keys, Gradient: g}, x)
			require.NoError(t, err)
			return z
		}
		assert.Equal(t, logits(m, 1, nil), logits(m, 1, snn.BPTR{}))
		assert.NotEqual(t, logits(m, 1, nil), logits(m, 2, nil))
		assert.Equal(t, logits(quiet, 1, snn.CBA{}), logits(m, 1, snn.CBA{}))

		// Files keep the noise, and that it was taken out.
		path := filepath.Join(t.TempDir(), "noisy")
		require.NoError(t, m.Save(path))
		loaded, cfg, err := zoo.Load(path)
		require.NoError(t, err)
		assert.Equal(t, float32(0.25), cfg.Noise)
		assert.Equal(t, logits(m, 1, nil), logits(loaded, 1, nil))
		for _, n := range layers {
			n.Std = 0
		}
		assert.Equal(t, logits(quiet, 1, nil), logits(m, 1, nil))
		require.NoError(t, m.Save(path))
		loaded, cfg, err = zoo.Load(path)
		require.NoError(t, err)
		assert.Zero(t, cfg.Noise)
		assert.Equal(t, logits(quiet, 1, nil), logits(loaded, 1, nil))

		// Gradients go through.
		layers[0].Std = 0.25
		g, err := m.InputGradient(snn.Pass{}, x, func(z []float32) []float32 { return z })
		require.NoError(t, err)
		assert.NotEqual(t, make([]float32, len(g.Data)), g.Data)
		layers[0].Std = -1
		_, err = m.Logits(snn.Pass{}, x)
		assert.ErrorContains(t, err, "noise of standard deviation -1: expected a finite number of at least 0")
	}
	for _, c := range []struct {
		change func(*zoo.Config)
		want   string
	}{
		{func(c *zoo.Config) { c.Noise = -1 }, "noise of standard deviation -1"},
		{func(c *zoo.Config) { c.Noise, c.Neuron, c.Decay = 1, "plif", 0.5 }, "noise 1 of neurons plif: expected 0, or LIF neurons"},
		{func(c *zoo.Config) { c.Levels = -1 }, "stochastic quantization to -1 levels"},
		{func(c *zoo.Config) { c.Levels, c.Poisson = 2, true }, "stochastic quantization to 2 levels and Poisson encoding"},
	} {
		cfg := zoo.Default(noisyVGG)
		c.change(&cfg)
		_, err := zoo.New(cfg, rng.New(1))
		assert.ErrorContains(t, err, c.want)
	}
}

// The noisy currents of a layer are gone when the next layer runs.
func TestNoisyLIFMemory(t *testing.T) {
	peak := func(arch string) int {
		m, x := noisyModel(t, arch, func(c *zoo.Config) { c.Noise = 0.25 })
		_, err := m.Logits(snn.Pass{Threads: 1}, x)
		require.NoError(t, err)
		return m.Peak()
	}
	assert.Equal(t, peak("conv16 conv16 conv16 | fc"), peak("conv16 conv16 conv16 conv16 conv16 conv16 | fc"))
}

// Settings without a standard deviation are refused, and so is noise without neurons.
func TestNoisyLIFErrors(t *testing.T) {
	n := &snn.NoisyLIF{LIF: snn.NewIF(), Std: 0.5}
	for _, text := range []string{"{}", "null"} {
		assert.ErrorContains(t, n.UnmarshalJSON([]byte(text)), "noise of standard deviation NaN: expected a finite number", text)
	}
	_, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1}, &snn.NoisyLIF{Std: 0.5})
	assert.EqualError(t, err, "snn: noise of no neurons: expected a LIF")
}

// A stream refuses noise instead of leaving it out.
func TestStreamOfNoisyLIF(t *testing.T) {
	m, _ := noisyModel(t, noisyVGG, func(c *zoo.Config) { c.Noise = 0.25 })
	_, err := m.NewStream(snn.StreamConfig{})
	assert.ErrorContains(t, err, "*snn.NoisyLIF: expected an snn.StepNeuron")
}

// Every value becomes one of the two levels around it, in the mean itself. Files keep the levels.
func TestStochasticQuantization(t *testing.T) {
	m, x := noisyModel(t, noisyVGG, func(c *zoo.Config) { c.Levels, c.Steps = 2, 1000 })
	encoded := encode(t, m, x)
	per := x.C * x.H * x.W
	for n := range x.N {
		for k, v := range x.Image(n) {
			var mean float64
			low, high := float32(math.Floor(float64(2*v)))/2, float32(math.Ceil(float64(2*v)))/2
			for s := range 1000 {
				q := encoded.Data[(n*1000+s)*per+k]
				require.True(t, q == low || q == high, "%v of %v", q, v)
				mean += float64(q) / 1000
			}
			assert.InDelta(t, v, mean, 4*0.25/math.Sqrt(1000))
		}
	}
	m.Steps = 4
	path := filepath.Join(t.TempDir(), "quantized")
	require.NoError(t, m.Save(path))
	loaded, cfg, err := zoo.Load(path)
	require.NoError(t, err)
	assert.Equal(t, 2, cfg.Levels)
	assert.Equal(t, snn.StochasticQuantization{Levels: 2}, loaded.Encoder)
	want, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	got, err := loaded.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	m.Encoder = snn.StochasticQuantization{}
	_, err = m.Logits(snn.Pass{}, x)
	assert.ErrorContains(t, err, "stochastic quantization to 0 levels: expected at least 1")
}

// encode returns the encoded images, [N·T, C, H, W].
func encode(t *testing.T, m *snn.Model, x tensor.NCHW) tensor.NCHW {
	tape := &autograd.Tape{}
	keys := make([]rng.Key, x.N)
	for i := range keys {
		keys[i] = rng.New(3).Derive("image", uint64(i))
	}
	p := &snn.Pass{Tape: tape, Steps: m.Steps, Gradient: snn.BPTT{}, Keys: keys}
	y := m.Encoder.Encode(p, tape.Leaf(x, false))
	require.NoError(t, p.Err())
	return y.Dense().Unpack()
}
