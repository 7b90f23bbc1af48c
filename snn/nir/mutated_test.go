package nir_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/org/snnrat/snn/nir"
)

// Whatever is in a graph, Model returns a network or an error.
func TestMutatedGraphs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	pair := func(a, b int64) nir.Array { return nir.Ints([]int{2}, a, b) }
	good := func() *nir.Graph {
		convolution := &nir.Node{Type: "Conv2d", Fields: fields{"weight": random(r, -1, 1, 4, 1, 3, 2), "stride": pair(1, 1), "padding": pair(1, 1), "dilation": pair(1, 1), "groups": nir.Ints(nil, 2), "bias": random(r, -1, 1, 4)}}
		g := graph([]int{2, 6, 6}, []int{3}, convolution, neurons(r, 4, 6, 7)["LIF alike"],
			&nir.Node{Type: "SumPool2d", Fields: fields{"kernel_size": pair(2, 2), "stride": pair(2, 2), "padding": pair(0, 0)}},
			&nir.Node{Type: "Scale", Fields: fields{"scale": all(1, 4, 3, 3)}}, flatten(nil),
			&nir.Node{Type: "Affine", Fields: fields{"weight": random(r, -1, 1, 3, 36), "bias": random(r, -1, 1, 3)}}, neurons(r, 3)["CubaLI"])
		return g
	}
	numbers := []float64{0, -1, 1, 2, 3, 1e9, -1e9, 1e40, 1e300, 1e-300, math.NaN(), math.Inf(1), .5}
	for range 3000 {
		g := good()
		for range 1 + r.IntN(3) {
			nodes := []string{"a", "b", "c", "d", "e", "f", "g", "input", "output"}
			n := g.Nodes[nodes[r.IntN(len(nodes))]]
			var names []string
			for f := range n.Fields {
				names = append(names, f)
			}
			slices.Sort(names)
			if len(names) == 0 {
				continue
			}
			field := names[r.IntN(len(names))]
			a := n.Fields[field]
			x := numbers[r.IntN(len(numbers))]
			switch r.IntN(5) {
			case 0:
				delete(n.Fields, field)
			case 1: // another shape, with as many values
				shape := make([]int, r.IntN(5))
				for i := range shape {
					shape[i] = r.IntN(4)
				}
				b := nir.Floats(shape)
				for range count(shape) {
					b.Floats = append(b.Floats, x)
				}
				n.Fields[field] = b
			case 2:
				n.Fields[field] = nir.Text("same")
			case 3:
				n.Type = []string{"Conv1d", "Conv2d", "AvgPool2d", "LIF", "CubaLIF", "LI", "I", "Threshold", "Linear", "Input", "NIRGraph"}[r.IntN(11)]
			case 4:
				for i := range a.Floats {
					a.Floats[i] = x
				}
				for i := range a.Ints {
					a.Ints[i] = int64(r.IntN(9)) - 2
					if r.IntN(4) == 0 {
						a.Ints[i] = 1 << r.IntN(62)
					}
				}
			}
		}
		m, _, err := g.Model(nir.Config{Dt: .001, Steps: 2, Exponential: r.IntN(2) == 0, SoftReset: r.IntN(2) == 0, Start: nir.Start(r.IntN(3))})
		if (m == nil) == (err == nil) {
			t.Fatal(m, err)
		}
	}
}
