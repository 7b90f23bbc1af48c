package zoo_test

import (
	"testing"

	"github.com/org/snnrat/internal/race"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A training step that repeats allocates a bounded number of objects, some for each
// operation, however many images there are.
func TestTrainStepAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("pools drop what they hold under the race detector")
	}
	cfg := zoo.Default("small")
	cfg.Steps = 4
	steps := func(images int) float64 {
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		m.Threads = 1
		x := tensor.NewNCHW(images, m.Channels, m.Height, m.Width)
		r := rng.New(2).Rand()
		for i := range x.Data {
			x.Data[i] = r.Float32()
		}
		d := make([]float32, images*m.Classes())
		step := func() {
			require.NoError(t, m.ParamGradients(snn.Pass{Train: true}, x, func([]float32) []float32 { return d }))
		}
		step()
		return testing.AllocsPerRun(5, step)
	}
	few, many := steps(2), steps(16)
	t.Logf("%v and %v objects", few, many)
	assert.Less(t, many, 200.0)
	assert.Less(t, many-few, 30.0)
}
