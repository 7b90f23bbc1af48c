package snn_test

import (
	"fmt"
	"log"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// skip is a residual layer, x + inner(x), of other layers.
type skip struct{ inner snn.Layer }

func (l skip) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	return autograd.Add(p.Tape, x, l.inner.Forward(p, x))
}

func (l skip) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	out, err := l.inner.Describe(s, name, in)
	if err == nil && out != in {
		err = fmt.Errorf("%v comes out of %v: expected the same shape", out, in)
	}
	return in, err
}

func (l skip) Init(key rng.Key) { l.inner.(snn.Initializer).Init(key) }

// A layer of one's own.
func ExampleLayer() {
	block := skip{snn.NewSequential(snn.NewConv2D(8, 8, 3, 1, 1, true), snn.NewBatchNorm(8), snn.IF())}
	body := snn.NewSequential(
		snn.NewConv2D(1, 8, 3, 1, 1, true), snn.IF(), block, snn.AvgPool{K: 8}, snn.Flatten{}, snn.NewLinear(8, 10, true),
	)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 8, Width: 8, Steps: 4}, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Init(rng.New(1))
	for _, r := range m.Summary().Rows {
		fmt.Println(r.Name, r.Kind)
	}
	// Output:
	// 0 conv 3×3 /1
	// 1 IF
	// 2.0 conv 3×3 /1
	// 2.1 batch norm
	// 2.2 IF
	// 3 average pool 8×8
	// 5 linear
}

// The example of the package comment.
func Example() {
	body := snn.NewSequential(
		snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewBatchNorm(8), snn.IF(), snn.AvgPool{K: 2},
		snn.Flatten{}, snn.NewLinear(8*4*4, 10, true),
	)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 8, Width: 8, Steps: 4}, body)
	if err != nil {
		log.Fatal(err)
	}
	m.Init(rng.New(1))

	image := tensor.NewNCHW(1, 1, 8, 8) // values in [0,1]
	logits, err := m.Logits(snn.Pass{}, image)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(logits), "logits")
	// Output: 10 logits
}

// The gradient of a logit shows which pixels matter to its class.
func ExampleModel_InputGradient() {
	body := snn.NewSequential(snn.Flatten{}, snn.NewLinear(64, 20, true), snn.IF(), snn.NewLinear(20, 10, true))
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 8, Width: 8, Steps: 4}, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Init(rng.New(1))

	image := tensor.NewNCHW(1, 1, 8, 8)
	image.Data[3*8+4] = 1
	gradient, err := m.InputGradient(snn.Pass{Gradient: snn.BPTR{}}, image, func(logits []float32) []float32 {
		fmt.Println(len(logits), "logits")
		seed := make([]float32, len(logits))
		seed[7] = 1 // the derivative of logit 7 with respect to itself
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
