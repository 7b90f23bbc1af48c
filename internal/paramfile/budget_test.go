package paramfile_test

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"math/bits"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/paramfile"
	"github.com/org/snnrat/internal/regular"
)

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// needs returns the number of bytes that an error says something takes.
func needs(t *testing.T, err error) int64 {
	found := regexp.MustCompile(`takes (\d+) bytes: expected at most \d+, the reader's budget, which can be raised`).FindStringSubmatch(fmt.Sprint(err))
	require.NotNil(t, found, "%v", err)
	n, err := strconv.ParseInt(found[1], 10, 64)
	require.NoError(t, err)
	return n
}

// imports reads the tensor w, of six values, within a budget.
func imports(b []byte, budget int64) error {
	f, err := paramfile.Parse(b, paramfile.Options{Budget: budget})
	if err != nil {
		return err
	}
	return f.Import(map[string]*autograd.Param{"w": autograd.NewParam(2, 3)})
}

// A record that is a thousand times as long as its compressed bytes is refused before it
// is unpacked, and read if the caller allows as much.
func TestBudgetOfCompressedRecords(t *testing.T) {
	const values = 4 << 20
	b := archived(t, zip.Deflate, "data.pkl", program(dict("w", view("0", values, 0, numbers(2, 3), numbers(3, 1)))), "data/0", strings.Repeat("\x00", 4*values))
	require.Less(t, len(b), 50_000)
	var err error
	assert.Less(t, allocated(func() { err = imports(b, 1<<20) }), uint64(1<<20))
	assert.ErrorContains(t, err, "tensor w: record data/0 with the compressed ones before it takes 16777")
	require.NoError(t, imports(b, needs(t, err)))
	assert.Error(t, imports(b, needs(t, err)-1))
	require.NoError(t, imports(b, 0))
}

// A stored record is refused before it is read.
func TestBudgetOfStoredRecords(t *testing.T) {
	const values = 1 << 20
	b := archived(t, zip.Store, "data.pkl", program(dict("w", view("0", values, 0, numbers(2, 3), numbers(3, 1)))), "data/0", strings.Repeat("\x00", 4*values))
	var err error
	assert.Less(t, allocated(func() { err = imports(b, 1<<20) }), uint64(1<<20))
	assert.EqualValues(t, 4*values, needs(t, err))
	require.NoError(t, imports(b, 4*values))
}

// Compressed records count together.
func TestBudgetOfAllCompressedRecords(t *testing.T) {
	const values = 1 << 18
	records := []string{"x/data.pkl", ""}
	var entries []string
	params := map[string]*autograd.Param{}
	for i := range 8 {
		key := strconv.Itoa(i)
		entries = append(entries, key, view(key, values, 0, numbers(6), numbers(1)))
		records = append(records, "x/data/"+key, strings.Repeat("\x00", 4*values))
		params[key] = autograd.NewParam(6)
	}
	records[1] = program(dict(entries...))
	b := archived(t, zip.Deflate, records...)
	f, err := paramfile.Parse(b, paramfile.Options{Budget: 7 << 20})
	require.NoError(t, err)
	assert.ErrorContains(t, f.Import(params), "record data/6 with the compressed ones before it")
	f, err = paramfile.Parse(b, paramfile.Options{Budget: 9 << 20})
	require.NoError(t, err)
	require.NoError(t, f.Import(params))
}

// A header's and a pickle's memory is bounded by what the budget says it takes, whatever
// it holds.
func TestBudgetOfDescriptions(t *testing.T) {
	const n = 20_000
	good := view("0", 6, 0, numbers(2, 3), numbers(3, 1))
	header := func(entries string) []byte {
		text := "{" + entries + "}"
		return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	}
	var tensors, names, puts strings.Builder
	for i := range n {
		fmt.Fprintf(&tensors, `"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},`, i)
		fmt.Fprintf(&names, "c%d\n\nq\x00", i)
		fmt.Fprintf(&puts, "Nr%s", binary.LittleEndian.AppendUint32(nil, uint32(i)))
	}
	for name, b := range map[string][]byte{
		"tensors":     header(tensors.String() + `"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`),
		"extents":     header(`"w":{"dtype":"F32","shape":[0` + strings.Repeat(",1", n) + `],"data_offsets":[0,0]}`),
		"nested":      header(`"w":{"dtype":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`),
		"lists":       header(`"w":{"dtype":[[]` + strings.Repeat(",[]", n) + `]}`),
		"objects":     header(`"w":{"dtype":[{}` + strings.Repeat(",{}", n) + `]}`),
		"numbers":     header(`"w":{"dtype":[0` + strings.Repeat(",0", n) + `]}`),
		"empty":       header(`"v":{}` + strings.Repeat(`,"v":{}`, n)),
		"marks":       torch(t, strings.Repeat("(", n)),
		"dicts":       torch(t, strings.Repeat("}", n)),
		"filled":      torch(t, strings.Repeat("}NNs", n)),
		"sets":        torch(t, strings.Repeat("\x8f", n)),
		"frozensets":  torch(t, strings.Repeat("(\x91", n)),
		"pickled":     torch(t, strings.Repeat("]", n)),
		"tuples":      torch(t, strings.Repeat(")", n)),
		"pairs":       torch(t, strings.Repeat("NN\x86", n)),
		"none":        torch(t, strings.Repeat("N", n)),
		"floats":      torch(t, strings.Repeat("G12345678", n)),
		"strings":     torch(t, strings.Repeat("\x8c\x01a", n)),
		"bytes":       torch(t, strings.Repeat("C\x01a", n)),
		"mutable":     torch(t, strings.Repeat("\x96\x01\x00\x00\x00\x00\x00\x00\x00a", n)),
		"long":        torch(t, strings.Repeat("\x8a\x09123456789", n)),
		"memo":        torch(t, strings.Repeat("N\x94", n)),
		"puts":        torch(t, puts.String()),
		"globals":     torch(t, names.String()),
		"calls":       torch(t, "cx\ny\nq\x00"+strings.Repeat("h\x00)R", n)),
		"objects.pkl": torch(t, "cx\ny\nq\x00"+strings.Repeat("h\x00)\x81", n)),
		"ordered":     torch(t, "ccollections\nOrderedDict\nq\x00"+strings.Repeat("h\x00)R", n)),
		"views":       torch(t, "]"+strings.Repeat(good+"a", n/100)),
		"appended":    torch(t, "]"+strings.Repeat("Na", n)),
		"items":       torch(t, "}("+strings.Repeat("NN", n)+"u"),
		"frames":      torch(t, strings.Repeat("\x95\x01\x00\x00\x00\x00\x00\x00\x00N", n)),
	} {
		_, err := paramfile.Parse(b, paramfile.Options{Budget: int64(len(b)) + 1024})
		budget := needs(t, err)
		taken := allocated(func() { _, err = paramfile.Parse(b, paramfile.Options{Budget: budget}) })
		assert.NotContains(t, fmt.Sprint(err), "budget", name)
		t.Logf("%s: %d bytes, %d allocated of %d", name, len(b), taken, budget)
		assert.Less(t, taken, uint64(budget), name)
	}
}

// What a header says of its length is held against the budget and the file.
func TestBudgetOfHeaders(t *testing.T) {
	for _, n := range []uint64{1 << 20, 1 << 31, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		b := append(binary.LittleEndian.AppendUint64(nil, n), make([]byte, 292)...)
		var err error
		assert.Less(t, allocated(func() { _, err = parse(b) }), uint64(1<<16))
		assert.ErrorContains(t, err, fmt.Sprintf("a header of %d bytes in a file of 300", n))
	}
}

// A view of few values that claims many is refused before they are made.
func TestBudgetOfViews(t *testing.T) {
	for _, shape := range [][]int{{1 << 30, 1 << 30}, {1 << 20, 1 << 20, 1 << 20, 1 << 20}, {1 << 28, 2}} {
		b := torch(t, dict("w", view("0", 6, 0, numbers(shape...), numbers(make([]int, len(shape))...))))
		f, err := parse(b)
		require.NoError(t, err)
		assert.Less(t, allocated(func() { _, err = f.Floats("w") }), uint64(1<<16))
		assert.ErrorContains(t, err, "the reader's budget")
	}
}

// A place in a storage that is beyond what an integer holds is not inside it.
func TestViewsBeyondIntegers(t *testing.T) {
	if bits.UintSize < 64 {
		t.Skip("a pickle's number of 63 bits is not an int")
	}
	huge := "\x8a\x08" + string(binary.LittleEndian.AppendUint64(nil, 1<<61))
	w := strings.NewReplacer(number(6)+"tQ", huge+"tQ", numbers(7, 1), "("+huge+number(1)+"t").Replace(view("0", 6, 0, numbers(9, 1), numbers(7, 1)))
	f, err := parse(torch(t, dict("w", w)))
	require.NoError(t, err)
	_, err = f.Floats("w")
	assert.ErrorContains(t, err, "shape [9 1] with strides [2305843009213693952 1] from 0 on exceeds a storage of 2305843009213693952 values")
}

// A storage that many tensors view is read once.
func TestSharedStorageIsReadOnce(t *testing.T) {
	const tensors, values = 200, 1 << 16
	var entries []string
	params := map[string]*autograd.Param{}
	for i := range tensors {
		name := fmt.Sprintf("w%d", i)
		entries = append(entries, name, view(strconv.Itoa(i%2), values, i, numbers(3), numbers(2)))
		params[name] = autograd.NewParam(3)
	}
	raw := make([]byte, 4*values)
	for i := range raw {
		raw[i] = byte(i % 64)
	}
	b := archived(t, zip.Store, "x/data.pkl", program(dict(entries...)), "x/data/0", string(raw), "x/data/1", string(raw))
	f, err := parse(b)
	require.NoError(t, err)
	taken := allocated(func() { require.NoError(t, f.Import(params)) })
	assert.Less(t, taken, uint64(tensors/4*len(raw)), "of %d bytes of the storages", 2*len(raw))
	assert.NotEqual(t, params["w1"].Data(), params["w2"].Data())
	want, err := f.Floats("w199")
	require.NoError(t, err)
	assert.Equal(t, want, params["w199"].Export())
}

func TestOpenRefusesFolders(t *testing.T) {
	dir := t.TempDir()
	_, err := paramfile.Open(dir, paramfile.Options{})
	assert.ErrorIs(t, err, regular.ErrNotRegular)
	_, err = paramfile.Open(filepath.Join(dir, "missing"), paramfile.Options{})
	assert.ErrorContains(t, err, "missing")
}
