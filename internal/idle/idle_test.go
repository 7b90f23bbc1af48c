package idle_test

import (
	"runtime"
	"testing"

	"github.com/org/snnrat/internal/idle"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Memory is lent while it is offered, to one borrower at a time, the smallest first. Its owner has
// it back unless it is on loan.
func TestLoans(t *testing.T) {
	small, large := idle.New(), idle.New()
	assert.True(t, idle.Borrow(1) == nil, "nothing is offered")
	small.Offer(make([]float32, 10))
	large.Offer(make([]float32, 20))
	a := idle.Borrow(10)
	require.Same(t, small, a)
	assert.Len(t, a.Data(), 10)
	b := idle.Borrow(10)
	require.Same(t, large, b)
	assert.True(t, idle.Borrow(10) == nil, "both are on loan")
	b.Return()
	assert.True(t, idle.Borrow(21) == nil, "both are too small")
	require.Same(t, large, idle.Borrow(11))

	assert.False(t, large.Take(), "on loan")
	assert.Len(t, large.Data(), 20, "the borrower still uses it")
	a.Return()
	assert.True(t, small.Take())
	assert.True(t, idle.Borrow(1) == nil, "its owner uses it")
	runtime.KeepAlive(small)
	runtime.KeepAlive(large)
}

// What an owner drops is freed, offered or not.
func TestDroppedMemoryIsFreed(t *testing.T) {
	const mb = 1 << 20
	live := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := live()
	m := idle.New()
	m.Offer(make([]float32, 8*mb))
	require.Greater(t, live()-before, 30*mb)
	runtime.KeepAlive(m)
	m = nil
	require.Less(t, live()-before, mb)
	assert.True(t, idle.Borrow(1) == nil)
}
