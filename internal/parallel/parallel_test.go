package parallel_test

import (
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
