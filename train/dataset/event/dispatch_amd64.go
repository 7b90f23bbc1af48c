//go:build !purego

package event

import "golang.org/x/sys/cpu"

// The routines that have assembly.
var (
	evt3Words    = evt3WordsPortable
	inOrder      = inOrderPortable
	aedat4Events = aedat4EventsPortable
	nmnistEvents = nmnistEventsPortable
)

func init() {
	if !cpu.X86.HasAVX2 || !cpu.X86.HasPOPCNT {
		return
	}
	evt3Words = func(dst []Event, src []byte, s *evt3State) (n, used int) {
		if len(dst) < 12 || len(src) < 2 {
			return 0, 0
		}
		return evt3WordsAVX2(&dst[0], len(dst), &src[0], len(src), s, &evt3Table[0])
	}
	inOrder = func(events []Event, maxX, maxY uint32) int {
		return inOrderAVX2(&events[0], len(events), maxX|maxY<<16)
	}
	nmnistEvents = func(dst []Event, src []byte, base int64) int {
		if n := min(len(dst), (len(src)-6)/5); n >= 4 {
			return nmnistEventsAVX2(&dst[0], &src[0], n, base)
		}
		return 0
	}
	aedat4Events = func(dst []Event, src []byte) {
		if len(dst) > 0 {
			aedat4EventsAVX2(&dst[0], &src[:16*len(dst)][0], len(dst))
		}
	}
}

// evt3Table are the tables of evt3WordsAVX2. The first three are by the types of four words, two
// bits each: 0 for type 0, 1 for type 2, 3 for type 6, and 2 for another.
//
//	0       of each of four events, where its 16 bytes come from. Bytes 0–7 are the four words, 8
//	        and 9 the row before them and 10 and 11 the lower time before them. 128 stands for a
//	        byte of 0. The word of x is there twice, the second time for the polarity
//	16384   the same of the row and the lower time after them, in bytes 8–11
//	20480   the number of events, or 128 where a type is another
//	20736   by a byte, the places of the bits that are set in it
var evt3Table = func() (table [20736 + 256*8]uint8) {
	for i := range table[:20480] {
		table[i] = 128
	}
	word := func(at, from int) { table[at], table[at+1] = uint8(from), uint8(from+1) }
	for types := range 256 {
		row, low, n := 8, 10, 0
		for k := 0; k < 4 && n < 128; k++ {
			switch types >> (2 * k) & 3 {
			case 0:
				row = 2 * k
			case 1:
				at := 64*types + 16*n
				word(at, low)
				word(at+8, 2*k)
				word(at+10, row)
				word(at+12, 2*k)
				n++
			case 2:
				n = 128
			case 3:
				low = 2 * k
			}
		}
		word(16384+16*types+8, row)
		word(16384+16*types+10, low)
		table[20480+types] = uint8(n)
		places := table[20736+8*types:][:0]
		for k := range uint8(8) {
			if types>>k&1 != 0 {
				places = append(places, k)
			}
		}
	}
	return table
}()
