package certify_test

import (
	"context"
	"fmt"
	"log"

	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// A neuron adds up one pixel and fires at 1. The first class has its spikes, the second a bias.
func ExampleCertify() {
	first, last := snn.NewLinear(1, 1, false), snn.NewLinear(1, 2, true)
	first.Weight.Import([]float32{1})
	last.Weight.Import([]float32{1, 0})
	last.Bias.Import([]float32{0, 0.375})
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 4},
		snn.NewSequential(snn.Flatten{}, first, snn.NewIF(), last))
	if err != nil {
		log.Fatal(err)
	}
	image := tensor.NewNCHW(1, 1, 1, 1)
	image.Data[0] = 0.75 // two spikes in four steps, as for all values in [0.5, 1)
	for _, epsilon := range []float64{0.125, 0.3} {
		results, err := certify.Certify(context.Background(), m, image, []int{0}, certify.Config{Epsilon: epsilon})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(epsilon, results[0].Verdict)
	}
	// Output:
	// 0.125 certified
	// 0.3 unknown
}
