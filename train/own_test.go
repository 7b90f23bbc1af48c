package train_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// fixedRate is a schedule of one rate from the second step on.
type fixedRate float64

func (fixedRate) Validate() error { return nil }

func (r fixedRate) Rate(lr float64, at train.Position) float64 {
	if at.Step == 0 {
		return lr
	}
	return float64(r)
}

// A schedule of one's own that returns no learning rate is named, with the step, and the
// completed steps are kept.
func TestScheduleOfNoRate(t *testing.T) {
	for rate, want := range map[float64]string{math.Inf(1): "+Inf", -1: "-1", math.Inf(-1): "-Inf"} {
		cfg := rat()
		cfg.Schedule = fixedRate(rate)
		tr := trainer(t, tiny(t, nil), cfg)
		for _, err := range tr.Epochs(t.Context()) {
			require.EqualError(t, err, "train: epoch 1 of 3, step 2 of 3: schedule train_test.fixedRate: "+
				"the learning rate is "+want+", want a finite number of at least 0")
		}
		assert.InDelta(t, 1./3, tr.Completed(), 1e-12)
	}
	cfg := rat()
	cfg.Schedule = fixedRate(0)
	assert.Len(t, fit(t, tiny(t, nil), cfg), 3)
}

// inPlace is cross-entropy computed in the memory of the output.
type inPlace struct{ train.CrossEntropy }

func (l inPlace) Compute(losses []float64, o train.Outputs) (grad, clean []float32) {
	grad, _ = l.CrossEntropy.Compute(losses, o)
	copy(o.Mean, grad)
	return o.Mean, nil
}

// fixedGradient is a loss whose gradients are one slice, which it keeps.
type fixedGradient struct {
	train.TRADES
	grad *[]float32
}

func (l fixedGradient) Compute(_ []float64, o train.Outputs) (grad, clean []float32) {
	if *l.grad == nil {
		*l.grad = make([]float32, len(o.Mean))
		for i := range *l.grad {
			(*l.grad)[i] = float32(i%3) - 1
		}
	}
	return *l.grad, *l.grad
}

// The memory of a gradient stays the loss's, and a loss may write to the output.
func TestLossOwnsItsMemory(t *testing.T) {
	cfg, _ := whole(t, 3)
	want, got := tiny(t, plain), tiny(t, plain)
	metrics := fit(t, want, cfg)
	cfg.Loss = inPlace{}
	assert.Equal(t, metrics, fit(t, got, cfg))
	assert.Equal(t, values(want), values(got))

	var grad []float32
	cfg.Loss = fixedGradient{grad: &grad}
	fit(t, got, cfg)
	assert.Equal(t, []float32{-1, 0, 1}, grad[:3])
}

// overwriter is an adversary that changes what it gets.
type overwriter struct{}

func (overwriter) Perturb(_ context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, _ rng.Key) (tensor.NCHW, error) {
	dark, err := darker{}.Perturb(context.Background(), m, x, y, ids, rng.Key{})
	copy(x.Data, dark.Data)
	slices.Reverse(y)
	slices.Reverse(ids)
	return x, err
}

// An adversary that writes to its arguments changes neither the clean images of a loss nor
// the labels.
func TestAdversaryGetsCopies(t *testing.T) {
	cfg, _ := whole(t, 2)
	cfg.Loss, cfg.Adversary = train.TRADES{Beta: 2}, darker{}
	cfg.Validation = train.DefaultValidation(toy(t), darker{})
	want, got := tiny(t, plain), tiny(t, plain)
	metrics := fit(t, want, cfg)
	cfg.Adversary, cfg.Validation = overwriter{}, train.DefaultValidation(toy(t), overwriter{})
	assert.Equal(t, metrics, fit(t, got, cfg))
	assert.Equal(t, values(want), values(got))
}
