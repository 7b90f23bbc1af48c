// Package atomicfile writes files that are either complete or absent.
package atomicfile

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/org/snnrat/internal/regular"
)

// temporary matches the names of temporary files: .BASE.NUMBER.tmp for a file BASE.
var temporary = regexp.MustCompile(`^\..+\.[0-9]+\.tmp$`)

// Write calls write with a buffered temporary file in the folder of path, and renames
// the file to path when all of it is on disk. A symbolic link stands for the file that it
// points to. After an error or a panic of write, path is as before and the temporary file is
// removed. A killed process can leave a temporary file, which [Clean] removes.
//
// Write returns an error that wraps [regular.ErrNotRegular], and does not call write, if path
// is something else than a regular file, such as a folder or a device.
func Write(path string, write func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil {
		if err := regular.Check(path, info); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	complete := false
	defer func() {
		if !complete {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	complete = true
	return nil
}

// errTried ends a Write that is not to be completed.
var errTried = errors.New("tried")

// Try returns the error of a [Write] to path that could not begin. It leaves path as it is.
func Try(path string) error {
	if err := Write(path, func(io.Writer) error { return errTried }); err != errTried {
		return err
	}
	return nil
}

// Clean removes the temporary files that killed processes left in a folder. No process
// may be writing to the folder. A folder that does not exist is clean.
func Clean(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !temporary.MatchString(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(folder, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
