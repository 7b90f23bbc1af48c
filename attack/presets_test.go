package attack_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// A preset runs in L∞ and L2, on images and on frames, on two classes, and on a random network.
// Stronger presets leave no more images.
func TestPresets(t *testing.T) {
	m := model(t, small, false)
	two := zoo.Default(small)
	two.Channels, two.Height, two.Width, two.Classes, two.Steps = 2, 6, 6, 2, 4
	two.Mean, two.Std, two.Threshold = nil, nil, 0.3
	pair, err := zoo.New(two, rng.New(7))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		m      *snn.Model
		x      tensor.NCHW
		threat attack.Threat
	}{
		"images":      {m, first(images(m, 3, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 0.02}},
		"L2":          {m, first(images(m, 3, 0, 1)), attack.Threat{Norm: attack.L2{}, Eps: 0.1}},
		"frames":      {m, first(frames(m, 3, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 0.01}},
		"L2 a frame":  {m, first(frames(m, 3, 0, 1)), attack.Threat{Norm: attack.L2{}, Eps: 0.1, PerFrame: true}},
		"two classes": {pair, first(images(pair, 3, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 0.02}},
		"Poisson":     {model(t, small, true), first(images(m, 1, 0, 1)), attack.Threat{Norm: attack.LInf{}, Eps: 0.02}},
	} {
		t.Run(name, func(t *testing.T) {
			data := set{x: c.x, y: correct(t, c.m, c.x)}
			before := 1.0
			for _, preset := range []string{"quick", "standard"} {
				b, err := attack.Preset(preset, c.threat)
				require.NoError(t, err)
				r, err := b.Evaluate(ctx, c.m, data, attack.DefaultBatteryConfig())
				require.NoError(t, err)
				assert.Equal(t, preset, r.Battery)
				assert.LessOrEqual(t, r.WorstCase, before)
				before = r.WorstCase
			}
		})
	}
	_, err = attack.Preset("fast", attack.Threat{})
	assert.EqualError(t, err, `attack: preset "fast": expected one of quick, standard, thorough`)
}
