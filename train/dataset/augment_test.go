package dataset

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/org/snnrat/tensor"
)

// draws returns a generator whose first IntN(n[k]) calls return want[k].
func draws(n, want []int) *rand.Rand {
	for seed := uint64(0); ; seed++ {
		r, found := rand.New(rand.NewPCG(seed, 0)), true
		for k := range n {
			found = r.IntN(n[k]) == want[k] && found
		}
		if found {
			return rand.New(rand.NewPCG(seed, 0))
		}
	}
}

// TestCropAndFlip augments an example of two planes of 2×3, as two channels and as two
// frames.
func TestCropAndFlip(t *testing.T) {
	src := []float32{
		10, 20, 30,
		40, 50, 60,

		110, 120, 130,
		140, 150, 160,
	}
	for _, c := range []struct {
		dy, dx, flip int
		want         []float32
	}{
		{0, 0, 0, src},
		{0, 0, 1, []float32{30, 20, 10, 60, 50, 40, 130, 120, 110, 160, 150, 140}},
		{1, 0, 0, []float32{40, 50, 60, 0, 0, 0, 140, 150, 160, 0, 0, 0}},
		{-1, 0, 0, []float32{0, 0, 0, 10, 20, 30, 0, 0, 0, 110, 120, 130}},
		{0, 2, 0, []float32{30, 0, 0, 60, 0, 0, 130, 0, 0, 160, 0, 0}},
		{0, -1, 0, []float32{0, 10, 20, 0, 40, 50, 0, 110, 120, 0, 140, 150}},
		{1, -1, 1, []float32{50, 40, 0, 0, 0, 0, 150, 140, 0, 0, 0, 0}},
	} {
		for _, s := range []tensor.Shape{{N: 1, Steps: 1, C: 2, H: 2, W: 3}, {N: 1, Steps: 2, C: 1, H: 2, W: 3}} {
			x := tensor.NewFrames(s)
			copy(x.Data, src)
			r := draws([]int{5, 5, 2}, []int{c.dy + 2, c.dx + 2, c.flip})
			Crop{Padding: 2}.Augment(x, r)
			Flip{}.Augment(x, r)
			assert.Equal(t, c.want, x.Data, "%+v", c)
		}
	}
}
