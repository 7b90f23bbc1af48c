package runs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/org/snnrat/internal/atomicfile"
	"github.com/org/snnrat/internal/regular"
)

// Budget returns the size in bytes up to which a program reads a record about so many
// images: 1 MiB, and 16 KiB an image. A record takes about 3 bytes for an image and
// attack, and up to 1 KiB for an image and battery.
func Budget(images int) int64 { return 1<<20 + int64(images)<<14 }

// A record is a JSON object whose first key is sha256. Its value is the SHA-256 of the
// object without that key, byte by byte.
const (
	head     = `{"sha256":"`
	afterSum = `",`
	sumEnd   = len(head) + 2*sha256.Size
)

// WriteRecord writes v, which JSON encodes as an object with at least one key, to a
// record.
func WriteRecord(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	sum := sha256.Sum256(b)
	return atomicfile.Write(path, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s%x%s%s\n", head, sum, afterSum, b[1:])
		return err
	})
}

// ReadRecord reads a file of [WriteRecord] to v. It opens neither a named pipe nor a device.
//
// A file that is not regular, has more than budget bytes or a wrong checksum is an error that
// names it. So is a file with a key that v has not. The content of v is then unspecified. The error of a file that does not exist is [fs.ErrNotExist].
func ReadRecord(path string, v any, budget int64) error {
	b, err := readRegular(path, budget)
	if err == nil {
		err = decodeRecord(b, v)
	}
	var named *os.PathError
	if err != nil && !errors.As(err, &named) && !errors.Is(err, regular.ErrNotRegular) {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// readRegular returns the content of a regular file of at most budget bytes.
func readRegular(path string, budget int64) ([]byte, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tooLarge := fmt.Errorf("expected at most %d bytes", budget)
	if size > budget {
		return nil, fmt.Errorf("%d bytes: %w", size, tooLarge)
	}
	b, err := io.ReadAll(io.LimitReader(f, budget+1))
	if err == nil && int64(len(b)) > budget {
		err = tooLarge
	}
	return b, err
}

// decodeRecord reads the content of a record to v.
func decodeRecord(b []byte, v any) error {
	if len(b) < sumEnd+len(afterSum) || string(b[:len(head)]) != head || string(b[sumEnd:sumEnd+len(afterSum)]) != afterSum {
		return errors.New("expected a JSON object that begins with its SHA-256")
	}
	said := string(b[len(head):sumEnd])
	body := bytes.TrimSuffix(b[sumEnd+len(afterSum)-1:], []byte("\n"))
	body[0] = '{'
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != said {
		return fmt.Errorf("the content does not have the SHA-256 %q that the file says: it is corrupt", said)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("expected one JSON object")
	}
	return nil
}
