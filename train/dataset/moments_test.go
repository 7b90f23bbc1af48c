package dataset_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
)

// TestMoments compares with gonum's two-pass mean and standard deviation, and with
// numbers by hand: 0, 255, 255, 0 have mean and standard deviation 1/2.
func TestMoments(t *testing.T) {
	set := newSet(t, 37, 3, 5, 4)
	mean, std, err := dataset.Moments(set)
	require.NoError(t, err)
	values := make([][]float64, set.C)
	for i := range set.N {
		for j, v := range fill(t, set, i).Data {
			values[j/20] = append(values[j/20], float64(v))
		}
	}
	for c := range set.C {
		m, v := stat.PopMeanVariance(values[c], nil)
		assert.InDelta(t, m, mean[c], 1e-7)
		assert.InDelta(t, v, float64(std[c])*float64(std[c]), 1e-7)
	}

	hand, err := dataset.New("", dataset.NewMemory(2, 1, 2, []uint8{0, 255, 1, 1, 255, 0, 1, 3}), []int{0, 0}, []string{"a"})
	require.NoError(t, err)
	mean, std, err = dataset.Moments(hand)
	require.NoError(t, err)
	assert.InDeltaSlice(t, []float32{0.5, 1.5 / 255}, mean, 1e-8)
	assert.InDeltaSlice(t, []float32{0.5, 0.8660254 / 255}, std, 1e-8)
}

func TestMomentsErrors(t *testing.T) {
	for _, v := range []uint8{0, 7, 255} {
		data := make([]uint8, 2*7*3)
		for i := range data {
			data[i] = v
			if i/7%2 == 0 {
				data[i] = uint8(i)
			}
		}
		set, err := dataset.New("", dataset.NewMemory(2, 1, 7, data), []int{0, 0, 0}, []string{"a"})
		require.NoError(t, err)
		_, _, err = dataset.Moments(set)
		assert.EqualError(t, err, "dataset: channel 1 of all images is the same everywhere, so it has no standard deviation")
	}
	for _, v := range []float32{0, 0.1, 0.7, 1} { // whose squares are rounded
		shape := tensor.Shape{N: 3, Steps: 5, C: 2, H: 28, W: 28}
		data := make([]float32, shape.Frames()*shape.Neurons())
		for i := range data {
			if data[i] = v; i/784%2 == 0 {
				data[i] = float32(i%7) / 7
			}
		}
		set, err := dataset.NewFrameSet("", dataset.NewFrames(shape, data), []int{0, 0, 0}, []string{"a"})
		require.NoError(t, err)
		mean, std, err := dataset.Moments(set)
		assert.EqualError(t, err, "dataset: channel 1 of all images is the same everywhere, so it has no standard deviation", "%v: %v %v", v, mean, std)
	}
	set, err := dataset.New("", broken{dataset.NewMemory(1, 1, 1, []uint8{1, 2, 3}), 2}, []int{0, 0, 0}, []string{"a"})
	require.NoError(t, err)
	_, _, err = dataset.Moments(set)
	require.ErrorIs(t, err, errBroken)
	assert.EqualError(t, err, "dataset: image 2: pixels.bin: bad sector")
}
