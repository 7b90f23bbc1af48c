package lipschitz

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/org/snnrat/tensor"
)

// D returns the distance D_p of Eq. 12 between the spike trains a and b, for each
// of the N images of their batch. It is at most (T·C·H·W)^(1/p), for trains that
// never agree. It returns an error if p is not a finite number of at least 1 or if
// the shapes differ.
func D(p float64, a, b *tensor.Spikes) ([]float64, error) {
	if !(p >= 1) || math.IsInf(p, 0) {
		return nil, fmt.Errorf("lipschitz: D: p is %v; expected a finite number of at least 1", p)
	}
	if a.Shape != b.Shape {
		return nil, fmt.Errorf("lipschitz: D: spike trains of shapes %v and %v; expected the same", a.Shape, b.Shape)
	}
	d := make([]float64, a.N)
	image := a.Steps * a.Pixels() // words an image has in a block of channels
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
