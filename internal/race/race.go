//go:build race

// Package race tells whether the race detector is on. It makes atomic operations slow, and
// sync.Pool drop what it is given at random, so that numbers of allocations say nothing.
package race

// Enabled reports whether the race detector is on.
const Enabled = true
