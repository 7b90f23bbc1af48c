package snnrat_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/doctest"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// The Go code of docs/extend.md is code of this file and of an example.
func TestDocsExtend(t *testing.T) {
	doctest.Page(t, "docs/extend.md", 15, "docs_extend_test.go", "docs_data_test.go", "docs_recipe_test.go", "snn/example_test.go", "autograd/example_op_test.go")
}

// gauss is the surrogate exp(−(u/Width)²).
type gauss struct{ Width float32 }

func (g gauss) String() string { return fmt.Sprintf("gauss %v", g.Width) }

func (g gauss) Derivative(dst, u []float32) {
	for i, v := range u {
		z := float64(v / g.Width)
		dst[i] = float32(math.Exp(-z * z))
	}
}

// A surrogate in the neurons and the same surrogate in the pass give the same gradient, which is
// not that of the neurons' usual one.
func TestDocsExtendSurrogate(t *testing.T) {
	gradient := func(own snn.Surrogate, pass snn.Gradient) tensor.NCHW {
		neuron := &snn.LIF{Decay: 0.5, Threshold: 1, Surrogate: own}
		m := model(t, snn.Config{Channels: 4, Height: 1, Width: 1, Steps: 3}, snn.NewLinear(4, 20, true), neuron, snn.NewLinear(20, 3, true))
		g, err := m.InputGradient(snn.Pass{Gradient: pass}, pixels(m, 5), first)
		require.NoError(t, err)
		return g
	}
	d := make([]float32, 3)
	gauss{0.5}.Derivative(d, []float32{0, 0.5, -1})
	assert.InDeltaSlice(t, []float64{1, 1 / math.E, math.Exp(-4)}, d, 1e-6)
	want := gradient(gauss{0.5}, nil)
	assert.Equal(t, want, gradient(snn.Triangle{Width: 1}, snn.BPTT{Surrogate: gauss{0.5}}))
	assert.NotEqual(t, want, gradient(snn.Triangle{Width: 1}, nil))
}

// quadratic is the quadratic integrate-and-fire neuron in Euler steps,
// m ← m + (x + m·(m − Critical))/Tau, with the threshold 1 and a reset to 0.
type quadratic struct{ Tau, Critical float32 }

func (q quadratic) String() string { return fmt.Sprintf("quadratic τ=%v", q.Tau) }
func (q quadratic) NumStates() int { return 1 }

func (q quadratic) Integrate(z [][]float32, x, u []float32) {
	for i, m := range z[0] {
		m += (x[i] + m*(m-q.Critical)) / q.Tau
		z[0][i], u[i] = m, m-1
	}
}

func (q quadratic) Reset(z [][]float32, s []float32) {
	for i, s := range s {
		z[0][i] *= 1 - s
	}
}

func (q quadratic) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {
	for i, s := range s {
		ds[i] -= dz[0][i] * z[0][i]
		dz[0][i] *= 1 - s
	}
}

func (q quadratic) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	for i, m := range z[0] {
		d := dz[0][i] + du[i]
		dx[i] = d / q.Tau
		dz[0][i] = d * (1 + (2*m-q.Critical)/q.Tau)
	}
}

// Its network trains, keeps its settings in files, and is attacked by every approximation.
func TestDocsExtendNeuron(t *testing.T) {
	racetest.Costly(t)
	data := t.TempDir()
	require.NoError(t, draw(data))
	set, err := dataset.ReadFolder(data)
	require.NoError(t, err)
	build := func(q quadratic) *snn.Model {
		c, h, w := set.C, set.H, set.W
		return model(t, snn.Config{Channels: c, Height: h, Width: w, Steps: 4}, snn.NewConv2D(c, 8, 3, 1, 1, true), snn.NewBatchNorm(8),
			snn.NewCustom(q, snn.Triangle{Width: 1}), snn.Flatten{}, snn.NewLinear(8*h*w, 2, true))
	}
	m := build(quadratic{Tau: 1.5, Critical: 0.4})
	trainer, err := train.New(m, set, train.Default(5), rng.New(2))
	require.NoError(t, err)
	for _, err := range trainer.Epochs(context.Background()) {
		require.NoError(t, err)
	}
	accuracy, err := train.Accuracy(context.Background(), m, set, 64)
	require.NoError(t, err)
	assert.Greater(t, accuracy, 0.9)

	checkpoint := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, trainer.Save(checkpoint))
	other, err := train.New(build(quadratic{Tau: 2, Critical: 0.4}), set, train.Default(5), rng.New(2))
	require.NoError(t, err)
	assert.ErrorContains(t, other.Resume(checkpoint), "quadratic τ=2")

	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, m.Save(path))
	loaded := build(quadratic{Tau: 9, Critical: 9})
	require.NoError(t, loaded.LoadWith(path, snn.LoadOptions{Settings: true}))
	x := pixels(m, 5)
	want, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	got, err := loaded.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTT{Surrogate: gauss{0.5}}, snn.BPTR{}, snn.CBA{}} {
		grad, err := m.InputGradient(snn.Pass{Gradient: g}, x, first)
		require.NoError(t, err)
		assert.NotEqual(t, make([]float32, len(grad.Data)), grad.Data, g.String())
	}
	pgd := attack.Named{Name: "PGD", Attack: attack.PGD(0.6, 0.15, 8, snn.BPTT{})}
	report, err := attack.Evaluate(context.Background(), m, set, []attack.Named{pgd}, attack.DefaultConfig())
	require.NoError(t, err)
	assert.Less(t, report.Attacks[0].Accuracy, accuracy)
}

// scaled is BPTT with a triangle as wide as the threshold of LIF neurons.
type scaled struct{}

func (scaled) String() string { return "scaled" }

func (scaled) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	return e.Encode(p, x)
}

func (scaled) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	width := float32(1)
	if lif, ok := n.(*snn.LIF); ok {
		width = lif.Threshold
	}
	return n.FireThroughTime(p, current, snn.Triangle{Width: width})
}

// The gradient is that of neurons with these settings, and the logits are those of an
// evaluation.
func TestDocsExtendGradient(t *testing.T) {
	const θ = 0.3
	build := func(n *snn.LIF) *snn.Model {
		return model(t, snn.Config{Channels: 4, Height: 1, Width: 1, Steps: 5}, snn.NewLinear(4, 20, true), n, snn.NewLinear(20, 3, true))
	}
	m := build(&snn.LIF{Decay: 0.5, Threshold: θ, Surrogate: snn.Triangle{Width: 1}})
	twin := build(&snn.LIF{Decay: 0.5, Threshold: θ, Surrogate: snn.Triangle{Width: θ}})
	x := pixels(m, 5)
	evaluated, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	var logits []float32
	got, err := m.InputGradient(snn.Pass{Gradient: scaled{}}, x, func(l []float32) []float32 {
		logits = slices.Clone(l)
		return first(l)
	})
	require.NoError(t, err)
	assert.Equal(t, evaluated, logits)
	want, err := twin.InputGradient(snn.Pass{}, x, first)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	other, err := m.InputGradient(snn.Pass{}, x, first)
	require.NoError(t, err)
	assert.NotEqual(t, other, got)
}

// widening is BPTT with a triangle that widens from pass to pass of an attack on an image.
type widening struct{}

func (widening) String() string { return "widening" }

func (widening) Encode(p *snn.Pass, e snn.Encoder, x *autograd.Value) *autograd.Value {
	return e.Encode(p, x)
}

func (widening) Fire(p *snn.Pass, n snn.Neuron, current *autograd.Value) *autograd.Value {
	s := &ofImages{widths: make([]float32, current.Shape().N)}
	for i := range s.widths {
		s.widths[i] = 0.5
		if p.Memory != nil && current.NeedsGrad() {
			passes := p.Memory[i].Values(n.Name(), 1)
			s.widths[i] += 0.25 * passes[0]
			passes[0]++
		}
	}
	return n.FireThroughTime(p, current, s)
}

// ofImages is a triangle whose width differs between images.
type ofImages struct {
	snn.StraightThrough
	widths []float32
}

func (s *ofImages) BlockDerivative(u []float32, image, block int) {
	snn.Triangle{Width: s.widths[image]}.Derivative(u, u)
}

// An image's own passes count.
func TestDocsExtendMemory(t *testing.T) {
	m := model(t, snn.Config{Channels: 4, Height: 1, Width: 1, Steps: 5}, snn.NewLinear(4, 20, true), snn.NewIF(), snn.NewLinear(20, 3, true))
	x := pixels(m, 2)
	gradient := func(g snn.Gradient, memory []*snn.Memory, x tensor.NCHW) tensor.NCHW {
		d, err := m.InputGradient(snn.Pass{Gradient: g, Memory: memory}, x, func(l []float32) []float32 {
			g := make([]float32, len(l))
			for i := range g {
				g[i] = float32(i%3) - 1
			}
			return g
		})
		require.NoError(t, err)
		return d
	}
	width := func(w float32, x tensor.NCHW) []float32 {
		return gradient(snn.BPTT{Surrogate: snn.Triangle{Width: w}}, nil, x).Data
	}
	memory := []*snn.Memory{snn.NewMemory(), nil}
	for i := range 3 {
		got := gradient(widening{}, memory, x)
		assert.Equal(t, width(0.5+0.25*float32(i), x.Slice(0, 1)), got.Image(0))
		assert.Equal(t, width(0.5, x.Slice(1, 2)), got.Image(1))
	}
	assert.Equal(t, width(0.5, x), gradient(widening{}, nil, x).Data)
	require.NotEqual(t, width(0.5, x), width(1, x))
	assert.Panics(t, func() { memory[0].Values("1", 2) })
}

// rate encodes a pixel as the spikes of an IF neuron whose current is the pixel.
type rate struct{}

func (rate) Encode(p *snn.Pass, x *autograd.Value) *autograd.Value {
	d := autograd.Dynamics{Decay: 1, Threshold: 1, SoftReset: true}
	return autograd.FireThroughRate(p.Tape, x, d, p.Steps)
}

// The mean over T steps of the encoded pixel x is ⌊x·T⌋/T.
func TestDocsExtendEncoder(t *testing.T) {
	const T = 8
	m := model(t, snn.Config{Channels: 1, Height: 1, Width: 1, Steps: T, Encoder: rate{}}, snn.NewLinear(1, 1, false))
	m.Params()[0].Import([]float32{1})
	x := tensor.NewNCHW(4, 1, 1, 1)
	copy(x.Data, []float32{0, 0.25, 0.4375, 1})
	logits, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	assert.Equal(t, []float32{0, 2. / T, 3. / T, 1}, logits)
}

// part is the maximum norm on the first Values values of an image. No other value may
// change.
type part struct {
	attack.LInf
	Values int
}

func (n part) String() string { return fmt.Sprintf("L∞ of %d values", n.Values) }

func (n part) Distance(x, y []float32) float64 {
	if !slices.Equal(x[n.Values:], y[n.Values:]) {
		return math.Inf(1)
	}
	return n.LInf.Distance(x[:n.Values], y[:n.Values])
}

func (n part) Step(x, g []float32, alpha float32) {
	n.LInf.Step(x[:n.Values], g[:n.Values], alpha)
}

func (n part) Project(x, center []float32, eps float32) {
	n.LInf.Project(x[:n.Values], center[:n.Values], eps)
	copy(x[n.Values:], center[n.Values:])
}

func (n part) Uniform(dst []float32, eps float32, r *rand.Rand) {
	n.LInf.Uniform(dst[:n.Values], eps, r)
	clear(dst[n.Values:])
}

// An attack in the norm moves the values that it may, and no other.
func TestDocsExtendNorm(t *testing.T) {
	m := model(t, snn.Config{Channels: 4, Height: 1, Width: 1, Steps: 5}, snn.NewLinear(4, 20, true), snn.NewIF(), snn.NewLinear(20, 3, true))
	x := pixels(m, 8)
	pgd := attack.PGD(0.1, 0.05, 3, scaled{})
	pgd.Norm = part{Values: 2}
	adv, err := pgd.Perturb(context.Background(), m, x, make([]int, 8), nil, rng.New(1))
	require.NoError(t, err)
	for i := range x.N {
		assert.NotEqual(t, x.Image(i)[:2], adv.Image(i)[:2])
		assert.Equal(t, x.Image(i)[2:], adv.Image(i)[2:])
	}
}

// normalized moves a parameter by the learning rate, in the direction of its negative gradient.
type normalized struct{}

func (normalized) Validate() error { return nil }
func (normalized) Slots() []string { return nil }

func (normalized) Update(w, grad []float32, _ [][]float32, lr float64, _, _ int) {
	var square float64
	for _, g := range grad {
		square += float64(g) * float64(g)
	}
	if square == 0 {
		return
	}
	for i, g := range grad {
		w[i] -= float32(lr / math.Sqrt(square) * float64(g))
	}
}

// box moves every weight into [−Bound, Bound].
type box struct{ Bound float32 }

func (b box) Apply(p *autograd.Param, _ rng.Key, _ int) error {
	w := p.MutableData()
	for i, v := range w {
		w[i] = min(max(v, -b.Bound), b.Bound)
	}
	return nil
}

// An optimizer and a regularizer of one's own train a network, whose weights are in the box.
func TestDocsExtendTraining(t *testing.T) {
	data := t.TempDir()
	require.NoError(t, draw(data))
	set, err := dataset.ReadFolder(data)
	require.NoError(t, err)
	arch := zoo.Default("conv8 A | fc").For(set)
	m, err := zoo.New(arch, rng.New(1))
	require.NoError(t, err)
	cfg := train.Default(5)
	cfg.Optimizer, cfg.Regularizer = normalized{}, box{Bound: 0.2}
	trainer, err := train.New(m, set, cfg, rng.New(2))
	require.NoError(t, err)
	for _, err := range trainer.Epochs(context.Background()) {
		require.NoError(t, err)
	}
	accuracy, err := train.Accuracy(context.Background(), m, set, 64)
	require.NoError(t, err)
	assert.Greater(t, accuracy, 0.9)
	for _, p := range m.Params() {
		if len(p.Shape) > 1 {
			assert.LessOrEqual(t, slices.Max(p.Export()), float32(0.2), p.Name)
			assert.GreaterOrEqual(t, slices.Min(p.Export()), float32(-0.2), p.Name)
		}
	}

	// One update moves each parameter by the learning rate.
	before := map[string][]float32{}
	for _, p := range m.Params() {
		before[p.Name] = p.Export()
		p.ClearGrad()
	}
	updater, err := train.NewUpdater(normalized{}, m.Params())
	require.NoError(t, err)
	require.NoError(t, m.ParamGradients(snn.Pass{}, pixels(m, 4), first))
	updater.Step(0.01, 0)
	for _, p := range m.Params() {
		assert.InDelta(t, 0.01, attack.L2{}.Distance(before[p.Name], p.Export()), 1e-5, p.Name)
	}
}

// A network with a layer and an encoder of one's own is saved and loaded by a program that
// builds it anew.
func TestDocsExtendSave(t *testing.T) {
	build := func() *snn.Model {
		return model(t, snn.Config{Channels: 4, Height: 1, Width: 1, Steps: 5, Encoder: rate{}},
			snn.NewLinear(4, 20, true), &snn.LIF{Decay: 1, Threshold: 0.5, Surrogate: gauss{1}}, snn.NewLinear(20, 3, true))
	}
	m, path := build(), filepath.Join(t.TempDir(), "network")
	for _, p := range m.Params() {
		p.MutableData()[0] = 0.125
	}
	require.NoError(t, m.Save(path))
	other := build()
	require.NoError(t, other.Load(path))
	for i, p := range other.Params() {
		assert.Equal(t, m.Params()[i].Export(), p.Export())
	}
	assert.ErrorContains(t, other.SetSettings(map[string]string{"snnrat.settings": `{"steps":5,"encoder":"snnrat_test.rate"}`}), "encoder")
}

// model returns a network of some layers.
func model(t *testing.T, cfg snn.Config, layers ...snn.Layer) *snn.Model {
	m, err := snn.NewModel(cfg, snn.NewSequential(layers...))
	require.NoError(t, err)
	m.Init(rng.New(1))
	return m
}

// pixels returns n random images for a network.
func pixels(m *snn.Model, n int) tensor.NCHW {
	x, r := tensor.NewNCHW(n, m.Channels, m.Height, m.Width), rng.New(3).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	return x
}

// first is the gradient of the sum of the first logits of all images.
func first(logits []float32) []float32 {
	grad := make([]float32, len(logits))
	for i := range grad {
		if i%3 == 0 {
			grad[i] = 1
		}
	}
	return grad
}
