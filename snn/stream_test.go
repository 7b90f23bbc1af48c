package snn_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/race"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// bits returns the bits of values, in which −0 differs from 0.
func bits(v []float32) []uint32 {
	b := make([]uint32, len(v))
	for i, x := range v {
		b[i] = math.Float32bits(x)
	}
	return b
}

// prefix returns the first steps frames of every example of x, which has several.
func prefix(x tensor.NCHW, steps int) tensor.NCHW {
	s := x.Shape()
	s.Steps = steps
	p := tensor.NewFrames(s)
	for n := range x.N {
		copy(p.Image(n), x.Image(n))
	}
	return p
}

// frame returns the frame of one step of every example of x.
func frame(x tensor.NCHW, step int) tensor.NCHW {
	f := tensor.NewNCHW(x.N, x.C, x.H, x.W)
	for n := range x.N {
		copy(f.Image(n), x.Image(n)[step*f.Pixels():])
	}
	return f
}

// Streams of random networks equal the whole pass to the bit at every T: logits, and the
// spikes of every layer. This holds for distinct frames, spikes and a constant image, with
// Direct and Poisson, and after a Reset.
func TestStreamEqualsWholePass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawNetwork(t, snn.BPTT{})
		cfg := s.config()
		m, err := snn.NewModel(cfg, snn.NewSequential(s.layers...))
		require.NoError(t, err)
		r := rng.New(rapid.Uint64Range(0, 1<<20).Draw(t, "weights")).Rand()
		drawParams(m, r)
		n, steps := rapid.IntRange(1, 3).Draw(t, "inputs"), max(2, cfg.Steps)
		x := tensor.NewFrames(tensor.Shape{N: n, Steps: steps, C: cfg.Channels, H: cfg.Height, W: cfg.Width})
		kind := rapid.SampledFrom([]string{"frames", "spikes", "image"}).Draw(t, "input")
		for i := range x.Data {
			switch at := i - m.Channels*m.Height*m.Width; {
			case kind == "image" && i%x.Pixels() >= m.Channels*m.Height*m.Width:
				x.Data[i] = x.Data[at]
			case kind == "spikes":
				x.Data[i] = float32(r.IntN(2))
			default:
				x.Data[i] = r.Float32()
			}
		}
		stream, err := m.NewStream(snn.StreamConfig{N: n, Keys: keys(n), Threads: 1 + r.IntN(2)})
		require.NoError(t, err)
		probes := map[string]*snn.Probe{}
		for _, row := range m.Summary().Rows {
			if l, ok := row.Layer.(snn.Neuron); ok && s.odds(50, "probe") {
				probes[l.Name()], err = stream.Probe(l.Name())
				require.NoError(t, err)
			}
		}
		if s.odds(50, "reset") {
			_, err := stream.Step(frame(x, steps-1))
			require.NoError(t, err)
			stream.Reset()
		}
		for step := range steps {
			got, err := stream.Step(frame(x, step))
			require.NoError(t, err)
			require.Equal(t, step+1, stream.Steps())
			layers := 0
			whole := snn.Pass{Steps: step + 1, Keys: keys(n), OnSpikes: func(layer string, s *tensor.Spikes) {
				layers++
				p := probes[layer]
				for i := range s.Neurons() * n {
					if c, y, x := i/n/s.W/s.H, i/n/s.W%s.H, i/n%s.W; p != nil && p.Spikes.At(i%n, 0, c, y, x) != s.At(i%n, step, c, y, x) {
						t.Fatalf("step %d, layer %s: the spikes of channel %d differ", step, layer, c)
					}
				}
			}}
			want, err := m.Logits(whole, prefix(x, step+1))
			require.NoError(t, err)
			require.Equal(t, bits(want), bits(got), "step %d", step)
			if _, poisson := cfg.Encoder.(snn.Poisson); kind == "image" && (layers > 0 || poisson) {
				want, err = m.Logits(whole, frame(x, 0))
				require.NoError(t, err)
				require.Equal(t, bits(want), bits(got), "step %d of a constant image", step)
			}
		}
	})
}

// newStreamed returns a network with every kind of layer and neuron, with random parameters.
func newStreamed(tb testing.TB, e snn.Encoder) *snn.Model {
	recurrent := snn.NewParamLIF(20, 0.9, 1)
	recurrent.Recurrent = autograd.NewParam(20, 20)
	body := snn.NewSequential(
		snn.NewConv2D(2, 20, 3, 1, 1, true), snn.NewBatchNorm(20), &snn.LIF{Decay: 0.9, Threshold: 1, SoftReset: true, Surrogate: snn.Triangle{Width: 1}}, snn.AvgPool{K: 2},
		&snn.Residual{
			BN1: snn.NewBatchNorm(20), N1: snn.NewIF(), Conv1: snn.NewConv2D(20, 24, 3, 2, 1, false),
			BN2: snn.NewBatchNorm(24), N2: snn.NewLIF(0.5), Conv2: snn.NewConv2D(24, 24, 3, 1, 1, false),
			Short: snn.NewConv2D(20, 24, 1, 2, 0, false), Comb: autograd.NewParam(2),
		},
		snn.NewPLIF(2), snn.MaxPool{K: 2}, snn.Flatten{}, snn.NewLinear(24, 30, true), snn.NewALIF(0.9, 0.2, 0.7), &snn.Dropout{P: 0.5},
		snn.NewLinear(30, 20, true), snn.NewCuBaLIF(0.5, 0.9), snn.NewLinear(20, 20, true), recurrent,
		snn.NewLinear(20, 20, false), &snn.LIF{Decay: 0.5, Threshold: 1, Reset: -0.1, DecayInput: true, Surrogate: snn.Triangle{Width: 1}},
		snn.NewLinear(20, 10, true),
	)
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 8, Width: 8, Steps: 4, Encoder: e}, body)
	require.NoError(tb, err)
	drawParams(m, rng.New(1).Rand())
	return m
}

func TestStreamAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("pools drop what they hold under the race detector")
	}
	for _, e := range []snn.Encoder{snn.Direct{}, snn.Poisson{}} {
		m := newStreamed(t, e)
		x := tensor.NewNCHW(1, 2, 8, 8)
		for i := range x.Data {
			x.Data[i] = rand.Float32()
		}
		spikes := x.Clone()
		for i := range spikes.Data {
			spikes.Data[i] = float32(i % 2)
		}
		s, err := m.NewStream(snn.StreamConfig{Threads: 1})
		require.NoError(t, err)
		step := func(x tensor.NCHW) func() {
			return func() {
				if _, err := s.Step(x); err != nil {
					t.Error(err)
				}
			}
		}
		assert.Zero(t, testing.AllocsPerRun(100, step(x)), "%T", e)
		assert.Zero(t, testing.AllocsPerRun(100, step(spikes)), "spikes, %T", e)
		assert.Zero(t, testing.AllocsPerRun(100, s.Reset))
		_, err = s.Probe("4.n2")
		require.NoError(t, err)
		assert.Zero(t, testing.AllocsPerRun(100, step(x)), "with a probe, %T", e)
	}
}

// Streams of one model run side by side, each as if it were alone.
func TestStreamsSideBySide(t *testing.T) {
	m := newStreamed(t, snn.Poisson{})
	const steps = 6
	run := func(i int) (all []uint32) {
		s, err := m.NewStream(snn.StreamConfig{N: 1 + i%2, Threads: 1 + i%3})
		if !assert.NoError(t, err) {
			return nil
		}
		r := rng.New(uint64(i)).Rand()
		for range steps {
			x := tensor.NewNCHW(1+i%2, 2, 8, 8)
			for k := range x.Data {
				x.Data[k] = r.Float32()
			}
			logits, err := s.Step(x)
			assert.NoError(t, err)
			all = append(all, bits(logits)...)
		}
		return all
	}
	const streams = 8
	var alone, got [streams][]uint32
	for i := range alone {
		alone[i] = run(i)
	}
	var wait sync.WaitGroup
	for i := range got {
		wait.Go(func() { got[i] = run(i) })
	}
	wait.Wait()
	assert.Equal(t, alone, got)
}
