package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// aedat3 decodes AEDAT 3.1 files, as those of DVS128 Gesture. After a header of lines that begin
// with #, a file is packets. A packet is 28 bytes of little-endian numbers and places for events:
//
//	0   uint16   type of the events; 1 for polarity
//	2   uint16   source
//	4   uint32   size of an event in bytes
//	8   uint32   where the time is in an event
//	12  uint32   overflows of the time before this packet, each of 2³¹ µs
//	16  uint32   capacity: number of places
//	20  uint32   number of places in use
//	24  uint32   number of valid events
//
// A polarity event is two words. The first has the valid bit, the polarity, 15 bits of y and 15
// of x, from bit 0 on. The second is the time in µs. Places from the number on are padding.
type aedat3 struct {
	stream
	number, padding uint32 // places of the packet that are left
	size            int    // of an event of the packet
	base            int64  // time of the packet's overflows
	overflow        uint32
	begun           bool
}

// aedat3Polarity is the type of polarity events.
const aedat3Polarity = 1

// newAEDAT3 reads the header.
func newAEDAT3(in *input, h *header) (decoder, error) {
	ended := false
	lines, err := in.lines("#", func(line string) bool { ended = line == "#!END-HEADER"; return ended })
	if err != nil {
		return nil, err
	}
	if !ended {
		return nil, errors.New("want the line #!END-HEADER at the end of the header")
	}
	for _, line := range lines {
		if value, ok := strings.CutPrefix(line, "#Format:"); ok && strings.TrimSpace(value) != "RAW" {
			return nil, fmt.Errorf("format %q of packets in the header, want RAW", strings.TrimSpace(value))
		}
		if strings.HasPrefix(line, "#Source ") {
			for _, c := range cameras {
				if strings.Contains(strings.ToLower(line), c.name) {
					h.width, h.height = c.width, c.height
				}
			}
		}
	}
	return &aedat3{stream: stream{1, 8, h.report}}, nil
}

func (d *aedat3) record() (events, bytes int) { return 1, d.size }

func (d *aedat3) decode(in *input, dst []Event) (n int, err error) {
	for d.number == 0 {
		if d.padding > 0 {
			size := int64(d.padding) * int64(d.size)
			if size > in.left() {
				in.skip(in.left())
				return 0, errShort
			}
			in.skip(size)
			d.report.Padding += int64(d.padding)
			d.padding = 0
		}
		if err := d.packet(in); err != nil {
			return 0, err
		}
	}
	src, err := in.more(d.size)
	if err != nil {
		return 0, noEnd(err)
	}
	used := 0
	for ; d.number > 0 && len(src)-used >= d.size && n < len(dst); used += d.size {
		d.number--
		e := src[used : used+8 : used+8]
		a, t := binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
		if a&1 == 0 || t>>31 != 0 { // times are signed, and not negative
			d.report.Invalid++
			continue
		}
		dst[n] = Event{d.base + int64(t), uint16(a >> 17), uint16(a >> 2 & 0x7fff), uint8(a >> 1 & 1)}
		n++
	}
	in.advance(used)
	return n, nil
}

// packet consumes the header of a packet. It skips a packet of other events.
func (d *aedat3) packet(in *input) error {
	h, err := in.more(28)
	if err != nil {
		return err
	}
	kind := binary.LittleEndian.Uint16(h)
	size, at := binary.LittleEndian.Uint32(h[4:]), binary.LittleEndian.Uint32(h[8:])
	overflow, capacity, number := binary.LittleEndian.Uint32(h[12:]), binary.LittleEndian.Uint32(h[16:]), binary.LittleEndian.Uint32(h[20:])
	all := int64(size) * int64(capacity)
	switch {
	case kind>>15 != 0:
		return errors.New("a compressed packet, want plain ones")
	case number > capacity || size == 0 && capacity > 0 || size > 1<<31-1 || capacity > 1<<31-1:
		return fmt.Errorf("a packet of %d events of %d bytes in %d places", number, size, capacity)
	case kind == aedat3Polarity && (size < 8 || size > 1<<10 || at != 4):
		return fmt.Errorf("polarity events of %d bytes with the time at byte %d, want 8 and 4", size, at)
	case overflow > 1<<31-1:
		return fmt.Errorf("%d overflows of time, want at most %d", overflow, 1<<31-1)
	}
	if kind != aedat3Polarity {
		if all > in.left()-28 {
			return errShort
		}
		in.skip(28 + all)
		d.report.Other++
		return nil
	}
	in.advance(28)
	if d.begun && overflow > d.overflow || !d.begun && overflow > 0 {
		d.report.Overflows += int64(overflow - d.overflow)
	}
	d.begun, d.overflow = true, overflow
	d.base = int64(overflow) << 31
	d.number, d.padding, d.size = number, capacity-number, int(size)
	return nil
}
