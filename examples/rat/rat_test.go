package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset/fashion"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// small are flags for a run that takes no time.
func small(more ...string) []string {
	return append([]string{"-width", "0.25", "-T", "2", "-epochs", "2", "-train", "150", "-test", "20", "-battery", "none"}, more...)
}

// products reads what a run wrote to a folder, results.json without what depends on
// the clock.
func products(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	files := map[string]string{}
	for _, e := range entries {
		if e.Name() == runs.LockName {
			continue
		}
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		require.NoError(t, err)
		files[e.Name()] = regexp.MustCompile(`"(seconds|images_per_second)":[^,}]*`).ReplaceAllString(string(b), "")
	}
	assert.Len(t, files, 6, "%v", entries)
	return files
}

// What is printed, results.json and the networks are of one piece.
func TestRun(t *testing.T) {
	folder, battery := filepath.Join(t.TempDir(), "new", "folder"), clitest.Battery()
	stdout, stderr, code := clitest.Run(t, small("-battery", battery, "-out", folder)...)
	require.Zero(t, code, stderr)

	var res results
	b, err := os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &res))
	test, err := fashion.Test()
	require.NoError(t, err)
	test, err = test.First(20)
	require.NoError(t, err)
	assert.Equal(t, test.Labels, res.Labels)
	assert.Equal(t, runs.NewMaker(), res.Maker)
	assert.Equal(t, 0.25, res.Options.Width)
	assert.Len(t, res.Training["rat"], 2)

	right := func(o trials.Outcome, i int) bool { return o.Predicted[i] == res.Labels[i] }
	for _, in := range []map[string]*judgement{res.White, res.Black} {
		for name, j := range in {
			worst := 20
		images:
			for i := range 20 {
				for _, o := range j.Outcomes {
					if (o.Attack == "clean" || o.Eps == 16 && o.Attack != "noise") && !right(o, i) {
						worst--
						continue images
					}
				}
				if j.Battery != nil && j.Battery.Report.Results[i].BrokenBy != attack.Survived {
					worst--
				}
			}
			assert.Equal(t, float64(worst)/20, j.WorstCase, name)
			for _, o := range j.Outcomes {
				count := 0
				for i := range 20 {
					if right(o, i) {
						count++
					}
				}
				assert.Equal(t, float64(count)/20, o.Accuracy, o.Trial)
			}
		}
	}
	assert.Len(t, res.White["rat"].Outcomes, 1+1+2+8+6)
	assert.Len(t, res.Black["rat"].Outcomes, 1+8+6)

	x := tensor.NewNCHW(20, 1, 28, 28)
	indices := make([]int, 20)
	for i := range indices {
		indices[i] = i
	}
	require.NoError(t, test.Fill(x, indices))
	for _, name := range []string{"rat", "vanilla", "source"} {
		m, cfg, err := zoo.Load(filepath.Join(folder, name+".safetensors"))
		require.NoError(t, err)
		assert.Equal(t, 2, cfg.Steps)
		if name == "source" {
			continue
		}
		logits, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		for i, class := range res.White[name].Outcomes[0].Predicted {
			z := logits[10*i:][:10]
			assert.Equal(t, slices.Max(z), z[class])
		}
	}

	find := func(in map[string]*judgement, name, attack, gradient string) float64 {
		for _, o := range in[name].Outcomes {
			if o.Attack == attack && o.Gradient == gradient && (o.Eps == 16 || attack == "clean") {
				return 100 * o.Accuracy
			}
		}
		panic("no " + attack)
	}
	cell := func(in map[string]*judgement, attack, gradient string) string {
		return fmt.Sprintf("%.1f(%.1f)", find(in, "rat", attack, gradient), find(in, "vanilla", attack, gradient))
	}
	lines := strings.Split(strings.ReplaceAll(stdout, " ", ""), "\n")
	w, k := res.White, res.Black
	rows := [][]string{
		{"clean", cell(w, "clean", "")},
		{"noise", cell(w, "noise", "")},
		{"PGD", cell(w, "PGD", "BPTR"), cell(w, "PGD", "BPTT"), cell(w, "PGD", "CBA"), cell(k, "PGD", "BPTR"), cell(k, "PGD", "BPTT")},
		{"BIM", cell(w, "BIM", "BPTR"), cell(w, "BIM", "BPTT"), cell(k, "BIM", "BPTR"), cell(k, "BIM", "BPTT")},
		{"worstcase", fmt.Sprintf("%.1f(%.1f)%.1f(%.1f)", 100*w["rat"].WorstCase, 100*w["vanilla"].WorstCase,
			100*k["rat"].WorstCase, 100*k["vanilla"].WorstCase)},
	}
	counted := 0 // networks with a battery
	if battery != noBattery {
		rows = append(rows, []string{"battery", fmt.Sprintf("%.1f(%.1f)", 100*w["rat"].Battery.Report.WorstCase, 100*w["vanilla"].Battery.Report.WorstCase)})
		counted = 2
	}
	for _, row := range rows {
		assert.Contains(t, lines, strings.Join(row, ""))
	}
	assert.Contains(t, stdout, "\nPGD and BIM: 7 steps of ε/3. RAT trained at ε = 8/255.\n")
	for line := range strings.Lines(strings.ReplaceAll(stdout, folder, "out")) {
		assert.LessOrEqual(t, len([]rune(line)), 80+len("\n"), line)
	}

	svg, err := os.ReadFile(filepath.Join(folder, "accuracy.svg"))
	require.NoError(t, err)
	for _, line := range []string{"RAT, white-box", "vanilla, white-box", "RAT, black-box", "vanilla, black-box"} {
		assert.Contains(t, string(svg), line)
	}

	// Without a terminal, a line for each epoch and evaluation, the last without a rest.
	progress := strings.Split(strings.TrimSpace(stderr), "\n")
	assert.Len(t, progress, 3*2+3+counted)
	for i, line := range progress {
		assert.Regexp(t, `^.+ \(\d+ % of all; \d+:\d\d elapsed(, about \d+:\d\d left)?\)$`, line)
		assert.Equal(t, i == len(progress)-1, strings.Contains(line, "(100 %"), line)
	}
	assert.Contains(t, progress[3], "RAT network: epoch 2 of 2: loss ")
}

func TestRunRepeats(t *testing.T) {
	racetest.Costly(t)
	var first map[string]string
	for _, threads := range []string{"1", "2", "2"} {
		folder := t.TempDir()
		_, stderr, code := clitest.Run(t, small("-threads", threads, "-out", folder)...)
		require.Zero(t, code, stderr)
		got := products(t, folder)
		if first == nil {
			first = got
		}
		for name := range first {
			assert.True(t, first[name] == got[name], "%s differs at %s threads", name, threads)
		}
	}
	folder := t.TempDir()
	_, stderr, code := clitest.Run(t, small("-seed", "2", "-out", folder)...)
	require.Zero(t, code, stderr)
	other := products(t, folder)
	for _, name := range []string{"rat.safetensors", "vanilla.safetensors", "source.safetensors", "results.json"} {
		assert.False(t, first[name] == other[name], "%s does not depend on the seed", name)
	}
}

// patience is a context that is done once it has been asked for it so many times.
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

// A run that is stopped, wherever and however often, and resumed, makes what one does
// that was not; and does not do again what is done.
func TestResume(t *testing.T) {
	racetest.Costly(t)
	battery := clitest.Battery()
	small := func(more ...string) []string { return small(append([]string{"-battery", battery}, more...)...) }
	whole := t.TempDir()
	_, stderr, code := clitest.Run(t, small("-out", whole)...)
	require.Zero(t, code, stderr)
	want := products(t, whole)

	start := func(ctx context.Context, folder string, more ...string) (string, error) {
		o, err := parse(append(small("-out", folder), more...), io.Discard)
		require.NoError(t, err)
		var lines strings.Builder
		err = run(ctx, o, io.Discard, &lines)
		return lines.String(), err
	}
	same := func(folder string) {
		t.Helper()
		got := products(t, folder)
		for name := range want {
			assert.True(t, want[name] == got[name], "%s differs", name)
		}
	}

	// Wherever.
	folder := t.TempDir()
	all := ""
	stops := 0
	for patience := 3; ; patience += 11 + patience/4 { // the checks of a battery begin anew
		lines, err := start(patient(patience), folder, fmt.Sprintf("-resume=%v", stops > 0))
		all += lines
		if err == nil {
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		stops++
		assert.NoFileExists(t, filepath.Join(folder, "results.json"))
	}
	assert.Greater(t, stops, 10)
	same(folder)
	for _, n := range networks {
		for epoch := range 2 {
			assert.Equal(t, 1, strings.Count(all, fmt.Sprintf("%s: epoch %d of 2", n.title, epoch+1)))
		}
	}
	for _, e := range evaluations {
		assert.Equal(t, 1, strings.Count(all, "attacks: "+e.title+" ("))
	}
	for _, name := range []string{"rat", "vanilla"} {
		assert.Equal(t, battery != noBattery, strings.Contains(all, "attacks: battery: "+name+" ("))
	}

	// And with what other flags a run is not resumed or begun anew.
	folder = t.TempDir()
	_, err := start(patient(40), folder)
	require.ErrorIs(t, err, context.Canceled)
	require.FileExists(t, filepath.Join(folder, "vanilla.ckpt"))
	before, err := os.ReadFile(filepath.Join(folder, "vanilla.ckpt"))
	require.NoError(t, err)
	for _, c := range []struct{ args, err string }{
		{"", "-out " + folder + ": holds a run that was stopped: go on with -resume"},
		{"-resume -seed 2", `-resume: -seed is "2", but the run in ` + folder + ` has "1"`},
		{"-resume -eps 4", `-resume: -eps is "4", but the run in ` + folder + ` has "8"`},
		{"-resume -test-eps 8", `-resume: -test-eps is "8", but`},
		{"-resume -arch conv4|fc", `-resume: -arch is "conv4|fc", but the run in ` + folder + ` has "small"`},
		{"-resume -T 3", `-resume: -T is "3", but`},
		{"-resume -test 19", `-resume: -test is "19", but`},
		{"-resume -lr 0.2", `-resume: -lr is "0.2", but`},
	} {
		_, err := start(context.Background(), folder, strings.Fields(c.args)...)
		assert.ErrorContains(t, err, c.err)
	}
	after, err := os.ReadFile(filepath.Join(folder, "vanilla.ckpt"))
	require.NoError(t, err)
	assert.Equal(t, before, after)
	_, err = start(context.Background(), folder, "-resume", "-threads", "1")
	require.NoError(t, err)
	same(folder)

	_, err = start(context.Background(), folder, "-resume")
	assert.ErrorContains(t, err, "-resume: "+folder+" holds no run that was stopped: start without -resume", "a completed run")
}

func TestResumeCorrupt(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	stop := func() {
		o, err := parse(small("-out", folder), io.Discard)
		require.NoError(t, err)
		require.ErrorIs(t, run(patient(40), o, io.Discard, io.Discard), context.Canceled)
	}
	stop()
	for _, name := range []string{"vanilla.ckpt", "run.json"} {
		path := filepath.Join(folder, name)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, b[:len(b)/2], 0o644))
		refused(t, []string{path}, small("-out", folder, "-resume")...)
		require.NoError(t, os.WriteFile(path, b, 0o644))
	}
}

// What attacks know nothing about is said: here no potential comes near the threshold, so
// that surrogate gradients are zero, and only those of the ReLU network are not.
func TestZeroGradient(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	battery := clitest.Battery()
	stdout, stderr, code := clitest.Run(t, small("-battery", battery, "-theta", "1000", "-train", "40", "-out", folder)...)
	require.Zero(t, code, stderr)
	var res results
	b, err := os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &res))
	all := make([]int, 20)
	for i := range all {
		all[i] = i
	}
	var want []string
	for _, in := range []struct {
		judgement *judgement
		name      string
	}{{res.White["vanilla"], "vanilla"}, {res.White["rat"], "RAT"}, {res.Black["vanilla"], "the source network"}} {
		for _, o := range in.judgement.Outcomes {
			if o.Gradient == "BPTR" || o.Gradient == "BPTT" {
				assert.Equal(t, all, o.ZeroGradient, "%s: %v", in.name, o.Trial)
				if o.Eps == 16 {
					want = append(want, fmt.Sprintf("No gradient, so no attack: %s %s, 20 images of %s.\n", o.Attack, o.Gradient, in.name))
				}
			} else {
				assert.Empty(t, o.ZeroGradient, "%s: %v", in.name, o.Trial)
			}
		}
	}
	require.Len(t, want, 3*8)
	assert.Equal(t, res.Black["vanilla"].Outcomes[1].ZeroGradient, res.Black["rat"].Outcomes[1].ZeroGradient)
	_, after, _ := strings.Cut(stdout, "RAT trained at ε = 8/255.\n")
	if battery != noBattery { // its checks see it, too
		assert.Positive(t, res.White["vanilla"].Battery.Faults())
		want = slices.Insert(want, 0, res.faults())
	}
	assert.True(t, strings.HasPrefix(after, strings.Join(want, "")+"\n"), stdout)
}

// Without a battery the table has no row of it, and the note does not speak of one.
func TestTableAlone(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	stdout, stderr, code := clitest.Run(t, small("-train", "40", "-out", folder)...)
	require.Zero(t, code, stderr)
	assert.NotContains(t, strings.ToLower(stdout), "battery")
	assert.Contains(t, stdout, "Worst case: images classified as labelled when clean and under every attack.\n")
	refused(t, []string{"-battery: ", "expected one of quick, standard, thorough, or none"}, small("-battery", "all")...)
}

// Of the table's attacks alone, and each network once.
func TestPrintZeroGradient(t *testing.T) {
	r := results{Options: options{TestEps: 8}, White: map[string]*judgement{"vanilla": {}, "rat": {}}, Black: map[string]*judgement{"vanilla": {}, "rat": {}}}
	assert.Empty(t, r.zeroGradients())
	r.White["vanilla"].Outcomes = []trials.Outcome{
		{Trial: trials.Clean},
		{Trial: newTrial("BIM", snn.BPTR{}, 8), ZeroGradient: []int{1, 3}},
		{Trial: newTrial("PGD", snn.BPTT{}, 4), ZeroGradient: []int{1, 3}},
		{Trial: newTrial("PGD", snn.BPTT{}, 8)},
	}
	r.White["rat"].Outcomes = []trials.Outcome{{Trial: newTrial("FGSM", snn.CBA{}, 8), ZeroGradient: []int{7}}}
	black := []trials.Outcome{{Trial: newTrial("PGD", snn.BPTR{}, 8), ZeroGradient: make([]int, 1000)}}
	r.Black["vanilla"].Outcomes, r.Black["rat"].Outcomes = black, black
	assert.Equal(t, "No gradient, so no attack: BIM BPTR, 2 images of vanilla.\n"+
		"No gradient, so no attack: FGSM CBA, 1 image of RAT.\n"+
		"No gradient, so no attack: PGD BPTR, 1000 images of the source network.\n", r.zeroGradients())
}

// Ctrl-C, and the SIGTERM of a scheduler.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent an interrupt there")
	}
	args := []string{"-T", "2", "-epochs", "2", "-train", "300", "-test", "40", "-battery", "none", "-out"}
	whole, folder := t.TempDir(), t.TempDir()
	for i, at := range []string{"plain network: epoch 1", "RAT network: epoch 1", "attacks: white-box, plain"} {
		more := []string{folder, "-resume"}[:1+min(i, 1)]
		c := clitest.Command(append(args, more...)...)
		pipe, err := c.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		var after []string
		found := false
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			if found {
				after = append(after, lines.Text())
			} else if strings.HasPrefix(lines.Text(), at) {
				found = true
				require.NoError(t, c.Process.Signal([]os.Signal{os.Interrupt, syscall.SIGTERM}[i%2]))
			}
		}
		require.True(t, found)
		var exit *exec.ExitError
		require.ErrorAs(t, c.Wait(), &exit)
		assert.Equal(t, 130, exit.ExitCode())
		assert.Contains(t, after, "rat: stopping after this step; Ctrl-C again stops at once")
		assert.Equal(t, "rat: stopped; the same flags and -resume go on from what is done, in "+folder, after[len(after)-1])
		if testing.Short() {
			return // the rest takes long under the race detector
		}
	}
	_, stderr, code := clitest.Run(t, append(args, whole)...)
	require.Zero(t, code, stderr)
	_, stderr, code = clitest.Run(t, append(args, folder, "-resume")...)
	require.Zero(t, code, stderr)
	assert.NotContains(t, stderr, "epoch")
	assert.NotContains(t, stderr, "attacks: white-box, plain")
	want, got := products(t, whole), products(t, folder)
	for name := range want {
		assert.True(t, want[name] == got[name], "%s differs", name)
	}
}

// refused runs the program, which is to end with 1 and, on standard error, one line
// last that holds these parts.
func refused(t *testing.T, parts []string, args ...string) {
	t.Helper()
	_, stderr, code := clitest.Run(t, args...)
	assert.Equal(t, 1, code, "%v", args)
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	assert.True(t, strings.HasPrefix(lines[len(lines)-1], "rat: "), stderr)
	for _, part := range parts {
		assert.Contains(t, lines[len(lines)-1], part)
	}
	assert.NotContains(t, stderr, "goroutine")
}

func TestRefusals(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	out := filepath.Join(folder, "out")
	for _, c := range []struct {
		args  []string
		parts []string
	}{
		{[]string{"-T", "0"}, []string{"-T", `"0"`, "expected a whole number in [1, 1024]"}},
		{[]string{"-T", "four"}, []string{"-T", `"four"`, "expected a whole number in [1, 1024]"}},
		{[]string{"-theta", "0"}, []string{"-theta", `"0"`, "(0, ∞)"}},
		{[]string{"-theta", "NaN"}, []string{"-theta", `"NaN"`, "(0, ∞)"}},
		{[]string{"-theta", "1e-300"}, []string{"threshold 0", "positive"}},
		{[]string{"-decay", "0"}, []string{"-decay", `"0"`, "(0, 1]"}},
		{[]string{"-decay", "1.01"}, []string{"-decay", `"1.01"`, "(0, 1]"}},
		{[]string{"-epochs", "0"}, []string{"-epochs", `"0"`, "[1, "}},
		{[]string{"-eps", "-1"}, []string{"-eps", `"-1"`, "[0, 255]"}},
		{[]string{"-eps", "256"}, []string{"-eps", `"256"`, "[0, 255]"}},
		{[]string{"-test-eps", "0"}, []string{"-test-eps", `"0"`, "(0, 255]"}},
		{[]string{"-test-eps", "-8"}, []string{"-test-eps", `"-8"`, "(0, 255]"}},
		{[]string{"-beta", "-0.1"}, []string{"-beta", `"-0.1"`, "[0, 1]"}},
		{[]string{"-lr", "0"}, []string{"-lr", `"0"`, "(0, ∞)"}},
		{[]string{"-lr", "Inf"}, []string{"-lr", `"Inf"`, "(0, ∞)"}},
		{[]string{"-width", "0"}, []string{"-width", `"0"`, "(0, 64]"}},
		{[]string{"-width", "65"}, []string{"-width", `"65"`, "(0, 64]"}},
		{[]string{"-train", "-1"}, []string{"-train", `"-1"`, "[0, ∞)"}},
		{[]string{"-test", "-1"}, []string{"-test", `"-1"`, "[0, ∞)"}},
		{[]string{"-train", "6001"}, []string{"-train 6001", "6000"}},
		{[]string{"-test", "1001"}, []string{"-test 1001", "1000"}},
		{[]string{"-seed", "-1"}, []string{"-seed", `"-1"`, "[0, ∞)"}},
		{[]string{"-threads", "-1"}, []string{"-threads", `"-1"`, "[0, 1024]"}},
		{[]string{"-resume=maybe"}, []string{"-resume", `"maybe"`}},
		{[]string{"-epoch", "1"}, []string{"-epoch"}},
		{[]string{"fashion"}, []string{`unexpected argument "fashion"`}},
		{[]string{"-arch", "resnet18"}, []string{"-arch", `"resnet18"`, "expected small, spiking_vgg11, "}},
		{[]string{"-arch", ""}, []string{"-arch", "expected small, spiking_vgg11, "}},
		{[]string{"-arch", "conv4 A"}, []string{"-arch", "conv4 A"}},
		{[]string{"-arch", "conv4 A |"}, []string{"conv4 A |", "expected fcN right of the bar"}},
		{[]string{"-arch", "conv4 B | fc"}, []string{`"B"`, "expected convN, A or M"}},
		{[]string{"-arch", "conv | fc"}, []string{`"conv"`, "expected a number from 1 to 65536"}},
		{[]string{"-arch", "conv4 | fc11"}, []string{`"fc11"`, "10 classes"}},
		{[]string{"-arch", "A A A A A | fc"}, []string{"28×28", "too small"}},
		{[]string{"-arch", "WRN widths 16"}, []string{"WRN widths 16", "expected"}},
		{[]string{"-arch", "WRN widths 4,4,4,4, 1 blocks a group, strides 1,2,2"}, []string{"shortcut"}},
		{[]string{"-data", filepath.Join(folder, "none")}, []string{"-data", "none", "expected fashion-mini"}},
		{[]string{"-data", file}, []string{"-data", file, "data_batch_1.bin"}},
		{[]string{"-data", folder}, []string{"-data", "holds no data set: expected fashion-mini"}},
		{[]string{"-resume"}, []string{"-resume", out, "start without -resume"}},
	} {
		args := small(append(c.args, "-out", out)...)
		stdout, stderr, code := clitest.Run(t, args...)
		assert.Equal(t, 1, code, "%v", c.args)
		assert.Empty(t, stdout)
		assert.True(t, strings.HasPrefix(stderr, "rat: ") && strings.Count(stderr, "\n") == 1, stderr)
		for _, part := range c.parts {
			assert.Contains(t, stderr, part, "%v", c.args)
		}
		assert.NoDirExists(t, out)
	}
	refused(t, []string{"-out is empty"}, "-out", "")
	refused(t, []string{"-out " + file, "expected a folder to write to"}, small("-out", file)...)
	refused(t, []string{"-out " + file, "expected a folder to write to"}, small("-out", filepath.Join(file, "below"))...)
	if runtime.GOOS == "linux" {
		refused(t, []string{"-out /proc/none", "expected a folder to write to"}, small("-out", "/proc/none")...)
	}

	stdout, stderr, code := clitest.Run(t, "-help")
	assert.Zero(t, code)
	assert.Empty(t, stderr)
	assert.Contains(t, stdout, "-theta number\n")
}

// idxFiles writes MNIST's four files, of 8×8 images, to a folder.
func idxFiles(t *testing.T) string {
	folder := t.TempDir()
	for _, part := range []struct {
		name string
		n    int
	}{{"train", 40}, {"t10k", 10}} {
		images, labels := make([]byte, part.n*64), make([]byte, part.n)
		for i := range images {
			images[i] = byte(i * i)
		}
		for i := range labels {
			labels[i] = byte(i % 10)
		}
		clitest.WriteIDX(t, filepath.Join(folder, part.name+"-images-idx3-ubyte"), images, part.n, 8, 8)
		clitest.WriteIDX(t, filepath.Join(folder, part.name+"-labels-idx1-ubyte"), labels, part.n)
	}
	return folder
}

// cifarFiles writes CIFAR-10's files, of two images each, to a folder.
func cifarFiles(t *testing.T) string {
	folder := t.TempDir()
	for k, name := range []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"} {
		records := make([]byte, 2*3073)
		for i := range records {
			records[i] = byte(i * i)
		}
		records[0], records[3073] = byte(k), byte(9-k)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), records, 0o644))
	}
	names := strings.Repeat("class\n", 10)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "batches.meta.txt"), []byte(names), 0o644))
	return folder
}

func TestData(t *testing.T) {
	racetest.Costly(t)
	args := func(folder, out string) []string {
		return []string{"-data", folder, "-arch", "conv4 A | fc", "-T", "1", "-epochs", "1", "-test", "0", "-out", out}
	}
	stdout, stderr, code := clitest.Run(t, args(idxFiles(t), t.TempDir())...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "40 training and 10 test images")

	stdout, stderr, code = clitest.Run(t, args(cifarFiles(t), t.TempDir())...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "10 training and 2 test images")

	const trainImages, trainLabels, testImages, testLabels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
	edit := func(name string, change func([]byte) []byte) func(string) {
		return func(folder string) {
			path := filepath.Join(folder, name)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, change(b), 0o644))
		}
	}
	for title, c := range map[string]struct {
		spoil func(folder string)
		parts []string
	}{
		"missing":   {func(f string) { os.Remove(filepath.Join(f, testLabels)) }, []string{testLabels}},
		"truncated": {edit(testImages, func(b []byte) []byte { return b[:len(b)-1] }), []string{testImages, "640 bytes"}},
		"header":    {edit(trainImages, func(b []byte) []byte { return b[:10] }), []string{trainImages, "header"}},
		"empty":     {edit(trainImages, func(b []byte) []byte { return nil }), []string{trainImages, "header"}},
		"trailing":  {edit(trainLabels, func(b []byte) []byte { return append(b, 1) }), []string{trainLabels, "trailing"}},
		"magic":     {edit(trainImages, func(b []byte) []byte { b[2] = 9; return b }), []string{trainImages, "magic number 0x00000903"}},
		"kind":      {edit(trainLabels, func(b []byte) []byte { b[3] = 3; return b }), []string{trainLabels, "magic number"}},
		"gzip":      {edit(trainImages, func(b []byte) []byte { return append([]byte{0x1f, 0x8b}, b...) }), []string{trainImages, "gzip"}},
		"label":     {edit(trainLabels, func(b []byte) []byte { b[10] = 10; return b }), []string{trainLabels, "10"}},
		"no images": {func(f string) { clitest.WriteIDX(t, filepath.Join(f, trainImages), nil, 0, 8, 8) }, []string{trainImages, "0 images"}},
		"counts":    {func(f string) { clitest.WriteIDX(t, filepath.Join(f, testLabels), make([]byte, 9), 9) }, []string{testLabels, "9", "10"}},
		"sizes": {func(f string) { clitest.WriteIDX(t, filepath.Join(f, testImages), make([]byte, 490), 10, 7, 7) },
			[]string{"8×8", "7×7"}},
		"constant": {func(f string) { clitest.WriteIDX(t, filepath.Join(f, trainImages), make([]byte, 2560), 40, 8, 8) },
			[]string{"same everywhere"}},
	} {
		folder, out := idxFiles(t), filepath.Join(t.TempDir(), "out")
		c.spoil(folder)
		stdout, stderr, code := clitest.Run(t, args(folder, out)...)
		assert.Equal(t, 1, code, title)
		assert.Empty(t, stdout)
		assert.True(t, strings.HasPrefix(stderr, "rat: -data "+folder+": ") && strings.Count(stderr, "\n") == 1, "%s: %s", title, stderr)
		for _, part := range c.parts {
			assert.Contains(t, stderr, part, title)
		}
		assert.NoDirExists(t, out)
	}
}

// A default asks for no more images than there are; a flag does.
func TestFewImages(t *testing.T) {
	data, out := idxFiles(t), t.TempDir()
	args := []string{"-data", data, "-arch", "conv4 A | fc", "-T", "1", "-epochs", "1", "-out", out}
	stdout, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, "40 training and 10 test images")
	b, err := os.ReadFile(filepath.Join(out, "results.json"))
	require.NoError(t, err)
	assert.Contains(t, string(b), `"test_images":10,`)
	refused(t, []string{"-data " + data + ": -test 1000: ", " 10"}, append(args, "-test", "1000")...)
}

// A training that diverges says where, and keeps what was good.
func TestDivergence(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	refused(t, []string{"plain network", "epoch 1 of 2", "step 2 of 3", "finite number"}, small("-lr", "1e30", "-out", folder)...)

	// The projection makes the RAT network diverge in its second epoch.
	args := small("-lr", "20", "-out", folder)
	refused(t, []string{"RAT network", "epoch 2 of 2", "step ", "finite"}, args...)
	path := filepath.Join(folder, "rat.ckpt")
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	refused(t, []string{"RAT network", "epoch 2 of 2", "step ", "finite"}, append(args, "-resume")...)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, good, after)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	assert.Equal(t, []string{runs.LockName, "rat.ckpt", "run.json", "vanilla.ckpt"}, names)
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

// Results that could not be shown are not lost.
func TestPrintFails(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	o, err := parse(small("-out", folder), io.Discard)
	require.NoError(t, err)
	require.ErrorContains(t, run(context.Background(), o, full{}, io.Discard), "no space")
	assert.FileExists(t, filepath.Join(folder, "results.json"))
}

// The worst case counts attacks at the table's ε, and neither noise nor other radii.
func TestWorstCase(t *testing.T) {
	list := []trials.Trial{trials.Noise(16), newTrial("FGSM", snn.CBA{}, 16), newTrial("PGD", snn.BPTT{}, 24)}
	outcomes := []trials.Outcome{{Trial: trials.Clean, Predicted: []int{0, 0, 0, 0}}}
	for i, trial := range list {
		predicted := []int{0, 0, 0, 0}
		predicted[i] = 1
		outcomes = append(outcomes, trials.Outcome{Trial: trial, Predicted: predicted})
	}
	assert.Equal(t, 0.75, newJudgement([]int{0, 0, 0, 0}, outcomes, 16, nil).WorstCase)
}
