package snn_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// The logits of a network that ends in a mix and linear layers without biases are linear in the
// mix's weights. So their gradient by one weight is the logits with that weight 1 and the other 0.
func TestOwnLayer(t *testing.T) {
	for _, inner := range []*snn.Sequential{
		snn.NewSequential(snn.NewConv2D(3, 3, 3, 1, 1, false), snn.NewBatchNorm(3), snn.NewIF()),
		snn.NewSequential(&snn.Dropout{P: 0.5}), // returns its input in evaluation
	} {
		block := &mix{Inner: inner, Comb: autograd.NewParam(2)}
		m, err := snn.NewModel(snn.Config{Channels: 2, Height: 4, Width: 4, Steps: 5}, snn.NewSequential(
			snn.NewConv2D(2, 3, 3, 1, 1, true), snn.NewIF(), block, snn.Flatten{}, snn.NewLinear(48, 3, false),
		))
		require.NoError(t, err)
		m.Init(rng.New(1))
		x := images(m, 40)
		sum := func(c0, c1 float32) (s float64) {
			block.Comb.Import([]float32{c0, c1})
			logits, err := m.Logits(snn.Pass{}, x)
			require.NoError(t, err)
			for _, v := range logits {
				s += float64(v)
			}
			return s
		}
		want := []float64{sum(1, 0), sum(0, 1)}
		block.Comb.Import([]float32{0.3, 0.7})
		require.NoError(t, m.ParamGradients(snn.Pass{}, x, func(logits []float32) []float32 {
			for i := range logits {
				logits[i] = 1
			}
			return logits
		}))
		for i, g := range block.Comb.ExportGrad() {
			assert.InEpsilon(t, want[i], g, 1e-4)
		}
		assert.NotZero(t, want[1])
	}
}
