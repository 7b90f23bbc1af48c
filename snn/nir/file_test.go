//go:build hdf5

package nir_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/nir"
)

func TestFile(t *testing.T) {
	inner := graph([]int{2}, []int{3}, &nir.Node{Type: "Linear", Fields: fields{"weight": {Type: "f4", Shape: []int{3, 2}, Floats: []float64{1, 2, .1, -4, 0, 6}}}})
	copy(inner.Nodes["a"].Fields["weight"].Floats[2:], []float64{float64(float32(.1)), -4, float64(float32(5e-10))})
	g := graph([]int{2}, []int{3}, &nir.Node{Type: "NIRGraph", Graph: inner}, &nir.Node{Type: "Everything", Fields: fields{
		"half": {Type: "f2", Shape: []int{3}, Floats: []float64{.5, 65504, -0.0009765625}}, "double": nir.Floats(nil, .1),
		"i1": {Type: "i1", Shape: []int{2}, Ints: []int64{-128, 127}}, "i2": {Type: "i2", Ints: []int64{-300}}, "i4": {Type: "i4", Ints: []int64{1 << 30}}, "i8": nir.Ints(nil, -1<<62),
		"u1": {Type: "u1", Ints: []int64{255}}, "u2": {Type: "u2", Ints: []int64{65535}}, "u4": {Type: "u4", Ints: []int64{1<<32 - 1}}, "u8": {Type: "u8", Shape: []int{1, 1}, Ints: []int64{1 << 62}},
		"text": nir.Text("same"), "empty": nir.Text(""), "none": nir.Floats([]int{0, 4}, []float64{}...), "texts": {Type: "str", Shape: []int{2}, Texts: []string{"µ", "b"}},
	}, Metadata: fields{"who": nir.Text("a test")}})
	g.Version, inner.Metadata = "1.2.3", fields{"inner": nir.Ints(nil, 1)}
	g.Metadata = fields{"by": nir.Text("snnrat"), "training/epochs": nir.Ints(nil, 5), "training/data/name": nir.Text("digits"), "training/data/images": nir.Ints(nil, 9)}
	path := filepath.Join(t.TempDir(), "g.nir")
	require.NoError(t, g.Write(path))
	again, err := nir.Read(path)
	require.NoError(t, err)
	assert.Equal(t, g, again)
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, left, 1)
}

// Graphs that other libraries wrote, and their outputs.
func TestPeers(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    nir.Config
		agrees bool // the library does what its file says
	}{
		"snntorch_leaky":    {nir.Config{}, true},
		"snntorch_synaptic": {nir.Config{}, true},
		"spikingjelly":      {nir.Config{AtThreshold: true}, true},
		"norse_lifbox":      {nir.Config{}, true},
		"sinabs_lif":        {nir.Config{AtThreshold: true, Exponential: true}, true},
		"rockpool_lif":      {nir.Config{}, false}, // several spikes in a step
	} {
		t.Run(name, func(t *testing.T) {
			g, err := nir.Read(filepath.Join("testdata", name+".nir"))
			require.NoError(t, err)
			text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			require.NoError(t, err)
			var want struct {
				Dt      float64
				In, Out [][]float64
			}
			require.NoError(t, json.Unmarshal(text, &want))
			cfg := c.cfg
			cfg.Dt, cfg.Steps = want.Dt, len(want.In)
			m, notes, err := g.Model(cfg)
			require.NoError(t, err)
			for _, n := range g.Nodes {
				if n.Type == "AvgPool2d" { // whose input the simulation cannot see
					n.Metadata = fields{"height": nir.Ints(nil, 4), "width": nir.Ints(nil, 4)}
				}
			}
			got := outputs(t, m, want.In)
			assert.Equal(t, simulate(g, cfg, want.In), got, notes)
			if c.agrees {
				assert.Equal(t, want.Out, got, notes)
			} else {
				assert.NotEqual(t, want.Out, got, notes)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.nir"): "missing.nir: no such file",
		write("text.nir", "no graph"):     "text.nir: HDF5: ",
		write("empty.nir", ""):            "empty.nir: HDF5: ",
	} {
		_, err := nir.Read(path)
		assert.ErrorContains(t, err, want)
	}
	const groups = "g = f.create_group('node')\nfor _ in range(30): f['y'] = g.create_group('x'); g['y'] = f['y']; del f['y']; g = g['x']"
	for program, want := range map[string]string{
		"f['node/x'] = h5py.SoftLink('/version')":                    "/node/x: a link to another place",
		"f['node/x'] = h5py.ExternalLink('text.nir', '/')":           "/node/x: a link to another place",
		"g = f['node'] = f.create_group('g')\nf['g/x'] = g":          "more than 32 groups in one another",
		"f.create_dataset('node/x', (1 << 24,), compression='gzip')": "/node/x: the file claims more than ", // none is written
		groups: ": more than 16384 groups in the file", // each of 30 groups is linked twice
	} {
		path := filepath.Join(dir, "links.nir")
		out, err := exec.Command("python3", "-c", "import h5py, sys; f = h5py.File(sys.argv[1], 'w')\n"+program, path).CombinedOutput()
		if err != nil {
			t.Logf("python3 without h5py, links are not tested: %s", out)
			break
		}
		_, err = nir.Read(path)
		assert.ErrorContains(t, err, want)
	}
	whole, err := os.ReadFile("testdata/norse_lifbox.nir")
	require.NoError(t, err)
	_, err = nir.Read(write("cut.nir", string(whole[:len(whole)/2])))
	assert.ErrorContains(t, err, "cut.nir: ")
	g := graph([]int{1}, []int{1}, &nir.Node{Type: "Scale", Fields: fields{"scale": nir.Floats(nil, 1)}})
	assert.ErrorContains(t, g.Write(filepath.Join(dir, "no", "folder.nir")), "no such file")
	for name, want := range map[string]string{
		"a/b": `node: nodes: name "a/b": want one of HDF5`, "b\x00": `name "b\x00"`, ".": `name "."`, "": `name ""`,
	} {
		g := graph([]int{1}, []int{1}, g.Nodes["a"])
		g.Nodes[name] = g.Nodes["a"]
		assert.ErrorContains(t, g.Write(filepath.Join(dir, "x.nir")), want)
		delete(g.Nodes, name)
		g.Nodes["a"] = &nir.Node{Type: "Scale", Fields: g.Nodes["a"].Fields, Metadata: fields{"who": nir.Text("b" + name)}}
		if err := g.Write(filepath.Join(dir, "x.nir")); name == "b\x00" {
			assert.ErrorContains(t, err, `node: nodes: a: metadata: who: text "bb\x00": want one without NUL`)
		} else {
			assert.NoError(t, err)
		}
	}
	for name, want := range map[string]string{
		"/by": `node: metadata: name ""`, "a/": `node: metadata: a: name ""`, "by/name": "node: metadata: by: ",
	} {
		g.Metadata = fields{"by": nir.Text("snnrat"), name: nir.Ints(nil, 5)}
		assert.ErrorContains(t, g.Write(filepath.Join(dir, "x.nir")), want, name)
	}
	g.Edges[0][0] = "x"
	assert.ErrorContains(t, g.Write(filepath.Join(dir, "x.nir")), "there is no node x")
}

// The Python library nir reads what Write wrote.
func TestPythonReads(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil || exec.Command(python, "-c", "import nir").Run() != nil {
		t.Skip("python3 without the package nir")
	}
	m := network(t, zooLayers()...)
	g, _, err := nir.GraphOf(m, 1e-3)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "g.nir")
	require.NoError(t, g.Write(path))
	out, err := exec.Command(python, "-c", "import nir, sys; g = nir.read(sys.argv[1]); print(len(g.nodes), len(g.edges))", path).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "9 8\n", string(out))
}

// zooLayers are layers of every kind that a graph of NIR has nodes for.
func zooLayers() []snn.Layer {
	return []snn.Layer{snn.NewConv2D(2, 3, 3, 1, 1, true), snn.NewIF(), snn.AvgPool{K: 2}, snn.NewLIF(.5), snn.Flatten{}, snn.NewLinear(27, 5, true), snn.NewCuBaLIF(.5, .5)}
}
