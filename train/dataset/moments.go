package dataset

import (
	"fmt"
	"math"
)

// Moments returns the mean and the standard deviation of each channel, [C], over all pixels
// of all images of s, as values in [0,1]. A model normalizes images by those of the
// training set. Moments returns an error if an image cannot be read, or if all values of a
// channel are equal.
func Moments(s *Set) (mean, std []float32, err error) {
	// Sums of bytes as integers are exact in any order.
	sum, square := make([]uint64, s.C), make([]uint64, s.C)
	image := make([]uint8, s.C*s.H*s.W) // [C][H][W]
	for i := range s.N {
		if err := s.images.ReadImage(image, i); err != nil {
			return nil, nil, fmt.Errorf("dataset: image %d: %w", i, err)
		}
		for c := range s.C {
			for _, v := range image[c*s.H*s.W:][:s.H*s.W] {
				sum[c] += uint64(v)
				square[c] += uint64(v) * uint64(v)
			}
		}
	}
	n := float64(s.N) * float64(s.H*s.W)
	for c := range s.C {
		m := float64(sum[c]) / n
		variance := float64(square[c])/n - m*m
		if !(variance > 0) {
			return nil, nil, fmt.Errorf("dataset: channel %d of all images is the same everywhere, so it has no standard deviation", c)
		}
		mean, std = append(mean, float32(m/255)), append(std, float32(math.Sqrt(variance)/255))
	}
	return mean, std, nil
}
