package snnrat_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The Go code of docs/pytorch.md is part of examples, which the tests run.
func TestDocsPyTorch(t *testing.T) {
	read := func(file string) string {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(strings.ReplaceAll(string(b), "\r\n", "\n"), "")
	}
	examples := read("snn/peers_example_test.go") + read("snn/zoo/example_test.go")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read("docs/pytorch.md"), -1)
	require.Len(t, blocks, 3)
	for _, b := range blocks {
		assert.Contains(t, examples, b[1])
	}
}
