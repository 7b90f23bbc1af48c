package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/racetest"
)

// start runs the program in this process.
func start(t *testing.T, ctx context.Context, args ...string) error {
	t.Helper()
	o, err := parse(args, io.Discard)
	if err != nil {
		return err
	}
	return run(ctx, o, io.Discard, io.Discard)
}

// The files that -merge makes of any number of shards are those of one run, byte by byte. There may
// be more shards than images of the curve, and shards that were stopped.
func TestShards(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	nets := []string{filepath.Join(folder, "first.safetensors"), filepath.Join(folder, "second.safetensors")}
	trained(t, nets[0], 1)
	trained(t, nets[1], 2)
	whole := filepath.Join(folder, "whole")
	require.NoError(t, start(t, t.Context(), append(small(whole, nets...), "-source", nets[1])...))
	want := contents(t, whole)
	require.Contains(t, want, "first.npz")
	for _, of := range []int{1, 2, 3, 6} {
		args := func(out string, more ...string) []string {
			return append(append(small(out, nets...), "-source", nets[1]), more...)
		}
		merge := []string{"-merge"}
		for i := range of {
			out := filepath.Join(folder, fmt.Sprintf("shard %d of %d", i+1, of))
			more := []string{"-shard", fmt.Sprintf("%d/%d", i+1, of), "-threads", "1"}
			if of == 2 { // stopped again and again
				for times := 40.0; ; times *= 3 {
					err := start(t, patient(int(times)), args(out, more...)...)
					if err == nil {
						break
					}
					require.ErrorIs(t, err, context.Canceled)
					if more[len(more)-1] != "-resume" {
						more = append(more, "-resume")
					}
				}
			} else {
				require.NoError(t, start(t, t.Context(), args(out, more...)...))
			}
			assert.Equal(t, []string{"run.json"}, products(t, out))
			merge = append([]string{merge[0], out}, merge[1:]...)
		}
		merged := filepath.Join(folder, "merged "+strconv.Itoa(of))
		require.NoError(t, start(t, t.Context(), args(merged, merge...)...))
		assert.Equal(t, want, contents(t, merged), "%d shards", of)
	}
	// A merge that was stopped goes on, and leaves nothing else.
	merge := []string{"-source", nets[1], "-merge", filepath.Join(folder, "shard 1 of 1")}
	out := filepath.Join(folder, "stopped")
	require.ErrorIs(t, start(t, patient(3), append(small(out, nets...), merge...)...), context.Canceled)
	require.NoError(t, start(t, t.Context(), append(append(small(out, nets...), "-resume"), merge...)...))
	assert.Equal(t, want, contents(t, out))
}

// A shard that is missing, not complete, there twice or of another evaluation is refused by the
// name of its file, before anything is written.
func TestShardsRefused(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	net := path("net.safetensors")
	trained(t, net, 1)
	flags := func(name string, more ...string) []string {
		return append(append(small(path(name), net), "-images", "6", "-keep", "2"), more...)
	}
	shard := func(name, i string, more ...string) {
		require.NoError(t, start(t, t.Context(), flags(name, append(more, "-shard", i)...)...))
	}
	whole := path("whole")
	require.NoError(t, start(t, t.Context(), flags("whole")...))
	shard("1", "1/3")
	shard("2", "2/3")
	shard("3", "3/3")
	require.NoError(t, os.MkdirAll(path("lost"), 0o755))
	shard("seed", "3/3", "-seed", "2")
	shard("eps", "3/3", "-eps", "1/255")
	shard("half", "2/2")
	require.ErrorIs(t, start(t, patient(4), flags("stopped", "-shard", "3/3")...), context.Canceled)
	require.NoError(t, os.MkdirAll(path("run"), 0o755))

	// Records of another program, processor, file and network.
	change := func(name string, change func(j *journal)) {
		j := journal{}
		require.NoError(t, runs.ReadRecord(filepath.Join(path("3"), "run.json"), &j, 1<<24))
		change(&j)
		require.NoError(t, os.MkdirAll(path(name), 0o755))
		require.NoError(t, runs.WriteRecord(filepath.Join(path(name), "run.json"), j))
	}
	change("version", func(j *journal) { j.Version = "v0" })
	change("kernels", func(j *journal) { j.Kernels = "amd65 avx3" })
	change("data", func(j *journal) { j.Inputs["-data fashion-mini"] = "0" })
	change("network", func(j *journal) { j.Inputs[net] = "0" })
	change("networks", func(j *journal) { j.Networks = nil })
	change("null", func(j *journal) { j.Networks[0] = nil })
	change("curve", func(j *journal) { j.Networks[0].Curve = j.Networks[0].Curve[:1] })
	change("no shard", func(j *journal) { j.Shard = attack.Shard{} })
	change("beyond", func(j *journal) { j.Networks[0].Results[0].Index = 0 })
	change("corrupt", func(*journal) {})
	b, err := os.ReadFile(filepath.Join(path("corrupt"), "run.json"))
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(filepath.Join(path("corrupt"), "run.json"), b, 0o644))

	json := func(name string) string { return filepath.Join(path(name), "run.json") }
	for _, c := range []struct{ third, want string }{
		{"lost", "1 of 3 shards are missing: 3/3 (there is no run.json in " + path("lost") + "): run each with -shard"},
		{"seed", json("seed") + ` has -seed "2", but this run has "1"`},
		{"eps", json("eps") + ` has -eps "1/255", but this run has "16/255"`},
		{"half", json("half") + " holds shard 2/2, but " + json("1") + " holds shard 1/3"},
		{"stopped", json("stopped") + ": shard 3/3 is not complete: net.safetensors has not all of its 2 images: go on with -shard 3/3 -resume"},
		{"version", json("version") + ` was made by version "v0" of the program, but this is "`},
		{"kernels", json("kernels") + ` was made with the kernels "amd65 avx3", but here they are "`},
		{"data", json("data") + ` has -data fashion-mini with the SHA-256 "0", but this run has "`},
		{"network", json("network") + " has " + net + ` with the SHA-256 "0", but this run has "`},
		{"networks", json("networks") + ": shard 3/3 is not complete: it has 0 of 1 network"},
		{"null", json("null") + ": shard 3/3 is not complete: net.safetensors has not all of its 2 images"},
		{"curve", json("curve") + ": shard 3/3 is not complete: net.safetensors has 1 of the 2 radii of -curve"},
		{"no shard", json("no shard") + " holds no shard"},
		{"corrupt", json("corrupt")},
		{"2", "-merge " + path("2") + ": is the folder " + path("2")},
	} {
		err := start(t, t.Context(), flags("out", "-merge", path("1"), path("2"), path(c.third))...)
		assert.ErrorContains(t, err, c.want)
		assert.ErrorContains(t, err, "-merge")
		assert.NoDirExists(t, path("out"))
	}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"-merge", path("2")}, "2 of 3 shards are missing: 1/3, 3/3"},
		{[]string{"-merge", path("lost")}, "there is no run.json in " + path("lost")},
		{[]string{"-merge", path("1"), path("2"), path("3"), path("lost")}, "there is no run.json in " + path("lost")},
		{[]string{"-merge", path("out")}, "-merge " + path("out") + ": is the folder " + path("out")},
		{[]string{"-merge"}, "flag needs an argument: -merge"},
		{[]string{"-shard", "1/3", "-merge", path("1")}, "-shard 1/3: expected no -merge beside it"},
		{[]string{"-shard", "1/3", "-strict"}, "-strict: expected no -shard 1/3 beside it"},
		{[]string{"-shard", "1/7"}, "-shard 1/7: expected at most one shard for each of the 6 images"},
		{[]string{"-shard", "0/3"}, `invalid value "0/3" for flag -shard: expected i/n with whole numbers 1 ≤ i ≤ n`},
		{[]string{"-shard", "4/3"}, `invalid value "4/3" for flag -shard: expected i/n`},
		{[]string{"-shard", "a/b"}, `invalid value "a/b" for flag -shard: expected i/n`},
	} {
		assert.ErrorContains(t, start(t, t.Context(), flags("out", c.flags...)...), c.want)
		assert.NoDirExists(t, path("out"))
	}
	// A result of another shard is found by the battery.
	assert.ErrorContains(t, start(t, t.Context(), flags("out", "-merge", path("1"), path("2"), path("beyond"))...), "a result of image 0")

	// A folder that holds a shard is for its shard alone.
	assert.ErrorContains(t, start(t, t.Context(), flags("1")...), "-out "+path("1")+": holds shard 1/3: go on with -resume")
	assert.ErrorContains(t, start(t, t.Context(), flags("1", "-shard", "2/3", "-resume")...), `-shard is "2/3", but the run in `+path("1")+` has "1/3"`)
	assert.ErrorContains(t, start(t, t.Context(), flags("1", "-resume")...), `-shard is "", but the run in `+path("1")+` has "1/3"`)

	// The lost shard is made again alone, and one that is complete is left as it is.
	require.NoError(t, os.Remove(json("3")))
	assert.ErrorContains(t, start(t, t.Context(), flags("merged", "-merge", path("1"), path("2"), path("3"))...), "shards are missing: 3/3")
	shard("3", "3/3")
	before, err := os.ReadFile(json("1"))
	require.NoError(t, err)
	shard("1", "1/3", "-resume")
	after, err := os.ReadFile(json("1"))
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
	require.NoError(t, start(t, t.Context(), flags("merged", "-merge", path("1"), path("2"), path("3"))...))
	assert.Equal(t, contents(t, whole), contents(t, path("merged")))
}

// What other kernels have made is made anew when a run is resumed.
func TestResumeWithOtherKernels(t *testing.T) {
	racetest.Costly(t)
	level := kernel.CurrentLevel()
	if level == kernel.Portable {
		t.Skip("one level of kernels")
	}
	folder := t.TempDir()
	net := filepath.Join(folder, "net.safetensors")
	trained(t, net, 1)
	args := append(small(filepath.Join(folder, "out"), net), "-images", "2", "-curve", "none", "-shard", "1/2")
	defer func() { require.NoError(t, kernel.SetLevel(level)) }()
	require.NoError(t, kernel.SetLevel(kernel.Portable))
	require.NoError(t, start(t, t.Context(), args...))
	require.NoError(t, kernel.SetLevel(level))
	var old, made journal
	require.NoError(t, runs.ReadRecord(filepath.Join(folder, "out", "run.json"), &old, 1<<24))
	old.Networks[0].Results[0].Passes = -1
	require.NoError(t, runs.WriteRecord(filepath.Join(folder, "out", "run.json"), old))
	require.NoError(t, start(t, t.Context(), append(args, "-resume")...))
	require.NoError(t, runs.ReadRecord(filepath.Join(folder, "out", "run.json"), &made, 1<<24))
	assert.Contains(t, old.Kernels, "portable")
	assert.NotContains(t, made.Kernels, "portable")
	require.Len(t, made.Networks[0].Results, 1)
	assert.Positive(t, made.Networks[0].Results[0].Passes)
}

// The program says what a shard is, and where it is when it is stopped.
func TestShardOutput(t *testing.T) {
	folder := t.TempDir()
	net := filepath.Join(folder, "net.safetensors")
	trained(t, net, 1)
	stdout, stderr, code := clitest.Run(t, append(small(filepath.Join(folder, "out"), net), "-images", "5", "-shard", "2/3", "-curve", "none")...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "Shard 2/3: images 2 to 3\n")
	assert.Contains(t, stdout, "The shard is complete. When all 3 are, -merge with their folders makes the report.\n")
	o := &options{out: "x", shard: attack.Shard{Index: 1, Count: 2}}
	assert.Equal(t, "what is done is in x; the same flags and -resume go on from there", o.Stopped())
}

// A merge that was stopped after the proofs of a network keeps them when it is resumed.
func TestMergeKeepsProofs(t *testing.T) {
	folder := t.TempDir()
	net, shard, out := filepath.Join(folder, "net.safetensors"), filepath.Join(folder, "shard"), filepath.Join(folder, "out")
	trained(t, net, 1)
	args := func(out string, more ...string) []string {
		return append(append(small(out, net), "-images", "3", "-curve", "none", "-certify", "1/256"), more...)
	}
	require.NoError(t, start(t, t.Context(), args(shard, "-shard", "1/1")...))
	o, err := parse(args(out, "-merge", shard), io.Discard)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	require.ErrorIs(t, run(ctx, o, io.Discard, clitest.Stopper{Text: "net: certificates", Stop: stop}), context.Canceled)
	proven := func() []float32 {
		var j journal
		require.NoError(t, runs.ReadRecord(filepath.Join(out, "run.json"), &j, 1<<24))
		return j.Networks[0].Certified
	}
	require.Len(t, proven(), 3)
	require.ErrorIs(t, start(t, ctx, args(out, "-resume", "-merge", shard)...), context.Canceled)
	assert.Len(t, proven(), 3)
}
