package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/racetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// White-box worst cases count one battery, at the largest ε of the table, unless the flags leave
// it out. Black-box worst cases count none.
func TestBatteries(t *testing.T) {
	racetest.Costly(t)
	for _, e := range experiments {
		for _, preset := range []string{"quick", "thorough", noBattery} {
			for _, n := range e.plan(&options{Exp: e.name, TestEps: 8, TestAlpha: 0.01, TestSteps: 7, Battery: preset, betas: numbers{0.1}, Radii: numbers{8}}) {
				var got, want []trials.Trial
				eps := 0.0
				for _, tr := range n.toJudge() {
					if tr.Preset != "" {
						got = append(got, tr)
					} else {
						eps = max(eps, tr.Eps)
					}
				}
				if !n.source && !n.unjudged && preset != noBattery {
					want = []trials.Trial{trials.Battery(preset, eps)}
				}
				assert.Equal(t, want, got, "%s, %s: %+v", e.name, preset, n.method)
			}
		}
	}
}

// The flag that leaves the battery out is in the text. The battery can be made later, without
// what is there, and lowers the worst case.
func TestNoBattery(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	table := func(out, battery string) (stdout, stderr string, worst float64) {
		stdout, stderr, code := clitest.Run(t, small("table1", data, out, "-test", "10", "-battery", battery)...)
		require.Zero(t, code, stderr)
		assert.Contains(t, files(t, out)["table1.json"], fmt.Sprintf("%q: %q", "battery", battery))
		for line := range strings.Lines(stdout) {
			if fields := strings.Fields(line); strings.HasPrefix(line, "conv8 A") {
				_, err := fmt.Sscan(fields[len(fields)-1], &worst)
				require.NoError(t, err)
			}
		}
		return stdout, stderr, worst
	}
	without, _, before := table(out, noBattery)
	assert.Contains(t, without, "It counts these attacks alone, as -battery none leaves the battery out.\n")
	assert.Equal(t, 2, strings.Count(without, "battery"), without)
	with, stderr, after := table(out, "quick")
	assert.Contains(t, with, "White-box, it also counts the quick battery at ε = 8/255, ")
	assert.NotContains(t, with, noBattery)
	assert.Less(t, after, before)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	assert.Len(t, lines, 1, "the battery alone: %s", stderr)
	assert.Contains(t, lines[0], "(100 % of all; ")
	again, stderr, _ := table(out, "quick")
	assert.Equal(t, with, again)
	assert.Empty(t, stderr)
	last, _, _ := table(out, noBattery)
	assert.Equal(t, without, last)
}

// A battery that is stopped goes on from what is done, to the same bits.
func TestStoppedBattery(t *testing.T) {
	racetest.Costly(t)
	lonely8 := func() (archive, duel) {
		a, d, _ := lonely(t)
		test, err := d.test.First(8)
		require.NoError(t, err)
		d.test = test
		return a, d
	}
	a, d := lonely8()
	battery := trials.Battery("quick", 2)
	judge := func(stop int) (images int, err error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = a.judge(ctx, d, battery, func(share float64) {
			assert.Equal(t, 1./8, share)
			if images++; images == stop {
				cancel()
			}
		})
		return images, err
	}
	first, err := judge(1)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, first, 8)
	r, path, err := a.open(d)
	require.NoError(t, err)
	assert.Nil(t, r.find(battery))
	assert.Equal(t, float64(first)/8, r.done(battery))
	second, err := judge(0)
	require.NoError(t, err)
	assert.Equal(t, 8-first, second)
	r, _, err = a.open(d)
	require.NoError(t, err)
	assert.Equal(t, 1., r.done(battery))
	assert.Equal(t, r.Batteries[0].Report.WorstCase, r.find(battery).Accuracy)
	got, err := os.ReadFile(path)
	require.NoError(t, err)

	a, d = lonely8()
	_, err = judge(0)
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join(a.folder, filepath.Base(path)))
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
}

// Faults that a battery's checks found are in the text.
func TestFaults(t *testing.T) {
	l := &lab{options: &options{Exp: "table1", Battery: "quick"}, faults: map[string]int{"b": 2, "c": 0, "a": 1}}
	note := l.worstCaseNote("every attack of the row", 8)
	assert.True(t, strings.HasSuffix(note, "one breaks it.\n"+
		"Faults that the battery's checks found: a 1. See battery_checks in table1.json.\n"+
		"Faults that the battery's checks found: b 2. See battery_checks in table1.json.\n"), note)
}
