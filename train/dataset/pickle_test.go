package dataset

import (
	"bytes"
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
		text = append(text, "}."...)
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
		assert.NoError(t, err, "%q", op)
		assert.Less(t, int64(after.TotalAlloc-before.TotalAlloc), 2*least.Bytes, "%q", op)
	}
}

// An error says what is wrong, not the whole file.
func TestUnpickleShortErrors(t *testing.T) {
	// A list of many strings is called as a function.
	text := "\x80\x02](" + strings.Repeat("U\x03abc", 10_000) + "e)R."
	_, err := unpickle([]byte(text), DefaultLimits())
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 300)
}
