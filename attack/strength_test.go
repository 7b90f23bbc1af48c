package attack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset/fashion"
)

// TestStrength runs a preset, or a battery of strengths, on a network for Fashion-MNIST, at
// ε = 16/255, and prints what each attack leaves:
//
//	SNNRAT_STRENGTH=$PWD/net.safetensors SNNRAT_PRESET=standard SNNRAT_IMAGES=1000 go test ./attack -run Strength -v -timeout 2h
//
// SNNRAT_STANDING=results.json, of examples/robust with this network first, spares the images that
// stand there: they count as standing. What is left is then an upper bound of what a run without it
// leaves, since the other images are attacked in the same way.
func TestStrength(t *testing.T) {
	path := os.Getenv("SNNRAT_STRENGTH")
	if path == "" {
		t.Skip("SNNRAT_STRENGTH names no network")
	}
	n, err := strconv.Atoi(os.Getenv("SNNRAT_IMAGES"))
	require.NoError(t, err)
	m, _, err := zoo.Load(path)
	require.NoError(t, err)
	all, err := fashion.Test()
	require.NoError(t, err)
	data, err := all.First(n)
	require.NoError(t, err)
	name, threat := os.Getenv("SNNRAT_PRESET"), attack.Threat{Norm: attack.LInf{}, Eps: 16. / 255}
	b, err := attack.Preset(name, threat)
	if s, ok := strengths(threat.Eps)[name]; ok {
		start := apgd(threat.Eps, attack.CrossEntropy{}, snn.BPTT{Surrogate: snn.Triangle{Width: 0.5}}, attack.AtImage{})
		b, err = attack.Battery{Name: name, Threat: threat, Attacks: []attack.Named{{Name: "APGD", Attack: start}, {Name: name, Attack: s}}}, nil
	}
	require.NoError(t, err)
	begin := time.Now()
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Second))
		defer cancel()
	}
	cfg := attack.DefaultBatteryConfig()
	if path := os.Getenv("SNNRAT_STANDING"); path != "" {
		cfg.Done = standing(t, path, len(b.Attacks))
		fmt.Printf("%d images stand in %s\n", len(cfg.Done), path)
	}
	r, err := b.Evaluate(ctx, m, data, cfg)
	require.NotNil(t, r, err)
	fmt.Printf("%s on %d images of %s, ε = 16/255: %.1f %% clean, %.1f %% left, %.0f s, %d passes\n", b.Name, r.Images, path, 100*r.Clean, 100*r.WorstCase, time.Since(begin).Seconds(), r.Passes)
	for _, a := range r.Attacks {
		fmt.Printf("%-42s met %4d  broke %4d  left %5.1f %%  passes for each %6.0f\n", a.Name, a.Met, a.Broke, 100*a.Left, float64(a.Passes)/float64(max(1, a.Met)))
	}
}

// standing reads results of examples/robust and returns those of the images that stand, as if they
// stood against so many attacks.
func standing(t *testing.T, path string, attacks int) (stand []attack.ImageResult) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var results struct {
		Networks []struct{ Report attack.BatteryReport }
	}
	require.NoError(t, json.Unmarshal(content, &results))
	for _, r := range results.Networks[0].Report.Results {
		if r.BrokenBy == attack.Survived {
			r.Trials = make([]attack.Trial, attacks)
			stand = append(stand, r)
		}
	}
	return stand
}

// strengths returns searches of 6,000 passes after the same APGD of 50 steps.
func strengths(eps float32) map[string]attack.Searcher {
	var mix attack.GradientMix
	for _, s := range []snn.Surrogate{snn.Triangle{Width: 0.5}, snn.Triangle{Width: 1}, snn.Arctan{Alpha: 2}, snn.Arctan{Alpha: 4}, snn.Sigmoid{Alpha: 4}} {
		mix = append(mix, snn.BPTT{Surrogate: s, Relative: true})
	}
	return map[string]attack.Searcher{
		"square": attack.Square{Norm: attack.LInf{}, Eps: eps, Queries: 6000, P: 0.05, FromBest: true},
		"search": attack.LocalSearch{Eps: eps, Passes: 6000, FromBest: true},
		"3 rounds": attack.Rounds{N: 3, Attacks: []attack.Searcher{
			apgd(eps, attack.Margin{}, mix, attack.InBall{}), attack.LocalSearch{Eps: eps, Passes: 1900, FromBest: true},
		}},
	}
}

// apgd returns an APGD of 50 steps.
func apgd(eps float32, o attack.Objective, g snn.Gradient, s attack.Start) *attack.Attack {
	return &attack.Attack{Objective: o, Gradient: g, Norm: attack.LInf{}, Start: s, Eps: eps, Rule: attack.APGD{}, Steps: 50, KeepBest: true}
}

// BenchmarkGradientStep times a step of a gradient attack on 64 images, as testdata/peer_apgd.py
// does in PyTorch:
//
//	SNNRAT_STRENGTH=$PWD/net.safetensors go test ./attack -run xxx -bench GradientStep
func BenchmarkGradientStep(b *testing.B) {
	path := os.Getenv("SNNRAT_STRENGTH")
	if path == "" {
		b.Skip("SNNRAT_STRENGTH names no network")
	}
	m, _, err := zoo.Load(path)
	require.NoError(b, err)
	all, err := fashion.Test()
	require.NoError(b, err)
	const n, steps = 64, 20
	x := tensor.NewNCHW(n, 1, 28, 28)
	y, ids := make([]int, n), make([]uint64, n)
	indices := make([]int, n)
	for i := range n {
		y[i], ids[i], indices[i] = all.Labels[i], uint64(i), i
	}
	require.NoError(b, all.Fill(x, indices))
	a := apgd(16./255, attack.CrossEntropy{}, snn.BPTT{Surrogate: snn.Triangle{Width: 0.5}}, attack.AtImage{})
	a.Steps = steps
	for b.Loop() {
		_, err := a.Perturb(b.Context(), m, x, y, ids, rng.New(1))
		require.NoError(b, err)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N)/(n*steps), "ms/image")
}
