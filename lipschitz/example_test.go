package lipschitz_test

import (
	"context"
	"fmt"

	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

func ExampleDistance() {
	shape := tensor.Shape{N: 1, Steps: 4, C: 3, H: 1, W: 1}
	a, b := tensor.NewSpikes(shape), tensor.NewSpikes(shape)
	a.Set(0, 0, 1, 0, 0, true) // neuron 1 fires at step 0 in a,
	b.Set(0, 2, 1, 0, 0, true) // at step 2 in b: two differences
	for _, p := range []float64{1, 2} {
		d, err := lipschitz.Distance(p, a, b)
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
	n, err := lipschitz.SpectralNorm(w, 2, 3, lipschitz.DefaultLanczos())
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

// pixel returns a network with one pixel, one neuron, the weights 1 and 2, and T = 4.
func pixel() (*snn.Model, error) {
	first, last := snn.NewLinear(1, 1, false), snn.NewLinear(1, 1, false)
	first.Weight.Import([]float32{1})
	last.Weight.Import([]float32{2})
	return snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 4}, snn.NewSequential(first, snn.NewIF(), last))
}

// The current 0.4 fires the neuron at step 3 of 4, and the current 0.5 at steps 2 and 4. So
// three spikes differ. The bound covers every change of the current with the same norm.
func ExampleMeasureAmplification() {
	m, err := pixel()
	if err != nil {
		fmt.Println(err)
		return
	}
	connections, err := lipschitz.Connections(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	var bounds []*lipschitz.ConnectionBounds
	for _, c := range connections {
		b, err := c.Bound(context.Background(), m.Steps, lipschitz.DefaultBoundSearch())
		if err != nil {
			fmt.Println(err)
			return
		}
		bounds = append(bounds, b)
	}
	clean := tensor.NCHW{N: 1, C: 1, H: 1, W: 1, Data: []float32{0.4}}
	perturbed := tensor.NCHW{N: 1, C: 1, H: 1, W: 1, Data: []float32{0.5}}
	layers, err := lipschitz.MeasureAmplification(m, bounds, clean, perturbed, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range layers {
		fmt.Printf("neurons %s: D₂ in %.2f, out %.2f; D₂² = %.0f ≤ %v\n", a.Layer, a.In[0], a.Out[0], a.Out[0]*a.Out[0], a.Bound(0))
	}
	// Output: neurons 1: D₂ in 0.20, out 1.73; D₂² = 3 ≤ 3
}

// A trainer with the tracker as its train.Config.Monitor does this after every epoch. It keeps
// the result in its metrics.
func ExampleTracker() {
	m, err := pixel()
	if err != nil {
		fmt.Println(err)
		return
	}
	observed, err := lipschitz.NewTracker(nil).Measure(context.Background(), m, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("σ_max of the last weight %.2f, product of all %.2f\n", observed["sigma_max/2.weight"], observed["sigma_max_product"])
	// Output: σ_max of the last weight 2.00, product of all 2.00
}
