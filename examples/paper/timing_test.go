package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/org/snnrat/examples/internal/runs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Times are those of kernels, which the files name. A stopped run says that nothing is kept.
func TestTiming(t *testing.T) {
	out := t.TempDir()
	o, err := parse(small("timing", cifar(t), out), io.Discard)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.ErrorIs(t, run(ctx, o, io.Discard, io.Discard), context.Canceled)
	assert.Empty(t, files(t, out))
	assert.Equal(t, "timing keeps nothing until it is complete: the same command begins anew", o.Stopped())

	require.NoError(t, run(t.Context(), o, io.Discard, io.Discard))
	text, err := os.ReadFile(filepath.Join(out, "timing.txt"))
	require.NoError(t, err)
	assert.Contains(t, string(text), ", kernels "+runs.NewMaker().Kernels+", batches of 16;")
	text, err = os.ReadFile(filepath.Join(out, "timing.json"))
	require.NoError(t, err)
	var made runs.Maker
	require.NoError(t, json.Unmarshal(text, &made))
	assert.Equal(t, runs.NewMaker(), made)
}
