package kernel_test

import (
	"math"
	"testing"

	"github.com/org/snnrat/internal/kernel"
)

func TestFinite(t *testing.T) {
	for n := range 70 {
		x := make([]float32, n)
		for i := range x {
			x[i] = math.MaxFloat32
			if i%2 == 1 {
				x[i] = -math.SmallestNonzeroFloat32
			}
		}
		if !kernel.Finite(x, 0) {
			t.Fatalf("%d finite values are not", n)
		}
		for i, good := range x {
			for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
				x[i] = float32(bad)
				if kernel.Finite(x, 0) {
					t.Fatalf("value %d of %d is %v: not noticed", i, n, bad)
				}
			}
			x[i] = good
		}
	}
}

// The optimizers are compared with their equations in package train; here are the
// edges of the pieces of parallel work, against the same done in one.
func TestOptimizerPieces(t *testing.T) {
	const top = 1<<15 + 3
	for _, n := range []int{0, 1, 1<<14 - 1, 1 << 14, 1<<14 + 1, top} {
		fresh := func() (w, g, m, v []float32) {
			w, g, m, v = make([]float32, top), make([]float32, top), make([]float32, top), make([]float32, top)
			for i := range w {
				w[i], g[i], m[i], v[i] = float32(i%7), float32(i%5)-2, float32(i%3), float32(i%11)
			}
			return w, g, m, v
		}
		for name, step := range map[string]func(w, g, m, v []float32, threads int){
			"SGD": func(w, g, m, _ []float32, threads int) { kernel.SGD(w, g, m, 0.1, 0.9, 0.01, true, threads) },
			"Adam": func(w, g, m, v []float32, threads int) {
				kernel.Adam(w, g, m, v, kernel.AdamStep{Beta1: 0.5, Beta2: 0.5, Rest1: 0.5, Rest2: 0.5, Size: 0.1, Correction: 0.5, Eps: 0.1}, threads)
			},
		} {
			w, g, m, v := fresh()
			step(w[:n], g[:n], m[:n], v[:n], 3)
			w1, g1, m1, v1 := fresh()
			for i := range n {
				step(w1[i:i+1], g1[i:i+1], m1[i:i+1], v1[i:i+1], 1)
			}
			for i := range w {
				if w[i] != w1[i] || g[i] != g1[i] || m[i] != m1[i] || v[i] != v1[i] {
					t.Fatalf("%s of %d values: value %d is %v, want %v", name, n, i, w[i], w1[i])
				}
			}
		}
	}
}
