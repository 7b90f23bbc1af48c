package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
)

// start runs the program in this process.
func start(t *testing.T, args ...string) error {
	t.Helper()
	o, err := parse(args, io.Discard)
	if err != nil {
		return err
	}
	return run(context.Background(), o, io.Discard, io.Discard)
}

// The results that -merge makes of any number of shards are those of one run, byte by byte, with a
// battery and with black-box attacks. Shards that do not fit are refused by name, and networks are
// not trained.
func TestShards(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the program many times")
	}
	data, folder := cifar(t), t.TempDir()
	path := func(name ...string) string { return filepath.Join(folder, filepath.Join(name...)) }
	args := func(out string, more ...string) []string {
		return append(small("table2", data, path(out), "-T", "1", "-train", "20", "-test", "7", "-battery", "quick"), more...)
	}
	require.ErrorContains(t, start(t, args("1", "-shard", "1/2")...), "-shard and -merge expect trained networks")
	require.NoError(t, start(t, args("trained")...))
	models := []string{"-models", path("trained", "networks")}
	args2 := args
	args = func(out string, more ...string) []string { return args2(out, append(models, more...)...) }
	require.NoError(t, start(t, args("single")...))
	want := files(t, path("single"))
	for _, of := range []int{1, 2, 3} {
		merge := []string{"-merge"}
		for i := of; i > 0; i-- {
			out := fmt.Sprintf("%d of %d", i, of)
			require.NoError(t, start(t, args(out, "-shard", fmt.Sprintf("%d/%d", i, of))...))
			assert.NoFileExists(t, path(out, "table2.txt"))
			merge = append(merge, path(out))
		}
		out := fmt.Sprintf("merged %d", of)
		require.NoError(t, start(t, args(out, merge...)...))
		got := files(t, path(out))
		for _, name := range []string{"table2.txt", "table2.json"} {
			require.NotEmpty(t, want[name])
			assert.Equal(t, want[name], got[name], "%s of %d shards", name, of)
		}
		assert.Len(t, got, len(want))
	}

	change := func(name string, change func(p *part)) {
		var p part
		require.NoError(t, runs.ReadRecord(path("2 of 2", "shard.json"), &p, 1<<20))
		change(&p)
		require.NoError(t, os.CopyFS(path(name), os.DirFS(path("2 of 2"))))
		require.NoError(t, runs.WriteRecord(path(name, "shard.json"), p))
	}
	change("version", func(p *part) { p.Version = "v0" })
	change("kernels", func(p *part) { p.Kernels = "amd65 avx3" })
	change("seed", func(p *part) { p.Flags["seed"] = "2" })
	change("no shard", func(p *part) { p.Shard = attack.Shard{} })
	change("empty", func(p *part) {})
	require.NoError(t, os.RemoveAll(path("empty", "evaluations")))
	for _, c := range []struct{ second, want string }{
		{"version", path("version", "shard.json") + ` was made by version "v0" of the program`},
		{"kernels", path("kernels", "shard.json") + ` was made with the kernels "amd65 avx3"`},
		{"seed", path("seed", "shard.json") + ` has -seed "2", but this run has "1"`},
		{"no shard", path("no shard", "shard.json") + " holds no shard"},
		{"empty", "shard 2/2 is not complete: " + path("empty", "evaluations")},
		{"none", path("none", "shard.json")},
		{"2 of 3", path("2 of 3", "shard.json") + " holds shard 2/3, but"},
		{"1 of 2", path("1 of 2", "shard.json") + " both hold shard 1/2"},
	} {
		err := start(t, args("out", "-merge", path("1 of 2"), path(c.second))...)
		assert.ErrorContains(t, err, c.want)
		assert.ErrorContains(t, err, "-merge")
		assert.NoFileExists(t, path("out", "table2.txt"))
	}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"-merge", path("2 of 2")}, "1 of 2 shards are missing: 1/2"},
		{[]string{"-shard", "1/8"}, "-shard 1/8: expected at most one shard for each of 7 test images"},
		{[]string{"-shard", "0/3"}, `invalid value "0/3" for flag -shard: expected i/n`},
		{[]string{"-shard", "1/2", "-merge", path("1 of 2")}, "a shard merges none"},
	} {
		assert.ErrorContains(t, start(t, args("out", c.flags...)...), c.want)
	}
	assert.ErrorContains(t, start(t, args("1 of 2", "-shard", "2/2")...), "holds shard 1/2")
	assert.ErrorContains(t, start(t, args("1 of 2")...), "holds shard 1/2")
	assert.ErrorContains(t, start(t, args("1 of 2", "-shard", "1/2", "-test-eps", "4")...), path("1 of 2", "shard.json")+` has -test-eps "8", but this run has "4"`)
	assert.ErrorContains(t, start(t, small("timing", data, path("out"), "-shard", "1/2")...), "timing evaluates no network")
}
