// Package golden holds the library against test vectors that another implementation
// made: safetensors files with the inputs and the expected results of neurons and of
// whole networks.
package golden

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nlpodyssey/safetensors"
	"github.com/org/snnrat/tensor"
)

// Tolerance is the largest relative error that passes: of the tensor's largest
// magnitude.
const Tolerance = 1e-4

// Tensor is a tensor of a file in row-major order; the integers of an int64 tensor
// are in Ints.
type Tensor struct {
	Shape  []int
	Floats []float32
	Ints   []int
}

// File is a file of test vectors.
type File struct {
	Tensors map[string]Tensor
	Meta    map[string]string
}

// Read reads a file. The error names it.
func Read(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	st, err := safetensors.Deserialize(b)
	if err != nil {
		return nil, fmt.Errorf("%s: not a safetensors file: %w", path, err)
	}
	_, meta, err := safetensors.ReadMetadata(b)
	if err != nil {
		return nil, fmt.Errorf("%s: not a safetensors file: %w", path, err)
	}
	f := &File{map[string]Tensor{}, meta.Metadata()}
	for _, t := range st.Tensors() {
		v := Tensor{}
		for _, d := range t.TensorView.Shape() {
			v.Shape = append(v.Shape, int(d))
		}
		raw := t.TensorView.Data()
		switch t.TensorView.DType() {
		case safetensors.F32:
			for i := 0; i < len(raw); i += 4 {
				v.Floats = append(v.Floats, math.Float32frombits(binary.LittleEndian.Uint32(raw[i:])))
			}
		case safetensors.I64:
			for i := 0; i < len(raw); i += 8 {
				v.Ints = append(v.Ints, int(binary.LittleEndian.Uint64(raw[i:])))
			}
		default:
			return nil, fmt.Errorf("%s: tensor %s is of type %v: expected F32 or I64", path, t.Name, t.TensorView.DType())
		}
		f.Tensors[t.Name] = v
	}
	return f, nil
}

// floats returns a float32 tensor of that many dimensions.
func (f *File) floats(name string, dims int) (Tensor, error) {
	t, ok := f.Tensors[name]
	if !ok || t.Floats == nil || len(t.Shape) != dims {
		return t, fmt.Errorf("expected a float32 tensor %s with %d dimensions", name, dims)
	}
	return t, nil
}

// number reads a number of the metadata.
func (f *File) number(key string) (float64, error) {
	v, err := strconv.ParseFloat(f.Meta[key], 64)
	if a, b, ok := strings.Cut(f.Meta[key], "/"); ok {
		var x, y float64
		x, err = strconv.ParseFloat(a, 64)
		if err == nil {
			y, err = strconv.ParseFloat(b, 64)
		}
		v = x / y
	}
	if err != nil {
		return 0, fmt.Errorf("metadata %s is %q: expected a number", key, f.Meta[key])
	}
	return v, nil
}

// numbers reads several.
func (f *File) numbers(keys ...string) ([]float64, error) {
	vs := make([]float64, len(keys))
	for i, k := range keys {
		var err error
		if vs[i], err = f.number(k); err != nil {
			return nil, err
		}
	}
	return vs, nil
}

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
	f, err := Read(path)
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
	*File
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
func images(t Tensor) tensor.NCHW {
	return tensor.NCHW{N: t.Shape[0], C: t.Shape[1], H: t.Shape[2], W: t.Shape[3], Data: t.Floats}
}
