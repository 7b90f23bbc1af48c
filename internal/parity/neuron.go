package parity

import (
	"fmt"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// neuron checks the spikes and the gradients of a layer of neurons for currents x
// [T, N, D].
func (c *checker) neuron() error {
	v, err := c.Numbers("leak", "theta", "width")
	if err != nil {
		return err
	}
	surrogate, err := snn.NewSurrogate(c.Meta["surrogate"], float32(v[2]))
	if err != nil {
		return err
	}
	n := snn.LIF{Decay: float32(v[0]), Threshold: float32(v[1]), Surrogate: surrogate}
	if err := n.Validate(); err != nil {
		return err
	}
	x, err := c.Floats("x", 3)
	if err != nil {
		return err
	}
	out, err := c.Floats("grad_out", 3)
	if err != nil {
		return err
	}
	if !slices.Equal(x.Shape, out.Shape) || len(x.Floats) == 0 {
		return fmt.Errorf("currents x %v and gradients grad_out %v: expected the same shape, with no extent of 0", x.Shape, out.Shape)
	}
	for _, r := range []struct {
		name     string
		gradient snn.Gradient
		detach   bool
	}{
		{"grad_in_bptt", snn.BPTT{}, false},
		{"grad_in_bptr", snn.BPTR{}, false},
		{"grad_in_bptt_detached_reset", snn.BPTT{}, true},
	} {
		n.DetachReset = r.detach
		spikes, grad := fire(&n, r.gradient, x, out)
		if want := c.Tensors["spikes"].Floats; !r.detach {
			differ := 0
			for i, s := range spikes {
				if i >= len(want) || s != want[i] {
					differ++
				}
			}
			c.results = append(c.results, Result{Name: "spikes (" + r.gradient.String() + ")", Spikes: differ})
		}
		c.compare(r.name, grad)
	}
	return nil
}

// fire runs the neurons and carries the gradient of their spikes back; all are
// row-major [T, N, D].
func fire(n *snn.LIF, g snn.Gradient, x, out golden.Tensor) (spikes, grad []float32) {
	steps, batch, d := x.Shape[0], x.Shape[1], x.Shape[2]
	tape := &autograd.Tape{}
	in := tensor.NewDense(tensor.Shape{N: batch, Steps: steps, C: d, H: 1, W: 1})
	each := func(fn func(i, t, n, c int)) {
		for t := range steps {
			for n := range batch {
				for c := range d {
					fn((t*batch+n)*d+c, t, n, c)
				}
			}
		}
	}
	each(func(i, t, n, c int) { in.Set(n, t, c, 0, 0, x.Floats[i]) })
	leaf := tape.Input(in, true)
	s := n.Forward(&snn.Pass{Tape: tape, Steps: steps, Gradient: g}, leaf)
	fired := s.Spikes()
	spikes, grad = make([]float32, len(x.Floats)), make([]float32, len(x.Floats))
	seed := tensor.NewDense(in.Shape)
	each(func(i, t, n, c int) {
		seed.Set(n, t, c, 0, 0, out.Floats[i])
		if fired.At(n, t, c, 0, 0) {
			spikes[i] = 1
		}
	})
	tape.BackwardFrom(s, seed)
	dx := leaf.Grad()
	each(func(i, t, n, c int) { grad[i] = dx.At(n, t, c, 0, 0) })
	return spikes, grad
}
