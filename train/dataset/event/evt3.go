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
	s     evt3State
}

// evt3State is what words leave for those that follow: values at the places below.
type evt3State = [5]int64

const (
	evt3T    = iota // time
	evt3Base        // time of the upper bits
	evt3Y           // row; −1 before the first
	evt3X           // of the next vector; −1 before the first
	evt3P           // of the next vector
)

func newEVT3(r *Report) decoder {
	return &evt3{stream: stream{12, 2, r}, clock: evtClock{upper: 12, lower: 12}, s: evt3State{evt3X: -1, evt3Y: -1}}
}

func (d *evt3) decode(in *input, dst []Event) (n int, err error) {
	src, err := in.more(d.bytes)
	if err != nil {
		return 0, err
	}
	used := 0
	for s := &d.s; len(src)-used >= 2 && n+12 <= len(dst); used += 2 {
		if d.clock.begun && s[evt3Y] >= 0 {
			events, bytes := evt3Words(dst[n:], src[used:], s)
			n += events
			used += bytes
			if len(src)-used < 2 || n+12 > len(dst) {
				break
			}
		}
		w := binary.LittleEndian.Uint16(src[used:])
		switch v := int64(w & 0xfff); w >> 12 {
		case 0:
			s[evt3Y] = v & 0x7ff
		case 2:
			d.report.Undefined++
		case 3:
			s[evt3X], s[evt3P] = v&0x7ff, v>>11
		case 4:
			d.undefined(w&0xfff, 12)
		case 5:
			d.undefined(w&0xff, 8)
		case 6:
			s[evt3T] = d.clock.base | v
		case 8:
			if d.clock.set(uint32(v), d.report) {
				s[evt3T], s[evt3Base] = d.clock.base, d.clock.base
			}
		default:
			d.report.Other++
		}
	}
	in.advance(used)
	return n, nil
}

// undefined counts the events of a vector before the first time or row, or before the first x.
func (d *evt3) undefined(valid uint16, width int64) {
	d.report.Undefined += int64(bits.OnesCount16(valid))
	if x := &d.s[evt3X]; *x >= 0 {
		*x = min(*x+width, evt3FarX)
	}
}

// evt3FarX bounds the x of vectors. It is far outside any sensor.
const evt3FarX = 1 << 15

// evt3Fields says what words of types 0, 2 and 6 change among the values of an event:
//
//	bits 0–15    x
//	bits 16–31   y
//	bit 32       the polarity
//	bits 40–51   the lower bits of the time
//
// The product moves the bits of a word to their places, and the mask cuts them out.
var evt3Fields = [16]struct{ product, mask uint64 }{
	0: {1 << 16, 0x7ff << 16},
	2: {1<<21 | 1, 1<<32 | 0x7ff},
	6: {1 << 40, 0xfff << 40},
}

// evt3Places are the places of the bits that are set in 4 bits, 8 bits each.
var evt3Places = func() (places [16]uint32) {
	for i := range places {
		n := 0
		for k := range uint32(4) {
			if i>>k&1 != 0 {
				places[i] |= k << n
				n += 8
			}
		}
	}
	return places
}()

// evt3WordsPortable decodes words of types 0, 2 to 6, once there are a time and a row. It stops
// where another type follows, a vector before its first x, or where dst may have no room for the
// events of a word. It returns the number of events and of bytes.
func evt3WordsPortable(dst []Event, src []byte, s *evt3State) (n, used int) {
	base, x, p := s[evt3Base], s[evt3X], uint8(s[evt3P])
	fields := uint64(s[evt3Y])<<16 | uint64(s[evt3T]&0xfff)<<40
words:
	for ; len(src)-used >= 2 && len(dst)-n >= 12; used += 2 {
		w := uint64(binary.LittleEndian.Uint16(src[used:]))
		kind := w >> 12
		// Rows, events and lower times come in an order that no branch predictor knows. So there
		// are no branches: an event is always written, and counted if it is one.
		if types := uint64(1<<0 | 1<<2 | 1<<6); types>>kind&1 != 0 {
			f := &evt3Fields[kind]
			fields = fields&^f.mask | w*f.product&f.mask
			dst[n] = Event{base | int64(fields>>40), uint16(fields), uint16(fields >> 16), uint8(fields >> 32)}
			n += int(kind >> 1 & 1 &^ (kind >> 2)) // 1 for type 2
			continue
		}
		valid, width := uint32(w&0xfff), int64(12)
		switch kind {
		case 3:
			x, p = int64(w&0x7ff), uint8(w>>11&1)
			continue
		case 4:
		case 5:
			valid, width = valid&0xff, 8
		default:
			break words
		}
		if x < 0 {
			break
		}
		// Four at a time, of which the last ones may be none: they are written, not counted.
		e := Event{base | int64(fields>>40), 0, uint16(fields >> 16), p}
		for at := uint16(x); valid != 0; valid >>= 4 {
			places := evt3Places[valid&15]
			four := (*[4]Event)(dst[n:])
			for i := range four {
				e.X = at + uint16(places>>(8*i)&0xff)
				four[i] = e
			}
			n += bits.OnesCount32(valid & 15)
			at += 4
		}
		x = min(x+width, evt3FarX)
	}
	s[evt3T], s[evt3Y], s[evt3X], s[evt3P] = base|int64(fields>>40), int64(fields>>16&0x7ff), x, int64(p)
	return n, used
}
