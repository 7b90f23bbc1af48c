//go:build unix

package download_test

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset/download"
)

// TestFileRefusesPipes has a named pipe, which nobody writes to, in the place of the file and
// of its part. File must name it and must not wait.
func TestFileRefusesPipes(t *testing.T) {
	for _, name := range []string{"a.tar.gz", "a.tar.gz.part"} {
		cfg, err := download.Default()
		require.NoError(t, err)
		cfg.Folder = t.TempDir()
		pipe := filepath.Join(cfg.Folder, name)
		require.NoError(t, syscall.Mkfifo(pipe, 0o644))
		done := make(chan error, 1)
		go func() {
			_, err := download.File(context.Background(), download.Source{URL: "http://127.0.0.1:1/a.tar.gz", MD5: download.CIFAR10.MD5}, cfg)
			done <- err
		}()
		select {
		case err := <-done:
			assert.ErrorContains(t, err, pipe+" is a named pipe: expected a regular file")
		case <-time.After(10 * time.Second):
			t.Fatal("it waits")
		}
	}
}
