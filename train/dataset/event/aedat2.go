package event

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// aedat2 decodes jAER's AEDAT 2.0 files. An event takes 8 bytes, a big-endian address and a
// big-endian time in µs, which overflows after 2³² µs. What an address means depends on the
// camera (jAER's class AEChip):
//
//	DVS128   bit 0: 1 for OFF; bits 1–7: 127 − x; bits 8–14: y from the bottom; above: not an event
//	DAVIS    bit 11: 1 for ON; bits 12–21: width − 1 − x; bits 22–30: y from the bottom;
//	         bit 31: a sample of a frame or of the IMU; bit 10: an external event
//
// These are the conventions of jAER, which writes the files.
type aedat2 struct {
	stream
	davis         bool
	width, height int
	time          wrapping
}

// cameras are the cameras of AEDAT 2.0 and 3.1, in lower case, with their sizes in pixels.
var cameras = []struct {
	name          string
	width, height int
}{{"dvs128", 128, 128}, {"davis128", 128, 128}, {"davis208", 208, 192}, {"davis240", 240, 180}, {"davis346", 346, 260}, {"davis640", 640, 480}}

// newAEDAT2 reads the header, lines that begin with #.
func newAEDAT2(in *input, h *header) (decoder, error) {
	lines, err := in.lines("#", func(line string) bool { return strings.HasPrefix(line, "#End Of ASCII Header") })
	if err != nil {
		return nil, err
	}
	d := &aedat2{stream: stream{1, 8, h.report}}
	chip := ""
	for _, line := range lines {
		if _, value, ok := strings.Cut(line, "AEChip:"); ok {
			chip = strings.TrimSpace(value)
		}
	}
	name := strings.ToLower(chip[strings.LastIndex(chip, ".")+1:])
	width, height := h.given.Width, h.given.Height
	switch {
	case strings.HasPrefix(name, "dvs128") || name == "" && (width == 0 || width == 128 && height == 128):
		width, height = 128, 128
	case strings.HasPrefix(name, "davis"):
		d.davis = true
		for _, c := range cameras {
			if strings.HasPrefix(name, c.name) {
				width, height = c.width, c.height
			}
		}
	case name == "":
		d.davis = true
	default:
		return nil, fmt.Errorf("camera %q in the header, want a DVS128 or a DAVIS", chip)
	}
	if width < 1 || height < 1 || width > 1024 || height > 512 {
		return nil, fmt.Errorf("camera %q of unknown size: Config.Width and Config.Height must give it, at most 1024×512", chip)
	}
	d.width, d.height = width, height
	h.width, h.height = width, height
	return d, nil
}

func (d *aedat2) decode(in *input, dst []Event) (int, error) {
	src, err := in.more(d.bytes)
	if err != nil {
		return 0, err
	}
	n, used := 0, 0
	for ; len(src)-used >= 8 && n < len(dst); used += 8 {
		e := src[used : used+8 : used+8]
		a := binary.BigEndian.Uint32(e)
		if d.davis && a&(1<<31|1<<10) != 0 || !d.davis && a > 0x7fff {
			d.report.Other++
			continue
		}
		t := d.time.at(binary.BigEndian.Uint32(e[4:]), d.report)
		x, y, p := d.width-1-int(a>>1&0x7f), d.height-1-int(a>>8&0x7f), uint8(1-a&1)
		if d.davis {
			x, y, p = d.width-1-int(a>>12&0x3ff), d.height-1-int(a>>22&0x1ff), uint8(a>>11&1)
		}
		dst[n] = Event{t, uint16(x), uint16(y), p} // x or y is above the size if it was negative
		n++
	}
	in.advance(used)
	return n, nil
}
