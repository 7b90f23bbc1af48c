package paramfile

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// floats are the types that a parameter is read from.
var floats = map[string]bool{"F32": true, "F16": true, "BF16": true, "F64": true}

// decoders read a value of a type from its bytes, little-endian. All but 64-bit integers
// beyond 2⁵³ are exact.
var decoders = map[string]struct {
	width int
	value func(b []byte) float64
}{
	"F32": {4, func(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) }},
	"F64": {8, func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }},
	"F16": {2, func(b []byte) float64 { return half(binary.LittleEndian.Uint16(b)) }},
	"BF16": {2, func(b []byte) float64 {
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
	}},
	"I64":  {8, func(b []byte) float64 { return float64(int64(binary.LittleEndian.Uint64(b))) }},
	"I32":  {4, func(b []byte) float64 { return float64(int32(binary.LittleEndian.Uint32(b))) }},
	"U8":   {1, func(b []byte) float64 { return float64(b[0]) }},
	"BOOL": {1, func(b []byte) float64 { return float64(b[0]) }},
}

// half returns the value of an IEEE 754 binary16: a sign, 5 bits of exponent, 10 of
// fraction.
func half(h uint16) float64 {
	exponent, fraction := int(h>>10&31), float64(h&1023)
	x := 0.0
	switch {
	case exponent == 0:
		x = math.Ldexp(fraction, -24)
	case exponent < 31:
		x = math.Ldexp(1024+fraction, exponent-25)
	case fraction == 0:
		x = math.Inf(1)
	default:
		x = math.NaN()
	}
	if h>>15 != 0 {
		return -x
	}
	return x
}

// values returns a function that returns the tensor's values, one a call, in row-major
// order. An error begins with what follows a tensor's name.
func (t tensor) values() (func() (float64, error), error) {
	d, ok := decoders[t.dtype]
	if !ok {
		return nil, fmt.Errorf(" is of type %s, which is not read", t.dtype)
	}
	r, err := t.open()
	if err != nil {
		return nil, fmt.Errorf(": %w", err)
	}
	raw := make([]byte, max(d.width, min(t.len()*d.width, 1<<16))) // whole values, since widths are powers of two
	var left []byte
	return func() (float64, error) {
		if len(left) < d.width {
			if err != nil {
				return 0, err
			}
			var n int
			if n, err = io.ReadFull(r, raw); err == io.ErrUnexpectedEOF {
				err = io.EOF
			}
			if n < d.width {
				return 0, err
			}
			left = raw[:n]
		}
		x := d.value(left)
		left = left[d.width:]
		if t.neg {
			x = -x
		}
		return x, nil
	}, nil
}

// len returns the number of values, which open has found to fit in memory.
func (t tensor) len() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// Floats returns the values of a tensor in row-major order, those of F64 rounded to the
// nearest float32. The error names the tensor.
func (f *File) Floats(name string) (out []float32, err error) {
	t := f.tensors[name]
	values, err := t.values()
	if err != nil {
		return nil, fmt.Errorf("tensor %s%w", name, err)
	}
	for {
		x, err := values()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %s, value %d: %w", name, len(out), err)
		}
		out = append(out, float32(x))
	}
}

// Ints returns the values of an I64 tensor in row-major order. The error names the
// tensor.
func (f *File) Ints(name string) ([]int, error) {
	t := f.tensors[name]
	if t.dtype != "I64" {
		return nil, fmt.Errorf("tensor %s is of type %s: expected I64", name, t.dtype)
	}
	r, err := t.open()
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", name, err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", name, err)
	}
	var out []int
	for len(raw) >= 8 {
		x := int64(binary.LittleEndian.Uint64(raw))
		if int64(int(x)) != x {
			return nil, fmt.Errorf("tensor %s, value %d is %d: expected an int of this machine", name, len(out), x)
		}
		out, raw = append(out, int(x)), raw[8:]
	}
	return out, nil
}
