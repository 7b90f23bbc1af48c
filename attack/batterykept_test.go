package attack_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/sbinet/npyio/npz"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// A battery may keep none of the images that it finishes.
func TestBatteryKeepsNone(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := images(m, 4, 0, 1)
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{
		{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})},
	}}
	cfg := attack.DefaultBatteryConfig()
	cfg.Keep = func(int) bool { return false }
	r, err := b.Evaluate(t.Context(), m, set{x: x, y: y}, cfg)
	require.NoError(t, err)
	assert.Empty(t, r.Kept.Indices)
	assert.Len(t, r.Checks, 12)
	cfg.Unchecked = true
	unchecked, err := b.Evaluate(t.Context(), m, set{x: x, y: y}, cfg)
	require.NoError(t, err)
	r.Checks = nil
	assert.Equal(t, r, unchecked)
	assert.ErrorContains(t, r.Report().WriteNPZ(filepath.Join(t.TempDir(), "none.npz")), "the report holds no images")
}

// A stopped battery hands over the kept images as it finishes them. Its report finds their
// labels and predictions, although it lacks images before them.
func TestBatteryKeepsWhenStopped(t *testing.T) {
	m := model(t, small, false)
	m.Threads = 1
	x, y, _ := images(m, 30, 0, 1)
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.1}, Attacks: []attack.Named{
		{Name: "FGSM", Attack: attack.FGSM(0.1, snn.BPTT{})},
	}}
	cfg := attack.DefaultBatteryConfig()
	whole, err := b.Evaluate(t.Context(), m, set{x: x, y: y}, cfg)
	require.NoError(t, err)

	ctx, stop := context.WithCancel(t.Context())
	cfg.Done = whole.Results[20:25]
	cfg.Keep = func(i int) bool { return i%2 == 1 }
	handed := map[int]tensor.NCHW{}
	cfg.OnKept = func(index int, x, adv tensor.NCHW) error { handed[index] = adv.Clone(); return nil }
	finished := 0
	cfg.OnResult = func(r attack.ImageResult) error {
		_, kept := handed[r.Index]
		assert.Equal(t, r.Index%2 == 1, kept, "image %d", r.Index)
		if finished++; finished == 10 {
			stop()
		}
		return nil
	}
	r, err := b.Evaluate(ctx, m, set{x: x, y: y}, cfg)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, r.Partial)
	require.NotEmpty(t, r.Kept.Indices)
	require.Len(t, handed, len(r.Kept.Indices))
	last := r.Kept.Indices[len(r.Kept.Indices)-1]
	require.NotEqual(t, last, r.Results[last].Index, "an image before the last kept one lacks")

	report := r.Report()
	path := filepath.Join(t.TempDir(), "kept.npz")
	require.NoError(t, report.WriteNPZ(path))
	z, err := npz.Open(path)
	require.NoError(t, err)
	defer z.Close()
	var labels, predicted []int64
	require.NoError(t, z.Read("labels.npy", &labels))
	require.NoError(t, z.Read("battery/predicted.npy", &predicted))
	for k, index := range r.Kept.Indices {
		assert.Equal(t, handed[index].Data, r.Kept.Adversarial[0].Image(k))
		assert.Equal(t, int64(y[index]), labels[k], "image %d", index)
		assert.Equal(t, int64(whole.Results[index].Predicted), predicted[k], "image %d", index)
	}
}

// A battery that is stopped before its first pass does not say that the network is not random, even if
// the results of all images were given.
func TestBatteryStoppedBeforeItsFirstPass(t *testing.T) {
	m := model(t, small, true)
	x, y, _ := images(m, 4, 0, 1)
	b := attack.Battery{Threat: attack.Threat{Norm: attack.LInf{}, Eps: 0.01}, Attacks: []attack.Named{{Name: "FGSM", Attack: attack.FGSM(0.01, snn.BPTT{})}}}
	cfg := attack.DefaultBatteryConfig()
	cfg.Draws, cfg.Unchecked = 3, true
	r, err := b.Evaluate(ctx, m, set{x: x, y: y}, cfg)
	require.NoError(t, err)
	require.NotZero(t, r.Clean)
	cfg.Done, cfg.Unchecked = r.Results, false
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	r, err = b.Evaluate(stopped, m, set{x: x, y: y}, cfg)
	require.ErrorIs(t, err, context.Canceled)
	assert.False(t, r.Partial)
	assert.Equal(t, cfg.Done, r.Results)
	assert.Equal(t, attack.Skipped, r.Checks[6].Status, r.Checks[6].Text)
}
