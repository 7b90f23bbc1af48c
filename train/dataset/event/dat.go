package event

import (
	"encoding/binary"
	"fmt"
)

// dat decodes Prophesee's DAT files of CD events. An event takes 8 bytes, two little-endian
// words:
//
//	word 0   the time in µs
//	word 1   version 2: x in bits 0–13, y in bits 14–27, the polarity in bits 28–31
//	         version 1: x in bits 0–8, y in bits 9–16, the polarity in bit 17
//
// The time overflows after 2³² µs.
type dat struct {
	stream
	old  bool // version 1
	time wrapping
}

// newDAT reads the header: lines that begin with %, then the type and the size of an event, a
// byte each. Type 0 and type 12 are CD events.
func newDAT(in *input, h *header) (decoder, error) {
	d := &dat{stream: stream{1, 8, h.report}}
	lines, err := in.lines("%", func(line string) bool { return false })
	if err != nil {
		return nil, err
	}
	version := 2
	for _, line := range lines {
		key, value := keyValue(line)
		switch key {
		case "version":
			if _, err := fmt.Sscan(value, &version); err != nil || version != 1 && version != 2 {
				return nil, fmt.Errorf("version %q in the header, want 1 or 2", value)
			}
		case "width":
			err = h.size(&h.width, value)
		case "height":
			err = h.size(&h.height, value)
		}
		if err != nil {
			return nil, err
		}
	}
	d.old = version == 1
	b, err := in.more(2)
	if err != nil {
		return nil, noData(err)
	}
	if kind, size := b[0], b[1]; kind != 0 && kind != 12 || size != 8 {
		return nil, fmt.Errorf("events of type %d and %d bytes, want CD events: type 0 or 12 and 8 bytes", kind, size)
	}
	in.advance(2)
	return d, nil
}

func (d *dat) decode(in *input, dst []Event) (int, error) {
	src, err := in.more(d.bytes)
	if err != nil {
		return 0, err
	}
	n, used := 0, 0
	for ; len(src)-used >= 8 && n < len(dst); used += 8 {
		e := src[used : used+8 : used+8]
		t, a := d.time.at(binary.LittleEndian.Uint32(e), d.report), binary.LittleEndian.Uint32(e[4:])
		if d.old {
			dst[n] = Event{t, uint16(a & 0x1ff), uint16(a >> 9 & 0xff), uint8(a >> 17 & 1)}
		} else {
			p := uint8(0)
			if a>>28 != 0 {
				p = 1
			}
			dst[n] = Event{t, uint16(a & 0x3fff), uint16(a >> 14 & 0x3fff), p}
		}
		n++
	}
	in.advance(used)
	return n, nil
}

// wrapping makes times of a counter of 32 bits that overflows. A time is taken to be within 2³¹
// of the one before it.
type wrapping struct {
	begun bool
	last  uint32
	t     int64
}

// at returns the time of a value of the counter.
func (w *wrapping) at(v uint32, report *Report) int64 {
	if !w.begun {
		w.begun, w.last, w.t = true, v, int64(v)
		return w.t
	}
	step := int32(v - w.last)
	if step >= 0 && v < w.last {
		report.Overflows++
	}
	w.t += int64(step)
	w.last = v
	return w.t
}
