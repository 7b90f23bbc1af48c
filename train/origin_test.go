package train

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/paramfile"
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
	require.NoError(t, nameless(t, snn.IF(), soft()).Save(path))
	require.NoError(t, nameless(t, snn.IF(), soft()).Resume(path))
	require.ErrorContains(t, nameless(t, snn.IF(), snn.IF()).Resume(path), "layer  (2) is snn.Neuron{Leak:1 Threshold:1 SoftReset:false ")
}

// A checkpoint from before settings of layers were kept is resumed without them.
func TestResumeWithoutSettingsOfLayers(t *testing.T) {
	tr := nameless(t, soft(), soft())
	origin, err := tr.origin()
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"steps": 0, "history": nil, "origin": origin})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "checkpoint")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, paramfile.Write(f, tr.tensors(), map[string]string{
		progressKey: string(text), digestKey: tr.digest(string(text)),
	}))
	require.NoError(t, tr.Resume(path))
}
