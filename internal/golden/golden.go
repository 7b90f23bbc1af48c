// Package golden reads test vectors that another implementation made: safetensors
// files with inputs and expected results, whose metadata holds the scalars of a case.
package golden

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/nlpodyssey/safetensors"
)

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

// Floats returns a float32 tensor of that many dimensions.
func (f *File) Floats(name string, dims int) (Tensor, error) {
	t, ok := f.Tensors[name]
	if !ok || t.Floats == nil || len(t.Shape) != dims {
		return t, fmt.Errorf("expected a float32 tensor %s with %d dimensions", name, dims)
	}
	return t, nil
}

// Number reads a number of the metadata.
func (f *File) Number(key string) (float64, error) {
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

// Numbers reads several.
func (f *File) Numbers(keys ...string) ([]float64, error) {
	vs := make([]float64, len(keys))
	for i, k := range keys {
		var err error
		if vs[i], err = f.Number(k); err != nil {
			return nil, err
		}
	}
	return vs, nil
}
