package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// A file of CIFAR's Python version is a pickled dict of strings, lists and one NumPy array of
// bytes, written with protocol 2. Such a file builds values only: vet refuses every
// instruction that these do not need, and findGlobal every name but those of an array.

// array is a NumPy array of two dimensions of bytes.
type array struct {
	rows, columns int
	data          []uint8 // [rows][columns]
}

// arrayClass makes an empty array, whose state comes later.
type arrayClass struct{}

// Call implements [types.Callable].
func (arrayClass) Call(...any) (any, error) { return &array{}, nil }

// elementType is the type of an array's values, such as u1.
type elementType struct{ name string }

// PySetState implements [types.PyStateSettable]. The state of a byte's type says nothing new.
func (*elementType) PySetState(any) error { return nil }

// elementClass makes the type of an array's values from its name.
type elementClass struct{}

// Call implements [types.Callable].
func (elementClass) Call(args ...any) (any, error) {
	if len(args) > 0 {
		if name, ok := args[0].(string); ok {
			return &elementType{name}, nil
		}
	}
	return nil, errors.New("an array without a type")
}

// PySetState implements [types.PyStateSettable] for the state (version, shape, type, column
// by column, data).
func (a *array) PySetState(state any) error {
	t, ok := state.(*types.Tuple)
	if !ok || t.Len() != 5 {
		return errors.New("an array that is not stored as NumPy does")
	}
	shape, ok1 := t.Get(1).(*types.Tuple)
	element, ok2 := t.Get(2).(*elementType)
	transposed, ok3 := t.Get(3).(bool)
	var data []uint8
	switch d := t.Get(4).(type) {
	case string:
		data = []uint8(d)
	case []uint8:
		data = d
	}
	if !ok1 || !ok2 || !ok3 || element.name != "u1" || shape.Len() != 2 {
		return errors.New("an array of another kind than two dimensions of bytes")
	}
	rows, ok1 := shape.Get(0).(int)
	columns, ok2 := shape.Get(1).(int)
	if !ok1 || !ok2 || rows < 1 || columns < 1 || rows > math.MaxInt/columns || rows*columns != len(data) {
		return fmt.Errorf("an array of %v by %v with %d bytes", shape.Get(0), shape.Get(1), len(data))
	}
	if transposed {
		byRow := make([]uint8, len(data))
		for i := range rows {
			for j := range columns {
				byRow[i*columns+j] = data[j*rows+i]
			}
		}
		data = byRow
	}
	a.rows, a.columns, a.data = rows, columns, data
	return nil
}

// findGlobal returns what a pickle may ask for by name.
func findGlobal(module, name string) (any, error) {
	switch strings.Replace(module, "numpy._core", "numpy.core", 1) + "." + name {
	case "numpy.core.multiarray._reconstruct", "numpy.ndarray":
		return arrayClass{}, nil
	case "numpy.dtype":
		return elementClass{}, nil
	}
	return nil, fmt.Errorf("it asks for %.80q, want nothing but strings, lists and an array of bytes", module+"."+name)
}

// unpickle returns the dict that a file of the Python version is, and takes at most
// Limits.Bytes for it.
func unpickle(text []byte, l Limits) (dict map[string]any, err error) {
	if err := vet(text, l); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil { // gopickle's answer to some malformed pickles
			dict, err = nil, fmt.Errorf("malformed: %.200s", fmt.Sprint(r))
		}
	}()
	u := pickle.NewUnpickler(bytes.NewReader(text))
	u.FindClass = findGlobal
	v, err := u.Load()
	if err != nil {
		return nil, fmt.Errorf("%.200s", err.Error()) // which may print a whole list
	}
	d, ok := v.(*types.Dict)
	if !ok {
		return nil, errors.New("want a dict")
	}
	dict = map[string]any{}
	for _, e := range *d {
		if key, ok := e.Key.(string); ok {
			dict[key] = e.Value
		}
	}
	return dict, nil
}

// vet returns an error if a pickle has other instructions than dicts, lists, strings, numbers
// and arrays need, is cut short, or would take more than Limits.Bytes. What is left can do
// nothing but build values.
func vet(text []byte, l Limits) error {
	const value = 350 // bytes for what an instruction makes, at most, with the stack that grows
	instructions := 0
	copies := int64(-1) // of the text in arrays: a file with one has two states, of the array and of its type
	for i := 0; i < len(text); instructions++ {
		op, rest := text[i], text[i+1:]
		n := 0 // bytes of the argument
		switch {
		case op == '.':
			if max(1, copies)*int64(len(text))+value*int64(instructions) > l.Bytes {
				return fmt.Errorf("%d values in %d bytes, want what takes at most %d bytes, which Limits.Bytes allows", instructions, len(text), l.Bytes)
			}
			return nil
		case op == 'b':
			copies++
		case strings.IndexByte("()}]Nt\x85\x86\x87\x88\x89Raesu", op) >= 0:
		case strings.IndexByte("Khq\x80", op) >= 0:
			n = 1
		case op == 'M':
			n = 2
		case strings.IndexByte("Jjr", op) >= 0:
			n = 4
		case strings.IndexByte("UC", op) >= 0 && len(rest) >= 1:
			n = 1 + int(rest[0])
		case strings.IndexByte("TBX", op) >= 0 && len(rest) >= 4:
			length := binary.LittleEndian.Uint32(rest)
			if int64(length) > int64(len(rest)-4) {
				return errors.New("cut short")
			}
			n = 4 + int(length)
		case op == 'c':
			lines := bytes.SplitN(rest, []byte("\n"), 3)
			if len(lines) < 3 {
				return errors.New("cut short")
			}
			if _, err := findGlobal(string(lines[0]), string(lines[1])); err != nil {
				return err
			}
			n = len(lines[0]) + len(lines[1]) + 2
		default:
			return fmt.Errorf("instruction %#02x at byte %d, want those of a pickle of protocol 2 or 3", op, i)
		}
		if n > len(rest) {
			return errors.New("cut short")
		}
		i += 1 + n
	}
	return errors.New("cut short")
}

// listOf returns the values of a list that are all of one type.
func listOf[T any](v any) ([]T, bool) {
	l, ok := v.(*types.List)
	if !ok {
		return nil, false
	}
	out := make([]T, 0, l.Len())
	for _, e := range *l {
		x, ok := e.(T)
		if !ok {
			return nil, false
		}
		out = append(out, x)
	}
	return slices.Clip(out), true
}
