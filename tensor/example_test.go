package tensor_test

import (
	"fmt"

	"github.com/org/snnrat/tensor"
)

// Images are in NCHW order. A network's values have channels in blocks of 16.
func Example() {
	images := tensor.NewNCHW(2, 3, 1, 2) // 2 images with 3 channels of 1×2 pixels
	images.Image(1)[5] = 0.5             // image 1, channel 2, column 1

	d := tensor.NewDense(tensor.Shape{N: 2, Steps: 1, C: 3, H: 1, W: 2})
	d.Pack(images)
	fmt.Println(d.Shape, "takes", len(d.Data), "floats:", d.At(1, 0, 2, 0, 1))

	spikes := tensor.NewSpikes(d.Shape.WithSteps(4))
	spikes.Set(1, 3, 2, 0, 1, true) // the neuron fires at the last of 4 steps
	fmt.Println(spikes.Shape, "takes", len(spikes.Bits), "words, firing rate", spikes.Rate())
	// Output:
	// 2×1×3×1×2 takes 64 floats: 0.5
	// 2×4×3×1×2 takes 16 words, firing rate 0.020833333333333332
}
