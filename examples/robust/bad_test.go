package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// Wrong flags, files that do not fit and folders that cannot be written are refused before the
// first pass, in one line that names them. Nothing is written.
func TestBadInput(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	save := func(name string, change func(*zoo.Config)) string {
		cfg := zoo.Default("| fc")
		cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Mean, cfg.Std = 1, 28, 28, 10, nil, nil
		change(&cfg)
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		require.NoError(t, m.Save(path(name)))
		return path(name)
	}
	net := save("net.safetensors", func(*zoo.Config) {})
	five := save("five.safetensors", func(c *zoo.Config) { c.Classes = 5 })
	large := save("large.safetensors", func(c *zoo.Config) { c.Height, c.Width = 32, 32 })
	require.NoError(t, os.WriteFile(path("garbage.safetensors"), []byte("no network"), 0o644))
	require.NoError(t, os.WriteFile(path("garbage.pth"), []byte("no network"), 0o644))
	require.NoError(t, os.WriteFile(path("file"), nil, 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(path("taken"), "report.html"), 0o755))
	require.NoError(t, os.Link(net, path("linked.safetensors")))
	const ofData = "expected one for the images of -data, 1×28×28 in 10 classes"

	out := path("out")
	for _, c := range []struct {
		args string // FIT stands for flags that fit
		want []string
	}{
		{"-data fashion-mini", []string{"-net is missing", "-help lists the flags"}},
		{"-net " + net, []string{"-data is missing"}},
		{"-net " + net + " -data " + path("none"), []string{"-data " + path("none"), "expected fashion-mini"}},
		{"FIT -eps 0", []string{"-eps", `"0"`, "expected a positive number such as 8/255 or 0.03"}},
		{"FIT -eps NaN", []string{"-eps", `"NaN"`, "expected a positive number"}},
		{"FIT -eps -0.1", []string{"-eps", "expected a positive number"}},
		{"FIT -eps 8/0", []string{"-eps", "expected a positive number"}},
		{"FIT -eps 1e-60", []string{"-eps", "expected a positive number"}},
		{"FIT -eps 8/255/2", []string{"-eps", "expected a positive number"}},
		{"FIT -eps 1.5", []string{"-eps 1.5: expected at most 1 in L∞"}},
		{"FIT -norm l3", []string{`-norm "l3": expected linf or l2`}},
		{"FIT -preset brutal", []string{`-preset "brutal": expected quick, standard or thorough`}},
		{"FIT -images -1", []string{"-images", "expected a whole number"}},
		{"FIT -images 1001", []string{"-images 1001"}},
		{"FIT -curve 2,1", []string{"-curve", "expected none, or increasing positive numbers"}},
		{"FIT -curve 0", []string{"-curve", "expected none, or increasing positive numbers"}},
		{"FIT -eps 0.5 -curve 1,4", []string{"-curve 1,4: 4 times -eps 0.5 is above 1: expected at most 1 in L∞"}},
		{"FIT -eps 0.5 -certify 3", []string{"-certify 3: 3 times -eps 0.5 is above 1: expected at most 1 in L∞"}},
		{"FIT -curve-images 0", []string{"-curve-images", "expected a whole number in [1, ∞)"}},
		{"FIT -T 4", []string{"-T is for networks of state dicts"}},
		{"FIT -decay 0.5", []string{"-decay is for networks of state dicts"}},
		{"FIT -net " + path("none.safetensors"), []string{"-net: ", path("none.safetensors")}},
		{"FIT -net pretrained:rat", []string{`-net: pretrained: network "rat": expected one of cifar-rat, `}},
		{"FIT -net " + path("garbage.safetensors"), []string{"-net: ", path("garbage.safetensors")}},
		{"FIT -width 0.5 -net " + path("garbage.pth"), []string{"-net: ", path("garbage.pth"), "read as a state dict of -arch vgg11 and -width 0.5"}},
		{"FIT -net " + five, []string{"-net: " + five + ": a network for images of 1×28×28 in 5 classes", ofData}},
		{"FIT -net " + large, []string{"-net: " + large + ": a network for images of 1×32×32 in 10 classes", ofData}},
		{"FIT -source " + five, []string{"-source: " + five + ": a network for images of 1×28×28 in 5 classes", ofData}},
		{"FIT -net " + net, []string{"-net " + net + ": is the file of -net " + net + ": expected different files"}},
		{"FIT -net " + path("linked.safetensors"), []string{"-net " + path("linked.safetensors") + ": is the file of -net " + net}},
		{"FIT -source " + five + " -source " + five, []string{"-source " + five + ": is the file of -source"}},
		{"FIT -resume", []string{"-resume: " + out + " holds no run that was stopped"}},
		{"FIT -out " + filepath.Join(path("file"), "below"), []string{"-out " + filepath.Join(path("file"), "below"), "expected a folder to write to"}},
		{"FIT -out " + path("file"), []string{"-out " + path("file"), "expected a folder to write to"}},
		{"FIT -out " + path("taken"), []string{"-out " + path("taken") + ": report.html is no file"}},
		{"FIT extra", []string{`unexpected argument "extra"`}},
	} {
		args := append([]string{"-out", out}, strings.Fields(strings.Replace(c.args, "FIT", "-data fashion-mini -net "+net, 1))...)
		stdout, stderr, code := clitest.Run(t, args...)
		assert.Equal(t, 1, code, c.args)
		assert.Empty(t, stdout, c.args)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		for _, want := range append(c.want, "robust: ") {
			assert.Contains(t, stderr, want, c.args)
		}
		assert.NoDirExists(t, out)
	}
}

// The names of networks are the ends of their paths, and differ.
func TestNames(t *testing.T) {
	assert.Equal(t, []string{"rat", "rat-2", "RAT-3", ".pth", "a.b"},
		names([]string{"x/rat.safetensors", "y/rat.pth", "RAT.pth", ".pth", "a.b.pth"}))
	assert.Equal(t, []string{"fashion-rat"}, names([]string{"pretrained:fashion-rat"}))
	assert.Equal(t, []string{"net-2", "net", "other"}, sourceNames([]string{"a/net.pth"}, []string{"b/net.pth", "a/net.pth", "other.pth"}))
}
