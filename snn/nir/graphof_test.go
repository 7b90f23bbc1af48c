package nir_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/nir"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// network returns a network of layers for two channels of 6×6 pixels and four steps.
func network(t *testing.T, layers ...snn.Layer) *snn.Model {
	t.Helper()
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 6, Width: 6, Steps: 4}, snn.NewSequential(layers...))
	require.NoError(t, err)
	m.Init(rng.New(3))
	return m
}

func images(n int, m *snn.Model) tensor.NCHW {
	x := tensor.NewNCHW(n, m.Channels, m.Height, m.Width)
	r := rng.New(9).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	return x
}

func logits(t *testing.T, m *snn.Model, x tensor.NCHW) []float32 {
	t.Helper()
	l, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	return l
}

// conv, pooling, linear and all kinds of neurons without batch norm: their network comes back with
// the same bits.
func TestRoundTrip(t *testing.T) {
	soft := snn.NewLIF(.75)
	soft.SoftReset, soft.Threshold = true, .7
	input := snn.NewLIF(.8)
	input.DecayInput, input.Threshold, input.Reset = true, .3, -.1
	glif := snn.NewParamLIF(6, .9, .4)
	glif.Threshold.Import([]float32{.1, .2, .3, .4, .5, .6})
	clamped := snn.NewParamLIF(6, .9, .4) // decays are clamped to [0,1]
	clamped.Decay.Import([]float32{-.1, .2, .3, .4, .5, .6})
	cuba := snn.NewCuBaLIF(.5, .75)
	cuba.Recurrent = autograd.NewParam(5, 5)
	plif := snn.NewPLIF(2)
	plif.Recurrent = autograd.NewParam()
	for name, c := range map[string]struct {
		layers []snn.Layer
		same   bool
	}{
		"IF, LIF": {[]snn.Layer{snn.NewConv2D(2, 3, 3, 1, 1, true), snn.NewIF(), snn.NewConv2D(3, 4, 2, 2, 0, false), snn.NewLIF(.5), snn.Flatten{}, snn.NewLinear(36, 5, true)}, true},
		"soft":    {[]snn.Layer{snn.NewConv2D(2, 6, 3, 1, 1, true), soft, snn.AvgPool{K: 2}, snn.Flatten{}, snn.NewLinear(54, 5, false)}, true},
		"input":   {[]snn.Layer{snn.NewConv2D(2, 6, 3, 1, 1, true), input, snn.AvgPool{}, snn.Flatten{}, snn.NewLinear(6, 5, false)}, false}, // its gain is in the threshold
		"GLIF":    {[]snn.Layer{snn.NewConv2D(2, 6, 3, 1, 1, true), glif, snn.Flatten{}, snn.NewLinear(216, 5, true), cuba}, true},
		"clamped": {[]snn.Layer{snn.NewConv2D(2, 6, 3, 1, 1, true), clamped, snn.Flatten{}, snn.NewLinear(216, 5, true)}, true},
		"pixel":   {[]snn.Layer{snn.Flatten{}, snn.AvgPool{K: 1}, snn.NewLinear(72, 5, true), snn.AvgPool{}}, true},
		"PLIF":    {[]snn.Layer{snn.Flatten{}, snn.NewLinear(72, 5, true), plif, snn.NewLinear(5, 3, true)}, true},
		"norms":   {[]snn.Layer{snn.NewBatchNorm(2), snn.NewConv2D(2, 6, 3, 1, 1, false), snn.NewBatchNorm(6), snn.NewIF(), snn.Flatten{}, snn.NewLinear(216, 5, false), snn.NewBatchNorm(5)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := network(t, c.layers...)
			if name == "GLIF" {
				require.NoError(t, cuba.Recurrent.Fill(func(i int) (float32, error) { return float32(i%7)/8 - .25, nil }))
			}
			if name == "PLIF" {
				plif.Recurrent.Import([]float32{.25})
			}
			x := images(8, m)
			_, err := m.Logits(snn.Pass{Train: true}, x) // statistics of batch norm
			require.NoError(t, err)
			g, notes, err := nir.GraphOf(m, 1e-3)
			require.NoError(t, err)
			again, said, err := g.Model(nir.Config{Dt: 1e-3, Steps: 4})
			require.NoError(t, err, notes)
			lowers := nir.Note{Node: "1", Text: "a spike lowers its potential by the threshold, as metadata snnrat_reset says; NIR would set it to v_reset"}
			assert.Equal(t, name == "soft", slices.Contains(said, lowers), said)
			want, got := logits(t, m, x), logits(t, again, x)
			if c.same {
				assert.Equal(t, want, got)
			} else {
				assert.InDeltaSlice(t, want, got, 1e-5)
			}
			g2, _, err := nir.GraphOf(again, 1e-3)
			require.NoError(t, err)
			assert.Equal(t, len(g.Nodes), len(g2.Nodes))
			assert.ElementsMatch(t, g.Edges, g2.Edges)
		})
	}
}

// The decays of parametric neurons come back with the same bits, whatever their parameter is.
func TestDecaysComeBack(t *testing.T) {
	plif := snn.NewPLIF(2)
	plif.W = autograd.NewParam(64)
	require.NoError(t, plif.W.Fill(func(i int) (float32, error) { return float32(i)/16 - 2, nil }))
	plif.DecayInput = false
	g, _, err := nir.GraphOf(network(t, snn.Flatten{}, snn.NewLinear(72, 64, true), plif), 1e-3)
	require.NoError(t, err)
	again, _, err := g.Model(nir.Config{Dt: 1e-3, Steps: 4})
	require.NoError(t, err)
	rows := again.Summary().Rows
	assert.Equal(t, plif.Dynamics().Decay, rows[len(rows)-1].Layer.(*snn.GLIF).Decay.Export())
}

// The shortcut of a residual block does not see the batch norm of the other branch.
func TestShortcutBesideBatchNorm(t *testing.T) {
	block := &snn.Residual{
		BN1: snn.NewBatchNorm(3), N1: snn.NewIF(), Conv1: snn.NewConv2D(3, 3, 3, 1, 1, false),
		N2: snn.NewIF(), Conv2: snn.NewConv2D(3, 3, 3, 1, 1, false), Comb: autograd.NewParam(2),
	}
	m := network(t, snn.NewConv2D(2, 3, 3, 1, 1, true), block, snn.Flatten{}, snn.NewLinear(108, 3, true))
	block.Comb.Import([]float32{.5, .5})
	block.BN1.Weight.Import([]float32{2, 3, 4})
	g, _, err := nir.GraphOf(m, 1e-3)
	require.NoError(t, err)
	again, _, err := g.Model(nir.Config{Dt: 1e-3, Steps: 4})
	require.NoError(t, err)
	x := images(8, m)
	assert.InDeltaSlice(t, logits(t, m, x), logits(t, again, x), 1e-4)
}

// The normalization of a graph is that of the file that its network was loaded from.
func TestNormalizationOfFile(t *testing.T) {
	with := func(mean float32) *snn.Model {
		cfg := snn.Config{Channels: 1, Height: 2, Width: 2, Steps: 2, Mean: []float32{mean}, Std: []float32{.5}}
		m, err := snn.NewModel(cfg, snn.NewSequential(snn.Flatten{}, snn.NewLinear(4, 2, true)))
		require.NoError(t, err)
		m.Init(rng.New(1))
		return m
	}
	file := filepath.Join(t.TempDir(), "network.safetensors")
	require.NoError(t, with(.25).Save(file))
	m := with(.75)
	require.NoError(t, m.Load(file))
	g, _, err := nir.GraphOf(m, 1e-3)
	require.NoError(t, err)
	assert.Equal(t, []float64{-.5}, g.Nodes["normalize"].Fields["bias"].Floats)
}

// Thresholds come back with the same bits at any decay and time step, although the fields of a LIF
// are rounded.
func TestThresholdsComeBack(t *testing.T) {
	for i := 1; i < 100; i += 9 {
		l := snn.NewLIF(float32(i) / 100)
		m := network(t, snn.Flatten{}, l, snn.NewLinear(72, 3, true))
		for k := 1; k < 30; k += 2 {
			dt := 1e-3 / float64(k)
			g, _, err := nir.GraphOf(m, dt)
			require.NoError(t, err)
			again, _, err := g.Model(nir.Config{Dt: dt, Steps: 4})
			require.NoError(t, err)
			got := again.Body().(*snn.Sequential).Layers()[1].(*snn.LIF)
			assert.Equal(t, []float32{1, l.Decay}, []float32{got.Threshold, got.Decay}, "decay %v, dt %v", l.Decay, dt)
		}
	}
}

// A residual network with normalized images.
func TestResidual(t *testing.T) {
	cfg := zoo.Default("wrn-16-4")
	cfg.WidthMultiplier, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps = .05, 16, 16, 4, 3
	cfg.Mean, cfg.Std = []float32{.4, .5, .6}, []float32{.2, .3, .25}
	m, err := zoo.New(cfg, rng.New(4))
	require.NoError(t, err)
	combinations := 0
	for _, p := range m.Params() {
		if strings.HasSuffix(p.Name, "convex") || strings.Contains(p.Name, "comb") {
			p.Import([]float32{.25, .75})
			combinations++
		}
	}
	require.Positive(t, combinations)
	x := images(16, m)
	_, err = m.Logits(snn.Pass{Train: true}, x)
	require.NoError(t, err)
	g, _, err := nir.GraphOf(m, 1e-3)
	require.NoError(t, err)
	weights := map[string]float64{"shortcut": .25, "branch": .75}
	for name, n := range g.Nodes {
		if n.Type == "Scale" {
			assert.Equal(t, weights[name[strings.LastIndex(name, ".")+1:]], n.Fields["scale"].Floats[0], name)
		}
	}
	again, _, err := g.Model(nir.Config{Dt: 1e-3, Steps: 3})
	require.NoError(t, err)
	want, got := logits(t, m, x), logits(t, again, x)
	differ := 0
	for i := range want {
		if d := want[i] - got[i]; d > 1e-4 || d < -1e-4 {
			differ++ // a spike within rounding of its threshold
		}
	}
	assert.Less(t, differ, len(want)/8)
}

// What is added to a sum, or twice, is a node of its own: its sum comes first, and no edge is there
// twice.
func TestSumsOfGraph(t *testing.T) {
	scale := func(v float64) *nir.Node {
		return &nir.Node{Type: "Scale", Fields: fields{"scale": nir.Floats(nil, v)}}
	}
	skip := graph([]int{1}, []int{1}, scale(2))
	skip.Edges = append(skip.Edges, [2]string{"input", "output"})
	twice := graph([]int{1}, []int{1}, &nir.Node{Type: "NIRGraph", Graph: skip})
	twice.Edges = append(twice.Edges, [2]string{"input", "output"})
	large := graph([]int{1}, []int{1}, scale(1e8))
	large.Nodes["b"] = scale(-1e8)
	large.Edges = append(large.Edges, [2]string{"input", "b"}, [2]string{"b", "output"})
	order := graph([]int{1}, []int{1}, scale(1))
	order.Nodes["b"] = &nir.Node{Type: "NIRGraph", Graph: large}
	order.Edges = append(order.Edges, [2]string{"input", "b"}, [2]string{"b", "output"})
	for want, g := range map[float32]*nir.Graph{2 + 1 + 1: twice, 1: order} {
		m, _, err := g.Model(nir.Config{Dt: 1, Steps: 1})
		require.NoError(t, err)
		assert.Equal(t, []float32{want}, logits(t, m, tensor.NCHW{N: 1, C: 1, H: 1, W: 1, Data: []float32{1}}))
		again, _, err := nir.GraphOf(m, 1)
		require.NoError(t, err)
		m, _, err = again.Model(nir.Config{Dt: 1, Steps: 1})
		require.NoError(t, err)
		assert.Equal(t, []float32{want}, logits(t, m, tensor.NCHW{N: 1, C: 1, H: 1, W: 1, Data: []float32{1}}))
	}
}

// A graph's neurons fire above their thresholds, and those of this library at them.
func TestThresholdOfGraph(t *testing.T) {
	m := network(t, snn.Flatten{}, snn.NewIF(), snn.NewLinear(72, 3, true))
	g, _, err := nir.GraphOf(m, 1e-3)
	require.NoError(t, err)
	assert.Equal(t, float64(math.Nextafter32(1, 0)), g.Nodes["1"].Fields["v_threshold"].Floats[0])
	again, _, err := g.Model(nir.Config{Dt: 1e-3, Steps: 4})
	require.NoError(t, err)
	assert.Equal(t, float32(1), again.Body().(*snn.Sequential).Layers()[1].(*snn.LIF).Threshold)
}

// Integrators come back with the values of their nodes.
func TestIntegratorsOfGraph(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for kind, n := range neurons(r, 3, 2) {
		if kind != "I" && kind != "LI" && kind != "CubaLI" {
			continue
		}
		m, _, err := graph([]int{3, 2}, []int{6}, n, flatten(nil)).Model(nir.Config{Dt: 1e-3, Steps: 3})
		require.NoError(t, err)
		g, _, err := nir.GraphOf(m, 1e-3)
		require.NoError(t, err)
		again := g.Nodes["a"]
		assert.Equal(t, kind, again.Type)
		require.Len(t, again.Fields, len(n.Fields))
		for f, a := range n.Fields {
			assert.InDeltaSlice(t, a.Floats, again.Fields[f].Floats, 1e-9, f)
		}
	}
}

// An integrator that no node has made has the same values, or is refused.
func TestOwnIntegrator(t *testing.T) {
	all := func(v float64) []float64 { return slices.Repeat([]float64{v}, 72) }
	own := func() *nir.Integrator {
		return &nir.Integrator{SynapticDecay: all(0), InputGain: all(2), Decay: all(1), Gain: all(.5), Offset: all(0), Start: all(0)}
	}
	l := own()
	m := network(t, l, snn.Flatten{}, snn.NewLinear(72, 3, true))
	g, _, err := nir.GraphOf(m, 1e-3)
	require.NoError(t, err)
	assert.Equal(t, "I", g.Nodes["0"].Type)
	again, _, err := g.Model(nir.Config{Dt: 1e-3, Steps: 4})
	require.NoError(t, err)
	x := images(3, m)
	assert.InDeltaSlice(t, logits(t, m, x), logits(t, again, x), 1e-5)

	l.Start[5] = .25
	_, notes, err := nir.GraphOf(m, 1e-3)
	require.NoError(t, err)
	assert.Contains(t, notes, nir.Note{Node: "0", Text: "its potential does not start at 0, which NIR does not say"})
	l.Offset[5] = .25
	_, _, err = nir.GraphOf(m, 1e-3)
	assert.ErrorContains(t, err, "layer 0: an offset without a leak, which NIR cannot say")
}

// A Flatten of NIR does not count the dimension of images.
func TestFlattenOfGraph(t *testing.T) {
	g, _, err := nir.GraphOf(network(t, snn.Flatten{}, snn.NewLinear(72, 3, true)), 1)
	require.NoError(t, err)
	assert.Equal(t, map[string]nir.Array{"start_dim": nir.Ints(nil, 0), "end_dim": nir.Ints(nil, -1), "input_type": nir.Ints([]int{3}, 2, 6, 6)}, g.Nodes["0"].Fields)
}

func TestGraphOfRefuses(t *testing.T) {
	back := func(shape ...int) snn.Layer {
		l := snn.NewCuBaLIF(.5, .5)
		l.Recurrent = autograd.NewParam(shape...)
		return l
	}
	for want, m := range map[string]*snn.Model{
		"layer 0: spikes of the shape [2 6 6] return to neurons":                network(t, back(), snn.Flatten{}, snn.NewLinear(72, 3, true)),
		"layer 1: spikes of the shape [2 6 6] return to neurons":                network(t, &snn.Dropout{}, back(2, 2), snn.Flatten{}, snn.NewLinear(72, 3, true)),
		"layer 0: a snn.MaxPool is no node of NIR":                              network(t, snn.MaxPool{K: 2}, snn.Flatten{}, snn.NewLinear(18, 3, true)),
		"layer 1: NIR has no neurons with adaptation":                           network(t, snn.Flatten{}, snn.NewALIF(.5, .1, .9), snn.NewLinear(72, 3, true)),
		"layer 1: its synaptic current does not decay":                          network(t, snn.Flatten{}, snn.NewCuBaLIF(1, .5), snn.NewLinear(72, 3, true)),
		"layer 1: some neurons have no leak: NIR has those in an IF or I alone": network(t, snn.Flatten{}, snn.NewCuBaLIF(.5, 1), snn.NewLinear(72, 3, true)),
	} {
		_, _, err := nir.GraphOf(m, 1e-3)
		assert.ErrorContains(t, err, want)
	}
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewSequential(snn.NewConv2D(2, 3, 1, 1, 0, true)))
	require.NoError(t, err)
	_, _, err = nir.GraphOf(m, 1)
	assert.ErrorContains(t, err, "layer 0: a convolution of one pixel is no node of NIR: want a linear layer")
	m = network(t, snn.Flatten{}, snn.NewLinear(72, 3, true))
	_, _, err = nir.GraphOf(m, 0)
	assert.ErrorContains(t, err, "a time step of 0")
	m.Encoder = snn.Poisson{}
	_, _, err = nir.GraphOf(m, 1)
	assert.ErrorContains(t, err, "the encoder snn.Poisson is no node of NIR")
}
