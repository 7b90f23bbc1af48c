package train_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// stack is a network for toy's images: two convolutions with batch norm, neurons and pooling.
// It ends after the first layers only, and its outputs are then the classes.
func stack(t testing.TB, n func() *snn.LIF, layers int) *snn.Model {
	all := []snn.Layer{
		snn.NewConv2D(1, 18, 3, 1, 1, true), snn.NewBatchNorm(18), n(), snn.AvgPool{K: 2},
		snn.NewConv2D(18, 17, 3, 1, 1, true), snn.NewBatchNorm(17), n(), snn.AvgPool{K: 3},
		snn.Flatten{}, snn.NewLinear(17, 3, true),
	}
	body := snn.NewSequential(all[:layers]...)
	if layers < len(all) {
		body.Append("flat", snn.Flatten{})
	}
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: 4}, body)
	require.NoError(t, err)
	full := m
	if layers < len(all) { // the same parameters
		full = stack(t, n, len(all))
		for i, p := range m.Params() {
			p.Import(full.Params()[i].Export())
		}
		return m
	}
	m.Init(rng.New(1))
	return m
}

// silent is a loss of zero.
type silent struct{ train.CrossEntropy }

func (silent) Compute(losses []float64, o train.BatchOutput) (grad, clean []float32) {
	clear(losses)
	return make([]float32, len(o.Mean)), nil
}

// coarse is an adversary that rounds images to 64ths, for sums without rounding.
type coarse struct{}

func (coarse) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	x = x.Clone()
	for i, v := range x.Data {
		x.Data[i] = float32(math.Round(float64(v)*64) / 64)
	}
	return x, nil
}

// gradientsOf returns the gradients that a training on toy's images computes, by the names of
// their parameters, and the mean loss.
func gradientsOf(t testing.TB, m *snn.Model, loss train.Loss, g snn.Gradient, ps ...train.Penalty) (map[string][]float32, float64) {
	return gradientsUnder(t, coarse{}, m, loss, g, ps...)
}

// gradientsUnder is gradientsOf with the images of an adversary.
func gradientsUnder(t testing.TB, a snn.Adversary, m *snn.Model, loss train.Loss, g snn.Gradient, ps ...train.Penalty) (map[string][]float32, float64) {
	cfg, _ := whole(t, 1)
	cfg.Loss, cfg.Gradient, cfg.Penalties = loss, g, ps
	cfg.Adversary = a
	grads := map[string][]float32{}
	cfg.Recipe = recipe(func(s *train.Step) error {
		if _, err := s.Gradient(train.StepPass{X: s.X}); err != nil {
			return err
		}
		for _, p := range s.Model().Params() {
			grads[p.Name] = p.ExportGrad()
		}
		return s.Apply()
	})
	metrics := fit(t, m, cfg)
	return grads, metrics[0].Loss
}

// direct returns the gradients and the value of f as the loss of m.
func direct(t testing.TB, m *snn.Model, f function, g snn.Gradient) (map[string][]float32, float64) {
	_, x := whole(t, 1)
	x, _ = coarse{}.Perturb(t.Context(), m, x, nil, nil, rng.Key{})
	loss, grads := 0.0, map[string][]float32{}
	_, err := m.Differentiate(snn.Pass{Train: true, Gradient: g}, x, snn.OfParams, func(o snn.Output) (grad []float32, err error) {
		loss, grad = f(o)
		return grad, nil
	})
	require.NoError(t, err)
	for _, p := range m.Params() {
		grads[p.Name] = p.ExportGrad()
	}
	return grads, loss
}

// function returns a loss of a batch and its gradient, for networks that end in the layer that
// a penalty is of.
type function func(o snn.Output) (float64, []float32)

// squares is Weight times the mean of the squared outputs of every step.
func squares(weight float64) function {
	return func(o snn.Output) (v float64, grad []float32) {
		for _, z := range o.Logits {
			v += weight * float64(z) * float64(z) / float64(len(o.Logits))
			grad = append(grad, float32(2*weight*float64(z)/float64(len(o.Logits))))
		}
		return v, grad
	}
}

// rateOf is Weight·(mean output − target)².
func rateOf(weight, target float64) function {
	return func(o snn.Output) (v float64, grad []float32) {
		for _, z := range o.Mean {
			v += float64(z) / float64(len(o.Mean))
		}
		d := v - target
		for range o.Mean {
			grad = append(grad, float32(2*weight*d/float64(len(o.Mean))))
		}
		return weight * d * d, grad
	}
}

// A penalty of a layer in the midst of a network has the value and the gradients that the
// same function has as the loss of a network that ends there. With a loss, the gradients add
// up. That holds where layers are fused: convolution, batch norm, neurons and pooling.
func TestPenaltyIsALossOfItsLayer(t *testing.T) {
	neuron := func() *snn.LIF {
		return &snn.LIF{Decay: 0.9, Threshold: 0.4, Surrogate: snn.Triangle{Width: 1}}
	}
	for name, c := range map[string]struct {
		penalty train.Penalty
		alone   function
		layers  int // of the network that ends in what the penalty is of
	}{
		"rate of the first":     {train.RatePenalty{Layer: "2", Weight: 30, Target: 0.7}, rateOf(30, 0.7), 3},
		"rate of the last":      {train.RatePenalty{Layer: "6", Weight: 20}, rateOf(20, 0), 7},
		"currents of the first": {train.CurrentPenalty{Layer: "2", Weight: 0.5}, squares(0.5), 2},
		"currents of the last":  {train.CurrentPenalty{Layer: "6", Weight: 0.5}, squares(0.5), 6},
	} {
		for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTR{}, snn.BPTT{Surrogate: snn.Arctan{Alpha: 2}}} {
			end := func() *snn.Model { return stack(t, neuron, c.layers) }
			full := func() *snn.Model { return stack(t, neuron, 10) }
			want, wantLoss := direct(t, end(), c.alone, g)
			got, loss := gradientsOf(t, full(), silent{}, g, c.penalty)
			require.Greater(t, wantLoss, 0.01)
			assert.InDelta(t, wantLoss, loss, 1e-6, "%s %v", name, g)
			most := 0.0
			for p, v := range want {
				for _, x := range v {
					most = math.Max(most, math.Abs(float64(x)))
				}
				assert.InDeltaSlice(t, v, got[p], 1e-5, "%s %v %s", name, g, p)
			}
			require.Greater(t, most, 1e-3)

			plain, plainLoss := gradientsOf(t, full(), train.CrossEntropy{}, g)
			both, bothLoss := gradientsOf(t, full(), train.CrossEntropy{}, g, c.penalty)
			assert.InDelta(t, plainLoss+loss, bothLoss, 1e-6)
			for p, v := range both {
				for i, x := range v {
					sum := plain[p][i]
					if got[p] != nil {
						sum += got[p][i]
					}
					require.InDelta(t, sum, x, 2e-5, "%s %v %s", name, g, p)
				}
			}
		}
	}
}

// The membrane penalty is the mean of the squared potentials that a step by step loop
// computes, and its gradient is that of central differences, where no spike comes or goes.
func TestMembranePenalty(t *testing.T) {
	const T = 4
	for _, n := range []snn.LIF{
		{Decay: 0.75, Threshold: 1}, {Decay: 0.5, Threshold: 0.75, SoftReset: true}, {Decay: 1, Threshold: 0.5},
		{Decay: 0.75, Threshold: 0.25, DecayInput: true}, {Decay: 0.5, Threshold: 0.5, Reset: -0.25, Start: 0.25},
	} {
		n.Surrogate = snn.Triangle{Width: 1}
		layer := n
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: T}, snn.NewSequential(
			snn.Flatten{}, snn.NewLinear(36, 18, true), &layer, snn.NewLinear(18, 3, false)))
		require.NoError(t, err)
		fill := func(p *autograd.Param, change map[int]float32) {
			v, r := make([]float32, p.Len()), rng.New(4).Rand()
			for i := range v {
				v[i] = float32(r.IntN(9)-3) / 32
			}
			for i, d := range change {
				v[i] += d
			}
			p.Import(v)
		}
		_, x := whole(t, 1)
		x, _ = coarse{}.Perturb(t.Context(), m, x, nil, nil, rng.Key{})
		// value runs the neurons with the bias changed.
		value := func(change map[int]float32) (sum float64, spikes string) {
			fill(m.Params()[1], change)
			w, b := m.Params()[0].Export(), m.Params()[1].Export()
			for i := range x.N {
				for o := range 18 {
					in, u, reset := float64(b[o]), 0.0, float64(n.Start)
					for k, v := range x.Image(i) {
						in += float64(w[o*36+k]) * float64(v)
					}
					if n.DecayInput {
						in *= 1 - float64(n.Decay)
					}
					for range T {
						u = float64(n.Decay)*reset + in
						sum += u * u / float64(x.N*18*T)
						reset = u
						spikes += map[bool]string{true: "1", false: "0"}[u >= float64(n.Threshold)]
						if u >= float64(n.Threshold) {
							reset = float64(n.Reset)
							if n.SoftReset {
								reset = u - float64(n.Threshold)
							}
						}
					}
				}
			}
			return sum, spikes
		}
		fill(m.Params()[0], nil)
		want, spikes := value(nil)
		require.Greater(t, strings.Count(spikes, "1"), 100)
		grads, loss := gradientsOf(t, m, silent{}, snn.BPTT{}, train.MembranePenalty{Layer: "2", Weight: 1})
		assert.InDelta(t, want, loss, 1e-5)
		fill(m.Params()[0], nil)
		checked := 0
		for o := range 18 {
			const h = 1. / 1024
			up, more := value(map[int]float32{o: h})
			down, less := value(map[int]float32{o: -h})
			if more == spikes && less == spikes {
				assert.InDelta(t, (up-down)/(2*h), grads["1.bias"][o], 1e-4)
				checked++
			}
		}
		assert.Greater(t, checked, 2, "%+v", n)
	}
}

// A network with a rate penalty fires less, and Metrics has the penalty. A penalty of every
// layer is the sum of those of each. Trainings with penalties resume.
func TestPenalties(t *testing.T) {
	cfg := train.Default(8)
	cfg.LR, cfg.Loader.BatchSize = 0.02, 8
	want := fit(t, tiny(t, nil), cfg)
	cfg.Penalties = []train.Penalty{train.RatePenalty{Weight: 10}}
	got := fit(t, tiny(t, nil), cfg)
	assert.Less(t, got[7].FiringRate, 0.8*want[7].FiringRate)
	assert.Zero(t, want[7].Penalty)
	assert.Positive(t, got[7].Penalty)
	assert.Greater(t, got[7].Loss, got[7].Penalty)

	each := rat()
	for _, r := range tiny(t, nil).Summary().Rows {
		if r.Neurons > 0 {
			each.Penalties = append(each.Penalties, train.CurrentPenalty{Layer: r.Name, Weight: 0.1}, train.MembranePenalty{Layer: r.Name, Weight: 0.1})
		}
	}
	require.Len(t, each.Penalties, 2*7)
	all := rat()
	all.Penalties = []train.Penalty{train.CurrentPenalty{Weight: 0.1}, train.MembranePenalty{Weight: 0.1}}
	a, b := fit(t, tiny(t, nil), each), fit(t, tiny(t, nil), all)
	for i := range a {
		assert.InDelta(t, a[i].Penalty, b[i].Penalty, 1e-4)
	}
	all.Penalties = append(all.Penalties, train.RatePenalty{Weight: 1, Target: 0.2})
	all.Loss = train.TRADES{Beta: 1}
	resumes(t, all, 1)
}

// odd is a penalty that is wrong in some way.
type odd struct {
	train.RatePenalty
	charge func(a *train.Activity) (train.PenaltyValue, error)
}

func (o odd) Penalize(a *train.Activity) (train.PenaltyValue, error) { return o.charge(a) }

func TestPenaltyRefused(t *testing.T) {
	layers := "blocks.0.n1, blocks.0.n2, blocks.1.n1, blocks.1.n2, blocks.2.n1, blocks.2.n2, n"
	for _, c := range []struct {
		penalty train.Penalty
		want    string
	}{
		{nil, "train: Config.Penalties[0] is nil, want one such as RatePenalty{Weight: 0.1}"},
		{train.RatePenalty{Layer: "fc", Weight: 1}, `train: Config.Penalties[0]: train.RatePenalty: the model has no layer of neurons "fc", want one of ` + layers},
		{train.RatePenalty{}, "train: Config.Penalties[0]: RatePenalty.Weight is 0, want a finite positive number"},
		{train.RatePenalty{Weight: 1, Target: 2}, "train: Config.Penalties[0]: RatePenalty.Target is 2, want a number in [0, 1]"},
		{train.CurrentPenalty{Weight: math.Inf(1)}, "train: Config.Penalties[0]: CurrentPenalty.Weight is +Inf, want a finite positive number"},
		{train.MembranePenalty{Weight: -1}, "train: Config.Penalties[0]: MembranePenalty.Weight is -1, want a finite positive number"},
	} {
		cfg := rat()
		cfg.Penalties = []train.Penalty{c.penalty}
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.EqualError(t, err, c.want)
	}
	nan := float32(math.NaN())
	for want, charge := range map[string]func(a *train.Activity) (train.PenaltyValue, error){
		"its value is NaN, want a finite number": func(*train.Activity) (train.PenaltyValue, error) { return train.PenaltyValue{Value: math.NaN()}, nil },
		"its gradient of the currents has a value that is not a finite number": func(a *train.Activity) (train.PenaltyValue, error) {
			g := tensor.NewDense(a.Currents().Shape)
			g.Data[1] = nan
			return train.PenaltyValue{Currents: g}, nil
		},
		"its gradient of the spikes is 8×2×6×1×1, want 8×3×6×3×3, or that with one step": func(a *train.Activity) (train.PenaltyValue, error) {
			s := a.Spikes.Shape
			s.H, s.W, s.Steps = 1, 1, 2
			return train.PenaltyValue{Spikes: tensor.NewDense(s)}, nil
		},
		"broken": func(*train.Activity) (train.PenaltyValue, error) { return train.PenaltyValue{}, errors.New("broken") },
	} {
		cfg := rat()
		cfg.Penalties = []train.Penalty{odd{train.RatePenalty{Layer: "blocks.1.n2", Weight: 1}, charge}}
		for _, err := range trainer(t, tiny(t, nil), cfg).Epochs(t.Context()) {
			assert.ErrorContains(t, err, "train: epoch 1 of 3, step 1 of 3: penalty train_test.odd of layer blocks.1.n2: "+want)
		}
	}
	cfg := rat()
	cfg.Gradient, cfg.Penalties = snn.CBA{}, []train.Penalty{train.RatePenalty{Layer: "n", Weight: 1}}
	for _, err := range trainer(t, tiny(t, nil), cfg).Epochs(t.Context()) {
		assert.ErrorContains(t, err, "penalty train.RatePenalty of layer n: the layer has no spikes in this pass, want another Config.Gradient")
	}
}
