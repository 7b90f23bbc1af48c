package attack_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
)

// The results of a battery do not depend on the number of threads or on what was done before.
func TestBatteryRepeats(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	m := model(t, small, false)
	x, y, _ := images(m, 40, 0, 1)
	pgd := attack.PGD(0.1, 0.03, 5, snn.BPTT{})
	pgd.KeepBest = true
	again := attack.PGD(0.1, 0.03, 5, snn.BPTR{})
	again.Start, again.KeepBest = attack.AtBest{}, true
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{
		{Name: "FGSM", Attack: attack.FGSM(0.1, snn.CBA{})}, {Name: "PGD", Attack: pgd}, {Name: "again", Attack: again},
	}}
	cfg := attack.DefaultBatteryConfig()
	cfg.Keep = func(i int) bool { return i%3 == 0 }
	data := set{x: x, y: y}
	want, err := b.Evaluate(ctx, m, data, cfg)
	require.NoError(t, err)
	assert.Equal(t, 40, want.Images)
	assert.False(t, want.Partial)
	for _, threads := range []int{1, 2} {
		m.Threads = threads
		got, err := b.Evaluate(ctx, m, data, cfg)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	cfg.Done, cfg.Keep = want.Results[10:20], nil
	got, err := b.Evaluate(ctx, m, data, cfg)
	require.NoError(t, err)
	assert.Equal(t, want.Results, got.Results)
	assert.Equal(t, want.Attacks, got.Attacks)
}

// twoClasses returns a network of two classes.
func twoClasses(t *testing.T) *snn.Model {
	t.Helper()
	cfg := zoo.Default(small)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 2, 6, 6, 2, 4
	cfg.Mean, cfg.Std, cfg.Threshold = nil, nil, 0.3
	m, err := zoo.New(cfg, rng.New(7))
	require.NoError(t, err)
	return m
}
