//go:build race

// Package race tells tests whether the race detector is on. It makes sync.Pool drop what
// it is given at random, so that numbers of allocations say nothing.
package race

// Enabled reports whether the race detector is on.
const Enabled = true
