package attack_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// frames returns n examples of a frame for each step of m, with values in [lo, hi), labels,
// and the examples' ids.
func frames(m *snn.Model, n int, lo, hi float32) (tensor.NCHW, []int, []uint64) {
	_, y, ids := images(m, n, lo, hi)
	r := rng.New(5).Rand()
	x := tensor.NewFrames(tensor.Shape{N: n, Steps: m.Steps, C: m.Channels, H: m.Height, W: m.Width})
	for i := range x.Data {
		x.Data[i] = lo + (hi-lo)*r.Float32()
	}
	return x, y, ids
}

// frame returns the values of image i of x at a step.
func frame(x tensor.NCHW, i, step int) []float32 {
	size := x.C * x.H * x.W
	return x.Image(i)[step*size:][:size]
}

func share(a *attack.Attack) *attack.Attack {
	a.SharedFrames = true
	return a
}

// fgsmGradient returns the gradient by which FGSM moves x.
func fgsmGradient(t *testing.T, m *snn.Model, g snn.Gradient, x tensor.NCHW, y []int) tensor.NCHW {
	grad, err := m.InputGradient(snn.Pass{Gradient: g}, x, func(z []float32) []float32 {
		d := make([]float32, len(z))
		attack.CrossEntropy{}.Evaluate(make([]float64, len(y)), d, z, y, nil)
		return d
	})
	require.NoError(t, err)
	return grad
}

func sign(v float32) float32 {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}

// By default FGSM moves every frame by the sign of its own gradient. A shared perturbation
// moves all frames by the sign of the sum of their gradients.
func TestFGSMOnFrames(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := frames(m, 3, 0.2, 0.8)
	for _, g := range gradients() {
		grad := fgsmGradient(t, m, g, x, y)
		each := perturb(t, attack.FGSM(0.125, g), m, x, y, ids)
		shared := perturb(t, share(attack.FGSM(0.125, g)), m, x, y, ids)
		require.Equal(t, x.Shape(), each.Shape())
		require.Equal(t, x.Shape(), shared.Shape())
		moved := 0
		for i := range x.N {
			for k := range frame(x, i, 0) {
				sum, size := 0.0, 0.0
				for step := range m.Steps {
					v := frame(grad, i, step)[k]
					require.InDelta(t, frame(x, i, step)[k]+0.125*sign(v), frame(each, i, step)[k], 1e-7)
					sum += float64(v)
					size += math.Abs(float64(v))
				}
				if math.Abs(sum) < 1e-5*size {
					continue // rounding decides
				}
				for step := range m.Steps {
					require.InDelta(t, frame(x, i, step)[k]+0.125*sign(float32(sum)), frame(shared, i, step)[k], 1e-7)
				}
				moved++
			}
		}
		assert.Greater(t, moved, x.N*m.Channels*m.Height*m.Width/2)
	}
}

// Every attack stays in [0,1] and in the ball: of the whole example, or of each frame if the
// frames share a perturbation. What it returns depends neither on the batch nor on threads.
func TestBallOfFrames(t *testing.T) {
	racetest.Costly(t)
	m := model(t, small, false)
	x, y, ids := frames(m, 4, 0, 1)
	before := x.Clone()
	for name, p := range all() {
		for _, shared := range []bool{false, true} {
			a, isAttack := p.(*attack.Attack)
			if isAttack {
				one := *a
				one.SharedFrames = shared
				a, p = &one, &one
			}
			name := fmt.Sprint(name, " shared ", shared)
			m.Threads = 2
			adv := perturb(t, p, m, x, y, ids)
			assert.NoError(t, adv.ValidateRange(0, 1), name)
			assert.Equal(t, before, x, name)
			require.Equal(t, x.Shape(), adv.Shape(), name)
			assert.NotEqual(t, x.Data, adv.Data, name)
			m.Threads = 1
			assert.Equal(t, adv.Slice(1, 3), perturb(t, p, m, x.Slice(1, 3), y[1:3], ids[1:3]), name)
			if !isAttack {
				continue
			}
			for i := range x.N {
				if !shared {
					assert.LessOrEqual(t, a.Norm.Distance(x.Image(i), adv.Image(i)), float64(a.Eps), name)
					continue
				}
				for step := range m.Steps {
					assert.LessOrEqual(t, a.Norm.Distance(frame(x, i, step), frame(adv, i, step)), float64(a.Eps), name)
				}
				// A value that is clipped in no frame moves by the same amount in all of them.
				for k := range frame(x, i, 0) {
					var d []float64
					for step := range m.Steps {
						v := frame(adv, i, step)[k]
						if v == 0 || v == 1 {
							d = nil
							break
						}
						d = append(d, float64(v)-float64(frame(x, i, step)[k]))
					}
					if d != nil {
						require.InDelta(t, slices.Min(d), slices.Max(d), 2e-7, name)
					}
				}
			}
		}
	}
}

// An attack raises the loss: with a perturbation for each frame more than with one for all,
// and with that more than noise of the same size.
func TestAttacksOnFramesRaiseTheLoss(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := frames(m, 24, 0.1, 0.9)
	of := func(a snn.Adversary) float64 { return mean(losses(t, m, perturb(t, a, m, x, y, ids), y)) }
	each, shared := of(attack.BIM(0.2, 0.04, 10, snn.BPTT{})), of(share(attack.BIM(0.2, 0.04, 10, snn.BPTT{})))
	random := share(attack.RFGSM(0.2, snn.BPTT{}))
	random.Start, random.Alpha = attack.RandomStep{Length: 0.2}, 1e-9
	noise := of(random)
	assert.Greater(t, each, shared+0.01)
	assert.Greater(t, shared, noise+0.01)
}

// Steps with a shared perturbation, written out: δ ← clamp(δ + α·sign(Σₜ ∂L/∂x_t), ±ε), and
// every frame is clip(x_t + δ).
func TestSharedStepsByHand(t *testing.T) {
	const eps, alpha, steps = 0.125, 0.0625, 7
	m := model(t, small, false)
	x, y, ids := frames(m, 3, 0, 1)
	delta := make([]float32, x.N*m.Channels*m.Height*m.Width)
	want, outside := x.Clone(), 0
	size := len(delta) / x.N
	for range steps {
		grad := fgsmGradient(t, m, snn.BPTT{}, want, y)
		for k := range delta {
			sum := 0.0
			for step := range m.Steps {
				sum += float64(frame(grad, k/size, step)[k%size])
			}
			d := delta[k] + alpha*sign(float32(sum))
			if d > eps || d < -eps {
				outside++
			}
			delta[k] = min(max(d, -eps), eps)
			for step := range m.Steps {
				frame(want, k/size, step)[k%size] = min(max(frame(x, k/size, step)[k%size]+delta[k], 0), 1)
			}
		}
	}
	got := perturb(t, share(attack.BIM(eps, alpha, steps, snn.BPTT{})), m, x, y, ids)
	require.InDeltaSlice(t, want.Data, got.Data, 1e-7)
	assert.Positive(t, outside)
}

// A perturbation that equal frames share is that of the image.
func TestSharedPerturbationOfEqualFrames(t *testing.T) {
	m := model(t, small, false)
	x, y, ids := images(m, 3, 0.2, 0.8)
	repeated := tensor.NewFrames(x.Shape().WithSteps(m.Steps))
	for i := range x.N {
		for step := range m.Steps {
			copy(frame(repeated, i, step), x.Image(i))
		}
	}
	for _, norm := range []attack.Norm{attack.LInf{}, attack.L2{}} {
		a := attack.FGSM(0.1, snn.BPTT{})
		a.Norm = norm
		image, all := perturb(t, a, m, x, y, ids), perturb(t, share(a), m, repeated, y, ids)
		grad := fgsmGradient(t, m, snn.BPTT{}, x, y)
		compared := 0
		for i := range x.N {
			for k, want := range image.Image(i) {
				if math.Abs(float64(grad.Image(i)[k])) < 1e-6 {
					continue // rounding decides the sign
				}
				compared++
				for step := range m.Steps {
					require.InDelta(t, want, frame(all, i, step)[k], 1e-5)
				}
			}
		}
		assert.Greater(t, compared, len(x.Data)/2)
	}
}

// An evaluation of frames reports how the distance is measured and whether the frames share
// a perturbation.
func TestEvaluateFrames(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := frames(m, 6, 0, 1)
	data := set{x: x, y: y}
	suite := []attack.Named{
		{Name: "each", Attack: l2(attack.PGD(0.5, 0.2, 3, snn.BPTT{}))},
		{Name: "shared", Attack: share(l2(attack.PGD(0.5, 0.2, 3, snn.BPTT{})))},
	}
	_, err := attack.Evaluate(ctx, m, data, suite, attack.DefaultConfig())
	assert.EqualError(t, err, "attack: evaluate: attacks bounded in L2 and in L2 per frame: expected Config.Threat to say which bound the worst case is for")
	cfg := attack.DefaultConfig()
	cfg.Batch, cfg.Threat = 4, attack.Threat{Norm: attack.L2{}, Eps: 0.5, PerFrame: true}
	r, err := attack.Evaluate(ctx, m, data, suite, cfg)
	require.NoError(t, err)
	assert.Equal(t, "L2 per frame", r.Norm)
	assert.Equal(t, []string{"L2", "L2 per frame"}, []string{r.Attacks[0].Norm, r.Attacks[1].Norm})
	assert.Equal(t, []bool{false, true}, []bool{r.Attacks[0].InWorstCase, r.Attacks[1].InWorstCase})
	assert.Equal(t, []bool{false, true}, []bool{r.Attacks[0].Settings.SharedFrames, r.Attacks[1].Settings.SharedFrames})

	// In L∞ both bounds are the same, and on images there is one.
	suite[0].Attack, suite[1].Attack = attack.FGSM(0.1, snn.BPTT{}), share(attack.FGSM(0.1, snn.BPTT{}))
	cfg.Threat, cfg.Source = attack.Threat{}, model(t, "conv4 | fc", false)
	r, err = attack.Evaluate(ctx, m, data, append(suite, attack.Named{Name: "noise", Attack: attack.GaussianNoise{Std: 0.1}}), cfg)
	require.NoError(t, err)
	assert.True(t, r.BlackBox)
	assert.Equal(t, "L∞", r.Norm)
	assert.True(t, r.Attacks[0].InWorstCase && r.Attacks[1].InWorstCase)
	still, labels, _ := images(m, 2, 0, 1)
	suite[0].Attack, suite[1].Attack = l2(attack.FGSM(0.1, snn.BPTT{})), share(l2(attack.FGSM(0.1, snn.BPTT{})))
	r, err = attack.Evaluate(ctx, m, set{x: still, y: labels}, suite, attack.DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, r.Attacks[0].Predicted, r.Attacks[1].Predicted)
	assert.Equal(t, "L2", r.Norm)
}

// push moves the first value of every frame by 0.3.
type push struct{ perFrame bool }

func (p push) Perturb(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ []uint64, _ rng.Key) (tensor.NCHW, error) {
	adv := x.Clone()
	for i := range x.N {
		for step := range x.Steps {
			frame(adv, i, step)[0] += 0.3
		}
	}
	return adv, nil
}

func (p push) Threat() (attack.Threat, bool) {
	return attack.Threat{Norm: attack.L2{}, Eps: 0.301, PerFrame: p.perFrame}, true
}

// The distance of an adversary's frames is measured as its threat model says.
func TestThreatOfFrames(t *testing.T) {
	m := model(t, small, false)
	x, y, _ := frames(m, 2, 0, 0.5)
	run := func(p push) error {
		_, err := attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{{Name: "push", Attack: p}}, attack.DefaultConfig())
		return err
	}
	assert.NoError(t, run(push{perFrame: true}))
	assert.ErrorContains(t, run(push{}), "push: image 0: L2 distance 0.6")
	tight := attack.Threat{Norm: attack.L2{}, Eps: 0.2, PerFrame: true}
	_, err := attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{{Name: "push", Attack: claims{made{x}, tight}}}, attack.DefaultConfig())
	assert.NoError(t, err)
	far := x.Clone()
	frame(far, 1, 2)[3] += 0.25
	_, err = attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{{Name: "push", Attack: claims{made{far}, tight}}}, attack.DefaultConfig())
	assert.ErrorContains(t, err, "push: image 1, step 2: L2 distance 0.25")
	frame(far, 1, 2)[3] = 1.5
	_, err = attack.Evaluate(ctx, m, set{x: x, y: y}, []attack.Named{{Name: "push", Attack: claims{made{far}, attack.Threat{}}}}, attack.DefaultConfig())
	assert.ErrorContains(t, err, "push: image 1, step 2, value 3: 1.5: expected a number in [0, 1]")
}

// Frames of another number than the network's steps are refused, whoever is given them.
func TestFramesOfAnotherNumber(t *testing.T) {
	m := model(t, small, false)
	x := tensor.NewFrames(tensor.Shape{N: 2, Steps: 3, C: 2, H: 6, W: 6})
	const want = "snn: 3 frames for 4 time steps: expected a frame for each step, or one image for all of them"
	_, err := attack.FGSM(0.1, snn.BPTT{}).Perturb(ctx, m, x, []int{0, 1}, nil, rng.New(1))
	assert.EqualError(t, err, "attack: "+want)
	_, err = attack.GaussianNoise{}.Perturb(ctx, m, x, []int{0, 1}, nil, rng.New(1))
	assert.EqualError(t, err, "attack: "+want)
	_, err = attack.Evaluate(ctx, m, set{x: x, y: []int{0, 1}}, nil, attack.DefaultConfig())
	assert.EqualError(t, err, "attack: evaluate: "+want)
	source := attack.DefaultConfig()
	source.Source = model(t, small, false)
	source.Source.Steps = 2
	x4, y, _ := frames(m, 2, 0, 1)
	_, err = attack.Evaluate(ctx, m, set{x: x4, y: y}, nil, source)
	assert.ErrorContains(t, err, "4 frames for 2 time steps")
}
