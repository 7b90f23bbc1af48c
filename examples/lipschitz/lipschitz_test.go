package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset/fashion"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// small are flags for a run that takes little time.
func small(more ...string) []string {
	args := []string{"-images", "4", "-starts", "2", "-nodes", "1000", "-grid", "8"}
	if !slices.Contains(more, "-model") {
		args = append(args, "-width", "0.25", "-T", "2", "-epochs", "2", "-train", "200")
	}
	return append(args, more...)
}

func read(t *testing.T, folder string) (r results) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	return r
}

// What is printed, results.json and the networks are of one piece; and what is said of
// a network that was trained is what -model says of its file, at any number of threads.
func TestRun(t *testing.T) {
	racetest.Costly(t)
	folder := filepath.Join(t.TempDir(), "new", "folder")
	stdout, stderr, code := clitest.Run(t, small("-out", folder, "-threads", "2")...)
	require.Zero(t, code, stderr)
	for _, name := range []string{"distances", "singular", "training"} {
		for _, format := range []string{"svg", "png"} {
			assert.FileExists(t, filepath.Join(folder, name+"."+format))
		}
	}
	res := read(t, folder)
	require.Len(t, res.Networks, 2)
	for k, name := range []string{"plain", "regularized"} {
		n := res.Networks[k]
		assert.Equal(t, name, n.Name)
		assert.Zero(t, n.Violations)
		m, _, err := zoo.Load(filepath.Join(folder, name+".safetensors"))
		require.NoError(t, err)
		product := 1.0
		weights := 0
		for _, p := range m.Params() {
			if len(p.Shape) < 2 {
				continue
			}
			w := n.Weights[weights]
			weights++
			values, err := lipschitz.SingularValues(p)
			require.NoError(t, err)
			assert.Equal(t, p.Name, w.Weight)
			assert.Equal(t, values, w.Values)
			assert.InEpsilon(t, values[0], w.SigmaMax, 1e-6)
			assert.LessOrEqual(t, w.Lower, w.Upper)
			assert.LessOrEqual(t, w.Upper, w.SigmaMax*(1+1e-9))
			matrix, rows, cols := lipschitz.Matrix(p)
			gamma, err := lipschitz.Gamma(matrix, rows, cols)
			require.NoError(t, err)
			paper, err := lipschitz.PaperGamma(matrix, rows, cols)
			require.NoError(t, err)
			assert.Equal(t, paper, w.PaperGamma)
			defect, err := regularize.Defect(p, 0)
			require.NoError(t, err)
			assert.Equal(t, []float64{gamma, defect, float64(rows), float64(cols)}, []float64{w.Gamma, w.Defect, float64(w.Rows), float64(w.Cols)})
			product *= w.SigmaMax
			// The last epoch's observation is of the same weights.
			observed := n.Training[1].Measured
			assert.InEpsilon(t, values[0], observed["sigma_max/"+p.Name], 0.05)
			assert.Equal(t, defect, observed["defect/"+p.Name])
		}
		assert.Len(t, n.Weights, weights)
		assert.InEpsilon(t, product, n.SigmaProduct, 1e-12)
		require.Len(t, n.Layers, 4)
		for i, l := range n.Layers[:3] {
			require.Len(t, l.Attacked, 3)
			for j, a := range l.Attacked {
				assert.Equal(t, radii[j], a.Eps)
				assert.LessOrEqual(t, a.Differences, a.Bound)
				assert.LessOrEqual(t, a.Currents, a.CurrentBound*(1+1e-5))
				assert.LessOrEqual(t, a.Bound, float64(l.Neurons*l.Steps))
				assert.Greater(t, a.Theorem1, l.PaperConstant)
				assert.Greater(t, l.PaperConstant, 2*float64(l.Neurons*l.Steps), "Γ says nothing, as these neurons can fire")
				assert.Contains(t, stdout, number(a.Theorem1/float64(l.Neurons*l.Steps)))
				if i > 0 { // what comes in is what went out before
					assert.InEpsilon(t, n.Layers[i-1].Attacked[j].Out, a.In, 1e-9)
				}
			}
		}
		assert.Greater(t, n.Layers[0].Attacked[2].Out, n.Layers[0].Attacked[0].Out)
		assert.Contains(t, stdout, fmt.Sprintf("%-11s  epoch 2: loss %.3f", name, n.Training[1].Loss))
	}
	assert.NotEqual(t, res.Networks[0].SigmaProduct, res.Networks[1].SigmaProduct)
	assert.Contains(t, strings.Join(strings.Fields(stdout), " "), "product of σ_max "+number(res.Networks[0].SigmaProduct)+" "+number(res.Networks[1].SigmaProduct))
	for line := range strings.Lines(strings.ReplaceAll(stdout, folder, "out")) {
		assert.LessOrEqual(t, len([]rune(line)), 120, line)
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	assert.Len(t, lines, 2*4, "bounds and three radii of each")
	assert.Contains(t, lines[7], "(100 %")

	if testing.Short() {
		return // the rest takes long under the race detector
	}

	again := t.TempDir()
	var models []string
	for _, name := range []string{"plain", "regularized"} {
		models = append(models, "-model", filepath.Join(folder, name+".safetensors"))
	}
	stdout, stderr, code = clitest.Run(t, small(append(models, "-out", again, "-threads", "1")...)...)
	require.Zero(t, code, stderr)
	assert.NotContains(t, stdout, "epoch")
	assert.NoFileExists(t, filepath.Join(again, "training.png"))
	o := read(t, again).Options
	assert.Equal(t, options{Models: []string{models[1], models[3]}, Data: "fashion-mini", Images: 4, Starts: 2, Nodes: 1000, Grid: 8, Seed: 1}, o, "none of a training")
	for k, n := range read(t, again).Networks {
		assert.Equal(t, models[2*k+1], n.Name)
		assert.True(t, reflect.DeepEqual(res.Networks[k].Weights, n.Weights), "weights of %s", n.Name)
		assert.True(t, reflect.DeepEqual(res.Networks[k].Layers, n.Layers), "layers of %s", n.Name)
	}
}

// The default asks for no more images than there are.
func TestFewImages(t *testing.T) {
	racetest.Costly(t)
	data, out := t.TempDir(), t.TempDir()
	for part, n := range map[string]int{"train": 12, "t10k": 3} {
		images, labels := make([]byte, 64*n), make([]byte, n)
		for i := range labels {
			labels[i] = byte(i % 10)
		}
		for i := range images {
			images[i] = byte(i * i)
		}
		clitest.WriteIDX(t, filepath.Join(data, part+"-images-idx3-ubyte"), images, n, 8, 8)
		clitest.WriteIDX(t, filepath.Join(data, part+"-labels-idx1-ubyte"), labels, n)
	}
	args := []string{"-data", data, "-arch", "conv4 A | fc", "-T", "1", "-epochs", "1", "-starts", "1", "-nodes", "0", "-grid", "8", "-out", out}
	_, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	assert.Equal(t, 3, read(t, out).Options.Images)
	_, stderr, code = clitest.Run(t, append(args, "-images", "50")...)
	assert.Equal(t, 1, code)
	assert.Regexp(t, "^lipschitz: -images 50: .* 3\n$", stderr)
}

// Of a tiny residual network all is there, and the largest of what it says is finite.
func TestResidual(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	_, stderr, code := clitest.Run(t, small("-out", folder, "-decay", "0.5", "-arch", "WRN widths 8,16,16,24, 1 blocks a group, strides 1,1,2")...)
	require.Zero(t, code, stderr)
	n := read(t, folder).Networks[1]
	require.Len(t, n.Layers, 8)
	assert.Equal(t, []string{"image", "blocks.0.n1"}, []string{n.Layers[0].Paths[0].From, n.Layers[1].Paths[0].From})
	assert.Zero(t, n.Violations)
	var paths int
	for _, l := range n.Layers {
		paths = max(paths, len(l.Paths))
		assert.False(t, math.IsNaN(l.Gamma))
	}
	assert.Greater(t, paths, 2, "through a shortcut, its block, and the block before")
}

// A training that was resumed has observed, to the bit, what one did that was not.
func TestObservedAfterResume(t *testing.T) {
	racetest.Costly(t)
	set, err := fashion.Train()
	require.NoError(t, err)
	set, err = set.First(64)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "checkpoint")
	run := func(stop int, resume bool) (observed []map[string]float64) {
		cfg := train.Default(4)
		cfg.Monitor, cfg.Regularizer = lipschitz.NewTracker(regularize.Defect), regularize.ForWRN()
		c := zoo.Default("conv6 A conv5 A | fc")
		c.Channels, c.Height, c.Width, c.Steps, c.Mean, c.Std = 1, 28, 28, 2, nil, nil
		m, err := zoo.New(c, rng.New(1))
		require.NoError(t, err)
		tr, err := train.New(m, set, cfg, rng.New(2))
		require.NoError(t, err)
		if resume {
			require.NoError(t, tr.Resume(path))
		}
		for e, err := range tr.Epochs(t.Context()) {
			require.NoError(t, err)
			if e.Epoch == stop {
				break
			}
		}
		require.NoError(t, tr.Save(path))
		for _, e := range tr.History() {
			observed = append(observed, e.Measured)
		}
		return observed
	}
	want := run(4, false)
	require.Len(t, want, 4)
	assert.NotEqual(t, want[0], want[1])
	run(2, false)
	assert.Equal(t, want, run(4, true))
}

// Ctrl-C, in training and after it.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent an interrupt there")
	}
	for at, kept := range map[string]bool{"plain        epoch 1": false, "regularized  epoch 1": true} {
		folder := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(folder, "results.json"), nil, 0o644)) // of an earlier run
		c := clitest.Command(small("-out", folder, "-starts", "100000")...)
		var errs bytes.Buffer
		c.Stderr = &errs
		pipe, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		found := false
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), at) {
				found = true
				require.NoError(t, c.Process.Signal(os.Interrupt))
			}
		}
		require.True(t, found)
		var exit *exec.ExitError
		require.ErrorAs(t, c.Wait(), &exit)
		assert.Equal(t, 130, exit.ExitCode())
		assert.Regexp(t, regexp.MustCompile(`(?m)^lipschitz: stopped; networks that were trained are in `+regexp.QuoteMeta(folder)+`, for -model$`), errs.String())
		_, _, err = zoo.Load(filepath.Join(folder, "plain.safetensors"))
		assert.Equal(t, kept, err == nil, "%v", err)
		assert.NoFileExists(t, filepath.Join(folder, "results.json"))
	}
}

// What is wrong is said in one line that names the flag, its value and what is expected.
func TestRefusals(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	cfg := zoo.Default("conv2 | fc")
	colour, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	other := filepath.Join(folder, "other.safetensors")
	require.NoError(t, colour.Save(other))
	cfg.Channels, cfg.Height, cfg.Width, cfg.Mean, cfg.Std = 1, 28, 28, nil, nil
	save := func(name string, cfg zoo.Config) string {
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		path := filepath.Join(folder, name)
		require.NoError(t, m.Save(path))
		return path
	}
	wide, animals := cfg, cfg
	wide.Classes = 12
	animals.ClassNames = []string{"cat", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
	more, named := save("more.safetensors", wide), save("named.safetensors", animals)
	broken, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	w := broken.Params()[0]
	v := w.Export()
	v[1] = 12345
	w.Import(v)
	nan := filepath.Join(folder, "nan.safetensors")
	require.NoError(t, broken.Save(nan))
	b, err := os.ReadFile(nan)
	require.NoError(t, err)
	bits := func(x float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)) }
	require.NoError(t, os.WriteFile(nan, bytes.Replace(b, bits(12345), bits(float32(math.NaN())), 1), 0o644))
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"-model", filepath.Join(folder, "none")}, []string{"-model", "none", "no such file"}},
		{[]string{"-model", file}, []string{"-model", file, "safetensors"}},
		{[]string{"-model", other}, []string{"-model " + other, "3×32×32", "1×28×28"}},
		{[]string{"-model", more}, []string{"-model " + more, "-data fashion-mini", "10 classes", "has 12"}},
		{[]string{"-model", named}, []string{"-model " + named, `class 0 is "`, `"cat" in the network`}},
		{[]string{"-model", more, "-T", "4"}, []string{"-T 4: expected no -T with -model"}},
		{[]string{"-model", more, "-beta", "0.1"}, []string{"-beta 0.1: expected no -beta with -model"}},
		{[]string{"-model", nan}, []string{nan, "features.0.weight", "NaN"}},
		{[]string{"-data", filepath.Join(folder, "none")}, []string{"-data", "none", "expected fashion-mini"}},
		{[]string{"-images", "0"}, []string{"-images", `"0"`, "[1, "}},
		{[]string{"-images", "1001"}, []string{"-images 1001", "1000"}},
		{[]string{"-train", "6001"}, []string{"-train 6001", "6000"}},
		{[]string{"-starts", "0"}, []string{"-starts", `"0"`, "[1, "}},
		{[]string{"-nodes", "-1"}, []string{"-nodes", `"-1"`, "[0, "}},
		{[]string{"-grid", "2"}, []string{"-grid 2", "expected 0 or at least 5", "from image to features.2"}},
		{[]string{"-arch", "resnet18"}, []string{"-arch", "resnet18", "expected small, spiking_vgg11, "}},
		{[]string{"-arch", "| fc"}, []string{`network of -arch "| fc": no layer of neurons: expected at least one`}},
		{[]string{"-out", file}, []string{"-out " + file, "expected a folder"}},
		{[]string{"-out", ""}, []string{"-out is empty"}},
		{[]string{"more"}, []string{`unexpected argument "more"`}},
	} {
		args := []string{"-out", filepath.Join(folder, "out"), "-images", "2", "-starts", "1", "-nodes", "0"}
		if c.args[0] != "-model" {
			args = append(args, "-train", "64", "-epochs", "1", "-width", "0.1")
		}
		args = append(args, c.args...)
		_, stderr, code := clitest.Run(t, args...)
		assert.Equal(t, 1, code, "%v", c.args)
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		last := lines[len(lines)-1]
		assert.True(t, strings.HasPrefix(last, "lipschitz: "), stderr)
		for _, part := range c.parts {
			assert.Contains(t, last, part, "%v", c.args)
		}
		assert.NotContains(t, stderr, "goroutine")
	}
	stdout, _, code := clitest.Run(t, "-help")
	assert.Zero(t, code)
	assert.Contains(t, stdout, "Flags of lipschitz:")
}
