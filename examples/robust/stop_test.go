package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// patience is a context that ends when it has been asked so many times.
type patience struct {
	context.Context
	left atomic.Int64
	stop context.CancelFunc
}

func patient(times int) *patience {
	p := &patience{}
	p.Context, p.stop = context.WithCancel(context.Background())
	p.left.Store(int64(times))
	return p
}

func (p *patience) Err() error {
	if p.left.Add(-1) < 0 {
		p.stop()
	}
	return p.Context.Err()
}

// A run that is stopped, wherever and however often, leaves a partial report, and when it is
// resumed the files of a run that was not stopped.
func TestResume(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	nets := []string{filepath.Join(folder, "first.safetensors"), filepath.Join(folder, "second.safetensors")}
	trained(t, nets[0], 1)
	trained(t, nets[1], 2)
	start := func(ctx context.Context, out string, more ...string) error {
		o, err := parse(append(small(out, nets...), more...), io.Discard)
		require.NoError(t, err)
		return run(ctx, o, io.Discard, io.Discard)
	}
	whole := filepath.Join(folder, "whole")
	require.NoError(t, start(t.Context(), whole))
	want := contents(t, whole)

	out := filepath.Join(folder, "out")
	assert.ErrorContains(t, start(t.Context(), out, "-resume"), "-resume: "+out+" holds no run that was stopped")
	finished, half := -1, 0
	times := 30.0
	for stops, more := 0, []string(nil); ; stops++ {
		require.Less(t, stops, 100)
		err := start(patient(int(times)), out, more...)
		times *= 1.6
		if err == nil {
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		more = []string{"-resume"}
		res := read(t, out)
		assert.True(t, res.Partial)
		page := contents(t, out)["report.html"]
		assert.Len(t, parsePage(t, page).all(class1("partial")), 1)
		done := 0
		for _, n := range res.Networks {
			done += len(n.Report.Results)
			assert.Contains(t, page, percent(n.WorstCase)+" %")
			if n.Report.Partial {
				half++
			}
		}
		assert.Len(t, res.Pending, 2-len(res.Networks))
		assert.GreaterOrEqual(t, done, finished)
		var j journal
		require.NoError(t, runs.ReadRecord(filepath.Join(out, "run.json"), &j, 1<<24))
		assert.Equal(t, done, len(j.Networks[0].Results)+len(j.Networks[1].Results), "what is done is not lost")
		finished = done
		if stops > 0 {
			continue
		}
		assert.ErrorContains(t, start(t.Context(), out), "go on with -resume")
		assert.ErrorContains(t, start(t.Context(), out, "-resume", "-seed", "9"), `-seed is "9", but the run in `+out+` has "1"`)
	}
	assert.Positive(t, half, "a stop within a network")
	assert.Equal(t, want, contents(t, out))

	// Another file of a network's name is refused.
	require.Error(t, start(patient(60), filepath.Join(folder, "changed")))
	trained(t, nets[1], 3)
	assert.ErrorContains(t, start(t.Context(), filepath.Join(folder, "changed"), "-resume"), nets[1]+" has changed since the run")
}

// A run is not resumed with other images, whichever of them has changed.
func TestResumeWithOtherImages(t *testing.T) {
	folder := t.TempDir()
	net, out := filepath.Join(folder, "net.safetensors"), filepath.Join(folder, "out")
	const images, pixels = 300, 64
	content := make([]byte, images*pixels)
	for i := range content {
		content[i] = byte(i * i)
	}
	for _, part := range []string{"train", "t10k"} {
		clitest.WriteIDX(t, filepath.Join(folder, part+"-images-idx3-ubyte"), content, images, 8, 8)
		clitest.WriteIDX(t, filepath.Join(folder, part+"-labels-idx1-ubyte"), make([]byte, images), images)
	}
	cfg := zoo.Default("| fc")
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Mean, cfg.Std = 1, 8, 8, 10, nil, nil
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	require.NoError(t, m.Save(net))
	args := []string{"-net", net, "-data", folder, "-images", "0", "-keep", "1", "-preset", "quick", "-out", out}
	require.ErrorIs(t, start(t, patient(30), args...), context.Canceled)
	content[pixels]++ // image 1
	clitest.WriteIDX(t, filepath.Join(folder, "t10k-images-idx3-ubyte"), content, images, 8, 8)
	assert.ErrorContains(t, start(t, patient(30), append(args, "-resume")...), "-resume: -data "+folder+" has changed since the run")

	// What another version has made is made anew in any case.
	var j journal
	path := filepath.Join(out, "run.json")
	require.NoError(t, runs.ReadRecord(path, &j, 1<<24))
	j.Version = "v0.0.1"
	require.NoError(t, runs.WriteRecord(path, &j))
	assert.ErrorIs(t, start(t, patient(30), append(args, "-resume")...), context.Canceled)
}

// A run that is killed while it writes, again and again, makes the files of one that is not.
func TestKill(t *testing.T) {
	kills := min(clitest.Kills(t), 8)
	folder := t.TempDir()
	net := filepath.Join(folder, "net.safetensors")
	trained(t, net, 1)
	whole := filepath.Join(folder, "whole")
	_, stderr, code := clitest.Run(t, small(whole, net)...)
	require.Zero(t, code, stderr)

	out := filepath.Join(folder, "out")
	args := small(out, net)
	for i := 0; ; i++ {
		require.Less(t, i, 3*kills)
		changes := 3 + 5*i%17
		if i >= kills {
			changes = math.MaxInt
		}
		killed, stderr, code := clitest.Kill(t, out, changes, args...)
		switch {
		case killed:
		case code == 0:
			assert.Equal(t, contents(t, whole), contents(t, out))
			return
		case strings.Contains(stderr, "go on with -resume"):
			args = append(small(out, net), "-resume")
		case strings.Contains(stderr, "start without -resume"):
			args = small(out, net)
		default:
			require.Fail(t, "refused after a kill", stderr)
		}
	}
}

// Ctrl-C stops the measurement of firing rates, which may be of many images.
func TestFiringStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s := &subject{report: &attack.BatteryReport{Kept: &attack.Kept{Indices: []int{0}}, Results: make([]attack.ImageResult, 1)}}
	_, err := (&job{options: &options{}}).measureFiring(ctx, s)
	assert.ErrorIs(t, err, context.Canceled)
}

// Ctrl-C leaves a report of what is done.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent an interrupt there")
	}
	folder := t.TempDir()
	nets := []string{filepath.Join(folder, "first.safetensors"), filepath.Join(folder, "second.safetensors")}
	trained(t, nets[0], 1)
	trained(t, nets[1], 2)
	out := filepath.Join(folder, "out")
	c := clitest.Command(append(small(out, nets...), "-images", "40")...)
	pipe, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	var after []string
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "first (") {
			require.NoError(t, c.Process.Signal(os.Interrupt))
		}
		after = append(after, lines.Text())
	}
	var exit *exec.ExitError
	require.True(t, errors.As(c.Wait(), &exit))
	assert.Equal(t, 130, exit.ExitCode())
	assert.Equal(t, "robust: stopped; the report in "+out+" is partial; the same flags and -resume go on from there", after[len(after)-1])
	res := read(t, out)
	assert.True(t, res.Partial)
	assert.Equal(t, 40, res.Networks[0].Report.Images)
	assert.False(t, res.Networks[0].Report.Partial)
	assert.Empty(t, res.Networks[0].Curve)
	assert.Empty(t, res.Comparisons)
	page := parsePage(t, contents(t, out)["report.html"])
	assert.Len(t, page.all(class1("partial")), 1)
}
