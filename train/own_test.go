package train_test

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
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

// An augmentation or a data set of one's own whose values leave [0,1] is an error that names
// the image of the set, whatever the adversary makes of them. The completed steps are kept.
func TestValuesOutsideTheRange(t *testing.T) {
	cfg := rat()
	cfg.Loader.Shuffle = false
	cfg.Loader.Augment = append(cfg.Loader.Augment, brighten{})
	tr := trainer(t, tiny(t, nil), cfg)
	for _, err := range tr.Epochs(t.Context()) {
		require.ErrorContains(t, err, "after LoaderConfig.Augment: image 0, value ")
		require.ErrorContains(t, err, ", want a number in [0, 1]")
	}
	cfg = rat()
	cfg.Loader.Shuffle = false
	tr, err := train.New(tiny(t, nil), tooBright{toy(t)}, cfg, rng.New(5))
	require.NoError(t, err)
	for _, err := range tr.Epochs(t.Context()) {
		require.EqualError(t, err, "train: epoch 1 of 3, step 3 of 3: dataset: epoch 0, batch 2 of 3: image 17, value 5 is 2, want a number in [0, 1]")
	}
	assert.InDelta(t, 2./3, tr.Completed(), 1e-12)
}

// brighten is an augmentation that leaves [0,1].
type brighten struct{}

func (brighten) Augment(x tensor.NCHW, _ *rand.Rand) {
	for i := range x.Data {
		x.Data[i] += 1
	}
}

// tooBright is a data set with one bad value.
type tooBright struct{ snn.Dataset }

func (s tooBright) Fill(dst tensor.NCHW, indices []int) error {
	err := s.Dataset.Fill(dst, indices)
	for k, i := range indices {
		if i == 17 {
			dst.Image(k)[5] = 2
		}
	}
	return err
}

// quiet is a layer of neurons that does not call snn.Fire.
type quiet struct{ *snn.LIF }

func (q quiet) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	return q.FireThroughTime(p, x, nil)
}

// A penalty that no layer hears in a pass is an error, and not a penalty of zero.
func TestPenaltyOfSilentLayer(t *testing.T) {
	for _, of := range []string{"", "2"} {
		body := snn.NewSequential(snn.Flatten{}, snn.NewLinear(36, 8, true), quiet{snn.NewIF()}, snn.NewLinear(8, 3, true))
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: 4}, body)
		require.NoError(t, err)
		m.Init(rng.New(1))
		cfg, _ := whole(t, 1)
		cfg.Penalties = []train.Penalty{train.CurrentPenalty{Layer: of, Weight: 1}}
		for _, err := range trainer(t, m, cfg).Epochs(t.Context()) {
			require.EqualError(t, err, "train: epoch 1 of 1, step 1 of 1: penalty train.CurrentPenalty of layer \""+of+"\": "+
				"the layer did not fire in this pass, want one whose Forward calls snn.Fire")
		}
	}
}

// The best network under attack is looked for among the validations with an attack, also
// after a resume that added it.
func TestSaveBestOfAnotherValidation(t *testing.T) {
	dir := t.TempDir()
	cfg, _ := whole(t, 2)
	cfg.Validation = train.DefaultValidation(toy(t), nil)
	tr := trainer(t, tiny(t, plain), cfg)
	finish(t, tr)
	require.NoError(t, tr.Save(filepath.Join(dir, "checkpoint")))

	cfg.Epochs = 3
	cfg.Validation = train.DefaultValidation(toy(t), perturb(func(x tensor.NCHW) (tensor.NCHW, error) {
		clear(x.Data)
		return x, nil
	}))
	tr = trainer(t, tiny(t, plain), cfg)
	require.NoError(t, tr.Resume(filepath.Join(dir, "checkpoint")))
	best := filepath.Join(dir, "best")
	require.NoError(t, tr.SaveBest(best))
	got := finish(t, tr)
	require.Less(t, *got[0].Validation.Attacked, tr.History()[1].Validation.Clean)
	assert.FileExists(t, best)
}

// densify is a layer that hands on dense values, or what it gets.
type densify struct{ on bool }

func (l densify) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value {
	if !l.on {
		return x
	}
	return autograd.Densify(p.Tape, x)
}

func (densify) Describe(s *snn.Summary, name string, in tensor.Shape) (tensor.Shape, error) {
	return in, nil
}

// Penalties of neurons whose currents are spikes, or binary frames, are those of the same
// currents as dense values.
func TestPenaltyOfSpikesAsCurrents(t *testing.T) {
	set := bars(t)
	network := func(between snn.Layer) *snn.Model {
		body := snn.NewSequential(
			between, snn.NewLIF(0.9), snn.NewConv2D(1, 18, 3, 1, 1, true), snn.NewLIF(0.9), snn.MaxPool{K: 3},
			between, snn.NewLIF(0.5), snn.Flatten{}, snn.NewLinear(2*18, 2, true))
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 3, Width: 8, Steps: 8}, body)
		require.NoError(t, err)
		m.Init(rng.New(1))
		p := m.Params()[1]
		require.NoError(t, p.Fill(func(int) (float32, error) { return 0.5, nil })) // so that neurons fire
		return m
	}
	for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}, snn.CBA{}} {
		for _, p := range []train.Penalty{train.CurrentPenalty{Weight: 1}, train.MembranePenalty{Weight: 1}} {
			if _, ok := p.(train.MembranePenalty); ok && g == (snn.CBA{}) {
				continue
			}
			results := map[bool][]train.Metrics{}
			models := map[bool]*snn.Model{true: network(densify{true}), false: network(densify{})}
			for dense, m := range models {
				cfg := train.Default(2)
				cfg.Gradient, cfg.Penalties, cfg.LR = g, []train.Penalty{p}, 0.01
				tr, err := train.New(m, set, cfg, rng.New(1))
				require.NoError(t, err)
				results[dense] = finish(t, tr)
			}
			assert.Positive(t, results[true][0].Penalty)
			for i, want := range results[true] {
				assert.InDelta(t, want.Penalty, results[false][i].Penalty, 1e-6, "%v %T", g, p)
				assert.InDelta(t, want.Loss, results[false][i].Loss, 1e-5, "%v %T", g, p)
			}
			for i, want := range values(models[true]) {
				assert.InDeltaSlice(t, want, values(models[false])[i], 1e-5, "%v %T", g, p)
			}
		}
	}
}
