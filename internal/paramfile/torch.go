package paramfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// stateKeys are the keys under which checkpoints keep a state dict.
var stateKeys = []string{"state_dict", "model_state_dict", "model", "net"}

// parseTorch reads what torch.save writes since PyTorch 1.6 of a state dict, or of a
// dict that has one under one of stateKeys: a zip archive, without compression, of a
// pickle of the structure and a record of raw values for each storage.
//
// Nothing that the pickle says is executed, and it is refused if it asks for anything
// but tensors and plain containers; see vet. Values are read when they are asked for.
func parseTorch(r io.ReaderAt, size int64) (map[string]tensor, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	a := &archive{map[string]*zip.File{}, uint64(size)}
	for _, f := range z.File {
		_, name, _ := strings.Cut(f.Name, "/") // they are in a folder that has any name
		a.records[name] = f
	}
	if a.records["constants.pkl"] != nil {
		return nil, errors.New("it is a TorchScript archive: expected a state dict")
	}
	if a.records["byteorder"] != nil {
		if order, err := a.read("byteorder"); err != nil || string(order) != "little" {
			return nil, fmt.Errorf("byte order %q: expected little", order)
		}
	}
	text, err := a.read("data.pkl")
	if err != nil {
		return nil, err
	}
	v, err := unpickle(text, a.storage)
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	return stateDict(v)
}

// archive is a zip archive.
type archive struct {
	records map[string]*zip.File // by their names within the archive's folder
	size    uint64               // bytes of the archive
}

// read returns the content of a record, whose checksum is checked.
func (a *archive) read(name string) ([]byte, error) {
	f := a.records[name]
	if f == nil {
		return nil, fmt.Errorf("no record %s in the archive", name)
	}
	if f.Method != zip.Store { // so that no record is longer than the file
		return nil, fmt.Errorf("record %s is compressed: expected it as torch.save writes it", name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	// What the header says of the size need not be so; ReadFrom grows with what is there.
	b := bytes.NewBuffer(make([]byte, 0, min(f.UncompressedSize64, a.size)+bytes.MinRead))
	if _, err := b.ReadFrom(r); err != nil {
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
		if t.Get(0) == "storage" && ok1 && ok2 && ok3 {
			return &storage{kind, a, key, size}, nil
		}
	}
	return nil, errors.New("a reference to something else than a storage")
}

// read returns the values, little-endian.
func (s *storage) read() ([]byte, error) {
	b, err := s.archive.read("data/" + s.key)
	if err != nil {
		return nil, err
	}
	if len(b)%s.width != 0 || len(b)/s.width != s.size {
		return nil, fmt.Errorf("record data/%s has %d bytes: expected %d values of %d", s.key, len(b), s.size, s.width)
	}
	return b, nil
}

// view is a tensor's place in its storage, in values.
type view struct {
	storage       *storage
	offset        int
	shape, stride []int
}

// read returns the values, little-endian and in row-major order. The shape must be one
// that fits in memory.
func (v *view) read() ([]byte, error) {
	data, err := v.storage.read()
	if err != nil {
		return nil, err
	}
	n, last := 1, min(v.offset, v.storage.size)
	for i, d := range v.shape {
		n *= d
		last += (d - 1) * min(v.stride[i], v.storage.size)
	}
	if n == 0 || last >= v.storage.size {
		return nil, fmt.Errorf("shape %v with strides %v from %d on exceeds a storage of %d values", v.shape, v.stride, v.offset, v.storage.size)
	}
	// The extents from dims on lie together.
	dims, run := len(v.shape), 1
	for dims > 0 && v.stride[dims-1] == run {
		dims--
		run *= v.shape[dims]
	}
	if dims == 0 {
		return data[v.offset*v.storage.width:][:n*v.storage.width], nil
	}
	out := make([]byte, 0, n*v.storage.width)
	var walk func(dim, at int)
	walk = func(dim, at int) {
		if dim == dims {
			out = append(out, data[at*v.storage.width:][:run*v.storage.width]...)
			return
		}
		for i := range v.shape[dim] {
			walk(dim+1, at+i*v.stride[dim])
		}
	}
	walk(0, v.offset)
	return out, nil
}

// open is a tensor's.
func (v *view) open() (io.Reader, error) {
	b, err := v.read()
	return bytes.NewReader(b), err
}

// stateDict returns the tensors of a state dict by their names.
func stateDict(v any) (map[string]tensor, error) {
	dict, ok := entries(v)
	if !ok {
		return nil, errors.New("it does not hold a dict of names")
	}
	for _, key := range stateKeys {
		if inner, ok := entries(dict[key]); ok {
			dict = inner
			break
		}
	}
	tensors := map[string]tensor{}
	for _, name := range slices.Sorted(maps.Keys(dict)) {
		t, ok := dict[name].(*view)
		if !ok {
			return nil, fmt.Errorf("entry %.80q is not a tensor: expected tensors alone, or a dict of them under one of %s",
				name, strings.Join(stateKeys, ", "))
		}
		tensors[name] = tensor{shape: t.shape, dtype: t.storage.dtype, open: t.open}
	}
	return tensors, nil
}

// entries returns the content of a dict whose keys are all strings.
func entries(v any) (map[string]any, bool) {
	dict := map[string]any{}
	named := true
	set := func(key, value any) {
		name, ok := key.(string)
		named = named && ok
		dict[name] = value
	}
	switch v := v.(type) {
	case *types.Dict:
		for _, e := range *v {
			set(e.Key, e.Value)
		}
	case *types.OrderedDict:
		for key, e := range v.Map {
			set(key, e.Value)
		}
	default:
		return nil, false
	}
	return dict, named
}

// function is a function that a pickle may call.
type function func(args []any) (any, error)

// Call implements [types.Callable].
func (f function) Call(args ...any) (any, error) { return f(args) }

// globals are the names that a pickle may ask for.
var globals = map[string]any{
	"collections.OrderedDict":         nil, // gopickle's own
	"torch._utils._rebuild_tensor_v2": function(rebuildTensor),
	"torch._utils._rebuild_parameter": function(rebuildParameter),
	"torch.FloatStorage":              storageType{"F32", 4},
	"torch.DoubleStorage":             storageType{"F64", 8},
	"torch.HalfStorage":               storageType{"F16", 2},
	"torch.BFloat16Storage":           storageType{"BF16", 2},
	"torch.LongStorage":               storageType{"I64", 8},
	"torch.IntStorage":                storageType{"I32", 4},
	"torch.ShortStorage":              storageType{"I16", 2},
	"torch.CharStorage":               storageType{"I8", 1},
	"torch.ByteStorage":               storageType{"U8", 1},
	"torch.BoolStorage":               storageType{"BOOL", 1},
}

// rebuildTensor makes a tensor of (storage, offset, shape, stride, requires_grad,
// hooks).
func rebuildTensor(args []any) (any, error) {
	bad := errors.New("a tensor that is not made as torch.save does")
	if len(args) < 4 {
		return nil, bad
	}
	s, ok1 := args[0].(*storage)
	offset, ok2 := args[1].(int)
	shape, ok3 := sizes(args[2])
	stride, ok4 := sizes(args[3])
	if !ok1 || !ok2 || !ok3 || !ok4 || offset < 0 || len(shape) != len(stride) {
		return nil, bad
	}
	return &view{s, offset, shape, stride}, nil
}

// sizes returns the numbers of a tuple, which are not negative.
func sizes(v any) ([]int, bool) {
	const most = 8 // dimensions
	t, ok := v.(*types.Tuple)
	if !ok || t.Len() > most {
		return nil, false
	}
	out := make([]int, t.Len())
	for i := range out {
		if out[i], ok = t.Get(i).(int); !ok || out[i] < 0 {
			return nil, false
		}
	}
	return out, true
}

// rebuildParameter returns the tensor of (tensor, requires_grad, hooks).
func rebuildParameter(args []any) (any, error) {
	if len(args) < 1 {
		return nil, errors.New("a parameter without a tensor")
	}
	return args[0], nil
}

// unpickle interprets a pickle, whose references load resolves.
func unpickle(text []byte, load func(id any) (any, error)) (v any, err error) {
	if err := vet(text); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil { // gopickle's answer to some malformed pickles
			v, err = nil, fmt.Errorf("malformed: %v", r)
		}
	}()
	u := pickle.NewUnpickler(bytes.NewReader(text))
	u.FindClass = func(module, name string) (any, error) { return globals[module+"."+name], nil }
	u.PersistentLoad = load
	return u.Load()
}

// longest is the largest pickle that is read, which describes tens of thousands of
// tensors.
const longest = 1 << 20

// vet returns an error if a pickle has instructions that torch.save does not write for
// tensors in containers, asks for a name that is not one of globals, or is cut short.
// What is left can do nothing but build values, of a size in proportion to its own.
func vet(text []byte) error {
	if len(text) > longest {
		return fmt.Errorf("%d bytes: expected at most %d", len(text), longest)
	}
	for i := 0; i < len(text); {
		op, rest := text[i], text[i+1:]
		n := 0 // bytes of the argument
		switch {
		case strings.IndexByte("()NQR]abestu}\x85\x86\x87\x88\x89", op) >= 0:
		case strings.IndexByte("Khq\x80", op) >= 0:
			n = 1
		case op == 'M':
			n = 2
		case strings.IndexByte("Jjr", op) >= 0:
			n = 4
		case op == 'G':
			n = 8
		case op == 'X' && len(rest) >= 4:
			n = 4 + int(binary.LittleEndian.Uint32(rest))
		case op == '\x8a' && len(rest) > 0 && rest[0] > 0:
			n = 1 + int(rest[0])
		case op == 'c':
			lines := bytes.SplitN(rest, []byte("\n"), 3)
			if len(lines) < 3 {
				return errors.New("cut short")
			}
			name := string(lines[0]) + "." + string(lines[1])
			if _, ok := globals[name]; !ok {
				return fmt.Errorf("it asks for %.80q: expected nothing but tensors and containers, such as torch.save(model.state_dict(), …) writes", name)
			}
			n = len(lines[0]) + len(lines[1]) + 2
		case op == '.':
			return nil
		default:
			return fmt.Errorf("instruction %#02x at byte %d: expected those that torch.save writes for tensors", op, i)
		}
		i += 1 + n
	}
	return errors.New("cut short")
}
