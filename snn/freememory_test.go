package snn_test

import (
	"runtime"
	"testing"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// liveHeap returns the bytes that are in use, with the pools empty.
func liveHeap() int {
	var m runtime.MemStats
	for range 3 { // a sync.Pool holds what it has for a cycle or two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A pass over one image leaves what it leaves in a new model, though a batch ran before. The
// results are the same. While passes run, the call is safe.
func TestFreeMemory(t *testing.T) {
	m := newModel(t, defaults())
	m.Threads = 1
	one, batch := images(m, 1), images(m, 1024)
	pass := func() []float32 {
		g, err := m.InputGradient(snn.Pass{}, one, func(logits []float32) []float32 { return logits })
		require.NoError(t, err)
		return g.Data
	}
	want := pass()
	first := liveHeap()
	_, err := m.InputGradient(snn.Pass{}, batch, func(logits []float32) []float32 {
		m.FreeMemory()
		return logits
	})
	require.NoError(t, err)
	assert.Equal(t, want, pass())
	const mb = 1 << 20
	left := liveHeap() - first
	require.Greater(t, left, 40*mb, "the batch is too small to tell")
	require.Greater(t, m.Peak(), 40*mb)
	m.FreeMemory()
	assert.Zero(t, m.Peak())
	assert.Equal(t, want, pass())
	assert.InDelta(t, first, liveHeap(), mb/2)

	// Without a call, passes over one image give it back in the end.
	_, err = m.InputGradient(snn.Pass{}, batch, func(logits []float32) []float32 { return logits })
	require.NoError(t, err)
	for range 65 {
		assert.Equal(t, want, pass())
	}
	kernel.FreeMemory() // the scratch memory of kernels stays
	assert.Equal(t, want, pass())
	// One slab of spikes of the smallest size stays, 1 MB.
	assert.InDelta(t, first+mb, liveHeap(), mb/2)
	runtime.KeepAlive(m)
	runtime.KeepAlive(batch)
}
