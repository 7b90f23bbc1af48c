// Package parallel splits independent work over goroutines.
package parallel

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/org/snnrat/internal/race"
)

// Threads returns n, or GOMAXPROCS if n is not positive.
func Threads(n int) int {
	if n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

// For calls fn(i) once for every i in [0, n) from at most Threads(threads)
// goroutines, in no fixed order, and returns when all calls have. The calls must
// not depend on each other: results are then the same at any number of threads.
//
// If a call panics, For stops handing out calls, waits for those that run, and panics
// with the same value on the caller's goroutine. If several panic, it takes one of
// their values. A call that ends its goroutine by runtime.Goexit counts as a panic.
//
// The goroutines stay for a moment, since loops come one after the other: it can
// take a sleeping processor 100 µs to begin.
func For(threads, n int, fn func(i int)) {
	threads = min(Threads(threads), n)
	if threads <= 1 {
		for i := range n {
			fn(i)
		}
		return
	}
	if r := recording.Load(); r != nil {
		r.run(threads, n, fn)
		return
	}
	l := loops.Get().(*loop)
	l.fn, l.n = fn, int64(n)
	l.next.Store(0)
	l.running.Store(int64(threads))
	l.asleep.Store(int64(threads - 1))
	l.wake()
	defer l.finish() // also if a call on this goroutine ends it
	l.work()
}

// Worker is work in parts that do not depend on each other.
type Worker interface {
	// Do does part i of the work.
	Do(i int)
}

// Run calls w.Do(i) as For calls fn(i). With one thread it allocates no memory. W is a
// struct, which holds the variables that fn would capture: For puts fn on the heap, since it
// hands it to other goroutines.
func Run[W Worker](threads, n int, w W) {
	if min(Threads(threads), n) > 1 {
		withHelpers(threads, n, w)
		return
	}
	for i := range n {
		w.Do(i)
	}
}

// withHelpers is a function of its own because its method value puts w on the heap.
//
//go:noinline
func withHelpers[W Worker](threads, n int, w W) { For(threads, n, w.Do) }

// With is Run for a function of args. It allocates no memory with one thread if fn is a
// function literal that captures nothing.
func With[A any](threads, n int, args A, fn func(args A, i int)) {
	Run(threads, n, call[A]{args, fn})
}

type call[A any] struct {
	args A
	fn   func(args A, i int)
}

func (c call[A]) Do(i int) { c.fn(c.args, i) }

// loop is a call of For that runs.
type loop struct {
	fn      func(i int)
	n       int64
	next    atomic.Int64
	running atomic.Int64        // goroutines that have not finished, the caller included
	asleep  atomic.Int64        // those of them that have not been woken, or less than 0
	done    chan struct{}       // closed by the last of them if the caller blocks
	failure atomic.Pointer[any] // what the first call that panicked did so with
}

var loops = sync.Pool{New: func() any { return new(loop) }}

// wake wakes two helpers, if there are any to be woken. Each wakes two others, so that the time
// to wake all of them grows with the logarithm of their number.
func (l *loop) wake() {
	for range 2 {
		if l.asleep.Add(-1) < 0 {
			return
		}
		if h := helpers.pop(); h != nil {
			h.job.Store(l)
		} else {
			go new(helper).run(l)
		}
	}
}

// work makes calls until none is left or one has panicked.
func (l *loop) work() {
	completed := false
	defer func() {
		if completed {
			return
		}
		l.next.Store(l.n)
		v := recover()
		if v == nil {
			v = "parallel: a call ended its goroutine by runtime.Goexit"
		}
		l.failure.CompareAndSwap(nil, &v)
	}()
	for i := l.next.Add(1) - 1; i < l.n; i = l.next.Add(1) - 1 {
		l.fn(int(i))
	}
	completed = true
}

// finish waits for the helpers and passes a panic on.
func (l *loop) finish() {
	l.wait()
	failure := l.failure.Load()
	l.fn, l.done = nil, nil
	l.failure.Store(nil)
	loops.Put(l)
	if failure != nil {
		panic(*failure)
	}
}

// wait returns when the helpers have finished, and blocks when that takes long.
func (l *loop) wait() {
	if n := l.asleep.Swap(0); n > 0 { // nothing is left for them
		l.running.Add(-n)
	}
	if linger(func() bool { return l.running.Load() == 1 }) {
		return
	}
	l.done = make(chan struct{})
	if l.running.Add(-1) > 0 {
		<-l.done
	}
}

// helper is a goroutine that does one loop after the other.
type helper struct{ job atomic.Pointer[loop] }

func (h *helper) run(l *loop) {
	for {
		l.help()
		h.job.Store(nil)
		helpers.push(h)
		if !linger(func() bool { return h.job.Load() != nil }) && helpers.remove(h) {
			return
		}
		for h.job.Load() == nil { // it has been popped
			runtime.Gosched()
		}
		l = h.job.Load()
	}
}

// help is work on a helper's goroutine.
func (l *loop) help() {
	defer func() { // also if a call ends the goroutine
		if l.running.Add(-1) == 0 {
			close(l.done)
		}
	}()
	l.wake()
	l.work()
}

// linger waits for a condition, and returns whether it came true in about the time
// that waking a processor takes. It does not block, nor read a clock.
func linger(met func() bool) bool {
	most := 1 << 16
	if race.Enabled {
		most = 1 << 9 // an atomic read takes some 100 times as long under the race detector
	}
	for n := 1 << 8; n < most; n *= 2 {
		for range n {
			if met() {
				return true
			}
		}
		runtime.Gosched() // others may need this processor
	}
	return false
}

// stack holds the helpers that wait for a job.
type stack struct {
	mu   sync.Mutex
	free []*helper
}

var helpers stack

func (s *stack) push(h *helper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, h)
}

func (s *stack) pop() *helper {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return nil
	}
	h := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return h
}

// remove reports whether h was there.
func (s *stack) remove(h *helper) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.free, h)
	if i >= 0 {
		s.free = slices.Delete(s.free, i, i+1)
	}
	return i >= 0
}
