package snn_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// What was saved is loaded to the bit, with its metadata, by a model that was
// different.
func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.safetensors")
	m := newModel(t, defaults())
	warmStatistics(t, m, images(m, 2))
	m.Meta = map[string]string{"arch": "test", "epoch": "3"}
	require.NoError(t, m.Save(path))

	other := newModel(t, defaults())
	other.Init(rng.New(99))
	require.NotEqual(t, state(m), state(other))
	require.NoError(t, other.Load(path))
	assert.Equal(t, state(m), state(other))
	assert.Equal(t, m.Meta, other.Meta)

	want, err := m.Logits(snn.Pass{}, images(m, 2))
	require.NoError(t, err)
	got, err := other.Logits(snn.Pass{}, images(m, 2))
	require.NoError(t, err)
	assert.Equal(t, want, got)

	var again bytes.Buffer
	require.NoError(t, other.Write(&again))
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(file, again.Bytes()))
}

// What describes this model survives the loading of a file that describes another, or
// nothing.
func TestLoadKeepsOwnMeta(t *testing.T) {
	m := newModel(t, defaults())
	file := func(meta map[string]string) []byte {
		var b bytes.Buffer
		n := newModel(t, defaults())
		n.Meta = meta
		require.NoError(t, n.Write(&b))
		return b.Bytes()
	}
	m.Meta = map[string]string{"steps": "4"}
	require.NoError(t, m.SetState(file(nil)))
	assert.Equal(t, map[string]string{"steps": "4"}, m.Meta)
	require.NoError(t, m.SetState(file(map[string]string{"steps": "8", "format": "pt"})))
	assert.Equal(t, map[string]string{"steps": "4", "format": "pt"}, m.Meta)
}

// tensors is a file's tensors, to be changed.
type tensors map[string]safetensors.TensorView

func (ts tensors) bytes(t *testing.T) []byte {
	b, err := safetensors.Serialize(ts, nil)
	require.NoError(t, err)
	return b
}

func view(t *testing.T, dtype safetensors.DType, shape []uint64, data []byte) safetensors.TensorView {
	v, err := safetensors.NewTensorView(dtype, shape, data)
	require.NoError(t, err)
	return v
}

// A file that does not fit is an error that names the file and what is wrong, and
// leaves the model as it was.
func TestLoadErrors(t *testing.T) {
	m := newModel(t, defaults())
	m.Meta = map[string]string{"steps": "4"}
	var b bytes.Buffer
	require.NoError(t, m.Write(&b))
	whole := b.Bytes()
	header := binary.LittleEndian.Uint64(whole)

	changed := func(change func(ts tensors)) []byte {
		st, err := safetensors.Deserialize(slices.Clone(whole))
		require.NoError(t, err)
		ts := tensors{}
		for _, n := range st.Tensors() {
			ts[n.Name] = n.TensorView
		}
		change(ts)
		return ts.bytes(t)
	}
	edit := func(at int, b ...byte) []byte {
		c := slices.Clone(whole)
		copy(c[at:], b)
		return c
	}
	value := func(v float64) []byte {
		return changed(func(ts tensors) {
			raw := slices.Clone(ts["fc.bias"].Data())
			binary.LittleEndian.PutUint32(raw[8:], math.Float32bits(float32(v)))
			ts["fc.bias"] = view(t, safetensors.F32, []uint64{5}, raw)
		})
	}
	for _, c := range []struct {
		message string
		file    []byte
	}{
		{"not a safetensors file", nil},
		{"not a PyTorch state dict", []byte("PK\x03\x04")},
		{"PyTorch wrote it before 1.6", []byte("\x80\x02\x8a\x0a")},
		{"not a safetensors file", whole[:4]},
		{"not a safetensors file", whole[:header/2]},
		{"not a safetensors file", whole[:header+8]},
		{"not a safetensors file", whole[:len(whole)-1]},
		{"not a safetensors file", append(slices.Clone(whole), 0)},
		{"not a safetensors file", edit(0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{"not a safetensors file", edit(0, 0, 0, 0, 0x40)},
		{"not a safetensors file", edit(8, 'x')},
		{"not a safetensors file", edit(20, 0xfe, 0xff)},
		{"the file is of another architecture: it lacks block.convex.comb of the model's tensors, and has none", changed(func(ts tensors) { delete(ts, "block.convex.comb") })},
		{"it lacks fc.bias of the model's tensors, and has fc.offset beside them", changed(func(ts tensors) { ts["fc.offset"] = ts["fc.bias"]; delete(ts, "fc.bias") })},
		{"it lacks none of the model's tensors, and has zz beside them", changed(func(ts tensors) { ts["zz"] = ts["fc.bias"] })},
		{"tensor fc.bias has shape [1 5]: expected [5]", changed(func(ts tensors) { ts["fc.bias"] = view(t, safetensors.F32, []uint64{1, 5}, make([]byte, 20)) })},
		{"tensor fc.bias has shape [4]: expected [5]", changed(func(ts tensors) { ts["fc.bias"] = view(t, safetensors.F32, []uint64{4}, make([]byte, 16)) })},
		{"tensor fc.bias is of type I64: expected F32", changed(func(ts tensors) { ts["fc.bias"] = view(t, safetensors.I64, []uint64{5}, make([]byte, 40)) })},
		{"tensor fc.bias, value 2 is NaN: expected a finite number", value(math.NaN())},
		{"tensor fc.bias, value 2 is -Inf: expected a finite number", value(math.Inf(-1))},
	} {
		path := filepath.Join(t.TempDir(), "file.safetensors")
		require.NoError(t, os.WriteFile(path, c.file, 0o644))
		other := newModel(t, defaults())
		other.Init(rng.New(99))
		other.Meta = map[string]string{"own": "1"}
		before := state(other)
		err := other.Load(path)
		require.ErrorContains(t, err, c.message)
		assert.ErrorContains(t, err, path)
		assert.NotContains(t, err.Error(), "\n")
		assert.Equal(t, before, state(other))
		assert.Equal(t, map[string]string{"own": "1"}, other.Meta)
	}
	missing := filepath.Join(t.TempDir(), "missing.safetensors")
	assert.ErrorContains(t, m.Load(missing), missing)

	// PyTorch counts batches, in a tensor without extents; the count is passed over.
	counted := changed(func(ts tensors) {
		ts["block.bn1.num_batches_tracked"] = view(t, safetensors.I64, []uint64{1}, make([]byte, 8))
	})
	require.Contains(t, string(counted), `"shape":[1]`)
	require.NoError(t, m.SetState(bytes.Replace(counted, []byte(`"shape":[1]`), []byte(`"shape":[ ]`), 1)))
}

func TestSaveErrors(t *testing.T) {
	m := newModel(t, defaults())
	dir := t.TempDir()
	path := filepath.Join(dir, "missing", "model.safetensors")
	err := m.Save(path)
	assert.ErrorContains(t, err, "save model: ")
	assert.ErrorContains(t, err, filepath.Dir(path))

	// A file stands where the folder should be.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644))
	assert.Error(t, m.Save(filepath.Join(dir, "file", "model.safetensors")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	got, err := os.ReadFile(filepath.Join(dir, "file"))
	require.NoError(t, err)
	assert.Equal(t, "content", string(got))
}

// The names are those of the PyTorch modules of the same structure, in their order.
func TestParameterNames(t *testing.T) {
	m := newModel(t, defaults())
	var names []string
	for _, p := range m.State() {
		names = append(names, p.Name)
	}
	assert.Equal(t, strings.Fields(`
		mean std
		features.0.weight features.0.bias
		features.1.weight features.1.bias features.1.running_mean features.1.running_var
		block.bn1.weight block.bn1.bias block.bn1.running_mean block.bn1.running_var
		block.short.weight
		block.conv1.weight
		block.bn2.weight block.bn2.bias block.bn2.running_mean block.bn2.running_var
		block.conv2.weight block.convex.comb
		fc.weight fc.bias`), names)
	var trained []string
	for _, p := range m.Params() {
		trained = append(trained, p.Name)
	}
	assert.Equal(t, slices.DeleteFunc(names, func(n string) bool {
		return n == "mean" || n == "std" || strings.Contains(n, "running")
	}), trained)
	require.Len(t, m.ConvexParams(), 1)
	assert.Equal(t, []float32{0.5, 0.5}, m.ConvexParams()[0].Export())
	assert.Equal(t, 5, m.Classes())
}

// Parameters start as their distributions say: by He et al. over the fan-out for
// convolutions, PyTorch's uniform one for linear layers, within 5 standard errors.
func TestInit(t *testing.T) {
	conv, linear := snn.NewConv2D(30, 40, 3, 1, 1, true), snn.NewLinear(400, 100, true)
	conv.Bias.Import(slices.Repeat([]float32{7}, 40))
	conv.Init(rng.New(5))
	linear.Init(rng.New(5))
	moments := func(v []float32) (mean, variance, largest float64) {
		for _, x := range v {
			mean += float64(x) / float64(len(v))
			largest = max(largest, math.Abs(float64(x)))
		}
		for _, x := range v {
			variance += math.Pow(float64(x)-mean, 2) / float64(len(v))
		}
		return mean, variance, largest
	}
	w := conv.Weight.Export()
	mean, variance, _ := moments(w)
	want := 2.0 / (40 * 9)
	assert.InDelta(t, 0, mean, 5*math.Sqrt(want/float64(len(w))))
	assert.InEpsilon(t, want, variance, 5*math.Sqrt(2/float64(len(w))))
	assert.Equal(t, make([]float32, 40), conv.Bias.Export())

	w = linear.Weight.Export()
	mean, variance, largest := moments(w)
	assert.InDelta(t, 0, mean, 5*math.Sqrt(1.0/400/3/float64(len(w))))
	assert.InEpsilon(t, 1.0/400/3, variance, 5*math.Sqrt(0.8/float64(len(w))))
	assert.LessOrEqual(t, largest, 1.0/20)

	// Each layer draws its own, and the same for the same key.
	a, b := newModel(t, defaults()), newModel(t, defaults())
	assert.Equal(t, state(a), state(b))
	b.Init(rng.New(2))
	assert.NotEqual(t, state(a)["fc.weight"], state(b)["fc.weight"])
	assert.NotEqual(t, state(a)["block.conv2.weight"][:100], state(a)["block.conv1.weight"][:100])
}

// A state of other names and types is converted, and what was done is said; a lower
// budget refuses it.
func TestLoadWith(t *testing.T) {
	m := newModel(t, defaults())
	warmStatistics(t, m, images(m, 2))
	var b bytes.Buffer
	require.NoError(t, m.Write(&b))
	st, err := safetensors.Deserialize(b.Bytes())
	require.NoError(t, err)
	ts := tensors{"n_averaged": view(t, safetensors.I64, []uint64{1}, make([]byte, 8))}
	for _, n := range st.Tensors() {
		var double []byte
		for raw := range slices.Chunk(n.TensorView.Data(), 4) {
			x := math.Float32frombits(binary.LittleEndian.Uint32(raw))
			double = binary.LittleEndian.AppendUint64(double, math.Float64bits(float64(x)))
		}
		ts["module."+n.Name] = view(t, safetensors.F64, n.TensorView.Shape(), double)
	}
	path := filepath.Join(t.TempDir(), "averaged.safetensors")
	require.NoError(t, os.WriteFile(path, ts.bytes(t), 0o644))

	other := newModel(t, defaults())
	var notes []string
	require.NoError(t, other.LoadWith(path, snn.LoadOptions{Note: func(s string) { notes = append(notes, s) }}))
	assert.Equal(t, state(m), state(other))
	require.Len(t, notes, 3)
	assert.Contains(t, notes[0], "n_averaged, which the model computes nothing with")
	assert.Equal(t, "the prefix module. of the tensors' names is passed over", notes[1])
	assert.Contains(t, notes[2], "tensors of type F64 are rounded to the nearest float32")

	err = other.LoadWith(path, snn.LoadOptions{Budget: 1 << 12})
	assert.ErrorContains(t, err, "load model: "+path)
	assert.ErrorContains(t, err, "the reader's budget, which can be raised")
}
