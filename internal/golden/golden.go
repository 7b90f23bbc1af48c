// Package golden reads test vectors that another implementation made: safetensors
// files with inputs and expected results, whose metadata holds the scalars of a case.
package golden

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/org/snnrat/internal/paramfile"
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

// Read reads a file within paramfile's default budget. The error names it.
func Read(path string) (*File, error) { return ReadWithin(path, 0) }

// ReadWithin is Read with a budget in bytes; see [paramfile.Options].
func ReadWithin(path string, budget int64) (*File, error) {
	f, err := paramfile.Open(path, paramfile.Options{Budget: budget})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	g, err := convert(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

// Parse is Read for the content of a file.
func Parse(b []byte) (*File, error) {
	f, err := paramfile.Parse(b, paramfile.Options{})
	if err != nil {
		return nil, err
	}
	return convert(f)
}

// convert reads all tensors of a file.
func convert(f *paramfile.File) (*File, error) {
	g := &File{map[string]Tensor{}, f.Meta}
	for _, name := range f.Names() {
		var t Tensor
		var err error
		switch dtype := f.Type(name); dtype {
		case "F32":
			t.Floats, err = f.Floats(name)
		case "I64":
			t.Ints, err = f.Ints(name)
		default:
			err = fmt.Errorf("tensor %s is of type %s: expected F32 or I64", name, dtype)
		}
		if err != nil {
			return nil, err
		}
		t.Shape, _ = f.Shape(name)
		g.Tensors[name] = t
	}
	return g, nil
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
