package train_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/train"
)

// The four rows of the paper's ablation: REG replaces weight decay, with MIX and without
// it.
func TestRATReplacesWeightDecay(t *testing.T) {
	reg := &shrink{0.1}
	for _, mix := range []snn.Adversary{nil, noise{0.1}} {
		cfg := train.RAT(7, mix, reg, normalize)
		assert.Equal(t, train.SGD{Momentum: 0.9}, cfg.Optimizer)
		assert.Equal(t, mix, cfg.Adversary)
		assert.Same(t, reg, cfg.Regularizer)
		assert.NotNil(t, cfg.Simplex)
		assert.Equal(t, 7, cfg.Epochs)
		assert.Equal(t, 0.1, cfg.LR)
		assert.Equal(t, 64, cfg.Loader.BatchSize)
	}
	assert.Equal(t, train.SGD{Momentum: 0.9, WeightDecay: 5e-4}, train.Default(7).Optimizer)
	assert.Panics(t, func() { train.RAT(7, noise{0.1}, nil, normalize) })
	assert.Panics(t, func() { train.RAT(7, noise{0.1}, reg, nil) })
}

// The recipe is MART with the weight decay of the plain network.
func TestRobust(t *testing.T) {
	cfg := train.Robust(7, noise{0.1})
	assert.Equal(t, noise{0.1}, cfg.Adversary)
	assert.Equal(t, train.MART{Lambda: 5}, cfg.Loss)
	cfg.Adversary, cfg.Loss = nil, train.CrossEntropy{}
	assert.Equal(t, train.Default(7), cfg)
	assert.PanicsWithValue(t, "train: Robust: the adversary is nil", func() { train.Robust(7, nil) })
}
