// Package runs keeps the work of a program on disk: a stopped or killed run goes on from
// it, to the same bits.
//
// A [Folder] belongs to one process at a time. A record ([WriteRecord], [ReadRecord]) is
// a JSON file with a checksum. A [Training] saves checkpoints. Every file is written under a
// temporary name and then renamed, so a process can be killed at any moment.
package runs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/regular"
)

// LockName is the name of the lock file in a [Folder]. The file stays after the run.
// The lock ends with the process that holds it, even if that is killed.
const LockName = ".lock"

// Folder is a folder that this process alone writes to.
type Folder struct{ lock *flock.Flock }

// Open creates the folder at path and those below it, locks it, and removes the
// temporary files that a killed run left in it. It returns an error that names path if
// the folder cannot be written to or another process holds the lock.
func Open(path string, below ...string) (*Folder, error) {
	f, err := open(path, below)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func open(path string, below []string) (_ *Folder, err error) {
	const expected = "expected a folder to write to: %w"
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf(expected, err)
	}
	name := filepath.Join(path, LockName)
	// The lock itself would wait for a writer of a named pipe.
	if info, err := os.Lstat(name); err == nil {
		if err := regular.Check(name, info); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(expected, err)
	}
	lock := flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDWR))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf(expected, err)
	}
	if !locked {
		holder, err := os.ReadFile(name)
		if err != nil || len(holder) == 0 || len(holder) > 1000 {
			holder = []byte("another process")
		}
		return nil, fmt.Errorf("in use by %s: wait for its end, or choose another folder", strings.TrimSpace(string(holder)))
	}
	f := &Folder{lock}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	// For the message above alone. Windows refuses to write to a locked file.
	host, _ := os.Hostname()
	_ = os.WriteFile(name, fmt.Appendf(nil, "process %d on %s\n", os.Getpid(), host), 0o644)
	for _, folder := range append([]string{""}, below...) {
		folder = filepath.Join(path, folder)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, fmt.Errorf(expected, err)
		}
		if err := atomicfile.Clean(folder); err != nil {
			return nil, fmt.Errorf("remove the temporary files of a killed run: %w", err)
		}
	}
	return f, nil
}

// Close unlocks the folder.
func (f *Folder) Close() error { return f.lock.Close() }

// Remove removes files. One that does not exist is removed.
func Remove(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// RemoveIn removes files of a folder, as [Remove] does.
func RemoveIn(folder string, names ...string) error {
	for _, name := range names {
		if err := Remove(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}
