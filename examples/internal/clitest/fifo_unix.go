//go:build unix

package clitest

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// FIFO makes a named pipe that nobody writes to. It skips the test where there are none.
func FIFO(t *testing.T, path string) { require.NoError(t, syscall.Mkfifo(path, 0o644)) }
