package quant_test

import (
	"fmt"
	"log"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

func ExampleConvert() {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 8, Width: 8, Steps: 4}, snn.NewSequential(
		snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewBatchNorm(8), snn.NewIF(), snn.AvgPool{K: 2},
		snn.Flatten{}, snn.NewLinear(8*4*4, 10, true),
	))
	if err != nil {
		log.Fatal(err)
	}
	m.Init(rng.New(1))
	q, err := quant.Convert(m, quant.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	images := tensor.NewNCHW(2, 1, 8, 8)
	logits, err := q.Logits(images)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(q.Layers), "layers,", len(logits), "logits")
	// Output: 4 layers, 20 logits
}
