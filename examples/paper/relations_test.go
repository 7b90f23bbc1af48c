package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/org/snnrat/examples/internal/clitest"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A table of several seeds has means and standard deviations. Each relation that the paper states
// is tested by the difference of the accuracies in the table, and by that of the worst cases.
func TestRelations(t *testing.T) {
	if testing.Short() {
		t.Skip("runs of the program, which are slow under the race detector")
	}
	data, out := cifar(t), t.TempDir()
	stdout, stderr, code := clitest.Run(t, small("table2", data, out, "-seeds", "2", "-test-eps", "32", "-test-alpha", "0.05")...)
	require.Zero(t, code, stderr)
	assert.Contains(t, stdout, " ± ")
	assert.Contains(t, stdout, "\nRelations of the paper, conv8 A conv16 A | fc, CIFAR-10\n")
	var got struct {
		Results   []comparison
		Relations map[string][]tested
	}
	require.NoError(t, json.Unmarshal([]byte(files(t, out)["table2.json"]), &got))
	c := got.Results[0]
	accuracy := func(sum *summary, name string) (float64, *score) {
		for i, o := range sum.Outcomes {
			if o.Trial.String() == name {
				var each []float64
				for _, s := range sum.Seeds {
					require.Equal(t, name, s.Outcomes[i].String())
					each = append(each, s.Outcomes[i].Accuracy)
				}
				mean, sd := meanSD(each)
				require.Len(t, each, 2)
				assert.InDelta(t, mean, o.Accuracy, 1e-12)
				assert.InDelta(t, sd, *o.SD, 1e-12)
				return o.Accuracy, &o
			}
		}
		require.Fail(t, name)
		return 0, nil
	}
	all := got.Relations[c.Subject]
	require.Len(t, all, 1+1+8+8)
	for _, r := range all {
		of := c.White
		if strings.HasSuffix(r.Claim, "black-box") {
			of = c.Black
		}
		a, _ := accuracy(of[r.Of], r.Under)
		b, _ := accuracy(of[r.With], r.Under)
		assert.InDelta(t, a-b, r.Difference, 1e-12, "%+v", r)
		assert.Equal(t, resultOf(r.paired), r.Result)
		if r.Under == trials.Clean.String() {
			assert.Equal(t, []string{"vanilla", "rat"}, []string{r.Of, r.With}, "RAT costs clean accuracy")
			assert.Nil(t, r.Worst)
			continue
		}
		assert.Equal(t, []string{"rat", "vanilla"}, []string{r.Of, r.With})
		assert.InDelta(t, of["rat"].WorstCase-of["vanilla"].WorstCase, r.Worst.Difference, 1e-12)
	}
	for verdict, want := range map[string]string{"higher": "holds", "lower": "fails", "undecided": "undecided"} {
		assert.Equal(t, want, resultOf(paired{Verdict: verdict}))
	}

	_, stderr, code = clitest.Run(t, small("table1", data, out)...)
	require.Zero(t, code, stderr)
	var one struct {
		Results   map[string]*summary
		Relations map[string][]tested
	}
	require.NoError(t, json.Unmarshal([]byte(files(t, out)["table1.json"]), &one))
	require.Len(t, one.Relations[c.Subject], 6)
	r := one.Relations[c.Subject][5]
	sum := one.Results[c.Subject]
	at := func(g snn.Gradient) float64 {
		for _, o := range sum.Outcomes {
			if o.Trial == trials.New("PGD", g, 8, 0.01, 7) {
				return o.Accuracy
			}
		}
		return -1
	}
	assert.InDelta(t, at(snn.CBA{})-at(snn.BPTT{}), r.Difference, 1e-12, "BPTT is stronger")
}

// Noise does not count for the worst case of a relation.
func TestWorstTrials(t *testing.T) {
	n := need{method: rat, trials: []trials.Trial{trials.Noise(8), trials.New("FGSM", snn.CBA{}, 8, 0.01, 7)}}
	second := n
	second.replica = 1
	l := &lab{needs: []need{{method: vanilla}, n, second, {method: rat, source: true}}}
	assert.Equal(t, []trials.Trial{trials.Clean, n.trials[1]}, l.worstTrials(need{method: rat}))
}
