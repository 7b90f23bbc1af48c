// Package parity holds the library against test vectors that another implementation
// made: those of neurons and of whole networks.
package parity

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/tensor"
)

// Tolerance is the largest relative error that passes: of the tensor's largest
// magnitude.
const Tolerance = 1e-4

// Result compares one expected tensor.
type Result struct {
	Name string
	// Err is the largest difference relative to the tensor's largest magnitude.
	Err float64
	// Spikes is the number of spikes that differ.
	Spikes int
}

// OK reports whether the result passes: equal spikes, and values within Tolerance.
func (r Result) OK() bool { return r.Spikes == 0 && r.Err <= Tolerance }

// Check runs what the file describes, a neuron or a network, and compares every
// expected tensor. The error names the file and what is missing or wrong in it.
func Check(path string) ([]Result, error) {
	f, err := golden.Read(path)
	if err != nil {
		return nil, err
	}
	c := &checker{File: f}
	switch {
	case f.Meta["arch"] != "":
		err = c.network()
	case f.Tensors["grad_out"].Floats != nil:
		err = c.neuron()
	default:
		err = fmt.Errorf("expected the vectors of a network (metadata arch) or of a neuron (tensor grad_out), found %v", slices.Sorted(maps.Keys(f.Tensors)))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c.results, nil
}

type checker struct {
	*golden.File
	results []Result
}

// compare records how far got is from the expected tensor, if the file has it.
func (c *checker) compare(name string, got []float32) {
	if t, ok := c.Tensors[name]; ok {
		c.results = append(c.results, Result{Name: name, Err: relative(got, t.Floats, magnitude(t.Floats))})
	}
}

func magnitude(v []float32) float64 {
	m := 0.0
	for _, x := range v {
		m = max(m, math.Abs(float64(x)))
	}
	return m
}

// relative returns the largest difference divided by scale; infinity where the
// lengths differ or a value is not a number.
func relative(got, want []float32, scale float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst := 0.0
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	if worst == 0 {
		return 0
	}
	return worst / scale
}

// images makes a batch of a tensor [N, C, H, W].
func images(t golden.Tensor) tensor.NCHW {
	return tensor.NCHW{N: t.Shape[0], C: t.Shape[1], H: t.Shape[2], W: t.Shape[3], Data: t.Floats}
}
