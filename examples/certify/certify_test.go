package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// small returns flags of a run of a few seconds.
func small(out string, more ...string) []string {
	return append(append(strings.Fields("-epochs 4 -train 256 -images 4 -eps 8,1"), "-arch", "conv4 A | fc", "-out", out), more...)
}

func start(t *testing.T, ctx context.Context, stdout, stderr io.Writer, args []string) error {
	o, err := parse(args, io.Discard)
	require.NoError(t, err)
	return run(ctx, o, stdout, stderr)
}

func read(t *testing.T, folder string) (r results) {
	b, err := os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	return r
}

// A run proves at most what no attack refutes, image by image. The saved network gives the same, at
// another number of threads.
func TestRun(t *testing.T) {
	racetest.Costly(t)
	one, loaded := t.TempDir(), t.TempDir()
	var table strings.Builder
	require.NoError(t, start(t, t.Context(), &table, io.Discard, small(one)))
	assert.Contains(t, table.String(), "certified  worst case   clean     unknown\n1/255 ")
	r := read(t, one)
	require.Len(t, r.Radii, 2)
	assert.Len(t, r.Training, 4)
	seen := map[certify.Verdict]int{}
	for _, s := range r.Radii {
		assert.LessOrEqual(t, s.Certified, s.WorstCase)
		assert.LessOrEqual(t, s.WorstCase, s.Clean)
		require.Len(t, s.Rows, 4)
		for i, w := range s.Rows {
			seen[w.Verdict]++
			switch w.Verdict {
			case certify.Certified:
				assert.Equal(t, []int{r.Labels[i], r.Labels[i]}, []int{w.Clean, w.Attacked})
				assert.GreaterOrEqual(t, *w.Margin, 0.)
			case certify.Broken:
				assert.NotEqual(t, r.Labels[i], w.Attacked)
			default:
				assert.Equal(t, r.Labels[i], w.Attacked)
			}
		}
	}
	assert.Positive(t, seen[certify.Certified])
	assert.Positive(t, seen[certify.Broken])
	for _, name := range []string{"network.safetensors", "certified.svg", "certified.png"} {
		assert.FileExists(t, filepath.Join(one, name))
	}
	assert.NoFileExists(t, filepath.Join(one, "network.ckpt"))

	args := []string{"-images", "4", "-eps", "8,1", "-threads", "3", "-network", filepath.Join(one, "network.safetensors"), "-out", loaded}
	require.NoError(t, start(t, t.Context(), io.Discard, io.Discard, args))
	again := read(t, loaded)
	assert.Equal(t, runs.NewMaker(), again.Maker)
	assert.Zero(t, again.Options.T, "of no training")
	assert.Equal(t, r.Radii, again.Radii)
	assert.Empty(t, again.Training)
}

// A training that was stopped goes on with -resume, to the same network. A run that was stopped
// later keeps the radii that are finished.
func TestStop(t *testing.T) {
	racetest.Costly(t)
	whole, stopped := t.TempDir(), t.TempDir()
	file := func(folder string) []byte {
		b, err := os.ReadFile(filepath.Join(folder, "network.safetensors"))
		require.NoError(t, err)
		return b
	}
	upTo := func(text, out string, more ...string) error {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		return start(t, ctx, io.Discard, clitest.Stopper{Text: text, Stop: stop}, small(out, more...))
	}
	// A network that cannot be saved is not lost.
	require.NoError(t, os.Mkdir(filepath.Join(whole, "network.safetensors"), 0o755))
	require.ErrorContains(t, upTo("never", whole), "network.safetensors")
	require.FileExists(t, filepath.Join(whole, "network.ckpt"))
	require.NoError(t, os.Remove(filepath.Join(whole, "network.safetensors")))
	require.NoError(t, os.Remove(filepath.Join(whole, "network.ckpt")))

	old := filepath.Join(whole, "results.json")
	require.NoError(t, os.WriteFile(old, nil, 0o644))
	assert.ErrorIs(t, upTo("certificates at ε = 1/255", whole), context.Canceled)
	assert.FileExists(t, filepath.Join(whole, "network.safetensors"))
	assert.NoFileExists(t, old, "of another network")
	assert.ErrorIs(t, upTo("attacks at ε = 1/255", whole), context.Canceled)
	r := read(t, whole)
	require.Len(t, r.Radii, 1)
	assert.Equal(t, 1., r.Radii[0].Eps)
	assert.FileExists(t, filepath.Join(whole, "certified.png"))

	assert.ErrorIs(t, upTo("epoch 2 of 4", stopped), context.Canceled)
	assert.NoFileExists(t, filepath.Join(stopped, "network.safetensors"))
	assert.ErrorContains(t, upTo("epoch 1 of 4", stopped), "-out "+stopped+": holds a training that was stopped: go on with -resume")
	assert.ErrorContains(t, upTo("epoch 1 of 4", whole, "-resume"), "-resume: "+whole+" holds no training that was stopped: start without -resume")
	assert.ErrorIs(t, upTo("attacks at ε = 1/255", stopped, "-resume", "-threads", "3"), context.Canceled)
	assert.Equal(t, file(whole), file(stopped))
	assert.Equal(t, r.Radii, read(t, stopped).Radii)
}

// Bad input ends the program with one line that names it.
func TestBadInput(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	save := func(name string, change func(*zoo.Config)) string {
		cfg := zoo.Default("conv4 M | fc")
		cfg.Channels, cfg.Height, cfg.Width, cfg.SoftReset = 1, 28, 28, true
		change(&cfg)
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		require.NoError(t, m.Save(path(name)))
		return path(name)
	}
	pooled := save("max.safetensors", func(*zoo.Config) {})
	random := save("random.safetensors", func(c *zoo.Config) { c.Poisson = true })
	five := save("five.safetensors", func(c *zoo.Config) { c.Classes = 5 })
	require.NoError(t, os.WriteFile(path("file"), nil, 0o644))
	for args, want := range map[string]string{
		"-eps 1,x":                          `-eps "1,x": "x": expected numbers in (0, 255] with commas between them, such as 1,2,4,8,16`,
		"-eps NaN":                          `-eps "NaN": "NaN": expected numbers in (0, 255]`,
		"-eps -1":                           `-eps "-1": "-1": expected numbers in (0, 255]`,
		"-eps 256":                          `-eps "256": "256": expected numbers in (0, 255]`,
		"-train-eps NaN":                    `-train-eps`,
		"-kappa 1":                          `-kappa`,
		"-images 0":                         `-images`,
		"-battery brutal":                   `-battery: `,
		"-arch conv4-M":                     `network of -arch "conv4-M": `,
		"-data nowhere":                     `-data nowhere: `,
		"-resume -network x":                "-resume and -network: expected one of them",
		"-arch vgg11 -network x":            "-arch and -network: expected one of them",
		"-kappa 0.3 -network x":             "-kappa and -network: expected one of them",
		"-network " + path("none"):          "-network " + path("none"),
		"-network " + path("file"):          "-network " + path("file"),
		"-network " + five:                  "-network " + five + ": ",
		"-network " + pooled + " -images 2": "certificates at ε = 1/255: certify: image 0: layer features.3: counts have no bound for max pooling",
		"-network " + random + " -images 2": "certificates at ε = 1/255: certify: encoder snn.Poisson is random",
		"-out " + path("file"):              "-out " + path("file") + ": ",
		"more":                              "more",
	} {
		stdout, stderr, code := clitest.Run(t, append([]string{"-out", path("out")}, strings.Fields(args)...)...)
		assert.Equal(t, 1, code, args)
		assert.Contains(t, stderr, want, args)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), "%s: %s", args, stderr)
		assert.NotContains(t, stdout, "certified", args)
	}
}
