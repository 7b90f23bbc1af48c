package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/internal/racetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { clitest.Main(m, program) }

const arch = "conv4 A conv4 A | fc"

// small returns args after the flags of a network that takes no time.
func small(args ...string) []string {
	flags := []string{"-arch", arch, "-batch", "2", "-reps", "1", "-threads", "1"}
	if !slices.Contains(args, "-sweep") { // of T
		flags = append(flags, "-T", "2")
	}
	return append(flags, args...)
}

// start runs the program on a network that takes no time.
func start(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return clitest.Run(t, small(args...)...)
}

// exported returns a folder with what the other side exports: state, images, and the
// expected results, which are our own, but for what a test changes.
func exported(t *testing.T, change func(batch, expect tensors)) string {
	folder := t.TempDir()
	m, err := options{arch: arch, width: 1, steps: 2}.network()
	require.NoError(t, err)
	x, y := randomImages(2, m)
	require.NoError(t, warmUp(m, x, y))
	require.NoError(t, export(m, x, y, folder))
	batch, expect, err := task(m, x, y)
	require.NoError(t, err)
	change(batch, expect)
	require.NoError(t, batch.save(filepath.Join(folder, "batch.safetensors")))
	require.NoError(t, expect.save(filepath.Join(folder, "expect.safetensors")))
	return folder
}

func TestRun(t *testing.T) {
	folder := exported(t, func(_, _ tensors) {})
	figures := filepath.Join(folder, "figures.json")
	stdout, stderr, code := start(t, "-peer", folder, "-json", figures)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "against the other side")
	assert.Regexp(t, `(?m)^train \(\d+ % of all; \d:\d\d elapsed, about \d:\d\d left\)$`, stderr)
	assert.Contains(t, stderr, "regularize (100 % of all")

	var r report
	b, err := os.ReadFile(figures)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	assert.Len(t, r.Checks, 5)
	for _, c := range r.Checks {
		assert.Less(t, c.Err, 1e-6, c.Name)
		if c.Name == "rates" {
			assert.Equal(t, new(0), c.Spikes)
			assert.Nil(t, c.Images)
		} else {
			assert.Equal(t, new(0), c.Images, c.Name)
			assert.Nil(t, c.Spikes, c.Name)
		}
	}
	assert.Len(t, r.Rates, 2)
	for _, part := range parts {
		assert.Positive(t, r.MS[part], part)
	}

	_, stderr, code = start(t, "-peer-json", figures, "-width", "2")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "-peer-json: "+figures+": figures of width 1: expected 2")

	// Its own figures are another side's to compare with.
	stdout, stderr, code = start(t, "-peer-json", figures)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "other side")
	for _, part := range parts {
		assert.Regexp(t, `(?m)^ *`+part+` +[\d.]+ +[\d.]+ +[\d.]+×$`, stdout)
	}
}

// What differs shows in its tensor.
func TestDiffers(t *testing.T) {
	racetest.Costly(t)
	folder := exported(t, func(_, expect tensors) {
		logits := make([]float32, 20)
		logits[3] = 9
		expect.floats("logits", logits, 2, 10)
	})
	figures := filepath.Join(folder, "figures.json")
	_, stderr, code := start(t, "-peer", folder, "-json", figures)
	require.Zero(t, code, stderr)
	var r report
	b, err := os.ReadFile(figures)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	for _, c := range r.Checks {
		if c.Name == "logits" {
			assert.Greater(t, c.Err, 0.1)
			assert.Equal(t, new(2), c.Images)
		} else if c.Name != "rates" {
			assert.Equal(t, new(0), c.Images, c.Name)
		}
	}
}

func TestDifference(t *testing.T) {
	same := []float32{1, -4, 0, 0}
	for _, c := range []struct {
		got    []float32
		err    float64
		images int
	}{
		{same, 0, 0},
		{[]float32{1, -3, 0, 0}, 0.25, 1},
		{[]float32{1, -4, 0, 1e-30}, 2.5e-31, 1},
	} {
		d, err := difference("x", c.got, same, 2)
		require.NoError(t, err)
		assert.InEpsilon(t, 1+c.err, 1+d.Err, 1e-6)
		assert.Equal(t, c.images, *d.Images)
	}
	zeros := make([]float32, 4)
	d, err := difference("x", zeros, zeros, 2)
	require.NoError(t, err)
	assert.Equal(t, check{Name: "x", Images: new(0)}, d)
	d, err = difference("x", same, zeros, 2)
	require.NoError(t, err)
	assert.Greater(t, d.Err, 1e9)
	_, err = json.Marshal(d)
	require.NoError(t, err)
	nan := []float32{0, 0, 0, float32(math.NaN())}
	for _, c := range [][2][]float32{{nan, same}, {same, nan}, {nan, nan}} {
		_, err := difference("x", c[0], c[1], 2)
		require.ErrorContains(t, err, "x: value 1 of image 1 is ")
		assert.ErrorContains(t, err, "NaN")
	}
	_, err = difference("x", same, nil, 2)
	assert.ErrorContains(t, err, "x: 0 values: expected a float32 tensor of 4")
}

func TestRateDifference(t *testing.T) {
	d, err := rateDifference([]float64{10, 50}, []float64{100, 100}, []float32{0.125, 0.5})
	require.NoError(t, err)
	assert.InDelta(t, 0.025/0.5, d.Err, 1e-9)
	assert.Equal(t, 3, *d.Spikes) // 12.5 rounded is 13
	for _, bad := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		_, err := rateDifference([]float64{10, 50}, []float64{100, 100}, []float32{0.5, float32(bad)})
		assert.ErrorContains(t, err, fmt.Sprintf("rates: %v of layer 1: expected a number in [0, 1]", float32(bad)))
	}
}

func TestSweep(t *testing.T) {
	racetest.Costly(t)
	figures := filepath.Join(t.TempDir(), "figures.json")
	stdout, stderr, code := start(t, "-sweep", "T", "-json", figures)
	require.Zero(t, code, stderr)
	assert.Contains(t, stderr, "T 32, train (100 % of all")
	var got struct {
		Sweep  string
		Kernel string
		Points []point
	}
	b, err := os.ReadFile(figures)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &got))
	assert.Equal(t, "T", got.Sweep)
	assert.NotEmpty(t, got.Kernel)
	require.Len(t, got.Points, 6)
	for i, p := range got.Points {
		assert.Equal(t, fmt.Sprint(1<<i), p.Label)
		assert.Len(t, p.MS, len(sweepTimes)+1) // and rat, made of them
		assert.Len(t, p.MB, len(sweepMemory))
		assert.Regexp(t, fmt.Sprintf(`(?m)^ *%s +%.1f %%`, p.Label, 100*p.Rate), stdout)
	}
	assert.Greater(t, got.Points[5].MB["train"], 4*got.Points[0].MB["train"])
}

// The memory of larger images grows with their pixels.
func TestSweepSize(t *testing.T) {
	racetest.Costly(t)
	figures := filepath.Join(t.TempDir(), "figures.json")
	_, stderr, code := start(t, "-sweep", "size", "-json", figures)
	require.Zero(t, code, stderr)
	var got struct{ Points []point }
	b, err := os.ReadFile(figures)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &got))
	require.Len(t, got.Points, 4)
	assert.Equal(t, "224×224", got.Points[3].Label)
	assert.InEpsilon(t, 49*got.Points[0].MB["train"], got.Points[3].MB["train"], .2)
}

// A sweep that is stopped prints and writes the points that it has.
func TestSweepStopped(t *testing.T) {
	o := options{arch: arch, width: 1, steps: 2, batch: 2, reps: 1, sweep: "T", out: filepath.Join(t.TempDir(), "figures.json")}
	ctx, cancel := context.WithCancel(t.Context())
	var stdout bytes.Buffer
	err := run(ctx, o, &stdout, writer(func(b []byte) {
		if bytes.Contains(b, []byte("T 4, forward")) {
			cancel()
		}
	}))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 4, strings.Count(stdout.String(), "\n"), stdout.String())
	b, err := os.ReadFile(o.out)
	require.NoError(t, err)
	assert.Equal(t, 2, bytes.Count(b, []byte("mean_rate")))
	var figures map[string]any
	require.NoError(t, json.Unmarshal(b, &figures))
	delete(figures, "points")
	delete(figures, "kernel")
	delete(figures, "threads")
	assert.Equal(t, map[string]any{"sweep": "T", "arch": arch, "width": 1., "batch": 2., "reps": 1.}, figures)
}

type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestRefusals(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	figures := func(arch string, steps, batch, threads int) string {
		return file(fmt.Sprint(steps, batch, threads, ".json"), fmt.Sprintf(`{"arch":%q,"T":%d,"batch":%d,"threads":%d}`, arch, steps, batch, threads))
	}
	peer := func(change func(batch, expect tensors)) string { return exported(t, change) }
	good := peer(func(_, _ tensors) {})
	truncated := peer(func(_, _ tensors) {})
	require.NoError(t, os.Truncate(filepath.Join(truncated, "batch.safetensors"), 100))
	large := file("large.json", strings.Repeat(" ", 1<<20+1))
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"-T", "0"}, []string{"-T", `"0"`, "[1, 1024]"}},
		{[]string{"-reps", "0"}, []string{"-reps", `"0"`}},
		{[]string{"-batch", "-1"}, []string{"-batch", `"-1"`}},
		{[]string{"-width", "x"}, []string{"-width", `"x"`, "(0, 64]"}},
		{[]string{"-threads", "-1"}, []string{"-threads", `"-1"`}},
		{[]string{"-arch", "vgg12"}, []string{"-arch", `"vgg12"`, "expected small, spiking_vgg11, "}},
		{[]string{"-sweep", "depth"}, []string{"-sweep", `"depth"`, "expected T, batch, width, rate, size or cores"}},
		{[]string{"-sweep", "cores", "-threads", "2"}, []string{"-threads", "-sweep cores"}},
		{[]string{"-sweep", "T", "-peer", good}, []string{"-sweep", "-peer"}},
		{[]string{"-sweep", "T", "-peer-json", "x"}, []string{"-sweep", "-peer-json"}},
		{[]string{"now"}, []string{`"now"`}},
		{[]string{"-sweep", "T", "-against", "x"}, []string{"-sweep: expected no -against with it"}},
		{[]string{"-sweep", "T", "-serve"}, []string{"-sweep: expected no -serve with it"}},
		{[]string{"-against", "x", "-peer-json", "y"}, []string{"-against: expected no -peer-json with it"}},
		{[]string{"-against", "x", "-serve"}, []string{"-against: expected no -serve with it"}},
		{[]string{"-against", " "}, []string{"-against: expected a command"}},
		{[]string{"-serve", "-json", "x"}, []string{"-serve: expected no -json with it"}},
		{[]string{"-peer", filepath.Join(folder, "none")}, []string{"none", "state.safetensors"}},
		{[]string{"-peer", good, "-width", "2"}, []string{good, "state.safetensors", "classifier.0.weight"}},
		{[]string{"-peer", truncated}, []string{truncated, "batch.safetensors", "not a safetensors file"}},
		{[]string{"-peer", peer(func(b, _ tensors) { b.ints("y", 1) })}, []string{"batch.safetensors", "1 labels y for 2 images"}},
		{[]string{"-peer", peer(func(b, _ tensors) { b.ints("y", 1, 10) })}, []string{"batch.safetensors", "label 10 of image 1", "0 to 9"}},
		{[]string{"-peer", peer(func(b, _ tensors) { b.floats("x", make([]float32, 6), 2, 3, 1, 1) })}, []string{"batch.safetensors", "2×3×1×1", "3×32×32"}},
		{[]string{"-peer", peer(func(b, _ tensors) { b.floats("x", nil, 0, 3, 32, 32); b.ints("y") })}, []string{"batch.safetensors", "x"}},
		{[]string{"-peer", peer(func(_, e tensors) { delete(e, "logits") })}, []string{"expect.safetensors", "logits"}},
		{[]string{"-peer", peer(func(_, e tensors) { e.floats("rates", nil, 0) })}, []string{"expect.safetensors", "0 rates for 2 layers"}},
		{[]string{"-peer", peer(func(_, e tensors) { e.floats("rates", []float32{0.1, 7}, 2) })}, []string{"expect.safetensors", "rates: 7 of layer 1", "[0, 1]"}},
		{[]string{"-peer", peer(func(_, e tensors) { e.floats("logits", append(make([]float32, 19), float32(math.NaN())), 2, 10) })}, []string{"expect.safetensors", "logits: value 9 of image 1 is NaN"}},
		{[]string{"-peer-json", filepath.Join(folder, "none.json")}, []string{"-peer-json", "none.json"}},
		{[]string{"-peer-json", file("text.json", "forward 43")}, []string{"-peer-json", "text.json", "invalid character"}},
		{[]string{"-peer-json", figures("vgg-11", 2, 2, 1)}, []string{`"vgg-11", T 2, batch 2, 1 threads`, `expected "` + arch + `", 2, 2, 1`}},
		{[]string{"-peer-json", figures(arch, 8, 2, 1)}, []string{"T 8, batch 2, 1 threads", "2, 2, 1"}},
		{[]string{"-peer-json", figures(arch, 2, 16, 1)}, []string{"T 2, batch 16, 1 threads", "2, 2, 1"}},
		{[]string{"-peer-json", figures(arch, 2, 2, 2)}, []string{"T 2, batch 2, 2 threads", "2, 2, 1"}},
		{[]string{"-json", filepath.Join(folder, "none", "figures.json")}, []string{"-json", "figures.json"}},
		{[]string{"-json", folder}, []string{"-json", folder, "is a folder: expected a regular file"}},
		{[]string{"-sweep", "T", "-json", folder}, []string{"-json", folder, "is a folder: expected a regular file"}},
		{[]string{"-sweep", "T", "-T", "3"}, []string{"-T: expected no value of what -sweep T varies"}},
		{[]string{"-peer", good, "-batch", "3"}, []string{"-batch 3: -peer " + good + " has 2 images: expected the same, or no -batch"}},
		{[]string{"-peer-json", folder}, []string{"-peer-json: " + folder + " is a folder: expected a regular file"}},
		{[]string{"-peer-json", os.DevNull}, []string{"-peer-json: " + os.DevNull + " is a device: expected a regular file"}},
		{[]string{"-peer-json", large}, []string{"-peer-json: " + large + " has 1048577 bytes: expected at most 1048576"}},
		// The file of figures is checked before the network is.
		{[]string{"-peer-json", folder, "-arch", "vgg12"}, []string{"-peer-json"}},
	} {
		stdout, stderr, code := start(t, c.args...)
		assert.Equal(t, 1, code, "%v", c.args)
		assert.NotContains(t, stdout, "milliseconds", "%v: measured before it refused", c.args)
		assert.True(t, strings.HasPrefix(stderr, "bench: ") && strings.Count(stderr, "\n") == 1, "%v: %s", c.args, stderr)
		for _, part := range c.parts {
			assert.Contains(t, stderr, part, "%v", c.args)
		}
	}
}
