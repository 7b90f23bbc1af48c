// Package paramfile keeps parameters in safetensors files: float32 tensors under
// names, in row-major order, and strings beside them. It also reads PyTorch's files.
package paramfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/nlpodyssey/safetensors"
	"github.com/org/snnrat/autograd"
)

// Write writes parameters under the names that they are listed by.
func Write(w io.Writer, params map[string]*autograd.Param, meta map[string]string) error {
	views := map[string]writer{}
	for name, p := range params {
		views[name] = writer{p}
	}
	return safetensors.SerializeToWriter(views, meta, w)
}

// writer is a parameter as a tensor of a file, whose bytes are made when they are
// written.
type writer struct{ *autograd.Param }

func (v writer) DType() safetensors.DType { return safetensors.F32 }

func (v writer) Shape() []uint64 {
	dims := make([]uint64, len(v.Param.Shape))
	for i, d := range v.Param.Shape {
		dims[i] = uint64(d)
	}
	return dims
}

func (v writer) Data() []byte {
	raw := make([]byte, 0, 4*v.Len())
	for _, f := range v.Export() {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return raw
}

func (v writer) DataLen() uint64 { return 4 * uint64(v.Len()) }

// File is the content of a file.
type File struct {
	Meta    map[string]string
	tensors map[string]tensor
}

// tensor is a tensor of a file.
type tensor struct {
	shape []int
	dtype string                 // F32, I64, …
	read  func() ([]byte, error) // returns its values, little-endian and in row-major order
}

// Parse reads the content of a file: safetensors, or a PyTorch state dict as torch.save
// writes it.
func Parse(b []byte) (*File, error) {
	switch {
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		tensors, err := parseTorch(b)
		if err != nil {
			return nil, fmt.Errorf("not a PyTorch state dict: %w", err)
		}
		return &File{tensors: tensors}, nil
	case bytes.HasPrefix(b, []byte("\x80\x02")):
		return nil, errors.New("a pickle as PyTorch wrote it before 1.6: expected its zip format, or safetensors")
	}
	st, err := safetensors.Deserialize(b)
	if err != nil {
		return nil, fmt.Errorf("not a safetensors file: %w", err)
	}
	_, meta, err := safetensors.ReadMetadata(b)
	if err != nil {
		return nil, fmt.Errorf("not a safetensors file: %w", err)
	}
	f := &File{meta.Metadata(), map[string]tensor{}}
	for _, t := range st.Tensors() {
		v := tensor{dtype: fmt.Sprint(t.TensorView.DType()), read: func() ([]byte, error) { return t.TensorView.Data(), nil }}
		for _, d := range t.TensorView.Shape() {
			v.shape = append(v.shape, int(d))
		}
		f.tensors[t.Name] = v
	}
	return f, nil
}

// Names returns the tensors' names, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.tensors)) }

// Import sets the parameters from the tensors that they are listed by. The file must
// hold float32 tensors of just these names and of the parameters' shapes, with finite
// values; num_batches_tracked, which PyTorch's batch norm keeps, is passed over. On an
// error, which names the tensors, all parameters are as they were.
func (f *File) Import(params map[string]*autograd.Param) error {
	var missing, unknown []string
	names := slices.Sorted(maps.Keys(params))
	for _, name := range names {
		if _, ok := f.tensors[name]; !ok {
			missing = append(missing, name)
		}
	}
	for _, name := range f.Names() {
		if params[name] == nil && !strings.HasSuffix(name, ".num_batches_tracked") {
			unknown = append(unknown, name)
		}
	}
	if missing != nil || unknown != nil {
		return fmt.Errorf("the file is of another architecture: it lacks %s of the model's tensors, and has %s beside them",
			list(missing), list(unknown))
	}
	values := make([][]float32, len(names))
	for i, name := range names {
		p, t := params[name], f.tensors[name]
		if !slices.Equal(t.shape, p.Shape) {
			return fmt.Errorf("tensor %s has shape %v: expected %v", name, t.shape, p.Shape)
		}
		if t.dtype != "F32" {
			return fmt.Errorf("tensor %s is of type %s: expected F32", name, t.dtype)
		}
		raw, err := t.read()
		if err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		values[i] = make([]float32, p.Len())
		for j := range values[i] {
			x := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:]))
			if x-x != 0 {
				return fmt.Errorf("tensor %s, value %d is %v: expected a finite number", name, j, x)
			}
			values[i][j] = x
		}
	}
	for i, name := range names {
		params[name].Import(values[i])
	}
	return nil
}

// list writes names in a line.
func list(names []string) string {
	const most = 8
	switch n := len(names); {
	case n == 0:
		return "none"
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}
