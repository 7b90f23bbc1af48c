// Package racetest helps tests to be quick under the race detector.
package racetest

import "testing"

// Costly skips a test in short mode, in which tests run under the race detector. It is for tests
// that are slow under it and whose concurrent code other tests of the package run as well.
func Costly(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("slow under the race detector, which sees the same code in other tests")
	}
}
