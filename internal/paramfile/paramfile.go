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

	"github.com/nlpodyssey/safetensors"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/regular"
)

// Write writes parameters under the names that they are listed by. It refuses what Import
// would: values that are not finite.
func Write(w io.Writer, params map[string]*autograd.Param, meta map[string]string) error {
	views := map[string]writer{}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		i := 0
		for x := range params[name].Values() {
			if x-x != 0 {
				return fmt.Errorf("tensor %s, value %d is %v: expected a finite number", name, i, x)
			}
			i++
		}
		views[name] = writer{params[name]}
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
	for x := range v.Values() {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return raw
}

func (v writer) DataLen() uint64 { return 4 * uint64(v.Len()) }

// DefaultBudget is the Budget of the zero Options.
const DefaultBudget = 1 << 30

// Options are how a file is read.
type Options struct {
	// Budget bounds, in bytes, what a file's own sizes can ask for: the memory of the
	// description of its tensors, each record, and all compressed records together. 0
	// stands for DefaultBudget.
	Budget int64
	// Note is told, one sentence each, what is converted or passed over; nil for none.
	Note func(string)
	// Settings are values that a network has as settings and not as tensors. A tensor
	// beside the parameters whose name ends in a key must hold the values, or is refused.
	// A single value stands for any number of equal ones.
	Settings map[string][]float32
}

func (o *Options) budget() int64 {
	if o.Budget == 0 {
		return DefaultBudget
	}
	return o.Budget
}

// within returns an error if what needs that many bytes is out of the budget.
func (o *Options) within(what string, bytes uint64) error {
	if b := max(0, o.budget()); bytes > uint64(b) {
		return fmt.Errorf("%s takes %d bytes: expected at most %d, the reader's budget, which can be raised", what, bytes, b)
	}
	return nil
}

func (o *Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// File is a file whose tensors are read when they are asked for.
type File struct {
	Meta    map[string]string
	options Options
	tensors map[string]tensor
	others  map[string]string // what has a tensor's place and is none
	close   func() error
}

// tensor is a tensor of a file.
type tensor struct {
	shape  []int
	dtype  string                    // F32, I64, …
	source string                    // the record that it is a part of; tensors of one are best read in turn
	neg    bool                      // its values are those of open with the sign changed
	open   func() (io.Reader, error) // of its values, little-endian and in row-major order
}

// Open opens a file: safetensors, or a PyTorch state dict as torch.save writes it. The
// caller closes it. What is no regular file is refused with regular.ErrNotRegular.
func Open(path string, o Options) (*File, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	file, err := parse(f, size, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	file.close = f.Close
	return file, nil
}

// Parse is Open for the content of a file; it need not be closed.
func Parse(b []byte, o Options) (*File, error) {
	return parse(bytes.NewReader(b), int64(len(b)), o)
}

// Close closes a file that Open opened.
func (f *File) Close() error { return f.close() }

func parse(r io.ReaderAt, size int64, o Options) (*File, error) {
	var start [8]byte
	n, err := r.ReadAt(start[:], 0)
	f := &File{options: o}
	switch {
	case err != nil && err != io.EOF:
		return nil, err
	case bytes.HasPrefix(start[:n], []byte("PK\x03\x04")):
		if err := f.parseTorch(r, size); err != nil {
			return nil, fmt.Errorf("not a PyTorch state dict: %w", err)
		}
		return f, nil
	case oldPickle(start[:n]) && binary.LittleEndian.Uint64(start[:]) > uint64(size):
		return nil, errors.New("a pickle as PyTorch wrote it before 1.6: expected its zip format, or safetensors")
	}
	if err := f.parseSafetensors(r, size); err != nil {
		return nil, fmt.Errorf("not a safetensors file: %w", err)
	}
	return f, nil
}

// oldPickle reports whether a file begins as torch.save's did: a pickle of a long number.
// A safetensors file can begin so, too, with the length of its header.
func oldPickle(start []byte) bool {
	return len(start) > 2 && start[0] == 0x80 && start[1] >= 2 && start[1] <= 5 && (start[2] == 0x8a || start[2] == 0x95)
}

// Names returns the tensors' names, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.tensors)) }

// Shape returns a tensor's shape, or false if there is no tensor of the name.
func (f *File) Shape(name string) ([]int, bool) {
	t, ok := f.tensors[name]
	return slices.Clone(t.shape), ok
}

// Type returns the type of a tensor, such as F32, or nothing if there is no tensor of the
// name.
func (f *File) Type(name string) string { return f.tensors[name].dtype }

// Bytes returns the values of a tensor as they are in a safetensors file: row-major,
// little-endian. The tensor must be of the file.
func (f *File) Bytes(name string) ([]byte, error) {
	t := f.tensors[name]
	r, err := t.open()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r) // at most the file's bytes
}
