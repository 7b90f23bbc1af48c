package event

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/org/snnrat/internal/regular"
)

// Config says how a [Reader] reads a file.
type Config struct {
	// Format is the format of the file. "" finds it out, see [Detect].
	Format Format
	// Width and Height are the size of the sensor in pixels, at most 65536. Both are 0 for the
	// size in the file, which not every format has. They take precedence over it.
	Width, Height int
	// Window is the number of events that wait until an earlier one can no longer be expected.
	// An event that is late by no more than these is put in its place and counted. An event that
	// is later is an error. 0 makes every step back in time an error. At most 2²⁰.
	Window int
	// PacketBytes bounds the memory that one packet of an AEDAT 4 file takes. In [1, 2³⁰].
	PacketBytes int64
}

// DefaultConfig returns a window of 16384 events, and packets of up to 64 MiB.
func DefaultConfig() Config { return Config{Window: 1 << 14, PacketBytes: 64 << 20} }

// validate returns an error that names the field that is out of range.
func (c Config) validate() error {
	switch {
	case c.Format != "" && !slices.Contains(Formats(), c.Format):
		return fmt.Errorf("event: Config.Format is %q, want one of %v", c.Format, Formats())
	case c.Width < 0 || c.Height < 0 || c.Width > 1<<16 || c.Height > 1<<16 || (c.Width == 0) != (c.Height == 0):
		return fmt.Errorf("event: Config.Width and Config.Height are %d and %d, want both 0 or both 1 to %d", c.Width, c.Height, 1<<16)
	case c.Window < 0 || c.Window > 1<<20:
		return fmt.Errorf("event: Config.Window is %d, want 0 to %d", c.Window, 1<<20)
	case c.PacketBytes < 1 || c.PacketBytes > 1<<30:
		return fmt.Errorf("event: Config.PacketBytes is %d, want 1 to %d", c.PacketBytes, 1<<30)
	}
	return nil
}

// Reader reads the events of a file in the order of time, in batches. Its memory does not depend
// on the size of the file. It is for one goroutine.
type Reader struct {
	name   string
	file   io.Closer // nil if the caller owns it
	in     *input
	dec    decoder
	cfg    Config
	report Report
	w, h   uint32 // bounds of x and y

	window    int
	decoded   int64      // events of earlier calls of decode
	half      int        // events of a batch
	batch     [2][]Event // [half] each, which decode fills in turn; the first one begins smaller
	turn      int        // what decode fills next
	begun     bool       // it has filled one
	waiting   []Event    // sorted events that are not returned yet, in a batch or in merged
	merged    []Event    // buffer, once there was a late event
	delivered int64      // time of the last event that was returned
	newest    int64      // time of the latest event
	err       error      // what ends the events
}

// decoder reads the events of a format.
type decoder interface {
	// decode consumes some of the input and writes its events to dst, which has room for at least
	// those of a record. There may be none. After the last event it returns io.EOF. It returns
	// another error with the input at the record that is wrong, and no events.
	decode(in *input, dst []Event) (int, error)
	// record returns the most events of a record, and the bytes of the last one.
	record() (events, bytes int)
}

// placed is a decoder whose events have no records of their own in the file. place sets the
// Offset and the Part of the error about event i of those that decode returned last.
type placed interface{ place(e *Error, i int) }

// stream is what the decoders have in common.
type stream struct {
	events, bytes int // of a record
	report        *Report
}

func (s stream) record() (events, bytes int) { return s.events, s.bytes }

// header is what the headers of files say.
type header struct {
	given         Config
	width, height int
	report        *Report
}

// size reads an extent of the sensor.
func (h *header) size(dst *int, value string) error {
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || n < 1 || n > 1<<16 {
		return fmt.Errorf("size %q of the sensor in the header, want 1 to %d", value, 1<<16)
	}
	*dst = n
	return nil
}

// keyValue splits a line such as "% key value", without regard to the case of the key.
func keyValue(line string) (key, value string) {
	key, value, _ = strings.Cut(strings.TrimSpace(strings.TrimLeft(line, "%# ")), " ")
	return strings.ToLower(key), strings.TrimSpace(value)
}

// noData says that a file ends within its header.
func noData(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the file ends within its header: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// noEnd turns the end of a file into an error, where there must be more.
func noEnd(err error) error {
	if err == io.EOF {
		return errShort
	}
	return err
}

// Open opens a file for reading. It returns an error that names the file if it cannot be read, if
// it is not a regular file, if its format is unknown, or if its header is malformed.
func Open(path string, cfg Config) (*Reader, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	r, err := NewReader(path, f, size, cfg)
	if err != nil {
		f.Close()
		return nil, err
	}
	r.file = f
	return r, nil
}

// NewReader returns a reader of the size bytes of file, which must not change. Errors name it as
// name. The extension of name helps to find out the format. The errors are those of [Open], and
// one that names the field of cfg that is out of range.
func NewReader(name string, file io.ReaderAt, size int64, cfg Config) (*Reader, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := &Reader{name: name, in: newInput(file, size), cfg: cfg, window: cfg.Window}
	if cfg.Format == "" {
		var err error
		if cfg.Format, err = detect(name, r.in); err != nil {
			return nil, r.wrong(err)
		}
	}
	r.report.Format = cfg.Format
	h := &header{given: cfg, report: &r.report}
	if err := r.open(h, cfg.Format); err != nil {
		return nil, r.wrong(err)
	}
	if cfg.Width > 0 {
		h.width, h.height = cfg.Width, cfg.Height
	}
	r.w, r.h = 1<<16, 1<<16
	if h.width > 0 && h.height > 0 {
		r.report.Width, r.report.Height = h.width, h.height
		r.w, r.h = uint32(h.width), uint32(h.height)
	} else if f := cfg.Format; f == EVT2 || f == EVT3 || f == EVT21 || f == EVT21Legacy {
		r.w, r.h = 1<<11, 1<<11 // the formats have no larger addresses
	}
	most, _ := r.dec.record()
	r.half = max(cfg.Window, 1<<14) + most       // a full batch may lack most − 1 events
	r.batch[0] = make([]Event, max(most, 1<<10)) // enough for many files
	r.delivered, r.newest = math.MinInt64, math.MinInt64
	return r, nil
}

// open reads the header and sets the decoder.
func (r *Reader) open(h *header, f Format) (err error) {
	switch f {
	case NMNIST:
		r.dec = &nmnist{stream: stream{1, 5, h.report}}
	case AEDAT2:
		r.dec, err = newAEDAT2(r.in, h)
	case AEDAT3:
		r.dec, err = newAEDAT3(r.in, h)
	case AEDAT4:
		r.dec, err = newAEDAT4(r.in, h)
	case DAT:
		r.dec, err = newDAT(r.in, h)
	case NPZ:
		r.dec, err = newNPZ(r.in, h)
	default:
		said, err := readEVTHeader(r.in, h)
		if err != nil {
			return err
		}
		if said != "" && said != f && !(said == EVT21 && f == EVT21Legacy || said == EVT21Legacy && f == EVT21) {
			return fmt.Errorf("the header says %s", said)
		}
		switch f {
		case EVT2:
			r.dec = newEVT2(h.report)
		case EVT3:
			r.dec = newEVT3(h.report)
		default:
			r.dec = newEVT21(h.report, f == EVT21Legacy)
		}
	}
	return err
}

// wrong returns an error as an [Error] at the place where the input is.
func (r *Reader) wrong(err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.Name, e.Format = r.name, r.report.Format
		return e
	}
	return &Error{Name: r.name, Format: r.report.Format, Offset: r.in.offset(), Err: err}
}

// Close closes the file that [Open] opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Size returns the width and the height of the sensor in pixels. Both are 0 if neither the file
// nor Config has them.
func (r *Reader) Size() (width, height int) { return r.report.Width, r.report.Height }

// Report returns what has been read so far. Events that wait to be put in order count as read.
func (r *Reader) Report() Report {
	report := r.report
	report.Bytes = r.in.offset()
	return report
}

// Next returns the next events, at least one. Their times do not decrease, and are not before
// those of earlier batches. The events are in memory of the reader, and valid until the next call.
//
// After the last event, Next returns io.EOF. If the file is truncated or broken, or if an event is
// too late to be put in order, Next first returns all events before that place. It then returns
// an [Error] that names it.
func (r *Reader) Next() ([]Event, error) {
	for r.err == nil {
		var fresh, ready []Event
		var inOrder bool
		fresh, inOrder, r.err = r.fill()
		switch {
		case r.window == 0:
			ready = fresh
		case inOrder:
			ready, r.waiting = r.waiting, fresh
		default:
			ready, r.waiting = r.merge(fresh)
		}
		if len(ready) > 0 {
			return r.deliver(ready), nil
		}
	}
	if ready := r.waiting; len(ready) > 0 {
		r.waiting = nil
		return r.deliver(ready), nil
	}
	return nil, r.err
}

// deliver returns events to the caller.
func (r *Reader) deliver(ready []Event) []Event {
	r.delivered = ready[len(ready)-1].T
	return ready
}

// merge puts the waiting and the fresh events in order. Of these, the last ones wait.
func (r *Reader) merge(fresh []Event) (ready, waiting []Event) {
	n := len(r.waiting) + len(fresh)
	all := r.merged
	if len(all) < n {
		all = make([]Event, n)
	}
	copy(all[copy(all, r.waiting):], fresh) // those that wait may be in merged
	r.merged, all = all, all[:n]
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Compare(a.T, b.T) })
	k := max(0, n-r.window)
	return all[:k], all[k:]
}

// fill decodes events to the next batch until it is full or the events end. It reports whether
// they are in order, and after all earlier ones.
func (r *Reader) fill() (fresh []Event, inOrder bool, err error) {
	if r.begun && len(r.batch[r.turn]) < r.half {
		r.batch[r.turn] = make([]Event, r.half)
	}
	r.begun = true
	dst := r.batch[r.turn]
	r.turn = 1 - r.turn
	most, _ := r.dec.record()
	n, inOrder := 0, true
	for len(dst)-n >= most && err == nil {
		var got int
		// Parts that fit into the first-level cache, for check.
		if got, err = r.dec.decode(r.in, dst[n:min(len(dst), n+max(most, 1<<10))]); err != nil {
			if err != io.EOF {
				err = r.wrong(err)
			}
			break
		}
		kept, reordered, late := r.check(dst[n : n+got])
		if late < got {
			err = r.late(dst[n+late].T, late)
		}
		if reordered > 0 {
			inOrder = false
			r.report.Reordered += int64(reordered)
		}
		n += kept
		r.decoded += int64(got)
		r.report.Events += int64(kept)
	}
	return dst[:n], inOrder, err
}

// check drops events outside the sensor and moves those that it keeps to the front. It counts the
// events that came after a later one. It stops at one that is too late, or returns len(events).
func (r *Reader) check(events []Event) (kept, reordered, late int) {
	newest, floor := r.newest, r.delivered
	for kept < len(events) { // the usual case: all are kept and in order
		e := &events[kept]
		if uint32(e.X) >= r.w || uint32(e.Y) >= r.h || e.T < newest {
			break
		}
		kept += inOrder(events[kept:], r.w-1, r.h-1)
		newest = events[kept-1].T
	}
	for i := kept; i < len(events); i++ {
		e := events[i]
		if uint32(e.X) >= r.w || uint32(e.Y) >= r.h {
			r.report.Outside++
			continue
		}
		if e.T < newest {
			if r.window == 0 || e.T < floor {
				r.newest = newest
				return kept, reordered, i
			}
			reordered++
		} else {
			newest = e.T
		}
		events[kept] = e
		kept++
	}
	r.newest = newest
	return kept, reordered, len(events)
}

// inOrderPortable returns the number of events at the front, at least one, that are not earlier than
// the one before them, with x and y of at most maxX and maxY. It does not look at the first event,
// and may return fewer.
func inOrderPortable(events []Event, maxX, maxY uint32) int {
	n := 1
	for t := events[0].T; n < len(events); n++ {
		e := &events[n]
		if uint32(e.X) > maxX || uint32(e.Y) > maxY || e.T < t {
			break
		}
		t = e.T
	}
	return n
}

// late returns the error about event i, with time t, of those that the decoder returned last. It
// reads the file once more up to this event, to find its record.
func (r *Reader) late(t int64, i int) error {
	e := &Error{Name: r.name, Format: r.report.Format}
	e.Err = fmt.Errorf("an event at %d µs after one at %d µs, want times in order, or out of order by at most %d events (Config.Window)", t, r.newest, r.window)
	if d, ok := r.dec.(placed); ok {
		d.place(e, i)
		return e
	}
	again := &Reader{in: newInput(r.in.r, r.in.size)}
	if again.open(&header{given: r.cfg, report: new(Report)}, r.report.Format) != nil {
		return e // the file has changed
	}
	most, _ := again.dec.record()
	dst := make([]Event, 1<<10)
	for before := r.decoded + int64(i); before >= 0; {
		part := dst[:max(int64(most), min(int64(len(dst)), before))]
		n, err := again.dec.decode(again.in, part)
		if err != nil {
			return e
		}
		before -= int64(n)
	}
	_, bytes := again.dec.record()
	e.Offset = again.in.offset() - int64(bytes)
	return e
}

// ReadAll reads all events of a file. After an error it returns the events before it, too. An event
// takes 16 bytes of memory, and a small compressed file can hold very many. A [Reader] has a bound.
func ReadAll(path string, cfg Config) (Recording, Report, error) {
	r, err := Open(path, cfg)
	if err != nil {
		return Recording{}, Report{}, err
	}
	defer r.Close()
	return r.ReadAll()
}

// ReadAll reads the rest of the events. After an error it returns the events before it, too.
func (r *Reader) ReadAll() (Recording, Report, error) {
	var events []Event
	for {
		batch, err := r.Next()
		events = append(events, batch...)
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			w, h := r.Size()
			return Recording{events, w, h}, r.Report(), err
		}
	}
}
