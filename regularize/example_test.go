package regularize_test

import (
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/tensor/rng"
)

// Two rows that are neither orthogonal nor of length 1 become so.
func ExampleOrthogonal() {
	w := autograd.NewParam(2, 3)
	w.Name = "classifier.0.weight"
	w.Import([]float32{
		1, 1, 0,
		0, 1, 0.5,
	})
	reg := regularize.ForVGG()
	reg.Beta = 0.1 // to see it work in few steps
	root := rng.New(42)
	for step := range 41 {
		if step%20 == 0 {
			d, err := regularize.Defect(w, 0)
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("step %2d: |W·Wᵀ − I| = %.4f\n", step, d)
		}
		if err := reg.Apply(w, root.Derive("reg", uint64(step)), 0); err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// step  0: |W·Wᵀ − I| = 1.7500
	// step 20: |W·Wᵀ − I| = 0.0117
	// step 40: |W·Wᵀ − I| = 0.0001
}

func ExampleSimplex() {
	w := []float32{0.9, 0.4, -0.2}
	if err := regularize.Simplex(w); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.2f\n", w)
	// Output: [0.75 0.25 0.00]
}
