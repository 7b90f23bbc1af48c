package event

import (
	"encoding/binary"
	"math/bits"
)

// evt3 decodes Prophesee's EVT 3.0, little-endian words of 16 bits. Their uppermost 4 bits are
// the type:
//
//	0   the row y in bits 10–0 of the events that follow
//	2   an event: x in bits 10–0, the polarity in bit 11
//	3   x and the polarity, in the same places, of the vectors that follow
//	4   a vector: bit k of 12 is an event at x + k; then x grows by 12
//	5   a vector of 8 in the same way
//	6   the lower 12 bits of the time
//	8   the upper 12 bits of the time; if they change, the lower bits become 0
//
// Words of other types are skipped: triggers (10), vendors' words (14) and their continuations
// (7 and 15). The time overflows after 2²⁴ µs.
type evt3 struct {
	stream
	clock evtClock
	t     int64
	y     int32 // −1 before the first
	x     int32 // of the next vector; −1 before the first
	p     uint8 // of the next vector
}

func newEVT3(r *Report) decoder {
	return &evt3{stream: stream{12, 2, r}, clock: evtClock{upper: 12, lower: 12}, x: -1, y: -1}
}

func (d *evt3) decode(in *input, dst []Event) (int, error) {
	src, err := in.more(d.bytes)
	if err != nil {
		return 0, err
	}
	n, used := 0, 0
	y, x, t, p := d.y, d.x, d.t, d.p
	ready := d.clock.begun && y >= 0
	for ; len(src)-used >= 2 && n+12 <= len(dst); used += 2 {
		w := binary.LittleEndian.Uint16(src[used:])
		if ready {
			// Rows, events and lower times come in an order that no branch predictor knows. So
			// there are no branches: an event is always written, and counted if it is one.
			const rowsEventsTimes = 1<<0 | 1<<2 | 1<<6
			for kind := w >> 12; rowsEventsTimes>>kind&1 != 0; kind = w >> 12 {
				v := w & 0xfff
				row, low := int32(v&0x7ff), d.clock.base|int64(v)
				if kind == 0 {
					y = row
				}
				if kind == 6 {
					t = low
				}
				dst[n] = Event{t, v & 0x7ff, uint16(y), uint8(v >> 11)}
				n += int(kind >> 1 & 1 &^ (kind >> 2)) // 1 for kind 2
				used += 2
				if len(src)-used < 2 || n+12 > len(dst) {
					break
				}
				w = binary.LittleEndian.Uint16(src[used:])
			}
			if len(src)-used < 2 || n+12 > len(dst) {
				break
			}
		}
		switch w >> 12 {
		case 0:
			y = int32(w & 0x7ff)
			ready = d.clock.begun
		case 2:
			d.report.Undefined++
		case 3:
			x, p = int32(w&0x7ff), uint8(w>>11&1)
		case 4, 5:
			valid, width := uint32(w&0xfff), int32(12)
			if w>>12 == 5 {
				valid, width = valid&0xff, 8
			}
			if !ready || x < 0 {
				d.report.Undefined += int64(bits.OnesCount32(valid))
				continue
			}
			// Four at a time, of which the last ones may be none: they are written, not counted.
			e, end := Event{t, 0, uint16(y), p}, n+bits.OnesCount32(valid)
			for ; n < end; n += 4 {
				four := (*[4]Event)(dst[n:])
				for i := range four {
					e.X = uint16(x) + uint16(bits.TrailingZeros32(valid))
					four[i] = e
					valid &= valid - 1
				}
			}
			n = end
			x = min(x+width, 1<<15) // far outside any sensor
		case 6:
			t = d.clock.base | int64(w&0xfff)
		case 8:
			if d.clock.set(uint32(w&0xfff), d.report) {
				t = d.clock.base
			}
			ready = y >= 0
		default:
			d.report.Other++
		}
	}
	in.advance(used)
	d.y, d.x, d.t, d.p = y, x, t, p
	return n, nil
}
