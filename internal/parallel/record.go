package parallel

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Recording is the work of a part of a program, split for more threads than the machine may have
// cores: the units of its loops, and what is between loops, which is serial.
type Recording struct {
	Loops  []Loop
	Serial time.Duration

	inside *time.Duration // time that the loops within the current unit would save
}

// Loop is a call of For.
type Loop struct {
	Units []time.Duration // what each unit would take, in the order in which they are handed out
	Work  time.Duration   // what all of them took, one after the other
}

// began is when the program began.
var began = time.Now()

var recording atomic.Pointer[Recording]

// Record calls fn and returns its recording. Meanwhile every call of For with several threads
// runs its units one after the other on the caller's goroutine. A unit that has loops of its own
// would take less time than it took: see [Makespan]. Only one goroutine may call For meanwhile.
// Times are processor times on Linux, and times on the clock elsewhere.
func Record(fn func()) *Recording {
	r := new(Recording)
	runtime.LockOSThread() // see clock
	defer runtime.UnlockOSThread()
	recording.Store(r)
	defer recording.Store(nil)
	start := clock()
	fn()
	r.Serial = clock() - start
	for _, l := range r.Loops {
		r.Serial -= l.Work
	}
	return r
}

func (r *Recording) run(threads, n int, fn func(i int)) {
	l, outer := Loop{Units: make([]time.Duration, n)}, r.inside
	defer func() { r.inside = outer }()
	start := clock()
	for i := range l.Units {
		var saved time.Duration
		r.inside = &saved
		fn(i)
		now := clock() // reading it takes a while, which counts as work
		l.Work += now - start
		l.Units[i] = now - start - saved
		start = now
	}
	if outer == nil {
		r.Loops = append(r.Loops, l)
	} else {
		*outer += l.Work - Makespan(l.Units, threads)
	}
}

// Makespan returns how long the units of a loop take on n cores that take one unit after the
// other, as For's threads do.
func Makespan(units []time.Duration, n int) time.Duration {
	cores := make([]time.Duration, n)
	for _, d := range units {
		first := slices.Index(cores, slices.Min(cores))
		cores[first] += d
	}
	return slices.Max(cores)
}
