//go:build hdf5 && (linux || darwin)

package nir_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn/nir"
)

// A named pipe that nobody writes to is refused at once and stays, and a link to a file stays a link.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	pipe, link, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	require.NoError(t, os.Symlink(file, link))
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	g := graph([]int{1}, []int{1}, &nir.Node{Type: "Scale", Fields: fields{"scale": nir.Floats(nil, 1)}})

	assert.ErrorContains(t, g.Write(pipe), pipe+" is a named pipe: expected a regular file")
	info, err := os.Lstat(pipe)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeNamedPipe)
	_, err = nir.Read(pipe)
	assert.ErrorContains(t, err, pipe+" is a named pipe: expected a regular file")

	require.NoError(t, g.Write(link))
	to, err := os.Readlink(link)
	require.NoError(t, err)
	assert.Equal(t, file, to)
	again, err := nir.Read(file)
	require.NoError(t, err)
	assert.Equal(t, g.Edges, again.Edges)
}
