package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
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

func runs(t *testing.T, out *bytes.Buffer, args ...string) error {
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
	if err := runs(t, out, "-from", saved, "-dt", "0.001", "-file", graph); err != nil {
		require.ErrorContains(t, err, "this program was built without HDF5")
		t.Skip("built without the tag hdf5")
	}
	return graph
}

// A network becomes a file, and the file a network that is run and attacked.
func TestExportAndRun(t *testing.T) {
	var out bytes.Buffer
	graph := exported(t, &out, "conv8 A conv8 A | fc")
	require.NoError(t, runs(t, &out, "-file", graph, "-dt", "0.001", "-T", "2", "-data", "fashion-mini", "-images", "8", "-pgd-steps", "2"))
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
	require.NoError(t, runs(t, &out, append(flags, "1")...))
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

	require.NoError(t, runs(t, &out, append(flags, "3")...))
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(text), string(again))
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
		err = runs(t, &out, "-file", changed, "-dt", "0.001", "-T", "2", "-data", "fashion-mini", "-images", "2", "-certify", "1")
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
