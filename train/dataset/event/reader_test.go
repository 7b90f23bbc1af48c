package event

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// writeNMNIST writes events by the description of the format, which cannot hold times from 2²³ on.
func writeNMNIST(events []Event) (b []byte) {
	for _, e := range events {
		b = append(b, byte(e.X), byte(e.Y), e.P<<7|byte(e.T>>16), byte(e.T>>8), byte(e.T))
	}
	return b
}

// words writes little-endian words behind a header.
func words[W uint16 | uint32 | uint64](header string, list ...W) []byte {
	b := bytes.NewBufferString(header)
	_ = binary.Write(b, binary.LittleEndian, list)
	return b.Bytes()
}

// An event that is late by no more than the window is put in its place, behind those of the same
// time before it, and counted.
func TestOrderWithinTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, window := rapid.IntRange(1, 5000).Draw(t, "n"), rapid.IntRange(1, 40).Draw(t, "window")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		events := make([]Event, n)
		for i := range events { // a key moves an event by at most window places
			events[i] = Event{T: int64(i/3) + int64(r.IntN(window/3+1)), X: uint16(r.IntN(200)), Y: uint16(r.IntN(200)), P: uint8(r.IntN(2))}
		}
		want, late, newest := slices.Clone(events), int64(0), int64(-1)
		slices.SortStableFunc(want, func(a, b Event) int { return int(a.T - b.T) })
		for _, e := range events {
			if e.T < newest {
				late++
			}
			newest = max(newest, e.T)
		}
		cfg := DefaultConfig()
		cfg.Window = window + 3
		got, report, err := read("a.bin", writeNMNIST(events), cfg)
		require.NoError(t, err)
		require.Equal(t, want, got.Events)
		require.Equal(t, late, report.Reordered)
	})
}

// The window holds where a record has several events, of which a batch has room for whole ones.
func TestWindowOfWords(t *testing.T) {
	var list []uint64
	for i := range uint64(60_000) {
		at := i
		if i == 993+16353 { // the first batches have so many events
			at = 991
		}
		list = append(list, 8<<60|at>>6<<32, 1<<60|at&63<<54|1)
	}
	got, report, err := read("a.raw", words("% evt 2.1\n% end\n", list...), DefaultConfig())
	require.NoError(t, err)
	require.Len(t, got.Events, 60_000)
	require.Equal(t, int64(1), report.Reordered)
}

// A late event ends the events at its byte, whatever the window, if it is before what was
// returned. What was read before it is returned.
func TestLateEvents(t *testing.T) {
	const n = 50_000 // more than two batches
	events := make([]Event, n)
	for i := range events {
		events[i] = Event{T: int64(i), X: uint16(i % 7), Y: 3, P: 1}
	}
	events[n-100].T = 5
	write3 := func() []byte {
		list := []uint16{3, 0x3000 | 1<<11} // y, base
		high, low := uint16(0xffff), uint16(0xffff)
		for _, e := range events {
			if h := uint16(e.T >> 12); h != high {
				high, low = h, 0
				list = append(list, 0x8000|h)
			}
			if l := uint16(e.T & 0xfff); l != low {
				low = l
				list = append(list, 0x6000|l)
			}
			list = append(list, 0x3000|1<<11|e.X, 0x4001)
		}
		return words("% evt 3.0\n", list...)
	}
	write2 := func() []byte {
		var list []uint32
		high := uint32(1 << 31)
		for _, e := range events {
			if h := uint32(e.T >> 6); h != high {
				high = h
				list = append(list, 8<<28|h)
			}
			list = append(list, 1<<28|uint32(e.T&63)<<22|uint32(e.X)<<11|3)
		}
		return words("% evt 2.0\n", list...)
	}
	for name, b := range map[string][]byte{"a.bin": writeNMNIST(events), "b.raw": write2(), "c.raw": write3()} {
		for _, window := range []int{0, 1, 1000} {
			cfg := DefaultConfig()
			cfg.Window = window
			got, _, err := read(name, b, cfg)
			var e *Error
			require.ErrorAs(t, err, &e, name)
			assert.ErrorContains(t, err, "an event at 5 µs after one at 49899 µs")
			require.Equal(t, events[:n-100], got.Events, name)
			// The bytes up to the record hold the events before it, and with it the late one.
			before, _, err := read(name, b[:e.Offset], cfg)
			require.NoError(t, err, name)
			require.Len(t, before.Events, n-100, name)
			record := map[string]int64{"a.bin": 5, "b.raw": 4, "c.raw": 2}[name]
			_, _, err = read(name, b[:e.Offset+record], cfg)
			require.Error(t, err, name)
		}
	}
	// AEDAT 4 names the packet, and .npz the place in the array of times.
	cfg := DefaultConfig()
	cfg.Window = 0
	for _, name := range []string{"dv-none.aedat4", "stored.npz"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		want := readCSV(t, filepath.Join("testdata", name+".csv"))
		at := bytes.Index(b, binary.LittleEndian.AppendUint64(nil, uint64(want[200].T)))
		require.Positive(t, at)
		if name == "stored.npz" { // the checksum is read at the end
			b = slices.Clone(b)
		}
		binary.LittleEndian.PutUint64(b[at:], 7)
		got, _, err := read(name, b, cfg)
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, want[:200], got.Events, name)
		if name == "stored.npz" {
			assert.Equal(t, "array t", e.Part)
			assert.Equal(t, int64(128+200*8), e.Offset)
		} else {
			assert.Less(t, e.Offset, int64(at))
			assert.Greater(t, e.Offset, int64(at)-300*16)
		}
	}
}

// The same for the formats whose records have a place of their own. The file without the late record
// tells what the events before it are.
func TestLateRecords(t *testing.T) {
	const n, late = 50_000, 49_900
	aedat3 := words("#!AER-DAT3.1\r\n#Source 0: DVS128\r\n#!END-HEADER\r\n", uint32(1), 8, 4, 0, n, n, n)
	for name, c := range map[string]struct {
		header []byte
		record func(i, time uint32) []byte
		format Format
	}{
		"a.aedat": {[]byte("#!AER-DAT2.0\r\n"), func(i, time uint32) []byte {
			return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, i%128<<1), time)
		}, AEDAT2},
		"b.aedat": {aedat3, func(i, time uint32) []byte { return words("", i%128<<17|1, time) }, AEDAT3},
		"c.dat":   {[]byte("% Version 2\n\x0c\x08"), func(i, time uint32) []byte { return words("", time, i%128) }, DAT},
		"d.raw": {[]byte("% evt 2.1\n"), func(i, time uint32) []byte { // upper and lower bits of the time
			return words("", uint64(8)<<60|uint64(time>>6)<<32, 1<<60|uint64(time&63)<<54|uint64(i%4*32)<<43|1)
		}, EVT21},
		"e.raw": {[]byte("% evt 2.1\n"), func(i, time uint32) []byte {
			return words("", uint64(8)<<28|uint64(time>>6), uint64(1<<28|time&63<<22|i%4*32<<11)|1<<32)
		}, EVT21Legacy},
	} {
		b, size := slices.Clone(c.header), int64(len(c.record(0, 0)))
		for i := range uint32(n) {
			time := i
			if i == late {
				time = 5
			}
			b = append(b, c.record(i, time)...)
		}
		at := int64(len(c.header)) + late*size
		for _, window := range []int{0, 1, 1000} {
			cfg := DefaultConfig()
			cfg.Format, cfg.Window = c.format, window
			got, _, err := read(name, b, cfg)
			var e *Error
			require.ErrorAs(t, err, &e, name)
			assert.ErrorContains(t, err, "an event at 5 µs after one at 49899 µs", name)
			assert.GreaterOrEqual(t, e.Offset, at, name)
			assert.Less(t, e.Offset, at+size, name)
			require.Len(t, got.Events, late, name)
			assert.Equal(t, Event{late - 1, got.Events[late-1].X, got.Events[late-1].Y, got.Events[late-1].P}, got.Events[late-1], name)
		}
	}
}

// The byte of a late event of EVT 3 is that of its own word, wherever it is among words that are
// decoded together.
func TestLateWordOfEVT3(t *testing.T) {
	bothLevels(t, func(t *testing.T) {
		for late := 1; late < 40; late++ {
			for _, rows := range []int{0, 1, 3} { // before an event
				list, at := []uint16{0x8001, 0}, 0
				for i := range uint16(60) {
					v := 10 + i
					if int(i) == late {
						v = 1
					}
					list = append(append(list, 0x6000|v), slices.Repeat([]uint16{i}, rows)...)
					if int(i) == late {
						at = len(list)
					}
					list = append(list, 0x2000|i)
				}
				cfg := DefaultConfig()
				cfg.Window = 0
				got, _, err := read("a.raw", words("% evt 3.0\n", list...), cfg)
				var e *Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, int64(len("% evt 3.0\n")+2*at), e.Offset, "%v", err)
				require.Len(t, got.Events, late)
			}
		}
	})
}

// AEDAT 3.1: only valid events of places in use count. Padding lies between packets.
func TestAEDAT3PaddingAndInvalidEvents(t *testing.T) {
	packet := func(b []byte, kind uint16, overflow, capacity, number uint32, list ...uint32) []byte {
		b = binary.LittleEndian.AppendUint16(b, kind)
		b = binary.LittleEndian.AppendUint16(b, 0)
		for _, v := range append([]uint32{8, 4, overflow, capacity, number, number - 1}, list...) {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		return b
	}
	head := "#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 0: DVS128\r\n#!END-HEADER\r\n"
	b := packet([]byte(head), 1, 0, 4, 3, 5<<17|6<<2|3, 100, 9<<17|9<<2|2, 101, 7<<17|8<<2|1, 102, 0xffffffff, 0)
	b = packet(b, 0, 0, 1, 1, 1, 1)
	at := len(b)
	b = packet(b, 1, 3, 2, 1, 1<<17|2<<2|3, 4, 0, 0)
	want := []Event{{100, 5, 6, 1}, {102, 7, 8, 0}, {3<<31 + 4, 1, 2, 1}}
	got, report, err := read("a.aedat", b, DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, want, got.Events)
	assert.Equal(t, Report{Format: AEDAT3, Width: 128, Height: 128, Bytes: int64(len(b)), Events: 3, Overflows: 3, Invalid: 1, Padding: 2, Other: 1}, report)

	// A packet that cannot be.
	binary.LittleEndian.PutUint32(b[at+20:], 9)
	got, _, err = read("a.aedat", b, DefaultConfig())
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, int64(at), e.Offset)
	assert.ErrorContains(t, err, "a packet of 9 events of 8 bytes in 2 places")
	assert.Equal(t, want[:2], got.Events)
}

// AEDAT 2 and DAT: times of 32 bits overflow. Addresses that are no events are skipped.
func TestOverflowOf32Bits(t *testing.T) {
	b := []byte("#!AER-DAT2.0\r\n")
	for _, v := range []uint32{0x0101, 1<<32 - 5, 0x8000, 1<<32 - 4, 0x0202, 3} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	got, report, err := read("a.aedat", b, DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, []Event{{1<<32 - 5, 127, 126, 0}, {1<<32 + 3, 126, 125, 1}}, got.Events)
	assert.Equal(t, []int64{1, 1}, []int64{report.Overflows, report.Other})

	b = words("% Width 640\n% Height 480\n", uint16(0x080c))
	for _, v := range []uint32{1<<32 - 1, 2<<14 | 5 | 1<<28, 0, 480<<14 | 5, 0, 479<<14 | 639} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	got, report, err = read("a.dat", b, DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, []Event{{1<<32 - 1, 5, 2, 1}, {1 << 32, 639, 479, 0}}, got.Events)
	assert.Equal(t, []int64{1, 1}, []int64{report.Overflows, report.Outside})
}

// EVT 2 overflows after 2³⁴ µs; events before the first upper bits have no time. EVT 2.1 has 32
// pixels in a word, and two orders of halves.
func TestEVT2AndEVT21(t *testing.T) {
	got, report, err := read("a.raw", words("% evt 2.0\n% geometry 100x50\n% end\n",
		uint32(1<<28|7), 8<<28|(1<<28-1), 1<<28|63<<22|99<<11|49, 10<<28, 8<<28, 0<<28|1<<22|99<<11|49, 100<<11),
		DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, []Event{{1<<34 - 1, 99, 49, 1}, {1<<34 + 1, 99, 49, 0}}, got.Events[:2])
	assert.Equal(t, []int64{1, 1, 1, 1}, []int64{report.Undefined, report.Other, report.Overflows, report.Outside})

	list := []uint64{1 << 60, 8<<60 | 2<<32, 1<<60 | 5<<54 | 32<<43 | 9<<32 | 1<<31 | 1<<4 | 1, 14 << 60}
	want := []Event{{133, 32, 9, 1}, {133, 36, 9, 1}, {133, 63, 9, 1}}
	got, report, err = read("a.raw", words("% evt 2.1\n% end\n", list...), DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, want, got.Events)
	assert.Equal(t, []int64{0, 1}, []int64{report.Undefined, report.Other})
	for i, w := range list {
		list[i] = w<<32 | w>>32
	}
	got, _, err = read("a.raw", words("% format EVT21;endianness=legacy;width=64;height=10\n% end\n", list...), DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, want, got.Events)
	assert.Equal(t, []int{64, 10}, []int{got.Width, got.Height})
	cfg := DefaultConfig()
	cfg.Format = EVT21Legacy // the header does not say
	got, _, err = read("a.raw", words("% evt 2.1\n% end\n", list...), cfg)
	require.NoError(t, err)
	assert.Equal(t, want, got.Events)
}

// naiveEVT3 decodes words one at a time, by the description of the format.
func naiveEVT3(list []uint16) (events []Event, undefined, other, overflows int64) {
	high, low, y, x, loops, pol := -1, 0, -1, -1, 0, uint8(0)
	put := func(x int, p uint8) {
		if high < 0 || y < 0 {
			undefined++
			return
		}
		events = append(events, Event{int64(loops)<<24 + int64(high)<<12 + int64(low), uint16(x), uint16(y), p})
	}
	for _, w := range list {
		v := int(w & 0xfff)
		switch w >> 12 {
		case 0:
			y = v & 0x7ff
		case 2:
			put(v&0x7ff, uint8(v>>11))
		case 3:
			x, pol = v&0x7ff, uint8(v>>11)
		case 4, 5:
			width := map[uint16]int{4: 12, 5: 8}[w>>12]
			for k := range width {
				if v>>k&1 == 1 {
					if x < 0 {
						undefined++
					} else {
						put(x+k, pol)
					}
				}
			}
			if x >= 0 {
				x += width
			}
		case 6:
			if high >= 0 {
				low = v
			}
		case 8:
			if high >= 0 && v < high && high-v >= 2048 {
				loops++
				overflows++
			}
			if v != high {
				low = 0
			}
			high = v
		default:
			other++
		}
	}
	return
}

// EVT 3 in any order of words, over several fillings of the buffers. Steps back in time are kept
// out of the test by a decoder without a reader around it. Nothing is written behind dst.
func TestEVT3Words(t *testing.T) {
	bothLevels(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
			kinds := []uint16{2, 0, 6, 2, 3, 4, 5, 2, 8, 10, 7, 15}[:rapid.IntRange(1, 12).Draw(t, "kinds")]
			n := rapid.SampledFrom([]int{1, 10, 1000, 200_000}).Draw(t, "n")
			list := []uint16{0x8002, 0x0003, 0x3004}[:rapid.IntRange(0, 3).Draw(t, "begun")]
			for range n {
				list = append(list, kinds[r.IntN(len(kinds))]<<12|uint16(r.IntN(1<<12)))
			}
			want, undefined, other, overflows := naiveEVT3(list)
			b := words("", list...)
			report := &Report{}
			d, in := newEVT3(report), newInput(bytes.NewReader(b), int64(len(b)))
			var got []Event
			dst, guard := guarded(r, 12+r.IntN(2000))
			before := slices.Clone(guard)
			for {
				k, err := d.decode(in, dst)
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				got = append(got, dst[:k]...)
			}
			require.Equal(t, before, guard)
			require.Equal(t, len(want), len(got))
			for i := range want {
				if want[i] != got[i] {
					require.Equal(t, want[i], got[i], "event %d", i)
				}
			}
			require.Equal(t, Report{Undefined: undefined, Other: other, Overflows: overflows}, *report)
		})
	})
}

// Errors of headers and configurations name the value and what was expected.
func TestBadHeaders(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"a.txt", "hello", "a.txt, read as : byte 0: no known format of events"},
		{"a.aedat", "#!AER-DAT1.0\r\n", `want version 2, 3.1 or 4 of AEDAT`},
		{"a.aedat", "#!AER-DAT2.0\r\n# AEChip: x.y.Cochlea\r\n", `camera "x.y.Cochlea" in the header, want a DVS128 or a DAVIS`},
		{"a.aedat", "#!AER-DAT3.1\r\n#Format: SerializedTS\r\n#!END-HEADER\r\n", `format "SerializedTS" of packets in the header, want RAW`},
		{"a.aedat", "#!AER-DAT3.1\r\n", "want the line #!END-HEADER"},
		{"a.raw", "% evt 4.0\n% end\n", `version "4.0" in the header, want EVT2, EVT21 or EVT3`},
		{"a.raw", "% format EVT3;width=0\n% end\n", `size "0" of the sensor in the header, want 1 to 65536`},
		{"a.raw", "% Date 2026\n% end\n", "a header that names no format"},
		{"a.raw", "% evt 3.0", "the file ends within its header"},
		{"a.raw", "% format EVT21;endianness=big\n% end\n", `endianness "big" in the header, want little or legacy`},
		{"a.dat", "% Version 3\n", `version "3" in the header, want 1 or 2`},
		{"a.dat", "% Version 2\n\x0e\x08", "events of type 14 and 8 bytes, want CD events"},
		{"a.dat", "", "byte 0: an empty file"},
		{"a.aedat4", "#!AER-DAT4.0\r\n\x08\x00\x00\x00\x10\x00\x00\x00IOHE", "a flatbuffer with an offset outside of its 8 bytes"},
		{"a.npz", "PK\x03\x04", "want a NumPy archive"},
	} {
		_, _, err := read(c.name, []byte(c.content), DefaultConfig())
		var e *Error
		require.ErrorAs(t, err, &e, c.content)
		require.Equal(t, c.name, e.Name)
		require.ErrorContains(t, err, c.want)
	}
	for want, change := range map[string]func(*Config){
		`Config.Format is "evt4"`:                     func(c *Config) { c.Format = "evt4" },
		"Config.Width and Config.Height are 3 and 0":  func(c *Config) { c.Width = 3 },
		"Config.Window is -1, want 0 to 1048576":      func(c *Config) { c.Window = -1 },
		"Config.PacketBytes is 0, want 1 to ":         func(c *Config) { c.PacketBytes = 0 },
		"Config.Width and Config.Height are -1 and 4": func(c *Config) { c.Width, c.Height = -1, 4 },
	} {
		cfg := DefaultConfig()
		change(&cfg)
		_, _, err := read("a.bin", nil, cfg)
		require.ErrorContains(t, err, want)
	}
	_, err := Open(filepath.Join(t.TempDir(), "none.bin"), DefaultConfig())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(t.TempDir(), DefaultConfig())
	require.ErrorContains(t, err, "is a folder")
	cfg := DefaultConfig()
	cfg.Format = EVT2
	_, _, err = read("a.raw", []byte("% evt 3.0\n% end\n"), cfg)
	require.ErrorContains(t, err, "the header says evt3")
}

// A packet larger than the limit is refused, and the size of the sensor bounds events.
func TestLimits(t *testing.T) {
	for _, name := range []string{"dv-none.aedat4", "dv-lz4.aedat4", "dv-zstd.aedat4", "faery.aedat4"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		cfg := DefaultConfig()
		cfg.PacketBytes = 1500
		_, _, err = read(name, b, cfg)
		require.ErrorContains(t, err, "Config.PacketBytes", name)
	}
	cfg := DefaultConfig()
	cfg.Width, cfg.Height = 20, 10
	got, report, err := ReadAll("testdata/nmnist.bin", cfg)
	require.NoError(t, err)
	var want []Event
	all := readCSV(t, "testdata/nmnist.bin.csv")
	for _, e := range all {
		if e.X < 20 && e.Y < 10 {
			want = append(want, e)
		}
	}
	assert.Equal(t, want, got.Events)
	assert.Equal(t, int64(len(all)-len(want)), report.Outside)
	assert.Contains(t, report.String(), fmt.Sprintf("sensor of 20×10, 2 overflows of time added, %d events outside the sensor dropped", report.Outside))
}

// repeated is a file that repeats a part.
type repeated struct {
	head, part []byte
	size       int64
}

func (r repeated) ReadAt(p []byte, at int64) (int, error) {
	n := 0
	for n < len(p) && at < r.size {
		var k int
		if at < int64(len(r.head)) {
			k = copy(p[n:], r.head[at:])
		} else {
			k = copy(p[n:min(int64(len(p)), int64(n)+r.size-at)], r.part[(at-int64(len(r.head)))%int64(len(r.part)):])
		}
		n += k
		at += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// aedat4File returns the header of a plain file of AEDAT 4 without a data table, and a packet of n
// events at 5 µs in the top left corner.
func aedat4File(n int) [2][]byte {
	b := flatbuffers.NewBuilder(0)
	text := b.CreateString(`<dv><node name="outInfo"><node name="0"><attr key="typeIdentifier">EVTS</attr></node></node></dv>`)
	b.StartObject(3)
	b.PrependInt64Slot(1, -1, 0)
	b.PrependUOffsetTSlot(2, text, 0)
	b.FinishWithFileIdentifier(b.EndObject(), []byte("IOHE"))
	head := binary.LittleEndian.AppendUint32([]byte("#!AER-DAT4.0\r\n"), uint32(len(b.FinishedBytes())))
	head = append(head, b.FinishedBytes()...)
	b = flatbuffers.NewBuilder(0)
	b.StartVector(16, n, 8)
	for range n {
		b.Prep(8, 16)
		b.PlaceUint64(0)
		b.PlaceInt64(5)
	}
	events := b.EndVector(n)
	b.StartObject(1)
	b.PrependUOffsetTSlot(0, events, 0)
	b.FinishSizePrefixedWithFileIdentifier(b.EndObject(), []byte("EVTS"))
	packet := binary.LittleEndian.AppendUint64(nil, uint64(len(b.FinishedBytes()))<<32)
	return [2][]byte{head, append(packet, b.FinishedBytes()...)}
}

// A packet that claims more events than it has is an error. What follows it are no events.
func TestAEDAT4CountOfAPacket(t *testing.T) {
	const n = 77
	file := aedat4File(n)
	count := binary.LittleEndian.AppendUint32(nil, n)
	require.Equal(t, 1, bytes.Count(file[1], count))
	wrong := bytes.Replace(file[1], count, binary.LittleEndian.AppendUint32(nil, n+1), 1)
	got, _, err := read("a.aedat4", slices.Concat(file[0], file[1], wrong, file[1]), DefaultConfig())
	require.ErrorContains(t, err, fmt.Sprintf("byte %d: a flatbuffer with an offset outside", len(file[0])+len(file[1])))
	require.Len(t, got.Events, n)
}

// The memory of a reader does not depend on the size of the file.
func TestMemoryDoesNotGrow(t *testing.T) {
	var row []uint16
	for y := range uint16(400) {
		row = append(row, y, 0x3000, 0x4fff, 0x50ff, 0x2001)
	}
	size := int64(128 << 20)
	if testing.Short() {
		size = 16 << 20
	}
	files := map[string]repeated{
		"a.bin":    {nil, writeNMNIST([]Event{{1, 2, 3, 1}, {1, 3, 3, 0}}), size},
		"b.raw":    {words("% evt 3.0\n% end\n", uint16(0x8001)), words("", row...), size},
		"c.dat":    {[]byte("\x0c\x08"), make([]byte, 8), size},
		"d.aedat4": {aedat4File(4000)[0], aedat4File(4000)[1], size},
	}
	for name, f := range files {
		f.size -= (f.size - int64(len(f.head))) % int64(len(f.part))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := NewReader(name, f, f.size, DefaultConfig())
		require.NoError(t, err)
		n := 0
		for {
			events, err := r.Next()
			n += len(events)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
		}
		runtime.ReadMemStats(&after)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), name)
		least := size / 10
		if name == "d.aedat4" {
			least = size / 17 // 16 bytes an event
		}
		assert.Greater(t, n, int(least), name)
		assert.Equal(t, f.size, r.Report().Bytes)
	}
}

// mutate changes a file at random: bytes, numbers of 4 bytes, and parts that are removed, repeated
// or moved.
func mutate(b []byte, r *rand.Rand) []byte {
	b = slices.Clone(b)
	for range 1 + r.IntN(4) {
		if len(b) == 0 {
			return b
		}
		i := r.IntN(len(b))
		if r.IntN(3) > 0 { // headers are short, and matter
			i = r.IntN(min(len(b), 200))
		}
		switch n := min(1+r.IntN(64), len(b)-i); r.IntN(7) {
		case 0:
			b[i] ^= 1 << r.IntN(8)
		case 1:
			b[i] = byte(r.Uint32())
		case 2:
			if len(b)-i >= 4 {
				v := []uint32{0, 1, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, uint32(len(b)), r.Uint32()}[r.IntN(8)]
				binary.LittleEndian.PutUint32(b[i:], v)
			}
		case 3:
			b = b[:i]
		case 4:
			b = slices.Delete(b, i, i+n)
		case 5:
			b = slices.Insert(b, i, b[i:i+n]...)
		case 6:
			copy(b[i:], b[r.IntN(len(b)):])
		}
	}
	return b
}

// check reads a file of arbitrary content. Times do not decrease, events are inside the sensor, and
// an error names a byte of the file.
func checkAny(t testing.TB, name string, b []byte, cfg Config) {
	r, err := NewReader(name, bytes.NewReader(b), int64(len(b)), cfg)
	n, last := int64(0), int64(-1<<63)
	for err == nil {
		var events []Event
		if events, err = r.Next(); err == nil {
			require.NotEmpty(t, events)
		}
		w, h := r.Size()
		for _, e := range events {
			if e.T < last || e.P > 1 || w > 0 && (int(e.X) >= w || int(e.Y) >= h) {
				require.FailNow(t, "wrong event", "%+v after %d, sensor of %d×%d", e, last, w, h)
			}
			last = e.T
		}
		if n += int64(len(events)); n > 1<<22 {
			return // a small file can hold many
		}
	}
	if r != nil {
		require.Equal(t, n, r.Report().Events)
	}
	var e *Error
	if err != io.EOF {
		require.ErrorAs(t, err, &e)
		require.True(t, e.Part != "" || e.Offset >= 0 && e.Offset <= int64(len(b)), "%v", err)
		require.True(t, strings.Contains(err.Error(), name))
	}
}

// anyConfig is the configuration of tests on arbitrary files, whose formats are fixed.
func anyConfig(f Format) Config {
	cfg := DefaultConfig()
	cfg.Format, cfg.PacketBytes = f, 1<<20
	return cfg
}

// A changed file is read without a panic, and without much more memory than a valid one takes.
// The flag -mutations sets the number of files of each format.
func TestMutations(t *testing.T) {
	count := *mutations
	if testing.Short() {
		count = min(count, 200)
	}
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	seeds := map[Format][][]byte{}
	for name, want := range goldenFiles {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		seeds[want.Format] = append(seeds[want.Format], b)
	}
	var list21 []uint64
	for i := range uint64(50) {
		list21 = append(list21, 8<<60|i<<32, 1<<60|i<<54|i<<43|i<<32|0xf0f0)
	}
	seeds[EVT21] = append(seeds[EVT21], words("% format EVT21;endianness=little;width=640;height=480\n% end\n", list21...))
	seeds[EVT21Legacy] = seeds[EVT21]
	for _, format := range Formats() {
		if *mutationFormat != "" && *mutationFormat != string(format) {
			continue
		}
		r := rand.New(rand.NewPCG(uint64(*mutationSeed), 21))
		var most uint64
		for i := range count {
			b := mutate(seeds[format][i%len(seeds[format])], r)
			metrics.Read(sample)
			before := sample[0].Value.Uint64()
			checkAny(t, "mutated", b, anyConfig(format))
			metrics.Read(sample)
			most = max(most, sample[0].Value.Uint64()-before)
		}
		t.Logf("%s: %d inputs, at most %d KiB allocated for one", format, count, most>>10)
		require.Less(t, most, uint64(24<<20), format)
	}
}
