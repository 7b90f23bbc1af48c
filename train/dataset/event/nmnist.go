package event

import "encoding/binary"

// nmnist decodes the files of N-MNIST and N-Caltech101 (Orchard et al. 2015, "Converting Static
// Image Datasets to Spiking Neuromorphic Datasets Using Saccades"). An event takes 5 bytes:
//
//	byte 0      x
//	byte 1      y
//	byte 2      the polarity in the top bit, and the upper 7 bits of the time
//	byte 3, 4   the lower 16 bits of the time, big-endian
//
// An event with y = 240 marks an overflow of the sensor's time. The times of all events that
// follow are later by 8192 µs.
type nmnist struct {
	stream
	base int64 // µs
}

// nmnistOverflow is the y of a marker.
const nmnistOverflow = 240

func (d *nmnist) decode(in *input, dst []Event) (int, error) {
	src, err := in.more(d.bytes)
	if err != nil {
		return 0, err
	}
	n, used, base := 0, 0, d.base
	for ; len(src)-used >= 5 && n < len(dst); used += 5 {
		var v uint64
		if len(src)-used >= 8 { // one load
			v = binary.BigEndian.Uint64(src[used:]) >> 24
		} else {
			v = uint64(binary.BigEndian.Uint32(src[used:]))<<8 | uint64(src[used+4])
		}
		x, y := uint16(v>>32), uint16(v>>24&0xff)
		if y == nmnistOverflow {
			base += 8192
			d.report.Overflows++
			continue
		}
		dst[n] = Event{T: base + int64(v&0x7fffff), X: x, Y: y, P: uint8(v >> 23 & 1)}
		n++
	}
	d.base = base
	in.advance(used)
	return n, nil
}
