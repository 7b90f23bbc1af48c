package main

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// -integers measures both forward passes of this program, and that of another build.
func TestIntegers(t *testing.T) {
	temporary(t)
	old := turnTime
	turnTime = 0
	defer func() { turnTime = old }()
	for _, flags := range [][]string{nil, other("")} {
		stdout, stderr, code := start(t, append([]string{"-integers"}, flags...)...)
		require.Zero(t, code, stderr)
		for _, part := range []string{"integers ", "float32 ", "weights take 0.", "of 2 images have the same class"} {
			require.Contains(t, stdout, part)
		}
		require.Equal(t, len(flags)/2+1, strings.Count(stdout, "×"), stdout)
	}
	_, stderr, code := start(t, "-integers", "-serve")
	require.NotZero(t, code)
	require.Contains(t, stderr, "-integers: expected no -serve with it")
}

// A comparison that is stopped before its first round has no table.
func TestIntegersStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o, err := parse(small("-integers"), io.Discard)
	require.NoError(t, err)
	var out strings.Builder
	require.ErrorIs(t, integers(ctx, o, &out, io.Discard), context.Canceled)
	require.Empty(t, out.String())
	require.Equal(t, "the table has the completed rounds, if any", o.Stopped())
}
