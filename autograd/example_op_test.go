package autograd_test

import (
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// multiply is y = a·b, element by element.
type multiply struct{ a, b, y *autograd.Value }

// Multiply returns a·b for dense values of one shape.
func Multiply(t *autograd.Tape, a, b *autograd.Value) *autograd.Value {
	if a.Shape() != b.Shape() || a.IsSpikes() || b.IsSpikes() {
		panic(fmt.Sprintf("Multiply: %v and %v: expected dense values of one shape", a, b))
	}
	y := t.NewDense(a.Shape(), a.NeedsGrad() || b.NeedsGrad())
	va, vb := t.Floats(a), t.Floats(b)
	for i, v := range va {
		t.Floats(y)[i] = v * vb[i]
	}
	t.Record(&multiply{a, b, y}, a, b)
	return y
}

func (o *multiply) Output() *autograd.Value { return o.y }

// Backward computes ∂a = b·∂y and ∂b = a·∂y.
func (o *multiply) Backward(t *autograd.Tape) {
	dy := t.GradEveryStep(o.y)
	for _, in := range [][2]*autograd.Value{{o.a, o.b}, {o.b, o.a}} {
		x, factor := in[0], t.Floats(in[1])
		if !x.NeedsGrad() {
			continue
		}
		s := t.OpenGrad(x, x.Shape().Steps)
		for i, g := range dy {
			if s.Add {
				s.Data[i] += g * factor[i]
			} else {
				s.Data[i] = g * factor[i]
			}
		}
		t.CloseGrad(s)
	}
}

// selectStep is y = x(Step), a value of one step.
type selectStep struct {
	x, y *autograd.Value
	step int
}

// SelectStep returns the spikes x of one step as a value of one step.
func SelectStep(t *autograd.Tape, x *autograd.Value, step int) *autograd.Value {
	sh := x.Shape()
	y := t.NewSpikes(sh.WithSteps(1), x.NeedsGrad())
	for u := range sh.Blocks() * sh.N {
		copy(t.Words(y)[u*sh.Pixels():][:sh.Pixels()], t.Words(x)[(u*sh.Steps+step)*sh.Pixels():])
	}
	t.Record(&selectStep{x, y, step})
	return y
}

func (o *selectStep) Output() *autograd.Value { return o.y }

// Backward gives ∂y to the step, and zero to the others.
func (o *selectStep) Backward(t *autograd.Tape) {
	dy, _ := t.Grad(o.y)
	sh := o.x.Shape()
	g := t.Scratch(sh.Floats())
	clear(g)
	frame := sh.Pixels() * tensor.Lanes
	for u := range sh.Blocks() * sh.N {
		copy(g[(u*sh.Steps+o.step)*frame:][:frame], dy[u*frame:])
	}
	t.AddGrad(o.x, g, sh.Steps)
	t.FreeScratch(g)
}

// An operation from outside the package: the element-wise product, whose gradient is checked
// on one number, and the selection of a time step.
func ExampleOp() {
	t := &autograd.Tape{}
	image := tensor.NewNCHW(1, 1, 1, 2)
	copy(image.Data, []float32{3, 0.25})
	x := t.Leaf(image, true)
	square := Multiply(t, x, x)
	spikes := autograd.FireThroughTime(t, square, autograd.Dynamics{Decay: 1, Threshold: 9, SoftReset: true}, 2, flat{}, true)
	last := SelectStep(t, spikes, 1)
	fmt.Println("last spikes:", last.Spikes().Bits)
	t.Backward(last, []float32{1, 1})
	fmt.Println("gradient:", x.Grad().Unpack().Data) // 2x times the number of steps
	// Output:
	// last spikes: [1 0]
	// gradient: [12 1]
}

// flat is a surrogate that is 1 everywhere.
type flat struct{}

func (flat) Derivative(dst, _ []float32) {
	for i := range dst {
		dst[i] = 1
	}
}
