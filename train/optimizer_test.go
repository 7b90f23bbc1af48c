package train_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/golden"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// follow makes updates of a value with these gradients and returns it after each.
func follow(o train.Optimizer, w, lr float64, grads ...float64) (ws []float64) {
	v := []float32{float32(w)}
	slots := make([][]float32, len(o.Slots()))
	for i := range slots {
		slots[i] = []float32{0}
	}
	for i, g := range grads {
		o.Update(v, []float32{float32(g)}, slots, lr, i+1, 0)
		ws = append(ws, float64(v[0]))
	}
	return ws
}

// TestUpdatesByHand follows a weight that starts at 1 through two updates with
// gradients 2 and −1 and the learning rate 0.1. The numbers were worked out on paper.
func TestUpdatesByHand(t *testing.T) {
	for _, c := range []struct {
		name string
		o    train.Optimizer
		want []float64
	}{
		{"plain", train.SGD{}, []float64{0.8, 0.9}},
		{"decay", train.SGD{WeightDecay: 0.5}, []float64{0.75, 0.8125}},
		// v = 2, then 0.9·2 − 1 = 0.8.
		{"momentum", train.SGD{Momentum: 0.9}, []float64{0.8, 0.72}},
		// d + 0.9·v = 2 + 1.8, then −1 + 0.72.
		{"Nesterov", train.SGD{Momentum: 0.9, Nesterov: true}, []float64{0.62, 0.648}},
		// d = 2.5, v = 2.5; d = −1 + 0.375, v = 2.25 − 0.625 = 1.625.
		{"momentum and decay", train.SGD{Momentum: 0.9, WeightDecay: 0.5}, []float64{0.75, 0.5875}},
		// m = 1, v = 1: m̂ = 2, √v̂ = 2; m = 0, so that nothing moves.
		{"Adam", train.Adam{Beta1: 0.5, Beta2: 0.75, Eps: 1e-8}, []float64{0.9, 0.9}},
		// d = 3, m = 1.5, v = 2.25: m̂ = 3, √v̂ = 3. d = −1 + 0.9, m = 0.75 − 0.05 = 0.7,
		// v = 1.6875 + 0.0025 = 1.69: m̂ = 0.7/0.75, √v̂ = 1.3/√0.4375.
		{"Adam and decay", train.Adam{Beta1: 0.5, Beta2: 0.75, Eps: 1e-8, WeightDecay: 1},
			[]float64{0.9, 0.9 - 0.1*0.7/0.75/1.3*math.Sqrt(0.4375)}},
		// Where Eps is as large as √v̂, it halves the step.
		{"Adam's eps", train.Adam{Beta1: 0.5, Beta2: 0.75, Eps: 1}, []float64{1 - 0.1*2/3, 1 - 0.1*2/3}},
	} {
		assert.InDeltaSlice(t, c.want, follow(c.o, 1, 0.1, 2, -1), 1e-6, c.name)
	}
}

// TestUpdatesMatchFloat64 compares 50 updates of many values, over several pieces of
// parallel work, with the equations in float64.
func TestUpdatesMatchFloat64(t *testing.T) {
	const n, steps, lr = 40000, 50, 0.01
	sgd := func(o train.SGD) func(w, g float64, s []float64, _ int) float64 {
		return func(w, g float64, s []float64, _ int) float64 {
			g += o.WeightDecay * w
			s[0] = o.Momentum*s[0] + g
			if o.Nesterov {
				return w - lr*(g+o.Momentum*s[0])
			}
			return w - lr*s[0]
		}
	}
	nesterov := train.SGD{Momentum: 0.8, WeightDecay: 0.1, Nesterov: true}
	adam := train.Adam{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01}
	for name, c := range map[string]struct {
		o    train.Optimizer
		want func(w, g float64, s []float64, t int) float64
	}{
		"SGD":      {train.DefaultSGD(), sgd(train.DefaultSGD())},
		"Nesterov": {nesterov, sgd(nesterov)},
		"Adam": {adam, func(w, g float64, s []float64, t int) float64 {
			g += adam.WeightDecay * w
			s[0] = adam.Beta1*s[0] + (1-adam.Beta1)*g
			s[1] = adam.Beta2*s[1] + (1-adam.Beta2)*g*g
			m := s[0] / (1 - math.Pow(adam.Beta1, float64(t)))
			v := s[1] / (1 - math.Pow(adam.Beta2, float64(t)))
			return w - lr*m/(math.Sqrt(v)+adam.Eps)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(threads int) ([]float32, []float64) {
				r := rng.New(7).Rand()
				w, grad, slots := make([]float32, n), make([]float32, n), [][]float32{}
				for range c.o.Slots() {
					slots = append(slots, make([]float32, n))
				}
				want, kept := make([]float64, n), make([][2]float64, n)
				for i := range w {
					w[i] = float32(r.NormFloat64())
					want[i] = float64(w[i])
				}
				for step := 1; step <= steps; step++ {
					for i := range grad {
						grad[i] = float32(r.NormFloat64())
						want[i] = c.want(want[i], float64(grad[i]), kept[i][:], step)
					}
					c.o.Update(w, grad, slots, lr, step, threads)
				}
				return w, want
			}
			got, want := run(2)
			for i := range got {
				require.InDelta(t, want[i], float64(got[i]), 2e-5, "value %d", i)
			}
			single, _ := run(1)
			assert.Equal(t, got, single, "threads change results")
		})
	}
}

// TestGoldenStep compares one SGD step with PyTorch's: loss, gradients and the whole
// state after it. The optimizer's momentum is then the gradient with weight decay.
func TestGoldenStep(t *testing.T) {
	f, err := golden.Read("testdata/vgg_tiny.safetensors")
	require.NoError(t, err)
	cfg := zoo.Default(f.Meta["arch"])
	cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = 12, 12, 5, 4
	cfg.Mean, cfg.Std = f.Tensors["param.mean"].Floats, f.Tensors["param.std"].Floats
	model, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	for _, p := range model.State() {
		p.Import(f.Tensors["param."+p.Name].Floats)
	}
	numbers, err := f.Numbers("lr", "sgd_momentum", "weight_decay")
	require.NoError(t, err)
	lr, decay := numbers[0], numbers[2]
	updater, err := train.NewUpdater(train.SGD{Momentum: numbers[1], WeightDecay: decay}, model.Params())
	require.NoError(t, err)

	x, y := f.Tensors["x"], f.Tensors["y"].Ints
	images := tensor.NCHW{N: x.Shape[0], C: x.Shape[1], H: x.Shape[2], W: x.Shape[3], Data: x.Floats}
	var loss float64
	require.NoError(t, model.ParamGradients(snn.Pass{Train: true}, images, func(logits []float32) []float32 {
		near(t, "logits", f.Tensors["train.logits"].Floats, logits)
		losses, grad := make([]float64, images.N), make([]float32, len(logits))
		autograd.CrossEntropy(losses, grad, logits, y, 0)
		for i := range losses {
			loss += losses[i] / float64(images.N)
		}
		for i := range grad {
			grad[i] /= float32(images.N)
		}
		return grad
	}))
	near(t, "loss", f.Tensors["train.loss"].Floats, []float32{float32(loss)})
	updater.Step(lr, 0)
	for _, p := range model.State() {
		near(t, p.Name, f.Tensors["train.after1."+p.Name].Floats, p.Export())
		if p.Trainable {
			near(t, p.Name+".grad", f.Tensors["train.grad."+p.Name].Floats, p.ExportGrad())
		}
	}
	for i, p := range model.Params() {
		want := f.Tensors["train.grad."+p.Name].Floats
		for k, w := range f.Tensors["param."+p.Name].Floats {
			want[k] += float32(decay) * w
		}
		v := updater.State()[i]
		assert.Equal(t, "momentum."+p.Name, v.Name)
		near(t, v.Name, want, v.Export())
	}
}

// near asserts that values are equal to 1e-4 of the largest.
func near(t *testing.T, name string, want, got []float32) {
	t.Helper()
	require.Len(t, got, len(want), name)
	var top float64
	for _, v := range want {
		top = max(top, math.Abs(float64(v)))
	}
	for i, v := range want {
		require.InDelta(t, v, got[i], 1e-4*top+1e-7, "%s, value %d", name, i)
	}
}

// TestPaddingStaysZero updates by both optimizers a network of odd sizes, and looks
// at the values that are not in any tensor.
func TestPaddingStaysZero(t *testing.T) {
	for _, o := range []train.Optimizer{train.DefaultSGD(), train.DefaultAdam()} {
		cfg := train.Default(2)
		cfg.Optimizer, cfg.LR = o, 0.01
		model := tiny(t, nil)
		fit(t, model, cfg)
		for _, p := range model.Params() {
			again := autograd.NewParam(p.Shape...)
			again.Import(p.Export())
			require.Equal(t, again.Data(), p.Data(), p.Name)
		}
	}
}

// TestUpdaterPassesOver checks that a parameter without a gradient stays.
func TestUpdaterPassesOver(t *testing.T) {
	p := autograd.NewParam(3)
	p.Import([]float32{1, 2, 3})
	u, err := train.NewUpdater(train.SGD{WeightDecay: 1}, []*autograd.Param{p})
	require.NoError(t, err)
	u.Step(0.1, 0)
	assert.Equal(t, []float32{1, 2, 3}, p.Export())
	assert.Equal(t, 1, u.Steps)
}

func TestOptimizerValidate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		o    train.Optimizer
		want string // how the error goes on after "train: ", or nothing
	}{
		{train.DefaultSGD(), ""},
		{train.SGD{}, ""},
		{train.SGD{Momentum: 1}, "SGD.Momentum is 1, want"},
		{train.SGD{Momentum: -0.1}, "SGD.Momentum is -0.1, want"},
		{train.SGD{Momentum: nan}, "SGD.Momentum is NaN, want"},
		{train.SGD{WeightDecay: -1}, "SGD.WeightDecay is -1, want"},
		{train.SGD{WeightDecay: inf}, "SGD.WeightDecay is +Inf, want"},
		{train.SGD{Nesterov: true}, "SGD.Nesterov is set"},
		{train.DefaultAdam(), ""},
		{train.Adam{Beta1: 1, Eps: 1}, "Adam.Beta1 is 1, want"},
		{train.Adam{Beta2: nan, Eps: 1}, "Adam.Beta2 is NaN, want"},
		{train.Adam{}, "Adam.Eps is 0, want"},
		{train.Adam{Eps: 1e-31}, "Adam.Eps is 1e-31, want"},
		{train.Adam{Eps: 1, WeightDecay: nan}, "Adam.WeightDecay is NaN, want"},
		{slots{"a", "b"}, ""},
		{slots{"a", "b", "a"}, `Slots of train_test.slots has the name "a" twice, want`},
	} {
		_, err := train.NewUpdater(c.o, nil)
		if c.want == "" {
			assert.NoError(t, err, "%+v", c.o)
		} else if assert.Error(t, err, "%+v", c.o) {
			assert.True(t, strings.HasPrefix(err.Error(), "train: "+c.want), err.Error())
		}
	}
}

// slots is an optimizer with vectors of these names.
type slots []string

func (slots) Validate() error                                                            { return nil }
func (s slots) Slots() []string                                                          { return s }
func (slots) Update(w, grad []float32, slots [][]float32, lr float64, step, threads int) {}

// TestCosine compares the closed form with the recursion by which PyTorch computes
// the rate of an epoch from that of the one before.
func TestCosine(t *testing.T) {
	const epochs, floor, lr = 30, 0.01, 0.3
	s := train.Cosine{Floor: floor}
	rate := lr
	for e := range epochs {
		if e > 0 {
			a, b := math.Pi*float64(e)/epochs, math.Pi*float64(e-1)/epochs
			rate = (1+math.Cos(a))/(1+math.Cos(b))*(rate-floor) + floor
		}
		assert.InDelta(t, rate, s.Rate(lr, train.Position{Epoch: e, Epochs: epochs, Step: e, Steps: 100}), 1e-12, "epoch %d", e)
	}
	assert.Equal(t, lr, s.Rate(lr, train.Position{Epochs: epochs, Steps: 1}))
	assert.InDelta(t, (lr+floor)/2, s.Rate(lr, train.Position{Epoch: epochs / 2, Epochs: epochs, Steps: 1}), 1e-12)
}

func TestStepDecay(t *testing.T) {
	s := train.StepDecay{Every: 2, Gamma: 0.5}
	for e, want := range []float64{8, 8, 4, 4, 2, 2, 1} {
		assert.Equal(t, want, s.Rate(8, train.Position{Epoch: e, Epochs: 7, Steps: 3}), "epoch %d", e)
	}
	assert.Equal(t, 8.0, train.Constant{}.Rate(8, train.Position{Epoch: 3, Epochs: 7, Steps: 3}))
}

// Cosine by step is Cosine of as many epochs as there are steps.
func TestCosineByStep(t *testing.T) {
	for e := range 4 {
		for s := range 5 {
			at := train.Position{Epoch: e, Epochs: 4, Step: s, Steps: 5}
			want := train.Cosine{Floor: 0.1}.Rate(0.5, train.Position{Epoch: 5*e + s, Epochs: 20, Steps: 1})
			assert.InDelta(t, want, train.Cosine{Floor: 0.1, EveryStep: true}.Rate(0.5, at), 1e-12)
			assert.Equal(t, train.Cosine{}.Rate(0.5, train.Position{Epoch: e, Epochs: 4}), train.Cosine{}.Rate(0.5, at), "by default")
		}
	}
}

// Warmup rises by equal amounts, arrives at the base rate, and hands over to a schedule of the
// epochs that are left.
func TestWarmup(t *testing.T) {
	s := train.Warmup{Epochs: 2, Then: train.Cosine{EveryStep: true}}
	at := func(e, step int) float64 {
		return s.Rate(0.8, train.Position{Epoch: e, Epochs: 6, Step: step, Steps: 4})
	}
	for i, want := range []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8} {
		assert.InDelta(t, want, at(i/4, i%4), 1e-12)
	}
	assert.Equal(t, 0.8, at(2, 0))
	assert.InDelta(t, 0.4, at(4, 0), 1e-12)
	assert.Equal(t, 2.0, train.Warmup{Epochs: 1, Then: train.StepDecay{Every: 3, Gamma: 0.25}}.Rate(8, train.Position{Epoch: 4, Epochs: 9, Steps: 2}))
}

func TestScheduleValidate(t *testing.T) {
	for _, c := range []struct {
		s    train.Schedule
		want string
	}{
		{train.Cosine{Floor: -1}, "Cosine.Floor is -1, want"},
		{train.Cosine{Floor: math.NaN()}, "Cosine.Floor is NaN, want"},
		{train.Warmup{Then: train.Constant{}}, "Warmup.Epochs is 0, want"},
		{train.Warmup{Epochs: 1}, "Warmup.Then is nil, want"},
		{train.Warmup{Epochs: 1, Then: train.Cosine{Floor: -1}}, "Cosine.Floor is -1, want"},
		{train.StepDecay{Gamma: 0.1}, "StepDecay.Every is 0, want"},
		{train.StepDecay{Every: 1}, "StepDecay.Gamma is 0, want"},
		{train.StepDecay{Every: 1, Gamma: 1.5}, "StepDecay.Gamma is 1.5, want"},
	} {
		assert.ErrorContains(t, c.s.Validate(), c.want)
	}
	for _, s := range []train.Schedule{train.Constant{}, train.Cosine{}, train.StepDecay{Every: 1, Gamma: 1}} {
		assert.NoError(t, s.Validate())
	}
}
