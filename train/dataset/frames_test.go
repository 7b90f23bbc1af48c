package dataset_test

import (
	"archive/zip"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

var _ snn.Dataset = (*dataset.Set)(nil)

// clip returns a set of n examples of 3 frames of 2×4×5, whose values are random, and the
// values.
func clip(t require.TestingT, n int) (*dataset.Set, []float32) {
	shape := tensor.Shape{N: n, Steps: 3, C: 2, H: 4, W: 5}
	data, labels := make([]float32, n*3*2*4*5), make([]int, n)
	r := rng.New(9).Rand()
	for i := range data {
		data[i] = r.Float32()
	}
	for i := range labels {
		labels[i] = i % 2
	}
	set, err := dataset.NewFrameSet("clip", dataset.NewFrames(shape, data), labels, []string{"left", "right"})
	require.NoError(t, err)
	return set, data
}

func fillFrames(t require.TestingT, set *dataset.Set, indices ...int) tensor.NCHW {
	shape := set.Shape()
	shape.N = len(indices)
	x := tensor.NewFrames(shape)
	require.NoError(t, set.Fill(x, indices))
	return x
}

// Frames are real numbers, bytes over 255, or zeros and ones.
func TestFrameSources(t *testing.T) {
	shape := tensor.Shape{N: 2, Steps: 2, C: 1, H: 1, W: 2}
	for name, c := range map[string]struct {
		frames dataset.FrameSource
		want   []float32 // example 1
	}{
		"float32": {dataset.NewFrames(shape, []float32{0, 0.25, 0.5, 1, 0.125, 1, 0, 0.75}), []float32{0.125, 1, 0, 0.75}},
		"uint8":   {dataset.NewFrames(shape, []uint8{0, 1, 2, 3, 51, 255, 0, 1}), []float32{0.2, 1, 0, 1. / 255}},
		"bool":    {dataset.NewFrames(shape, []bool{false, true, true, true, true, false, false, true}), []float32{1, 0, 0, 1}},
	} {
		set, err := dataset.NewFrameSet(name, c.frames, []int{0, 1}, []string{"a", "b"})
		require.NoError(t, err)
		assert.Equal(t, shape, set.Shape())
		x := tensor.NewFrames(tensor.Shape{N: 1, Steps: 2, C: 1, H: 1, W: 2})
		for i := range x.Data {
			x.Data[i] = 7
		}
		require.NoError(t, set.Fill(x, []int{1}))
		assert.Equal(t, c.want, x.Data, name)
	}
	assert.PanicsWithValue(t, "dataset: NewFrames: 3 values for frames of shape 2×2×1×1×2", func() { dataset.NewFrames(shape, make([]bool, 3)) })
	assert.PanicsWithValue(t, "dataset: Fill: destination of 1×1×1×1×2 for 1×2×1×1×2", func() {
		set, err := dataset.NewFrameSet("", dataset.NewFrames(shape, make([]bool, 8)), []int{0, 0}, []string{"a"})
		require.NoError(t, err)
		_ = set.Fill(tensor.NewNCHW(1, 1, 1, 2), []int{0})
	})
	_, err := dataset.NewFrameSet("file", dataset.NewFrames(shape, make([]bool, 8)), []int{0, 2}, []string{"a", "b"})
	assert.EqualError(t, err, "dataset: file: image 1 has label 2, want 0 to 1")
	_, err = dataset.NewFrameSet("file", dataset.NewFrames(shape, make([]bool, 8)), []int{0}, []string{"a", "b"})
	assert.EqualError(t, err, "dataset: file: 1 labels for the 2 images of file, want one each")
	_, err = dataset.NewFrameSet("file", none{}, nil, []string{"a"})
	assert.EqualError(t, err, "dataset: file: frames of shape 0×1×1×1×1, want at least 1 in each extent")
}

// none is a source of nothing. Reading it fails.
type none struct{}

func (none) Shape() tensor.Shape                 { return tensor.Shape{Steps: 1, C: 1, H: 1, W: 1} }
func (none) ReadFrames(_ []float32, i int) error { return errors.New("no frames") }

// Subsets, moments, normalization and fingerprint see the frames.
func TestSetOfFrames(t *testing.T) {
	set, data := clip(t, 7)
	size := 3 * 2 * 4 * 5
	right, err := set.Only(1)
	require.NoError(t, err)
	last, err := right.Subset([]int{2, 0})
	require.NoError(t, err)
	assert.Equal(t, tensor.Shape{N: 2, Steps: 3, C: 2, H: 4, W: 5}, last.Shape())
	assert.Equal(t, append(append([]float32{}, data[5*size:][:size]...), data[size:][:size]...), fillFrames(t, last, 0, 1).Data)

	mean, std, err := dataset.Moments(set)
	require.NoError(t, err)
	values := make([][]float64, 2)
	for i, v := range data {
		values[i/20%2] = append(values[i/20%2], float64(v))
	}
	for c := range values {
		m, v := stat.PopMeanVariance(values[c], nil)
		assert.InDelta(t, m, mean[c], 1e-6)
		assert.InDelta(t, v, float64(std[c])*float64(std[c]), 1e-6)
	}
	normalized, err := set.WithNormalization(mean, std)
	require.NoError(t, err)
	assert.Equal(t, mean, snn.InfoOf(normalized).Mean)

	want, err := set.Fingerprint()
	require.NoError(t, err)
	same, err := normalized.Fingerprint()
	require.NoError(t, err)
	assert.Equal(t, want, same)
	data[100] = data[100]*0.999 + 1e-6
	other, err := set.Fingerprint()
	require.NoError(t, err)
	assert.NotEqual(t, want, other, "a change too small for a byte")
}

// All frames of an example get the same crop and flip: frames that are equal stay equal.
// They are those of an image of the same pixels.
func TestFramesAreAugmentedAlike(t *testing.T) {
	const n = 20
	images := newSet(t, n, 2, 4, 5)
	var data []uint8
	for i := range n {
		for range 3 {
			for _, v := range fill(t, images, i).Data {
				data = append(data, uint8(v*255+0.5))
			}
		}
	}
	still, err := dataset.NewFrameSet("", dataset.NewFrames(tensor.Shape{N: n, Steps: 3, C: 2, H: 4, W: 5}, data), images.Labels, images.ClassNames())
	require.NoError(t, err)
	cfg := dataset.LoaderConfig{BatchSize: 6, Shuffle: true, Augment: augment(2, true), Prefetch: 1}
	frames, order := byID(epoch(t, still, cfg, rng.New(1), 4))
	want, orderOfImages := byID(epoch(t, images, cfg, rng.New(1), 4))
	assert.Equal(t, orderOfImages, order)
	for id, x := range frames {
		for step := range 3 {
			require.Equal(t, want[id], x[step*40:][:40])
		}
	}
}

// dim is an augmentation of one's own: it scales all values by a factor that it draws.
type dim struct{ Least float32 }

func (d dim) Augment(x tensor.NCHW, r *rand.Rand) {
	f := d.Least + (1-d.Least)*r.Float32()
	for i := range x.Data {
		x.Data[i] *= f
	}
}

// foreign is a data set from elsewhere, of one frame, in which only what snn.Dataset asks
// for is known.
type foreign struct{ n int }

func (f foreign) Shape() tensor.Shape { return tensor.Shape{N: f.n, Steps: 1, C: 1, H: 1, W: 2} }
func (f foreign) Label(i int) int     { return i % 3 }
func (f foreign) Fill(dst tensor.NCHW, indices []int) error {
	for k, i := range indices {
		dst.Image(k)[0], dst.Image(k)[1] = float32(i+1)/16, 1
	}
	return nil
}

// A loader takes any data set, and augmentations of one's own after others. The random
// numbers of an image do not depend on its batch.
func TestOwnDatasetAndAugmentation(t *testing.T) {
	cfg := dataset.LoaderConfig{BatchSize: 4, Augment: []dataset.Augmentation{dataset.Flip{}, dim{0.5}}, Prefetch: 2}
	load := func(size int) (images map[uint64][]float32, labels map[uint64]int) {
		cfg := cfg
		cfg.BatchSize = size
		loader, err := dataset.NewLoader(foreign{10}, cfg, rng.New(2))
		require.NoError(t, err)
		images, labels = map[uint64][]float32{}, map[uint64]int{}
		for b, err := range loader.Epoch(context.Background(), 1) {
			require.NoError(t, err)
			for k, id := range b.ID {
				images[id], labels[id] = b.X.Image(k), b.Y[k]
			}
		}
		return images, labels
	}
	images, labels := load(4)
	require.Len(t, images, 10)
	flipped := 0
	key := rng.New(2).Derive("epoch", 1)
	for id, x := range images {
		require.Equal(t, int(id)%3, labels[id])
		want := []float32{float32(id+1) / 16, 1}
		r := key.Derive("augment", id).Rand()
		if r.IntN(2) == 1 {
			want[0], want[1] = want[1], want[0]
			flipped++
		}
		f := 0.5 + 0.5*r.Float32()
		require.Equal(t, []float32{want[0] * f, want[1] * f}, x)
	}
	assert.True(t, flipped > 0 && flipped < 10)
	other, _ := load(3)
	assert.Equal(t, images, other)
	_, err := dataset.NewLoader(foreign{0}, cfg, rng.New(2))
	assert.EqualError(t, err, "dataset: a data set of shape 0×1×1×1×2, want at least 1 in each extent")
}

// npzFile returns the path of an archive that holds the files as arrays x and y.
func npzFile(t *testing.T, x, y string) string {
	path := filepath.Join(t.TempDir(), "set.npz")
	f, err := os.Create(path)
	require.NoError(t, err)
	w := zip.NewWriter(f)
	for name, from := range map[string]string{"x.npy": x, "y.npy": y} {
		b, err := os.ReadFile(npyFile(from))
		require.NoError(t, err)
		member, err := w.Create(name)
		require.NoError(t, err)
		_, err = member.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
	return path
}

// Arrays of five axes are frames, from a file or an archive.
func TestReadNPYFrames(t *testing.T) {
	for name, value := range map[string]func(k int) float32{
		"frames_u1":   func(k int) float32 { return float32(k%5) / 255 },
		"frames_f4":   func(k int) float32 { return float32(k%5) / 4 },
		"frames_bool": func(k int) float32 { return float32(min(k%5/2, 1)) },
	} {
		file, err := dataset.ReadNPY(npyFile(name), npyFile("labels_u1"), 10)
		require.NoError(t, err)
		archive, err := dataset.ReadNPZ(npzFile(t, name, "labels_u1"), "x", "y", 10)
		require.NoError(t, err)
		for _, set := range []*dataset.Set{file, archive} {
			assert.Equal(t, tensor.Shape{N: 3, Steps: 2, C: 1, H: 2, W: 2}, set.Shape())
			assert.Equal(t, []int{7, 0, 9}, set.Labels)
			for k, v := range fillFrames(t, set, 0, 1, 2).Data {
				require.Equal(t, value(k), v, name)
			}
		}
	}
	_, err := dataset.ReadNPY(npyFile("frames_outside"), npyFile("labels_u1"), 10)
	assert.EqualError(t, err, "dataset: "+npyFile("frames_outside")+": image 0, step 0, value 2: 2 outside [0, 1]")
	images, err := dataset.ReadNPZ(npzFile(t, "images", "labels_i8"), "x", "y", 10)
	require.NoError(t, err)
	assert.Equal(t, tensor.Shape{N: 3, Steps: 1, C: 3, H: 4, W: 5}, images.Shape())
	small := dataset.DefaultLimits()
	small.Bytes = 100 // 96 bytes of frames, once more as numbers
	_, err = dataset.ReadNPY(npyFile("frames_f4"), npyFile("labels_u1"), 10, small)
	assert.ErrorContains(t, err, "want at most 100 bytes, which Limits.Bytes allows")
}

func TestReadNPZRefuses(t *testing.T) {
	path := npzFile(t, "frames_f4", "labels_u1")
	_, err := dataset.ReadNPZ(path, "x", "z", 10)
	assert.ErrorContains(t, err, "dataset: "+path+`: array "z": `)
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = dataset.ReadNPZ(path, "x", "x", 10)
	assert.ErrorContains(t, err, "dataset: "+path+": x: an array of type <f4")
	_, err = dataset.ReadNPZ(path, "x", "y", 9)
	assert.ErrorContains(t, err, "dataset: "+path+": y: image 2 has label 9, want 0 to 8")
	_, err = dataset.ReadNPZ(path, "x", "y", 0)
	assert.ErrorContains(t, err, "0 classes, want at least 1")
	_, err = dataset.ReadNPZ(npyFile("images"), "x", "y", 9)
	assert.ErrorContains(t, err, "dataset: "+npyFile("images")+", read as a NumPy archive: ")
	_, err = dataset.ReadNPZ(filepath.Join(t.TempDir(), "none.npz"), "x", "y", 9)
	assert.ErrorIs(t, err, os.ErrNotExist)
}
