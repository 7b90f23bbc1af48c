//go:build hdf5

package nir_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn/nir"
)

// A reading is what a library makes of a graph.
type reading struct {
	text    string // in the table of docs/nir.md
	refuses string // part of its error
	// cfg, without Dt and Steps, and edit are the settings and the changes of the graph with which this
	// library puts out the same. edit may set cfg.Dt, which is otherwise that of the graph.
	cfg  nir.Config
	edit func(g *nir.Graph, cfg *nir.Config)
	// step computes a step of the neurons b from their input x, where no network of this library does: i
	// and v are their current and their potential, which are start at first.
	step  func(get func(field string) float64, dt, x float64, i, v *float64) bool
	start string // a field, or empty for 0
	// several neurons fire more than once in a step. Other readings that are not computed here are odd.
	several, odd bool
}

// norseCuba adds v_leak to the current as well.
func norseCuba(get func(field string) float64, dt, x float64, i, v *float64) bool {
	*i += dt / get("tau_syn") * (get("v_leak") - *i + get("w_in")*x)
	*v += dt / get("tau_mem") * (get("v_leak") - *v + get("r")**i)
	fires := *v > get("v_threshold")
	if fires {
		*v = 0
	}
	return fires
}

// rockpoolCuba adds v_leak to the potential at each step.
func rockpoolCuba(get func(field string) float64, _, x float64, i, v *float64) bool {
	dt := get("tau_mem") / (1 + get("r"))
	*i = math.Exp(-dt/get("tau_syn")) * (*i + x)
	*v = math.Exp(-dt/get("tau_mem"))**v + *i + get("v_leak")
	fires := *v >= get("v_threshold")
	if fires {
		*v -= get("v_threshold")
	}
	return fires
}

var nirs = reading{text: "yes"}

func refuses(text, err string) reading { return reading{text: text, refuses: err} }

// change sets a field in all nodes that have it.
func change(g *nir.Graph, field string, to func(n *nir.Node, old float64) float64) {
	for _, n := range g.Nodes {
		if a, ok := n.Fields[field]; ok && a.Type == "f8" {
			a.Floats = slices.Clone(a.Floats)
			for i, v := range a.Floats {
				a.Floats[i] = to(n, v)
			}
			n.Fields[field] = a
		}
	}
}

func noReset(g *nir.Graph, _ *nir.Config) {
	change(g, "v_reset", func(*nir.Node, float64) float64 { return 0 })
}

// once gives r the value with which the input of a LIF or an IF counts once, times a factor for a LIF.
func once(factor func(tau, dt float64) float64) func(g *nir.Graph, cfg *nir.Config) {
	return func(g *nir.Graph, cfg *nir.Config) {
		noReset(g, cfg)
		change(g, "r", func(n *nir.Node, _ float64) float64 {
			if n.Type == "IF" {
				return 1 / cfg.Dt
			}
			return factor(n.Fields["tau"].Floats[0], cfg.Dt)
		})
	}
}

// norse ignores r and v_reset.
var norse = once(func(float64, float64) float64 { return 1 })

// sinabs ignores r and v_reset, takes tau as a number of steps, and subtracts.
func sinabs(g *nir.Graph, cfg *nir.Config) {
	cfg.Dt, cfg.Exponential, cfg.AtThreshold, cfg.SoftReset = 1, true, true, true
	once(func(tau, dt float64) float64 { return -1 / math.Expm1(-dt/tau) })(g, cfg)
}

// rockpool takes its time step from r, ignores w_in, decays a current after its input, and subtracts.
func rockpool(g *nir.Graph, cfg *nir.Config) {
	b := g.Nodes["b"].Fields
	cfg.Dt = b["tau_mem"].Floats[0] / (1 + b["r"].Floats[0])
	cfg.Exponential, cfg.AtThreshold, cfg.SoftReset = true, true, true
	decay := math.Exp(-cfg.Dt / b["tau_syn"].Floats[0])
	change(g, "w_in", func(*nir.Node, float64) float64 { return decay / (1 - decay) })
	change(g, "r", func(n *nir.Node, _ float64) float64 { return -1 / math.Expm1(-cfg.Dt/n.Fields["tau_mem"].Floats[0]) })
}

// leaky is the neuron that snntorch takes for an IF: β = 0.9, reset by subtraction.
func leaky(g *nir.Graph, cfg *nir.Config) {
	cfg.SoftReset = true
	n := g.Nodes["b"]
	n.Type = "LIF"
	n.Fields["tau"], n.Fields["r"], n.Fields["v_leak"] = all(10*cfg.Dt, 4), all(10, 4), all(0, 4)
}

// without takes the type of nodes out.
func without(kind string) func(g *nir.Graph, cfg *nir.Config) {
	return func(g *nir.Graph, _ *nir.Config) {
		for _, n := range g.Nodes {
			if n.Type == kind {
				n.Type, n.Fields = "Scale", fields{"scale": all(1, 4)}
			}
		}
	}
}

// fromBack puts out what returns to the neurons.
func fromBack(g *nir.Graph, _ *nir.Config) {
	g.Nodes["out"] = g.Nodes["back"]
	i := slices.Index(g.Edges, [2]string{"b", "output"})
	g.Edges[i] = [2]string{"b", "out"}
	g.Edges = append(g.Edges, [2]string{"out", "output"})
}

func both(edits ...func(*nir.Graph, *nir.Config)) func(*nir.Graph, *nir.Config) {
	return func(g *nir.Graph, cfg *nir.Config) {
		for _, e := range edits {
			e(g, cfg)
		}
	}
}

var (
	libraries = []string{"snntorch", "spikingjelly", "norse", "sinabs", "rockpool"}

	noR        = reading{text: "r = 1", edit: norse}
	asSteps    = reading{text: "steps", edit: sinabs}
	noTau      = refuses("error", "'LIF' object has no attribute 'tau_mem'")
	noIF       = refuses("refuses", "Cannot convert <class 'nir.ir.neuron.IF'>")
	noLI       = refuses("refuses", "Unknown node type <class 'nir.ir.neuron.LI'>")
	several    = reading{text: "several", several: true}
	noCuba     = reading{text: "no neurons", edit: without("CubaLIF")}
	atTheta    = reading{text: "at θ", cfg: nir.Config{AtThreshold: true}}
	startReset = reading{text: "start", cfg: nir.Config{AtThreshold: true, Start: nir.AtReset}}
	refusesR   = refuses("refuses", "r != 1 not supported")
	cubaOfR    = reading{text: "dt of r", edit: rockpool}
)

// readings has a row of libraries for each graph of testdata/peers.py.
var readings = []struct {
	graph, text string
	of          [5]reading
}{
	{"lif", "LIF, r = τ/dt", [5]reading{nirs, nirs, noR, asSteps, noTau}},
	{"lif_steps", "the same with dt = 1", [5]reading{{text: "dt 10⁻⁴", edit: func(_ *nir.Graph, cfg *nir.Config) { cfg.Dt = 1e-4 }}, nirs, noR, asSteps, noTau}},
	{"lif_r", "LIF, r = 1.5 τ/dt", [5]reading{nirs, refuses("refuses", "nir.LIF.r must equal 1 or tau / dt"), noR, asSteps, noTau}},
	{"lif_r1", "LIF, r = 1", [5]reading{nirs, nirs, nirs, several, noTau}},
	{"lif_leak", "LIF, v_leak = v_reset = 1/8", [5]reading{refuses("refuses", "v_leak not supported"), startReset, noR, refuses("refuses", "`v_leak` must be 0"), noTau}},
	{"lif_reset", "LIF, v_reset = −1/4", [5]reading{{text: "v_reset = 0", edit: noReset}, refuses("refuses", "nir.LIF.v_leak must equal v_reset"), noR, asSteps, noTau}},
	{"lif_vary", "LIF, v_threshold varies", [5]reading{refuses("refuses", "v_threshold must be same for all neurons"), refuses("refuses", "nir.LIF.v_threshold must be uniform"), noR, asSteps, noTau}},
	{"lif_tie", "LIF that reaches θ exactly", [5]reading{nirs, atTheta, noR, asSteps, noTau}},
	{"if", "IF, r = 1/dt", [5]reading{refusesR, nirs, nirs, {text: "subtracts", edit: sinabs}, noIF}},
	{"if_tie", "IF that reaches θ exactly", [5]reading{refusesR, atTheta, nirs, {text: "at θ, subtracts", edit: sinabs}, noIF}},
	{"if_r1", "IF, r = 1", [5]reading{{text: "LIF", edit: leaky}, refuses("refuses", "nir.IF.r must equal 1 / dt"), {text: "r = 1/dt", edit: norse}, {text: "r = 1/dt, subtracts", edit: sinabs}, noIF}},
	{"if_reset", "IF, v_reset = −1/4", [5]reading{refusesR, startReset, {text: "v_reset = 0", edit: norse}, {text: "v_reset = 0, subtracts", edit: sinabs}, noIF}},
	{"cuba", "CubaLIF, r = τ/dt, w_in = τ/dt", [5]reading{nirs, nirs, nirs, noCuba, cubaOfR}},
	{"cuba_w", "CubaLIF, w_in = 1.5 τ/dt", [5]reading{nirs, refuses("refuses", "nir.CubaLIF.w_in must equal tau_syn / dt"), nirs, noCuba, {text: "dt of r, no w_in", edit: rockpool}}},
	{"cuba_leak", "CubaLIF, v_leak = 1/8", [5]reading{refuses("refuses", "v_leak not supported"), refuses("refuses", "nir.CubaLIF.v_leak must equal 0"), {text: "leak twice", step: norseCuba, start: "v_leak"}, noCuba, {text: "dt of r, leak is input", step: rockpoolCuba}}},
	{"li", "LIF, Linear, LI", [5]reading{noLI, noLI, {text: "no LI", edit: without("LI")}, {text: "half of it", odd: true}, noTau}},
	{"skip", "LIF, Linear, LIF and an edge past Linear", [5]reading{nirs, nirs, nirs, {text: "no Linear, several", several: true}, noTau}},
	{"recurrent", "CubaLIF whose spikes return by a Linear", [5]reading{refuses("error", "'GraphModule' object has no attribute 'items'"), nirs, {text: "other output", edit: fromBack}, refuses("error", "KeyError: 'b'"), {text: "dt of r, other output", edit: both(rockpool, fromBack)}}},
}

// What each library makes of a graph is what readings says, and stands in docs/nir.md.
func TestReadings(t *testing.T) {
	var table map[string]struct {
		Dt    float64
		In    [][]float64
		Peers map[string]struct {
			Out   [][]float64
			Error string
		}
	}
	text, err := os.ReadFile(filepath.Join("testdata", "peers", "peers.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &table))
	require.Len(t, table, len(readings))
	read := func(name string) *nir.Graph {
		g, err := nir.Read(filepath.Join("testdata", "peers", name+".nir"))
		require.NoError(t, err)
		return g
	}
	lines := []string{"| graph | " + strings.Join(libraries, " | ") + " |", "|" + strings.Repeat("---|", 6)}
	for _, row := range readings {
		entry, ok := table[row.graph]
		require.True(t, ok, row.graph)
		assert.ElementsMatch(t, libraries, slices.Collect(maps.Keys(entry.Peers)))
		cfg := nir.Config{Dt: entry.Dt, Steps: len(entry.In)}
		run := func(g *nir.Graph, cfg nir.Config) [][]float64 {
			m, notes, err := g.Model(cfg)
			require.NoError(t, err)
			got := outputs(t, m, entry.In)
			want := simulate(g, cfg, entry.In)
			for s := range want {
				require.InDeltaSlice(t, want[s], got[s], 1e-6, "step %d, %v", s, notes)
			}
			return got
		}
		own := run(read(row.graph), cfg)
		line := "| " + row.text
		for i, r := range row.of {
			line += " | " + r.text
			name := fmt.Sprint(row.graph, " by ", libraries[i])
			peer := entry.Peers[libraries[i]]
			if r.refuses != "" {
				assert.Nil(t, peer.Out, name)
				assert.Contains(t, peer.Error, r.refuses, name)
				continue
			}
			require.Empty(t, peer.Error, name)
			require.Len(t, peer.Out, len(own), name)
			if r.text == "yes" { // as NIR says
				assert.Equal(t, own, peer.Out, name)
			} else {
				assert.NotEqual(t, own, peer.Out, name)
			}
			most := 0.
			for _, y := range peer.Out {
				most = max(most, slices.Max(y))
			}
			switch {
			case r.several:
				assert.GreaterOrEqual(t, most, 2., name)
			case r.odd:
			case r.step != nil:
				g := read(row.graph)
				n := g.Nodes["b"]
				i, v := make([]float64, 4), make([]float64, 4)
				if r.start != "" {
					copy(i, n.Fields[r.start].Floats)
					copy(v, i)
				}
				for s, x := range entry.In {
					for k, x := range matrix(g.Nodes["a"], x) {
						get := func(field string) float64 { return n.Fields[field].Floats[k] }
						assert.Equal(t, r.step(get, entry.Dt, x, &i[k], &v[k]), peer.Out[s][k] == 1, "%s, step %d", name, s)
					}
				}
			default:
				g, c := read(row.graph), r.cfg
				c.Dt, c.Steps = cfg.Dt, cfg.Steps
				if r.edit != nil {
					r.edit(g, &c)
				}
				got := run(g, c)
				for s := range got {
					assert.InDeltaSlice(t, got[s], peer.Out[s], 1e-6, "%s, step %d", name, s)
				}
			}
		}
		lines = append(lines, line+" |")
	}
	page, err := os.ReadFile("../../docs/nir.md")
	require.NoError(t, err)
	want := strings.Join(lines, "\n")
	assert.Contains(t, string(page), want, "the page needs this table:\n%s", want)
}
