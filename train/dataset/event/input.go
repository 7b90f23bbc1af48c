package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// input is a file that is read from front to back through a buffer of fixed size.
type input struct {
	r    io.ReaderAt
	size int64
	buf  []byte
	lo   int   // of the first byte of buf that is not consumed
	hi   int   // behind the last byte of buf
	next int64 // offset in the file of the byte behind buf[:hi]
}

// inputBytes is the size of the buffer. Records are far smaller.
const inputBytes = 1 << 18

func newInput(r io.ReaderAt, size int64) *input {
	return &input{r: r, size: size, buf: make([]byte, max(64, min(inputBytes, size)))}
}

// offset returns the offset in the file of the first byte that is not consumed.
func (in *input) offset() int64 { return in.next - int64(in.hi-in.lo) }

// left returns the number of bytes of the file that are not consumed.
func (in *input) left() int64 { return in.size - in.offset() }

// seek makes offset the first byte that is not consumed.
func (in *input) seek(offset int64) { in.lo, in.hi, in.next = 0, 0, offset }

// errShort is the error of a file that ends within a record.
var errShort = fmt.Errorf("the file ends here, within a record: %w", io.ErrUnexpectedEOF)

// more returns bytes that are not consumed, at least n, which must be below inputBytes. At the
// end of the file it returns io.EOF, and errShort if fewer than n bytes are left.
func (in *input) more(n int) ([]byte, error) {
	if in.hi-in.lo < n && in.next < in.size {
		in.hi = copy(in.buf, in.buf[in.lo:in.hi])
		in.lo = 0
		want := int(min(int64(len(in.buf)-in.hi), in.size-in.next))
		got, err := in.r.ReadAt(in.buf[in.hi:in.hi+want], in.next)
		in.hi += got
		in.next += int64(got)
		if got < want {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("reading failed: %w", err)
		}
	}
	switch b := in.buf[in.lo:in.hi]; {
	case len(b) >= n:
		return b, nil
	case len(b) == 0:
		return nil, io.EOF
	default:
		return nil, errShort
	}
}

// advance consumes n bytes of what more returned.
func (in *input) advance(n int) { in.lo += n }

// read consumes len(dst) bytes.
func (in *input) read(dst []byte) error {
	if int64(len(dst)) > in.left() {
		return errShort
	}
	n := copy(dst, in.buf[in.lo:in.hi])
	in.lo += n
	if n == len(dst) {
		return nil
	}
	got, err := in.r.ReadAt(dst[n:], in.next)
	in.next += int64(got)
	if got < len(dst)-n {
		return fmt.Errorf("reading failed: %w", err)
	}
	return nil
}

// skip consumes n bytes, at most those that are left.
func (in *input) skip(n int64) {
	if n <= int64(in.hi-in.lo) {
		in.lo += int(n)
		return
	}
	in.seek(in.offset() + n)
}

// mostHeader bounds the size of a header of text lines.
const mostHeader = 1 << 20

// line consumes a line that begins with prefix and returns it without its end. It returns false
// if the rest of the file does not begin so.
func (in *input) line(prefix string) (string, bool, error) {
	b, err := in.more(len(prefix))
	if err != nil || !bytes.HasPrefix(b, []byte(prefix)) {
		if errors.Is(err, io.EOF) || errors.Is(err, errShort) {
			err = nil
		}
		return "", false, err
	}
	var line []byte
	for {
		b, err := in.more(1)
		if errors.Is(err, io.EOF) {
			return "", false, fmt.Errorf("the file ends within its header: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return "", false, err
		}
		end := bytes.IndexByte(b, '\n')
		if end >= 0 {
			b = b[:end+1]
		}
		line = append(line, b...)
		in.advance(len(b))
		if end >= 0 {
			return string(bytes.TrimRight(line, "\r\n")), true, nil
		}
		if in.offset() > mostHeader {
			return "", false, fmt.Errorf("a header of more than %d bytes", mostHeader)
		}
	}
}

// lines consumes the lines at the front that begin with prefix, up to one that last accepts.
func (in *input) lines(prefix string, last func(line string) bool) (lines []string, err error) {
	for {
		line, ok, err := in.line(prefix)
		if err != nil || !ok {
			return lines, err
		}
		lines = append(lines, line)
		if last(line) {
			return lines, nil
		}
		if in.offset() > mostHeader {
			return nil, fmt.Errorf("a header of more than %d bytes", mostHeader)
		}
	}
}
