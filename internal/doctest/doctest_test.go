package doctest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/doctest"
)

// recorder keeps the errors of a check.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// Code that is in a source file passes, whatever its indentation and line ends. Other code, and
// another number of blocks, fail.
func TestPage(t *testing.T) {
	page, source := filepath.Join(t.TempDir(), "page.md"), filepath.Join(t.TempDir(), "x_test.go")
	require.NoError(t, os.WriteFile(source, []byte("func f() {\r\n\tif a {\r\n\t\tb()\r\n\t}\r\n}\r\n"), 0o644))
	check := func(text string, blocks int) []string {
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
		r := &recorder{TB: t}
		doctest.Page(r, page, blocks, source)
		return r.errors
	}
	const good, bad = "```go\nif a {\n\tb()\n}\n```\n", "```go\nif a {\n\tc()\n}\n```\n"
	assert.Empty(t, check(good+"and\n"+good, 2))
	assert.Empty(t, check("```sh\nc()\n```\n", 0))
	assert.Len(t, check(good, 2), 1)
	assert.Len(t, check(good+bad, 2), 1)
}

// The first block of a comment is checked, blank lines included.
func TestComment(t *testing.T) {
	file, source := filepath.Join(t.TempDir(), "doc.go"), filepath.Join(t.TempDir(), "x_test.go")
	require.NoError(t, os.WriteFile(source, []byte("func f() {\n\ta()\n\n\tb()\n}\n"), 0o644))
	check := func(text string) []string {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		r := &recorder{TB: t}
		doctest.Comment(r, file, source)
		return r.errors
	}
	assert.Empty(t, check("// Package x:\n//\n//\ta()\n//\n//\tb()\n//\n// A table:\n//\n//\tc()\npackage x\n"))
	assert.Len(t, check("// Package x:\n//\n//\ta()\n//\n//\tc()\npackage x\n"), 1)
	assert.Len(t, check("// Package x.\npackage x\n"), 1)
}
