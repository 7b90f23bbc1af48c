package dataset

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pickle that Limits.Bytes allow takes no more memory than that, whatever it is full of.
func TestUnpickleMemory(t *testing.T) {
	const n = 1 << 18
	for _, op := range []string{"]", "}", ")", "N", "(t", "(", "K\x01", "U\x01a", "M\x01\x01", "N\x85", "]q\x01", "]r\x01\x01\x01\x01"} {
		text := append([]byte("\x80\x02"), bytes.Repeat([]byte(op), n)...)
		checkMemory(t, op, append(text, "}."...))
	}
	// The bytes of an array, which many arrays have.
	state := binary.LittleEndian.AppendUint32([]byte("(K\x01K\x01J"), n)
	state = append(state, "\x86cnumpy\ndtype\nU\x02u1\x85R\x89T"...)
	state = append(binary.LittleEndian.AppendUint32(state, n), make([]byte, n)...)
	array := strings.Repeat("h\x00)Rh\x01b", 100)
	checkMemory(t, "arrays", []byte("\x80\x02cnumpy\nndarray\nq\x00"+string(state)+"tq\x01"+array+"}."))
}

// checkMemory compares the memory for a pickle with the limit that it needs.
func checkMemory(t *testing.T, what string, text []byte) {
	least := Limits{Bytes: 1, ImageBytes: 1}
	for vet(text, least) != nil {
		least.Bytes *= 2
	}
	least.Bytes /= 2 // the limit that is needed is above this
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := unpickle(text, Limits{Bytes: 2 * least.Bytes, ImageBytes: 1})
	runtime.ReadMemStats(&after)
	assert.NoError(t, err, "%q", what)
	assert.Less(t, int64(after.TotalAlloc-before.TotalAlloc), 2*least.Bytes, "%q", what)
}

// An error says what is wrong, not the whole file.
func TestUnpickleShortErrors(t *testing.T) {
	// A list of many strings is called as a function.
	text := "\x80\x02](" + strings.Repeat("U\x03abc", 10_000) + "e)R."
	_, err := unpickle([]byte(text), DefaultLimits())
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 300)
}
