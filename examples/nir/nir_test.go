package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn/nir"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

func start(t *testing.T, out *bytes.Buffer, args ...string) error {
	o, err := parse(args, out)
	if err != nil {
		return err
	}
	return run(t.Context(), o, out, io.Discard)
}

// exported writes the graph of a network with random weights, and returns its file.
func exported(t *testing.T, out *bytes.Buffer, arch string) string {
	dir := t.TempDir()
	cfg := zoo.Default(arch)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes, cfg.Steps, cfg.Threshold = 1, 28, 28, 10, 2, 0.1
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	saved, graph := filepath.Join(dir, "m.safetensors"), filepath.Join(dir, "m.nir")
	require.NoError(t, m.Save(saved))
	if err := start(t, out, "-from", saved, "-dt", "0.001", "-file", graph); err != nil {
		require.ErrorContains(t, err, "this program was built without HDF5")
		t.Skip("built without the tag hdf5")
	}
	return graph
}

// A network becomes a file, and the file a network that is run and attacked.
func TestExportAndRun(t *testing.T) {
	var out bytes.Buffer
	graph := exported(t, &out, "conv8 A conv8 A | fc")
	require.NoError(t, start(t, &out, "-file", graph, "-dt", "0.001", "-T", "2", "-data", "fashion-mini", "-images", "8", "-pgd-steps", "2"))
	assert.Contains(t, out.String(), "the mean over 2 steps")
	assert.Contains(t, out.String(), "8 images of Fashion-MNIST")
	assert.Contains(t, out.String(), "PGD")
}

// The network of a file is certified. What is proved is what certify.Certify proves of the network that
// Graph.Model makes.
func TestCertify(t *testing.T) {
	racetest.Costly(t)
	var out bytes.Buffer
	graph := exported(t, &out, "A A | fc24 fc")
	file := filepath.Join(t.TempDir(), "certified.json")
	flags := []string{"-file", graph, "-dt", "0.001", "-T", "2", "-data", "fashion-mini", "-images", "24", "-certify", "0.05,8", "-json", file, "-threads"}
	out.Reset()
	require.NoError(t, start(t, &out, append(flags, "1")...))
	assert.Contains(t, out.String(), "Accuracy in % on 24 images\n\nε          certified  worst case   clean     unknown\n0.05/255")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var r results
	require.NoError(t, json.Unmarshal(text, &r))
	require.Len(t, r.Radii, 2)
	assert.Contains(t, r.Notes[0], "fires above its threshold")
	proven := 0
	g, err := nir.Read(graph)
	require.NoError(t, err)
	m, _, err := g.Model(nir.Config{Dt: 0.001, Steps: 2})
	require.NoError(t, err)
	data, err := sets.Open(t.Context(), "fashion-mini", nil)
	require.NoError(t, err)
	x := tensor.NewNCHW(24, 1, 28, 28)
	all := make([]int, 24)
	for i := range all {
		all[i] = i
	}
	require.NoError(t, data.Test.Fill(x, all))
	for _, s := range r.Radii {
		assert.LessOrEqual(t, s.Certified, s.WorstCase)
		assert.LessOrEqual(t, s.WorstCase, s.Clean)
		require.Len(t, s.Rows, 24)
		want, err := certify.Certify(t.Context(), m, x, r.Labels, certify.Config{Epsilon: s.Eps / 255})
		require.NoError(t, err)
		for i, w := range s.Rows {
			assert.Equal(t, want[i].Predicted, w.Clean)
			assert.Equal(t, want[i].Verdict == certify.Certified, w.Verdict == certify.Certified)
			if w.Verdict == certify.Certified {
				proven++
				assert.Equal(t, r.Labels[i], w.Attacked)
			}
		}
	}
	assert.Positive(t, proven, "the test needs certified images")

	require.NoError(t, start(t, &out, append(flags, "3")...))
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(text), string(again))
}

// There are bounds for all nodes that docs/nir.md names.
func TestBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(shape ...int) nir.Array {
		a := nir.Floats(shape)
		n := 1
		for _, d := range shape {
			n *= d
		}
		for range n {
			a.Floats = append(a.Floats, 0.1+0.4*r.Float64())
		}
		return a
	}
	whole := func(v ...int64) nir.Array { return nir.Ints([]int{len(v)}, v...) }
	all := func(v float64, n int) nir.Array { return nir.Floats([]int{n}, slices.Repeat([]float64{v}, n)...) }
	conv := func(kind string, each int64, weight nir.Array) *nir.Node {
		return &nir.Node{Type: kind, Fields: map[string]nir.Array{"weight": weight, "bias": random(weight.Shape[0]), "stride": nir.Ints(nil, 1),
			"padding": nir.Ints(nil, 1), "dilation": nir.Ints(nil, 1), "groups": nir.Ints(nil, each)}}
	}
	node := func(kind string, fields map[string]nir.Array) *nir.Node { return &nir.Node{Type: kind, Fields: fields} }
	pool := func(kind string) *nir.Node {
		return node(kind, map[string]nir.Array{"kernel_size": whole(2, 2), "stride": whole(2, 2), "padding": whole(0, 0)})
	}
	flatten := node("Flatten", map[string]nir.Array{"start_dim": nir.Ints(nil, 0), "end_dim": nir.Ints(nil, -1)})
	lif := node("LIF", map[string]nir.Array{"tau": all(0.004, 4), "r": all(4, 4), "v_leak": all(0, 4), "v_threshold": random(4)})
	for name, c := range map[string]struct {
		in    []int64
		nodes []*nir.Node
	}{
		"plane": {[]int64{2, 4, 4}, []*nir.Node{conv("Conv2d", 2, random(4, 1, 3, 3)), lif, pool("SumPool2d"), pool("AvgPool2d"), flatten,
			node("Affine", map[string]nir.Array{"weight": random(5, 4), "bias": random(5)}), node("IF", map[string]nir.Array{"r": all(1000, 5), "v_threshold": all(1, 5)}),
			node("Linear", map[string]nir.Array{"weight": random(3, 5)})}},
		"line": {[]int64{2, 6}, []*nir.Node{conv("Conv1d", 1, random(3, 2, 3)), node("Threshold", map[string]nir.Array{"threshold": all(1, 3)}), flatten,
			node("Linear", map[string]nir.Array{"weight": random(3, 18)})}},
	} {
		g := &nir.Graph{Nodes: map[string]*nir.Node{"input": node("Input", map[string]nir.Array{"shape": whole(c.in...)}), "output": node("Output", map[string]nir.Array{"shape": whole(3)})}}
		last := "input"
		for i, n := range c.nodes {
			next := string(rune('a' + i))
			g.Nodes[next], g.Edges = n, append(g.Edges, [2]string{last, next})
			last = next
		}
		g.Edges = append(g.Edges, [2]string{last, "output"})
		m, _, err := g.Model(nir.Config{Dt: 0.001, Steps: 3})
		require.NoError(t, err, name)
		x := tensor.NewNCHW(1, m.Channels, m.Height, m.Width)
		for i := range x.Data {
			x.Data[i] = r.Float32()
		}
		certified := 0
		for label := range 3 {
			found, err := certify.Certify(t.Context(), m, x, []int{label}, certify.Config{Epsilon: 1e-6})
			require.NoError(t, err, name)
			if found[0].Verdict == certify.Certified {
				certified++
			}
		}
		assert.Equal(t, 1, certified, name)
	}
}

// A graph whose nodes have no bound is an error that names the node.
func TestCertifyRefuses(t *testing.T) {
	var out bytes.Buffer
	file := exported(t, &out, "A A | fc24 fc")
	all := func(v float64) nir.Array { return nir.Floats([]int{10}, slices.Repeat([]float64{v}, 10)...) }
	for want, change := range map[string]func(g *nir.Graph){
		"layer last: a layer of type *nir.Integrator has no bound": func(g *nir.Graph) {
			g.Nodes["last"] = &nir.Node{Type: "LI", Fields: map[string]nir.Array{"tau": all(0.002), "r": all(2), "v_leak": all(0)}}
		},
		"layer last: a layer of type *nir.Scale has no bound": func(g *nir.Graph) {
			g.Nodes["last"] = &nir.Node{Type: "Scale", Fields: map[string]nir.Array{"scale": all(0.5)}}
		},
		"layer last: neurons of type *snn.GLIF": func(g *nir.Graph) {
			g.Nodes["last"] = &nir.Node{Type: "CubaLIF", Fields: map[string]nir.Array{"tau_syn": all(0.002), "tau_mem": all(0.002), "r": all(2), "w_in": all(2), "v_leak": all(0), "v_threshold": all(1)}}
		},
		"a node with several edges to it, or an edge past a node, has no bound": func(g *nir.Graph) {
			g.Nodes["last"] = &nir.Node{Type: "IF", Fields: map[string]nir.Array{"r": all(1000), "v_threshold": all(1)}}
			g.Edges = append(g.Edges, [2]string{"last", "output"})
		},
	} {
		g, err := nir.Read(file)
		require.NoError(t, err)
		change(g)
		for i, e := range g.Edges {
			if e[1] == "output" && e[0] != "last" {
				if want[0] == 'a' { // an edge past the neurons
					g.Edges = append(g.Edges, [2]string{e[0], "last"})
				} else {
					g.Edges[i][1] = "last"
					g.Edges = append(g.Edges, [2]string{"last", "output"})
				}
				break
			}
		}
		changed := filepath.Join(t.TempDir(), "changed.nir")
		require.NoError(t, g.Write(changed))
		err = start(t, &out, "-file", changed, "-dt", "0.001", "-T", "2", "-data", "fashion-mini", "-images", "2", "-certify", "1")
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "-certify: "+changed)
	}
	assert.NotContains(t, out.String(), "certified")
}

func TestRefused(t *testing.T) {
	for want, args := range map[string][]string{
		"-file is empty": {},
		"-start late: expected zero, leak or reset": {"-file", "x", "-start", "late"},
		"-eps does nothing without -data":           {"-file", "x", "-eps", "3"},
		"-data does nothing with -from":             {"-file", "x", "-from", "y", "-data", "fashion-mini"},
		"-dt":                                       {"-file", "x", "-dt", "-1"},
		"-certify does nothing without -data":       {"-file", "x", "-certify", "1"},
		"-certify does nothing with -from":          {"-file", "x", "-from", "y", "-certify", "1"},
		"-json does nothing without -certify":       {"-file", "x", "-data", "fashion-mini", "-json", "y"},
		"-eps does nothing with -certify":           {"-file", "x", "-data", "fashion-mini", "-certify", "1", "-eps", "3"},
		`-certify "1,x": "x": expected numbers`:     {"-file", "x", "-data", "fashion-mini", "-certify", "1,x"},
		`-certify "": "": expected numbers`:         {"-file", "x", "-data", "fashion-mini", "-certify", ""},
		"-battery: ":                                {"-file", "x", "-data", "fashion-mini", "-certify", "1", "-battery", "brutal"},
	} {
		_, err := parse(args, &bytes.Buffer{})
		assert.ErrorContains(t, err, want)
	}
	o, err := parse([]string{"-file", "nowhere.nir", "-from", "nothing.safetensors"}, &bytes.Buffer{})
	require.NoError(t, err)
	err = run(t.Context(), o, &bytes.Buffer{}, &bytes.Buffer{})
	assert.ErrorContains(t, err, "nothing.safetensors")
	assert.True(t, errors.As(err, new(plain)))
}

// Errors name the flag. They come before long work, and before a file is lost.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	net := filepath.Join(dir, "net.safetensors")
	cfg := zoo.Default("| fc")
	m, err := zoo.New(cfg, rng.New(1))
	require.NoError(t, err)
	require.NoError(t, m.Save(net))
	var out bytes.Buffer
	assert.ErrorContains(t, start(t, &out, "-from", net, "-file", net), "-file "+net+": is the file of -from")
	assert.ErrorContains(t, start(t, &out, "-from", filepath.Join(dir, "none"), "-file", "x"), "-from: ")
	assert.ErrorContains(t, start(t, &out, "-file", filepath.Join(dir, "none")), "-file: ")
	assert.ErrorContains(t, start(t, &out, "-file", net, "-data", "fashion-mini", "-certify", "1", "-json", filepath.Join(dir, "none", "x")), "-json: ")
}
