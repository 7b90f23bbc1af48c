package paramfile

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/bits"
	"slices"

	"github.com/nlpodyssey/safetensors"
)

// A header of so many bytes takes at most headerCost times as much memory when it is
// parsed.
const headerCost = 96

// parseSafetensors reads the header, its length and a JSON object. The tensors must
// fill the bytes behind it one after the other.
func (f *File) parseSafetensors(r io.ReaderAt, size int64) error {
	var length [8]byte
	if _, err := r.ReadAt(length[:], 0); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > uint64(size-8) {
		return fmt.Errorf("a header of %d bytes in a file of %d", n, size)
	}
	if n > math.MaxInt64/headerCost {
		n = math.MaxInt64 / headerCost // so that the product is one
	}
	if err := f.options.within(fmt.Sprintf("a header of %d bytes", n), n*headerCost); err != nil {
		return err
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	var header safetensors.Metadata
	if err := header.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("header: %.200s", err.Error())
	}
	if !json.Valid(text) { // UnmarshalJSON reads one value, whatever follows
		return errors.New("header: more text behind the JSON object")
	}
	infos := header.Tensors()
	names := slices.SortedFunc(maps.Keys(infos), func(a, b string) int {
		x, y := infos[a].DataOffsets, infos[b].DataOffsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
	})
	f.Meta, f.tensors = header.Metadata(), map[string]tensor{}
	data := io.NewSectionReader(r, 8+int64(n), size-8-int64(n))
	at := uint64(0)
	for _, name := range names {
		info := infos[name]
		t := tensor{dtype: fmt.Sprint(info.DType)}
		bytes := info.DType.Size()
		for _, d := range info.Shape {
			var over uint64
			if over, bytes = bits.Mul64(bytes, d); over > 0 || d > math.MaxInt {
				return fmt.Errorf("tensor %s has shape %s: expected one of less than 2⁶³ bytes", shown(name), extents(info.Shape))
			}
			t.shape = append(t.shape, int(d))
		}
		lo, hi := info.DataOffsets[0], info.DataOffsets[1]
		if lo != at || hi < lo || hi-lo != bytes {
			return fmt.Errorf("tensor %s of %d bytes lies at %d to %d: expected it from %d on", shown(name), bytes, lo, hi, at)
		}
		t.open = func() (io.Reader, error) { return io.NewSectionReader(data, int64(lo), int64(bytes)), nil }
		f.tensors[name] = t
		at = hi
	}
	if at != uint64(data.Size()) {
		return fmt.Errorf("tensors of %d bytes in all, and %d bytes of them", at, data.Size())
	}
	return nil
}
