package snnrat_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/doctest"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// The Go code of docs/train.md is code of this file.
func TestDocsTrain(t *testing.T) {
	doctest.Page(t, "docs/train.md", 15, "docs_train_test.go")
}

// draw writes a folder of grey images of two classes, which are bright on the left or on
// the right.
func draw(folder string) error {
	for c, class := range []string{"left", "right"} {
		if err := os.MkdirAll(filepath.Join(folder, class), 0o755); err != nil {
			return err
		}
		for i := range 16 {
			img := image.NewGray(image.Rect(0, 0, 8, 8))
			r := rng.New(uint64(2*i + c)).Rand()
			for p := range img.Pix {
				level := r.IntN(100)
				if p%8/4 == c {
					level += 150
				}
				img.SetGray(p%8, p/8, color.Gray{Y: uint8(level)})
			}
			f, err := os.Create(filepath.Join(folder, class, fmt.Sprint(i, ".png")))
			if err != nil {
				return err
			}
			if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

// trainFolder trains a network on the folder data/train and saves it.
func trainFolder(ctx context.Context, data, checkpoint, network string, epochs int) error {
	set, err := dataset.ReadFolder(filepath.Join(data, "train"))
	if err != nil {
		return err
	}

	mean, std, err := dataset.Moments(set)
	if err != nil {
		return err
	}
	set, err = set.WithNormalization(mean, std)
	if err != nil {
		return err
	}

	arch := zoo.Default("conv8 A conv16 A | fc").For(set)
	arch.Steps = 4 // T, the number of time steps
	model, err := zoo.New(arch, rng.New(1))
	if err != nil {
		return err
	}

	cfg := train.RAT(epochs, attack.RATMix(2./255), regularize.ForVGG(), regularize.Simplex)
	cfg.Loader.BatchSize = 8
	trainer, err := train.New(model, set, cfg, rng.New(2))
	if err != nil {
		return err
	}
	if err := trainer.Resume(checkpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	trainer.SaveEvery(10*time.Minute, checkpoint)
	for m, err := range trainer.Epochs(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("epoch %d: loss %.2f, accuracy %.0f %%\n", m.Epoch, m.Loss, 100*m.Accuracy)
	}
	if err := model.Save(network); err != nil {
		return err
	}
	return nil
}

// judge prints the accuracies of a network on the folder data/test.
func judge(ctx context.Context, data, network string) error {
	model, _, err := zoo.Load(network)
	if err != nil {
		return err
	}
	test, err := dataset.ReadFolderAs(filepath.Join(data, "test"), model.ClassNames())
	if err != nil {
		return err
	}
	clean, err := train.Accuracy(ctx, model, test, 64)
	if err != nil {
		return err
	}
	pgd := attack.Named{Name: "PGD", Attack: attack.PGD(8./255, 0.01, 7, snn.BPTT{})}
	report, err := attack.Evaluate(ctx, model, test, []attack.Named{pgd}, attack.DefaultConfig())
	if err != nil {
		return err
	}
	fmt.Printf("clean %.0f %%, under PGD %.0f %%\n", 100*clean, 100*report.Attacks[0].Accuracy)
	return nil
}

// className returns the name of the class of an image, [C][H][W] with values in [0,1].
func className(model *snn.Model, pixels []float32) (string, error) {
	image := tensor.NewNCHW(1, model.Channels, model.Height, model.Width)
	copy(image.Data, pixels)
	logits, err := model.Logits(snn.Pass{}, image)
	if err != nil {
		return "", err
	}
	return model.ClassNames()[slices.Index(logits, slices.Max(logits))], nil
}

// judgeFog prints the accuracy of a network on the file fog.npy of a folder such as CIFAR-10-C.
func judgeFog(ctx context.Context, model *snn.Model, folder string) error {
	corrupted, err := dataset.ReadNPY(filepath.Join(folder, "fog.npy"), filepath.Join(folder, "labels.npy"), model.Classes())
	if err != nil {
		return err
	}
	accuracy, err := train.Accuracy(ctx, model, corrupted, 64)
	if err != nil {
		return err
	}
	fmt.Printf("%d images in fog: %.0f %%\n", corrupted.N, 100*accuracy)
	return nil
}

// The page's code judges NumPy files by a network with class names, and refuses those with
// other labels.
func TestDocsTrainNumPy(t *testing.T) {
	cfg := zoo.Default("conv4 A | fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 3, 8, 8, 2, 1
	cfg.Mean, cfg.Std = nil, nil
	cfg.ClassNames = []string{"cat", "dog"}
	model, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	folder := t.TempDir()
	write := func(name, shape string, data []byte) {
		header := "{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + ", }\n"
		b := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), 0)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), slices.Concat(b, []byte(header), data), 0o644))
	}
	write("fog.npy", "(2, 8, 8, 3)", make([]byte, 2*8*8*3))
	write("labels.npy", "(2,)", []byte{0, 1})
	require.NoError(t, judgeFog(t.Context(), model, folder))
	write("labels.npy", "(2,)", []byte{0, 2})
	assert.ErrorContains(t, judgeFog(t.Context(), model, folder), "label 2")
}

// bias measures the largest bias of the last layer.
type bias struct{}

func (bias) Measure(_ context.Context, m *snn.Model, _ int) (map[string]float64, error) {
	params := m.Params()
	last := params[len(params)-1]
	return map[string]float64{"max/" + last.Name: float64(slices.Max(last.Export()))}, nil
}

// squares is half the squared distance between the logits of every step and the one-hot label,
// as a mean over the steps.
type squares struct{}

func (squares) Validate() error  { return nil }
func (squares) NeedsClean() bool { return false }

func (squares) Compute(losses []float64, o train.BatchOutput) (grad, clean []float32) {
	grad = slices.Clone(o.Logits) // [N, Steps, Classes]
	for n, y := range o.Labels {
		losses[n] = 0
		image := grad[n*o.Steps*o.Classes:][:o.Steps*o.Classes]
		for i := range image {
			if i%o.Classes == y {
				image[i]--
			}
			losses[n] += float64(image[i]*image[i]) / 2 / float64(o.Steps)
			image[i] /= float32(o.Steps)
		}
	}
	return grad, nil
}

// quiet is a penalty of Weight for the mean of the squared currents above the threshold of a
// layer of LIF neurons.
type quiet struct {
	Layer  string
	Weight float64
}

func (p quiet) Validate() error { return nil }
func (p quiet) Of() string      { return p.Layer }

func (p quiet) Penalize(a *train.Activity) (charge train.PenaltyValue, err error) {
	n, ok := a.Neuron.(*snn.LIF)
	if !ok {
		return charge, fmt.Errorf("a layer of %T, want a *snn.LIF", a.Neuron)
	}
	x := a.Currents()
	count := float64(x.Frames() * x.Neurons())
	grad := a.NewGrad(x.Shape)
	for i, v := range x.Data {
		d := max(0, v-n.Threshold)
		charge.Value += p.Weight * float64(d*d) / count
		grad.Data[i] = float32(2 * p.Weight * float64(d) / count)
	}
	charge.Currents = grad
	return charge, nil
}

// trainWithParts trains with a loss and penalties, and watches the training.
func trainWithParts(ctx context.Context, model *snn.Model, set, test *dataset.Set, folder string, epochs int) error {
	cfg := train.Default(epochs)
	cfg.Loss = squares{}
	cfg.Penalties = []train.Penalty{
		quiet{Layer: "features.2", Weight: 0.01},
		train.RatePenalty{Weight: 0.1}, // of every layer of neurons
	}

	cfg.Validation = train.DefaultValidation(test, attack.FGSM(2./255, snn.BPTR{}))
	cfg.Recorders = []train.Recorder{
		train.CSV{Path: filepath.Join(folder, "metrics.csv")},
		&train.TensorBoard{Dir: filepath.Join(folder, "events")},
	}

	cfg.Schedule = train.Warmup{Epochs: 1, Then: train.Cosine{EveryStep: true}}
	cfg.ClipNorm = 5
	cfg.EMA = 0.99

	trainer, err := train.New(model, set, cfg, rng.New(2))
	if err != nil {
		return err
	}
	if err := trainer.SaveBest(filepath.Join(folder, "best.safetensors")); err != nil {
		return err
	}
	for m, err := range trainer.Epochs(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("epoch %d: clean %.2f, attacked %.2f\n", m.Epoch, m.Validation.Clean, *m.Validation.Attacked)
	}
	averaged := filepath.Join(folder, "average.safetensors")
	return trainer.WithAverage(func() error { return model.Save(averaged) })
}

// trades returns the settings of a training with TRADES.
func trades(epochs int) train.Config {
	cfg := train.Default(epochs)
	cfg.Loss = train.TRADES{Beta: 6}
	cfg.Adversary = attack.TRADES(8./255, 2./255, 10, snn.BPTT{})
	cfg.Recipe = train.AWP{Gamma: 0.005}
	return cfg
}

// A network is trained on a folder of images and judged. A second call finds the checkpoint
// of the finished training and trains no more.
func TestDocsTrainFolder(t *testing.T) {
	ctx, data := context.Background(), t.TempDir()
	checkpoint, network := filepath.Join(data, "checkpoint"), filepath.Join(data, "network")
	require.NoError(t, draw(filepath.Join(data, "train")))
	set, err := dataset.ReadFolder(filepath.Join(data, "train"))
	require.NoError(t, err)
	require.NoError(t, trainFolder(ctx, data, checkpoint, network, 3))
	first, err := os.ReadFile(checkpoint)
	require.NoError(t, err)
	require.NoError(t, draw(filepath.Join(data, "test")))
	require.NoError(t, judge(ctx, data, network))
	model, _, err := zoo.Load(network)
	require.NoError(t, err)
	accuracy, err := train.Accuracy(ctx, model, set, 64)
	require.NoError(t, err)
	assert.Greater(t, accuracy, 0.9)
	image := tensor.NewNCHW(1, set.C, set.H, set.W)
	require.NoError(t, set.Fill(image, []int{0}))
	class, err := className(model, image.Data)
	require.NoError(t, err)
	assert.Equal(t, "left", class)

	require.NoError(t, trainFolder(ctx, data, checkpoint, network, 3))
	second, err := os.ReadFile(checkpoint)
	require.NoError(t, err)
	assert.True(t, slices.Equal(first, second))
}

// A loss, a penalty, a surrogate and a monitor of one's own train a network, and so do TRADES
// and AWP.
func TestDocsTrainOwnParts(t *testing.T) {
	racetest.Costly(t)
	ctx, data := context.Background(), t.TempDir()
	require.NoError(t, draw(data))
	set, err := dataset.ReadFolder(data)
	require.NoError(t, err)
	arch := zoo.Default("conv8 A | fc").For(set)
	arch.Steps = 4
	learns := func(fit func(*snn.Model)) {
		model, err := zoo.New(arch, rng.New(1))
		require.NoError(t, err)
		fit(model)
		accuracy, err := train.Accuracy(ctx, model, set, 64)
		require.NoError(t, err)
		assert.Greater(t, accuracy, 0.9)
	}
	folder := t.TempDir()
	learns(func(model *snn.Model) { require.NoError(t, trainWithParts(ctx, model, set, set, folder, 30)) })
	for _, name := range []string{"best.safetensors", "average.safetensors"} {
		model, _, err := zoo.Load(filepath.Join(folder, name))
		require.NoError(t, err)
		accuracy, err := train.Accuracy(ctx, model, set, 64)
		require.NoError(t, err)
		assert.Greater(t, accuracy, 0.9, name)
	}
	text, err := os.ReadFile(filepath.Join(folder, "metrics.csv"))
	require.NoError(t, err)
	assert.Len(t, strings.Split(strings.TrimSpace(string(text)), "\n"), 31)
	learns(func(model *snn.Model) {
		trainer, err := train.New(model, set, trades(20), rng.New(2))
		require.NoError(t, err)
		for _, err := range trainer.Epochs(ctx) {
			require.NoError(t, err)
		}
	})
	learns(func(model *snn.Model) {
		cfg := train.Default(10)
		cfg.Gradient, cfg.Monitor = snn.BPTT{Surrogate: gauss{1}}, bias{}
		trainer, err := train.New(model, set, cfg, rng.New(2))
		require.NoError(t, err)
		for m, err := range trainer.Epochs(ctx) {
			require.NoError(t, err)
			assert.Contains(t, m.Measured, "max/classifier.0.bias")
		}
	})
}
