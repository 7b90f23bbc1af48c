package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/lipschitz/smooth"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// A network that was trained, and the same one read from its file, have the same certificates.
func TestRun(t *testing.T) {
	for _, method := range [][]string{
		{"-samples", "20"},
		{"-windows", "lattice", "-block", "2"},
		{"-windows", "time", "-shift", "1"},
	} {
		folder := t.TempDir()
		args := append([]string{"-images", "3", "-out", folder}, method...)
		steps := []string{"-T", "2"}
		stdout, stderr, code := clitest.Run(t, append(append(args, steps...), "-arch", "conv2 A A | fc", "-train", "100", "-epochs", "1")...)
		require.Zero(t, code, stderr)
		trained := report(t, folder)
		assert.Contains(t, stdout, trained.String())
		assert.Equal(t, 3, trained.Images)
		if method[0] != "-windows" {
			steps = nil // those of the network
		}
		_, stderr, code = clitest.Run(t, append(append(args, steps...), "-model", filepath.Join(folder, "network.safetensors"))...)
		require.Zero(t, code, stderr)
		assert.Equal(t, trained, report(t, folder))
	}
}

func report(t *testing.T, folder string) *smooth.Report {
	text, err := os.ReadFile(filepath.Join(folder, "report.json"))
	require.NoError(t, err)
	r := new(smooth.Report)
	require.NoError(t, json.Unmarshal(text, r))
	return r
}

func TestBadFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"-sigma":              {"-sigma", "0"},
		"-alpha":              {"-alpha", "1"},
		"-samples":            {"-samples", "0"},
		"-shift: expected no": {"-shift", "1"},
		"-shift: expected none with -windows rows": {"-windows", "rows", "-shift", "1"},
		"-images 5000: ":      {"-images", "5000"},
		"-sigma: expected no": {"-windows", "rows", "-sigma", "1"},
		"-block: expected no": {"-windows", "rows", "-block", "2"},
		"-T: expected none":   {"-model", "x", "-T", "2"},
		`axis "depth"`:        {"-windows", "depth", "-arch", "conv1 A A | fc", "-train", "10", "-epochs", "1", "-out", t.TempDir()},
		"-model":              {"-model", "no such file", "-out", t.TempDir()},
	} {
		_, stderr, code := clitest.Run(t, args...)
		assert.Equal(t, 1, code, "%v", args)
		assert.Contains(t, stderr, want)
	}
}

// The report has the flags. A run that was stopped leaves no report of another network.
func TestStop(t *testing.T) {
	folder := t.TempDir()
	args := []string{"-images", "3", "-out", folder, "-samples", "20", "-T", "2", "-arch", "conv2 A A | fc", "-train", "100", "-epochs", "1"}
	start := func(ctx context.Context, stdout io.Writer) error {
		o, err := parse(args, io.Discard)
		require.NoError(t, err)
		return run(ctx, o, stdout, io.Discard)
	}
	require.NoError(t, start(t.Context(), io.Discard))
	text, err := os.ReadFile(filepath.Join(folder, "report.json"))
	require.NoError(t, err)
	var r results
	require.NoError(t, json.Unmarshal(text, &r))
	assert.Equal(t, []string{"fashion-mini", "conv2 A A | fc", "100", "0.25"}, []string{r.Flags["data"], r.Flags["arch"], r.Flags["train"], r.Flags["sigma"]})
	for _, name := range []string{"out", "threads", "block", "shift"} { // which say nothing of this run
		assert.NotContains(t, r.Flags, name)
	}
	o, err := parse([]string{"-model", "x", "-windows", "time"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"model": "x", "data": "fashion-mini", "T": "4", "images": "200", "windows": "time", "size": "1", "stride": "1", "shift": "0", "seed": "1"}, o.values)
	ctx, stop := context.WithCancel(t.Context())
	require.ErrorIs(t, start(ctx, stopper(stop)), context.Canceled)
	assert.NoFileExists(t, filepath.Join(folder, "report.json"))
	assert.FileExists(t, filepath.Join(folder, "network.safetensors"))
}

// stopper ends a context at the first line.
type stopper context.CancelFunc

func (s stopper) Write(b []byte) (int, error) {
	s()
	return len(b), nil
}
