package snn_test

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// sketch is a network that is being drawn: its layers, each with what the twin does.
type sketch struct {
	*rapid.T
	layers  []snn.Layer
	twins   []func(tw *twin, name string, x *grid) *grid
	c, h, w int // of the last layer's output
	image   tensor.Shape
	// timeless is set if the gradient approximation has no time: no recurrent layers then.
	timeless bool
}

func (s *sketch) add(l snn.Layer, run func(tw *twin, name string, x *grid) *grid) {
	s.layers = append(s.layers, l)
	s.twins = append(s.twins, run)
}

func (s *sketch) odds(percent int, what string) bool {
	return rapid.IntRange(1, 100).Draw(s.T, what) > 100-percent
}

func drawSurrogate(t *rapid.T) snn.Surrogate {
	return rapid.SampledFrom([]snn.Surrogate{
		snn.Triangle{Width: 1}, snn.Triangle{Width: 0.4}, snn.Rectangle{Width: 1.2}, snn.Sigmoid{Alpha: 4}, snn.Arctan{Alpha: 2}, &snn.FastSigmoid{Slope: 5},
	}).Draw(t, "surrogate")
}

// newNeuron draws a layer of neurons for c channels.
func (s *sketch) newNeuron(c int) snn.Neuron {
	threshold := rapid.SampledFrom([]float32{1, 0.6}).Draw(s.T, "threshold")
	decay := rapid.SampledFrom([]float32{1, 0.9, 0.5}).Draw(s.T, "decay")
	soft, detach, surrogate := s.odds(30, "soft"), s.odds(30, "detach"), drawSurrogate(s.T)
	var reset, start float32
	if s.odds(20, "reset") && !soft {
		reset = -0.2
	}
	if s.odds(20, "start") {
		start = 0.3
	}
	switch rapid.IntRange(1, 8).Draw(s.T, "neuron") {
	case 1:
		l := newLeaky(c, decay, threshold)
		l.Soft, l.Detach = soft, detach
		return snn.NewCustom(l, surrogate)
	case 2, 3, 4:
		return s.newGLIF(c, &snn.GLIF{Reset: reset, Start: start, SoftReset: soft, DetachReset: detach, Surrogate: surrogate})
	case 5:
		return &snn.LIF{
			Decay: decay, Threshold: threshold, Reset: reset, Start: start, DecayInput: decay < 1,
			SoftReset: soft, DetachReset: detach, Surrogate: surrogate,
		}
	}
	return &snn.LIF{Decay: decay, Threshold: threshold, SoftReset: soft, DetachReset: detach, Surrogate: surrogate}
}

// newGLIF draws the parameters of n.
func (s *sketch) newGLIF(c int, n *snn.GLIF) *snn.GLIF {
	param := func(what string) *autograd.Param {
		p := autograd.NewParam()
		if s.odds(50, "a "+what+" for each channel") {
			p = autograd.NewParam(c)
		}
		p.Trainable = s.odds(60, what+" is trained")
		if !p.Trainable && len(p.Shape) == 0 { // a setting, not part of the model's state
			p.Import([]float32{rapid.SampledFrom([]float32{0.3, 0.7, 1}).Draw(s.T, what)})
		}
		return p
	}
	n.Threshold, n.DecayInput = param("threshold"), s.odds(40, "decay input")
	if s.odds(40, "PLIF") {
		n.W = param("w")
	} else {
		n.Decay = param("decay")
	}
	if s.odds(40, "synaptic current") {
		n.SynapticDecay = param("synaptic decay")
	}
	if s.odds(40, "adaptation") {
		n.Adaptation, n.AdaptationDecay = param("adaptation"), param("adaptation decay")
	}
	if s.timeless { // a recurrent layer has no meaning there
		return n
	}
	switch rapid.IntRange(1, 4).Draw(s.T, "recurrent") {
	case 1:
		n.Recurrent = param("recurrence")
	case 2:
		n.Recurrent = autograd.NewParam(c, c)
	}
	return n
}

func (s *sketch) neuron() {
	n := s.newNeuron(s.c)
	s.add(n, func(tw *twin, name string, x *grid) *grid { return tw.neuron(x, name, n) })
}

func (s *sketch) norm() {
	l := snn.NewBatchNorm(s.c)
	s.add(l, func(tw *twin, _ string, x *grid) *grid { return tw.batchNorm(x, l) })
}

// conv adds a convolution, one that keeps the shape if same is set.
func (s *sketch) conv(same bool) {
	k := rapid.IntRange(1, min(3, s.h, s.w)).Draw(s.T, "k")
	cout, stride, pad := s.c, 1, 0
	if same {
		k = k/2*2 + 1
		pad = k / 2
	} else {
		cout, stride, pad = rapid.IntRange(1, 19).Draw(s.T, "channels"), rapid.IntRange(1, 2).Draw(s.T, "stride"), rapid.IntRange(0, 1).Draw(s.T, "pad")
	}
	l := snn.NewConv2D(s.c, cout, k, stride, pad, s.odds(50, "bias"))
	s.add(l, func(tw *twin, _ string, x *grid) *grid { return tw.conv(x, l.Weight, l.Bias, stride, pad) })
	s.c, s.h, s.w = cout, (s.h+2*pad-k)/stride+1, (s.w+2*pad-k)/stride+1
}

func (s *sketch) pool() {
	k := rapid.IntRange(1, min(2, s.h, s.w)).Draw(s.T, "window")
	if s.odds(50, "max") {
		s.add(snn.MaxPool{K: k}, func(tw *twin, _ string, x *grid) *grid { return tw.pool(x, k, true) })
	} else {
		s.add(snn.AvgPool{K: k}, func(tw *twin, _ string, x *grid) *grid { return tw.pool(x, k, false) })
	}
	s.h, s.w = s.h/k, s.w/k
}

func (s *sketch) newDropout() *snn.Dropout {
	return &snn.Dropout{P: 0.3, EveryStep: s.odds(50, "every step")}
}

func (s *sketch) dropout() {
	l := s.newDropout()
	s.add(l, func(tw *twin, name string, x *grid) *grid { return tw.dropout(x, name, l) })
}

func (s *sketch) residual() {
	b := &snn.Residual{Comb: autograd.NewParam(2)}
	cout, stride := s.c, 1
	if s.odds(50, "short") {
		cout, stride = rapid.IntRange(1, 18).Draw(s.T, "channels"), rapid.IntRange(1, 2).Draw(s.T, "stride")
		b.Short = snn.NewConv2D(s.c, cout, 1, stride, 0, false)
	}
	n1, n2 := s.newNeuron(s.c), s.newNeuron(cout)
	b.N1, b.N2 = n1, n2
	b.Conv1, b.Conv2 = snn.NewConv2D(s.c, cout, 3, stride, 1, false), snn.NewConv2D(cout, cout, 3, 1, 1, false)
	if s.odds(60, "norms") {
		b.BN1, b.BN2 = snn.NewBatchNorm(s.c), snn.NewBatchNorm(cout)
	}
	if s.odds(40, "drop") {
		b.Drop = s.newDropout()
	}
	s.add(b, func(tw *twin, name string, x *grid) *grid {
		o := x
		if b.BN1 != nil {
			o = tw.batchNorm(o, b.BN1)
		}
		o = tw.neuron(o, name+".n1", n1)
		short := x
		if b.Short != nil {
			short = tw.conv(o, b.Short.Weight, nil, stride, 0)
		}
		r := tw.conv(o, b.Conv1.Weight, nil, stride, 1)
		if b.BN2 != nil {
			r = tw.batchNorm(r, b.BN2)
		}
		r = tw.neuron(r, name+".n2", n2)
		if b.Drop != nil {
			r = tw.dropout(r, name+".drop", b.Drop)
		}
		return tw.add(short, tw.conv(r, b.Conv2.Weight, nil, 1, 1), b.Comb)
	})
	s.c, s.h, s.w = cout, (s.h-1)/stride+1, (s.w-1)/stride+1
}

// skip adds a skip connection over layers that keep the shape.
func (s *sketch) skip() {
	from := &tap{retain: true}
	var kept *grid
	s.add(from, func(_ *twin, _ string, x *grid) *grid { kept = x; return x })
	s.conv(true)
	if s.odds(50, "norm in the skip") {
		s.norm()
	}
	if s.odds(70, "neuron in the skip") {
		s.neuron()
	}
	s.add(join{from}, func(tw *twin, _ string, x *grid) *grid { return tw.add(x, kept, nil) })
}

// drawNetwork draws layers that end in one pixel, for passes with the given approximation.
func drawNetwork(t *rapid.T, g snn.Gradient) *sketch {
	_, through := g.(snn.BPTT)
	s := &sketch{T: t, timeless: !through, c: rapid.IntRange(1, 3).Draw(t, "image channels"), h: rapid.IntRange(2, 6).Draw(t, "height"), w: rapid.IntRange(2, 6).Draw(t, "width")}
	s.image = tensor.Shape{C: s.c, H: s.h, W: s.w}
	for range rapid.IntRange(0, 4).Draw(t, "stages") {
		[]func(){
			func() { s.conv(false) }, func() { s.conv(false); s.neuron() }, func() { s.conv(false); s.norm(); s.neuron() },
			func() { s.conv(false); s.norm(); s.neuron(); s.pool() }, s.neuron, s.norm, s.pool, s.dropout, s.residual, s.skip,
		}[rapid.IntRange(0, 9).Draw(t, "stage")]()
	}
	s.add(snn.Flatten{}, func(tw *twin, _ string, x *grid) *grid { return tw.flatten(x) })
	s.c, s.h, s.w = s.c*s.h*s.w, 1, 1
	for range rapid.IntRange(0, 2).Draw(t, "linear layers") {
		cout := rapid.IntRange(1, 20).Draw(t, "features")
		l := snn.NewLinear(s.c, cout, s.odds(50, "bias"))
		s.add(l, func(tw *twin, _ string, x *grid) *grid { return tw.conv(x, l.Weight, l.Bias, 1, 0) })
		if s.c = cout; s.odds(60, "neurons") {
			s.neuron()
		}
	}
	return s
}

// config draws the settings of the network's model.
func (s *sketch) config() snn.Config {
	cfg := snn.Config{Channels: s.image.C, Height: s.image.H, Width: s.image.W, Steps: rapid.IntRange(1, 5).Draw(s.T, "T"), Encoder: snn.Direct{}}
	if s.odds(40, "poisson") {
		cfg.Encoder = snn.Poisson{}
	}
	if s.odds(50, "normalized") {
		for range cfg.Channels {
			cfg.Mean, cfg.Std = append(cfg.Mean, 0.4), append(cfg.Std, 0.3)
		}
	}
	return cfg
}

// drawParams draws the parameters and buffers of m.
func drawParams(m *snn.Model, r *rand.Rand) {
	for _, p := range m.State() {
		if p.Name == "mean" || p.Name == "std" {
			continue
		}
		v := make([]float32, p.Len())
		for i := range v {
			v[i] = float32(r.NormFloat64())
			if len(p.Shape) > 1 {
				v[i] *= 1.5 / float32(math.Sqrt(float64(len(v)/p.Shape[0])))
			} else if p.Trainable {
				v[i] = 0.5 + 0.5*v[i]
			} else {
				v[i] = 0.3 + v[i]*v[i] // a variance, a mean, or a fixed parameter of neurons
			}
		}
		p.Import(v)
	}
}

// Passes of random networks agree with the twin's: spikes exactly, values and gradients up
// to rounding, through every approximation, in training and in evaluation.
func TestRandomNetworks(t *testing.T) {
	drawn, compared := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		gradient := rapid.SampledFrom([]snn.Gradient{snn.BPTT{}, snn.BPTT{Surrogate: drawSurrogate(t)}, snn.BPTR{}, snn.CBA{}}).Draw(t, "gradient")
		s := drawNetwork(t, gradient)
		r := rng.New(rapid.Uint64Range(0, 1<<20).Draw(t, "weights")).Rand()
		n := rapid.IntRange(1, 3).Draw(t, "images")
		cfg := s.config()
		m, err := snn.NewModel(cfg, snn.NewSequential(s.layers...))
		require.NoError(t, err)
		drawParams(m, r)
		x := tensor.NewNCHW(n, cfg.Channels, cfg.Height, cfg.Width)
		if s.odds(50, "frames") {
			x = tensor.NewFrames(tensor.Shape{N: n, Steps: cfg.Steps, C: cfg.Channels, H: cfg.Height, W: cfg.Width})
		}
		binary := s.odds(30, "binary")
		for i := range x.Data {
			if x.Data[i] = r.Float32(); binary {
				x.Data[i] = float32(math.Round(float64(x.Data[i])))
			}
		}
		pass := snn.Pass{
			Steps: cfg.Steps, Train: s.odds(50, "training"), Keys: keys(n), Threads: 2,
			Gradient: gradient,
		}
		drawn++
		tw := &twin{pass: pass, params: map[*autograd.Param]*vector{}, spikes: map[string][]bool{}, unsure: 1}
		image, h := tw.encode(x, cfg.Encoder)
		if cfg.Mean != nil {
			h = tw.normalize(h, cfg.Mean, cfg.Std)
		}
		for i, run := range s.twins {
			h = run(tw, strconv.Itoa(i), h)
		}
		logits := tw.logits(h)
		for i := range logits.d {
			logits.d[i] = r.NormFloat64()
		}
		tw.backward()
		if tw.unsure < 1e-4 {
			return // rounding may decide
		}
		compared++

		spikes := map[string]*tensor.Spikes{}
		pass.OnSpikes = func(layer string, s *tensor.Spikes) {
			if spikes[layer] != nil {
				t.Fatalf("layer %s reports twice", layer)
			}
			spikes[layer] = &tensor.Spikes{Shape: s.Shape, Bits: append([]uint16(nil), s.Bits...)}
		}
		loss := func(out []float32) []float32 {
			agree(t, "logits", out, logits.v, 0)
			d := make([]float32, len(out))
			for i, v := range logits.d {
				d[i] = float32(v)
			}
			return d
		}
		for _, p := range m.Params() {
			p.ClearGrad()
		}
		grad, err := m.Gradients(pass, x, loss)
		if n == 1 && pass.Train && err != nil {
			require.ErrorContains(t, err, "batch norm in training has one value a channel")
			return
		}
		require.NoError(t, err)
		// A gradient that cancels out, such as that of a bias before batch norm, is rounding.
		rounding := 0.0
		for _, q := range tw.params {
			for _, d := range q.d {
				rounding = max(rounding, 0.01*math.Abs(d))
			}
		}
		require.Equal(t, x.Shape(), grad.Shape())
		agree(t, "gradient of the images", grad.Data, image.d, rounding)
		for _, p := range m.State() {
			grad := p.ExportGrad()
			if !p.Trainable {
				agree(t, p.Name, p.Export(), tw.param(p).v, 0)
				require.Nil(t, grad, p.Name)
				continue
			}
			if grad == nil { // a parameter of neurons, beside time
				grad = make([]float32, p.Len())
			}
			agree(t, "gradient of "+p.Name, grad, tw.param(p).d, rounding)
		}
		if _, cba := pass.Gradient.(snn.CBA); !cba {
			require.Len(t, spikes, len(tw.spikes))
		}
		for layer, got := range spikes {
			sh, i := got.Shape, 0
			for n := range sh.N {
				for step := range sh.Steps {
					for c := range sh.C {
						for y := range sh.H {
							for z := range sh.W {
								require.Equal(t, tw.spikes[layer][i], got.At(n, step, c, y, z), "layer %s: image %d, step %d, channel %d", layer, n, step, c)
								i++
							}
						}
					}
				}
			}
		}
	})
	require.Greater(t, compared, drawn/2, "of %d networks", drawn)
}

// agree holds values against the twin's, to 1e-3 of the largest of these, or of least, or to
// 1e-6.
func agree(t *rapid.T, what string, got []float32, want []float64, least float64) {
	require.Len(t, got, len(want), what)
	largest := max(least, 1e-3)
	for _, v := range want {
		largest = max(largest, math.Abs(v))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= 1e-3*largest) {
			t.Fatalf("%s: value %d is %v, the twin has %v", what, i, got[i], v)
		}
	}
}
