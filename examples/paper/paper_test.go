package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// small are flags for an experiment that takes no time. It has no battery.
func small(exp, data, out string, more ...string) []string {
	switch exp {
	case "figure2":
		more = append(more, "-betas", "0.001,0.002")
	case "table4":
		more = append(more, "-hire-steps", "0", "-rate-steps", "4")
	}
	if exp != "timing" {
		more = append([]string{"-battery", "none"}, more...)
	}
	return append([]string{
		"-exp", exp, "-data", data, "-out", out, "-arch", "conv8 A conv16 A | fc", "-scale", "tiny", "-T", "2",
		"-train", "60", "-test", "20", "-epochs", "2", "-batch", "16", "-width", "1",
	}, more...)
}

// cifar writes a data set in CIFAR-10's binary layout: images whose colour, but for
// noise, tells their class.
func cifar(t *testing.T) string {
	folder := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"} {
		var b []byte
		for i := range 20 {
			class := i % 10
			b = append(b, byte(class))
			for c := range 3 {
				base := class * (c + 3) * 29 % 200
				for range 32 * 32 {
					b = append(b, byte(base+r.IntN(56)))
				}
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, name+".bin"), b, 0o644))
	}
	names := "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, "batches.meta.txt"), []byte(names), 0o644))
	return folder
}

// files reads the files of a folder, by their paths in it.
func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == runs.LockName {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(folder, path)
		all[rel] = string(b)
		return err
	}))
	return all
}

// What table2 prints and keeps is of one piece, and a second run does nothing again.
func TestTable2(t *testing.T) {
	data, out := cifar(t), t.TempDir()
	battery := clitest.Battery()
	args := small("table2", data, out, "-battery", battery)
	stdout, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "Scale tiny: width 1, T = 2, 60 training images, 2 epochs in batches of 16")
	for _, row := range []string{"clean", "noise", "FGSM", "RFGSM", "PGD", "BIM", "worst case"} {
		assert.Contains(t, stdout, "\n"+row+" ")
	}
	assert.Equal(t, battery != noBattery, strings.Contains(stdout, "\nbattery "))
	before := files(t, out)
	assert.Equal(t, stdout, before["table2.txt"])
	networks, evaluations := 0, 0
	for name, content := range before {
		switch filepath.Dir(name) {
		case "networks":
			assert.Equal(t, ".safetensors", filepath.Ext(name))
			networks++
		case "evaluations":
			var r record
			require.NoError(t, json.Unmarshal([]byte(content), &r))
			require.Len(t, r.Labels, 20)
			for _, o := range r.Outcomes {
				right := 0
				for i, class := range o.Predicted {
					if class == r.Labels[i] {
						right++
					}
				}
				assert.Equal(t, float64(right)/20, o.Accuracy, "%s: %v", name, o.Trial)
			}
			evaluations++
		}
	}
	var got struct{ Results []comparison }
	require.NoError(t, json.Unmarshal([]byte(before["table2.json"]), &got))
	for _, in := range []map[string]*summary{got.Results[0].White, got.Results[0].Black} {
		for name, sum := range in {
			var r record
			for path, content := range before {
				if filepath.Dir(path) == "evaluations" {
					var kept record
					require.NoError(t, json.Unmarshal([]byte(content), &kept))
					if kept.Network == sum.Network && kept.Source == sum.Source {
						r = kept
					}
				}
			}
			if sum.Source == "" && battery != noBattery {
				require.Len(t, r.Batteries, 1)
				assert.Equal(t, trials.Battery("quick", 8), r.Batteries[0].Trial)
				assert.Equal(t, r.Batteries[0].Report.Checks, checksOf(sum, r.Batteries[0].Trial))
			} else {
				assert.Empty(t, r.Batteries)
			}
			require.Len(t, sum.Outcomes, len(r.Outcomes)+len(r.Batteries), name)
			worst := 20
			for i, label := range r.Labels {
				if slices.ContainsFunc(r.Outcomes, func(o trials.Outcome) bool { return o.Attack != "noise" && o.Predicted[i] != label }) ||
					slices.ContainsFunc(r.Batteries, func(b *trials.BatteryOutcome) bool { return b.Report.Results[i].BrokenBy != attack.Survived }) {
					worst--
				}
			}
			assert.Equal(t, float64(worst)/20, sum.WorstCase, name)
			assert.Contains(t, stdout, percent(sum.WorstCase))
		}
	}
	assert.Equal(t, 3, networks, "vanilla, source, rat")
	assert.Equal(t, 4, evaluations, "two networks, white-box and black-box")

	again, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	assert.Equal(t, stdout, again)
	assert.NotContains(t, stderr, "epoch")
	after := files(t, out)
	assert.Equal(t, before, after)
}

// Experiments that share a folder share its networks.
func TestShared(t *testing.T) {
	racetest.Costly(t)
	data, out, battery := cifar(t), t.TempDir(), clitest.Battery()
	networks := func() (names []string) {
		for name := range files(t, out) {
			if filepath.Dir(name) == "networks" {
				names = append(names, name)
			}
		}
		return names
	}
	for _, c := range []struct {
		exp      string
		networks int // after it
		rows     []string
		figures  []string
	}{
		{"table3", 4, []string{" -   -", " +   -", " -   +", " +   +"}, nil},
		{"table4", 6, []string{"vanilla ", "Sharmin et al. 2020 ", "HIRE-SNN (Kundu et al. 2021) ", "RAT "}, nil},
		{"table1", 6, []string{"conv8 A conv16 A | fc, CIFAR-10"}, nil},
		{"figure1", 7, []string{"rat, white-box", "vanilla, white-box", "rat, black-box", "vanilla, black-box"}, []string{"figure1"}},
		{"figure2", 8, []string{"0.001 ", "vanilla ", "reg ", "mix ", "rat "}, []string{"figure2-beta", "figure2-distance", "figure2-singular-values"}},
		{"timing", 8, []string{"forward ", "FGSM ", "PGD ", "vanilla step ", "RAT "}, nil},
	} {
		few := []string{"-test", "3"}
		counted := c.exp != "timing" && battery != noBattery
		if counted {
			few = append(few, "-battery", battery)
		}
		stdout, stderr, code := clitest.Run(t, small(c.exp, data, out, few...)...)
		require.Zero(t, code, stderr)
		assert.Len(t, networks(), c.networks, "%s: %v", c.exp, stderr)
		assert.Contains(t, stdout, "Scale tiny: ")
		assert.Equal(t, counted, strings.Contains(stdout, "  battery  worst case\n"), stdout)
		assert.Equal(t, counted, strings.Contains(stdout, "also counts the quick battery"), stdout)
		for _, row := range c.rows {
			assert.Contains(t, stdout, "\n"+row, c.exp)
		}
		after := files(t, out)
		assert.True(t, json.Valid([]byte(after[c.exp+".json"])), c.exp)
		for _, name := range c.figures {
			assert.Contains(t, after[name+".svg"], "scale tiny: ", "the figure says its scale")
			assert.Contains(t, after, name+".png")
		}
	}
	// The networks are usable elsewhere, and nothing is trained there.
	stdout, stderr, code := clitest.Run(t, small("table3", data, t.TempDir(), "-test", "3", "-battery", battery, "-models", filepath.Join(out, "networks"))...)
	require.Zero(t, code, stderr)
	assert.NotContains(t, stderr, "epoch")
	assert.Equal(t, files(t, out)["table3.txt"], stdout)
}

// A scale asks for no more images than there are; a flag does.
func TestFewImages(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir() // 100 training and 20 test images
	args := []string{"-exp", "table1", "-arch", "conv8 A | fc", "-T", "1", "-epochs", "1", "-data", data, "-data", pngs(t), "-scale", "tiny", "-out", out}
	stdout, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, " 100 training images, ")
	assert.Contains(t, stdout, "; 20 test images; ")
	for _, flags := range [][]string{{"-train", "2000"}, {"-test", "100"}} {
		refused(t, out, []string{"-data " + data + ": " + strings.Join(flags, " ") + ": "}, append(args, flags...)...)
	}
}

// Black-box attacks are made on the source and shown to the network.
func TestBlackBox(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	_, stderr, code := clitest.Run(t, small("table2", data, out, "-epochs", "3", "-seed", "3", "-test-eps", "64", "-test-alpha", "0.1")...)
	require.Zero(t, code, stderr)
	network := func(name string) *snn.Model {
		paths, err := filepath.Glob(filepath.Join(out, "networks", "*-"+name+"-*"))
		require.NoError(t, err)
		m, _, err := zoo.Load(paths[0])
		require.NoError(t, err)
		return m
	}
	_, test, err := dataset.ReadCIFAR10(data)
	require.NoError(t, err)
	cfg := attack.DefaultConfig()
	cfg.Key, cfg.Source = rng.New(3).Derive("attacks", 0), network("source")
	trial := trials.New("PGD", snn.BPTT{}, 64, 0.1, 7)
	want, err := attack.Evaluate(t.Context(), network("vanilla"), test, []attack.Named{{Name: trial.String(), Attack: trial.Adversary()}}, cfg)
	require.NoError(t, err)
	seen := 0
	for name, content := range files(t, out) {
		var r record
		if filepath.Dir(name) != "evaluations" || !strings.Contains(name, "vanilla") {
			continue
		}
		require.NoError(t, json.Unmarshal([]byte(content), &r))
		if r.Source != "" {
			assert.Equal(t, want.Attacks[0].Predicted, r.find(trial).Predicted)
		} else {
			assert.NotEqual(t, want.Attacks[0].Predicted, r.find(trial).Predicted, "else this test shows nothing")
		}
		seen++
	}
	assert.Equal(t, 2, seen)
}

// Images for which an attack had no gradient are kept: here all, as no potential comes near
// the threshold.
func TestZeroGradient(t *testing.T) {
	_, test, err := dataset.ReadCIFAR10(cifar(t))
	require.NoError(t, err)
	cfg := zoo.Default("conv8 A | fc")
	cfg.Threshold, cfg.Steps = 1000, 2
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	a, d := archive{folder: t.TempDir(), seed: 1, version: "v1"}, duel{network: newJudged("network", m), test: test}
	with, without := trials.New("FGSM", snn.BPTT{}, 8, 0.01, 7), trials.New("FGSM", snn.CBA{}, 8, 0.01, 7)
	for _, tr := range []trials.Trial{with, without} {
		require.NoError(t, a.judge(t.Context(), d, tr, func(float64) {}))
	}
	r, path, err := a.open(d)
	require.NoError(t, err)
	all := make([]int, 20)
	for i := range all {
		all[i] = i
	}
	assert.Equal(t, all, r.find(with).ZeroGradient)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(string(b), `"zero_gradient":[0,1,`), "of three outcomes")
	assert.Equal(t, 1, strings.Count(string(b), `"zero_gradient"`))
}

// A run that was stopped in the middle goes on to the same results.
func TestResume(t *testing.T) {
	data, want, out := cifar(t), t.TempDir(), t.TempDir()
	var errs strings.Builder
	c := clitest.Command(small("table2", data, out)...)
	pipe, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	buf := make([]byte, 1024)
	for !strings.Contains(errs.String(), "epoch 1 of 2") {
		n, err := pipe.Read(buf)
		require.NoError(t, err, errs.String())
		errs.Write(buf[:n])
	}
	require.NoError(t, c.Process.Signal(os.Interrupt))
	for err == nil {
		var n int
		n, err = pipe.Read(buf)
		errs.Write(buf[:n])
	}
	require.Error(t, c.Wait())
	assert.Equal(t, 130, c.ProcessState.ExitCode(), errs.String())
	assert.Contains(t, errs.String(), "paper: stopped; the same command goes on from what is done, in "+out+"\n")
	if testing.Short() {
		return // the rest takes long under the race detector
	}

	stdout, stderr, code := clitest.Run(t, small("table2", data, want)...)
	require.Zero(t, code, stderr)
	resumed, stderr, code := clitest.Run(t, small("table2", data, out)...)
	require.Zero(t, code, stderr)
	assert.Equal(t, 2, strings.Count(stderr, ": epoch 1 of 2"), "of the three networks, the first has it: %s", stderr)
	assert.Equal(t, stdout, resumed)
	a, b := files(t, want), files(t, out)
	for name := range a {
		if filepath.Dir(name) == "evaluations" {
			assert.Equal(t, a[name], b[name], name)
		}
	}
	assert.Len(t, b, len(a))
}

// pngs writes a data set as folders of images, of 8×8 pixels in 5 classes.
func pngs(t *testing.T) string {
	folder := t.TempDir()
	r := rand.New(rand.NewPCG(3, 4))
	for _, part := range []string{"train", "test"} {
		for class := range 5 {
			dir := filepath.Join(folder, part, fmt.Sprint(class))
			require.NoError(t, os.MkdirAll(dir, 0o755))
			for i := range 3 {
				img := image.NewRGBA(image.Rect(0, 0, 8, 8))
				for k := range img.Pix {
					img.Pix[k] = byte(r.IntN(256))
					if k%4 == 3 {
						img.Pix[k] = 255
					}
				}
				f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d.png", i)))
				require.NoError(t, err)
				require.NoError(t, png.Encode(f, img))
				require.NoError(t, f.Close())
			}
		}
	}
	return folder
}

// Networks that PyTorch saved are judged like ones that were trained here, and what
// cannot be one is an error.
func TestWeights(t *testing.T) {
	racetest.Costly(t)
	data, out := pngs(t), t.TempDir()
	testdata := filepath.Join("..", "..", "snn", "zoo", "testdata")
	pth := filepath.Join(testdata, "vgg.pth")
	args := func(out string, more ...string) []string {
		return append([]string{"-exp", "table2", "-data", data, "-out", out, "-arch", "conv8 A conv12 conv17 A conv8 | fc20 fc20 fc", "-T", "4"}, more...)
	}
	stdout, stderr, code := clitest.Run(t, args(out, "-weights", pth)...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "Network of "+pth+", trained elsewhere: width 1, T = 4; 15 test images; seed 1\n")
	assert.Equal(t, 1, strings.Count(stderr, pth+": layer1.1.num_batches_tracked, layer2.1.num_batches_tracked, "), "what was passed over: %s", stderr)
	assert.NotRegexp(t, `\d \(`, stdout, "one network alone")
	var got struct{ Results []comparison }
	require.NoError(t, json.Unmarshal([]byte(files(t, out)["table2.json"]), &got))
	require.Len(t, got.Results[0].White["weights"].Outcomes, 1+8+1+3+1)
	assert.Empty(t, got.Results[0].Black)

	// The same network as safetensors, attacked by way of itself.
	st := filepath.Join(testdata, "vgg.safetensors")
	out2 := t.TempDir()
	_, stderr, code = clitest.Run(t, args(out2, "-weights", st, "-source", st)...)
	require.Zero(t, code, stderr)
	var twin struct{ Results []comparison }
	require.NoError(t, json.Unmarshal([]byte(files(t, out2)["table2.json"]), &twin))
	want := got.Results[0].White["weights"].Outcomes
	assert.Equal(t, want, twin.Results[0].White["weights"].Outcomes)
	for _, o := range twin.Results[0].Black["weights"].Outcomes {
		assert.Contains(t, want, o, "the source being the network itself")
	}

	// And one that was trained here.
	here := t.TempDir()
	_, stderr, code = clitest.Run(t, append(args(here), "-scale", "tiny", "-train", "0", "-test", "0", "-epochs", "1")...)
	require.Zero(t, code, stderr)
	for name := range files(t, here) {
		if filepath.Dir(name) == "networks" {
			file := filepath.Join(here, name)
			_, stderr, code = clitest.Run(t, args(t.TempDir(), "-weights", file)...)
			assert.Zero(t, code, stderr)
			nowhere := filepath.Join(t.TempDir(), "out")
			refused(t, nowhere, []string{file + ": a network for images of 3×8×8 in 5 classes: expected one for the images of -data, 3×32×32 in 10 classes"},
				"-exp", "table2", "-data", cifar(t), "-out", nowhere, "-weights", file)
			break
		}
	}

	broken := filepath.Join(t.TempDir(), "broken.pth")
	b, err := os.ReadFile(pth)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(broken, b[:len(b)/2], 0o644))
	nowhere := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{args(nowhere, "-weights", broken), []string{"paper: -weights: ", broken}},
		{args(nowhere, "-weights", filepath.Join(nowhere, "none.pth")), []string{"none.pth", "no such file"}},
		{args(nowhere, "-weights", filepath.Join(testdata, "wrn.pth")), []string{"paper: -weights: ", "wrn.pth"}},
		{args(nowhere, "-weights", pth, "-source", broken), []string{"paper: -source: ", broken}},
		{small("table1", data, nowhere, "-weights", pth), []string{"-weights " + pth + `: expected -exp table2, not "table1"`}},
	} {
		_, stderr, code := clitest.Run(t, c.args...)
		assert.Equal(t, 1, code, "%v", c.args)
		for _, want := range c.want {
			assert.Contains(t, stderr, want)
		}
		assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		assert.NoDirExists(t, nowhere)
	}
}

// A network that this library saved brings its description: what is said of it is what the
// file says, not the flags, which may leave it out but not contradict it.
func TestOwnWeights(t *testing.T) {
	racetest.Costly(t)
	data, folder := cifar(t), t.TempDir()
	save := func(name, arch string) string {
		cfg := zoo.Default(arch)
		cfg.WidthMultiplier, cfg.Steps, cfg.Threshold = 0.5, 3, 1000 // no potential comes near it
		m, err := zoo.New(cfg, rng.New(1))
		require.NoError(t, err)
		path := filepath.Join(folder, name)
		require.NoError(t, m.Save(path))
		return path
	}
	file, source := save("own.safetensors", "conv8 A | fc"), save("source.pt", "conv4 A | fc")
	args := func(out string, more ...string) []string {
		return append([]string{"-exp", "table2", "-data", data, "-out", out, "-weights", file}, more...)
	}
	out := t.TempDir()
	stdout, stderr, code := clitest.Run(t, args(out, "-scale", "small", "-source", source)...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "Network of "+file+", trained elsewhere: width 0.5, T = 3; 20 test images; seed 1\n")
	assert.Equal(t, 1, strings.Count(stdout, ", CIFAR-10\n"), stdout)
	assert.Contains(t, stdout, "\nconv8 A | fc, CIFAR-10\n")
	var got struct {
		Options       map[string]any
		Architectures []string
		Results       []comparison
	}
	require.NoError(t, json.Unmarshal([]byte(files(t, out)["table2.json"]), &got))
	assert.Equal(t, []string{"conv8 A | fc"}, got.Architectures)
	require.Len(t, got.Results, 1)
	assert.Equal(t, "conv8 A | fc, CIFAR-10", got.Results[0].Subject)
	assert.Len(t, got.Results[0].Black, 1)
	assert.Subset(t, got.Options, map[string]any{"width": 0.5, "T": 3.0, "test_images": 20.0, "test_eps_255": 8.0, "battery": "quick", "weights": file, "source": source})
	assert.Equal(t, 1000.0, got.Options["network"].(map[string]any)["threshold"])
	for _, name := range []string{"train_images", "epochs", "lr", "eps_255", "beta"} {
		assert.NotContains(t, got.Options, name, "nothing was trained")
	}
	for _, o := range got.Results[0].White["weights"].Outcomes {
		want := 0
		if o.Gradient == "BPTR" || o.Gradient == "BPTT" {
			want = 20
		}
		assert.Equal(t, want, o.ZeroGradient, o.Trial)
	}

	again, stderr, code := clitest.Run(t, args(out, "-source", source, "-arch", "conv8 A  | fc", "-T", "3", "-width", "0.5")...)
	require.Zero(t, code, stderr)
	assert.Equal(t, stdout, again)

	nowhere := filepath.Join(folder, "out")
	for flags, want := range map[string]string{
		"-T 4":                    "-T 4: the network of -weights " + file + " has 3: expected the same, or no -T",
		"-width 1":                "-width 1: the network of -weights " + file + " has 0.5: expected the same, or no -width",
		"-arch vgg11":             `-arch vgg11: the network of -weights ` + file + ` has conv8 A | fc: expected the same, or no -arch`,
		"-arch vgg11 -arch small": "-arch vgg11,small: expected one with -weights",
		"-train 101":              "-train 101: ",
		"-data " + pngs(t):        ": expected one for the images of -data, 3×8×8 in 5 classes",
	} {
		refused(t, nowhere, []string{"paper: ", want}, args(nowhere, strings.Fields(flags)...)...)
	}
	assert.Equal(t, written("small"), written("conv16 A conv32 A conv32|fc"))
}

// Bad input is an error of one line that names it.
func TestBadInput(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"-exp table9 -data " + data, `-exp "table9": expected one of table`},
		{"-exp table9", `-exp "table9": expected one of table`},
		{"-exp table9 -weights nowhere", `-exp "table9": expected one of table`},
		{"-exp table2 -data nowhere -betas 0.1", "-betas 0.1: only figure2 and ablation have it: expected no -betas with -exp table2"},
		{"-exp figure2 -data nowhere -hire-periods 2", "-hire-periods 2: only table4, audit and frontier have it"},
		{"-exp table1 -data nowhere -hire-eps 2", "-hire-eps 2: only table4, audit and frontier have it"},
		{"-exp timing -data nowhere -rate-steps 8", "-rate-steps 8: only table4, audit and frontier have it"},
		{"-exp table3 -data nowhere -source x", "-source x: only table2 and figure1 have black-box attacks"},
		{"-exp figure1 -data nowhere -test-eps 8", "-test-eps 8: figure1 has its own radii"},
		{"-exp table2 -data nowhere -battery fast", `-battery: attack: preset "fast": expected one of quick, standard, thorough, or none`},
		{"-exp timing -data nowhere -battery quick", "-battery quick: timing has no worst case: expected no -battery with -exp timing"},
		{"-exp timing -data nowhere -models x", "-models x: timing trains networks of its own"},
		{"-exp table2 -data nowhere -weights x -epochs 3", "-epochs 3: no network is trained beside -weights: expected no -epochs with -exp table2"},
		{"-exp table2 -data nowhere -weights x -models y", "-models y: no network is trained beside -weights"},
		{"-exp table4 -T 4 -hire-periods 3 -data nowhere", "-hire-periods 3: expected a divisor of -T, 4"},
		{"-exp table4 -T 4 -hire-steps 6 -hire-periods 4 -data nowhere", "-hire-periods 4: expected a divisor of -hire-steps, 6"},
		{"-exp table1 -data nowhere -hire-steps 8", "-hire-steps 8: only table4, audit and frontier have it"},
		{"-exp table4 -T 3 -data nowhere", "-hire-periods 2: expected a divisor of -T, 3"},
		{"-exp table2", "-data is missing: expected fashion-mini"},
		{"-exp table2 -data nowhere", "-data nowhere: stat nowhere: no such file or directory: expected "},
		{"-exp table2 -data " + out, "-data " + out + ": the folder holds no data set: expected "},
		{"-exp table2 -scale big -data " + data, `-scale "big": expected one of full, mini, small, tiny`},
		{"-exp table2 -arch vgg99 -data " + data, `network of -arch "vgg99"`},
		{"-exp table2 -arch |fc -data " + data, `network of -arch "|fc": no layer of neurons: expected at least one`},
		{"-exp table2 -train 101 -data " + data, "-data " + data + ": -train 101: "},
		{"-exp table2 -scale tiny -train 50 -test 20 -models " + out + " -data " + data, "-models " + out + ": vgg11-"},
	} {
		_, stderr, code := clitest.Run(t, append(strings.Fields(c.args), "-out", out)...)
		assert.Equal(t, 1, code, c.args)
		assert.Contains(t, stderr, "paper: "+c.want)
		assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
	assert.Empty(t, files(t, out))
}

// refused runs the program, which is to end with 1, one line on standard error that
// holds all of parts, and nothing new in out.
func refused(t *testing.T, out string, parts []string, args ...string) {
	t.Helper()
	before := map[string]string{}
	if _, err := os.Stat(out); err == nil {
		before = files(t, out)
	}
	_, stderr, code := clitest.Run(t, args...)
	assert.Equal(t, 1, code, "%v", args)
	for _, part := range parts {
		assert.Contains(t, stderr, part)
	}
	assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	if len(before) == 0 {
		assert.NoDirExists(t, out)
	} else {
		assert.Equal(t, before, files(t, out))
	}
}

// A file in the place of the folder is refused by its flag.
func TestFileForFolder(t *testing.T) {
	data, file := cifar(t), filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	for _, c := range []struct {
		flag string
		args []string
	}{{"-out", small("table1", data, file)}, {"-models", small("table1", data, t.TempDir(), "-models", file)}} {
		_, stderr, code := clitest.Run(t, c.args...)
		assert.Equal(t, 1, code)
		assert.Contains(t, stderr, "paper: "+c.flag+" "+file+": ")
		assert.Contains(t, stderr, "expected")
	}
}

// Data sets that are not whole are refused before anything is written.
func TestBadData(t *testing.T) {
	racetest.Costly(t)
	edit := func(folder, name string, change func([]byte) []byte) string {
		path := filepath.Join(folder, name)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, change(b), 0o644))
		return folder
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	archive := filepath.Join(t.TempDir(), "cifar-10-binary.tar.gz")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	require.NoError(t, w.AddFS(os.DirFS(cifar(t))))
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	whole := packed.Bytes()
	other := func([]byte) []byte {
		var b bytes.Buffer
		require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 9, 8))))
		return b.Bytes()
	}
	one := filepath.Join("train", "1", "1.png")
	for title, c := range map[string]struct {
		data string
		want []string
	}{
		"batch cut short": {edit(cifar(t), "data_batch_3.bin", half), []string{"data_batch_3.bin"}},
		"label too large": {edit(cifar(t), "test_batch.bin", func(b []byte) []byte { b[0] = 10; return b }), []string{"test_batch.bin", "label 10"}},
		"archive cut":     {archive, []string{"cifar-10-binary.tar.gz"}},
		"broken image":    {edit(pngs(t), one, half), []string{one}},
		"image's size":    {edit(pngs(t), one, other), []string{one, "9"}},
		"classes of parts": {func() string {
			f := pngs(t)
			require.NoError(t, os.Rename(filepath.Join(f, "test", "4"), filepath.Join(f, "test", "other")))
			return f
		}(), []string{filepath.Join("test", "other"), "classes"}},
	} {
		if c.data == archive {
			require.NoError(t, os.WriteFile(archive, whole[:len(whole)/2], 0o644))
		}
		out := filepath.Join(t.TempDir(), "out")
		t.Run(title, func(t *testing.T) {
			refused(t, out, append(c.want, "paper: -data "+c.data+": "), small("table1", c.data, out)...)
		})
	}
	require.NoError(t, os.WriteFile(archive, whole, 0o644))
	_, stderr, code := clitest.Run(t, small("table1", archive, t.TempDir())...)
	assert.Zero(t, code, stderr)
}

// What is kept and then damaged is an error that names it, and is left as it is.
func TestBadKept(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	args := small("table1", data, out)
	_, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	for name, content := range files(t, out) {
		if folder := filepath.Dir(name); folder != "networks" && folder != "evaluations" {
			continue
		}
		path := filepath.Join(out, name)
		require.NoError(t, os.WriteFile(path, []byte(content[:len(content)/2]), 0o644))
		refused(t, out, []string{path}, args...)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
		if filepath.Dir(name) == "networks" {
			// One of another recipe under its name.
			require.NoError(t, os.Rename(path, path+".was"))
			other := t.TempDir()
			_, stderr, code := clitest.Run(t, small("table1", data, other, "-seed", "2")...)
			require.Zero(t, code, stderr)
			networks, err := filepath.Glob(filepath.Join(other, "networks", "*"))
			require.NoError(t, err)
			require.NoError(t, os.Rename(networks[0], path))
			refused(t, out, []string{path, "expected the network of the recipe"}, args...)
			require.NoError(t, os.Rename(path+".was", path))
		}
	}
	_, stderr, code = clitest.Run(t, args...)
	assert.Zero(t, code, stderr)
}

// What a state dict does not say, flags do: a network that was saved as one is judged as the
// network that describes itself.
func TestStateDictFlags(t *testing.T) {
	racetest.Costly(t)
	data, folder := cifar(t), t.TempDir()
	cfg := zoo.Default("conv8 A | fc")
	cfg.Steps, cfg.Decay, cfg.Threshold, cfg.SoftReset = 3, 0.75, 0.5, true
	cfg.Surrogate, cfg.SurrogateParam = "arctan", 2
	cfg.Mean, cfg.Std = []float32{0.4, 0.5, 0.6}, []float32{0.1, 0.2, 0.3}
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	own, dict := filepath.Join(folder, "own.safetensors"), filepath.Join(folder, "dict.safetensors")
	require.NoError(t, m.Save(own))
	require.NoError(t, zoo.SaveTorch(dict, m))

	flags := []string{"-mean", "0.4,0.5,0.6", "-std", "0.1,0.2,0.3", "-decay", "0.75", "-theta", "0.5", "-reset", "soft",
		"-surrogate", "arctan", "-surrogate-param", "2"}
	judge := func(more ...string) []score {
		out := t.TempDir()
		args := []string{"-exp", "table2", "-data", data, "-out", out, "-arch", "conv8 A | fc", "-T", "3", "-seed", "2", "-test-eps", "32", "-test-alpha", "0.05"}
		_, stderr, code := clitest.Run(t, append(args, more...)...)
		require.Zero(t, code, stderr)
		var got struct{ Results []comparison }
		require.NoError(t, json.Unmarshal([]byte(files(t, out)["table2.json"]), &got))
		if got.Results[0].Black["weights"] != nil {
			return got.Results[0].Black["weights"].Outcomes
		}
		return got.Results[0].White["weights"].Outcomes
	}
	want := judge("-weights", own)
	assert.Equal(t, want, judge(append(flags, "-weights", dict)...))
	black := judge("-weights", own, "-source", own)
	assert.Equal(t, black, judge(append(flags, "-weights", own, "-source", dict)...))
	// Each of them counts: in cfg, all differ from the defaults.
	o, err := parse(append([]string{"-exp", "table2", "-data", data, "-arch", "conv8 A | fc", "-T", "3", "-weights", dict}, flags...), io.Discard)
	require.NoError(t, err)
	sets, err := sets.Open(t.Context(), data, nil)
	require.NoError(t, err)
	l := &lab{options: o}
	read, err := l.read(l.newNetwork(subject{Data: sets, arch: cfg.Arch}, given))
	require.NoError(t, err)
	assert.Equal(t, cfg, read.Config)
	assert.Equal(t, digest(m), digest(read.Model))

	nowhere := filepath.Join(folder, "out")
	for _, c := range []struct{ args, want string }{
		{"-theta 2", "-theta is for networks of state dicts: expected -weights or -source beside it"},
		{"-mean 0.5,0.5,0.5 -weights " + own, "-mean and -std: expected both or neither"},
		{"-reset soft -weights " + own, "-reset is for networks of state dicts: the files describe themselves"},
		{"-mean 0,0 -std 1,1 -weights " + dict, "-mean 0,0: expected 3 numbers, one a channel"},
		{"-mean 0,0,0 -std 1,1 -weights " + dict, "-std 1,1: expected as many standard deviations as means"},
		{"-mean 0,0,0 -std 1,0,1 -weights " + dict, "-std 1,0,1: expected positive numbers"},
		{"-mean 0,x -std 1,1 -weights " + dict, "expected numbers with commas between"},
		{"-reset firm -weights " + dict, `-reset "firm": expected hard or soft`},
		{"-surrogate square -weights " + dict, "-surrogate square, -surrogate-param 1: "},
		{"-surrogate-param 0 -weights " + dict, "expected a number in (0, ∞)"},
		{"-decay 2 -weights " + dict, "expected a number in (0, 1]"},
	} {
		args := append([]string{"-exp", "table2", "-data", data, "-out", nowhere, "-arch", "conv8 A | fc"}, strings.Fields(c.args)...)
		refused(t, nowhere, []string{"paper: ", c.want}, args...)
	}
}

// The scale mini is the training of examples/rat, and flags override it.
func TestScaleMini(t *testing.T) {
	o, err := parse(strings.Fields("-exp audit -scale mini -data fashion-mini"), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, list{"small"}, o.archs)
	assert.Equal(t, []float64{8, 0.004, 1, 4, 5}, []float64{o.Eps, o.Beta, o.Width, float64(o.T), float64(o.Epochs)})
	assert.Equal(t, numbers{8, 16}, o.Radii)
	o, err = parse(strings.Fields("-exp audit -scale mini -data fashion-mini -arch vgg5 -radii 4"), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, list{"vgg5"}, o.archs)
	assert.Equal(t, numbers{4}, o.Radii)
}
