package train_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// silentPair is a loss of zero that needs the clean output.
type silentPair struct{ silent }

func (silentPair) NeedsClean() bool { return true }

// darkerAndCoarse is darker, with images rounded to 64ths.
type darkerAndCoarse struct{}

func (darkerAndCoarse) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	x, _ = darker{}.Perturb(ctx, m, x, y, ids, key)
	return coarse{}.Perturb(ctx, m, x, y, ids, key)
}

// twoLayers is what a network of two layers of neurons computes, in plain loops: the currents and
// the potentials before a spike of the second layer, [N·T·outs].
func twoLayers(x tensor.NCHW, m *snn.Model, T int, first, second *snn.LIF) (currents, potentials []float64, spikes string) {
	ps := m.Params()
	w1, b1, w2, b2 := ps[0].Export(), ps[1].Export(), ps[2].Export(), ps[3].Export()
	fire := func(n *snn.LIF, u float64) (after float64, fired bool) {
		if u < float64(n.Threshold) {
			return u, false
		}
		if n.SoftReset {
			return u - float64(n.Threshold), true
		}
		return float64(n.Reset), true
	}
	for i := range x.N {
		hidden, out := make([]float64, len(b1)), make([]float64, len(b2))
		for range T {
			in := make([]float64, len(b2))
			for o := range in {
				in[o] = float64(b2[o])
			}
			for h := range hidden {
				u := float64(first.Decay)*hidden[h] + float64(b1[h])
				for k, v := range x.Image(i) {
					u += float64(w1[h*36+k]) * float64(v)
				}
				var fired bool
				if hidden[h], fired = fire(first, u); fired {
					for o := range in {
						in[o] += float64(w2[o*len(b1)+h])
					}
				}
			}
			for o, c := range in {
				u := float64(second.Decay)*out[o] + c
				currents, potentials = append(currents, c), append(potentials, u)
				var fired bool
				if out[o], fired = fire(second, u); fired {
					spikes += "1"
				} else {
					spikes += "0"
				}
			}
		}
	}
	return currents, potentials, spikes
}

// The penalties of potentials and of currents have the values that plain loops compute from their
// formulas. The gradients are those of central differences, where no spike comes or goes.
func TestPenaltiesOfPotentials(t *testing.T) {
	const T, outs = 4, 18
	for _, n := range []snn.LIF{{Decay: 0.75, Threshold: 1}, {Decay: 0.5, Threshold: 0.75, SoftReset: true}, {Decay: 1, Threshold: 0.5}} {
		n.Surrogate = snn.Triangle{Width: 1}
		first, second := n, n
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 6, Width: 6, Steps: T}, snn.NewSequential(
			snn.Flatten{}, snn.NewLinear(36, 20, true), &first, snn.NewLinear(20, outs, true), &second, snn.NewLinear(outs, 3, false)))
		require.NoError(t, err)
		fill := func(p *autograd.Param, seed uint64, scale float32, change map[int]float32) {
			v, r := make([]float32, p.Len()), rng.New(seed).Rand()
			for i := range v {
				v[i] = scale * float32(r.IntN(9)-3) / 32
			}
			for i, d := range change {
				v[i] += d
			}
			p.Import(v)
		}
		prepare := func(change map[int]float32) {
			fill(m.Params()[0], 4, 1, nil)
			fill(m.Params()[1], 5, 1, nil)
			fill(m.Params()[2], 6, 2, nil)
			fill(m.Params()[3], 7, 2, change)
		}
		_, original := whole(t, 1)
		x, _ := darkerAndCoarse{}.Perturb(t.Context(), m, original, nil, nil, rng.Key{})
		prepare(nil)
		clean, _, _ := twoLayers(original, m, T, &first, &second)
		theta := float64(n.Threshold)
		mean := func(v []float64, f func(float64) float64) (sum float64) {
			for _, u := range v {
				sum += f(u) / float64(len(v))
			}
			return sum
		}
		mppd := func(f func(float64) float64) func(currents, _ []float64) float64 {
			return func(currents, _ []float64) float64 {
				var all []float64
				for i := range x.N {
					y := make([]float64, outs)
					for s := range T {
						for o := range y {
							k := (i*T+s)*outs + o
							y[o] = 0.9*y[o] + clean[k] - currents[k]
							all = append(all, y[o])
						}
					}
				}
				return mean(all, f)
			}
		}
		for _, c := range []struct {
			penalty train.Penalty
			value   func(currents, potentials []float64) float64
			loss    train.Loss
		}{
			{train.ThresholdPenalty{Layer: "4", Weight: 3, Margin: 0.4}, func(_, us []float64) float64 {
				return 3 * mean(us, func(u float64) float64 { return max(0, 0.4-math.Abs(u-theta)) })
			}, silent{}},
			{train.MPDPenalty{Layer: "4", Weight: 2, Width: 0.5}, func(_, us []float64) float64 {
				mu := mean(us, func(u float64) float64 { return u - theta })
				sd := math.Sqrt(mean(us, func(u float64) float64 { return (u - theta - mu) * (u - theta - mu) }))
				share := 0.0 // the integral of the density over the interval
				const parts = 4000
				for k := range parts {
					z := (-0.5 + (float64(k)+0.5)/parts - mu) / sd
					share += math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) / sd / parts
				}
				return 2 * share
			}, silent{}},
			{train.MPPDPenalty{Layer: "4", Weight: 1, Decay: 0.9}, mppd(func(y float64) float64 { return y * y }), silentPair{}},
			{train.MPPDPenalty{Layer: "4", Weight: 1, Decay: 0.9, L1: true}, mppd(math.Abs), silentPair{}},
		} {
			value := func(change map[int]float32) (float64, string) {
				prepare(change)
				currents, us, spikes := twoLayers(x, m, T, &first, &second)
				return c.value(currents, us), spikes
			}
			want, spikes := value(nil)
			require.Greater(t, strings.Count(spikes, "1"), 50)
			require.Greater(t, strings.Count(spikes, "0"), 50)
			grads, loss := gradientsUnder(t, darkerAndCoarse{}, m, c.loss, snn.BPTT{}, c.penalty)
			require.Greater(t, want, 1e-4)
			assert.InDelta(t, want, loss, 1e-5, "%+v", c.penalty)
			checked, most := 0, 0.0
			for o := range outs {
				const h = 1. / 4096
				up, more := value(map[int]float32{o: h})
				down, less := value(map[int]float32{o: -h})
				if more != spikes || less != spikes {
					continue
				}
				_, current := c.penalty.(train.MPPDPenalty) // 0 in the difference where |Y| has its kink, at 0
				if slope, other := (up-want)/h, (want-down)/h; !current && math.Abs(slope-other) > 2e-3 {
					continue // at a kink of the penalty
				}
				assert.InDelta(t, (up-down)/(2*h), grads["3.bias"][o], 2e-4, "%T of %+v: bias %d", c.penalty, n, o)
				most = max(most, math.Abs(float64(grads["3.bias"][o])))
				checked++
			}
			assert.Greater(t, checked, 2, "%+v of %+v", c.penalty, n)
			assert.Greater(t, most, 1e-3, "%+v of %+v", c.penalty, n)
			prepare(nil)
		}
	}
}

// seen is a penalty that notes how far the training is.
type seen struct {
	train.RatePenalty
	progress *[]float64
}

func (s seen) Penalize(a *train.Activity) (train.PenaltyValue, error) {
	*s.progress = append(*s.progress, a.Progress)
	return train.PenaltyValue{}, nil
}

// A penalty sees the share of the steps that are done, and a rising one follows it.
func TestProgressOfPenalties(t *testing.T) {
	cfg := rat()
	var got []float64
	cfg.Penalties = []train.Penalty{seen{train.RatePenalty{Layer: "n", Weight: 1}, &got}}
	fit(t, tiny(t, nil), cfg)
	require.Len(t, got, 9)
	for i, p := range got {
		assert.InDelta(t, float64(i)/9, p, 1e-12)
	}
	penalties := func(rising bool) (list []float64) {
		cfg, _ := whole(t, 4)
		cfg.LR = 1e-12
		cfg.Penalties = []train.Penalty{train.ThresholdPenalty{Layer: "2", Weight: 1, Margin: 1, Rising: rising}}
		for _, m := range fit(t, stack(t, func() *snn.LIF { return snn.NewLIF(0.9) }, 10), cfg) {
			list = append(list, m.Penalty)
		}
		return list
	}
	steady, rising := penalties(false), penalties(true)
	for i, share := range []float64{0, (1 - math.Sqrt2/2) / 2, 0.5, (1 + math.Sqrt2/2) / 2} {
		require.Positive(t, steady[i])
		assert.InDelta(t, share*steady[i], rising[i], 1e-6)
	}
}

// Trainings with all these penalties resume, and what does not fit is refused by name.
func TestPenaltiesOfPotentialsInTrainings(t *testing.T) {
	cfg := rat()
	cfg.Loss = train.CleanMix{Share: 0.5, Loss: train.CrossEntropy{}}
	cfg.Penalties = []train.Penalty{
		train.ThresholdPenalty{Weight: 0.1, Margin: 0.5, Rising: true}, train.MPDPenalty{Weight: 0.1, Width: 1}, train.MPPDPenalty{Weight: 0.1, Decay: 0.99, L1: true},
	}
	resumes(t, cfg, 1)
	for _, c := range []struct {
		penalty train.Penalty
		want    string
	}{
		{train.ThresholdPenalty{Weight: 1}, "ThresholdPenalty.Margin is 0, want a finite positive number"},
		{train.ThresholdPenalty{Margin: 1}, "ThresholdPenalty.Weight is 0, want a finite positive number"},
		{train.MPDPenalty{Weight: 1, Width: math.Inf(1)}, "MPDPenalty.Width is +Inf, want a finite positive number"},
		{train.MPPDPenalty{Weight: 1, Decay: 1.5}, "MPPDPenalty.Decay is 1.5, want a number in [0, 1]"},
		{train.MPPDPenalty{Decay: 1}, "MPPDPenalty.Weight is 0, want a finite positive number"},
	} {
		cfg.Penalties = []train.Penalty{c.penalty}
		_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
		assert.EqualError(t, err, "train: Config.Penalties[0]: "+c.want)
	}
	cfg.Loss, cfg.Penalties = train.CrossEntropy{}, []train.Penalty{train.MPPDPenalty{Weight: 1, Decay: 1}}
	_, err := train.New(tiny(t, nil), toy(t), cfg, rng.New(1))
	assert.EqualError(t, err, "train: Config.Penalties[0]: train.MPPDPenalty compares with the clean images: want a loss that needs them, such as CleanMix, not train.CrossEntropy")
}

// softmaxOf returns the softmax of z.
func softmaxOf(z []float64) []float64 {
	p, sum := make([]float64, len(z)), 0.0
	for _, v := range z {
		sum += math.Exp(v)
	}
	for k, v := range z {
		p[k] = math.Exp(v) / sum
	}
	return p
}

// The losses and their gradients are those of their formulas, by central differences.
func TestLossesByDifferences(t *testing.T) {
	const N, T, C = 4, 3, 5
	r := rng.New(9).Rand()
	clean, moved, labels := make([]float32, N*T*C), make([]float32, N*T*C), []int{0, 2, 4, 1}
	for i := range clean {
		clean[i], moved[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
	}
	meanOf := func(z []float64, n int) []float64 {
		m := make([]float64, C)
		for i, v := range z[n*T*C:][:T*C] {
			m[i%C] += v / T
		}
		return m
	}
	entropyOfMean := func(z []float64, n int) float64 { return -math.Log(softmaxOf(meanOf(z, n))[labels[n]]) }
	share := func(z []float64, n int) float64 {
		m := meanOf(z, n)
		y := math.Exp(m[labels[n]])
		m[labels[n]] = math.Inf(-1)
		return y / (y + math.Exp(slices.Max(m)))
	}
	kl := func(clean, moved []float64, n int, tau float64) (sum float64) {
		scaled := func(z []float64) []float64 {
			m := meanOf(z, n)
			for k := range m {
				m[k] /= tau
			}
			return softmaxOf(m)
		}
		p, q := scaled(clean), scaled(moved)
		for k := range p {
			sum += p[k] * math.Log(p[k]/q[k])
		}
		return sum
	}
	for _, c := range []struct {
		loss  train.Loss
		value func(clean, moved []float64, n int) float64
	}{
		{train.TRADES{Beta: 6}, func(z, w []float64, n int) float64 { return entropyOfMean(z, n) + 6*kl(z, w, n, 1) }},
		{train.TRADES{Beta: 5, Temperature: 2, PerStep: true}, func(z, w []float64, n int) float64 {
			sum := 5 * 4 * kl(z, w, n, 2)
			for s := range T {
				sum -= math.Log(softmaxOf(z[(n*T+s)*C:][:C])[labels[n]]) / T
			}
			return sum
		}},
		{train.GradientSparsity{Lambda: 0.3, Step: 0.5}, func(z, w []float64, n int) float64 {
			slope := (share(w, n) - share(z, n)) / 0.5
			return entropyOfMean(z, n) + 0.3*slope*slope
		}},
	} {
		o := train.BatchOutput{Output: output(moved, T, C), Clean: output(clean, T, C), Labels: labels}
		losses := make([]float64, N)
		grad, ofClean := c.loss.Compute(losses, o)
		z, w := wide(clean), wide(moved)
		for n := range N {
			assert.InDelta(t, c.value(z, w, n), losses[n], 1e-6, "%T", c.loss)
		}
		for of, at := range map[*[]float64][]float64{&z: everyStep(ofClean, o.Clean), &w: everyStep(grad, o.Output)} {
			for i, g := range at {
				const h = 1e-5
				was := (*of)[i]
				(*of)[i] = was + h
				up := c.value(z, w, i/(T*C))
				(*of)[i] = was - h
				down := c.value(z, w, i/(T*C))
				(*of)[i] = was
				assert.InDelta(t, (up-down)/(2*h), g, 1e-5, "%T", c.loss)
			}
		}
	}
	for _, c := range []struct {
		loss train.Loss
		want string
	}{
		{train.TRADES{Temperature: -1}, "TRADES.Temperature is -1, want a finite positive number, or 0 for 1"},
		{train.GradientSparsity{Lambda: -1, Step: 1}, "GradientSparsity.Lambda is -1, want a finite number of at least 0"},
		{train.GradientSparsity{Lambda: 1}, "GradientSparsity.Step is 0, want a finite positive number"},
	} {
		assert.EqualError(t, c.loss.Validate(), c.want)
	}
}

func wide(v []float32) (w []float64) {
	for _, x := range v {
		w = append(w, float64(x))
	}
	return w
}

// BenchmarkPenalties times a step of 64 images, with penalties of a layer of 25,088 neurons for 4 steps
// and without. All have the loss and the adversary that MPPDPenalty needs.
func BenchmarkPenalties(b *testing.B) {
	const images, side = 64, 28
	pixels, r := make([]uint8, images*side*side), rng.New(1).Rand()
	for i := range pixels {
		pixels[i] = uint8(r.IntN(256))
	}
	set, err := dataset.New("noise", dataset.NewMemory(1, side, side, pixels), make([]int, images), []string{"noise"})
	require.NoError(b, err)
	for _, c := range []struct {
		name string
		ps   []train.Penalty
	}{
		{"none", nil},
		{"membrane", []train.Penalty{train.MembranePenalty{Weight: 1e-3}}},
		{"threshold", []train.Penalty{train.ThresholdPenalty{Weight: 1e-3, Margin: 0.5}}},
		{"mpd", []train.Penalty{train.MPDPenalty{Weight: 1e-3, Width: 1}}},
		{"mppd-l2", []train.Penalty{train.MPPDPenalty{Weight: 1e-3, Decay: 0.99}}},
		{"mppd-l1", []train.Penalty{train.MPPDPenalty{Weight: 1e-3, Decay: 0.99, L1: true}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			m, err := snn.NewModel(snn.Config{Channels: 1, Height: side, Width: side, Steps: 4}, snn.NewSequential(
				snn.NewConv2D(1, 32, 3, 1, 1, true), snn.NewBatchNorm(32), snn.NewIF(), snn.AvgPool{K: side},
				snn.Flatten{}, snn.NewLinear(32, 1, true)))
			require.NoError(b, err)
			m.Init(rng.New(1))
			cfg := train.Default(b.N + 1)
			cfg.Loader.BatchSize = images
			cfg.Adversary, cfg.Loss = darker{}, train.CleanMix{Share: 0.5, Loss: train.CrossEntropy{}}
			cfg.Penalties = c.ps
			tr, err := train.New(m, set, cfg, rng.New(1))
			require.NoError(b, err)
			b.ResetTimer()
			for _, err := range tr.Epochs(b.Context()) {
				require.NoError(b, err)
			}
		})
	}
}
