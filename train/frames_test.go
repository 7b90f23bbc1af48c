package train_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// bars returns a set of 96 examples of 8 binary frames of 3×8: a bar that moves to the left
// or to the right by one column a step, and comes in again on the other side. It differs in
// where it starts, in its rows and in its width. Every example shows each of its frames once
// in either class, so that only their order tells the class.
func bars(t testing.TB) *dataset.Set {
	var data []bool
	var labels []int
	for start := range 8 {
		for rows := 1; rows <= 3; rows++ {
			for width := 1; width <= 2; width++ {
				for direction := range 2 {
					for step := range 8 {
						frame := make([]bool, 3*8)
						for y := range rows {
							for x := range width {
								at := start + x + step
								if direction == 0 {
									at = start + x - step
								}
								frame[y*8+(at+8)%8] = true
							}
						}
						data = append(data, frame...)
					}
					labels = append(labels, direction)
				}
			}
		}
	}
	shape := tensor.Shape{N: len(labels), Steps: 8, C: 1, H: 3, W: 8}
	set, err := dataset.NewFrameSet("bars", dataset.NewFrames(shape, data), labels, []string{"left", "right"})
	require.NoError(t, err)
	return set
}

// barNetwork returns a network for bars, of neurons with the given decay.
func barNetwork(t testing.TB, decay float32) *snn.Model {
	cfg := zoo.Default("| fc48 fc").For(bars(t))
	cfg.Decay, cfg.Threshold = decay, 0.5
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	return m
}

func barConfig() train.Config {
	cfg := train.Default(60)
	cfg.Optimizer, cfg.LR, cfg.Loader.BatchSize = train.DefaultAdam(), 0.01, 16
	return cfg
}

// A network learns in which direction a bar moves, and tells it of bars that it has not
// seen. One whose neurons forget cannot tell, since the order of the frames is all there is.
func TestLearnsMovingBars(t *testing.T) {
	set := bars(t)
	var seen, unseen []int
	for i := range set.N {
		if i/2%4 == 0 {
			unseen = append(unseen, i)
		} else {
			seen = append(seen, i)
		}
	}
	training, err := set.Subset(seen)
	require.NoError(t, err)
	test, err := set.Subset(unseen)
	require.NoError(t, err)
	accuracy := func(decay float32) float64 {
		m := barNetwork(t, decay)
		tr, err := train.New(m, training, barConfig(), rng.New(5))
		require.NoError(t, err)
		finish(t, tr)
		a, err := train.Accuracy(context.Background(), m, test, 7)
		require.NoError(t, err)
		return a
	}
	assert.Greater(t, accuracy(0.9), 0.9)
	assert.Equal(t, 0.5, accuracy(1e-30))
}

// anonymous hides all of a set but what snn.Dataset asks for.
type anonymous struct{ snn.Dataset }

// relabelled is a data set with another label of example 3.
type relabelled struct{ snn.Dataset }

func (r relabelled) Label(i int) int {
	if i == 3 {
		return 1 - r.Dataset.Label(i)
	}
	return r.Dataset.Label(i)
}

// A training on any data set, of frames and with an adversary, gives the same bits after a
// resume. A set without a fingerprint is compared by shape, classes and labels.
func TestResumesOnAnyDataset(t *testing.T) {
	cfg := barConfig()
	cfg.Epochs, cfg.Adversary = 2, noise{Std: 0.1}
	path := filepath.Join(t.TempDir(), "checkpoint")
	want := barNetwork(t, 0.9)
	tr, err := train.New(want, anonymous{bars(t)}, cfg, rng.New(5))
	require.NoError(t, err)
	for m, err := range tr.Epochs(context.Background()) {
		require.NoError(t, err)
		if m.Epoch == 1 {
			require.NoError(t, tr.Save(path))
		}
	}
	set := barNetwork(t, 0.9)
	known, err := train.New(set, bars(t), cfg, rng.New(5))
	require.NoError(t, err)
	finish(t, known)
	assert.Equal(t, values(want), values(set), "what a set tells of itself changes no training")

	resume := func(data snn.Dataset) (*train.Trainer, *snn.Model, error) {
		m := barNetwork(t, 0.9)
		tr, err := train.New(m, data, cfg, rng.New(5))
		require.NoError(t, err)
		return tr, m, tr.Resume(path)
	}
	tr, got, err := resume(anonymous{bars(t)})
	require.NoError(t, err)
	finish(t, tr)
	assert.Equal(t, values(want), values(got))
	_, _, err = resume(relabelled{bars(t)})
	assert.ErrorContains(t, err, "the set's content is labels ")
	_, _, err = resume(bars(t))
	assert.ErrorContains(t, err, "the set's classes is left, right, but the checkpoint has 0, 1")
	fewer, err := bars(t).First(95)
	require.NoError(t, err)
	_, _, err = resume(anonymous{fewer})
	assert.ErrorContains(t, err, "the set's size is 95 examples of 8 frames of 1×3×8, but the checkpoint has 96 examples of 8 frames of 1×3×8")
}

// What does not fit frames is refused by name.
func TestNewRefusesFrames(t *testing.T) {
	m := barNetwork(t, 0.9)
	cfg := barConfig()
	cfg.Recipe = train.HIRE{Periods: 2, Eps: 0.1}
	_, err := train.New(m, bars(t), cfg, rng.New(1))
	assert.EqualError(t, err, "train: Config.Recipe: HIRE is for images that are the same at every time step, want OneUpdate{} for examples of 8 frames")
	m.Steps = 4
	const want = "train: snn: 8 frames for 4 time steps: expected a frame for each step, or one image for all of them"
	_, err = train.New(m, bars(t), barConfig(), rng.New(1))
	assert.EqualError(t, err, want)
	_, err = train.Accuracy(context.Background(), m, bars(t), 8)
	assert.EqualError(t, err, want)
	m.Steps = 8
	_, err = train.New(m, twice{bars(t)}, barConfig(), rng.New(1))
	assert.EqualError(t, err, "train: snn: image 1: label 2: expected 0 to 1")
}

// first is an adversary that returns the first frame alone.
type first struct{}

func (first) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	one := tensor.NewNCHW(x.N, x.C, x.H, x.W)
	for i := range x.N {
		copy(one.Image(i), x.Image(i))
	}
	return one, nil
}

// An adversary must return as many frames as it was given.
func TestAdversaryLosesFrames(t *testing.T) {
	cfg := barConfig()
	cfg.Adversary = first{}
	tr, err := train.New(barNetwork(t, 0.9), bars(t), cfg, rng.New(1))
	require.NoError(t, err)
	for _, err := range tr.Epochs(context.Background()) {
		assert.ErrorContains(t, err, "adversary: 16×1×3×8 images for a batch of 16×8×1×3×8")
	}
}

// Frames give batch norm as many values as there are steps, also before the first neurons.
func TestBatchNormOfFrames(t *testing.T) {
	body := snn.NewSequential(snn.Flatten{}, snn.NewLinear(3*8, 4, false), snn.NewBatchNorm(4), snn.NewIF(), snn.NewLinear(4, 2, true))
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 3, Width: 8, Steps: 8}, body)
	require.NoError(t, err)
	cfg := barConfig()
	cfg.Loader.BatchSize = 5 // one of 96 examples is left
	_, err = train.New(m, bars(t), cfg, rng.New(1))
	assert.NoError(t, err)
	cfg.Gradient = snn.CBA{} // has no time
	_, err = train.New(m, bars(t), cfg, rng.New(1))
	assert.ErrorContains(t, err, "train: batch norm 2 has one value a channel in the last batch")
}

// twice is a data set whose labels are twice those of another.
type twice struct{ snn.Dataset }

func (d twice) Label(i int) int { return 2 * d.Dataset.Label(i) }
