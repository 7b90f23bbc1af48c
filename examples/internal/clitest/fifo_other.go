//go:build !unix

package clitest

import "testing"

// FIFO makes a named pipe that nobody writes to. It skips the test where there are none.
func FIFO(t *testing.T, _ string) { t.Skip("the system has no named pipes among files") }
