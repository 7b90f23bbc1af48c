package lipschitz_test

import (
	"context"
	"fmt"

	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/tensor"
)

func ExampleD() {
	shape := tensor.Shape{N: 1, Steps: 4, C: 3, H: 1, W: 1}
	a, b := tensor.NewSpikes(shape), tensor.NewSpikes(shape)
	a.Set(0, 0, 1, 0, 0, true) // neuron 1 fires at step 0 in a,
	b.Set(0, 2, 1, 0, 0, true) // at step 2 in b: two differences
	for _, p := range []float64{1, 2} {
		d, err := lipschitz.D(p, a, b)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("D%v = %.4f\n", p, d[0])
	}
	// Output:
	// D1 = 2.0000
	// D2 = 1.4142
}

func ExampleSpectralNorm() {
	w := []float32{
		3, 0, 0,
		4, 5, 0,
	}
	n, err := lipschitz.SpectralNorm(w, 2, 3, lipschitz.DefaultPowerIteration())
	if err != nil {
		fmt.Println(err)
		return
	}
	g, err := lipschitz.Gamma(w, 2, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("‖W‖₂ = %.4f, γ = %.4f\n", n.Sigma, g) // √45, 9
	// Output: ‖W‖₂ = 6.7082, γ = 9.0000
}

func ExampleLambda() {
	w := []float32{
		3, 0, 0,
		4, 5, 0,
	}
	l, err := lipschitz.Lambda(context.Background(), w, 2, 3, lipschitz.DefaultLambdaSearch())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("Λ = %.4f for s = %v, exact: %v\n", l.Lower, l.S, l.Exact) // √(90/2)
	// Output: Λ = 6.7082 for s = [1 1 0], exact: true
}
