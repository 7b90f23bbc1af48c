//go:build linux || darwin

package download_test

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset/download"
)

// limitFiles makes writing to files fail beyond size bytes, as on a full disk, for the
// rest of the process.
func limitFiles(t *testing.T, size int) {
	signal.Ignore(syscall.SIGXFSZ)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(size), Max: uint64(size)}))
}

// TestNoSpace runs out of space in a process of its own, and goes on once there is some.
func TestNoSpace(t *testing.T) {
	s := newServer(t, good)
	cfg := config(t.TempDir())
	for range 2 {
		output, err := child(t, s.url, cfg.Folder, 150_000)
		require.Error(t, err)
		assert.Contains(t, output, "download: "+s.url+": write "+filepath.Join(cfg.Folder, name+".part")+": "+syscall.EFBIG.Error())
		assert.NoFileExists(t, filepath.Join(cfg.Folder, name))
		info, err := os.Stat(filepath.Join(cfg.Folder, name+".part"))
		require.NoError(t, err)
		assert.Equal(t, int64(150_000), info.Size())
	}
	path, err := download.File(t.Context(), download.Source{URL: s.url, MD5: sum(archive)}, cfg)
	checkGot(t, cfg.Folder, path, err)
	assert.Equal(t, []string{"", "bytes=150000-", "bytes=150000-"}, s.requests())
}
