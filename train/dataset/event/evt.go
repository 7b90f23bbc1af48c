package event

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
)

// The header of a Prophesee RAW file is lines that begin with "% ", and ends at "% end" or before
// the first line that begins otherwise. These keys are read, the first that are there:
//
//	format     EVT3;height=720;width=1280, with endianness=little or legacy for EVT21
//	evt        3.0
//	geometry   1280x720
//	width, height, endianness
func readEVTHeader(in *input, h *header) (Format, error) {
	lines, err := in.lines("% ", func(line string) bool { return strings.TrimSpace(line[1:]) == "end" })
	if err != nil {
		return "", err
	}
	var format, version, endianness string
	for _, line := range lines {
		key, value := keyValue(line)
		switch key {
		case "format":
			for i, part := range strings.Split(value, ";") {
				k, v, _ := strings.Cut(part, "=")
				switch {
				case i == 0:
					format = strings.TrimSpace(part)
				case k == "endianness":
					endianness = v
				case k == "width":
					err = h.size(&h.width, v)
				case k == "height":
					err = h.size(&h.height, v)
				}
				if err != nil {
					return "", err
				}
			}
		case "evt":
			version = value
		case "endianness":
			endianness = value
		case "geometry":
			if w, t, ok := strings.Cut(value, "x"); ok && h.width == 0 {
				if err = h.size(&h.width, w); err == nil {
					err = h.size(&h.height, t)
				}
			}
		case "width":
			err = h.size(&h.width, value)
		case "height":
			err = h.size(&h.height, value)
		}
		if err != nil {
			return "", err
		}
	}
	if endianness != "" && endianness != "little" && endianness != "legacy" {
		return "", fmt.Errorf("endianness %q in the header, want little or legacy", endianness)
	}
	switch f := strings.ToUpper(format); {
	case f == "EVT3" || f == "" && version == "3.0":
		return EVT3, nil
	case f == "EVT2" || f == "" && version == "2.0":
		return EVT2, nil
	case f == "EVT21" || f == "" && version == "2.1":
		if endianness == "legacy" {
			return EVT21Legacy, nil
		}
		return EVT21, nil
	case f == "" && version == "":
		return "", nil
	}
	return "", fmt.Errorf("format %q and version %q in the header, want EVT2, EVT21 or EVT3, or 2.0, 2.1 or 3.0", format, version)
}

// evtClock makes times of words that give the upper bits of a counter. Of an EVT2 counter of 34
// bits, 28 are in such words; of an EVT3 counter of 24 bits, 12 are. Upper bits that fall by at
// least half their range are an overflow. Upper bits that fall by less are a step back in time.
type evtClock struct {
	upper, lower uint // bits
	begun        bool
	high         uint32
	base         int64 // time of the upper bits, overflows included
}

// set takes upper bits and reports whether they changed.
func (c *evtClock) set(high uint32, report *Report) bool {
	if c.begun && high == c.high {
		return false
	}
	loops := c.base >> (c.upper + c.lower)
	if c.begun && high < c.high && c.high-high >= 1<<(c.upper-1) {
		loops++
		report.Overflows++
	}
	c.begun, c.high = true, high
	c.base = loops<<(c.upper+c.lower) | int64(high)<<c.lower
	return true
}

// Types of the words of EVT2 and EVT2.1, in their uppermost 4 bits. All others are of other kinds:
// triggers (10), vendors' words (14) and their continuations (15).
const (
	evtOff      = 0
	evtOn       = 1
	evtTimeHigh = 8
)

// evt2 decodes Prophesee's EVT 2.0, little-endian words of 32 bits:
//
//	31–28   type: 0 an OFF event, 1 an ON event, 8 the upper 28 bits of the time, in bits 27–0
//	27–22   of an event: the lower 6 bits of the time
//	21–11   x
//	10–0    y
type evt2 struct {
	stream
	clock evtClock
}

func newEVT2(r *Report) decoder {
	return &evt2{stream{1, 4, r}, evtClock{upper: 28, lower: 6}}
}

func (d *evt2) decode(in *input, dst []Event) (int, error) {
	src, err := in.more(d.bytes)
	if err != nil {
		return 0, err
	}
	n, used := 0, 0
	for ; len(src)-used >= 4 && n < len(dst); used += 4 {
		w := binary.LittleEndian.Uint32(src[used:])
		switch kind := w >> 28; {
		case kind == evtTimeHigh:
			d.clock.set(w&(1<<28-1), d.report)
		case kind > evtOn:
			d.report.Other++
		case !d.clock.begun:
			d.report.Undefined++
		default:
			dst[n] = Event{d.clock.base + int64(w>>22&0x3f), uint16(w >> 11 & 0x7ff), uint16(w & 0x7ff), uint8(kind)}
			n++
		}
	}
	in.advance(used)
	return n, nil
}

// evt21 decodes Prophesee's EVT 2.1, little-endian words of 64 bits:
//
//	63–60   type as in EVT 2.0; the upper 28 bits of the time are in bits 59–32
//	59–54   of events: the lower 6 bits of the time
//	53–43   x of the first of 32 pixels in a row
//	42–32   y
//	31–0    the pixels that have an event, from x on
//
// Legacy words, of the IMX636, have the two halves exchanged.
type evt21 struct {
	stream
	legacy bool
	clock  evtClock
}

func newEVT21(r *Report, legacy bool) decoder {
	return &evt21{stream{32, 8, r}, legacy, evtClock{upper: 28, lower: 6}}
}

func (d *evt21) decode(in *input, dst []Event) (int, error) {
	src, err := in.more(d.bytes)
	if err != nil {
		return 0, err
	}
	n, used := 0, 0
	for ; len(src)-used >= 8 && n+32 <= len(dst); used += 8 {
		valid, w := binary.LittleEndian.Uint32(src[used:]), binary.LittleEndian.Uint32(src[used+4:])
		if d.legacy {
			valid, w = w, valid
		}
		switch kind := w >> 28; {
		case kind == evtTimeHigh:
			d.clock.set(w&(1<<28-1), d.report)
		case kind > evtOn:
			d.report.Other++
		case !d.clock.begun:
			d.report.Undefined += int64(bits.OnesCount32(valid))
		default:
			e := Event{d.clock.base + int64(w>>22&0x3f), 0, uint16(w & 0x7ff), uint8(kind)}
			for x := uint16(w >> 11 & 0x7ff); valid != 0; valid &= valid - 1 {
				e.X = x + uint16(bits.TrailingZeros32(valid))
				dst[n] = e
				n++
			}
		}
	}
	in.advance(used)
	return n, nil
}
