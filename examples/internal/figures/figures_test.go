package figures

import (
	"context"
	"math"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func network(t *testing.T) (*snn.Model, *dataset.Set) {
	cfg := zoo.Default("conv4 A conv5 A | fc6 fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Steps = 1, 28, 28, 3
	cfg.Mean, cfg.Std = []float32{0.286}, []float32{0.353}
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	set, err := fashion.Test()
	require.NoError(t, err)
	set, err = set.First(batch + 5)
	require.NoError(t, err)
	return m, set
}

// The means are those over the images one by one, whatever their batch.
func TestMeasure(t *testing.T) {
	m, set := network(t)
	a := attack.Named{Name: "PGD", Attack: attack.PGD(8./255, 0.01, 2, snn.BPTT{})}
	key := rng.New(3)
	got, err := Measure(t.Context(), m, set, a, key)
	require.NoError(t, err)
	require.Equal(t, []string{"features.2", "features.6", "classifier.1"}, got.Layers)
	want, perSpike, rate, firing := make([]float64, 3), make([]float64, 3), make([]float64, 3), make([]float64, 3)
	for i := range set.N {
		x := tensor.NewNCHW(1, 1, 28, 28)
		require.NoError(t, set.Fill(x, []int{i}))
		adv, err := a.Attack.Perturb(t.Context(), m, x, []int{set.Label(i)}, []uint64{uint64(i)}, key.Derive("attack PGD", 0))
		require.NoError(t, err)
		p, err := lipschitz.SpikeDistances(m, 2, x, adv, nil)
		require.NoError(t, err)
		for k, l := range p {
			want[k] += l.D[0] / float64(set.N)
			rate[k] += float64(l.Spikes[0]) / float64(set.N)
			if l.Spikes[0] > 0 {
				perSpike[k] += l.D[0] / math.Sqrt(float64(l.Spikes[0]))
				firing[k]++
			}
		}
	}
	for k, neurons := range []float64{4 * 28 * 28, 5 * 14 * 14, 6} {
		assert.Positive(t, got.D2[0])
		assert.InEpsilon(t, want[k]+1, got.D2[k]+1, 1e-12)
		assert.InDelta(t, got.D2[k]/math.Sqrt(3*neurons), got.PerNeuron[k], 1e-12)
		assert.InDelta(t, perSpike[k]/max(firing[k], 1), got.PerSpike[k], 1e-12)
		assert.InDelta(t, rate[k]/(3*neurons), got.Rate[k], 1e-12)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Measure(ctx, m, set, a, key)
	assert.ErrorIs(t, err, context.Canceled)

	f := DrawDistances("distances", []Curve{{"one", got, 0, false}, {"two", &Distances{}, 1, true}})
	assert.Equal(t, []float64{1, 2, 3}, f.XTicks)
	require.NoError(t, f.Save(t.TempDir(), "distances"))
}

func TestTicks(t *testing.T) {
	for most, want := range map[float64][]float64{
		0.33: {0, 0.1, 0.2, 0.3, 0.4}, 0.1: {0, 0.02, 0.04, 0.06, 0.08, 0.1}, 1: {0, 0.2, 0.4, 0.6, 0.8, 1},
		12: {0, 2, 4, 6, 8, 10, 12}, 7e-5: {0, 2e-5, 4e-5, 6e-5, 8e-5}, 0: nil,
	} {
		assert.Equal(t, want, ticks(most), most)
	}
}

// Every singular value is in one interval, the largest in the last.
func TestSpectra(t *testing.T) {
	m, _ := network(t)
	spectra, err := Spectra(t.Context(), m)
	require.NoError(t, err)
	require.Len(t, spectra, 4)
	assert.Equal(t, "classifier.0.weight", spectra[2].Weight)
	assert.Len(t, spectra[2].Values, 6)

	f := DrawSpectra("spectra", []Network{{"network", spectra}, {"one", []Spectrum{{"w", []float64{8, 4, 4, 0}}}}})
	var sums [2]float64
	for k, l := range f.Lines {
		for _, y := range l.Y {
			sums[k] += y
		}
	}
	assert.InDeltaSlice(t, []float64{100, 100}, sums[:], 1e-9)
	f = DrawSpectra("spectra", []Network{{"one", []Spectrum{{"w", []float64{8, 4, 4, 0}}}}, {"zero", []Spectrum{{"w", []float64{0}}}}})
	assert.Equal(t, 25.0, f.Lines[0].Y[9])
	assert.Equal(t, 50.0, f.Lines[0].Y[5])
	assert.Equal(t, 25.0, f.Lines[0].Y[0])
	assert.Equal(t, 100.0, f.Lines[1].Y[0])
	require.NoError(t, f.Save(t.TempDir(), "spectra"))
	require.NoError(t, DrawSpectra("zero", []Network{{"zero", []Spectrum{{"w", []float64{0}}}}}).Save(t.TempDir(), "zero"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Spectra(ctx, m)
	assert.ErrorIs(t, err, context.Canceled)
}
