package train_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// The set has 22 images; 21 leave one of a batch of 4. The second batch norm sees one
// pixel.
func TestBatchNormOfOneValue(t *testing.T) {
	model := func(c *zoo.Config) {
		c.Arch, c.Steps, c.Poisson, c.Dropout = "conv4 A conv4 A conv8 | fc", 1, false, 0
	}
	for name, c := range map[string]struct {
		images int
		batch  int
		change func(*train.Config)
		model  func(*zoo.Config)
		want   string
	}{
		"one image left": {images: 21, batch: 4,
			want: "train: batch norm features.9 has one value a channel in the last batch, the one image left of 21 in batches of 4: set Config.Loader.DropLast or another BatchSize"},
		"one image a batch": {images: 22, batch: 1,
			want: "train: batch norm features.9 has one value a channel in a batch of one image, want a larger Config.Loader.BatchSize"},
		"one image, dropped from nothing": {images: 22, batch: 1, change: func(c *train.Config) { c.Loader.DropLast = true },
			want: "train: batch norm features.9 has one value a channel in a batch of one image"},
		"two images left":   {images: 22, batch: 4},
		"no image left":     {images: 20, batch: 4},
		"one image dropped": {images: 21, batch: 4, change: func(c *train.Config) { c.Loader.DropLast = true }},
		"two steps":         {images: 21, batch: 4, model: func(c *zoo.Config) { c.Steps = 2 }},
		"two steps in two periods": {images: 21, batch: 4, model: func(c *zoo.Config) { c.Steps = 2 },
			change: func(c *train.Config) { c.Recipe = train.HIRE{Periods: 2} }, want: "train: batch norm features.9 has one value"},
		"two steps that CBA does not make": {images: 21, batch: 4, model: func(c *zoo.Config) { c.Steps = 2 },
			change: func(c *train.Config) { c.Gradient = snn.CBA{} }, want: "train: batch norm features.9 has one value"},
		"more pixels":   {images: 21, batch: 4, model: func(c *zoo.Config) { c.Arch = "conv4 A conv8 | fc" }},
		"no batch norm": {images: 21, batch: 4, model: func(c *zoo.Config) { c.BatchNorm = false }},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := toy(t).First(c.images)
			require.NoError(t, err)
			cfg := train.Default(1)
			cfg.Loader.BatchSize = c.batch
			if c.change != nil {
				c.change(&cfg)
			}
			m := tiny(t, func(z *zoo.Config) {
				model(z)
				if c.model != nil {
					c.model(z)
				}
			})
			tr, err := train.New(m, set, cfg, rng.New(1))
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			finish(t, tr)
		})
	}
}

// Before the first neurons the steps of an image are alike, and count as one value.
func TestBatchNormBeforeNeurons(t *testing.T) {
	build := func(first bool) error {
		body := (&snn.Sequential{}).Append("conv", snn.NewConv2D(1, 4, 6, 1, 0, false))
		if first {
			body.Append("norm", snn.NewBatchNorm(4)).Append("n", snn.NewIF())
		} else {
			body.Append("n", snn.NewIF()).Append("norm", snn.NewBatchNorm(4))
		}
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: 4}, body.Append("fc", snn.NewLinear(4, 3, true)))
		require.NoError(t, err)
		m.Init(rng.New(1))
		set, err := toy(t).First(21)
		require.NoError(t, err)
		cfg := train.Default(1)
		cfg.Loader.BatchSize = 4
		_, err = train.New(m, set, cfg, rng.New(1))
		return err
	}
	assert.ErrorContains(t, build(true), "train: batch norm norm has one value a channel in the last batch")
	assert.NoError(t, build(false))
}
