// Package paramfile keeps parameters in safetensors files: float32 tensors under
// names, in row-major order, and strings beside them.
package paramfile

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/nlpodyssey/safetensors"
	"github.com/org/snnrat/autograd"
)

// Write writes parameters under the names that they are listed by.
func Write(w io.Writer, params map[string]*autograd.Param, meta map[string]string) error {
	views := map[string]view{}
	for name, p := range params {
		views[name] = view{p}
	}
	return safetensors.SerializeToWriter(views, meta, w)
}

// view is a parameter as a tensor of a file, whose bytes are made when they are
// written.
type view struct{ *autograd.Param }

func (v view) DType() safetensors.DType { return safetensors.F32 }

func (v view) Shape() []uint64 {
	dims := make([]uint64, len(v.Param.Shape))
	for i, d := range v.Param.Shape {
		dims[i] = uint64(d)
	}
	return dims
}

func (v view) Data() []byte {
	raw := make([]byte, 0, 4*v.Len())
	for _, f := range v.Export() {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return raw
}

func (v view) DataLen() uint64 { return 4 * uint64(v.Len()) }

// File is the content of a file.
type File struct {
	Meta    map[string]string
	tensors safetensors.SafeTensors
}

// Parse reads the content of a file.
func Parse(b []byte) (*File, error) {
	tensors, err := safetensors.Deserialize(b)
	if err != nil {
		return nil, fmt.Errorf("not a safetensors file: %w", err)
	}
	_, meta, err := safetensors.ReadMetadata(b)
	if err != nil {
		return nil, fmt.Errorf("not a safetensors file: %w", err)
	}
	return &File{meta.Metadata(), tensors}, nil
}

// Import sets the parameters from the tensors that they are listed by. The file must
// hold float32 tensors of just these names and of the parameters' shapes, with finite
// values, beside those that ignore accepts; a nil ignore accepts none. On an error,
// which names the tensor, all parameters are as they were.
func (f *File) Import(params map[string]*autograd.Param, ignore func(name string) bool) error {
	names := slices.Sorted(maps.Keys(params))
	data := make([][]byte, len(names))
	for i, name := range names {
		p := params[name]
		v, ok := f.tensors.Tensor(name)
		if !ok {
			return fmt.Errorf("no tensor %s: the file is of another architecture", name)
		}
		if !slices.EqualFunc(v.Shape(), p.Shape, func(a uint64, b int) bool { return a == uint64(b) }) {
			return fmt.Errorf("tensor %s has shape %v: expected %v", name, v.Shape(), p.Shape)
		}
		if v.DType() != safetensors.F32 {
			return fmt.Errorf("tensor %s is of type %v: expected F32", name, v.DType())
		}
		data[i] = v.Data()
		for j := range p.Len() {
			if x := float(data[i], j); math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return fmt.Errorf("tensor %s, value %d is %v: expected a finite number", name, j, x)
			}
		}
	}
	for _, name := range slices.Sorted(slices.Values(f.tensors.Names())) {
		if params[name] == nil && (ignore == nil || !ignore(name)) {
			return fmt.Errorf("tensor %s is not one of the model's: the file is of another architecture", name)
		}
	}
	for i, name := range names {
		values := make([]float32, params[name].Len())
		for j := range values {
			values[j] = float(data[i], j)
		}
		params[name].Import(values)
	}
	return nil
}

// float returns value i of a tensor's data.
func float(data []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
}
