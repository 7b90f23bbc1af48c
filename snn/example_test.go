package snn_test

import (
	"fmt"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// A small network classifies an image, and shows which pixels matter to a class.
func Example() {
	body := snn.NewSequential(
		snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewBatchNorm(8), snn.IF(), snn.AvgPool{K: 2},
		snn.Flatten{}, snn.NewLinear(8*4*4, 10, true),
	)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 8, Width: 8, Steps: 4}, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Init(rng.New(1))

	image := tensor.NewNCHW(1, 1, 8, 8)
	image.Data[3*8+4] = 1
	gradient, err := m.Run(snn.Pass{Gradient: snn.BPTR{}}, image, func(logits []float32) []float32 {
		fmt.Println(len(logits), "logits")
		seed := make([]float32, len(logits))
		seed[7] = 1 // the gradient of class 7's
		return seed
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("gradient", gradient)
	// Output:
	// 10 logits
	// gradient 1×1×8×8
}
