package lipschitz

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// Gonum's eigenvalues of WᵀW are wrong here. The matrix consists of blocks, one of them holds
// rounding errors only, and gonum scales the next block like that one. Gonum's eigenvalues of
// W·Wᵀ are right. Both matrices have the same eigenvalues apart from zeros.
func TestEigenvaluesOfBlocks(t *testing.T) {
	c := Conv{Cout: 2, Cin: 4, KH: 2, KW: 1, Stride: 3, Height: 5, Width: 8, Weight: make([]float32, 2*4*2)}
	r := rand.New(rand.NewPCG(27275, 0))
	for i := range c.Weight {
		c.Weight[i] = float32(r.NormFloat64())
	}
	w, rows, cols := c.Dense()
	eigenvalues := func(ofRows, vectors bool) []float64 {
		g := newGram(w, rows, cols, ofRows)
		v, _, ok := eigenSym(mat.NewSymDense(g.n, g.g), vectors)
		if !ok {
			t.Fatal("not found")
		}
		return v
	}
	want := make([]float64, cols)
	copy(want, eigenvalues(true, true))
	for _, vectors := range []bool{false, true} { // without, gonum panics
		for i, v := range eigenvalues(false, vectors) {
			if math.Abs(v-want[i]) > 1e-13*want[0] {
				t.Errorf("eigenvalue %d is %v, want %v", i, v, want[i])
			}
		}
	}
}
