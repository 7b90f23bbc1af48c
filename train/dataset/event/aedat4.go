package event

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// aedat4 decodes AEDAT 4 files, which DV writes:
//
//	the line #!AER-DAT4.0
//	uint32, a flatbuffer IOHeader of so many bytes: compression, the position of the data table,
//	        and an XML text that lists the streams with their types and the camera's size
//	packets: int32 stream, int32 size, and so many bytes
//	the data table, an index of the packets, which is not read
//
// The bytes of a packet, unpacked by LZ4 or zstd, are a flatbuffer with its size before it. That
// of a stream of type EVTS is a vector of events of 16 bytes: the time in µs (int64), x and y
// (int16) and the polarity (bool). All numbers are little-endian.
//
// Only the first stream of events is read.
type aedat4 struct {
	stream
	id     int32
	end    int64                                              // offset of the data table, or the file's size
	table  int64                                              // offset of the data table, or −1
	limit  int64                                              // of bytes of a packet
	unpack func(dst, src []byte, limit int64) ([]byte, error) // nil for plain packets
	packed []byte                                             // buffer of large packets
	plain  []byte                                             // buffer
	events []byte                                             // of the packet at start, those that are left
	start  int64                                              // offset of the packet
}

// Slots of the tables.
const (
	ioCompression = 4
	ioDataTable   = 6
	ioInfoNode    = 8
	evtsElements  = 4
)

// newAEDAT4 reads the header.
func newAEDAT4(in *input, h *header) (decoder, error) {
	if _, _, err := in.line("#!AER-DAT4"); err != nil {
		return nil, err
	}
	b, err := in.more(4)
	if err != nil {
		return nil, noData(err)
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if size > mostHeader {
		return nil, fmt.Errorf("a header of %d bytes, want at most %d", size, mostHeader)
	}
	in.advance(4)
	table := make([]byte, size)
	if err := in.read(table); err != nil {
		return nil, err
	}
	d := &aedat4{stream: stream{1, 8, h.report}, end: in.size, limit: h.given.PacketBytes}
	var compression int32
	var text string
	err = readTable(table, "IOHE", func(t *flatbuffers.Table) {
		compression = t.GetInt32Slot(ioCompression, 0)
		d.table = t.GetInt64Slot(ioDataTable, -1)
		if o := flatbuffers.UOffsetT(t.Offset(ioInfoNode)); o != 0 {
			text = string(t.ByteVector(o + t.Pos))
		}
	})
	if err != nil {
		return nil, err
	}
	if d.table < in.offset() && d.table > 0 {
		return nil, fmt.Errorf("the data table at byte %d, want it behind the header", d.table)
	}
	if d.table > 0 {
		d.end = min(d.end, d.table)
	}
	switch compression {
	case 0: // plain
	case 1, 2:
		r := lz4.NewReader(nil)
		d.unpack = func(dst, src []byte, limit int64) ([]byte, error) {
			if plainLZ4(src) {
				return unpackLZ4(dst, src, limit)
			}
			r.Reset(bytes.NewReader(src))
			return readAll(dst, r, limit)
		}
	case 3, 4:
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(max(1<<10, min(d.limit, 1<<29)))))
		if err != nil {
			return nil, err
		}
		d.unpack = func(dst, src []byte, limit int64) ([]byte, error) {
			if err := r.Reset(bytes.NewReader(src)); err != nil {
				return nil, err
			}
			return readAll(dst, r, limit)
		}
	default:
		return nil, fmt.Errorf("compression %d, want 0 to 4: none, LZ4 or zstd", compression)
	}
	if d.id, err = findEvents(text, h); err != nil {
		return nil, err
	}
	return d, nil
}

// readTable calls fn with the root table of a flatbuffer. The package flatbuffers panics on
// offsets outside of its bytes, which readTable returns as an error.
func readTable(b []byte, identifier string, fn func(*flatbuffers.Table)) (err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("a flatbuffer with an offset outside of its %d bytes", len(b))
		}
	}()
	if len(b) < 8 || string(b[4:8]) != identifier {
		return fmt.Errorf("want a flatbuffer %q", identifier)
	}
	fn(&flatbuffers.Table{Bytes: b, Pos: flatbuffers.GetUOffsetT(b)})
	return nil
}

// infoNode is a node of the XML text of a header.
type infoNode struct {
	Name  string `xml:"name,attr"`
	Attrs []struct {
		Key   string `xml:"key,attr"`
		Value string `xml:",chardata"`
	} `xml:"attr"`
	Nodes []infoNode `xml:"node"`
}

// attr returns the value of an attribute of n, or "".
func (n *infoNode) attr(key string) string {
	for _, a := range n.Attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// findEvents returns the first stream of events that the header's text lists, and sets the size
// of its camera.
func findEvents(text string, h *header) (int32, error) {
	var root infoNode
	if err := xml.Unmarshal([]byte(text), &root); err != nil {
		return 0, fmt.Errorf("the list of streams in the header: %w", err)
	}
	for _, out := range root.Nodes {
		if out.Name != "outInfo" {
			continue
		}
		for _, s := range out.Nodes {
			if s.attr("typeIdentifier") != "EVTS" {
				continue
			}
			id, err := strconv.ParseInt(s.Name, 10, 32)
			if err != nil {
				return 0, fmt.Errorf("stream %q in the header, want a number", s.Name)
			}
			for _, info := range s.Nodes {
				if x, y := info.attr("sizeX"), info.attr("sizeY"); info.Name == "info" && x != "" && y != "" {
					if err := errors.Join(h.size(&h.width, x), h.size(&h.height, y)); err != nil {
						return 0, err
					}
				}
			}
			return int32(id), nil
		}
	}
	return 0, errors.New("the header lists no stream of events (EVTS)")
}

// place says in which packet the events are.
func (d *aedat4) place(e *Error, _ int) { e.Offset, e.Part = d.start, "" }

func (d *aedat4) decode(in *input, dst []Event) (int, error) {
	for len(d.events) == 0 {
		if err := d.packet(in); err == io.EOF {
			return 0, err
		} else if err != nil {
			return 0, &Error{Offset: d.start, Err: err}
		}
	}
	n := min(len(dst), len(d.events)/16)
	aedat4Events(dst[:n], d.events)
	d.events = d.events[16*n:]
	return n, nil
}

// aedat4EventsPortable decodes len(dst) events.
func aedat4EventsPortable(dst []Event, src []byte) {
	for i := range dst {
		e := src[16*i : 16*i+16 : 16*i+16]
		xy := binary.LittleEndian.Uint32(e[8:])
		p := uint8(0)
		if e[12] != 0 {
			p = 1
		}
		dst[i] = Event{int64(binary.LittleEndian.Uint64(e)), uint16(xy), uint16(xy >> 16), p}
	}
}

// packet consumes a packet, and unpacks it if it is of the stream.
func (d *aedat4) packet(in *input) error {
	d.start = in.offset()
	if d.start >= d.end {
		if d.table > in.size {
			return fmt.Errorf("the file ends here, but its header says that packets go on to byte %d: %w", d.table, io.ErrUnexpectedEOF)
		}
		in.skip(in.left()) // the data table
		return io.EOF
	}
	b, err := in.more(8)
	if err != nil {
		return err
	}
	id, size := int32(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))
	if size > d.end-d.start-8 {
		return fmt.Errorf("a packet of %d bytes, of which the file has %d: %w", size, d.end-d.start-8, io.ErrUnexpectedEOF)
	}
	if id != d.id {
		in.skip(8 + size)
		d.report.Other++
		return nil
	}
	if size > d.limit {
		return fmt.Errorf("a packet of %d bytes, want at most %d, which Config.PacketBytes allows", size, d.limit)
	}
	packed := d.packed
	if 8+size <= int64(len(in.buf)) {
		if packed, err = in.more(int(8 + size)); err != nil {
			return err
		}
		packed = packed[8 : 8+size] // stays there until in.more is called for the next packet
		in.advance(int(8 + size))
	} else {
		if int64(cap(packed)) < size {
			packed = make([]byte, size)
			d.packed = packed
		}
		packed = packed[:size]
		in.advance(8)
		if err := in.read(packed); err != nil {
			return err
		}
	}
	plain := packed
	if d.unpack != nil {
		if plain, err = d.unpack(d.plain[:0], packed, d.limit); err != nil {
			return fmt.Errorf("unpacking a packet, to at most the %d bytes of Config.PacketBytes: %w", d.limit, err)
		}
		d.plain = plain
	}
	if len(plain) < 4 {
		return fmt.Errorf("a packet of %d bytes, want a flatbuffer", len(plain))
	}
	plain = slices.Clip(plain[4:]) // behind it in the buffer are no events of the packet
	d.events = nil
	return readTable(plain, "EVTS", func(t *flatbuffers.Table) {
		if o := flatbuffers.UOffsetT(t.Offset(evtsElements)); o != 0 {
			begin, n := t.Vector(o), t.VectorLen(o)
			d.events = plain[begin : int64(begin)+16*int64(n)]
		}
	})
}

var errTooLarge = errors.New("it has more")

// readAll appends what r holds to dst. It returns an error if that is more than limit bytes.
func readAll(dst []byte, r io.Reader, limit int64) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, make([]byte, max(1<<16, len(dst)))...)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if int64(len(dst)) > limit {
			return nil, errTooLarge
		}
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// plainLZ4 reports whether src is an LZ4 frame without checksums and dictionary, as DV writes it.
// unpackLZ4 unpacks these without the copies that a stream needs.
func plainLZ4(src []byte) bool {
	return len(src) >= 7 && binary.LittleEndian.Uint32(src) == 0x184d2204 && src[4]&^0x28 == 0x40
}

// unpackLZ4 appends what a frame of LZ4 holds to dst. It returns an error if that is more than
// limit bytes.
func unpackLZ4(dst, src []byte, limit int64) ([]byte, error) {
	size := src[5] >> 4 & 7
	if size < 4 {
		return nil, fmt.Errorf("blocks of size %d in an LZ4 frame, want 4 to 7", size)
	}
	block := 1 << (8 + 2*int(size)) // 64 KiB to 4 MiB
	at := 7
	if src[4]&8 != 0 {
		at += 8 // the size of the content
	}
	for {
		if len(src)-at < 4 {
			return nil, fmt.Errorf("an LZ4 frame: %w", io.ErrUnexpectedEOF)
		}
		n := int(binary.LittleEndian.Uint32(src[at:]) &^ (1 << 31))
		plain := src[at+3]>>7 != 0
		at += 4
		switch {
		case n == 0:
			return dst, nil
		case n > len(src)-at:
			return nil, fmt.Errorf("an LZ4 frame with a block of %d bytes: %w", n, io.ErrUnexpectedEOF)
		case plain:
			dst = append(dst, src[at:at+n]...)
		default:
			dst = slices.Grow(dst, block)
			var dict []byte // blocks refer to the 64 KiB before them, unless they are independent
			if src[4]&0x20 == 0 {
				dict = dst[max(0, len(dst)-1<<16):]
			}
			m, err := lz4.UncompressBlockWithDict(src[at:at+n], dst[len(dst):len(dst)+block], dict)
			if err != nil {
				return nil, err
			}
			dst = dst[:len(dst)+m]
		}
		if int64(len(dst)) > limit {
			return nil, errTooLarge
		}
		at += n
	}
}
