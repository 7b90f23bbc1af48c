// Package clitest runs the examples in their tests as a user does, as processes of their
// own.
package clitest

import (
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/org/snnrat/internal/racetest"

	"github.com/stretchr/testify/require"
)

// variable says, in a test binary's environment, that it is the program.
const variable = "SNNRAT_EXAMPLE"

// Main is a TestMain: it runs the program's main function if Command started the
// binary, and else the tests.
func Main(m *testing.M, main func()) {
	if os.Getenv(variable) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Command returns the program with these arguments, to be started.
func Command(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), variable+"=1")
	return c
}

// Run runs the program.
func Run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	c := Command(args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// Battery returns what a test gives the flag -battery: "quick", or "none" in short mode, since
// batteries are slow under the race detector.
func Battery() string {
	if testing.Short() {
		return "none"
	}
	return "quick"
}

// Kills returns how many times a test kills the program: what SNNRAT_KILLS says, or 10. The test
// is racetest.Costly.
func Kills(t *testing.T) int {
	t.Helper()
	racetest.Costly(t)
	if n, err := strconv.Atoi(os.Getenv("SNNRAT_KILLS")); err == nil {
		return n
	}
	return 10
}

// ChangeBits calls refused 300 times, or 5 in short mode, each time with one other bit of the
// file changed, but for the last byte. refused returns the error of reading the file, which must name it. The
// file has its own content again afterwards.
func ChangeBits(t *testing.T, path string, refused func() error) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, os.WriteFile(path, b, 0o644)) }()
	r := rand.New(rand.NewPCG(3, 4))
	times := 300
	if testing.Short() {
		times = 5
	}
	for range times {
		changed := bytes.Clone(b)
		at := r.IntN(len(b) - 1)
		changed[at] ^= 1 << r.IntN(7)
		require.NoError(t, os.WriteFile(path, changed, 0o644))
		require.ErrorContains(t, refused(), path, "byte %d: %q", at, changed[at])
	}
}

// Kill runs the program and kills it, as kill -9 does, once the names of the files below
// folder have changed so many times. A file that is written changes them twice: it gets
// a temporary name, and then its own. It reports whether the program was killed; else it
// ended before, with code.
func Kill(t *testing.T, folder string, changes int, args ...string) (killed bool, stderr string, code int) {
	t.Helper()
	var errs bytes.Buffer
	c := Command(args...)
	c.Stderr = &errs
	last := names(folder)
	require.NoError(t, c.Start())
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return false, errs.String(), c.ProcessState.ExitCode()
		case <-time.After(50 * time.Microsecond):
		}
		now := names(folder)
		if now != last {
			changes--
		}
		if last = now; changes <= 0 {
			_ = c.Process.Kill()
			<-ended
			// It may have ended by itself just before.
			return c.ProcessState.ExitCode() != 0, errs.String(), c.ProcessState.ExitCode()
		}
	}
}

// names returns the names of the files below a folder.
func names(folder string) string {
	var b strings.Builder
	_ = filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		b.WriteString(path + "\n")
		return nil // a file may be gone meanwhile
	})
	return b.String()
}

// WriteIDX writes a file of bytes in MNIST's layout.
func WriteIDX(t *testing.T, path string, data []byte, dims ...int) {
	t.Helper()
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	require.NoError(t, os.WriteFile(path, append(b, data...), 0o644))
}

// Stopper is a writer that ends a context when Text is written.
type Stopper struct {
	Text string
	Stop context.CancelFunc
}

// Write implements io.Writer.
func (s Stopper) Write(b []byte) (int, error) {
	if strings.Contains(string(b), s.Text) {
		s.Stop()
	}
	return len(b), nil
}
