package event

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
	for len(src)-used >= 5 && n < len(dst) {
		k := nmnistEvents(dst[n:], src[used:], d.base)
		if k == 0 { // a marker, or one of few events
			if src[used+1] == nmnistOverflow {
				d.base += 8192
				d.report.Overflows++
				used += 5
				continue
			}
			k = nmnistEventsPortable(dst[n:n+1], src[used:], d.base)
		}
		n += k
		used += 5 * k
	}
	in.advance(used)
	return n, nil
}

// nmnistEventsPortable decodes events up to a marker. It returns their number.
func nmnistEventsPortable(dst []Event, src []byte, base int64) int {
	for n := range dst {
		at := 5 * n
		if len(src)-at < 5 || src[at+1] == nmnistOverflow {
			return n
		}
		e := src[at : at+5 : at+5]
		t := uint32(e[2])<<16 | uint32(e[3])<<8 | uint32(e[4])
		dst[n] = Event{base + int64(t&(1<<23-1)), uint16(e[0]), uint16(e[1]), uint8(t >> 23)}
	}
	return len(dst)
}
