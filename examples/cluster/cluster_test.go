//go:build mpi

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program builds the program.
func program(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "cluster")
	out, err := exec.Command("go", "build", "-tags", "mpi", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// mpirun returns the command that runs arguments of mpirun. After one rank has failed, the
// others have so many seconds until mpirun kills them. It waits that long in any case.
func mpirun(t *testing.T, seconds int, args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	args = append([]string{"--oversubscribe", "--tag-output", "--mca", "odls_base_sigkill_timeout", strconv.Itoa(seconds)}, args...)
	cmd = exec.CommandContext(t.Context(), "mpirun", args...)
	cmd.Env = append(os.Environ(), "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
	out = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// digests returns the digests that a run printed.
func digests(t *testing.T, out string) (d []string) {
	for line := range strings.Lines(out) {
		for _, what := range []string{"weights ", "metrics ", "checkpoint "} {
			if _, digest, ok := strings.Cut(line, what); ok {
				d = append(d, what+strings.TrimSpace(digest))
			}
		}
	}
	require.Len(t, d, 3, "%s", out)
	return d
}

var small = []string{"-threads", "1", "-images", "192", "-epochs", "2", "-batch", "32", "-save"}

// trained runs a training on n ranks to its end, and returns its digests.
func trained(t *testing.T, program string, n int, save string) []string {
	cmd, out := mpirun(t, 1, append([]string{"-np", strconv.Itoa(n), program}, append(small, save)...)...)
	require.NoError(t, cmd.Run(), "%s", out)
	return digests(t, out.String())
}

// pids returns the processes of the program.
func pids(t *testing.T, program string) (ids []int) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, f := range folders {
		if exe, err := os.Readlink(filepath.Join(f, "exe")); err == nil && exe == program {
			id, err := strconv.Atoi(filepath.Base(f))
			require.NoError(t, err)
			ids = append(ids, id)
		}
	}
	return ids
}

// waitFor waits until a file is there.
func waitFor(t *testing.T, path string) {
	require.Eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, time.Minute, 5*time.Millisecond)
}

// A RAT training with batch norm has the same weights, metrics and checkpoint, bit by bit, at 1, 2
// and 4 ranks. So has one that a signal to one of its 2 ranks stops, and that goes on at 4.
func TestRanksSameBits(t *testing.T) {
	program := program(t)
	want := trained(t, program, 1, filepath.Join(t.TempDir(), "checkpoint"))
	for _, n := range []int{2, 4} {
		assert.Equal(t, want, trained(t, program, n, filepath.Join(t.TempDir(), "checkpoint")), "%d ranks", n)
	}
	save := filepath.Join(t.TempDir(), "checkpoint")
	cmd, out := mpirun(t, 10, append([]string{"-np", "2", program}, append(small, save)...)...)
	require.NoError(t, cmd.Start())
	waitFor(t, save) // as it is before the first step
	time.Sleep(100 * time.Millisecond)
	ranks := pids(t, program)
	require.Len(t, ranks, 2)
	require.NoError(t, syscall.Kill(ranks[1], syscall.SIGTERM))
	require.Error(t, cmd.Wait())
	require.Equal(t, 2, strings.Count(out.String(), "has the last completed step"), "%s", out)
	require.NotContains(t, out.String(), "weights")
	assert.Equal(t, want, trained(t, program, 4, save))
}

// A rank that is killed is an error on the other within a minute, which names it. The checkpoint
// is whole, and the training goes on from it.
func TestDeadRank(t *testing.T) {
	t.Parallel()
	program := program(t)
	want := trained(t, program, 1, filepath.Join(t.TempDir(), "checkpoint"))
	save := filepath.Join(t.TempDir(), "checkpoint")
	cmd, out := mpirun(t, 25, append([]string{"-np", "2", program, "-every", "0"}, append(small, save)...)...)
	require.NoError(t, cmd.Start())
	waitFor(t, save)
	time.Sleep(200 * time.Millisecond)
	ranks := pids(t, program)
	require.Len(t, ranks, 2)
	began := time.Now()
	require.NoError(t, syscall.Kill(ranks[1], syscall.SIGKILL))
	require.Error(t, cmd.Wait())
	assert.Less(t, time.Since(began), time.Minute)
	assert.Contains(t, out.String(), "has given no sign of life for", "%s", out)
	assert.Equal(t, want, trained(t, program, 2, save))
}

// Ranks that do not fit together are refused by all.
func TestRanksRefused(t *testing.T) {
	t.Parallel()
	program := program(t)
	other := t.TempDir()
	content, err := os.ReadFile(program)
	require.NoError(t, err)
	changed := filepath.Join(other, "cluster")
	require.NoError(t, os.WriteFile(changed, append(content, 0), 0o755))
	host, err := os.Hostname()
	require.NoError(t, err)
	here := t.TempDir()
	run := []string{"-images", "64", "-epochs", "1", "-threads", "1"}
	for name, c := range map[string]struct {
		first, second []string // of mpirun, by rank
		want          string
		ranks         int // that say so
	}{
		"builds":        {[]string{program}, []string{changed}, "train: the program of rank 1 on " + host + " is ", 2},
		"kernel levels": {[]string{program}, []string{"-x", "SNNRAT_KERNEL=portable", program}, "train: the kernel level of rank 1 on " + host + " is portable, but that of rank 0", 2},
		"settings":      {[]string{program}, []string{program, "-eps", "3"}, "train: rank 1 on " + host + " is not the training of rank 0 on " + host + ": Config.Adversary is ", 2},
		"micro-shards":  {[]string{program, "-shards", "1"}, []string{program, "-shards", "1"}, "Config.MicroShards is 1, want a power of two that the 2 ranks divide", 2},
		"folder":        {[]string{"-wdir", here, program, "-save", "c"}, []string{"-wdir", other, program, "-save", "c"}, "rank 1 does not see the file that rank 0 has written", 2},
		"data":          {[]string{program}, []string{program, "-data", "nowhere"}, "-data nowhere: ", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"-np", "1"}, append(c.first, run...)...)
			args = append(append(args, ":", "-np", "1"), append(c.second, run...)...)
			cmd, out := mpirun(t, 2, args...)
			require.Error(t, cmd.Run(), "%s", out)
			said := map[string]bool{}
			for line := range strings.Lines(out.String()) {
				if strings.Contains(line, c.want) {
					tag, _, _ := strings.Cut(line, "<")
					said[tag] = true
				}
			}
			assert.Len(t, said, c.ranks, "%s", out)
		})
	}
}

// A process that no launcher has started is told how to be started.
func TestWithoutLauncher(t *testing.T) {
	out, err := exec.Command(program(t)).CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, "cluster: mpi: this process is no rank of an MPI job: start it with mpirun -np 4, or srun --mpi=pmix (or train on this process with -alone)\n", string(out))
}

// Processes that the launcher of another MPI has started, each a job of its own to this MPI, are
// refused.
func TestOtherLauncher(t *testing.T) {
	cmd := exec.Command(program(t))
	cmd.Env = append(os.Environ(), "PMI_RANK=0", "PMI_SIZE=2")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "the launcher has started 2 processes by PMI_SIZE, but MPI connects 1")
}
