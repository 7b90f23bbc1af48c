package event

import (
	"fmt"
	"strings"
)

// Event is a change of brightness at one pixel.
type Event struct {
	T    int64  // time in µs
	X, Y uint16 // column and row; 0, 0 is the top left pixel
	P    uint8  // polarity: 1 for brighter (ON), 0 for darker (OFF)
}

// Recording is the events of one example, in the order of time.
type Recording struct {
	Events        []Event
	Width, Height int // of the sensor, in pixels; 0 if unknown
}

// Format is a format of files of events.
type Format string

// The formats. The page docs/events.md describes what is read of each.
const (
	NMNIST      Format = "nmnist"       // 5 bytes an event: N-MNIST, N-Caltech101 (.bin)
	AEDAT2      Format = "aedat2"       // jAER: DVS128 and DAVIS (.aedat)
	AEDAT3      Format = "aedat3.1"     // cAER: DVS128 Gesture (.aedat)
	AEDAT4      Format = "aedat4"       // DV (.aedat4)
	EVT2        Format = "evt2"         // Prophesee RAW (.raw)
	EVT21       Format = "evt2.1"       // Prophesee RAW, 64-bit little-endian words (.raw)
	EVT21Legacy Format = "evt2.1legacy" // the same with the two halves of each word exchanged (.raw)
	EVT3        Format = "evt3"         // Prophesee RAW (.raw)
	DAT         Format = "dat"          // Prophesee (.dat)
	NPZ         Format = "npz"          // a NumPy archive with arrays t, x, y and p (.npz)
)

// Formats lists the formats.
func Formats() []Format {
	return []Format{NMNIST, AEDAT2, AEDAT3, AEDAT4, EVT2, EVT21, EVT21Legacy, EVT3, DAT, NPZ}
}

// Report says what a [Reader] has made of a file so far. Its counts are of events, except where
// stated.
type Report struct {
	Format        Format
	Width, Height int   // of the sensor, in pixels; 0 if unknown
	Bytes         int64 // read
	Events        int64 // decoded and kept

	// Repaired:
	Overflows int64 // markers and overflows of the time counter that were added to the times that follow
	Reordered int64 // events that came after a later one and were put in their place

	// Dropped:
	Outside   int64 // events outside the sensor
	Invalid   int64 // events that the file marks as invalid
	Padding   int64 // empty places of packets
	Undefined int64 // events before the words that give their time, row or column

	// Skipped:
	Other int64 // words or packets of other kinds, such as triggers, frames and other streams
}

// String returns the report in one line. It leaves out counts of zero.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d events in %d bytes", r.Format, r.Events, r.Bytes)
	if r.Width > 0 {
		fmt.Fprintf(&b, ", sensor of %d×%d", r.Width, r.Height)
	}
	for _, c := range []struct {
		n    int64
		what string
	}{
		{r.Overflows, "overflows of time added"}, {r.Reordered, "events put in order"},
		{r.Outside, "events outside the sensor dropped"}, {r.Invalid, "invalid events dropped"},
		{r.Padding, "places of padding dropped"}, {r.Undefined, "events without time or place dropped"},
		{r.Other, "words or packets of other kinds skipped"},
	} {
		if c.n > 0 {
			fmt.Fprintf(&b, ", %d %s", c.n, c.what)
		}
	}
	return b.String()
}

// add adds the counts of o.
func (r *Report) add(o Report) {
	r.Bytes += o.Bytes
	r.Events += o.Events
	r.Overflows += o.Overflows
	r.Reordered += o.Reordered
	r.Outside += o.Outside
	r.Invalid += o.Invalid
	r.Padding += o.Padding
	r.Undefined += o.Undefined
	r.Other += o.Other
}

// Error is the error of a file that is not as its format requires.
type Error struct {
	Name   string // of the file
	Format Format
	Offset int64  // byte of the file at which it was found
	Part   string // what the offset counts from, if not the beginning of the file
	Err    error  // what was wrong, and what was expected
}

// Error returns the file, the format, the offset and the cause.
func (e *Error) Error() string {
	of := ""
	if e.Part != "" {
		of = " of " + e.Part
	}
	return fmt.Sprintf("event: %s, read as %s: byte %d%s: %v", e.Name, e.Format, e.Offset, of, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
