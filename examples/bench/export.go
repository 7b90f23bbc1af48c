package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/nlpodyssey/safetensors"
	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// export writes to a folder what -peer reads: the network, the images and our results.
func export(m *snn.Model, x tensor.NCHW, y []int, folder string) error {
	batch, expect, err := task(m, x, y)
	if err != nil {
		return err
	}
	if err := m.Save(filepath.Join(folder, "state.safetensors")); err != nil {
		return err
	}
	if err := batch.save(filepath.Join(folder, "batch.safetensors")); err != nil {
		return err
	}
	return expect.save(filepath.Join(folder, "expect.safetensors"))
}

// task returns the tensors of batch.safetensors and expect.safetensors.
func task(m *snn.Model, x tensor.NCHW, y []int) (batch, expect tensors, err error) {
	batch, expect = tensors{}, tensors{}
	batch.floats("x", x.Data, x.N, x.C, x.H, x.W)
	batch.ints("y", y...)
	var rates []float32
	logits, err := m.Logits(snn.Pass{OnSpikes: func(_ string, s *tensor.Spikes) { rates = append(rates, float32(s.Rate())) }}, x)
	if err != nil {
		return nil, nil, err
	}
	expect.floats("logits", logits, x.N, m.Classes())
	expect.floats("rates", rates, len(rates))
	for _, g := range gradients {
		dx, err := m.InputGradient(snn.Pass{Gradient: g.Gradient}, x, loss(y))
		if err != nil {
			return nil, nil, err
		}
		expect.floats("grad_x."+g.name, dx.Data, x.N, x.C, x.H, x.W)
	}
	return batch, expect, nil
}

// tensors are the tensors of a safetensors file by name.
type tensors map[string]view

// floats adds a float32 tensor.
func (ts tensors) floats(name string, v []float32, shape ...int) {
	t := view{dtype: safetensors.F32, shape: shape}
	for _, x := range v {
		t.data = binary.LittleEndian.AppendUint32(t.data, math.Float32bits(x))
	}
	ts[name] = t
}

// ints adds an int64 tensor with one dimension.
func (ts tensors) ints(name string, v ...int) {
	t := view{dtype: safetensors.I64, shape: []int{len(v)}}
	for _, x := range v {
		t.data = binary.LittleEndian.AppendUint64(t.data, uint64(x))
	}
	ts[name] = t
}

func (ts tensors) save(path string) error {
	err := atomicfile.Write(path, func(w io.Writer) error { return safetensors.SerializeToWriter(ts, nil, w) })
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// view implements safetensors.View.
type view struct {
	dtype safetensors.DType
	shape []int
	data  []byte
}

func (v view) DType() safetensors.DType { return v.dtype }

func (v view) Shape() (shape []uint64) {
	for _, n := range v.shape {
		shape = append(shape, uint64(n))
	}
	return shape
}

func (v view) Data() []byte { return v.data }

func (v view) DataLen() uint64 { return uint64(len(v.data)) }
