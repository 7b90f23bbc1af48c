package smooth

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// BenchmarkGaussian compares 1,000 noisy passes for an image of 1×28×28 with those of Logits on 1,000
// images that are ready, and with the drawing of the noise alone.
func BenchmarkGaussian(b *testing.B) {
	const samples = 1000
	cfg := zoo.Default("conv16 A conv32 A | fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 1, 28, 28, 10, 4
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(b, err)
	x := tensor.NewNCHW(1, 1, 28, 28)
	for i := range x.Data {
		x.Data[i] = float32(i%256) / 255
	}
	z := newNoise(0.25, 255)
	levels, off, err := z.levelsOf(x, 0)
	require.NoError(b, err)
	noisy := tensor.NewNCHW(samples, 1, 28, 28)
	draw := func() {
		for i := range samples {
			z.drawTo(noisy.Image(i), levels, rng.New(1).Derive("sample", uint64(i)))
		}
	}
	passes := func(b *testing.B) { b.ReportMetric(float64(samples*b.N)/b.Elapsed().Seconds(), "passes/s") }
	b.Run("certify", func(b *testing.B) {
		s := &sampler{z, m, x.Shape(), levels, off, rng.New(1)}
		for b.Loop() {
			_, err := s.vote(context.Background(), "certify", samples)
			require.NoError(b, err)
		}
		passes(b)
	})
	b.Run("logits", func(b *testing.B) {
		draw()
		for b.Loop() {
			_, err := m.Logits(snn.Pass{}, noisy)
			require.NoError(b, err)
		}
		passes(b)
	})
	b.Run("noise", func(b *testing.B) {
		for b.Loop() {
			draw()
		}
		passes(b)
	})
}
