package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/train/dataset"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// killed runs the program until it completes, and returns the number of kills, which are at
// random changes of the folder and at most most.
func killed(t *testing.T, r *rand.Rand, folder string, args []string, most int) (kills int) {
	resume := false
	refusals := 0
	for {
		list := args
		if resume {
			list = append(list[:len(list):len(list)], "-resume")
		}
		changes := 1 + r.IntN(9)
		if kills == most {
			changes = math.MaxInt
		}
		dead, stderr, code := clitest.Kill(t, folder, changes, list...)
		switch {
		case dead:
			kills++
			refusals = 0
			continue
		case code == 0:
			return kills
		case strings.Contains(stderr, "go on with -resume"):
			resume = true
		case strings.Contains(stderr, "start without -resume"):
			resume = false
		default:
			require.Fail(t, "refused after a kill", stderr)
		}
		refusals++
		require.Less(t, refusals, 2, "refused with -resume and without: %s", stderr)
	}
}

// A run that is killed again and again while it writes makes the results of a run that is
// not killed, and leaves no other file. SNNRAT_KILLS is the number of kills.
func TestKill(t *testing.T) {
	most := clitest.Kills(t)
	args := func(folder string) []string {
		return []string{"-arch", "conv4 A | fc", "-T", "1", "-epochs", "2", "-train", "64", "-test", "8", "-out", folder}
	}
	whole := t.TempDir()
	_, stderr, code := clitest.Run(t, args(whole)...)
	require.Zero(t, code, stderr)
	want := products(t, whole)
	r := rand.New(rand.NewPCG(1, uint64(most)))
	kills, rounds := 0, 0
	for ; kills < most; rounds++ {
		folder := t.TempDir()
		kills += killed(t, r, folder, args(folder), most-kills)
		got := products(t, folder)
		for name := range want {
			assert.True(t, want[name] == got[name], "%s differs", name)
		}
	}
	t.Logf("%d kills in %d runs", kills, rounds)
}

// stopped leaves in a folder a run that was stopped after its first network was trained.
func stopped(t *testing.T, folder string) {
	t.Helper()
	o, err := parse(small("-out", folder), io.Discard)
	require.NoError(t, err)
	require.ErrorIs(t, run(patient(40), o, io.Discard, io.Discard), context.Canceled)
	require.FileExists(t, filepath.Join(folder, "vanilla.ckpt"))
}

// Whatever a kill leaves of a completed run, a new run starts in the folder.
func TestKilledWhileCompleting(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	args := small("-out", folder)
	stopped(t, folder)
	o, err := parse(args, io.Discard)
	require.NoError(t, err)
	j, err := openJournal(&options{given: o.given, out: folder, resume: true}, nil, 20)
	require.NoError(t, err)
	j.Completed = true
	require.NoError(t, j.save())
	temporary := filepath.Join(folder, ".run.json.123.tmp")
	require.NoError(t, os.WriteFile(temporary, nil, 0o644))
	refused(t, []string{"-resume: " + folder + " holds no run that was stopped: start without -resume"}, append(args, "-resume")...)
	assert.NoFileExists(t, temporary)
	_, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	products(t, folder)
}

// Two runs in one folder: the second is refused by the name of the first.
func TestTwoRuns(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	first := clitest.Command(small("-epochs", "10000", "-out", out)...)
	require.NoError(t, first.Start())
	defer func() { _ = first.Process.Kill(); _ = first.Wait() }()
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(out, "vanilla.ckpt")); return err == nil }, 20*time.Second, time.Millisecond)
	who := fmt.Sprintf("in use by process %d on ", first.Process.Pid)
	if runtime.GOOS == "windows" {
		who = "in use by another process"
	}
	refused(t, []string{"-out " + out + ": " + who, "choose another folder"}, small("-seed", "2", "-out", out)...)
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()
	// The lock has ended with its process.
	refused(t, []string{"-out " + out + ": holds a run that was stopped"}, small("-out", out)...)
}

// Any change of run.json is refused by its name.
func TestChangedJournal(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	o, err := parse(small("-out", folder), io.Discard)
	require.NoError(t, err)
	for patience := 40; ; patience += 20 { // until an evaluation is there
		o.resume = patience > 40
		require.ErrorIs(t, run(patient(patience), o, io.Discard, io.Discard), context.Canceled)
		if b, err := os.ReadFile(filepath.Join(folder, "run.json")); err == nil && strings.Contains(string(b), "predicted") {
			break
		}
	}
	o.resume = true
	path := filepath.Join(folder, "run.json")
	clitest.ChangeBits(t, path, func() error { _, err := openJournal(o, nil, 20); return err })
	require.NoError(t, os.Remove(path))
	clitest.FIFO(t, path)
	refused(t, []string{path, "named pipe"}, small("-out", folder, "-resume")...)
	require.NoError(t, os.Remove(path))
	// The checkpoints are enough to go on from.
	_, stderr, code := clitest.Run(t, small("-out", folder, "-resume")...)
	require.Zero(t, code, stderr)
	assert.NotContains(t, stderr, "epoch")
}

// A run is not resumed with other test images.
func TestResumeWithOtherImages(t *testing.T) {
	racetest.Costly(t)
	folder, data := t.TempDir(), idxFiles(t)
	start := func(times int, more ...string) error {
		o, err := parse(small(append([]string{"-data", data, "-train", "40", "-test", "10", "-out", folder}, more...)...), io.Discard)
		require.NoError(t, err)
		return run(patient(times), o, io.Discard, io.Discard)
	}
	require.ErrorIs(t, start(3), context.Canceled)
	path := filepath.Join(data, "t10k-images-idx3-ubyte")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[16]++ // a pixel of image 0
	require.NoError(t, os.WriteFile(path, b, 0o644))
	assert.ErrorContains(t, start(3, "-resume"), "-resume: -data "+data+" has changed since the run in "+folder)
}

// Evaluations that another version of the library made, or that are of other trials, are made
// anew.
func TestUnfitEvaluations(t *testing.T) {
	racetest.Costly(t)
	folder := t.TempDir()
	stopped(t, folder)
	o, err := parse(small("-out", folder, "-resume"), io.Discard)
	require.NoError(t, err)
	j, err := openJournal(o, nil, 20)
	require.NoError(t, err)
	j.Judged["white-box, plain"] = nil
	j.Batteries["vanilla"] = []attack.ImageResult{{Index: 20}}
	require.NoError(t, j.save())
	again, err := openJournal(o, nil, 20)
	require.NoError(t, err)
	assert.Len(t, again.Judged, 1)
	assert.Len(t, again.Batteries, 1)
	j.Version = "v0.0.1"
	require.NoError(t, j.save())
	again, err = openJournal(o, nil, 20)
	require.NoError(t, err)
	assert.Empty(t, again.Judged)
	assert.Empty(t, again.Batteries)

	j.Version = again.Version
	require.NoError(t, j.save())
	_, stderr, code := clitest.Run(t, small("-out", folder, "-resume")...)
	require.Zero(t, code, stderr)
	want := t.TempDir()
	_, stderr, code = clitest.Run(t, small("-out", want)...)
	require.Zero(t, code, stderr)
	assert.Equal(t, products(t, want)["results.json"], products(t, folder)["results.json"])
}

// Faults of a battery's checks are in the table.
func TestFaults(t *testing.T) {
	faults := func(s ...attack.Status) *judgement {
		r := &attack.BatteryReport{}
		for _, s := range s {
			r.Checks = append(r.Checks, attack.Check{Status: s})
		}
		return &judgement{Battery: &trials.BatteryOutcome{Report: r}}
	}
	r := &results{White: map[string]*judgement{"vanilla": faults(attack.OK), "rat": faults(attack.Warning)}}
	assert.Empty(t, r.faults())
	r.White["rat"] = faults(attack.Fault, attack.OK, attack.Fault)
	assert.Equal(t, "Faults that the battery's checks found: vanilla 0, RAT 2. See results.json.\n", r.faults())
}

// Whatever run.json says, it is refused, or its outcomes are of the evaluation or made anew.
func FuzzJournal(f *testing.F) {
	set, err := dataset.New("", dataset.NewMemory(1, 1, 1, make([]uint8, 3)), []int{0, 1, 1}, []string{"a", "b"})
	require.NoError(f, err)
	o := &options{TestEps: 16, given: map[string]string{"seed": "1"}}
	e := evaluations[0]
	list := append([]trials.Trial{trials.Clean}, listTrials(o, true)...)
	valid := &journal{Origin: runs.Origin{Flags: o.given, Version: "v1"}, Judged: map[string][][]trials.Outcome{e.title: {nil}}}
	for _, t := range list {
		valid.Judged[e.title][0] = append(valid.Judged[e.title][0], trials.Outcome{Trial: t, Accuracy: 2. / 3, Predicted: []int{0, 1, 0}})
	}
	seed, err := json.Marshal(valid)
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte(`{"flags":{"seed":"1"},"version":"v1","judged":{"white-box, plain":[[{}]]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		old, opened := &journal{}, &journal{Origin: runs.Origin{Flags: o.given, Version: "v1"}}
		if json.Unmarshal(body, old) != nil || opened.goOn(old) != nil {
			return
		}
		j := &job{options: o, Data: &sets.Data{Train: set, Test: set}}
		if kept := opened.Judged[e.title]; j.fit(kept, e, list) {
			for _, outcome := range newJudgement(set.Labels, kept[0], o.TestEps, nil).Outcomes {
				if outcome.InWorstCase() {
					assert.Equal(t, outcome.Accuracy, trials.WorstCase(set.Labels, []trials.Outcome{outcome}))
				}
			}
		} else if string(body) == string(seed) {
			t.Error("a valid journal does not fit")
		}
	})
}
