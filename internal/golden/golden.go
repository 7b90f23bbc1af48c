// Package golden reads the test vectors that PyTorch made: safetensors files,
// whose metadata holds the scalars of a case. Only tests import it.
package golden

import (
	"encoding/binary"
	"math"
	"os"
	"strconv"
	"testing"

	"github.com/nlpodyssey/safetensors"
)

// File is a file of vectors.
type File struct {
	t       testing.TB
	meta    map[string]string
	tensors safetensors.SafeTensors
}

// Open reads a file. What is missing or malformed, here and below, fails the test.
func Open(t testing.TB, path string) *File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &File{t: t}
	if f.tensors, err = safetensors.Deserialize(b); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	_, meta, err := safetensors.ReadMetadata(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	f.meta = meta.Metadata()
	return f
}

// Scalar returns a number of the metadata.
func (f *File) Scalar(name string) float64 {
	f.t.Helper()
	v, err := strconv.ParseFloat(f.meta[name], 64)
	if err != nil {
		f.t.Fatalf("metadata %q: %v", name, err)
	}
	return v
}

// Floats returns a float32 tensor, row-major, and its shape.
func (f *File) Floats(name string) (v []float32, shape []int) {
	f.t.Helper()
	x, ok := f.tensors.Tensor(name)
	if !ok || x.DType() != safetensors.F32 {
		f.t.Fatalf("no float32 tensor %q among %v", name, f.tensors.Names())
	}
	for _, d := range x.Shape() {
		shape = append(shape, int(d))
	}
	v = make([]float32, len(x.Data())/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(x.Data()[4*i:]))
	}
	return v, shape
}
