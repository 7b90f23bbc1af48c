package snn_test

import (
	"fmt"
	"log"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// mix is a residual layer with learned weights, Comb[0]·x + Comb[1]·Inner(x).
type mix struct {
	Inner *snn.Sequential
	Comb  *autograd.Param // [2]
}

func (l *mix) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	h := l.Inner.Forward(p, x)
	y := autograd.Convex(p.Tape, x, h, l.Comb)
	if h != x {
		p.Tape.Release(h)
	}
	return y
}

func (l *mix) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	out, err := l.Inner.Describe(s, name+".inner", in)
	if err != nil {
		return in, err
	}
	if out != in {
		return in, fmt.Errorf("output of the inner layers %v: expected the shape of their input, %v", out, in)
	}
	l.Comb.Name = name + ".comb"
	s.Rows = append(s.Rows, snn.Row{Name: name, Kind: "mix", In: in, Out: in, Params: []*autograd.Param{l.Comb}})
	return in, nil
}

func (l *mix) Init(key rng.Key) {
	l.Inner.Init(key)
	l.Comb.Import([]float32{0.5, 0.5})
}

// A layer of one's own.
func ExampleLayer() {
	block := &mix{
		Inner: snn.NewSequential(snn.NewConv2D(8, 8, 3, 1, 1, true), snn.NewBatchNorm(8), snn.NewIF()),
		Comb:  autograd.NewParam(2),
	}
	body := snn.NewSequential(
		snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewIF(), block, snn.AvgPool{K: 8}, snn.Flatten{}, snn.NewLinear(8, 10, true),
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
	// 2.inner.0 conv 3×3 /1
	// 2.inner.1 batch norm
	// 2.inner.2 IF
	// 2 mix
	// 3 average pool 8×8
	// 5 linear
}

// The example of the package comment.
func Example() {
	body := snn.NewSequential(
		snn.NewConv2D(1, 8, 3, 1, 1, true), snn.NewBatchNorm(8), snn.NewIF(), snn.AvgPool{K: 2},
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
	body := snn.NewSequential(snn.Flatten{}, snn.NewLinear(64, 20, true), snn.NewIF(), snn.NewLinear(20, 10, true))
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
