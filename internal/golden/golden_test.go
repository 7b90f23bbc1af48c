package golden_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/internal/regular"
)

// file returns a safetensors file of a header and the bytes behind it.
func file(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

// vectors returns a file of a float32 and an int64 tensor, of that type.
func vectors(ints string) []byte {
	var data []byte
	for _, x := range []float32{1, -2.5, float32(math.Inf(1))} {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	for _, n := range []int64{-1, 1<<31 - 1} {
		data = binary.LittleEndian.AppendUint64(data, uint64(n))
	}
	return file(fmt.Sprintf(`{"x":{"dtype":"F32","shape":[1,3],"data_offsets":[0,12]},"y":{"dtype":"%s","shape":[2],"data_offsets":[12,28]},"__metadata__":{"eps":"8/255","T":"4","bad":"a/2"}}`, ints), data)
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vectors.safetensors")
	require.NoError(t, os.WriteFile(path, vectors("I64"), 0o644))
	f, err := golden.Read(path)
	require.NoError(t, err)
	assert.Equal(t, map[string]golden.Tensor{
		"x": {Shape: []int{1, 3}, Floats: []float32{1, -2.5, float32(math.Inf(1))}},
		"y": {Shape: []int{2}, Ints: []int{-1, 1<<31 - 1}},
	}, f.Tensors)
	n, err := f.Numbers("eps", "T")
	require.NoError(t, err)
	assert.Equal(t, []float64{8.0 / 255, 4}, n)
	_, err = f.Number("bad")
	assert.EqualError(t, err, `metadata bad is "a/2": expected a number`)
	_, err = f.Floats("x", 2)
	require.NoError(t, err)
	for _, name := range []string{"x", "y", "z"} {
		_, err = f.Floats(name, 1)
		assert.EqualError(t, err, "expected a float32 tensor "+name+" with 1 dimensions")
	}
}

// What cannot be read is an error that names the file and the reason.
func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	for want, b := range map[string][]byte{
		"tensor y is of type F64: expected F32 or I64": vectors("F64"),
		"not a safetensors file: header":               nil,
		"not a safetensors file: a header of":          vectors("I64")[:40],
		"not a safetensors file: tensors of 28 bytes":  append(vectors("I64"), 0),
	} {
		path := filepath.Join(dir, "file")
		require.NoError(t, os.WriteFile(path, b, 0o644))
		_, err := golden.Read(path)
		require.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, path)
	}
	_, err := golden.Read(dir)
	assert.ErrorIs(t, err, regular.ErrNotRegular)
	_, err = golden.Read(filepath.Join(dir, "missing"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// A file within the default budget is refused within a lower one.
func TestReadWithin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vectors.safetensors")
	b := vectors("I64")
	require.NoError(t, os.WriteFile(path, b, 0o644))
	_, err := golden.ReadWithin(path, int64(len(b)))
	assert.ErrorContains(t, err, "the reader's budget, which can be raised")
	_, err = golden.ReadWithin(path, 1<<20)
	require.NoError(t, err)
}

// Nothing that a file says makes the reader panic, or take more memory than it gives
// cause to.
func FuzzParse(f *testing.F) {
	f.Add(vectors("I64"))
	f.Add(file(`{"x":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, nil))
	f.Add(bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		file, err := golden.Parse(b)
		runtime.ReadMemStats(&after)
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 1<<20+uint64(200*len(b)) {
			t.Fatalf("%d bytes allocated for a file of %d", taken, len(b))
		}
		if err == nil {
			for _, tensor := range file.Tensors {
				n := 1
				for _, d := range tensor.Shape {
					n *= d
				}
				if len(tensor.Floats)+len(tensor.Ints) != n {
					t.Fatalf("%d values of shape %v", len(tensor.Floats)+len(tensor.Ints), tensor.Shape)
				}
			}
		}
	})
}
