package lipschitz

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/org/snnrat/tensor"
)

// Distance returns the distance D_p of the spike trains a and b, for each of the N images
// of their batch (Eq. 12 of Ding et al. 2022):
//
//	D_p(a, b) = (Σ_t ‖a(t) − b(t)‖_p^p)^(1/p)
//
// The sum runs over T steps, and the norm over the C·H·W neurons. Spikes are 0 or 1, so
// D_p^p is the number of differences for every p. The largest distance is (T·C·H·W)^(1/p).
// Distance returns an error if p is not a finite number of at least 1, or if the shapes
// differ.
func Distance(p float64, a, b *tensor.Spikes) ([]float64, error) {
	if !(p >= 1) || math.IsInf(p, 0) {
		return nil, fmt.Errorf("lipschitz: Distance: p is %v; expected a finite number of at least 1", p)
	}
	if a.Shape != b.Shape {
		return nil, fmt.Errorf("lipschitz: Distance: spike trains of shapes %v and %v; expected the same", a.Shape, b.Shape)
	}
	d := make([]float64, a.N)
	image := a.Steps * a.Pixels() // words of an image in a block of channels
	for n := range d {
		differ := 0
		for block := range a.Blocks() {
			lo := (block*a.N + n) * image
			for i, w := range a.Bits[lo : lo+image] {
				differ += bits.OnesCount16(w ^ b.Bits[lo+i])
			}
		}
		d[n] = math.Pow(float64(differ), 1/p)
	}
	return d, nil
}
