package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/internal/racetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program is the program of the tests: bench, or a fake of another one, if the first
// argument begins with "fake:".
func program() {
	turnTime = time.Millisecond
	if len(os.Args) > 1 {
		if kind, ok := strings.CutPrefix(os.Args[1], "fake:"); ok {
			os.Args = slices.Delete(os.Args, 1, 2)
			fake(kind)
			return
		}
	}
	main()
}

// fake is another program, of a kind.
func fake(kind string) {
	serves := slices.Contains(os.Args, "-serve")
	exit := func(line string) {
		fmt.Fprintln(os.Stderr, "Warning: something\n"+line)
		os.Exit(3)
	}
	o, err := parse(slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool { return arg == "-serve" }), io.Discard)
	if err != nil {
		exit(err.Error())
	}
	r := &report{Arch: o.arch, T: o.steps, Batch: o.batch, Threads: o.threads, Kernel: "none", Rates: []float64{0.5, 0.5}}
	if strings.HasPrefix(kind, "old") { // of a time before -serve
		if serves {
			exit("bench: flag provided but not defined: -serve (-help lists the flags)")
		}
		switch r.MS = map[string]float64{}; kind {
		case "old":
			main()
		case "old-dies":
			exit("bench: no memory")
		case "old-writes-nothing":
			return
		}
		for _, part := range timedParts {
			r.MS[part] = 1
		}
		if kind == "old-lacks-train" {
			delete(r.MS, "train")
		}
		if err := o.save(r); err != nil {
			exit(err.Error())
		}
		return
	}
	// The network of the tests has these rates.
	m, err := o.network()
	if err == nil {
		x, _, failed := loadPeer(m, o.peer)
		if err = failed; err == nil {
			r.Rates, err = rates(m, x)
		}
	}
	if err != nil {
		exit(err.Error())
	}
	switch kind {
	case "no-start":
		exit("peer: no memory")
	case "greets":
		fmt.Println("Hello! " + strings.Repeat("x", 1000))
	case "other-T":
		r.T++
	case "other-rates":
		r.Rates[1] += 0.011
	case "other-layers":
		r.Rates = r.Rates[1:]
	}
	e := json.NewEncoder(os.Stdout)
	if err := e.Encode(r); err != nil {
		exit(err.Error())
	}
	asked := map[string]int{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		part := lines.Text()
		asked[part]++
		if log := os.Getenv("BENCH_LOG"); log != "" {
			f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				exit(err.Error())
			}
			fmt.Fprintln(f, kind, part)
			f.Close()
		}
		time.Sleep(2 * turnTime) // so that a turn is one run
		if part == "train" {
			switch kind {
			case "dies":
				exit("peer: no memory for train")
			case "babbles":
				fmt.Println("training…")
			case "mistakes":
				part = "forward"
			case "no-time":
				fmt.Println(`{"part":"train","ms":0}`)
			case "sleeps":
				time.Sleep(time.Hour)
			case "falls-asleep":
				if asked[part] == 3 {
					time.Sleep(time.Hour)
				}
			case "dies-late":
				if asked[part] == 3 {
					exit("peer: no memory for train")
				}
			}
		}
		if err := e.Encode(answer{part, float64(asked[part] * asked[part]), 100}); err != nil {
			exit(err.Error())
		}
	}
}

// other returns the flags for a fake.
func other(kind string) []string { return []string{"-against", os.Args[0] + " fake:" + kind} }

func figuresOf(t *testing.T, path string) (r report) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	require.NotNil(t, r.Against)
	require.NotNil(t, r.Against.Other)
	return r
}

// temporary makes a folder for temporary files, which must be empty when the test ends.
func temporary(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	t.Setenv("TMP", folder) // Windows
	t.Cleanup(func() {
		files, err := os.ReadDir(folder)
		assert.NoError(t, err)
		assert.Empty(t, files)
	})
}

// A build against itself, in turns of parts, and against one that has no flag -serve, in runs
// of all parts.
func TestAgainstBuild(t *testing.T) {
	for turns, command := range map[string]string{"parts": os.Args[0], "runs": os.Args[0] + " fake:old"} {
		temporary(t)
		figures := filepath.Join(t.TempDir(), "figures.json")
		stdout, stderr, code := start(t, "-against", command, "-reps", "3", "-json", figures)
		require.Zero(t, code, stderr)
		assert.Contains(t, stdout, "other side: "+command+" (")
		assert.Contains(t, stdout, "; "+turns+" took turns\n")
		r := figuresOf(t, figures)
		theirs := r.Against.Other
		assert.Equal(t, turns, r.Against.Turns)
		assert.NoError(t, theirs.sameNetwork(&r))
		for _, cs := range [][]check{r.Checks, theirs.Checks} { // the same bits
			assert.Len(t, cs, 5)
			for _, c := range cs {
				assert.LessOrEqual(t, c.Err, 1e-7, c.Name) // of rates, which are rounded to float32
			}
		}
		assert.Contains(t, stdout, "other side against snnrat")
		assert.NotContains(t, stdout, "snnrat against")
		for _, part := range parts {
			assert.Regexp(t, `(?m)^ *`+part+` +[\d.]+ +[\d.]+ +[\d.]+× +[\d.]+ to [\d.]+ +3$`, stdout)
			got := r.Against.Rounds[part]
			require.Len(t, got.Ours, 3, part)
			require.Len(t, got.Theirs, 3, part)
			assert.Positive(t, min(slices.Min(got.Ours), slices.Min(got.Theirs)), part)
			assert.Equal(t, slices.Sorted(slices.Values(got.Ours))[1], r.MS[part])
			assert.Equal(t, slices.Sorted(slices.Values(got.Theirs))[1], theirs.MS[part])
		}
		if peakMB() > 0 {
			assert.Greater(t, r.PeakMB, 1.)
			assert.Regexp(t, `(?m)^ *peak memory, MB +[\d.]+ +[\d.]+ +[\d.]+× *$`, stdout)
		}
		if turns == "parts" {
			assert.Regexp(t, `(?m)^train \(\d+ % of all; \d:\d\d elapsed, about \d:\d\d left\)$`, stderr)
			assert.Contains(t, stderr, "regularize (100 % of all")
		} else {
			assert.Contains(t, stderr, "round 3 of 3 (100 % of all")
		}
	}
}

// With -peer, both sides load the folder.
func TestAgainstWithPeer(t *testing.T) {
	racetest.Costly(t)
	folder := exported(t, func(_, expect tensors) { expect.floats("logits", make([]float32, 20), 2, 10) })
	for _, command := range []string{os.Args[0], os.Args[0] + " fake:old"} {
		figures := filepath.Join(t.TempDir(), "figures.json")
		stdout, stderr, code := clitest.Run(t, "-arch", arch, "-T", "2", "-threads", "1", "-reps", "1", "-against", command, "-peer", folder, "-json", figures)
		require.Zero(t, code, stderr)
		assert.Contains(t, stdout, "snnrat against -peer ")
		assert.Contains(t, stdout, "other side against -peer ")
		r := figuresOf(t, figures)
		assert.Equal(t, 2, r.Batch)
		for _, cs := range [][]check{r.Checks, r.Against.Other.Checks} {
			assert.Equal(t, new(2), cs[0].Images, "logits")
		}
		assert.FileExists(t, filepath.Join(folder, "state.safetensors"))
	}
	_, stderr, code := start(t, "-against", os.Args[0], "-peer", folder, "-batch", "3")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "bench: this build: ended before it said what it computes: exit status 1: bench: -batch 3: -peer "+folder+" has 2 images: expected the same, or no -batch")
}

// The other side's first two turns of each part do not count.
func TestAgainstTimes(t *testing.T) {
	racetest.Costly(t)
	figures := filepath.Join(t.TempDir(), "figures.json")
	_, stderr, code := start(t, append(other("steady"), "-reps", "4", "-json", figures)...)
	require.Zero(t, code, stderr)
	r := figuresOf(t, figures)
	for part, got := range r.Against.Rounds {
		want := []float64{9, 16, 25, 36}
		if part == "rat" {
			want = []float64{18, 32, 50, 72} // train + (fgsm_bptt + fgsm_bptr)/2
			for i := range 4 {
				ours := func(part string) float64 { return r.Against.Rounds[part].Ours[i] }
				assert.InEpsilon(t, ours("train")+ours("fgsm_bptt")/2+ours("fgsm_bptr")/2, got.Ours[i], 1e-9)
			}
		}
		assert.Equal(t, want, got.Theirs, part)
		assert.Equal(t, (want[1]+want[2])/2, r.Against.Other.MS[part], part)
		ratios := []float64{}
		for i := range want {
			ratios = append(ratios, want[i]/got.Ours[i])
		}
		slices.Sort(ratios)
		assert.Equal(t, spread{(ratios[1] + ratios[2]) / 2, ratios[0], ratios[3]}, r.Against.Ratios[part], part)
	}
	assert.Equal(t, 100., r.Against.Other.PeakMB)
}

// Each part runs once on both sides. Then the parts follow each other, and within a part the
// sides run in turns.
func TestAgainstOrder(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("BENCH_LOG", log)
	t.Setenv("SNNRAT_EXAMPLE", "bench")
	folder := exported(t, func(_, _ tensors) {})
	var sides []*side
	for _, kind := range []string{"a", "b"} {
		s := &side{name: kind, command: []string{os.Args[0], "fake:" + kind}, flags: []string{"-arch", arch, "-T", "2", "-peer", folder}}
		require.NoError(t, s.start(t.Context()))
		defer s.stop()
		sides = append(sides, s)
	}
	turn := turnTime
	turnTime = time.Millisecond
	defer func() { turnTime = turn }()
	d := &comparison{Rounds: map[string]times{}}
	require.NoError(t, d.parts(t.Context(), sides[0], sides[1], 2, term.NewMeter(io.Discard, 1)))
	var want strings.Builder
	for _, part := range timedParts {
		want.WriteString("a " + part + "\nb " + part + "\n")
	}
	for _, part := range timedParts {
		want.WriteString(strings.Repeat("a "+part+"\nb "+part+"\n", 3))
	}
	got, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, want.String(), string(got))
}

// A short part is repeated for turnTime.
func TestTurn(t *testing.T) {
	t.Setenv("SNNRAT_EXAMPLE", "bench")
	folder := exported(t, func(_, _ tensors) {})
	s := &side{command: []string{os.Args[0], "fake:steady"}, flags: []string{"-arch", arch, "-T", "2", "-peer", folder}}
	require.NoError(t, s.start(t.Context()))
	defer s.stop()
	begin := time.Now()
	ms, err := s.turn(t.Context(), "forward")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(begin), turnTime)
	assert.GreaterOrEqual(t, ms, 2.5) // of 1, 4, …
}

func TestAgainstErrors(t *testing.T) {
	for _, c := range []struct {
		kind  string
		parts []string
	}{
		{"no-start", []string{": ended before it said what it computes: exit status 3: peer: no memory"}},
		{"greets", []string{`: says "Hello! xxx`, `xxx": expected what it computes, {"arch":…}`}},
		{"other-T", []string{": computes " + `"conv4 A conv4 A | fc", T 3, batch 2, 1 threads: expected "conv4 A conv4 A | fc", 2, 2, 1`}},
		{"other-rates", []string{": computes a firing rate of 0.", " in layer 1: expected 0.", " within 0.01"}},
		{"other-layers", []string{": computes firing rates of 1 layers: expected 2"}},
		{"dies", []string{": train: ended without an answer: exit status 3: peer: no memory for train"}},
		{"babbles", []string{`: train: answers "training…": expected {"part":"train","ms":…} with a positive time`}},
		{"mistakes", []string{`: train: answers "{\"part\":\"forward\",`, `expected {"part":"train"`}},
		{"no-time", []string{`: train: answers "{\"part\":\"train\",\"ms\":0}": expected {"part":"train","ms":…} with a positive time`}},
		{"old-dies", []string{": failed to run all parts: exit status 3: bench: no memory"}},
		{"old-writes-nothing", []string{": wrote no figures: ", "figures.json"}},
		{"old-lacks-train", []string{": train: its figures have the time 0: expected a positive one"}},
		{"old-other", []string{": computes a firing rate of 0.5 in layer 0: expected 0."}},
	} {
		temporary(t)
		stdout, stderr, code := start(t, other(c.kind)...)
		assert.Equal(t, 1, code, c.kind)
		assert.Empty(t, stdout, c.kind)
		assert.True(t, strings.HasPrefix(stderr, "bench: -against "+os.Args[0]+" fake:"+c.kind+": ") && strings.Count(stderr, "\n") == 1, "%s: %s", c.kind, stderr)
		for _, part := range c.parts {
			assert.Contains(t, stderr, part, c.kind)
		}
		assert.Less(t, len(stderr), 600, c.kind)
	}
	_, stderr, code := start(t, "-against", "./none")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "bench: -against ./none: ")

	// What was completed before is printed.
	stdout, stderr, code := start(t, append(other("dies-late"), "-reps", "2")...)
	assert.Equal(t, 1, code)
	assert.Regexp(t, `(?m)^ *fgsm_cba .* 2$`, stdout)
	assert.NotContains(t, stdout, "train")
	assert.Contains(t, stderr, ": train: ended without an answer: exit status 3: peer: no memory for train\n")

	// A part that this build does not have.
	_, stderr, code = serveOnce(t, "forward\ncooking\n")
	assert.Equal(t, 1, code)
	assert.Equal(t, "bench: -serve: part \"cooking\": expected one of forward, fgsm_bptt, fgsm_bptr, fgsm_cba, train, regularize\n", stderr)
}

// serveOnce runs the program with -serve and these requests.
func serveOnce(t *testing.T, requests string) (stdout, stderr string, code int) {
	t.Helper()
	c := clitest.Command("-arch", arch, "-T", "2", "-batch", "2", "-threads", "1", "-serve")
	var out, errs strings.Builder
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(requests), &out, &errs
	_ = c.Run()
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func TestServe(t *testing.T) {
	stdout, stderr, code := serveOnce(t, "regularize\nforward\n")
	require.Zero(t, code, stderr)
	assert.Empty(t, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 3)
	var r report
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &r))
	assert.Equal(t, arch, r.Arch)
	assert.Len(t, r.Rates, 2)
	for i, part := range []string{"regularize", "forward"} {
		var a answer
		require.NoError(t, json.Unmarshal([]byte(lines[i+1]), &a))
		assert.Equal(t, part, a.Part)
		assert.Positive(t, a.MS)
		assert.Equal(t, peakMB() > 0, a.PeakMB > 0)
	}
}

// Ctrl-C ends a part that is running, on either side, and the other side. The parts before
// it are printed and written.
func TestAgainstStopped(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal there")
	}
	for kind, completed := range map[string]int{"sleeps": 0, "falls-asleep": 4} {
		temporary(t)
		log := filepath.Join(t.TempDir(), "log")
		t.Setenv("BENCH_LOG", log)
		figures := filepath.Join(t.TempDir(), "figures.json")
		c := clitest.Command(small(append(other(kind), "-reps", "2", "-json", figures)...)...)
		var stdout, stderr strings.Builder
		c.Stdout, c.Stderr = &stdout, &stderr
		require.NoError(t, c.Start())
		asleep := func() bool {
			b, _ := os.ReadFile(log)
			return strings.Count(string(b), " train\n") == map[string]int{"sleeps": 1, "falls-asleep": 3}[kind]
		}
		require.Eventually(t, asleep, time.Minute, 5*time.Millisecond)
		require.NoError(t, c.Process.Signal(os.Interrupt))
		assert.EqualError(t, c.Wait(), "exit status 130")
		assert.True(t, strings.HasSuffix(stderr.String(), "bench: stopped; the table has the completed parts, if any\n"), stderr.String())
		if completed == 0 {
			assert.Empty(t, stdout.String())
			assert.NoFileExists(t, figures)
			continue
		}
		assert.Regexp(t, `(?m)^ *fgsm_cba .* 2$`, stdout.String())
		assert.NotContains(t, stdout.String(), "train")
		assert.NotRegexp(t, `(?m)^ *rat `, stdout.String())
		assert.Len(t, figuresOf(t, figures).Against.Ratios, completed)
	}
}

// Ctrl-C in a terminal goes to the other side too, which can end first. That is no error of
// its own.
func TestExplainAfterInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	s := &side{name: "x"}
	assert.ErrorIs(t, s.explain(ctx, "ended", nil), context.Canceled)
}

func TestCommand(t *testing.T) {
	for text, want := range map[string][]string{
		"peer.py -compile":          {"python3", "peer.py", "-compile"},
		" venv/bin/python peer.py ": {"venv/bin/python", "peer.py"},
		"./bench":                   {"./bench"},
	} {
		assert.Equal(t, want, command(text))
	}
}

// testdata/peer.py computes what this build does. SNNRAT_PYTHON is a Python with PyTorch
// and SpikingJelly.
func TestTorch(t *testing.T) {
	python := os.Getenv("SNNRAT_PYTHON")
	if python == "" {
		t.Skip("SNNRAT_PYTHON names no Python with PyTorch")
	}
	for _, arch := range []string{"conv8 A conv8 M conv4 | fc8 fc", "WRN widths 4,4,8,16, 2 blocks a group, strides 1,2,2"} {
		for flag, name := range map[string]string{"": "PyTorch", " -spikingjelly": "SpikingJelly"} {
			figures := filepath.Join(t.TempDir(), "figures.json")
			stdout, stderr, code := start(t, "-arch", arch, "-against", python+" testdata/peer.py"+flag, "-json", figures)
			require.Zero(t, code, stderr)
			assert.Contains(t, stdout, name)
			for _, c := range figuresOf(t, figures).Against.Other.Checks {
				assert.Less(t, c.Err, 1e-4, "%s%s: %s", arch, flag, c.Name)
			}
		}
	}
}
