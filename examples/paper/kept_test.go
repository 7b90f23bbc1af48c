package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clock matches what depends on the clock in the results.
var clock = regexp.MustCompile(`"(seconds|images_per_second)":[^,}]*`)

// kept reads a folder's files, without what depends on the clock: of networks, whose
// history has it, the names.
func kept(t *testing.T, folder string) map[string]string {
	all := files(t, folder)
	for name := range all {
		switch {
		case filepath.Ext(name) == ".safetensors":
			all[name] = ""
		case filepath.Ext(name) == ".json" && filepath.Dir(name) == ".":
			all[name] = clock.ReplaceAllString(all[name], "")
		}
	}
	return all
}

// A run that is killed again and again while it writes makes the results of a run that is
// not killed, and leaves no other file. SNNRAT_KILLS is the number of kills.
func TestKill(t *testing.T) {
	most := clitest.Kills(t)
	data, whole := cifar(t), t.TempDir()
	args := func(out string) []string {
		return small("table2", data, out, "-T", "1", "-arch", "conv4 A | fc", "-train", "20", "-test", "5", "-battery", "quick")
	}
	_, stderr, code := clitest.Run(t, args(whole)...)
	require.Zero(t, code, stderr)
	want := kept(t, whole)
	r := rand.New(rand.NewPCG(1, uint64(most)))
	kills, rounds := 0, 0
	for ; kills < most; rounds++ {
		out := t.TempDir()
		for {
			changes := 1 + r.IntN(9)
			if kills == most {
				changes = 1 << 30
			}
			killed, stderr, code := clitest.Kill(t, out, changes, args(out)...)
			if !killed {
				require.Zero(t, code, stderr)
				break
			}
			kills++
		}
		assert.Equal(t, want, kept(t, out))
	}
	t.Logf("%d kills in %d runs", kills, rounds)
}

// Two runs in one folder: the second is refused by the name of the first.
func TestTwoRuns(t *testing.T) {
	data, out := cifar(t), filepath.Join(t.TempDir(), "out")
	first := clitest.Command(small("table1", data, out, "-epochs", "1000")...)
	require.NoError(t, first.Start())
	defer func() { _ = first.Process.Kill(); _ = first.Wait() }()
	checkpoints := func() []string {
		paths, err := filepath.Glob(filepath.Join(out, networksFolder, "*.ckpt"))
		require.NoError(t, err)
		return paths
	}
	require.Eventually(t, func() bool { return checkpoints() != nil }, 20*time.Second, time.Millisecond)
	who := fmt.Sprintf("in use by process %d on ", first.Process.Pid)
	if runtime.GOOS == "windows" {
		who = "in use by another process"
	}
	_, stderr, code := clitest.Run(t, small("table2", data, out)...)
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "paper: -out "+out+": "+who)
	assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()
	_, stderr, code = clitest.Run(t, small("table1", data, out)...)
	assert.Zero(t, code, "the lock ends with its process: %s", stderr)
	assert.Len(t, checkpoints(), 1, "that of the killed run, of 1000 epochs")
}

// A killed run that had just saved a network leaves its checkpoint, which the next removes.
func TestCheckpointOfTrainedNetwork(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	_, stderr, code := clitest.Run(t, small("table1", data, out)...)
	require.Zero(t, code, stderr)
	networks, err := filepath.Glob(filepath.Join(out, networksFolder, "*.safetensors"))
	require.NoError(t, err)
	require.Len(t, networks, 1)
	left := strings.TrimSuffix(networks[0], ".safetensors") + ".ckpt"
	require.NoError(t, os.WriteFile(left, nil, 0o644))
	_, stderr, code = clitest.Run(t, small("table1", data, out)...)
	require.Zero(t, code, stderr)
	assert.NoFileExists(t, left)
}

// lonely returns an archive, and a duel of a network that has been judged in one trial.
func lonely(t *testing.T) (archive, duel, trials.Trial) {
	t.Helper()
	_, test, err := dataset.ReadCIFAR10(cifar(t))
	require.NoError(t, err)
	cfg := zoo.Default("conv4 A | fc")
	cfg.Steps = 1
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	clean, err := attack.Evaluate(t.Context(), m, test, nil, attack.DefaultConfig())
	require.NoError(t, err)
	test.Labels = clean.Clean.Predicted // so that attacks have something to do
	a, d := archive{folder: t.TempDir(), seed: 1, version: "v1"}, duel{network: newJudged("network", m), test: test}
	trial := trials.New("FGSM", snn.BPTT{}, 8, 0.01, 7)
	require.NoError(t, a.judge(t.Context(), d, trial, func(float64) {}))
	return a, d, trial
}

// Evaluations of other test images are made anew, whichever image has changed.
func TestOtherImages(t *testing.T) {
	data, out := t.TempDir(), t.TempDir()
	const images, pixels = 300, 64
	content := make([]byte, images*pixels)
	for i := range content {
		content[i] = byte(i * i)
	}
	for _, part := range []string{"train", "t10k"} {
		clitest.WriteIDX(t, filepath.Join(data, part+"-images-idx3-ubyte"), content, images, 8, 8)
		clitest.WriteIDX(t, filepath.Join(data, part+"-labels-idx1-ubyte"), make([]byte, images), images)
	}
	made := func() bool {
		o, err := parse([]string{"-exp", "table1", "-data", data, "-out", out, "-arch", "conv4 A | fc", "-T", "1", "-train", "16", "-epochs", "1", "-batch", "16", "-battery", "none"}, io.Discard)
		require.NoError(t, err)
		var lines strings.Builder
		require.NoError(t, run(t.Context(), o, io.Discard, &lines))
		return strings.Contains(lines.String(), ", white-box (")
	}
	assert.True(t, made())
	assert.False(t, made())
	content[pixels]++ // image 1
	clitest.WriteIDX(t, filepath.Join(data, "t10k-images-idx3-ubyte"), content, images, 8, 8)
	assert.True(t, made())
}

// Any change of an evaluation's file is refused by its name.
func TestChangedEvaluation(t *testing.T) {
	racetest.Costly(t)
	a, d, trial := lonely(t)
	require.NoError(t, a.judge(t.Context(), d, trials.Battery("quick", 8), func(float64) {}))
	for _, anew := range []bool{true, false} {
		measured, err := a.measure(t.Context(), d, trial, 5)
		require.NoError(t, err)
		assert.Equal(t, anew, measured)
	}
	want, path, err := a.open(d)
	require.NoError(t, err)
	require.NotNil(t, want.find(trial))
	require.NotNil(t, want.find(trials.Battery("quick", 8)))
	clitest.ChangeBits(t, path, func() error { _, _, err := a.open(d); return err })
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	// Content that a checksum does not show to be wrong.
	for name, change := range map[string]func(*record){
		"expected 20":                      func(r *record) { r.Outcomes[1].Predicted = r.Outcomes[1].Predicted[:19] },
		"class 10 of image 3":              func(r *record) { r.Outcomes[1].Predicted[3] = 10 },
		"class -1 of image 3":              func(r *record) { r.Outcomes[1].Predicted[3] = -1 },
		"as the predictions say":           func(r *record) { r.Outcomes[1].Accuracy += 0.05 },
		"image 20 has a zero gradient":     func(r *record) { r.Outcomes[1].ZeroGradient = []int{20} },
		"image 1 has a zero gradient":      func(r *record) { r.Outcomes[1].ZeroGradient = []int{1, 1} },
		"expected one outcome of a trial":  func(r *record) { r.Outcomes[1].Trial = r.Outcomes[0].Trial },
		"a battery is null":                func(r *record) { r.Batteries[0] = nil },
		"expected one report of a battery": func(r *record) { r.Batteries = append(r.Batteries, r.Batteries[0]) },
		"results of 19 images":             func(r *record) { r.Batteries[0].Report.Results = r.Batteries[0].Report.Results[:19] },
		"quick battery ε=8/255: label":     func(r *record) { r.Batteries[0].Report.Results[3].Label++ },
		"those of 21 images":               func(r *record) { r.Distances[0].Images = 21 },
		"no layers":                        func(r *record) { r.Distances[0].Layers = nil },
		"[-1]: expected one number":        func(r *record) { r.Distances[0].D2[0] = -1 },
		"[]: expected one number":          func(r *record) { r.Distances[0].PerSpike = nil },
		"labels of other images":           func(r *record) { r.Labels[0]++ },
		"expected those of network":        func(r *record) { r.Source = "other" },
	} {
		require.NoError(t, os.WriteFile(path, b, 0o644))
		r := &record{}
		require.NoError(t, runs.ReadRecord(path, r, 1<<20))
		change(r)
		require.NoError(t, runs.WriteRecord(path, r))
		_, _, err := a.open(d)
		assert.ErrorContains(t, err, path+": ")
		assert.ErrorContains(t, err, name)
	}
	require.NoError(t, os.Truncate(path, runs.Budget(20)+1))
	_, _, err = a.open(d)
	assert.ErrorContains(t, err, "expected at most")
	require.NoError(t, os.Remove(path))
	clitest.FIFO(t, path)
	_, _, err = a.open(d)
	assert.ErrorContains(t, err, path+" is a named pipe: ")
}

// Another version of the library makes its own evaluations.
func TestEvaluationOfAnotherVersion(t *testing.T) {
	a, d, trial := lonely(t)
	a.version = "v2"
	r, _, err := a.open(d)
	require.NoError(t, err)
	assert.Nil(t, r.find(trial))
}

// A trained network whose file was changed is refused: its parameters, its recipe, its
// history.
func TestChangedNetwork(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	_, stderr, code := clitest.Run(t, small("table1", data, out)...)
	require.Zero(t, code, stderr)
	networks, err := filepath.Glob(filepath.Join(out, networksFolder, "*.safetensors"))
	require.NoError(t, err)
	m, _, err := zoo.Load(networks[0])
	require.NoError(t, err)
	m.Params()[0].MutableData()[0] += 0.5
	require.NoError(t, m.Save(networks[0]))
	refused(t, out, []string{networks[0], "corrupt"}, small("table1", data, out)...)
	m.Params()[0].MutableData()[0] -= 0.5
	m.Meta[historyKey] = "[]"
	require.NoError(t, m.Save(networks[0]))
	refused(t, out, []string{networks[0], "corrupt"}, small("table1", data, out)...)
}

// Whatever an evaluation's file says, it is refused or is one of the test images.
func FuzzEvaluation(f *testing.F) {
	want := &record{Network: "n", Identity: "i", Labels: []int{0, 1, 1}}
	valid := *want
	valid.Outcomes = []trials.Outcome{{Trial: trials.Clean, Accuracy: 2. / 3, Predicted: []int{0, 1, 0}, ZeroGradient: []int{2}}}
	require.NoError(f, valid.validate(want, want.Labels, 2))
	seed, err := json.Marshal(valid)
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte(`{"network":"n","identity":"i","labels":[0,1,1],"outcomes":[{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &record{}
		if json.Unmarshal(body, r) != nil || r.validate(want, want.Labels, 2) != nil {
			return
		}
		for i, o := range r.Outcomes {
			assert.Same(t, &r.Outcomes[i], r.find(o.Trial))
			if o.InWorstCase() {
				assert.Equal(t, o.Accuracy, trials.WorstCase(want.Labels, []trials.Outcome{o}))
			}
		}
	})
}
