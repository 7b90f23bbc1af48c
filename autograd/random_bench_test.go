package autograd_test

import (
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
)

// BenchmarkRandomOps draws 100 steps of 16 CIFAR images, and the dropout mask of
// 16 × 512 × 8 × 8 activations.
func BenchmarkRandomOps(b *testing.B) {
	x := tensor.NewNCHW(16, 3, 32, 32)
	for i := range x.Data {
		x.Data[i] = float32(i%256) / 255
	}
	h := tensor.NewDense(tensor.Shape{N: 16, Steps: 1, C: 512, H: 8, W: 8})
	keys := imageKeys(16)
	for name, op := range map[string]func(t *autograd.Tape){
		"poisson":     func(t *autograd.Tape) { autograd.Poisson(t, t.Leaf(x, false), 100, keys) },
		"dropout 0.2": func(t *autograd.Tape) { autograd.Dropout(t, t.Input(h, false), 0.2, false, 1, keys) },
	} {
		b.Run(name, func(b *testing.B) {
			t := &autograd.Tape{}
			for b.Loop() {
				op(t)
				t.Reset()
			}
		})
	}
}
