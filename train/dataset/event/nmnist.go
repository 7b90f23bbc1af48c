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
	n, used := 0, 0
	for ; len(src)-used >= 5 && n < len(dst); used += 5 {
		var e [8]byte // one load where there are 8 bytes
		if len(src)-used >= 8 {
			e = [8]byte(src[used:])
		} else {
			copy(e[:], src[used:])
		}
		v := binary.LittleEndian.Uint64(e[:])
		if e[1] == nmnistOverflow {
			d.base += 8192
			d.report.Overflows++
			continue
		}
		dst[n] = Event{
			T: d.base + int64(v>>16&0x7f<<16|v>>24&0xff<<8|v>>32&0xff),
			X: uint16(v & 0xff), Y: uint16(v >> 8 & 0xff), P: uint8(v >> 23 & 1),
		}
		n++
	}
	in.advance(used)
	return n, nil
}
