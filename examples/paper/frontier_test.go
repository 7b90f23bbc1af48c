package main

import (
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/snn/zoo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// frontier trains RAT and the methods that train with ε at each -train-radii, and the others once.
func TestFrontier(t *testing.T) {
	if testing.Short() {
		t.Skip("runs of the program, which are slow under the race detector")
	}
	data, out := cifar(t), t.TempDir()
	args := auditArgs(data, out, "-battery", "none", "-methods", "vanilla,at,rat,rat@16,at@4", "-train-radii", "2,16", "-seeds", "2")
	args[1] = "frontier"
	stdout, stderr, code := clitest.Run(t, args...)
	require.Zero(t, code, stderr)
	all := files(t, out)
	assert.Equal(t, stdout, all["frontier.txt"])
	assert.Contains(t, stdout, "ε = 2,16/255 in training;")
	assert.Contains(t, all, "frontier.png")
	var got struct {
		Results map[string]*frontierOf
	}
	require.NoError(t, json.Unmarshal([]byte(all["frontier.json"]), &got))
	f := got.Results["conv4 A | fc8 fc, CIFAR-10"]
	var labels []string
	for _, n := range f.Networks {
		labels = append(labels, n.label())
		require.Len(t, n.Networks, 2)
		for i, sum := range n.Networks {
			m, _, err := zoo.Load(filepath.Join(out, networksFolder, sum.Network+".safetensors"))
			require.NoError(t, err)
			var r recipe
			require.NoError(t, json.Unmarshal([]byte(m.Meta[recipeKey]), &r))
			assert.Equal(t, n.Eps, r.Eps, n.label())
			assert.Equal(t, uint64(i+1), r.Seed)
		}
		assert.LessOrEqual(t, n.Worst[1].Accuracy, min(n.Worst[0].Accuracy, n.PGD[1].Accuracy))
	}
	assert.Equal(t, []string{"vanilla", "at, ε=2", "at, ε=16", "rat, ε=2", "rat, ε=16", "at, ε=4"}, labels)
	for _, p := range f.Comparisons {
		assert.NotContains(t, p.Of, "rat")
		assert.Contains(t, p.With, "rat, ε=")
	}
	_, err := parse(strings.Fields("-exp frontier -data fashion-mini -methods at"), io.Discard)
	assert.EqualError(t, err, "-methods at: expected rat among them, which frontier compares the others with")
	_, err = parse(strings.Fields("-exp frontier -data fashion-mini -eps 2"), io.Discard)
	assert.EqualError(t, err, "-eps 2: frontier has -train-radii: expected no -eps with -exp frontier")
	_, err = parse(strings.Fields("-exp audit -data fashion-mini -train-radii 2"), io.Discard)
	assert.ErrorContains(t, err, "-train-radii 2: only frontier has it")
}

// trainedFor is a network of one seed and 100 images, so many of which are right.
func trainedFor(method string, eps float64, clean, worst int) *trainedAt {
	of := func(right int) *estimate {
		c := correct{make([]bool, 100)}
		for i := range right {
			c[0][i] = true
		}
		return newEstimate(c)
	}
	return &trainedAt{Method: method, Eps: eps, Clean: of(clean), Worst: []*estimate{of(worst)}}
}

// RAT at a clean accuracy is on the line between two networks, if no third one is above it.
func TestBestMixture(t *testing.T) {
	f := &frontierOf{Networks: []*trainedAt{
		trainedFor("rat", 2, 90, 20), trainedFor("rat", 4, 80, 30), trainedFor("rat", 8, 70, 60), trainedFor("rat", 9, 60, 50),
		trainedFor("at", 2, 95, 20), trainedFor("at", 4, 85, 50), trainedFor("at", 8, 65, 50), trainedFor("at", 9, 80, 10),
	}}
	f.compare([]float64{8})
	type row struct {
		of, with string
	}
	var rows []row
	for _, p := range f.Comparisons {
		rows = append(rows, row{p.Of, p.With})
	}
	assert.Equal(t, []row{ // none is as accurate as the first
		{"at, ε=4", "0.75·(rat, ε=2) + 0.25·(rat, ε=8)"}, // 30 %
		{"at, ε=8", "rat, ε=8"},                          // more accurate, and 60 %
		{"at, ε=9", "0.50·(rat, ε=2) + 0.50·(rat, ε=8)"}, // 40 %, above the 30 % of ε=4
	}, rows)
	for i, want := range []float64{0.2, -0.1, -0.3} {
		assert.InDelta(t, want, f.Comparisons[i].Difference, 1e-12)
	}
	assert.Equal(t, []string{"higher", "lower", "lower"}, []string{f.Comparisons[0].Verdict, f.Comparisons[1].Verdict, f.Comparisons[2].Verdict})
}
