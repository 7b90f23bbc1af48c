package event

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/org/snnrat/internal/npyheader"
)

// npzArrays decodes a NumPy archive with the arrays t (in µs), x, y and p of one length, as
// SpikingJelly writes it. Their values are integers, and p may be bool. A polarity above 0 is ON.
// Each array is unpacked on its own, a part at a time.
type npzArrays struct {
	stream
	length, begun int64 // events, and those that decode has returned before its last call
	last          int   // events that decode returned last
	arrays        [4]npzArray
	values        []int64 // buffer
	wrong         error   // what ends the events, of the next call
}

// npzArray is an array of an archive.
type npzArray struct {
	name string
	r    io.Reader // behind its header
	size int       // bytes of a value
	kind byte      // 'i', 'u' or 'b'
	big  bool      // big-endian
	head int64     // bytes of the header
	buf  []byte
}

// npzNames are the arrays in the order of npzArrays.arrays.
var npzNames = [4]string{"t", "x", "y", "p"}

const npzPart = 1 << 12 // values that are unpacked at a time

func newNPZ(in *input, h *header) (decoder, error) {
	archive, err := zip.NewReader(io.NewSectionReader(in.r, 0, in.size), in.size)
	if err != nil {
		return nil, fmt.Errorf("want a NumPy archive: %w", err)
	}
	d := &npzArrays{stream: stream{events: 1, report: h.report}, values: make([]int64, 4*npzPart)}
	for i, name := range npzNames {
		f, err := archive.Open(name + ".npy")
		if err != nil {
			var names []string
			for _, f := range archive.File[:min(len(archive.File), 20)] {
				names = append(names, strings.TrimSuffix(f.Name, ".npy"))
			}
			return nil, fmt.Errorf("array %q: %w; the archive has %q, want arrays t, x, y and p", name, err, names)
		}
		a := &d.arrays[i]
		a.name = name
		n, err := a.open(f)
		if err != nil {
			return nil, fmt.Errorf("array %q: %w", name, err)
		}
		if i > 0 && n != d.length {
			return nil, fmt.Errorf("array %q of %d values, but array \"t\" of %d, want the same number", name, n, d.length)
		}
		d.length = n
	}
	return d, nil
}

// open reads the header of an array and returns its length.
func (a *npzArray) open(f io.Reader) (int64, error) {
	counted := &counter{r: f}
	r := bufio.NewReader(counted)
	header, err := npyheader.Read(r)
	if err != nil {
		return 0, err
	}
	a.head = counted.n - int64(r.Buffered())
	a.r = r
	dtype, shape := header.Descr.Type, header.Descr.Shape
	fits := len(dtype) >= 2 && len(shape) == 1 && shape[0] >= 0
	if fits {
		a.big = dtype[0] == '>'
		switch strings.TrimLeft(dtype, "<>|=") {
		case "b1":
			a.kind, a.size = 'b', 1
		case "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8":
			a.kind, a.size = dtype[len(dtype)-2], int(dtype[len(dtype)-1]-'0')
		default:
			fits = false
		}
	}
	if !fits {
		return 0, fmt.Errorf("values of type %q and shape %v, want integers or bool of one axis", dtype, shape)
	}
	a.buf = make([]byte, npzPart*a.size)
	return int64(shape[0]), nil
}

// counter counts the bytes that are read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// read reads the next len(dst) values.
func (a *npzArray) read(dst []int64) error {
	b := a.buf[:len(dst)*a.size]
	if _, err := io.ReadFull(a.r, b); err != nil {
		return noEnd(err)
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if a.big {
		order = binary.BigEndian
	}
	switch a.size {
	case 1:
		for i := range dst {
			dst[i] = int64(b[i])
		}
	case 2:
		for i := range dst {
			dst[i] = int64(order.Uint16(b[2*i:]))
		}
	case 4:
		for i := range dst {
			dst[i] = int64(order.Uint32(b[4*i:]))
		}
	case 8:
		for i := range dst {
			dst[i] = int64(order.Uint64(b[8*i:]))
		}
	}
	if a.kind == 'i' {
		shift := 64 - 8*a.size
		for i, v := range dst {
			dst[i] = v << shift >> shift
		}
	}
	return nil
}

// place says where the value of event i is in the array of times.
func (d *npzArrays) place(e *Error, i int) { d.at(e, 0, d.begun+int64(i)) }

// at says where value i of an array is, once unpacked.
func (d *npzArrays) at(e *Error, array int, i int64) {
	a := &d.arrays[array]
	e.Offset, e.Part = a.head+i*int64(a.size), "array "+a.name
}

func (d *npzArrays) decode(in *input, dst []Event) (int, error) {
	if d.wrong != nil {
		return 0, d.wrong
	}
	d.begun += int64(d.last)
	d.last = 0
	n := int(min(int64(len(dst)), npzPart, d.length-d.begun))
	if n == 0 {
		in.skip(in.left())
		for i := range d.arrays { // the end of an array is where its checksum is verified
			rest, err := io.Copy(io.Discard, io.LimitReader(d.arrays[i].r, 1))
			if err == nil && rest > 0 {
				err = errors.New("more values than its header says")
			}
			if err != nil {
				e := &Error{Err: fmt.Errorf("array %q: %w", npzNames[i], err)}
				d.at(e, i, d.length)
				return 0, e
			}
		}
		return 0, io.EOF
	}
	var values [4][]int64
	for i := range values {
		values[i] = d.values[i*npzPart:][:n]
		if err := d.arrays[i].read(values[i]); err != nil {
			e := &Error{Err: fmt.Errorf("array %q: %w", npzNames[i], err)}
			d.at(e, i, d.begun)
			return 0, e
		}
	}
	t, x, y, p := values[0], values[1], values[2], values[3]
	for i := range n {
		if d.arrays[0].kind == 'u' && t[i] < 0 || uint64(x[i]) >= 1<<16 || uint64(y[i]) >= 1<<16 {
			at := d.begun + int64(i)
			e := &Error{Err: fmt.Errorf("event %d at t = %d, x = %d, y = %d, want x and y in [0, 65535], and t below 2⁶³", at, t[i], x[i], y[i])}
			d.at(e, 0, at)
			d.wrong = e
			d.last = i
			return i, nil // the events before it
		}
		dst[i] = Event{T: t[i], X: uint16(x[i]), Y: uint16(y[i])}
		if p[i] > 0 {
			dst[i].P = 1
		}
	}
	d.last = n
	return n, nil
}
