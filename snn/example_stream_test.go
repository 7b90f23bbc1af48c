package snn_test

import (
	"fmt"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// Two IF neurons with threshold 1 read a frame of two pixels at every step.
func ExampleModel_NewStream() {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 4}, snn.NewSequential(snn.NewIF()))
	if err != nil {
		fmt.Println(err)
		return
	}
	stream, err := m.NewStream(snn.StreamConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	neurons, err := stream.Probe("0")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, pixels := range [][]float32{{0.5, 0.25}, {0.5, 0.5}, {0.25, 0.25}, {0.5, 0.5}} {
		logits, err := stream.Step(tensor.NCHW{N: 1, C: 2, H: 1, W: 1, Data: pixels})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("output", stream.Output(), "mean", logits, "potentials", neurons.Membrane.Unpack().Data)
	}
	// Output:
	// output [0 0] mean [0 0] potentials [0.5 0.25]
	// output [1 0] mean [0.5 0] potentials [0 0.75]
	// output [0 1] mean [0.33333334 0.33333334] potentials [0.25 0]
	// output [0 0] mean [0.25 0.25] potentials [0.75 0.5]
}
