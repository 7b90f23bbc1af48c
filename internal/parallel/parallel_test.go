package parallel_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/internal/parallel"
)

// Every index is covered once.
func TestForCoversEveryIndexOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		threads := rapid.IntRange(-1, 9).Draw(t, "threads")
		calls := make([]int, n)
		parallel.For(threads, n, func(i int) { calls[i]++ })
		for i, c := range calls {
			require.Equal(t, 1, c, "index %d", i)
		}
	})
}

// tally is a Worker that counts the calls for each index.
type tally struct {
	calls []int
	shift int
}

func (w tally) Do(i int) { w.calls[i] += w.shift }

// Run and With do what For does.
func TestRunCoversEveryIndexOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		threads := rapid.IntRange(-1, 9).Draw(t, "threads")
		w := tally{make([]int, n), 1}
		parallel.Run(threads, n, w)
		parallel.With(threads, n, w, func(w tally, i int) { w.calls[i] += 2 })
		for i, c := range w.calls {
			require.Equal(t, 3, c, "index %d", i)
		}
	})
}

// With one thread, Run and With allocate nothing.
func TestRunAllocatesNothing(t *testing.T) {
	w := tally{make([]int, 10), 1}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		parallel.Run(1, 10, w)
		parallel.With(1, 10, w, func(w tally, i int) { w.calls[i] += w.shift })
	}))
}

// No more than the threads asked for run at a time, and no goroutine stays
// (Eventually has one of its own).
func TestForBoundsItsGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, threads := range []int{1, 2, 5} {
		var running, most atomic.Int64
		parallel.For(threads, 200, func(int) {
			now := running.Add(1)
			for {
				m := most.Load()
				if now <= m || most.CompareAndSwap(m, now) {
					break
				}
			}
			runtime.Gosched()
			running.Add(-1)
		})
		assert.LessOrEqual(t, most.Load(), int64(threads))
	}
	assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, time.Second, time.Millisecond)
}

// Loops within loops, from several goroutines, with and without pauses that helpers
// do not wait for, share helpers without mixing up calls.
func TestForNestedAndConcurrent(t *testing.T) {
	for _, procs := range []int{1, 2, 4} {
		old := runtime.GOMAXPROCS(procs)
		parallel.For(4, 4, func(int) {
			for round := range 60 {
				var calls [30]atomic.Int64
				parallel.For(1+round%3, 3, func(i int) {
					parallel.For(3, 10, func(j int) { calls[10*i+j].Add(1) })
				})
				for i := range calls {
					assert.Equal(t, int64(1), calls[i].Load())
				}
				if round%20 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
		runtime.GOMAXPROCS(old)
	}
}

// A warm loop allocates nothing but the closure of its caller.
func TestForAllocatesNothing(t *testing.T) {
	var sum atomic.Int64
	fn := func(i int) { sum.Add(int64(i)) }
	assert.Less(t, testing.AllocsPerRun(100, func() { parallel.For(2, 50, fn) }), 2.0)
}

// All calls have returned when For does, also those that others began.
func TestForWaits(t *testing.T) {
	for range 10 {
		var returned atomic.Int64
		parallel.For(4, 4, func(i int) {
			time.Sleep(time.Duration(i) * time.Millisecond)
			returned.Add(1)
		})
		require.Equal(t, int64(4), returned.Load())
	}
}

// A panic in any call reaches the caller of For, once the others have returned, and
// leaves the helpers fit for the next loop.
func TestForPassesPanicsOn(t *testing.T) {
	for _, threads := range []int{1, 2, 4} {
		for i := range 8 {
			var running atomic.Int64
			assert.PanicsWithValue(t, "boom", func() {
				parallel.For(threads, 8, func(k int) {
					running.Add(1)
					defer running.Add(-1)
					runtime.Gosched()
					if k == i {
						panic("boom")
					}
				})
			}, "threads %d, call %d", threads, i)
			assert.Zero(t, running.Load())
			var calls atomic.Int64
			parallel.For(threads, 100, func(int) { calls.Add(1) })
			assert.Equal(t, int64(100), calls.Load())
		}
	}
}

// A call that ends its goroutine, as a test's FailNow does, does not leave For waiting.
func TestForSurvivesGoexit(t *testing.T) {
	for i := range 4 {
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			parallel.For(4, 4, func(k int) {
				if k == i {
					runtime.Goexit()
				}
				time.Sleep(time.Millisecond)
			})
			t.Error("For returned")
		}()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("For waits for a goroutine that has ended")
		}
	}
}

// Two calls meet only if they run at the same time.
func TestForRunsAtTheSameTime(t *testing.T) {
	met := make(chan struct{})
	parallel.For(2, 2, func(i int) {
		patience := time.After(10 * time.Second)
		send, receive := met, met
		if i == 0 {
			receive = nil
		} else {
			send = nil
		}
		select {
		case send <- struct{}{}:
		case <-receive:
		case <-patience:
			t.Error("the other call has not begun")
		}
	})
}

func TestThreads(t *testing.T) {
	assert.Equal(t, 3, parallel.Threads(3))
	for _, n := range []int{0, -1} {
		assert.Equal(t, runtime.GOMAXPROCS(0), parallel.Threads(n))
	}
}

// Loops of 16 pieces, one after the other.
func BenchmarkFor(b *testing.B) {
	for _, size := range []int{100, 1000, 10000} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("piece=%d/threads=%d", size, threads), func(b *testing.B) {
				for b.Loop() {
					parallel.For(threads, 16, func(int) {
						x := 1.0
						for range size {
							x *= 0.999
						}
						runtime.KeepAlive(x)
					})
				}
			})
		}
	}
}

// After a panic, the other goroutines begin no more calls.
func TestForStopsAfterPanic(t *testing.T) {
	const n = 2000
	var calls atomic.Int64
	assert.PanicsWithValue(t, "boom", func() {
		parallel.For(2, n, func(i int) {
			calls.Add(1)
			if i == 0 {
				panic("boom")
			}
			time.Sleep(100 * time.Microsecond)
		})
	})
	assert.Less(t, calls.Load(), int64(n/2))
}
