package main

import (
	"bufio"
	"context"
	"encoding/json"
	"image/gif"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// small are flags for a run that takes little time.
func small(more ...string) []string {
	return append([]string{"-T", "2", "-arch", "conv2 A | fc", "-epochs", "1", "-train", "64", "-test", "16", "-spikes", "4", "-flips", "4"}, more...)
}

func read(t *testing.T, folder string) (r results) {
	b, err := os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	return r
}

// The run writes what it prints, and the same at any number of threads.
func TestRun(t *testing.T) {
	var first results
	for k, threads := range []string{"1", "2"} {
		folder := filepath.Join(t.TempDir(), "new")
		stdout, stderr, code := clitest.Run(t, small("-out", folder, "-threads", threads, "-noise", "1", "-clip", "3")...)
		require.Zero(t, code, stderr)
		res := read(t, folder)
		assert.Contains(t, stdout, "train  64 recordings, ")
		assert.Contains(t, stdout, "│ clean ")
		assert.Contains(t, stderr, "epoch 1: loss ")
		assert.Contains(t, stderr, "reading train (")
		require.Len(t, res.Outcomes, 9)
		require.Len(t, res.Labels, 16)
		require.Equal(t, trials.Clean, res.Outcomes[0].Trial)
		for _, o := range res.Outcomes {
			require.NoError(t, o.Validate(res.Labels, 10))
		}
		assert.LessOrEqual(t, res.WorstCase, res.Outcomes[4].Accuracy)
		assert.Positive(t, res.Recordings["train"].Tally.Events)
		_, cfg, err := zoo.Load(filepath.Join(folder, "network.safetensors"))
		require.NoError(t, err)
		assert.Equal(t, []int{2, 2, 34, 34}, []int{cfg.Steps, cfg.Channels, cfg.Height, cfg.Width})
		f, err := os.Open(filepath.Join(folder, "frames.png"))
		require.NoError(t, err)
		m, err := png.Decode(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		assert.Equal(t, 2*35*2-2, m.Bounds().Dx())
		f, err = os.Open(filepath.Join(folder, "sample.gif"))
		require.NoError(t, err)
		g, err := gif.DecodeAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		assert.Len(t, g.Image, 2)
		assert.FileExists(t, filepath.Join(folder, "accuracy.png"))
		assertSpikes(t, res, folder)
		assert.Contains(t, stdout, "│ retiming, Δ = 1 ")
		assert.Contains(t, stdout, "│ changes │ proven │ under attack │")
		res.Seconds = 0
		for i := range res.Training {
			res.Training[i].Seconds, res.Training[i].ImagesPerSecond = 0, 0
		}
		if k == 0 {
			first = res
		} else {
			assert.Equal(t, first, res)
		}
	}
}

// assertSpikes asserts that what the run says about changes of spikes fits together.
func assertSpikes(t *testing.T, res results, folder string) {
	t.Helper()
	s := res.Spikes
	require.NotNil(t, s)
	assert.Equal(t, 4, s.Examples)
	assert.Equal(t, []int{1, 2, 4}, s.Counts)
	assert.Positive(t, s.Spikes)
	var names []string
	for _, a := range s.Attacks {
		names = append(names, a.Name)
		require.Len(t, a.Changes, 4)
		left := 0
		for _, k := range a.Changes {
			if k < 0 {
				left++
			}
			if a.Within != nil {
				assert.LessOrEqual(t, k, 4)
			}
		}
		assert.InDelta(t, float64(left)/4, a.Accuracy, 1e-12)
		if a.Within != nil {
			require.Len(t, a.Within, 3)
			assert.InDelta(t, a.Accuracy, a.Within[2], 1e-12)
		}
	}
	assert.Equal(t, []string{"flips", "insertions", "deletions", "best of the three", "random flips", "retiming, Δ = 1", "frame", "corner", "dash"}, names)
	for i := range s.Examples {
		for _, a := range s.Attacks[:3] {
			best := s.Attacks[3].Changes[i]
			assert.True(t, best >= 0 && (a.Changes[i] < 0 || best <= a.Changes[i]) || best < 0 && a.Changes[i] < 0)
		}
	}
	c := s.Certificate
	require.Len(t, c.Certified, 4)
	for i := range c.Changes {
		assert.LessOrEqual(t, c.Proven[i], c.Left[i])
	}
	assert.FileExists(t, filepath.Join(folder, "spikes.png"))
}

// The median counts recordings that no number of changes fooled the network with as more than any.
func TestMedian(t *testing.T) {
	assert.Equal(t, "3", median([]int{0, 3, 0, 1, 7}, "> 9"))
	assert.Equal(t, "7", median([]int{3, -1, 7, -1}, "> 9"))
	assert.Equal(t, "> 9", median([]int{3, -1, -1}, "> 9"))
	assert.Equal(t, "-", median([]int{0, 0}, "-"))
	assert.Equal(t, []int{0, 2, 4, -1}, fewest([]int{0, 3, -1, -1}, []int{0, 2, 4, -1}, []int{0, -1, 5, -1}))
}

// Without recordings for changes of spikes there are none in the results.
func TestNoSpikes(t *testing.T) {
	folder := t.TempDir()
	stdout, stderr, code := clitest.Run(t, small("-out", folder, "-spikes", "0")...)
	require.Zero(t, code, stderr)
	assert.Nil(t, read(t, folder).Spikes)
	assert.NotContains(t, stdout, "retiming")
	assert.NoFileExists(t, filepath.Join(folder, "spikes.png"))
}

// writeFolder writes files of N-MNIST's format, in which the events of class a are on the left and
// those of class b on the right. One of them marks an overflow.
func writeFolder(t *testing.T) string {
	root := t.TempDir()
	r := rng.New(1).Rand()
	for _, part := range []string{"train", "test"} {
		for class, name := range []string{"a", "b"} {
			require.NoError(t, os.MkdirAll(filepath.Join(root, part, name), 0o755))
			for i := range 12 {
				b := []byte{0, 240, 0, 0, 0}
				for k := range 80 {
					b = append(b, byte(class*17+r.IntN(17)), byte(r.IntN(34)), byte(r.IntN(2))<<7, byte(k), 0)
				}
				require.NoError(t, os.WriteFile(filepath.Join(root, part, name, string(rune('a'+i))+".bin"), b, 0o644))
			}
		}
	}
	return root
}

// A folder of files is a data set, too. What was repaired is told.
func TestFolder(t *testing.T) {
	root, out := writeFolder(t), t.TempDir()
	stdout, stderr, code := clitest.Run(t, small("-data", root, "-sensor", "34", "-split", "count", "-out", out, "-shift", "0", "-epochs", "3")...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "nmnist: 1920 events in 9720 bytes, sensor of 34×34, 24 overflows of time added")
	res := read(t, out)
	assert.Equal(t, int64(1920), res.Recordings["train"].Tally.Events)
	assert.Equal(t, 16, res.Recordings["test"].Count)
	assert.ElementsMatch(t, []int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}, res.Labels)
}

func TestErrors(t *testing.T) {
	root, out := writeFolder(t), t.TempDir()
	broken := filepath.Join(root, "train", "a", "c.bin")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-T", "1"}, `invalid value "1" for flag -T: expected a whole number in [2, 1024]`},
		{[]string{"-flips", "0"}, `invalid value "0" for flag -flips: expected a whole number in [1, 1000000]`},
		{[]string{"-split", "space"}, `-split "space": expected time or count`},
		{[]string{"-data", root, "-noise", "1"}, "-noise 1: expected it with -data simulated alone"},
		{[]string{"-data", filepath.Join(root, "none")}, "expected a folder with train and test"},
		{[]string{"-data", root}, "the recording does not say the size of its sensor"},
		{[]string{"-shift", "34"}, "-shift 34: expected at most 33 for frames of 34×34"},
		{[]string{"-arch", "conv3 |"}, `network of -arch "conv3 |"`},
		{[]string{"-sensor", "20"}, "-data simulated: event: a camera of 20×20 for data of shape"},
		{[]string{"-data", root, "-sensor", "34", "broken"}, broken + ", read as nmnist: byte 405: the file ends here, within a record"},
	} {
		if c.args[len(c.args)-1] == "broken" {
			c.args = c.args[:len(c.args)-1]
			b, err := os.ReadFile(broken)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(broken, append(b, 1), 0o644))
		}
		stdout, stderr, code := clitest.Run(t, small(append(c.args, "-out", out)...)...)
		assert.Equal(t, 1, code)
		assert.Empty(t, stdout)
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		assert.Contains(t, lines[len(lines)-1], c.want)
	}
}

// An interrupt stops the run after the step in which it comes.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent an interrupt there")
	}
	folder := t.TempDir()
	c := clitest.Command(small("-out", folder, "-epochs", "100000")...)
	pipe, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	var last string
	for lines := bufio.NewScanner(pipe); lines.Scan(); last = lines.Text() {
		if strings.HasPrefix(lines.Text(), "epoch 2:") {
			require.NoError(t, c.Process.Signal(os.Interrupt))
		}
	}
	var exit *exec.ExitError
	require.ErrorAs(t, c.Wait(), &exit)
	assert.Equal(t, 130, exit.ExitCode())
	assert.Equal(t, "events: stopped; if the training was complete, its network is in "+folder, last)
	assert.NoFileExists(t, filepath.Join(folder, "results.json"))
}

// A run that was stopped after the training leaves its network, and no results of another one.
func TestStop(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"results.json", "spikes.png"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), nil, 0o644))
	}
	o, err := parse(small("-out", folder), io.Discard)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	require.ErrorIs(t, run(ctx, o, io.Discard, stopper(stop)), context.Canceled)
	assert.FileExists(t, filepath.Join(folder, "network.safetensors"))
	assert.NoFileExists(t, filepath.Join(folder, "results.json"))
	assert.NoFileExists(t, filepath.Join(folder, "spikes.png"))
}

// stopper ends a context when an epoch is finished.
type stopper context.CancelFunc

func (s stopper) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), "epoch ") {
		s()
	}
	return len(b), nil
}
