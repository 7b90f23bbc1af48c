package dataset

import (
	"fmt"
	"math"
)

// Moments returns the mean and the standard deviation of each channel, [C], over all pixels
// of all images and frames of s, as values in [0,1]. A model normalizes images by those of
// the training set. Moments returns an error if an image cannot be read, or if all values
// of a channel are equal.
func Moments(s *Set) (mean, std []float32, err error) {
	unit := 255.0
	if s.frames != nil {
		unit = 1
	}
	// Values in this unit are whole numbers for bytes, and their sums exact in any order.
	sum, square := make([]float64, s.C), make([]float64, s.C)
	first, varies := make([]float32, s.C), make([]bool, s.C) // the first value, and whether others differ
	image, read := make([]float32, s.Steps*s.C*s.H*s.W), s.reader()
	for i := range s.N {
		if err := read(image, i); err != nil {
			return nil, nil, fmt.Errorf("dataset: image %d: %w", i, err)
		}
		for p := range s.Steps * s.C { // planes
			a, b, c := 0.0, 0.0, p%s.C
			if i == 0 && p < s.C {
				first[c] = image[p*s.H*s.W]
			}
			for _, v := range image[p*s.H*s.W:][:s.H*s.W] {
				varies[c] = varies[c] || v != first[c]
				v := float64(v)
				if s.frames == nil {
					v = math.Round(v * 255)
				}
				a, b = a+v, b+float64(v*v)
			}
			sum[c], square[c] = sum[c]+a, square[c]+b
		}
	}
	n := float64(s.N) * float64(s.Steps) * float64(s.H*s.W)
	for c := range s.C {
		m := sum[c] / n
		variance := square[c]/n - float64(m*m)
		if !varies[c] || !(variance > 0) {
			return nil, nil, fmt.Errorf("dataset: channel %d of all images is the same everywhere, so it has no standard deviation", c)
		}
		mean, std = append(mean, float32(m/unit)), append(std, float32(math.Sqrt(variance)/unit))
	}
	return mean, std, nil
}
