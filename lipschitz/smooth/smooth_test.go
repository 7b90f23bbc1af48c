package smooth

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// tiny returns a network with random weights for examples of shape s: one layer of hidden neurons
// between two linear ones.
func tiny(t testing.TB, seed uint64, s tensor.Shape, steps, classes int, encoder snn.Encoder) *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: s.C, Height: s.H, Width: s.W, Steps: steps, Encoder: encoder}, snn.NewSequential(
		snn.Flatten{}, snn.NewLinear(s.C*s.H*s.W, 8, true), snn.NewLIF(0.5), snn.NewLinear(8, classes, true)))
	require.NoError(t, err)
	m.Threads = 1
	r := rng.New(seed).Rand()
	for _, p := range m.Params() {
		v := make([]float32, p.Len())
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		p.Import(v)
	}
	return m
}

// seeds returns the number of networks that a test of many images takes.
func seeds() uint64 {
	if testing.Short() {
		return 1
	}
	return 2
}

// every returns all images of shape s whose values are multiples of 1/levels. Image i has the digits
// of i as its levels, the lowest first.
func every(s tensor.Shape, levels int) tensor.NCHW {
	values := s.Steps * s.Neurons()
	s.N = 1
	for range values {
		s.N *= levels + 1
	}
	x := tensor.NewFrames(s)
	for i := range s.N {
		rest := i
		for j := range x.Image(i) {
			x.Image(i)[j] = float32(rest%(levels+1)) / float32(levels)
			rest /= levels + 1
		}
	}
	return x
}

// notFinite returns n values of which the last is not a number.
func notFinite(n int) []float32 {
	return append(make([]float32, n-1), float32(math.NaN()))
}
