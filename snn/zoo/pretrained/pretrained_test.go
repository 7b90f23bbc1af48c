package pretrained_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo/pretrained"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train/dataset/fashion"
)

// The accuracies on clean images are those of the package comment. Sums round differently on other
// processors, which may change the class of few images.
func TestCleanAccuracy(t *testing.T) {
	test, err := fashion.Test()
	require.NoError(t, err)
	var names []string
	for name, accuracy := range map[string]float64{"fashion-vanilla": 0.856, "fashion-rat": 0.843, "fashion-robust": 0.839} {
		m, cfg, err := pretrained.Load(name)
		require.NoError(t, err)
		assert.Equal(t, "small", cfg.Arch)
		r, err := attack.Evaluate(t.Context(), m, test, nil, attack.DefaultConfig())
		require.NoError(t, err)
		assert.InDelta(t, accuracy, r.Clean.Accuracy, 0.0021, name)
		names = append(names, name)
	}
	assert.ElementsMatch(t, append(names, cifar...), pretrained.Names())
}

// cifar are the networks for images that this library does not embed.
var cifar = []string{"cifar-vanilla", "cifar-rat", "cifar-robust"}

func TestCIFAR(t *testing.T) {
	x := tensor.NewNCHW(1, 3, 32, 32)
	for i := range x.Data {
		x.Data[i] = float32(i%256) / 255
	}
	var all [][]float32
	for _, name := range cifar {
		m, cfg, err := pretrained.Load(name)
		require.NoError(t, err)
		assert.Equal(t, "vgg11", cfg.Arch)
		logits, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		require.Len(t, logits, 10)
		all = append(all, logits)
	}
	assert.NotEqual(t, all[0], all[1])
	assert.NotEqual(t, all[1], all[2])
}

func TestFile(t *testing.T) {
	for _, name := range pretrained.Names() {
		b, err := pretrained.File(name)
		require.NoError(t, err)
		assert.Less(t, len(b), 2_000_000, name)
		b[0]++
		again, err := pretrained.File(name)
		require.NoError(t, err)
		assert.NotEqual(t, b[0], again[0], "the content is a copy")
	}
	for _, name := range []string{"", "rat", "fashion-vanilla.safetensors", "../zoo", "*"} {
		_, _, err := pretrained.Load(name)
		assert.ErrorContains(t, err, fmt.Sprintf("pretrained: network %q: expected one of cifar-rat, ", name))
	}
}
