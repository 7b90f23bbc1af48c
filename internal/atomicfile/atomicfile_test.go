package atomicfile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/regular"
)

func write(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

// files returns the names in a folder.
func files(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model")
	long := strings.Repeat("0123456789", 300_000) // longer than the buffer
	for _, text := range []string{"first", long, ""} {
		require.NoError(t, atomicfile.Write(path, write(text)))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.True(t, text == string(got))
		assert.Equal(t, []string{"model"}, files(t, dir))
	}
}

// Whatever goes wrong, the old file stays and nothing lies beside it.
func TestFailuresLeaveTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model")
	require.NoError(t, atomicfile.Write(path, write("old")))
	failed := errors.New("failed half-way")
	err := atomicfile.Write(path, func(w io.Writer) error {
		_ = write(strings.Repeat("new", 1_000_000))(w)
		return failed
	})
	assert.ErrorIs(t, err, failed)
	assert.Panics(t, func() {
		_ = atomicfile.Write(path, func(w io.Writer) error { _ = write("new")(w); panic("bug") })
	})
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "old", string(got))
	assert.Equal(t, []string{"model"}, files(t, dir))
}

func TestFoldersThatTakeNoFile(t *testing.T) {
	dir := t.TempDir()
	called := false
	spy := func(io.Writer) error { called = true; return nil }
	missing := filepath.Join(dir, "missing", "model")
	assert.ErrorContains(t, atomicfile.Write(missing, spy), filepath.Join(dir, "missing"))
	assert.False(t, called)

	// A folder stands where the file should go.
	taken := filepath.Join(dir, "taken")
	require.NoError(t, os.MkdirAll(filepath.Join(taken, "inner"), 0o755))
	err := atomicfile.Write(taken, spy)
	assert.ErrorIs(t, err, regular.ErrNotRegular)
	assert.ErrorContains(t, err, taken+" is a folder: expected a regular file")
	assert.False(t, called)
	assert.Equal(t, []string{"taken"}, files(t, dir))
}

// A link to a file stays a link, and one to a device leaves the device alone.
func TestLinks(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	link, file := filepath.Join(dir, "link"), filepath.Join(other, "file")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o644))
	if err := os.Symlink(file, link); err != nil {
		t.Skip(err) // Windows asks for a privilege
	}
	require.NoError(t, atomicfile.Write(link, write("new")))
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "new", string(got))
	to, err := os.Readlink(link)
	require.NoError(t, err)
	assert.Equal(t, file, to)
	assert.Equal(t, []string{"file"}, files(t, other))

	if _, err := os.Stat("/dev/null"); err == nil {
		device := filepath.Join(dir, "device")
		require.NoError(t, os.Symlink("/dev/null", device))
		assert.ErrorIs(t, atomicfile.Write(device, write("new")), regular.ErrNotRegular)
		info, err := os.Stat("/dev/null")
		require.NoError(t, err)
		assert.NotZero(t, info.Mode()&os.ModeDevice)
	}
}

// Clean removes what a killed process left, and nothing else.
func TestClean(t *testing.T) {
	dir := t.TempDir()
	left := ""
	assert.Panics(t, func() {
		_ = atomicfile.Write(filepath.Join(dir, "a.b"), func(io.Writer) error {
			left = files(t, dir)[0]
			panic("killed")
		})
	})
	keep := []string{".a.tmp", ".lock", "a.1.tmp", ".a.b1.tmp"}
	for _, name := range append([]string{left}, keep...) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	folder := ".folder.1.tmp"
	require.NoError(t, os.Mkdir(filepath.Join(dir, folder), 0o755))
	require.NoError(t, atomicfile.Clean(dir))
	assert.ElementsMatch(t, append(keep, folder), files(t, dir))
	assert.NoError(t, atomicfile.Clean(filepath.Join(dir, "missing")))
}

// Try says whether a file can be written, and leaves the folder as it is.
func TestTry(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "file")
	require.NoError(t, atomicfile.Try(path))
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
	require.NoError(t, atomicfile.Try(path))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "old", string(b))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
	assert.Error(t, atomicfile.Try(filepath.Join(folder, "none", "file")))
	assert.Error(t, atomicfile.Try(folder))
}
