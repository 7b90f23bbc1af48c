package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/org/snnrat/examples/internal/sets"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/train/dataset"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The figures are those of all four tables, each of a trial, and no two tables differ in one.
func TestPublished(t *testing.T) {
	var list []publishedFigure
	d := json.NewDecoder(strings.NewReader(string(publishedJSON)))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&list))
	require.Len(t, list, 216)
	for _, p := range list {
		assert.Equal(t, p.Accuracy, published()[p.setting()], "%+v", p)
		assert.True(t, p.Accuracy >= 0 && p.Accuracy <= 100, "%+v", p)
		assert.NoError(t, p.setting().trial.Validate())
		assert.Equal(t, p.Gradient, p.setting().trial.Gradient, "%+v", p)
	}
}

// The paper's figures, read off its tables, stand where all settings match and only there.
func TestPaperFigure(t *testing.T) {
	pgd := func(eps, alpha float64, steps int) trials.Trial {
		return trials.New("PGD", snn.BPTT{}, eps, alpha, steps)
	}
	same := pgd(8, 0.01, 7)
	find := func(data, arch string, n need, tr trials.Trial, change func(*options)) any {
		o := &options{Width: 1, T: 4, Epochs: 6, Eps: 2, BatchNorm: true, Seeds: []uint64{1}}
		if change != nil {
			change(o)
		}
		set := &dataset.Set{}
		l := &lab{options: o}
		v, ok := l.paperFigure(subject{Data: &sets.Data{Name: data, Train: set, Test: set}, arch: arch}, n, tr)
		if !ok {
			return nil
		}
		return v
	}
	white, black := need{method: rat}, need{method: rat, source: true}
	for _, c := range []struct {
		data, arch string
		need       need
		trial      trials.Trial
		change     func(*options)
		want       any
	}{
		{"CIFAR-10", "vgg11", white, same, nil, 21.16},
		{"CIFAR-10", "VGG11", white, same, nil, 21.16},
		{"CIFAR-10", "wrn-16-4", white, same, nil, 22.71},
		{"CIFAR-100", "wrn-16-4", white, same, nil, 11.31},
		{"CIFAR-10", "vgg11", black, same, nil, 77.43},
		{"CIFAR-10", "vgg11", white, trials.Clean, nil, 90.74},
		{"CIFAR-10", "vgg11", white, trials.Noise(8), nil, 90.31},
		{"CIFAR-10", "vgg11", white, trials.New("FGSM", snn.BPTT{}, 8, 0.5, 1), nil, 45.23}, // steps are not FGSM's
		{"CIFAR-100", "vgg11", need{method: hire}, same, nil, 7.5},
		{"CIFAR-10", "vgg11", need{method: rat, beta: 0.001}, same, nil, 21.16},

		{"CIFAR-10", "vgg11", white, pgd(4, 0.01, 7), nil, nil},
		{"CIFAR-10", "vgg11", white, same, func(o *options) { o.BatchNorm = false }, nil},
		{"CIFAR-10", "vgg11", need{method: rat, noBN: true}, same, nil, nil},
		{"CIFAR-10", "vgg11", white, pgd(8, 0.02, 7), nil, nil},
		{"CIFAR-10", "vgg11", white, pgd(8, 0.01, 20), nil, nil},
		{"CIFAR-10", "vgg11", white, trials.Noise(4), nil, nil},
		{"CIFAR-10", "vgg13", white, same, nil, nil},
		{"CIFAR-10", "vgg11", white, same, func(o *options) { o.Width = 0.25 }, nil},
		{"CIFAR-10", "vgg11", white, same, func(o *options) { o.Beta = 0.002 }, nil},
		{"CIFAR-10", "vgg11", need{method: rat, beta: 0.004}, same, nil, nil},
		{"CIFAR-10", "vgg11", white, same, func(o *options) { o.Eps = 4 }, nil},
		{"CIFAR-10", "vgg11", need{method: mix}, same, func(o *options) { o.Eps = 4 }, nil},
		{"CIFAR-10", "vgg11", need{method: vanilla}, same, func(o *options) { o.Eps = 4 }, 0.04},
		{"IDX images", "vgg11", white, same, nil, nil},
		{"CIFAR-10", "vgg11", need{method: given}, same, nil, nil},
		{"CIFAR-10", "vgg11", need{method: hire}, same, nil, nil},
		{"CIFAR-10", "vgg11", black, trials.New("PGD", snn.CBA{}, 8, 0.01, 7), nil, nil},
	} {
		assert.Equal(t, c.want, find(c.data, c.arch, c.need, c.trial, c.change), "%s %s %+v %v", c.data, c.arch, c.need, c.trial)
	}
}

// Tables have the paper's rows, and a heading that says of what they are, where the paper has
// a figure, and neither where it has none.
func TestPaperRows(t *testing.T) {
	racetest.Costly(t)
	data, out := cifar(t), t.TempDir()
	table := func(exp string, more ...string) string {
		o, err := parse(small(exp, data, out, append([]string{"-test", "4", "-battery", "quick"}, more...)...), io.Discard)
		require.NoError(t, err)
		var stdout strings.Builder
		require.NoError(t, run(t.Context(), o, &stdout, io.Discard))
		return stdout.String()
	}
	without := table("table1")
	assert.NotContains(t, without, "  paper")
	assert.NotContains(t, without, "Ding et al.")

	// As if the paper had a figure of the small network.
	s := setting{"CIFAR-10", written("conv8 A conv16 A | fc"), "vanilla", false, trials.New("PGD", snn.BPTT{}, 8, 0.01, 7)}
	published()[s] = 12.34
	defer delete(published(), s)
	stdout := table("table1")
	assert.Contains(t, stdout, "Ding et al. 2022 at the same ε, α and steps; T = 8, 50000 training images")
	assert.Contains(t, stdout, "(ours: T = 2, 60 training images, 2 epochs, 4 test images)")
	assert.Regexp(t, `\n  paper( +–){9} +12\.3\n`, stdout)
	assert.Regexp(t, `\n  paper( +–){8} +12\.3 +–\n`, table("table3"))
	assert.Contains(t, table("table2"), "– (12.3)")
	assert.Regexp(t, `\n  paper( +–){5} +12\.3( +–){2}\n`, table("figure1"))
	assert.Equal(t, 1, strings.Count(table("figure1"), "\n  paper"), "of white-box vanilla")
	assert.NotContains(t, table("table1", "-test-eps", "4", "-battery", "none"), "  paper")
	// The worst case of table3 has attacks that its columns have not.
	assert.Contains(t, table("table3"), "under every attack of the table and under FGSM, RFGSM, PGD by CBA.\n")
	assert.NotContains(t, table("table3"), "the table's part")
}
