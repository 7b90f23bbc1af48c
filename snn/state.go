package snn

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/nlpodyssey/safetensors"
	"github.com/org/snnrat/internal/atomicfile"
)

// Save writes the model's state and Meta to a safetensors file under PyTorch-style
// names, whole or not at all.
func (m *Model) Save(path string) error {
	if err := atomicfile.Write(path, m.Write); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	return nil
}

// Write writes what Save does.
func (m *Model) Write(w io.Writer) error {
	views := map[string]safetensors.TensorView{}
	for _, p := range m.State() {
		v, err := floatView(p.Shape, p.Export())
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		views[p.Name] = v
	}
	return safetensors.SerializeToWriter(views, m.Meta, w)
}

func floatView(shape []int, v []float32) (safetensors.TensorView, error) {
	dims := make([]uint64, len(shape))
	for i, d := range shape {
		dims[i] = uint64(d)
	}
	raw := make([]byte, 0, 4*len(v))
	for _, f := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return safetensors.NewTensorView(safetensors.F32, dims, raw)
}

// Load sets the model's state and Meta from a safetensors file. The file must hold
// float32 tensors of just the model's names and shapes (num_batches_tracked, which
// PyTorch's batch norm keeps, is passed over). On an error, which names the file and
// the tensor, the model is as it was.
func (m *Model) Load(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("load model: %w", err)
	}
	if err := m.SetState(b); err != nil {
		return fmt.Errorf("load model: %s: %w", path, err)
	}
	return nil
}

// SetState is Load from the content of a file.
func (m *Model) SetState(file []byte) error {
	st, err := safetensors.Deserialize(file)
	if err != nil {
		return fmt.Errorf("not a safetensors file: %w", err)
	}
	_, meta, err := safetensors.ReadMetadata(file)
	if err != nil {
		return fmt.Errorf("not a safetensors file: %w", err)
	}
	state := m.State()
	values := make([][]float32, len(state))
	extra := map[string]bool{}
	for _, name := range st.Names() {
		extra[name] = !strings.HasSuffix(name, ".num_batches_tracked")
	}
	for i, p := range state {
		v, ok := st.Tensor(p.Name)
		if !ok {
			return fmt.Errorf("no tensor %s: the file is of another architecture", p.Name)
		}
		extra[p.Name] = false
		if !slices.EqualFunc(v.Shape(), p.Shape, func(a uint64, b int) bool { return a == uint64(b) }) {
			return fmt.Errorf("tensor %s has shape %v: expected %v", p.Name, v.Shape(), p.Shape)
		}
		if v.DType() != safetensors.F32 {
			return fmt.Errorf("tensor %s is of type %v: expected F32", p.Name, v.DType())
		}
		values[i] = floats(v.Data())
		for j, f := range values[i] {
			if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
				return fmt.Errorf("tensor %s, value %d is %v: expected a finite number", p.Name, j, f)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if extra[name] {
			return fmt.Errorf("tensor %s is not one of the model's: the file is of another architecture", name)
		}
	}
	for i, p := range state {
		p.Import(values[i])
	}
	m.Meta = meta.Metadata()
	return nil
}

func floats(raw []byte) []float32 {
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}
