// Package parallel splits independent work over goroutines.
package parallel

import (
	"runtime"
	"sync"
	"sync/atomic"
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
func For(threads, n int, fn func(i int)) {
	threads = min(Threads(threads), n)
	if threads <= 1 {
		for i := range n {
			fn(i)
		}
		return
	}
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			fn(i)
		}
	}
	var wg sync.WaitGroup
	for range threads - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}
