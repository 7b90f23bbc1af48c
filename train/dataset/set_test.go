package dataset_test

import (
	"errors"
	"math"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
)

// newSet returns n images of c×h×w whose bytes count up, over all of them, modulo
// 251, labelled 0, 1, 2, 0, ….
func newSet(t require.TestingT, n, c, h, w int) *dataset.Set {
	data := make([]uint8, n*c*h*w)
	for i := range data {
		data[i] = uint8(i % 251)
	}
	labels := make([]int, n)
	for i := range labels {
		labels[i] = i % 3
	}
	set, err := dataset.New("counting", dataset.NewMemory(c, h, w, data), labels, []string{"a", "b", "c"})
	require.NoError(t, err)
	return set
}

// fill returns the images of set with these indices.
func fill(t require.TestingT, set *dataset.Set, indices ...int) tensor.NCHW {
	x := tensor.NewNCHW(len(indices), set.C, set.H, set.W)
	require.NoError(t, set.Fill(x, indices))
	return x
}

func TestNewRefusesBadData(t *testing.T) {
	two := dataset.NewMemory(1, 1, 1, []uint8{1, 2})
	for _, c := range []struct {
		name    string
		images  dataset.PixelSource
		labels  []int
		classes []string
		want    string
	}{
		{"no images", dataset.NewMemory(1, 2, 3, nil), nil, []string{"a"},
			"dataset: file: 0 images of 1×2×3, want at least one of at least 1×1×1"},
		{"too few labels", two, []int{0}, []string{"a"},
			"dataset: file: 1 labels for the 2 images of file, want one each"},
		{"no classes", two, []int{0, 0}, nil, "dataset: file: no classes, want at least one"},
		{"label too large", two, []int{1, 2}, []string{"a", "b"},
			"dataset: file: image 1 has label 2, want 0 to 1"},
		{"label negative", two, []int{-1, 0}, []string{"a", "b"},
			"dataset: file: image 0 has label -1, want 0 to 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := dataset.New("file", c.images, c.labels, c.classes)
			require.EqualError(t, err, c.want)
			assert.Nil(t, set)
		})
	}
}

func TestNewMemoryPanicsOnPartOfAnImage(t *testing.T) {
	assert.PanicsWithValue(t, "dataset: NewMemory: 7 bytes for images of 1×2×3",
		func() { dataset.NewMemory(1, 2, 3, make([]uint8, 7)) })
	assert.Panics(t, func() { dataset.NewMemory(1, 0, 3, nil) })
}

func TestFill(t *testing.T) {
	data := []uint8{0, 51, 102, 255, 1, 2, 3, 4}
	set, err := dataset.New("", dataset.NewMemory(2, 1, 2, data), []int{0, 0}, []string{"a"})
	require.NoError(t, err)
	x := fill(t, set, 1, 0, 1)
	last := []float32{1. / 255, 2. / 255, 3. / 255, 4. / 255}
	assert.Equal(t, last, x.Image(0))
	assert.Equal(t, []float32{0, 0.2, 0.4, 1}, x.Image(1))
	assert.Equal(t, last, x.Image(2))
}

func TestFillPanicsOnShape(t *testing.T) {
	set := newSet(t, 4, 1, 2, 3)
	assert.PanicsWithValue(t, "dataset: Fill: destination of 1×1×1×2×3 for 2×1×1×2×3",
		func() { _ = set.Fill(tensor.NewNCHW(1, 1, 2, 3), []int{0, 1}) })
	assert.PanicsWithValue(t, "dataset: Fill: image 4 of 4",
		func() { _ = set.Fill(tensor.NewNCHW(1, 1, 2, 3), []int{4}) })
}

// broken is images one of which cannot be read.
type broken struct {
	*dataset.Memory
	at int
}

var errBroken = errors.New("pixels.bin: bad sector")

func (b broken) ReadImage(dst []uint8, i int) error {
	if i == b.at {
		return errBroken
	}
	return b.Memory.ReadImage(dst, i)
}

func TestFillReportsSource(t *testing.T) {
	set, err := dataset.New("", broken{dataset.NewMemory(1, 1, 1, []uint8{1, 2, 3}), 2}, []int{0, 0, 0}, []string{"a"})
	require.NoError(t, err)
	err = set.Fill(tensor.NewNCHW(2, 1, 1, 1), []int{1, 2})
	require.ErrorIs(t, err, errBroken)
	assert.EqualError(t, err, "dataset: image 2: pixels.bin: bad sector")
}

// TestSubsets checks that image and label k of each subset are those of the index
// that it stands for, through two levels.
func TestSubsets(t *testing.T) {
	set := newSet(t, 20, 2, 3, 4)
	subset := func(s *dataset.Set, err error) *dataset.Set {
		require.NoError(t, err)
		return s
	}
	indices := []int{7, 0, 19, 7}
	for _, c := range []struct {
		name string
		got  *dataset.Set
		want []int
	}{
		{"First", subset(set.First(3)), []int{0, 1, 2}},
		{"First of one", subset(set.First(1)), []int{0}},
		{"Subset", subset(set.Subset(indices)), []int{7, 0, 19, 7}},
		{"PerClass", subset(set.PerClass(2)), []int{0, 1, 2, 3, 4, 5}},
		{"of a subset", subset(subset(set.Subset(indices)).Subset([]int{2, 0})), []int{19, 7}},
		{"PerClass of a subset", subset(subset(set.Subset([]int{5, 4, 8, 1, 3})).PerClass(1)), []int{5, 4, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, len(c.want), c.got.N)
			assert.Equal(t, set.Classes, c.got.Classes)
			for k, i := range c.want {
				assert.Equal(t, set.Labels[i], c.got.Labels[k])
				assert.Equal(t, fill(t, set, i), fill(t, c.got, k))
			}
		})
	}
	kept := subset(set.Subset(indices))
	indices[0] = 1
	assert.Equal(t, fill(t, set, 7), fill(t, kept, 0), "a subset keeps its own indices")
	assert.Equal(t, 20, set.N, "the set itself stays")
}

func TestSubsetErrors(t *testing.T) {
	set := newSet(t, 5, 1, 1, 1) // labels 0 1 2 0 1
	for want, make := range map[string]func() (*dataset.Set, error){
		"dataset: the first 0 images of 5, want 1 to 5":           func() (*dataset.Set, error) { return set.First(0) },
		"dataset: the first 6 images of 5, want 1 to 5":           func() (*dataset.Set, error) { return set.First(6) },
		"dataset: 0 images a class, want at least 1":              func() (*dataset.Set, error) { return set.PerClass(0) },
		"dataset: 2 images a class, but class 2 (c) has 1":        func() (*dataset.Set, error) { return set.PerClass(2) },
		"dataset: a subset of no images, want at least one index": func() (*dataset.Set, error) { return set.Subset(nil) },
		"dataset: index 5 of a subset, want 0 to 4":               func() (*dataset.Set, error) { return set.Subset([]int{0, 5}) },
		"dataset: index -1 of a subset, want 0 to 4":              func() (*dataset.Set, error) { return set.Subset([]int{-1}) },
	} {
		_, err := make()
		assert.EqualError(t, err, want)
	}
}

func TestOnly(t *testing.T) {
	set := newSet(t, 8, 2, 3, 4) // labels 0 1 2 0 1 2 0 1
	part, err := set.Only(2, 0)
	require.NoError(t, err)
	assert.Equal(t, []string{"c", "a"}, part.ClassNames())
	assert.Equal(t, [2]int{2, 5}, [2]int{part.Classes, part.N})
	assert.Equal(t, []int{1, 0, 1, 0, 1}, part.Labels)
	for k, i := range []int{0, 2, 3, 5, 6} {
		assert.Equal(t, fill(t, set, i), fill(t, part, k))
	}
	assert.Equal(t, []int{0, 1, 2, 0, 1, 2, 0, 1}, set.Labels, "the set itself stays")
	again, err := part.Only(1) // a, of a part
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, again.ClassNames())
	assert.Equal(t, []int{0, 0, 0}, again.Labels)
	assert.Equal(t, fill(t, set, 0, 3, 6), fill(t, again, 0, 1, 2))

	few, err := set.First(2)
	require.NoError(t, err)
	for want, classes := range map[string][]int{
		"dataset: only class 3, want 0 to 2":                      {0, 3},
		"dataset: only class -1, want 0 to 2":                     {-1},
		"dataset: only class 1, twice":                            {1, 0, 1},
		"dataset: only classes [], of which there are no images":  nil,
		"dataset: only classes [2], of which there are no images": {2},
	} {
		_, err := few.Only(classes...)
		assert.EqualError(t, err, want)
	}
}

// Sets that differ in a label, in a pixel or in size have different fingerprints.
func TestFingerprint(t *testing.T) {
	set := newSet(t, 5, 1, 2, 2)
	digest := func(s *dataset.Set, err error) string {
		require.NoError(t, err)
		d, err := s.Fingerprint()
		require.NoError(t, err)
		return d
	}
	want := digest(set, nil)
	assert.Equal(t, want, digest(newSet(t, 5, 1, 2, 2), nil))
	assert.Len(t, want, 32)
	pixels := make([]uint8, 20)
	for i := range pixels {
		pixels[i] = uint8(i)
	}
	names := set.ClassNames()
	assert.Equal(t, want, digest(dataset.New("", dataset.NewMemory(1, 2, 2, pixels), set.Labels, names)))
	assert.NotEqual(t, want, digest(dataset.New("", dataset.NewMemory(1, 2, 2, pixels), []int{0, 1, 2, 0, 2}, names)))
	pixels[19]++
	assert.NotEqual(t, want, digest(dataset.New("", dataset.NewMemory(1, 2, 2, pixels), set.Labels, names)))
	assert.NotEqual(t, want, digest(set.First(4)))

	// It looks at every image of a set of 256, and at no more of a larger one's.
	for _, c := range []struct{ n, least int }{{256, 256}, {257, 128}, {1000, 128}} {
		images := counted{dataset.NewMemory(1, 1, 1, make([]uint8, c.n)), new(atomic.Int64)}
		digest(dataset.New("", images, make([]int, c.n), []string{"a"}))
		reads := int(images.reads.Load())
		assert.True(t, reads >= c.least && reads <= 256, "%d of %d images", reads, c.n)
	}
}

// TestWithClasses relabels a set of the classes a, b, c to lists of more classes and of
// another order.
func TestWithClasses(t *testing.T) {
	set := newSet(t, 5, 1, 1, 2) // labels 0 1 2 0 1
	other, err := set.WithClasses([]string{"c", "x", "b", "a"})
	require.NoError(t, err)
	assert.Equal(t, []int{3, 2, 0, 3, 2}, other.Labels)
	assert.Equal(t, 4, other.Classes)
	assert.Equal(t, []string{"c", "x", "b", "a"}, other.ClassNames())
	assert.Equal(t, fill(t, set, 4), fill(t, other, 4))
	assert.Equal(t, []int{0, 1, 2, 0, 1}, set.Labels, "the set itself stays")

	_, err = set.WithClasses([]string{"a", "c"})
	assert.EqualError(t, err, `dataset: class 1 (b) is none of the 2 classes ["a" "c"]`)
	_, err = set.WithClasses([]string{"a", "b", "c", "a"})
	assert.EqualError(t, err, `dataset: class "a" is twice in the list of classes`)
}

// TestNoClassNames has a set of a format without names. It gets names by request.
func TestNoClassNames(t *testing.T) {
	dir := t.TempDir()
	set, err := dataset.ReadIDX(write(t, filepath.Join(dir, "images"), goodImages), write(t, filepath.Join(dir, "labels"), goodLabels), 10)
	require.NoError(t, err)
	part, err := set.Only(9, 4)
	require.NoError(t, err)
	assert.Nil(t, part.ClassNames())
	assert.Equal(t, [2]int{2, 2}, [2]int{part.N, part.Classes})
	_, err = set.PerClass(1)
	assert.EqualError(t, err, "dataset: 1 images a class, but class 0 has 0")

	named, err := part.WithClasses([]string{"nine", "four"})
	require.NoError(t, err)
	assert.Equal(t, []string{"nine", "four"}, named.ClassNames())
	assert.Equal(t, []int{1, 0}, named.Labels)
	_, err = part.WithClasses([]string{"nine", "four", "six"})
	assert.EqualError(t, err, "dataset: names of 3 classes for a set of 2 classes without names")
}

// TestWithNormalization checks that parts of a set keep its normalization.
func TestWithNormalization(t *testing.T) {
	set := newSet(t, 6, 2, 2, 2)
	mean, std := set.Normalization()
	assert.Nil(t, mean)
	assert.Nil(t, std)
	given := []float32{0.25, -0.5}
	normalized, err := set.WithNormalization(given, []float32{0.5, 2})
	require.NoError(t, err)
	given[0] = 9
	for _, part := range []func() (*dataset.Set, error){
		func() (*dataset.Set, error) { return normalized, nil },
		func() (*dataset.Set, error) { return normalized.First(3) },
		func() (*dataset.Set, error) { return normalized.PerClass(1) },
		func() (*dataset.Set, error) { return normalized.Only(1) },
		func() (*dataset.Set, error) { return normalized.Subset([]int{5}) },
		func() (*dataset.Set, error) { return normalized.WithClasses([]string{"c", "b", "a"}) },
	} {
		s, err := part()
		require.NoError(t, err)
		mean, std := s.Normalization()
		assert.Equal(t, []float32{0.25, -0.5}, mean)
		assert.Equal(t, []float32{0.5, 2}, std)
		assert.Equal(t, "counting", s.Provenance())
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for want, c := range map[string][2][]float32{
		"dataset: 1 means and 2 standard deviations, want 2 each": {{0}, {1, 1}},
		"channel 1: mean 0 and standard deviation 0, want":        {{0, 0}, {1, 0}},
		"channel 0: mean NaN and standard deviation 1, want":      {{nan, 0}, {1, 1}},
		"channel 0: mean 0 and standard deviation +Inf, want":     {{0, 0}, {inf, 1}},
		"channel 1: mean +Inf and standard deviation 1, want":     {{0, inf}, {1, 1}},
		"channel 1: mean 0 and standard deviation NaN, want":      {{0, 0}, {1, nan}},
		"channel 1: mean 0 and standard deviation -1, want":       {{0, 0}, {1, -1}},
	} {
		_, err := set.WithNormalization(c[0], c[1])
		assert.ErrorContains(t, err, want)
	}
}
