package main

import (
	"bytes"
	"io"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// One process without MPI gives the same bits at any number of threads, and goes on from a
// checkpoint.
func TestAlone(t *testing.T) {
	digests := regexp.MustCompile(`(weights|metrics|checkpoint) +[0-9a-f]{32}`)
	runs := func(args ...string) []string {
		o, err := parse(append([]string{"-alone", "-images", "64", "-batch", "32", "-shards", "4"}, args...), io.Discard)
		require.NoError(t, err)
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), o, &out, io.Discard))
		return digests.FindAllString(out.String(), -1)
	}
	path := filepath.Join(t.TempDir(), "c")
	first := runs("-threads", "1", "-save", path)
	require.Len(t, first, 3)
	assert.Equal(t, first, runs("-threads", "2", "-save", path), "of a training that is done")
	assert.Equal(t, first, runs("-save", filepath.Join(t.TempDir(), "c")))
}
