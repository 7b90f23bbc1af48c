package paramfile

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// parseTorch reads what torch.save writes since PyTorch 1.6 of a state dict, or of a
// dict that has one in it. The file is a zip archive. It has a pickle of the structure and a
// record of raw values for each storage.
//
// Nothing that the pickle says is executed; see vet. Values are read when they are asked
// for.
func (f *File) parseTorch(r io.ReaderAt, size int64) error {
	a, err := openArchive(r, size, &f.options)
	if err != nil {
		return err
	}
	if a.records["constants.pkl"] != nil {
		return errors.New("it is a TorchScript archive: expected a state dict")
	}
	if a.records["byteorder"] != nil {
		order, err := a.read("byteorder")
		if err != nil {
			return err
		}
		if string(order) != "little" {
			return fmt.Errorf("byte order %.20q: expected little", order)
		}
	}
	text, err := a.read("data.pkl")
	if err != nil {
		return err
	}
	v, skipped, err := unpickle(text, a.storage, &f.options)
	if err != nil {
		return fmt.Errorf("data.pkl: %w", err)
	}
	if f.tensors, f.others, err = stateDict(v, &f.options); err != nil {
		return err
	}
	if skipped != nil {
		f.options.note("objects of %s are skipped: tensors and containers alone are built", list(skipped))
	}
	return nil
}

// archive is a zip archive.
type archive struct {
	records   map[string]*zip.File // by their names within the archive's folder
	options   *Options
	size      uint64 // bytes of the archive
	unchecked bool   // it has no checksums
	unpacked  uint64 // bytes that were decompressed
	key       string // of the storage that was read last
	data      []byte // its values
}

func openArchive(r io.ReaderAt, size int64, o *Options) (*archive, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	a := &archive{records: map[string]*zip.File{}, options: o, size: uint64(size), unchecked: true}
	const pickle = "data.pkl"
	folder := "" // it has any name, or none if the archive was zipped anew
	for _, f := range z.File {
		if in, ok := strings.CutSuffix(f.Name, "/"+pickle); ok && (folder == "" || len(in) < len(folder)) {
			folder = in + "/"
		}
		a.unchecked = a.unchecked && f.CRC32 == 0
	}
	for _, f := range z.File {
		if name, ok := strings.CutPrefix(f.Name, folder); ok {
			a.records[name] = f
		}
	}
	if f := a.records[pickle]; f != nil && a.unchecked {
		o.note("the archive has no checksums: its content is not checked")
	}
	return a, nil
}

// read returns the content of a record, whose checksum is checked if the archive has
// checksums.
func (a *archive) read(name string) ([]byte, error) {
	f := a.records[name]
	name = shown(name) // it is in messages alone from here on
	if f == nil {
		return nil, fmt.Errorf("no record %s in the archive", name)
	}
	const encrypted = 1
	switch {
	case f.Flags&encrypted != 0:
		return nil, fmt.Errorf("record %s is encrypted", name)
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return nil, fmt.Errorf("record %s is compressed by method %d: expected 0, stored, or 8, deflated", name, f.Method)
	}
	left := f.UncompressedSize64
	what, takes := "record "+name, min(left, a.size) // no stored record is longer than the archive
	if f.Method == zip.Deflate {
		what, takes = what+" with the compressed ones before it", left+min(a.unpacked, math.MaxUint64-left)
	}
	if err := a.options.within(what, takes); err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	defer r.Close()
	// What the header says of the size need not be so; ReadFrom grows with what is there,
	// and r returns an error for more.
	b := bytes.NewBuffer(make([]byte, 0, min(left, a.size)+bytes.MinRead))
	_, err = b.ReadFrom(r)
	if f.Method == zip.Deflate {
		a.unpacked += uint64(b.Len())
	}
	if err == zip.ErrChecksum && a.unchecked {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// storageType is a type of values, and its number of bytes.
type storageType struct {
	dtype string // as safetensors spells it
	width int
}

// storage is the values that tensors view, in a record of the archive.
type storage struct {
	storageType
	archive *archive
	key     string
	size    int // number of values
}

// storage makes what a pickle refers to by id, ("storage", type, key, device, size).
func (a *archive) storage(id any) (any, error) {
	if t, ok := id.(*types.Tuple); ok && t.Len() == 5 {
		kind, ok1 := t.Get(1).(storageType)
		key, ok2 := t.Get(2).(string)
		size, ok3 := t.Get(4).(int)
		if t.Get(0) == "storage" && ok1 && ok2 && ok3 && size >= 0 {
			return &storage{kind, a, key, size}, nil
		}
	}
	return nil, errors.New("a reference to something else than a storage")
}

// read returns the values, little-endian. Those of the storage that was read last are at
// hand.
func (s *storage) read() ([]byte, error) {
	a := s.archive
	if a.data == nil || a.key != s.key {
		b, err := a.read("data/" + s.key)
		if err != nil {
			return nil, err
		}
		a.key, a.data = s.key, b
	}
	if b := a.data; len(b)%s.width != 0 || len(b)/s.width != s.size {
		return nil, fmt.Errorf("record %s has %d bytes: expected %d values of %d", shown("data/"+s.key), len(b), s.size, s.width)
	}
	return a.data, nil
}

// view is a tensor's place in its storage, in values.
type view struct {
	storage       *storage
	kind          storageType // of the values; the storage's but for one of bytes
	offset        int
	shape, stride []int
	neg, conj     bool // PyTorch changes the values' sign, or their imaginary part's, when it reads them
}

// tensor is the view as a tensor of a file.
func (v *view) tensor() tensor {
	t := tensor{shape: v.shape, dtype: v.kind.dtype, source: v.storage.key, neg: v.neg, open: v.open}
	if v.conj {
		t.dtype += " with conjugated values"
	}
	return t
}

// open returns the values, little-endian and in row-major order.
func (v *view) open() (io.Reader, error) {
	width := v.kind.width
	if width == 0 {
		return nil, fmt.Errorf("values of type %s are not read", v.kind.dtype)
	}
	if err := v.inside(); err != nil {
		return nil, err
	}
	data, err := v.storage.read()
	if err != nil {
		return nil, err
	}
	// The extents from dims on lie together.
	dims, run := len(v.shape), 1
	for dims > 0 && v.stride[dims-1] == run {
		dims--
		run *= v.shape[dims]
	}
	if dims == 0 {
		return bytes.NewReader(data[v.offset*width:][:run*width]), nil
	}
	out := make([]byte, 0, v.tensor().len()*width)
	var walk func(dim, at int)
	walk = func(dim, at int) {
		if dim == dims {
			out = append(out, data[at*width:][:run*width]...)
			return
		}
		for i := range v.shape[dim] {
			walk(dim+1, at+i*v.stride[dim])
		}
	}
	walk(0, v.offset)
	return bytes.NewReader(out), nil
}

// inside returns an error if the view has more values than the budget's, or reaches out
// of its storage.
func (v *view) inside() error {
	held := uint64(v.storage.size) / uint64(v.kind.width/v.storage.width) // a storage has values, or bytes
	n, last := uint64(v.kind.width), min(uint64(v.offset), held)
	for i, d := range v.shape {
		over, product := bits.Mul64(n, uint64(d))
		if over > 0 || product > math.MaxInt {
			product = math.MaxUint64
		}
		n = product
		if err := v.storage.archive.options.within(fmt.Sprintf("shape %v", v.shape), n); err != nil {
			return err
		}
		stride := min(uint64(v.stride[i]), held)
		switch {
		case d == 0 || d > 1 && stride > 0 && uint64(d-1) > (held-last)/stride:
			last = held
		default:
			last += uint64(d-1) * stride
		}
	}
	if last >= held {
		return fmt.Errorf("shape %v with strides %v from %d on exceeds a storage of %d values", v.shape, v.stride, v.offset, held)
	}
	return nil
}
