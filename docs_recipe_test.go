package snnrat_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// free makes Replays updates with each batch. After each one, every pixel moves by Eps in the
// direction that raises the loss, and stays within Eps of the original.
type free struct {
	Replays int
	Eps     float32
}

func (f free) Validate(*snn.Model, snn.Dataset) error {
	if f.Replays < 1 || !(f.Eps >= 0 && f.Eps <= 1) {
		return fmt.Errorf("free: Replays is %d and Eps is %v, want at least 1 and a number in [0,1]", f.Replays, f.Eps)
	}
	return nil
}

func (f free) Step(_ context.Context, s *train.Step) error {
	x := s.X.Clone()
	for i := range f.Replays {
		grad, err := s.Update(train.StepPass{X: x, Draw: i, Images: true})
		if err != nil {
			return err
		}
		for n := range x.N {
			image := x.Image(n)
			attack.LInf{}.Step(image, grad.Image(n), f.Eps)
			attack.LInf{}.Project(image, s.X.Image(n), f.Eps)
			for k, v := range image {
				image[k] = min(max(v, 0), 1)
			}
		}
	}
	return nil
}

// One replay is the ordinary recipe, to the bit. More of them see images that have moved, and
// train a network, too.
func TestDocsExtendRecipe(t *testing.T) {
	data := t.TempDir()
	require.NoError(t, draw(data))
	set, err := dataset.ReadFolder(data)
	require.NoError(t, err)
	run := func(r train.Recipe) (weights []float32, accuracy float64) {
		m, err := zoo.New(zoo.Default("conv8 A | fc").For(set), rng.New(1))
		require.NoError(t, err)
		cfg := train.Default(3)
		cfg.Recipe = r
		trainer, err := train.New(m, set, cfg, rng.New(2))
		require.NoError(t, err)
		for _, err := range trainer.Epochs(context.Background()) {
			require.NoError(t, err)
		}
		accuracy, err = train.Accuracy(context.Background(), m, set, 64)
		require.NoError(t, err)
		for _, p := range m.Params() {
			weights = append(weights, p.Export()...)
		}
		return weights, accuracy
	}
	ordinary, _ := run(train.OneUpdate{})
	once, _ := run(free{Replays: 1, Eps: 0.1})
	assert.Equal(t, ordinary, once)
	still, _ := run(free{Replays: 4, Eps: 0})
	moved, accuracy := run(free{Replays: 4, Eps: 0.1})
	assert.NotEqual(t, still, moved)
	assert.Greater(t, accuracy, 0.9)

	cfg := train.Default(1)
	cfg.Recipe = free{}
	m, err := zoo.New(zoo.Default("conv8 A | fc").For(set), rng.New(1))
	require.NoError(t, err)
	_, err = train.New(m, set, cfg, rng.New(2))
	assert.ErrorContains(t, err, "free: Replays is 0")
}
