package train

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// nameless returns a trainer of a network with two layers of neurons without a name.
func nameless(t *testing.T, first, second *snn.Neuron) *Trainer {
	set, err := dataset.New("", dataset.NewMemory(1, 1, 1, []uint8{0, 255}), []int{0, 1}, []string{"a", "b"})
	require.NoError(t, err)
	body := (&snn.Sequential{}).Append("", first).Append("", second).Append("fc", snn.NewLinear(1, 2, true))
	model, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 2}, body)
	require.NoError(t, err)
	tr, err := New(model, set, Default(1), rng.New(1))
	require.NoError(t, err)
	return tr
}

func soft() *snn.Neuron {
	n := snn.IF()
	n.SoftReset = true
	return n
}

// Layers of the same name are told apart.
func TestResumeNamelessLayers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, nameless(t, snn.IF(), snn.LIF(0.5)).Save(path))
	require.NoError(t, nameless(t, snn.IF(), snn.LIF(0.5)).Resume(path))
	require.NoError(t, nameless(t, snn.IF(), soft()).Save(path))
	require.NoError(t, nameless(t, snn.IF(), soft()).Resume(path))
	require.ErrorContains(t, nameless(t, snn.IF(), snn.IF()).Resume(path), "the setting of layer  (2) is snn.Neuron{Decay:1 Threshold:1 SoftReset:false ")
}
