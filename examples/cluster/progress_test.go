package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A training shows its progress with an estimate.
func TestProgress(t *testing.T) {
	o, err := parse(strings.Fields("-alone -epochs 2 -images 64 -T 1 -width 0.25"), io.Discard)
	require.NoError(t, err)
	var stdout, stderr strings.Builder
	require.NoError(t, run(t.Context(), o, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "epoch 1 of 2 (50 % of all; ")
	assert.Contains(t, stdout.String(), "weights ")
}
