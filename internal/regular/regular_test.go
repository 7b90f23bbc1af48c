package regular_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/regular"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("12345"), 0o644))
	f, size, err := regular.Open(path)
	require.NoError(t, err)
	defer f.Close()
	assert.EqualValues(t, 5, size)
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	assert.Equal(t, "12345", string(b))

	_, _, err = regular.Open(dir)
	require.ErrorIs(t, err, regular.ErrNotRegular)
	assert.EqualError(t, err, dir+" is a folder: expected a regular file")
	_, _, err = regular.Open(filepath.Join(dir, "missing"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
