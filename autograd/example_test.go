package autograd_test

import (
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// An integrate-and-fire neuron sees a constant image for four steps. Its membrane potential
// grows by 0.5·0.6 + 1·0.4 = 0.7 at each step. It reaches the threshold of 1 at every
// second step.
func Example() {
	w := autograd.NewParam(1, 2)
	w.Import([]float32{0.5, 1})
	image := tensor.NCHW{N: 1, C: 2, H: 1, W: 1, Data: []float32{0.6, 0.4}}

	t := &autograd.Tape{Params: true}
	x := t.Leaf(image, true)
	current := autograd.Linear(t, x, w, nil)
	spikes := autograd.FireThroughRate(t, current, autograd.Dynamics{Decay: 1, Threshold: 1}, 4)
	rate := autograd.MeanOverTime(t, spikes)
	fmt.Println("rate", rate.Dense().Unpack().Data)

	t.Backward(rate, []float32{1})
	fmt.Println("by the image", x.Grad().Unpack().Data)
	fmt.Println("by the weights", w.ExportGrad())
	// Output:
	// rate [0.5]
	// by the image [0.5 1]
	// by the weights [0.6 0.4]
}
