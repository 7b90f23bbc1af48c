package paramfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// function is a function that a pickle may call.
type function func(args []any) (any, error)

// Call implements [types.Callable].
func (f function) Call(args ...any) (any, error) { return f(args) }

// globals are the names that a pickle may ask for, beside collections.OrderedDict, which
// is gopickle's own. A placeholder stands for others.
var globals = map[string]any{
	"torch._utils._rebuild_tensor_v2":            function(rebuildTensor),
	"torch._utils._rebuild_tensor_v3":            function(rebuildTensor),
	"torch._utils._rebuild_parameter":            function(rebuildParameter),
	"torch._utils._rebuild_parameter_with_state": function(rebuildParameter),
	"torch._tensor._rebuild_from_type_v2":        function(rebuildSubclass),
	"torch._tensor.Tensor":                       plainTensor,
	"torch.Tensor":                               plainTensor,
	"torch.nn.parameter.Parameter":               plainTensor,
	"torch.storage.UntypedStorage":               untyped,
}

// untyped is the type of a storage that only says its number of bytes.
var untyped = storageType{"bytes", 1}

func init() {
	for _, t := range []struct {
		name string // of the dtype
		kind string // of the storage, if there is one
		storageType
	}{
		{"float32", "Float", storageType{"F32", 4}},
		{"float64", "Double", storageType{"F64", 8}},
		{"float16", "Half", storageType{"F16", 2}},
		{"bfloat16", "BFloat16", storageType{"BF16", 2}},
		{"int64", "Long", storageType{"I64", 8}},
		{"int32", "Int", storageType{"I32", 4}},
		{"int16", "Short", storageType{"I16", 2}},
		{"int8", "Char", storageType{"I8", 1}},
		{"uint8", "Byte", storageType{"U8", 1}},
		{"bool", "Bool", storageType{"BOOL", 1}},
		{"complex64", "ComplexFloat", storageType{"C64", 8}},
		{"complex128", "ComplexDouble", storageType{"C128", 16}},
	} {
		globals["torch."+t.name] = t.storageType
		globals["torch."+t.kind+"Storage"] = t.storageType
	}
}

// placeholder stands for everything that is not one of globals, and for what is made of
// it: a class, a function, what it returns and a part of that. It does nothing and keeps
// nothing.
type placeholder struct{ name string }

func (p *placeholder) Call(...any) (any, error)    { return p, nil }
func (p *placeholder) PyNew(...any) (any, error)   { return p, nil }
func (p *placeholder) PySetState(any) error        { return nil }
func (p *placeholder) PyDictSet(_, _ any) error    { return nil }
func (p *placeholder) PySetAttr(string, any) error { return nil }
func (p *placeholder) Set(_, _ any)                {}
func (p *placeholder) Append(any)                  {}
func (p *placeholder) Add(any)                     {}

// rebuildTensor makes a tensor of (storage, offset, shape, stride, requires_grad, hooks),
// which the values' type follows if the storage is one of bytes, and flags of the view.
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
	v := &view{storage: s, kind: s.storageType, offset: offset, shape: shape, stride: stride}
	rest := args[min(6, len(args)):]
	if s.storageType == untyped {
		if len(rest) == 0 {
			return nil, bad
		}
		switch kind := rest[0].(type) {
		case storageType:
			v.kind = kind
		case *placeholder:
			v.kind = storageType{dtype: kind.name}
		default:
			return nil, bad
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		flags, ok := entries(rest[0])
		if !ok && rest[0] != nil {
			return nil, bad
		}
		for name, set := range flags {
			switch on, ok := set.(bool); {
			case !ok:
				return nil, bad
			case name == "neg":
				v.neg = on
			case name == "conj":
				v.conj = on
			default:
				return nil, fmt.Errorf("a view with the flag %.20q: expected neg or conj", name)
			}
		}
	}
	return v, nil
}

// sizes returns the numbers of a tuple, which are not negative.
func sizes(v any) ([]int, bool) {
	const most = 64 // dimensions, PyTorch's limit
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

// rebuildParameter returns the tensor of (tensor, requires_grad, hooks, …).
func rebuildParameter(args []any) (any, error) {
	if len(args) < 1 {
		return nil, errors.New("a parameter without a tensor")
	}
	return args[0], nil
}

// plainTensor stands for the classes whose tensors are nothing but tensors.
var plainTensor = &placeholder{"torch.Tensor"}

// rebuildSubclass makes a tensor, which has attributes, of (function, class, the
// function's arguments, attributes).
func rebuildSubclass(args []any) (any, error) {
	if len(args) < 3 {
		return nil, errors.New("a tensor with attributes that is not made as torch.save does")
	}
	class, _ := args[1].(*placeholder)
	f, ok1 := args[0].(function)
	inner, ok2 := args[2].(*types.Tuple)
	if class != plainTensor || !ok1 || !ok2 {
		return &placeholder{describe(args[1])}, nil
	}
	return f(*inner)
}

// unpickle interprets a pickle, whose references load resolves, and returns the names of
// what placeholders stand for.
func unpickle(text []byte, load func(id any) (any, error), o *Options) (v any, skipped []string, err error) {
	text, err = vet(text, o)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if r := recover(); r != nil { // gopickle's answer to some malformed pickles
			v, err = nil, fmt.Errorf("malformed: %.200s", fmt.Sprint(r))
		}
	}()
	names := map[string]*placeholder{}
	u := pickle.NewUnpickler(bytes.NewReader(text))
	u.FindClass = func(module, name string) (any, error) {
		full := module + "." + name
		if g, ok := globals[full]; ok {
			return g, nil
		}
		if full = fmt.Sprintf("%.80q", full); names[full] == nil {
			names[full] = &placeholder{strings.Trim(full, `"`)}
		}
		return names[full], nil
	}
	u.PersistentLoad = load
	if v, err = u.Load(); err != nil {
		return nil, nil, fmt.Errorf("%.200s", err.Error()) // which may print a whole list
	}
	for _, p := range names {
		skipped = append(skipped, p.name)
	}
	slices.Sort(skipped)
	return v, skipped, nil
}

// instruction is how many bytes of argument an instruction of a pickle has, and at most
// how many bytes of memory gopickle takes to follow it.
type instruction struct {
	bytes   int  // of the argument, or of a count of further bytes if counted
	counted bool // the argument is that, and so many bytes
	memory  int
}

// instructions are those of protocols 2 to 5, as Python's pickle module writes them.
var instructions = map[byte]instruction{}

func init() {
	const plain, container, call = 350, 500, 800 // with what slices and maps hold while they grow
	for _, set := range []struct {
		ops string
		instruction
	}{
		{"NQabestu01.\x85\x86\x87\x88\x89\x90\x93\x81\x92\x94)", instruction{0, false, plain}},
		{"(]}\x8f\x91", instruction{0, false, container}},
		{"Rc", instruction{0, false, call}},
		{"Khq\x80", instruction{1, false, plain}},
		{"M", instruction{2, false, plain}},
		{"Jjr", instruction{4, false, plain}},
		{"G\x95", instruction{8, false, plain}},
		{"U\x8a\x8cC", instruction{1, true, plain}},
		{"XB", instruction{4, true, plain}},
		{"\x8d\x8e\x96", instruction{8, true, plain}},
	} {
		for _, op := range []byte(set.ops) {
			instructions[op] = set.instruction
		}
	}
}

// asLists are instructions that make sets, and those that make lists of the same. gopickle's
// sets cannot hold bytes.
var asLists = map[byte]byte{'\x8f': ']', '\x90': 'e', '\x91': 'l'}

// vet returns a pickle with lists in place of sets. It returns an error if the pickle has
// instructions that Python does not write for objects in protocols 2 to 5, is cut short,
// or takes more memory than the budget. What is left can do nothing but build values:
// unpickle calls none but the functions of globals, and of what else the pickle asks for
// nothing is built.
func vet(text []byte, o *Options) ([]byte, error) {
	memory := 3 * uint64(len(text)) // of this copy, strings and frames
	text = bytes.Clone(text)
	cut := errors.New("cut short")
	for i := 0; i < len(text); {
		op, rest := text[i], text[i+1:]
		in, ok := instructions[op]
		n := in.bytes
		switch {
		case op == 'c':
			lines := bytes.SplitN(rest, []byte("\n"), 3)
			if len(lines) < 3 {
				return nil, cut
			}
			n = len(lines[0]) + len(lines[1]) + 2
		case !ok || op == '\x8a' && len(rest) > 0 && rest[0] == 0:
			return nil, fmt.Errorf("instruction %#02x at byte %d: expected those that torch.save writes for tensors", op, i)
		case len(rest) < n:
			return nil, cut
		case in.counted || op == '\x95':
			var count [8]byte
			copy(count[:], rest[:n])
			size := binary.LittleEndian.Uint64(count[:])
			if size > uint64(len(rest)-n) {
				return nil, cut
			}
			if in.counted { // the content of a frame is instructions
				n += int(size)
			}
		}
		if other, ok := asLists[op]; ok {
			text[i] = other
		}
		if memory += uint64(in.memory); op == '.' {
			return text, o.within("the structure of the tensors", memory)
		}
		i += 1 + n
	}
	return nil, cut
}
