package certify

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// tiny returns a network of 1×4×4 images with the given layers after a convolution to four channels.
func tiny(t testing.TB, cfg snn.Config, layers ...snn.Layer) *snn.Model {
	cfg.Channels, cfg.Height, cfg.Width = 1, 4, 4
	if cfg.Steps == 0 {
		cfg.Steps = 3
	}
	layers = append([]snn.Layer{snn.NewConv2D(1, 4, 3, 1, 1, true)}, layers...)
	layers = append(layers, snn.AvgPool{K: 0}, snn.Flatten{}, snn.NewLinear(4, 3, true))
	m, err := snn.NewModel(cfg, snn.NewSequential(layers...))
	require.NoError(t, err)
	m.Init(rng.New(1))
	return m
}

type double struct{ snn.AvgPool }

func (double) Forward(_ *snn.Pass, x *autograd.Value) *autograd.Value { return x }

func TestRefused(t *testing.T) {
	good := func() (*snn.Model, tensor.NCHW, []int, Config) {
		return tiny(t, snn.Config{}, snn.NewIF()), tensor.NewNCHW(1, 1, 4, 4), []int{0}, Config{Epsilon: 0.1}
	}
	recurrent := snn.NewParamLIF(0, 1, 1)
	recurrent.Recurrent = autograd.NewParam(4)
	with := func(cfg snn.Config, layers ...snn.Layer) func(m **snn.Model, x *tensor.NCHW, y *[]int, c *Config) {
		return func(m **snn.Model, _ *tensor.NCHW, _ *[]int, _ *Config) { *m = tiny(t, cfg, layers...) }
	}
	epsilon := func(v float64) func(m **snn.Model, x *tensor.NCHW, y *[]int, c *Config) {
		return func(_ **snn.Model, _ *tensor.NCHW, _ *[]int, c *Config) { c.Epsilon = v }
	}
	pixel := func(v float64) func(m **snn.Model, x *tensor.NCHW, y *[]int, c *Config) {
		return func(_ **snn.Model, x *tensor.NCHW, _ *[]int, _ *Config) { x.Data[3] = float32(v) }
	}
	weight := func(v float64) func(m **snn.Model, x *tensor.NCHW, y *[]int, c *Config) {
		return func(m **snn.Model, _ *tensor.NCHW, _ *[]int, _ *Config) {
			p := (*m).Params()[0]
			w := p.Export()
			w[5] = float32(v)
			p.Import(w)
		}
	}
	for name, c := range map[string]struct {
		spoil func(m **snn.Model, x *tensor.NCHW, y *[]int, c *Config)
		want  string
	}{
		"NaN ε":          {epsilon(math.NaN()), "Epsilon NaN: expected a finite number of at least 0"},
		"negative ε":     {epsilon(-1e-9), "Epsilon -1e-09: expected"},
		"infinite ε":     {epsilon(math.Inf(1)), "Epsilon +Inf: expected"},
		"NaN pixel":      {pixel(math.NaN()), "image 0, value 3: NaN"},
		"large pixel":    {pixel(1.5), "image 0, value 3: 1.5 outside [0, 1]"},
		"infinite pixel": {pixel(math.Inf(1)), "image 0, value 3: +Inf"},
		"shape":          {func(_ **snn.Model, x *tensor.NCHW, _ *[]int, _ *Config) { *x = tensor.NewNCHW(1, 2, 4, 4) }, "expected N×1×4×4"},
		"labels":         {func(_ **snn.Model, _ *tensor.NCHW, y *[]int, _ *Config) { *y = nil }, "0 labels for 1 images"},
		"label":          {func(_ **snn.Model, _ *tensor.NCHW, y *[]int, _ *Config) { *y = []int{3} }, "image 0: label 3: expected 0 to 2"},
		"NaN weight":     {weight(math.NaN()), "0.weight: value 5 is NaN"},
		"Inf weight":     {weight(math.Inf(-1)), "0.weight: value 5 is -Inf"},
		"large weight":   {weight(3e38), "layer 0: channel 0 may reach 3e+38 in magnitude: a sum may overflow"},
		"Poisson":        {with(snn.Config{Encoder: snn.Poisson{}}, snn.NewIF()), "snn.Poisson is random: a certificate would hold for one draw of its spikes only; expected snn.Direct, or randomized smoothing"},
		"quantization":   {with(snn.Config{Encoder: snn.StochasticQuantization{Levels: 4}}, snn.NewIF()), "encoder snn.StochasticQuantization has no bound, and it may be random: expected snn.Direct, or randomized smoothing"},
		"steps":          {with(snn.Config{Steps: 65}, snn.NewIF()), "65 time steps: expected at most 64"},
		"noise":          {with(snn.Config{}, &snn.NoisyLIF{LIF: snn.NewIF(), Std: 0.1}), "layer 1: neurons of type *snn.NoisyLIF are random: expected other neurons, or randomized smoothing"},
		"custom":         {with(snn.Config{}, snn.NewCustom(leaky{}, snn.Triangle{Width: 1})), "layer 1: neurons of type *snn.Custom have no bound"},
		"adaptive":       {with(snn.Config{}, snn.NewALIF(0.9, 0.1, 0.9)), "layer 1: neurons of type *snn.GLIF"},
		"synaptic":       {with(snn.Config{}, snn.NewCuBaLIF(0.5, 0.9)), "layer 1: neurons of type *snn.GLIF"},
		"recurrent":      {with(snn.Config{}, recurrent), "layer 1: neurons of type *snn.GLIF"},
		"max pooling":    {with(snn.Config{}, snn.MaxPool{K: 2}, snn.NewIF()), "layer 1: max pooling has no bound here: expected neurons before it"},
		"foreign layer":  {with(snn.Config{}, double{snn.AvgPool{K: 1}}, snn.NewIF()), "layer 1: a layer of type certify.double has no bound"},
		"search": {func(_ **snn.Model, x *tensor.NCHW, _ *[]int, c *Config) {
			c.Epsilon = 1
			c.Search = SearchFunc(func(context.Context, *snn.Model, tensor.NCHW, []int, float32) (tensor.NCHW, error) {
				return tensor.NCHW{}, errors.New("out of luck")
			})
		}, "image 0: out of luck"},
	} {
		t.Run(name, func(t *testing.T) {
			m, x, y, cfg := good()
			c.spoil(&m, &x, &y, &cfg)
			if name == "search" {
				z, err := m.Logits(snn.Pass{}, x)
				require.NoError(t, err)
				y[0] = argmax(z)
			}
			results, err := Certify(context.Background(), m, x, y, cfg)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "certify: ")
			require.Nil(t, results)
		})
	}
	m, x, y, cfg := good()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Certify(ctx, m, x, y, cfg)
	require.ErrorIs(t, err, context.Canceled)
}

// leaky is a rule of neurons for [snn.Custom].
type leaky struct{ autograd.NeuronModel }

func (leaky) String() string { return "leaky" }
func (leaky) NumStates() int { return 1 }

// TestSearch checks what becomes of the images that a search returns.
func TestSearch(t *testing.T) {
	// The class is 0 as long as the pixel is below a half.
	m := threshold(t, 1, snn.NewLinear(1, 1, false))
	x := tensor.NewNCHW(1, 1, 1, 1)
	x.Data[0] = 0.25
	var asked []float32
	found, images := float32(0.5), 1
	cfg := Config{Epsilon: 0.125, Search: SearchFunc(func(_ context.Context, _ *snn.Model, x tensor.NCHW, y []int, eps float32) (tensor.NCHW, error) {
		asked = append(asked, eps)
		adv := tensor.NewNCHW(images, x.C, x.H, x.W)
		adv.Data[0] = found
		return adv, nil
	})}
	certify := func() (Result, error) {
		r, err := Certify(context.Background(), m, x, []int{0}, cfg)
		if err != nil {
			return Result{}, err
		}
		return r[0], nil
	}
	r, err := certify()
	require.NoError(t, err)
	require.Equal(t, Certified, r.Verdict)
	require.Empty(t, asked, "a search for what is proven not to exist")

	cfg.Epsilon = 0.25
	r, err = certify()
	require.NoError(t, err)
	require.Equal(t, Result{Verdict: Broken, Label: 0, Predicted: 0, Margin: r.Margin, Counterexample: []float32{0.5}, BrokenAs: 1, Why: "the search found an image that the network misclassifies"}, r)
	require.Equal(t, []float32{0.25}, asked)

	found = 0.4375 // of class 0
	r, err = certify()
	require.NoError(t, err)
	require.Equal(t, Unknown, r.Verdict)
	require.Nil(t, r.Counterexample)

	found = 0.625
	_, err = certify()
	require.ErrorContains(t, err, "the search returned an image whose value 0, 0.625, is outside of [0, 0.5]")
	found = float32(math.NaN())
	_, err = certify()
	require.ErrorContains(t, err, "the search returned images that do not fit: snn: ")
	found, images = 0.5, 2
	_, err = certify()
	require.ErrorContains(t, err, ": expected 1×1×1×1")
	images = 1

	x.Data[0] = 0.75
	r, err = certify()
	require.NoError(t, err)
	require.Equal(t, Broken, r.Verdict)
	require.Equal(t, []float32{0.75}, r.Counterexample)
	require.Equal(t, 1, r.BrokenAs)
	require.True(t, slices.Equal(x.Data, r.Counterexample))
}

// No value overflows, but the sum of a window or over the steps does for some images of the ball. The
// network has no class there.
func TestSumsOverflow(t *testing.T) {
	for name, layers := range map[string][]snn.Layer{
		"pool":  {snn.NewConv2D(1, 1, 1, 1, 0, false), snn.AvgPool{K: 4}, snn.NewIF(), snn.Flatten{}, snn.NewLinear(1, 2, false)},
		"steps": {snn.AvgPool{K: 4}, snn.NewIF(), snn.Flatten{}, snn.NewLinear(1, 2, false)},
	} {
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 8}, snn.NewSequential(layers...))
		require.NoError(t, err)
		params := m.Params()
		last := params[len(params)-1]
		last.Import([]float32{1, 0})
		if name == "pool" {
			params[0].Import([]float32{0x1p124})
		} else {
			last.Import([]float32{0x1p125, 0})
		}
		x := tensor.NewNCHW(2, 1, 4, 4)
		for i := range x.Data {
			x.Data[i] = 0.75 + 0.25*float32(i/16)
		}
		require.Equal(t, []int{0}, predict(t, m, x.Slice(0, 1)))
		_, err = m.Logits(snn.Pass{}, x.Slice(1, 2))
		require.ErrorContains(t, err, "finite number", name)
		for _, method := range methods {
			_, err = Certify(t.Context(), m, x.Slice(0, 1), []int{0}, Config{Epsilon: 0.25, Method: method})
			require.ErrorContains(t, err, "in magnitude: a sum may overflow", "%s, %v", name, method)
		}
	}
}
