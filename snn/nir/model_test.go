package nir_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/nir"
	"github.com/org/snnrat/tensor"
)

// graph returns a graph of nodes in a row, with the names a, b, … and the given input and output.
func graph(in, out []int, nodes ...*nir.Node) *nir.Graph {
	g := &nir.Graph{Nodes: map[string]*nir.Node{"input": port("Input", in), "output": port("Output", out)}}
	last := "input"
	for i, n := range nodes {
		name := string(rune('a' + i))
		g.Nodes[name] = n
		g.Edges = append(g.Edges, [2]string{last, name})
		last = name
	}
	g.Edges = append(g.Edges, [2]string{last, "output"})
	return g
}

func port(kind string, shape []int) *nir.Node {
	v := make([]int64, len(shape))
	for i, d := range shape {
		v[i] = int64(d)
	}
	return &nir.Node{Type: kind, Fields: map[string]nir.Array{"shape": nir.Ints([]int{len(shape)}, v...)}}
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// random returns an array of values from lo to hi.
func random(r *rand.Rand, lo, hi float64, shape ...int) nir.Array {
	a := nir.Floats(shape)
	for range count(shape) {
		a.Floats = append(a.Floats, lo+(hi-lo)*r.Float64())
	}
	return a
}

// perChannel returns an array of values that are equal in a channel.
func perChannel(r *rand.Rand, lo, hi float64, shape ...int) nir.Array {
	a := nir.Floats(shape)
	for range shape[0] {
		v := lo + (hi-lo)*r.Float64()
		for range count(shape[1:]) {
			a.Floats = append(a.Floats, v)
		}
	}
	return a
}

func all(v float64, shape ...int) nir.Array {
	a := nir.Floats(shape)
	for range count(shape) {
		a.Floats = append(a.Floats, v)
	}
	return a
}

type fields = map[string]nir.Array

// neurons returns nodes of each type of neurons and integrators for values of a shape.
func neurons(r *rand.Rand, shape ...int) map[string]*nir.Node {
	thr := perChannel(r, .4, .8, shape...)
	return map[string]*nir.Node{
		"IF":        {Type: "IF", Fields: fields{"r": perChannel(r, 500, 2000, shape...), "v_threshold": thr, "v_reset": all(0, shape...)}},
		"LIF":       {Type: "LIF", Fields: fields{"tau": perChannel(r, .002, .006, shape...), "r": perChannel(r, 2, 4, shape...), "v_leak": perChannel(r, -.1, .1, shape...), "v_threshold": thr}},
		"LIF alike": {Type: "LIF", Fields: fields{"tau": all(.003, shape...), "r": all(3, shape...), "v_leak": all(.1, shape...), "v_threshold": all(.5, shape...), "v_reset": all(-.2, shape...)}},
		"CubaLIF": {Type: "CubaLIF", Fields: fields{"tau_mem": perChannel(r, .002, .006, shape...), "tau_syn": perChannel(r, .001, .006, shape...), "w_in": perChannel(r, 1, 3, shape...),
			"r": perChannel(r, 2, 4, shape...), "v_leak": all(.05, shape...), "v_reset": all(.05, shape...), "v_threshold": thr}},
		"Threshold": {Type: "Threshold", Fields: fields{"threshold": perChannel(r, .1, .3, shape...)}},
		"I":         {Type: "I", Fields: fields{"r": random(r, 500, 2000, shape...)}},
		"LI":        {Type: "LI", Fields: fields{"tau": random(r, .002, .006, shape...), "r": random(r, -1, 2, shape...), "v_leak": random(r, -.1, .1, shape...)}},
		"CubaLI": {Type: "CubaLI", Fields: fields{"tau_mem": random(r, .002, .006, shape...), "tau_syn": random(r, .001, .006, shape...), "w_in": random(r, 1, 3, shape...),
			"r": random(r, 2, 4, shape...), "v_leak": random(r, -.1, .1, shape...)}},
	}
}

// outputs returns what a model's last layer puts out at every step, for frames of an image.
func outputs(t *testing.T, m *snn.Model, frames [][]float64) [][]float64 {
	t.Helper()
	x := tensor.NCHW{N: 1, C: m.Config.Channels, H: m.Config.Height, W: m.Config.Width, Steps: len(frames)}
	for _, f := range frames {
		for _, v := range f {
			x.Data = append(x.Data, float32(v))
		}
	}
	var got [][]float64
	_, err := m.Differentiate(snn.Pass{}, x, 0, func(o snn.Output) ([]float32, error) {
		for s := range o.Steps {
			var v []float64
			for _, l := range o.Logits[s*o.Classes:][:o.Classes] {
				v = append(v, float64(l))
			}
			got = append(got, v)
		}
		return nil, nil
	})
	require.NoError(t, err)
	return got
}

func frames(r *rand.Rand, steps int, shape []int) [][]float64 {
	f := make([][]float64, steps)
	for t := range f {
		for range count(shape) {
			f[t] = append(f[t], float64(float32(r.Float64())))
		}
	}
	return f
}

// check compares the network of a graph with the simulation, step by step.
func check(t *testing.T, g *nir.Graph, cfg nir.Config, r *rand.Rand, in []int) (spikes float64) {
	t.Helper()
	m, notes, err := g.Model(cfg)
	require.NoError(t, err)
	f := frames(r, cfg.Steps, in)
	want := simulate(g, cfg, f)
	got := outputs(t, m, f)
	require.Len(t, got, len(want))
	for s := range want {
		require.InDeltaSlice(t, want[s], got[s], 1e-5, "step %d, %v", s, notes)
		for _, v := range want[s] {
			spikes += v
		}
	}
	return spikes
}

func TestNeurons(t *testing.T) {
	for _, shape := range [][]int{{5}, {3, 4}, {18, 3, 2}} {
		for name := range neurons(rand.New(rand.NewPCG(1, 1)), shape...) {
			for variant := range 6 {
				r := rand.New(rand.NewPCG(uint64(variant), 2))
				n := neurons(r, shape...)[name]
				cfg := nir.Config{Dt: .001, Steps: 7, Exponential: variant%2 == 1, Start: nir.Start(variant % 3), SoftReset: variant == 4 && name != "LIF" && name != "LIF alike"}
				if (name == "CubaLIF" || name == "LIF") && variant%3 != int(nir.AtLeak) {
					n.Fields["v_leak"] = all(0, shape...) // the start and reset of all neurons
					delete(n.Fields, "v_reset")
				}
				if name == "LIF" && variant%3 == int(nir.AtLeak) {
					n.Fields["v_reset"] = n.Fields["v_leak"]
				}
				t.Run(fmt.Sprint(shape, name, variant), func(t *testing.T) {
					spikes := check(t, graph(shape, []int{count(shape)}, n, flatten(shape)), cfg, r, shape)
					assert.NotZero(t, spikes)
				})
			}
		}
	}
}

// A field with a value for each channel is that of all pixels of the channel.
func TestFieldOfChannels(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	shape := []int{3, 2, 4}
	for name, n := range neurons(r, shape...) {
		short := &nir.Node{Type: n.Type, Fields: fields{}}
		for f, a := range n.Fields {
			short.Fields[f] = nir.Floats(shape[:1], a.Floats[0], a.Floats[8], a.Floats[16])
			for i := range a.Floats {
				a.Floats[i] = a.Floats[i/8*8]
			}
		}
		cfg := nir.Config{Dt: .001, Steps: 5}
		for _, n := range []*nir.Node{n, short} {
			if name == "LIF" || name == "CubaLIF" { // they start and reset at one potential
				n.Fields["v_leak"], n.Fields["v_reset"] = nir.Floats(nil, 0), nir.Floats(nil, 0)
			}
		}
		f := frames(r, cfg.Steps, shape)
		m, _, err := graph(shape, []int{24}, n, flatten(shape)).Model(cfg)
		require.NoError(t, err, name)
		channels, _, err := graph(shape, []int{24}, short, flatten(shape)).Model(cfg)
		require.NoError(t, err, name)
		assert.Equal(t, outputs(t, m, f), outputs(t, channels, f), name)
	}
}

func flatten(shape []int) *nir.Node {
	return &nir.Node{Type: "Flatten", Fields: fields{"start_dim": nir.Ints(nil, 0), "end_dim": nir.Ints(nil, -1)}}
}

func TestConvolutions(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	pair := func(a, b int64) nir.Array { return nir.Ints([]int{2}, a, b) }
	one := func(a int64) nir.Array { return nir.Ints(nil, a) }
	for i, c := range []struct {
		in, out []int
		node    nir.Node
	}{
		{[]int{2, 6, 5}, []int{3, 6, 5}, nir.Node{Type: "Conv2d", Fields: fields{"weight": random(r, -1, 1, 3, 2, 3, 3), "stride": one(1), "padding": nir.Text("same"), "dilation": one(1), "groups": one(1), "bias": random(r, -1, 1, 3)}}},
		{[]int{2, 6, 5}, []int{4, 6, 5}, nir.Node{Type: "Conv2d", Fields: fields{"weight": random(r, -1, 1, 4, 2, 2, 4), "stride": one(1), "padding": nir.Text("same"), "dilation": pair(1, 2), "groups": one(1), "bias": random(r, -1, 1, 4)}}},
		{[]int{4, 7, 8}, []int{6, 3, 4}, nir.Node{Type: "Conv2d", Fields: fields{"weight": random(r, -1, 1, 6, 2, 3, 2), "stride": pair(2, 2), "padding": pair(0, 1), "dilation": pair(1, 3), "groups": one(2), "bias": random(r, -1, 1, 6)}}},
		{[]int{4, 7, 8}, []int{4, 5, 7}, nir.Node{Type: "Conv2d", Fields: fields{"weight": random(r, -1, 1, 4, 1, 3, 2), "stride": one(1), "padding": nir.Text("valid"), "dilation": one(1), "groups": one(4), "bias": random(r, -1, 1, 4)}}},
		{[]int{3, 9}, []int{5, 4}, nir.Node{Type: "Conv1d", Fields: fields{"weight": random(r, -1, 1, 5, 3, 4), "stride": one(2), "padding": one(1), "dilation": one(1), "groups": one(1), "bias": random(r, -1, 1, 5)}}},
		{[]int{3, 9}, []int{5, 9}, nir.Node{Type: "Conv1d", Fields: fields{"weight": random(r, -1, 1, 5, 3, 4), "stride": nir.Ints([]int{1}, 1), "padding": nir.Text("same"), "dilation": one(2), "groups": one(1), "bias": random(r, -1, 1, 5)}}},
		{[]int{3, 6, 4}, []int{3, 3, 2}, nir.Node{Type: "SumPool2d", Fields: fields{"kernel_size": pair(2, 2), "stride": pair(2, 2), "padding": pair(0, 0)}}},
		{[]int{3, 6, 7}, []int{3, 4, 3}, nir.Node{Type: "SumPool2d", Fields: fields{"kernel_size": pair(2, 3), "stride": pair(2, 2), "padding": pair(1, 0)}}},
		{[]int{3, 6, 5}, []int{3, 3, 2}, nir.Node{Type: "AvgPool2d", Fields: fields{"kernel_size": pair(2, 2), "stride": pair(2, 2), "padding": pair(0, 0)}}},
		{[]int{3, 6, 5}, []int{3, 3, 2}, nir.Node{Type: "AvgPool2d", Fields: fields{"kernel_size": pair(3, 3), "stride": pair(2, 2), "padding": pair(1, 0)}}},
		{[]int{3, 6, 5}, []int{3, 4, 3}, nir.Node{Type: "AvgPool2d", Fields: fields{"kernel_size": pair(3, 3), "stride": pair(1, 1), "padding": pair(0, 0)}}},
		{[]int{3, 5, 5}, []int{3, 1, 1}, nir.Node{Type: "AvgPool2d", Fields: fields{"kernel_size": pair(5, 5), "stride": pair(1, 1), "padding": pair(0, 0)}}},
		{[]int{3, 6, 4}, []int{3, 4, 3}, nir.Node{Type: "AvgPool2d", Fields: fields{"kernel_size": pair(2, 2), "stride": pair(2, 2), "padding": pair(1, 1)}}},
		{[]int{2, 7, 4}, []int{3, 3, 1}, nir.Node{Type: "Conv2d", Fields: fields{"weight": random(r, -1, 1, 3, 2, 3, 2), "stride": pair(2, 5), "padding": pair(0, 0), "dilation": one(1), "groups": one(1), "bias": random(r, -1, 1, 3)}}},
		{[]int{2, 4, 7}, []int{3, 1, 3}, nir.Node{Type: "Conv2d", Fields: fields{"weight": random(r, -1, 1, 3, 2, 2, 3), "stride": pair(5, 2), "padding": pair(0, 0), "dilation": one(1), "groups": one(1), "bias": random(r, -1, 1, 3)}}},
		{[]int{3, 2, 2}, []int{3, 2, 2}, nir.Node{Type: "Scale", Fields: fields{"scale": random(r, -1, 2, 3, 2, 2)}}},
	} {
		n := c.node
		size := []int64{}
		for _, d := range c.in[1:] {
			size = append(size, int64(d))
		}
		if n.Fields["groups"].Type != "" { // a convolution
			n.Fields["input_shape"] = nir.Ints([]int{len(size)}, size...)
		}
		n.Metadata = fields{"height": nir.Ints(nil, size[0]), "width": nir.Ints(nil, size[len(size)-1])}
		t.Run(fmt.Sprint(i, n.Type), func(t *testing.T) {
			g := graph(c.in, []int{count(c.out)}, &n, flatten(c.out))
			assert.NotZero(t, check(t, g, nir.Config{Dt: 1, Steps: 2}, r, c.in))
			assert.NotZero(t, check(t, graph(c.in, c.out, &n), nir.Config{Dt: 1, Steps: 2}, r, c.in))
		})
	}
}

// The skips of a residual network, spikes that return, and a graph in a graph.
func TestEdges(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	lif := func() *nir.Node { return neurons(r, 6)["LIF alike"] }
	linear := func(out, in int) *nir.Node {
		return &nir.Node{Type: "Linear", Fields: fields{"weight": random(r, -.6, 1, out, in)}}
	}
	cfg := nir.Config{Dt: .001, Steps: 8}
	skip := graph([]int{6}, []int{4}, linear(6, 6), lif(), linear(6, 6), lif(), linear(4, 6))
	skip.Edges = append(skip.Edges, [2]string{"b", "d"}, [2]string{"a", "e"}, [2]string{"input", "d"})
	assert.NotZero(t, check(t, skip, cfg, r, []int{6}))

	recurrent := graph([]int{6}, []int{6}, linear(6, 6), neurons(r, 6)["CubaLIF"])
	recurrent.Nodes["b"].Fields["v_leak"], recurrent.Nodes["b"].Fields["v_reset"] = all(0, 6), all(0, 6)
	recurrent.Nodes["back"] = linear(6, 6)
	recurrent.Edges = append(recurrent.Edges, [2]string{"b", "back"}, [2]string{"back", "b"})
	assert.NotZero(t, check(t, recurrent, cfg, r, []int{6}))

	itself := graph([]int{6}, []int{6}, linear(6, 6), lif())
	itself.Edges = append(itself.Edges, [2]string{"b", "b"})
	assert.NotZero(t, check(t, itself, cfg, r, []int{6}))

	inner := graph([]int{6}, []int{6}, linear(6, 6), lif())
	outer := graph([]int{6}, []int{6}, &nir.Node{Type: "NIRGraph", Graph: inner}, linear(6, 6))
	m, _, err := outer.Model(cfg)
	require.NoError(t, err)
	flat := graph([]int{6}, []int{6}, inner.Nodes["a"], inner.Nodes["b"], outer.Nodes["b"])
	f := frames(r, 8, []int{6})
	assert.InDeltaSlice(t, simulate(flat, cfg, f)[7], outputs(t, m, f)[7], 1e-5)
	assert.Contains(t, fmt.Sprint(m), "a.b", "names of inner nodes")
}

// The threshold itself: NIR fires above it.
func TestAtThreshold(t *testing.T) {
	for at, want := range map[bool]float64{false: 0, true: 1} {
		g := graph([]int{1}, []int{1}, &nir.Node{Type: "IF", Fields: fields{"r": all(1000, 1), "v_threshold": all(.5, 1), "v_reset": all(0, 1)}})
		m, notes, err := g.Model(nir.Config{Dt: .001, Steps: 1, AtThreshold: at})
		require.NoError(t, err)
		assert.Equal(t, [][]float64{{want}}, outputs(t, m, [][]float64{{.5}}))
		assert.Len(t, notes, 1-int(want))
	}
}

// Of a potential that leaks within a step, nothing is left, however close to 0 the decay is.
func TestFastLeak(t *testing.T) {
	for _, dt := range []float64{20, 80, 100, 120, 700, 800} {
		g := graph([]int{1}, []int{1}, &nir.Node{Type: "LIF", Fields: fields{"tau": all(1, 1), "r": all(1, 1), "v_leak": all(0, 1), "v_threshold": all(.5, 1)}})
		m, _, err := g.Model(nir.Config{Dt: dt, Steps: 3, Exponential: true})
		require.NoError(t, err, dt)
		assert.Equal(t, [][]float64{{0}, {0}, {1}}, outputs(t, m, [][]float64{{.25}, {.375}, {.75}}), dt)
	}
}

// Gradients of the layers of this package are those of differences.
func TestGradients(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, name := range []string{"I", "LI", "CubaLI"} {
		for _, steps := range []int{0, 3} { // an image, or frames
			shape := []int{2, 3, 2}
			g := graph(shape, shape, neurons(r, shape...)[name], &nir.Node{Type: "Scale", Fields: fields{"scale": random(r, -1, 1, shape...)}})
			m, _, err := g.Model(nir.Config{Dt: .001, Steps: 3})
			require.NoError(t, err)
			x := tensor.NCHW{N: 2, C: 2, H: 3, W: 2, Steps: steps}
			for range 2 * 12 * max(steps, 1) {
				x.Data = append(x.Data, .2+.6*r.Float32())
			}
			weight := make([]float32, 2*12)
			for i := range weight {
				weight[i] = r.Float32() - .5
			}
			loss := func() (l float64) {
				logits, err := m.Logits(snn.Pass{}, x)
				require.NoError(t, err)
				for i, v := range logits {
					l += float64(v) * float64(weight[i])
				}
				return l
			}
			grad, err := m.InputGradient(snn.Pass{}, x, func([]float32) []float32 { return weight })
			require.NoError(t, err)
			for i, v := range x.Data {
				const h = .1
				x.Data[i] = v + h
				up := loss()
				x.Data[i] = v - h
				down := loss()
				x.Data[i] = v
				assert.InDelta(t, (up-down)/(2*h), grad.Data[i], 1e-4)
			}
		}
	}
}

// A stream would not keep the potentials of integrators.
func TestStream(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for kind, n := range neurons(r, 3) {
		if kind == "LIF" || kind == "CubaLIF" { // they start and reset at one potential
			n.Fields["v_leak"], n.Fields["v_reset"] = nir.Floats(nil, 0), nir.Floats(nil, 0)
		}
		cfg := nir.Config{Dt: .001, Steps: 3}
		m, _, err := graph([]int{3}, []int{3}, n).Model(cfg)
		require.NoError(t, err, kind)
		stream, err := m.NewStream(snn.StreamConfig{})
		if kind == "I" || kind == "LI" || kind == "CubaLI" {
			assert.ErrorContains(t, err, "NewStream: layer a: an integrator, whose potential a stream does not keep")
			continue
		}
		require.NoError(t, err, kind)
		x := tensor.NCHW{N: 1, C: 3, H: 1, W: 1, Data: []float32{.9, .3, .5}}
		want := logits(t, m, x)
		for range cfg.Steps {
			got, err := stream.Step(x)
			require.NoError(t, err)
			if stream.Steps() == cfg.Steps {
				assert.Equal(t, want, got, kind)
			}
		}
	}
}

// Values are added up in float32, in the order of the edges.
func TestOrderOfSums(t *testing.T) {
	values := map[string]float64{"a": 1e8, "b": -1e8, "c": 1}
	for _, order := range [][]string{{"a", "b", "c"}, {"a", "c", "b"}, {"c", "a", "b"}, {"b", "a", "c"}, {"b", "c", "a"}, {"c", "b", "a"}} {
		g := &nir.Graph{Nodes: map[string]*nir.Node{"input": port("Input", []int{1}), "output": port("Output", []int{1})}}
		var want float32
		for _, name := range order {
			g.Nodes[name] = &nir.Node{Type: "Scale", Fields: fields{"scale": nir.Floats(nil, values[name])}}
			g.Edges = append(g.Edges, [2]string{"input", name}, [2]string{name, "output"})
			want += float32(values[name])
		}
		m, _, err := g.Model(nir.Config{Dt: 1, Steps: 1})
		require.NoError(t, err)
		assert.Equal(t, [][]float64{{float64(want)}}, outputs(t, m, [][]float64{{1}}), order)
		again, _, err := nir.GraphOf(m, 1)
		require.NoError(t, err)
		m, _, err = again.Model(nir.Config{Dt: 1, Steps: 1})
		require.NoError(t, err)
		assert.Equal(t, [][]float64{{float64(want)}}, outputs(t, m, [][]float64{{1}}), order)
	}
}

// Poolings are not trained.
func TestPoolingIsFixed(t *testing.T) {
	two := nir.Ints([]int{2}, 2, 2)
	for _, kind := range []string{"SumPool2d", "AvgPool2d"} {
		pool := &nir.Node{Type: kind, Fields: fields{"kernel_size": two, "stride": nir.Ints([]int{2}, 1, 1), "padding": nir.Ints([]int{2}, 0, 0)}}
		m, _, err := graph([]int{3, 4, 4}, []int{27}, pool, flatten(nil)).Model(nir.Config{Dt: 1, Steps: 1})
		require.NoError(t, err)
		for _, p := range m.Params() {
			assert.False(t, p.Trainable, p.Name)
		}
	}
}

// All dimensions become one, or the graph is refused.
func TestFlattenDimensions(t *testing.T) {
	for dims, ok := range map[[2]int64]bool{{0, -1}: true, {0, 2}: true, {1, -1}: true, {1, 2}: true, {1, 3}: true, {0, 1}: false, {0, -2}: false, {1, -2}: false, {1, 1}: false, {2, -1}: false, {0, 3}: false} {
		n := &nir.Node{Type: "Flatten", Fields: fields{"start_dim": nir.Ints(nil, dims[0]), "end_dim": nir.Ints(nil, dims[1])}}
		m, _, err := graph([]int{2, 3, 4}, []int{24}, n).Model(nir.Config{Dt: 1, Steps: 1})
		if !ok {
			assert.ErrorContains(t, err, fmt.Sprintf("dimensions %d to ", dims[0]))
			continue
		}
		require.NoError(t, err, dims)
		assert.Equal(t, 24, m.Classes())
	}
}

// A dimension may be a float, but no part of one, and no text.
func TestFlattenFields(t *testing.T) {
	for _, c := range []struct {
		start nir.Array
		err   string
	}{
		{nir.Floats(nil, 0), ""},
		{nir.Floats(nil, 2), "dimensions 2 to "},
		{nir.Floats(nil, 0.5), "field start_dim has the value [0.5]: want one whole number"},
		{nir.Ints([]int{2}, 0, 0), "field start_dim has the value [0 0]: want one whole number"},
		{nir.Array{Type: "str", Texts: []string{"0"}}, `field start_dim has the text ["0"]: want numbers`},
	} {
		n := &nir.Node{Type: "Flatten", Fields: fields{"start_dim": c.start}}
		_, _, err := graph([]int{2, 3, 4}, []int{24}, n).Model(nir.Config{Dt: 1, Steps: 1})
		if c.err == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, c.err)
		}
	}
}

func TestModelRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	good := func() *nir.Graph {
		return graph([]int{2}, []int{3}, &nir.Node{Type: "Affine", Fields: fields{"weight": random(r, -1, 1, 3, 2), "bias": random(r, -1, 1, 3)}}, neurons(r, 3)["LIF alike"])
	}
	cfg := nir.Config{Dt: .001, Steps: 2}
	_, _, err := good().Model(cfg)
	require.NoError(t, err)
	for want, change := range map[string]func(g *nir.Graph, c *nir.Config){
		"a time step of 0":   func(_ *nir.Graph, c *nir.Config) { c.Dt = 0 },
		"a time step of NaN": func(_ *nir.Graph, c *nir.Config) { c.Dt = math.NaN() },
		"a start of 3":       func(_ *nir.Graph, c *nir.Config) { c.Start = 3 },
		"0 time steps":       func(_ *nir.Graph, c *nir.Config) { c.Steps = 0 },
		"field tau has the value 0.003, less than the time step 0.01": func(_ *nir.Graph, c *nir.Config) { c.Dt = .01 },
		"node b of type LIF: a soft reset, and a v_reset that is not": func(_ *nir.Graph, c *nir.Config) { c.SoftReset = true },
		"there is no node x":                    func(g *nir.Graph, _ *nir.Config) { g.Edges = append(g.Edges, [2]string{"a", "x"}) },
		"the edge from a to b is there twice":   func(g *nir.Graph, _ *nir.Config) { g.Edges = append(g.Edges, [2]string{"a", "b"}) },
		"node x: no edge leads to it":           func(g *nir.Graph, _ *nir.Config) { g.Nodes["x"] = g.Nodes["b"] },
		"node a: edges lead from it back to it": func(g *nir.Graph, _ *nir.Config) { g.Edges = append(g.Edges, [2]string{"b", "a"}) },
		"2 nodes of type Input [input x]":       func(g *nir.Graph, _ *nir.Config) { g.Nodes["x"] = g.Nodes["input"] },
		"node c of type Delay: no layer for this type": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["c"] = &nir.Node{Type: "Delay"}
			g.Edges[2][1] = "c"
			g.Edges = append(g.Edges, [2]string{"c", "output"})
		},
		"node b of type LIF: field tau is missing":                               func(g *nir.Graph, _ *nir.Config) { delete(g.Nodes["b"].Fields, "tau") },
		"field tau has the value -0.003":                                         func(g *nir.Graph, _ *nir.Config) { g.Nodes["b"].Fields["tau"] = all(-.003, 3) },
		"field r has the value NaN":                                              func(g *nir.Graph, _ *nir.Config) { g.Nodes["b"].Fields["r"] = all(math.NaN(), 3) },
		"its input counts -1 times":                                              func(g *nir.Graph, _ *nir.Config) { g.Nodes["b"].Fields["r"] = all(-3, 3) },
		"field r of shape [2] for values of the shape [3]":                       func(g *nir.Graph, _ *nir.Config) { g.Nodes["b"].Fields["r"] = all(1, 2) },
		"v_reset, in units of the input":                                         func(g *nir.Graph, _ *nir.Config) { g.Nodes["b"].Fields["v_reset"] = random(r, 0, 1, 3) },
		"weight of shape [3 2] for an input of shape [5 2]":                      func(g *nir.Graph, _ *nir.Config) { g.Nodes["input"] = port("Input", []int{5, 2}) },
		"weight of shape [3 2] for an input of shape [4]":                        func(g *nir.Graph, _ *nir.Config) { g.Nodes["input"] = port("Input", []int{4}) },
		"field bias has 2 values, want 3":                                        func(g *nir.Graph, _ *nir.Config) { g.Nodes["a"].Fields["bias"] = all(0, 2) },
		"field weight has the value +Inf":                                        func(g *nir.Graph, _ *nir.Config) { g.Nodes["a"].Fields["weight"] = all(math.Inf(1), 3, 2) },
		"node output of type Output: shape [4], but its input has the shape [3]": func(g *nir.Graph, _ *nir.Config) { g.Nodes["output"] = port("Output", []int{4}) },
		"weight: 5 values of type f8, want 6": func(g *nir.Graph, _ *nir.Config) {
			a := g.Nodes["a"].Fields["weight"]
			a.Floats = a.Floats[:5]
			g.Nodes["a"].Fields["weight"] = a
		},
		"shape [1 2 3 4]: want one to three": func(g *nir.Graph, _ *nir.Config) { g.Nodes["input"] = port("Input", []int{1, 2, 3, 4}) },
		"a graph without nodes":              func(g *nir.Graph, _ *nir.Config) { g.Nodes = nil },
		"node c: values of the shapes [3] of b and [2] of input: want equal ones": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["c"] = &nir.Node{Type: "Scale", Fields: fields{"scale": all(1, 3)}}
			g.Edges[2][1] = "c"
			g.Edges = append(g.Edges, [2]string{"input", "c"}, [2]string{"c", "output"})
		},
		"weight of shape [0 2] for an input of shape [2]": func(g *nir.Graph, _ *nir.Config) { g.Nodes["a"].Fields["weight"] = all(0, 0, 2) },
		"0 output channels": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["input"] = port("Input", []int{2, 3})
			g.Nodes["a"] = &nir.Node{Type: "Conv1d", Fields: fields{"weight": all(0, 0, 2, 1), "bias": all(0, 0), "stride": nir.Ints(nil, 1), "padding": nir.Ints(nil, 0)}}
		},
		"field tau has the text [\"a\" \"b\" \"c\"]: want numbers": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"].Fields["tau"] = nir.Array{Type: "str", Shape: []int{3}, Texts: []string{"a", "b", "c"}}
		},
		"field weight has the text": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["input"] = port("Input", []int{1, 3})
			g.Nodes["a"] = &nir.Node{Type: "Conv1d", Fields: fields{"weight": {Type: "str", Shape: []int{1, 1, 1}, Texts: []string{"a"}}, "bias": all(0, 1), "stride": nir.Ints(nil, 1), "padding": nir.Ints(nil, 0)}}
		},
		"shape [1048576 1048576 1048576]: want at most 2²⁸ values": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["input"] = port("Input", []int{1 << 20, 1 << 20, 1 << 20})
			g.Nodes["a"] = &nir.Node{Type: "IF", Fields: fields{"r": nir.Floats(nil, 1), "v_threshold": nir.Floats(nil, 1)}}
		},
		"its output: shape [2048 1024 1024]: want at most 2²⁸ values": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["input"] = port("Input", []int{1, 1 << 10, 1 << 10})
			g.Nodes["a"] = &nir.Node{Type: "Conv2d", Fields: fields{"weight": all(0, 1<<11, 1, 1, 1), "bias": all(0, 1<<11), "stride": nir.Ints(nil, 1), "padding": nir.Ints(nil, 0)}}
		},
		"node a of type Conv1d: input_shape [4], but its input has the shape [3]": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["input"] = port("Input", []int{1, 3})
			g.Nodes["a"] = &nir.Node{Type: "Conv1d", Fields: fields{"input_shape": nir.Ints(nil, 4), "weight": all(1, 1, 1, 1), "bias": all(0, 1), "stride": nir.Ints(nil, 1), "padding": nir.Ints(nil, 0)}}
		},
		"node a of type Conv2d: input_shape [4 3], but its input has the shape [3 4]": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["input"] = port("Input", []int{1, 3, 4})
			g.Nodes["a"] = &nir.Node{Type: "Conv2d", Fields: fields{"input_shape": nir.Ints([]int{2}, 4, 3), "weight": all(1, 1, 1, 1, 1), "bias": all(0, 1), "stride": nir.Ints(nil, 1), "padding": nir.Ints(nil, 0)}}
		},
		"node a of type Flatten: input_type [4 3 1], but its input has the shape [1 3 4]": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["input"] = port("Input", []int{1, 3, 4})
			g.Nodes["a"] = &nir.Node{Type: "Flatten", Fields: fields{"start_dim": nir.Ints(nil, 0), "input_type": nir.Ints([]int{3}, 4, 3, 1)}}
		},
		"weight: 0 values of type f4, want 18446744073709551616 for the shape": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["a"].Fields["weight"] = nir.Array{Type: "f4", Shape: []int{1 << 22, 1 << 21, 1 << 21}}
		},
		"node b.a: there are two of this name": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b.a"] = g.Nodes["b"]
			scale := &nir.Node{Type: "Scale", Fields: fields{"scale": nir.Floats(nil, 1)}}
			g.Nodes["b"] = &nir.Node{Type: "NIRGraph", Graph: graph([]int{3}, []int{3}, scale)}
			g.Edges[2][1] = "b.a"
			g.Edges = append(g.Edges, [2]string{"b.a", "output"})
		},
		"node b: its graph has no node of type Input": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["c"] = g.Nodes["b"]
			g.Nodes["b"] = &nir.Node{Type: "NIRGraph", Graph: &nir.Graph{Nodes: map[string]*nir.Node{"output": port("Output", []int{3})}}}
			g.Edges = append(g.Edges, [2]string{"a", "c"}, [2]string{"c", "b"})
		},
		"node b: its graph has no node of type Output": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"] = &nir.Node{Type: "NIRGraph", Graph: &nir.Graph{Nodes: map[string]*nir.Node{"input": port("Input", []int{3})}}}
		},
		"node a of type Affine: field gain: want none but weight, bias": func(g *nir.Graph, _ *nir.Config) { g.Nodes["a"].Fields["gain"] = all(2, 3) },
		"node b of type LIF: field tau_ref: want none but tau, r":       func(g *nir.Graph, _ *nir.Config) { g.Nodes["b"].Fields["tau_ref"] = all(.002, 3) },
		"its spikes return through an Affine: field bias is missing": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["c"] = &nir.Node{Type: "Affine", Fields: fields{"weight": all(1, 3, 3)}}
			g.Edges = append(g.Edges, [2]string{"b", "c"}, [2]string{"c", "b"})
		},
		"node b of type NIRGraph has fields or metadata of its own": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"] = &nir.Node{Type: "NIRGraph", Graph: graph([]int{3}, []int{3}), Metadata: fields{"who": nir.Text("a test")}}
		},
		"node b: tau: value 300 is none of type i1": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"].Fields["tau"] = nir.Array{Type: "i1", Ints: []int64{300}}
		},
		"node b: tau: value -1 is none of type u8": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"].Fields["tau"] = nir.Array{Type: "u8", Ints: []int64{-1}}
		},
		"node b: tau: value 256 is none of type u1": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"].Fields["tau"] = nir.Array{Type: "u1", Ints: []int64{256}}
		},
		"node b: tau: value 65520 is none of type f2": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"].Fields["tau"] = nir.Array{Type: "f2", Floats: []float64{65520}}
		},
		"node b: tau: value 1e+39 is none of type f4": func(g *nir.Graph, _ *nir.Config) {
			g.Nodes["b"].Fields["tau"] = nir.Array{Type: "f4", Floats: []float64{1e39}}
		},
		`metadata of graph "": x: type ""`: func(g *nir.Graph, _ *nir.Config) { g.Metadata = fields{"x": {}} },
		"node a is nil":                    func(g *nir.Graph, _ *nir.Config) { g.Nodes["a"] = nil },
	} {
		g, c := good(), cfg
		change(g, &c)
		m, _, err := g.Model(c)
		assert.ErrorContains(t, err, want)
		assert.Nil(t, m)
	}
}

// A few bytes of a graph can claim many values: one for all neurons, or the zeros of groups and of
// dilation. Neurons of one value need no more than their channels; too many others are refused.
func TestModelAllocatesWithinReason(t *testing.T) {
	one, two := nir.Floats(nil, 1), func(v int64) nir.Array { return nir.Ints([]int{2}, v, v) }
	conv := func(groups, dilation int64, weight ...int) *nir.Node {
		return &nir.Node{Type: "Conv2d", Fields: fields{"weight": all(1, weight...), "bias": all(0, weight[0]), "stride": two(1), "padding": two(0), "dilation": two(dilation), "groups": nir.Ints(nil, groups)}}
	}
	for name, c := range map[string]struct {
		in    []int
		nodes []*nir.Node
		err   string
	}{
		"LIF":          {[]int{4, 1 << 12, 1 << 12}, []*nir.Node{{Type: "LIF", Fields: fields{"tau": one, "r": one, "v_leak": one, "v_threshold": all(2, 4), "v_reset": one}}}, ""},
		"Threshold":    {[]int{4, 1 << 12, 1 << 12}, []*nir.Node{{Type: "Threshold", Fields: fields{"threshold": one}}}, ""},
		"one by pixel": {[]int{1, 1 << 14, 1 << 14}, []*nir.Node{{Type: "LIF", Fields: fields{"tau": one, "r": one, "v_leak": one, "v_threshold": all(2, 2), "v_reset": one}}}, "field r: 268435456 values, of which the graph holds 1"},
		"flat":         {[]int{1, 1 << 14, 1 << 14}, []*nir.Node{{Type: "Flatten", Fields: fields{}}, {Type: "IF", Fields: fields{"r": one, "v_threshold": one}}}, "field r: 268435456 values"},
		"Scale":        {[]int{1, 1 << 12, 1 << 12}, []*nir.Node{{Type: "Scale", Fields: fields{"scale": one}}}, "268435456 values, of which the graph holds 0: want at most 2²⁷ in all that it does not hold"},
		"I of 2²⁸":     {[]int{1, 1 << 14, 1 << 14}, []*nir.Node{{Type: "I", Fields: fields{"r": one}}}, "25769803776 values"}, // more than an int of 32 bits holds
		"I":            {[]int{1, 1 << 11, 1 << 11}, []*nir.Node{{Type: "I", Fields: fields{"r": one}}}, "402653184 values"},
		"groups":       {[]int{1 << 14, 1, 1}, []*nir.Node{conv(1<<14, 1, 1<<14, 1, 1, 1)}, "268435456 values, of which the graph holds 16384"},
		"dilation":     {[]int{2, 1 << 13, 1 << 13}, []*nir.Node{conv(1, 3000, 2, 2, 3, 3)}, "144048004 values, of which the graph holds 36"},
		"SumPool2d":    {[]int{1 << 14, 2, 2}, []*nir.Node{{Type: "SumPool2d", Fields: fields{"kernel_size": two(1), "stride": two(1), "padding": two(0)}}}, "268435456 values, of which the graph holds 0"},
	} {
		t.Run(name, func(t *testing.T) {
			g := graph(c.in, c.in, c.nodes...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := g.Model(nir.Config{Dt: .5, Steps: 1})
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
			if last := len(c.nodes) - 1; c.err != "" {
				assert.ErrorContains(t, err, fmt.Sprintf("node %c of type %s: %s", 'a'+last, c.nodes[last].Type, c.err))
			} else {
				assert.NoError(t, err)
			}
		})
	}
	mean := &nir.Node{Type: "AvgPool2d", Fields: fields{"kernel_size": two(7), "stride": two(1), "padding": two(0)}} // of all pixels
	_, _, err := graph([]int{1 << 12, 7, 7}, []int{1 << 12, 1, 1}, mean).Model(nir.Config{Dt: 1, Steps: 1})
	assert.NoError(t, err)
	integrator := &nir.Node{Type: "I", Fields: fields{"r": one}} // which may claim what it does once
	_, _, err = graph([]int{1, 1 << 10, 1 << 10}, []int{1, 1 << 10, 1 << 10}, integrator, integrator).Model(nir.Config{Dt: 1, Steps: 1})
	assert.ErrorContains(t, err, "node b of type I: 100663296 values, of which the graph holds 0: want at most 2²⁷ in all that it does not hold")
}
