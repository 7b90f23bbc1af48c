// Package npyheader reads the headers of NumPy files.
package npyheader

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sbinet/npyio/npy"
)

// Read consumes the header of a NumPy file. It returns an error if there is none or it is
// malformed.
func Read(r *bufio.Reader) (h npy.Header, err error) {
	// The package npy believes the length that version 2 has as 4 bytes, and panics on some
	// malformed headers.
	start, err := r.Peek(12)
	if err != nil {
		return h, fmt.Errorf("want the header of a NumPy file: %w", err)
	}
	if start[6] == 2 && binary.LittleEndian.Uint32(start[8:]) > 1<<16 {
		return h, errors.New("a header of more than 64 KiB")
	}
	defer func() {
		if recover() != nil {
			err = errors.New("malformed header of a NumPy file")
		}
	}()
	reader, err := npy.NewReader(r)
	if err != nil {
		return h, fmt.Errorf("want a NumPy file: %w", err)
	}
	return reader.Header, nil
}
