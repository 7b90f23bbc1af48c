package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/internal/regular"
)

// Detect returns the format of a file. The first bytes tell it for all formats but [NMNIST] and
// [DAT], which the extensions .bin and .dat tell. Detect returns an error that names the file if
// the format is unknown, or the file cannot be read.
func Detect(path string) (Format, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return "", fmt.Errorf("event: %w", err)
	}
	defer f.Close()
	format, err := detect(path, newInput(f, size))
	if err != nil {
		return "", fmt.Errorf("event: %s: %w", path, err)
	}
	return format, nil
}

// detect finds out the format of a file that begins at the front of the input. It consumes
// nothing.
func detect(name string, in *input) (Format, error) {
	extension := strings.ToLower(filepath.Ext(name))
	b, err := in.more(1)
	if errors.Is(err, io.EOF) {
		if extension == ".bin" {
			return NMNIST, nil // of no events
		}
		return "", fmt.Errorf("an empty file: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return "", err
	}
	defer in.seek(0)
	switch {
	case bytes.HasPrefix(b, []byte("#!AER-DAT2")):
		return AEDAT2, nil
	case bytes.HasPrefix(b, []byte("#!AER-DAT3.1")):
		return AEDAT3, nil
	case bytes.HasPrefix(b, []byte("#!AER-DAT4")):
		return AEDAT4, nil
	case bytes.HasPrefix(b, []byte("#!AER-DAT")):
		return "", fmt.Errorf("%q, want version 2, 3.1 or 4 of AEDAT", b[:min(len(b), 12)])
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return NPZ, nil
	case extension == ".bin":
		return NMNIST, nil
	case extension == ".dat":
		return DAT, nil
	case bytes.HasPrefix(b, []byte("% ")):
		format, err := readEVTHeader(in, &header{})
		if err == nil && format == "" {
			err = fmt.Errorf("a header that names no format of Prophesee's: want a line such as %q", "% evt 3.0")
		}
		return format, err
	}
	return "", fmt.Errorf("no known format of events: want a file of AEDAT 2, 3.1 or 4, Prophesee RAW or DAT, .npz, or N-MNIST's .bin; Config.Format chooses one")
}
