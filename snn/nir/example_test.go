package nir_test

import (
	"fmt"
	"log"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/nir"
	"github.com/org/snnrat/tensor"
)

// A graph of three nodes becomes a network, which fires at the second and at the fourth step.
func ExampleGraph_Model() {
	graph := &nir.Graph{
		Nodes: map[string]*nir.Node{
			"input":  {Type: "Input", Fields: map[string]nir.Array{"shape": nir.Ints([]int{1}, 1)}},
			"if":     {Type: "IF", Fields: map[string]nir.Array{"r": nir.Floats([]int{1}, 1000), "v_threshold": nir.Floats([]int{1}, 0.9), "v_reset": nir.Floats([]int{1}, 0)}},
			"output": {Type: "Output", Fields: map[string]nir.Array{"shape": nir.Ints([]int{1}, 1)}},
		},
		Edges: [][2]string{{"input", "if"}, {"if", "output"}},
	}
	model, notes, err := graph.Model(nir.Config{Dt: 1e-3, Steps: 4})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(notes)
	image := tensor.NewNCHW(1, 1, 1, 1)
	image.Data[0] = 0.5
	rate, err := model.Logits(snn.Pass{}, image)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("spikes a step:", rate[0])
	// Output:
	// [if: fires above its threshold: at the next larger float32]
	// spikes a step: 0.5
}
