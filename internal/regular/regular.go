// Package regular opens regular files and refuses others, which may block or have no end.
package regular

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrNotRegular is the error of Open for a folder, a named pipe, a device or a socket.
var ErrNotRegular = errors.New("expected a regular file")

// Open opens a regular file for reading and returns its size in bytes. A symbolic link
// stands for what it points to. The error names the file and, if it wraps ErrNotRegular,
// what the file is. Opening a named pipe does not block.
func Open(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if err := Check(path, info); err != nil { // os.Open of a named pipe waits for a writer
		return nil, 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err = f.Stat()
	if err == nil {
		err = Check(path, info)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// Check returns an error that wraps ErrNotRegular, names the file and says what it is, if
// info is not that of a regular file. An info of [os.Lstat] tells a symbolic link from a file.
func Check(path string, info fs.FileInfo) error {
	kind := ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "a folder"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	default:
		kind = "a special file"
	}
	return fmt.Errorf("%s is %s: %w", path, kind, ErrNotRegular)
}
