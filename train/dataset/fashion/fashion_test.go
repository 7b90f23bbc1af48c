package fashion_test

import (
	"fmt"
	"log"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset"
	"github.com/org/snnrat/train/dataset/fashion"
)

func TestSets(t *testing.T) {
	var trainMean, trainStd []float32
	for _, c := range []struct {
		name  string
		read  func() (*dataset.Set, error)
		n     int
		first []int // labels that Fashion-MNIST is known to begin with
	}{
		{"Train", fashion.Train, 6000, []int{9, 0, 0, 3, 0, 2, 7, 2, 5, 5}},
		{"Test", fashion.Test, 1000, []int{9, 2, 1, 1, 6, 1, 4, 6, 5, 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := c.read()
			require.NoError(t, err)
			assert.Equal(t, [5]int{c.n, 1, 28, 28, 10}, [5]int{set.N, set.C, set.H, set.W, set.Classes})
			assert.Equal(t, c.first, set.Labels[:10])
			assert.Equal(t, "Ankle boot", set.ClassNames()[set.Labels[0]])
			if c.n == 6000 { // both sets are normalized by the training images
				trainMean, trainStd, err = dataset.Moments(set)
				require.NoError(t, err)
			}
			mean, std := set.Normalization()
			assert.Equal(t, [2][]float32{trainMean, trainStd}, [2][]float32{mean, std})

			all := make([]int, set.N)
			for i := range all {
				all[i] = i
			}
			x := tensor.NewNCHW(set.N, set.C, set.H, set.W)
			require.NoError(t, set.Fill(x, all))
			require.NoError(t, x.ValidateRange(0, 1))
			var sum float64
			for _, v := range x.Data {
				sum += float64(v)
			}
			// The whole set's mean is known to be 0.2860; a part is near it.
			assert.InDelta(t, 0.2860, sum/float64(len(x.Data)), 0.005)
		})
	}
}

func Example() {
	test, err := fashion.Test()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d images of %d×%d×%d, the first one of class %s\n",
		test.N, test.C, test.H, test.W, test.ClassNames()[test.Labels[0]])
	// Output: 1000 images of 1×28×28, the first one of class Ankle boot
}
