//go:build linux || darwin

package regular_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/regular"
)

// A named pipe that nobody writes to, a link to one and a device are refused at once.
func TestOpenRefusesPipesAndDevices(t *testing.T) {
	dir := t.TempDir()
	pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	require.NoError(t, os.Symlink(pipe, link))
	for path, kind := range map[string]string{pipe: "a named pipe", link: "a named pipe", os.DevNull: "a device"} {
		_, _, err := regular.Open(path)
		require.ErrorIs(t, err, regular.ErrNotRegular)
		assert.EqualError(t, err, path+" is "+kind+": expected a regular file")
	}
}
