package snn_test

import (
	"fmt"
	"log"
	"math"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// A network that SpikingJelly trained, as a sequence of the same layers. Layers without
// parameters count: the names of PyTorch's nn.Sequential are their places.
func ExampleModel_Load_spikingJelly() {
	// IFNode(surrogate_function=ATan(2.0))
	node := func() *snn.LIF {
		return &snn.LIF{Decay: 1, Threshold: 1, Surrogate: snn.Arctan{Alpha: 2}}
	}
	body := snn.NewSequential(
		snn.NewConv2D(2, 8, 3, 1, 1, false), // 0: layer.Conv2d(2, 8, 3, padding=1, bias=False)
		snn.NewBatchNorm(8),                 // 1: layer.BatchNorm2d(8)
		node(),                              // 2
		snn.MaxPool{K: 2},                   // 3: layer.MaxPool2d(2)
		snn.NewConv2D(8, 12, 3, 1, 1, true), // 4: layer.Conv2d(8, 12, 3, padding=1)
		snn.NewBatchNorm(12),                // 5
		node(),                              // 6
		snn.AvgPool{K: 2},                   // 7: layer.AvgPool2d(2)
		snn.Flatten{},                       // 8: layer.Flatten()
		snn.NewLinear(48, 20, true),         // 9: layer.Linear(48, 20)
		node(),                              // 10
		&snn.Dropout{P: 0.5},                // 11: layer.Dropout(0.5)
		snn.NewLinear(20, 5, true),          // 12
	)
	net, err := snn.NewModel(snn.Config{Channels: 2, Height: 8, Width: 8, Steps: 4}, body)
	if err != nil {
		log.Fatal(err)
	}
	if err := net.Load("testdata/peers/convnet.pth"); err != nil {
		log.Fatal(err)
	}
	logits, err := net.Logits(snn.Pass{}, tensor.NewNCHW(1, 2, 8, 8)) // of a black image
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(logits), "logits")
	// Output: 5 logits
}

// A network that snnTorch trained, with layers under names.
func ExampleModel_Load_snnTorch() {
	// Leaky(beta=0.9, threshold=0.5, reset_mechanism="zero")
	leaky := func() *snn.LIF {
		return &snn.LIF{
			Decay: 0.9, Threshold: math.Nextafter32(0.5, 1), DetachReset: true, Surrogate: snn.Arctan{Alpha: 2},
		}
	}
	body := (&snn.Sequential{}).
		Append("conv1", snn.NewConv2D(2, 8, 3, 1, 1, true)).Append("bn1", snn.NewBatchNorm(8)).
		Append("lif1", leaky()).Append("", snn.AvgPool{K: 2}).Append("", snn.Flatten{}).
		Append("fc1", snn.NewLinear(128, 20, true)).Append("lif2", leaky()).
		Append("fc2", snn.NewLinear(20, 5, true))
	net, err := snn.NewModel(snn.Config{Channels: 2, Height: 8, Width: 8, Steps: 4}, body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(net.Load("testdata/peers/leaky.safetensors"))
	// Output: <nil>
}
