package snnrat_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// sweep is a data set of dots that move over a row of pixels, one pixel a time step, to the
// left (class 0) or to the right (class 1).
type sweep struct{ N, Width int }

func (s sweep) Shape() tensor.Shape {
	return tensor.Shape{N: s.N, Steps: s.Width, C: 1, H: 1, W: s.Width}
}

func (s sweep) Label(i int) int { return i % 2 }
func (s sweep) NumClasses() int { return 2 } // may be left out

func (s sweep) Fill(dst tensor.NCHW, indices []int) error {
	clear(dst.Data)
	for k, i := range indices {
		for step := range s.Width {
			at := (i + step) % s.Width
			if s.Label(i) == 0 {
				at = s.Width - 1 - at
			}
			dst.Image(k)[step*s.Width+at] = 1 // [Steps][C][H][W]
		}
	}
	return nil
}

// blank clears each frame with probability P.
type blank struct{ P float64 }

func (b blank) Augment(x tensor.NCHW, r *rand.Rand) {
	for frame := range slices.Chunk(x.Data, x.C*x.H*x.W) {
		if r.Float64() < b.P {
			clear(frame)
		}
	}
}

// A network trains on a data set of one's own, with an augmentation of one's own, and is
// attacked on it.
func TestDocsExtendData(t *testing.T) {
	ctx, data := context.Background(), sweep{N: 12, Width: 6}
	arch := zoo.Default("| fc32 fc").For(data)
	arch.Decay, arch.Threshold = 0.9, 0.5
	m, err := zoo.New(arch, rng.New(1))
	require.NoError(t, err)
	assert.Equal(t, 6, m.Steps)

	cfg := train.Default(20)
	cfg.Loader.Augment = []dataset.Augmentation{dataset.Crop{Padding: 2}, blank{0.1}}
	_, err = train.New(m, data, cfg, rng.New(1))
	assert.EqualError(t, err, "train: Config.Loader: dataset: LoaderConfig.Augment[0]: Crop of images of 1×6, want at least two rows and two columns")

	cfg.Epochs, cfg.Optimizer, cfg.LR = 60, train.DefaultAdam(), 0.02
	cfg.Loader.Augment, cfg.Loader.BatchSize = []dataset.Augmentation{blank{0.1}}, 6
	tr, err := train.New(m, data, cfg, rng.New(1))
	require.NoError(t, err)
	for _, err := range tr.Epochs(ctx) {
		require.NoError(t, err)
	}
	accuracy, err := train.Accuracy(ctx, m, data, 4)
	require.NoError(t, err)
	assert.Greater(t, accuracy, 0.8)

	shared := attack.PGD(8./255, 2./255, 10, snn.BPTT{})
	shared.SharedFrames = true
	report, err := attack.Evaluate(ctx, m, data, []attack.Named{{Name: "shared", Attack: shared}}, attack.DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, accuracy, report.Clean.Accuracy)

	x := tensor.NewFrames(tensor.Shape{N: 1, Steps: 400, C: 1, H: 1, W: 2})
	for i := range x.Data {
		x.Data[i] = 1
	}
	blank{0.25}.Augment(x, rng.New(1).Rand())
	left := 0
	for frame := range slices.Chunk(x.Data, 2) {
		require.Equal(t, frame[0], frame[1])
		left += int(frame[0])
	}
	assert.InDelta(t, 300, left, 40)
}
