package snnrat_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// README's quick start is the program of examples/quickstart, which the build
// compiles.
func TestReadmeQuickStart(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	program, err := os.ReadFile("examples/quickstart/main.go")
	require.NoError(t, err)
	require.Contains(t, strings.ReplaceAll(string(readme), "\r\n", "\n"), "```go\n"+string(program)+"```\n")
}
