//go:build unix

package dataset_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/train/dataset"
)

// TestSpecialFiles reads a named pipe, which nobody writes to, a device and a folder in the
// place of each file. The reader must refuse them by name and must not wait.
func TestSpecialFiles(t *testing.T) {
	good := asPNG(rgb(1))
	dir := t.TempDir()
	images, labels := write(t, filepath.Join(dir, "images"), goodImages), write(t, filepath.Join(dir, "labels"), goodLabels)
	special := filepath.Join(dir, "special.png")
	for kind, create := range map[string]func() error{
		"a named pipe": func() error { return syscall.Mkfifo(special, 0o644) },
		"a device":     func() error { return os.Symlink("/dev/zero", special) },
		"a folder":     func() error { return os.Mkdir(special, 0o755) },
	} {
		require.NoError(t, create())
		l := layouts["CIFAR-10"]
		cifar := folder(t, l.files())
		require.NoError(t, os.Remove(filepath.Join(cifar, l.test)))
		require.NoError(t, os.Symlink(special, filepath.Join(cifar, l.test)))
		pictures := tree(t, map[string][]byte{"cat/a.png": good})
		late, err := dataset.ReadFolder(pictures)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(special, filepath.Join(pictures, "cat", "b.png")))
		require.NoError(t, os.Remove(filepath.Join(pictures, "cat", "a.png")))
		require.NoError(t, os.Symlink(special, filepath.Join(pictures, "cat", "a.png")))
		for name, read := range map[string]func() error{
			"IDX images":    func() error { _, err := dataset.ReadIDX(special, labels, 10); return err },
			"IDX labels":    func() error { _, err := dataset.ReadIDX(images, special, 10); return err },
			"npy images":    func() error { _, err := dataset.ReadNPY(special, npyFile("labels_u1"), 10); return err },
			"npy labels":    func() error { _, err := dataset.ReadNPY(npyFile("images"), special, 10); return err },
			"CIFAR file":    func() error { _, _, err := l.read(cifar); return err },
			"CIFAR archive": func() error { _, _, err := l.read(special); return err },
			"image":         func() error { _, err := dataset.ReadFolder(pictures); return err },
			"image, later":  func() error { _, err := late.Fingerprint(); return err },
			"image folder":  func() error { _, err := dataset.ReadFolder(special); return err },
		} {
			done := make(chan error, 1)
			go func() { done <- read() }()
			select {
			case err := <-done:
				require.Error(t, err, "%s: %s", name, kind)
				if kind == "a folder" && (name == "CIFAR archive" || name == "image folder" || name == "image") {
					continue // a folder has another meaning there
				}
				if name == "image folder" {
					assert.EqualError(t, err, "dataset: "+special+": want a folder")
					continue
				}
				assert.ErrorContains(t, err, " is "+kind+": expected a regular file", name)
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: %s: it waits", name, kind)
			}
		}
		require.NoError(t, os.Remove(special))
	}
}
