package snn_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// pixelNet returns a network of the neurons n alone, on images of c channels and one pixel.
func pixelNet(t *testing.T, c int, n snn.Neuron) *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: c, Height: 1, Width: 1, Steps: 6}, (&snn.Sequential{}).Append("n", n))
	require.NoError(t, err)
	return m
}

// Neurons of the library's constructors are named in summaries, have PyTorch's names of
// parameters, and are loaded as they were saved.
func TestGLIFIsSaved(t *testing.T) {
	recurrent := func(c ...int) *snn.GLIF {
		n := snn.NewPLIF(3)
		n.Recurrent = autograd.NewParam(c...)
		n.Recurrent.Fill(func(i int) (float32, error) { return 0.1 * float32(i%7-3), nil })
		n.SynapticDecay, n.DetachReset, n.Surrogate = value(0.25), true, snn.Arctan{Alpha: 2}
		return n
	}
	for want, build := range map[string]func() *snn.GLIF{
		"LIF: n.beta n.threshold":                                func() *snn.GLIF { return snn.NewParamLIF(3, 0.7, 0.4) },
		"PLIF θ=1: n.w":                                          func() *snn.GLIF { return snn.NewPLIF(3) },
		"ALIF λ=0.9 θ=1 b=0.5 ρ=0.8:":                            func() *snn.GLIF { return snn.NewALIF(0.9, 0.5, 0.8) },
		"CuBa-LIF λ=0.9 θ=1 α=0.5:":                              func() *snn.GLIF { return snn.NewCuBaLIF(0.5, 0.9) },
		"self-recurrent CuBa-PLIF θ=1 α=0.25: n.w n.V":           func() *snn.GLIF { return recurrent(3) },
		"recurrent CuBa-PLIF θ=1 α=0.25: n.w n.recurrent.weight": func() *snn.GLIF { return recurrent(3, 3) },
		"LIF reset to -0.5 start at 0.25: n.beta n.threshold":    func() *snn.GLIF { n := snn.NewParamLIF(0, 0.7, 0.4); n.Reset, n.Start = -0.5, 0.25; return n },
		"LIF λ=0.7: n.threshold":                                 func() *snn.GLIF { n := snn.NewParamLIF(3, 0, 0.4); n.Decay = value(0.7); n.DecayInput = true; return n },
	} {
		m := pixelNet(t, 3, build())
		kind, names, _ := strings.Cut(want, ":")
		row := m.Summary().Rows[0]
		assert.Equal(t, kind, row.Kind)
		var have []string
		for _, p := range m.State() {
			have = append(have, p.Name)
		}
		assert.Equal(t, strings.TrimSpace(names), strings.Join(have, " "), kind)
		wantLogits, wantGrads := gradients(t, m, snn.Pass{})

		path := filepath.Join(t.TempDir(), "m.safetensors")
		require.NoError(t, m.Save(path))
		other := build()
		for _, p := range []*autograd.Param{other.Decay, other.W, other.Threshold, other.Adaptation, other.Recurrent} {
			if p != nil {
				p.Fill(func(int) (float32, error) { return 0.123, nil })
			}
		}
		other.SoftReset, other.DetachReset, other.DecayInput, other.Reset, other.Start, other.Surrogate = true, false, false, 0, 0, snn.Sigmoid{Alpha: 1}
		loaded := pixelNet(t, 3, other)
		require.NoError(t, loaded.LoadWith(path, snn.LoadOptions{Settings: true}))
		logits, grads := gradients(t, loaded, snn.Pass{})
		assert.Equal(t, wantLogits, logits, kind)
		assert.Equal(t, wantGrads, grads, kind)
	}
	plif, err := snn.NewPLIF(3).MarshalJSON()
	require.NoError(t, err)
	assert.ErrorContains(t, snn.NewParamLIF(0, 1, 1).UnmarshalJSON(plif), "parameter threshold: fixed for the whole layer there: true, here: false")
	assert.ErrorContains(t, snn.NewPLIF(3).UnmarshalJSON([]byte(strings.Replace(string(plif), `"threshold":1`, `"threshold":1,"chi":2`, 1))), "fixed parameters [chi threshold]: expected 1 of them")
	assert.NoError(t, snn.NewPLIF(7).UnmarshalJSON(plif))
}

// What is missing, contradicts itself or is out of range is an error that says so.
func TestGLIFErrors(t *testing.T) {
	for want, change := range map[string]func(n *snn.GLIF){
		"no Threshold":                                     func(n *snn.GLIF) { n.Threshold = nil },
		"expected either Decay or W":                       func(n *snn.GLIF) { n.W = value(1) },
		"expected either Decay or W: ":                     func(n *snn.GLIF) { n.Decay = nil },
		"expected both Adaptation and AdaptationDecay":     func(n *snn.GLIF) { n.Adaptation = value(1) },
		"reset to NaN":                                     func(n *snn.GLIF) { n.Reset = float32(math.NaN()) },
		"start at +Inf":                                    func(n *snn.GLIF) { n.Start = float32(math.Inf(1)) },
		"soft reset and a reset to 0.5":                    func(n *snn.GLIF) { n.SoftReset, n.Reset = true, 0.5 },
		"alpha NaN: expected a finite number":              func(n *snn.GLIF) { n.SynapticDecay = value(float32(math.NaN())) },
		"no surrogate":                                     func(n *snn.GLIF) { n.Surrogate = nil },
		"beta of shape [4]: expected [] or [3]":            func(n *snn.GLIF) { n.Decay = autograd.NewParam(4) },
		"recurrent weights of shape [3 4]: expected [3 3]": func(n *snn.GLIF) { n.Recurrent = autograd.NewParam(3, 4) },
		"rho of shape [3 3]: expected [] or [3]":           func(n *snn.GLIF) { n.Adaptation, n.AdaptationDecay = value(1), autograd.NewParam(3, 3) },
		"V of shape [3 1 1 1]: expected [] or [3]":         func(n *snn.GLIF) { n.Recurrent = autograd.NewParam(3, 1, 1, 1) },
		"threshold of shape [3 3]: expected [] or [3]":     func(n *snn.GLIF) { n.Threshold = autograd.NewParam(3, 3) },
	} {
		n := snn.NewParamLIF(3, 0.5, 1)
		change(n)
		_, err := snn.NewModel(snn.Config{Channels: 3, Height: 1, Width: 1, Steps: 2}, (&snn.Sequential{}).Append("n", n))
		assert.ErrorContains(t, err, "snn: layer n: "+strings.TrimSuffix(want, ": "))
	}
	for tau, want := range map[float32]string{
		1:   "snn: layer n: w +Inf: expected a finite number (the tau of NewPLIF is greater than 1)",
		0.5: "snn: layer n: w NaN: expected a finite number (the tau of NewPLIF is greater than 1)",
	} {
		_, err := snn.NewModel(snn.Config{Channels: 3, Height: 1, Width: 1, Steps: 2}, (&snn.Sequential{}).Append("n", snn.NewPLIF(tau)))
		assert.EqualError(t, err, want)
	}
	n := snn.NewParamLIF(3, 0.5, float32(math.NaN()))
	_, err := snn.NewModel(snn.Config{Channels: 3, Height: 1, Width: 1, Steps: 2}, (&snn.Sequential{}).Append("n", n))
	assert.EqualError(t, err, "snn: layer n: threshold NaN: expected a finite number")
	for want, change := range map[string]func(n *snn.LIF){
		"reset to 1: expected a number below the threshold, 1": func(n *snn.LIF) { n.Reset = 1 },
		"start at NaN":                  func(n *snn.LIF) { n.Start = float32(math.NaN()) },
		"soft reset and a reset to -1":  func(n *snn.LIF) { n.SoftReset, n.Reset = true, -1 },
		"decay 1 with DecayInput: no c": func(n *snn.LIF) { n.DecayInput = true },
	} {
		n := snn.NewIF()
		change(n)
		assert.ErrorContains(t, n.Validate(), want)
	}
}

// Gradient approximations without time refuse a recurrent layer, with its name.
func TestRecurrentLayersAreRefused(t *testing.T) {
	for kind, shape := range map[string][]int{"recurrent PLIF": {3, 3}, "self-recurrent PLIF": {3}} {
		n := snn.NewPLIF(2)
		n.Recurrent = autograd.NewParam(shape...)
		m := pixelNet(t, 3, n)
		for _, g := range []snn.Gradient{snn.BPTR{}, snn.CBA{}} {
			_, err := m.InputGradient(snn.Pass{Gradient: g}, images(m, 2), func(l []float32) []float32 { return l })
			assert.ErrorContains(t, err, "layer n: "+g.String()+" of a recurrent layer ("+kind)
		}
		_, err := m.Logits(snn.Pass{}, images(m, 2))
		assert.NoError(t, err)
	}
}

// A recurrent layer whose weights are 0 is the layer without them, to the bit, and its weights
// have a gradient. Beyond 1 the gradient of a decay is 0, and at 1 it is not.
func TestRecurrentZero(t *testing.T) {
	build := func(recurrent bool, decay float32) *snn.Model {
		m := networkOf(t, func(c int) snn.Neuron {
			n := snn.NewParamLIF(c, decay, 0.3)
			n.SynapticDecay, n.Adaptation, n.AdaptationDecay = value(0.3), value(0.2), value(0.8)
			if recurrent {
				n.Recurrent = autograd.NewParam(c, c)
			}
			return n
		})
		m.Init(rng.New(5))
		for _, p := range m.Params() {
			if strings.HasSuffix(p.Name, "recurrent.weight") {
				v := p.Export()
				assert.NotEqual(t, make([]float32, len(v)), v)
				p.Import(make([]float32, len(v)))
			}
		}
		return m
	}
	for _, decay := range []float32{0.9, 1, 1.5} {
		plain, recurrent := build(false, decay), build(true, decay)
		wantLogits, _ := gradients(t, plain, snn.Pass{})
		logits, grads := gradients(t, recurrent, snn.Pass{Threads: 1})
		assert.Equal(t, wantLogits, logits)
		_, again := gradients(t, recurrent, snn.Pass{Threads: 2})
		assert.Equal(t, grads, again)
		want := map[string]*autograd.Param{}
		for _, p := range plain.Params() {
			want[p.Name] = p
		}
		moved := 0
		for _, p := range recurrent.Params() {
			g := p.ExportGrad()
			switch {
			case strings.HasSuffix(p.Name, "recurrent.weight"):
				assert.NotEqual(t, make([]float32, len(g)), g, p.Name)
				moved++
			default:
				near(t, p.Name, want[p.Name].ExportGrad(), g)
			}
			if strings.HasSuffix(p.Name, "beta") {
				assert.Equal(t, decay > 1, assert.ObjectsAreEqual(make([]float32, len(g)), g), "%s at %v", p.Name, decay)
			}
		}
		assert.Equal(t, 4, moved)
	}
}

// Parameters that are not finite are errors that name the layer and the parameter.
func TestGLIFParamsNotFinite(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for name, param := range map[string]func(n *snn.GLIF) **autograd.Param{
			"beta":       func(n *snn.GLIF) **autograd.Param { return &n.Decay },
			"threshold":  func(n *snn.GLIF) **autograd.Param { return &n.Threshold },
			"alpha":      func(n *snn.GLIF) **autograd.Param { return &n.SynapticDecay },
			"adaptation": func(n *snn.GLIF) **autograd.Param { return &n.Adaptation },
			"rho":        func(n *snn.GLIF) **autograd.Param { return &n.AdaptationDecay },
			"V":          func(n *snn.GLIF) **autograd.Param { return &n.Recurrent },
		} {
			n := snn.NewParamLIF(3, 0.5, 0.3)
			n.Adaptation, n.AdaptationDecay = value(1), value(1)
			p := param(n)
			*p = autograd.NewParam(3)
			m := pixelNet(t, 3, n)
			(*p).Import([]float32{0.5, 0.5, float32(v)})
			_, err := m.Logits(snn.Pass{}, images(m, 2))
			assert.ErrorContains(t, err, "snn: layer n: "+name+" ")
			assert.ErrorContains(t, err, ": expected a finite number")
		}
	}
	for _, tau := range []float32{1, 0.5} {
		assert.ErrorContains(t, snn.NewPLIF(tau).Validate(), "expected a finite number")
	}
}

// A parameter that the files and the optimizer do not know is an error of the pass and of
// Save. One that is no longer trained stays a tensor.
func TestGLIFParamsAfterBuild(t *testing.T) {
	for want, change := range map[string]func(n *snn.GLIF){
		"parameter beta was replaced":      func(n *snn.GLIF) { n.Decay = value(0.25) },
		"parameter beta was replaced, add": func(n *snn.GLIF) { n.Decay = autograd.NewParam(3) },
		"parameter threshold was replaced": func(n *snn.GLIF) { n.Threshold.Trainable = true },
		"parameter alpha was replaced":     func(n *snn.GLIF) { n.SynapticDecay = autograd.NewParam(3) },
		"parameter recurrent.weight was r": func(n *snn.GLIF) { n.Recurrent = autograd.NewParam(2, 2) },
		"parameter recurrent.weight was ":  func(n *snn.GLIF) { n.Recurrent = nil },
	} {
		n := snn.NewParamLIF(3, 0.5, 0.3)
		n.Threshold, n.Recurrent = value(0.4), autograd.NewParam(3, 3)
		m := pixelNet(t, 3, n)
		n.Threshold = value(0.3)
		_, err := m.Logits(snn.Pass{}, images(m, 2))
		require.NoError(t, err)
		change(n)
		_, err = m.Logits(snn.Pass{}, images(m, 2))
		assert.ErrorContains(t, err, "snn: layer n: "+want)
		assert.ErrorContains(t, m.Save(filepath.Join(t.TempDir(), "m.safetensors")), "layer n: "+want)
	}
	n := snn.NewPLIF(2)
	m := pixelNet(t, 3, n)
	n.W.Trainable = false
	n.W.Import([]float32{0.5})
	path := filepath.Join(t.TempDir(), "m.safetensors")
	require.NoError(t, m.Save(path))
	other := snn.NewPLIF(3)
	require.NoError(t, pixelNet(t, 3, other).LoadWith(path, snn.LoadOptions{Settings: true}))
	assert.Equal(t, []float32{0.5}, other.W.Export())
}
