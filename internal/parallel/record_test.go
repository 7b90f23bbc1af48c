package parallel_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/parallel"
)

// busy works in proportion to d, and for at most about d. It counts, since a clock also runs while
// another program has the processor.
func busy(d time.Duration) {
	for range int64(d) {
	}
}

// A recording has the loops with several threads, with all of their units. Work between them is
// serial, and so is a loop with one thread.
func TestRecord(t *testing.T) {
	calls := make([]int, 5)
	r := parallel.Record(func() {
		busy(20 * time.Millisecond)
		parallel.For(8, len(calls), func(i int) {
			calls[i]++
			busy(time.Duration(i) * 4 * time.Millisecond)
		})
		parallel.For(1, 3, func(int) {})
	})
	assert.Equal(t, []int{1, 1, 1, 1, 1}, calls)
	require.Len(t, r.Loops, 1)
	require.Len(t, r.Loops[0].Units, len(calls))
	var sum time.Duration
	for i, d := range r.Loops[0].Units {
		sum += d
		if i > 0 {
			assert.Positive(t, d)
		}
	}
	assert.Equal(t, r.Loops[0].Work, sum)
	assert.Positive(t, r.Serial)
	calls[0] = 0
	parallel.For(2, 1, func(int) { calls[0]++ }) // as before
	assert.Equal(t, 1, calls[0])
}

// A unit with a loop of its own takes as long as that loop on its threads.
func TestRecordNested(t *testing.T) {
	r := parallel.Record(func() {
		parallel.For(2, 2, func(int) {
			parallel.For(4, 4, func(int) { busy(20 * time.Millisecond) })
		})
	})
	require.Len(t, r.Loops, 1)
	l := r.Loops[0]
	require.Len(t, l.Units, 2)
	assert.Less(t, l.Units[0]+l.Units[1], l.Work/2) // a quarter, but for noise
	assert.Greater(t, l.Units[0], l.Work/16)
}

func TestMakespan(t *testing.T) {
	units := []time.Duration{3, 1, 1, 1, 4}
	for n, want := range map[int]time.Duration{1: 10, 2: 7, 3: 5, 4: 5, 5: 4, 64: 4} {
		assert.Equal(t, want, parallel.Makespan(units, n), "%d cores", n)
	}
	assert.Zero(t, parallel.Makespan(nil, 2))
}
