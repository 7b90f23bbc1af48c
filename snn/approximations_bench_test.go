package snn_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// BenchmarkInputGradient makes the pass of an attack on eight images, under each gradient
// approximation.
func BenchmarkInputGradient(b *testing.B) {
	m, err := zoo.New(zoo.Default("small"), rng.New(1))
	require.NoError(b, err)
	m.Threads = 1
	x := images(m, 8)
	warmStatistics(b, m, x)
	gradients := approximations()
	for _, s := range []snn.Surrogate{
		snn.Triangle{Width: 1}, snn.Rectangle{Width: 1}, snn.Sigmoid{Alpha: 4}, snn.Arctan{Alpha: 2}, snn.FastSigmoid{Slope: 2},
		snn.Exponential{Alpha: 1}, snn.StraightThrough{},
	} {
		gradients = append(gradients, snn.BPTT{Surrogate: s})
	}
	for _, g := range append(gradients, snn.BPTR{}) {
		b.Run(g.String(), func(b *testing.B) {
			p := snn.Pass{Gradient: g, Memory: memories(8)}
			for b.Loop() {
				_, err := m.InputGradient(p, x, seed)
				require.NoError(b, err)
			}
		})
	}
}
