package main

import (
	"bytes"
	"io"
	"path/filepath"
	"regexp"
	"strings"
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

// Flags that others make useless are refused.
func TestUselessFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-project 2":           "-project 2: expected -predict beside it",
		"-measure -alone":      "-measure: expected no -alone beside it, since one process sends no messages",
		"-measure -predict 10": "-predict: expected no -measure beside it, since nothing is trained",
		"-predict 1 -alone":    "-predict: expected no -alone beside it, since nothing is trained",
		"-measure -save x":     "-measure: expected no -save beside it, since nothing is trained",
	} {
		_, err := parse(strings.Fields(args), io.Discard)
		assert.EqualError(t, err, want)
	}
}
