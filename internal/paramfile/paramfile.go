// Package paramfile keeps parameters in safetensors files: float32 tensors under
// names, in row-major order, and strings beside them. It also reads PyTorch's files.
package paramfile

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"os"
	"slices"
	"strings"

	"github.com/nlpodyssey/safetensors"
	"github.com/org/snnrat/autograd"
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

// File is a file whose tensors are read when they are asked for.
type File struct {
	Meta    map[string]string
	tensors map[string]tensor
	close   func() error
}

// tensor is a tensor of a file.
type tensor struct {
	shape []int
	dtype string                    // F32, I64, …
	open  func() (io.Reader, error) // of its values, little-endian and in row-major order
}

// Open opens a file: safetensors, or a PyTorch state dict as torch.save writes it. The
// caller closes it.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	stat, err := f.Stat()
	var file *File
	if err == nil {
		file, err = parse(f, stat.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	file.close = f.Close
	return file, nil
}

// Parse is Open for the content of a file; it need not be closed.
func Parse(b []byte) (*File, error) {
	return parse(bytes.NewReader(b), int64(len(b)))
}

// Close closes a file that Open opened.
func (f *File) Close() error { return f.close() }

func parse(r io.ReaderAt, size int64) (*File, error) {
	var start [8]byte
	n, err := r.ReadAt(start[:], 0)
	switch {
	case err != nil && err != io.EOF:
		return nil, err
	case bytes.HasPrefix(start[:n], []byte("PK\x03\x04")):
		tensors, err := parseTorch(r, size)
		if err != nil {
			return nil, fmt.Errorf("not a PyTorch state dict: %w", err)
		}
		return &File{tensors: tensors}, nil
	case bytes.HasPrefix(start[:n], []byte("\x80\x02")):
		return nil, errors.New("a pickle as PyTorch wrote it before 1.6: expected its zip format, or safetensors")
	}
	f, err := parseSafetensors(r, size)
	if err != nil {
		return nil, fmt.Errorf("not a safetensors file: %w", err)
	}
	return f, nil
}

// largestHeader bounds the memory that a header of any content can ask for; it is the
// format's own limit.
const largestHeader = 100_000_000

// parseSafetensors reads the header, its length and a JSON object. The tensors must
// fill the bytes behind it one after the other.
func parseSafetensors(r io.ReaderAt, size int64) (*File, error) {
	var length [8]byte
	if _, err := r.ReadAt(length[:], 0); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > largestHeader || int64(n) > size-8 {
		return nil, fmt.Errorf("a header of %d bytes in a file of %d", n, size)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var header safetensors.Metadata
	if err := header.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	infos := header.Tensors()
	names := slices.SortedFunc(maps.Keys(infos), func(a, b string) int {
		x, y := infos[a].DataOffsets, infos[b].DataOffsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
	})
	f := &File{Meta: header.Metadata(), tensors: map[string]tensor{}}
	data := io.NewSectionReader(r, 8+int64(n), size-8-int64(n))
	at := uint64(0)
	for _, name := range names {
		info := infos[name]
		t := tensor{dtype: fmt.Sprint(info.DType)}
		bytes := info.DType.Size()
		for _, d := range info.Shape {
			var over uint64
			if over, bytes = bits.Mul64(bytes, d); over > 0 {
				return nil, fmt.Errorf("tensor %s has shape %v", name, info.Shape)
			}
			t.shape = append(t.shape, int(d))
		}
		lo, hi := info.DataOffsets[0], info.DataOffsets[1]
		if lo != at || hi < lo || hi-lo != bytes {
			return nil, fmt.Errorf("tensor %s of %d bytes lies at %d to %d: expected it from %d on", name, bytes, lo, hi, at)
		}
		t.open = func() (io.Reader, error) { return io.NewSectionReader(data, int64(lo), int64(bytes)), nil }
		f.tensors[name] = t
		at = hi
	}
	if at != uint64(data.Size()) {
		return nil, fmt.Errorf("tensors of %d bytes in all, and %d bytes of them", at, data.Size())
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
	read := make([]*autograd.Param, len(names))
	for i, name := range names {
		p, t := params[name], f.tensors[name]
		if !slices.Equal(t.shape, p.Shape) {
			return fmt.Errorf("tensor %s has shape %v: expected %v", name, t.shape, p.Shape)
		}
		if t.dtype != "F32" {
			return fmt.Errorf("tensor %s is of type %s: expected F32", name, t.dtype)
		}
		read[i] = autograd.NewParam(p.Shape...)
		if err := t.fill(read[i]); err != nil {
			return fmt.Errorf("tensor %s%w", name, err)
		}
	}
	for i, name := range names {
		params[name].MoveFrom(read[i])
	}
	return nil
}

// fill sets p to the tensor's values.
func (t *tensor) fill(p *autograd.Param) error {
	r, err := t.open()
	if err != nil {
		return fmt.Errorf(": %w", err)
	}
	b := bufio.NewReaderSize(r, 1<<16)
	return p.Fill(func(i int) (float32, error) {
		raw, err := b.Peek(4)
		if err != nil {
			return 0, fmt.Errorf(", value %d: %w", i, err)
		}
		b.Discard(len(raw))
		x := math.Float32frombits(binary.LittleEndian.Uint32(raw))
		if x-x != 0 {
			return 0, fmt.Errorf(", value %d is %v: expected a finite number", i, x)
		}
		return x, nil
	})
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
