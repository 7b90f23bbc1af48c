package train_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// The parameters of neurons are trained beside the weights, under RAT, too, and a resumed
// training goes on with them to the bit.
func TestTrainsNeurons(t *testing.T) {
	build := func() *snn.Model {
		alif := snn.NewALIF(0.8, 0.3, 0.7)
		alif.Threshold = autograd.NewParam(8)
		alif.Threshold.Fill(func(int) (float32, error) { return 0.5, nil })
		alif.Recurrent = autograd.NewParam(8, 8)
		cuba := snn.NewCuBaLIF(0.4, 0.7)
		cuba.Recurrent, cuba.SynapticDecay.Trainable = autograd.NewParam(), true
		plif := snn.NewPLIF(2)
		plif.Threshold.Import([]float32{0.3})
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: 4}, snn.NewSequential(
			snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewBatchNorm(8), alif, snn.AvgPool{K: 2},
			snn.NewConv2D(8, 9, 3, 1, 1, true), snn.NewBatchNorm(9), cuba, snn.Flatten{}, snn.NewLinear(81, 20, true), plif, snn.NewLinear(20, 3, true)))
		require.NoError(t, err)
		m.Init(rng.New(1))
		return m
	}
	cfg := rat()
	cfg.Regularizer = regularize.ForVGG()
	cfg.Adversary = attack.FGSM(0.05, snn.BPTT{})
	m := build()
	before := map[string][]float32{}
	for _, p := range m.Params() {
		before[p.Name] = p.Export()
	}
	tr := trainer(t, m, cfg)
	finish(t, tr)
	moved := 0
	for _, p := range m.Params() {
		assert.NotEqual(t, before[p.Name], p.Export(), p.Name)
		moved++
	}
	assert.Equal(t, 17, moved)
	path := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, tr.Save(path))
	again := build()
	other := trainer(t, again, cfg)
	require.NoError(t, other.Resume(path))
	for i, p := range m.State() {
		assert.Equal(t, p.Export(), again.State()[i].Export(), p.Name)
	}
}
