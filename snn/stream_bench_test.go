package snn_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// The latency of a step on one frame, with one thread.
func BenchmarkStream(b *testing.B) {
	for _, name := range []string{"small", "vgg11"} {
		b.Run(name, func(b *testing.B) {
			m, err := zoo.New(zoo.Default(name), rng.New(1))
			require.NoError(b, err)
			s, err := m.NewStream(snn.StreamConfig{Threads: 1})
			require.NoError(b, err)
			x, r := tensor.NewNCHW(1, m.Channels, m.Height, m.Width), rng.New(2).Rand()
			for i := range x.Data {
				x.Data[i] = r.Float32()
			}
			_, err = s.Step(x)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Step(x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
