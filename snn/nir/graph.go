package nir

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// A Graph is a network of the Neuromorphic Intermediate Representation: nodes, and edges along
// which values flow. Where several edges end at a node, their values are added up, in the order of the
// edges. NIR leaves the order open, and it changes nothing but the rounding. Metadata that a file has in
// groups have their names before their own, as in training/epochs.
type Graph struct {
	Version  string // of the nir library that wrote the file
	Nodes    map[string]*Node
	Edges    [][2]string // from, to
	Metadata map[string]Array
}

// A Node is a node of a graph. What its fields mean is defined by NIR for each type.
type Node struct {
	Type     string           // such as LIF
	Fields   map[string]Array // such as tau; without type and metadata
	Metadata map[string]Array
	Graph    *Graph // the graph of a node of type NIRGraph
}

// An Array holds the numbers or the texts of a field, row-major: in Floats for the types f, in Ints
// for the types i and u, and in Texts for str.
type Array struct {
	Type   string // f2, f4 or f8; i1 to i8; u1 to u8; or str
	Shape  []int  // nil for one number or text
	Floats []float64
	Ints   []int64
	Texts  []string
}

// Validate returns an error that names what is wrong: an edge without its node, an edge that is
// there twice, or a node that is nil. The values of a field and of metadata must be as many as their
// shape says, and of their type. A node with a graph has no fields and metadata beside those of the graph.
func (g *Graph) Validate() error {
	if g == nil || len(g.Nodes) == 0 {
		return errors.New("nir: a graph without nodes")
	}
	return g.validate("")
}

func (g *Graph) validate(prefix string) error {
	if err := validateAll(g.Metadata); err != nil {
		return fmt.Errorf("nir: metadata of graph %q: %w", strings.TrimSuffix(prefix, "."), err)
	}
	seen := map[[2]string]bool{}
	for _, e := range g.Edges {
		for _, end := range e {
			if _, ok := g.Nodes[end]; !ok {
				return fmt.Errorf("nir: edge from %s to %s: there is no node %s", prefix+e[0], prefix+e[1], prefix+end)
			}
		}
		if seen[e] {
			return fmt.Errorf("nir: the edge from %s to %s is there twice", prefix+e[0], prefix+e[1])
		}
		seen[e] = true
	}
	for _, name := range slices.Sorted(maps.Keys(g.Nodes)) {
		n := g.Nodes[name]
		if n == nil {
			return fmt.Errorf("nir: node %s is nil", prefix+name)
		}
		for _, fields := range []map[string]Array{n.Fields, n.Metadata} {
			if err := validateAll(fields); err != nil {
				return fmt.Errorf("nir: node %s: %w", prefix+name, err)
			}
		}
		if (n.Type == "NIRGraph") != (n.Graph != nil) {
			return fmt.Errorf("nir: node %s of type %s: a node has a graph if its type is NIRGraph", prefix+name, n.Type)
		}
		if n.Graph != nil && len(n.Fields)+len(n.Metadata) > 0 {
			return fmt.Errorf("nir: node %s of type NIRGraph has fields or metadata of its own: want those of its graph", prefix+name)
		}
		if n.Graph != nil {
			if err := n.Graph.validate(prefix + name + "."); err != nil {
				return err
			}
		}
	}
	return nil
}

// validateAll returns an error that names the first bad array.
func validateAll(fields map[string]Array) error {
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		if err := fields[f].validate(); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	return nil
}

// values returns the number of values that the array should have, and has. The first is a float64,
// which does not overflow.
func (a Array) values() (want float64, have int) {
	want = 1
	for _, d := range a.Shape {
		want *= float64(d)
	}
	switch {
	case a.Type == "str":
		return want, len(a.Texts)
	case a.isFloat():
		return want, len(a.Floats)
	}
	return want, len(a.Ints)
}

func (a Array) isFloat() bool { return a.Type == "f2" || a.Type == "f4" || a.Type == "f8" }

func (a Array) validate() error {
	switch a.Type {
	case "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "str":
	default:
		return fmt.Errorf("type %q, want f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8 or str", a.Type)
	}
	for _, d := range a.Shape {
		if d < 0 {
			return fmt.Errorf("shape %v", a.Shape)
		}
	}
	if want, have := a.values(); want != float64(have) {
		return fmt.Errorf("%d values of type %s, want %.0f for the shape %v", have, a.Type, want, a.Shape)
	}
	if a.Type == "str" {
		return nil
	}
	bits := 8 * (a.Type[1] - '0')
	for i, v := range a.numbers() {
		fits := true
		switch {
		case a.Type == "f2":
			fits = math.IsInf(v, 0) || !(math.Abs(v) >= 65520) // from which on it rounds to infinity
		case a.Type == "f4":
			fits = math.IsInf(v, 0) || !math.IsInf(float64(float32(v)), 0)
		case a.Type[0] == 'i':
			fits = a.Ints[i]<<(64-bits)>>(64-bits) == a.Ints[i]
		case a.Type[0] == 'u':
			fits = a.Ints[i] >= 0 && (bits == 64 || a.Ints[i]>>bits == 0)
		}
		if !fits {
			return fmt.Errorf("value %v is none of type %s", v, a.Type)
		}
	}
	return nil
}

// Floats returns an array of float64.
func Floats(shape []int, v ...float64) Array { return Array{Type: "f8", Shape: shape, Floats: v} }

// Ints returns an array of int64.
func Ints(shape []int, v ...int64) Array { return Array{Type: "i8", Shape: shape, Ints: v} }

// Text returns a text.
func Text(s string) Array { return Array{Type: "str", Texts: []string{s}} }

// numbers returns the values of a field as float64.
func (a Array) numbers() []float64 {
	if a.isFloat() {
		return a.Floats
	}
	v := make([]float64, len(a.Ints))
	for i, n := range a.Ints {
		v[i] = float64(n)
	}
	return v
}
