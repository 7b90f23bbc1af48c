package attack_test

import (
	"encoding/csv"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// named is a data set that knows the names of its classes.
type named struct {
	set
	names []string
}

func (d named) ClassNames() []string { return d.names }

// evaluated returns the report of four images. By hand: clean 3 of 4 are right. FGSM changes
// no prediction. "first" fools the network on image 0, and "dim" on image 2. The gradient of
// "zero" is zero.
func evaluated(t *testing.T, keep func(i int) bool, names ...string) *attack.Report {
	t.Helper()
	data := named{set{x: pixels(0, 1, 2, 0), y: []int{0, 1, 2, 1}}, names}
	cfg := attack.DefaultConfig()
	cfg.Batch, cfg.Keep = 3, keep
	cfg.Threat = whole
	fgsm := attack.FGSM(8./255, snn.BPTT{})
	toNext := attack.PGD(8./255, 0.01, 7, snn.BPTT{})
	toNext.Target = func(_ uint64, label int) int { return (label + 1) % 3 }
	toNext.SharedFrames = true
	zero := attack.FGSM(0.25, snn.BPTR{})
	zero.Objective = flat{}
	r, err := attack.Evaluate(ctx, brightest(t), data, []attack.Named{
		{Name: "FGSM", Attack: fgsm},
		{Name: "first", Attack: made{pixels(1, 1, 2, 1)}},
		{Name: "dim", Attack: made{pixels(0, 1, 0, 0)}},
		{Name: "to next", Attack: toNext},
		{Name: "zero", Attack: zero},
		{Name: "noise", Attack: attack.GaussianNoise{Std: 1e-3}},
		{Name: "mix", Attack: attack.Mix{fgsm, attack.GaussianNoise{Std: 0.125}}},
	}, cfg)
	require.NoError(t, err)
	return r
}

// flat is an objective without a gradient.
type flat struct{}

func (flat) Evaluate([]float64, []float32, []float32, []int, []int) {}
func (flat) String() string                                         { return "flat" }

func read(t *testing.T, table attack.Table) [][]string {
	rows, err := csv.NewReader(strings.NewReader(table.CSV())).ReadAll()
	require.NoError(t, err)
	return rows
}

// The intervals are 3 of 4: 30.1 to 95.4, 2 of 4: 15.0 to 85.0, and 1 of 4: 4.6 to 69.9, by
// proportion_confint of statsmodels.
func TestTable(t *testing.T) {
	r := evaluated(t, nil)
	three, two, one := []string{"75.0", "30.1", "95.4", "3"}, []string{"50.0", "15.0", "85.0", "2"}, []string{"25.0", "4.6", "69.9", "1"}
	row := func(name string, accuracy []string, rest ...string) []string {
		return append(append([]string{name}, accuracy...), rest...)
	}
	rows := read(t, r.Table())
	assert.Equal(t, [][]string{
		{"", "accuracy %", "95 % from", "to", "correct", "zero gradient", "in worst case", "norm", "eps", "settings"},
		row("clean", three, "", "", "", "", ""),
		row("FGSM", three, "", "yes", "L∞", "8/255", "BPTT, cross-entropy, 1 step of 8/255, start: the image"),
		row("first", three, "", "yes", "L∞", "1", "attack_test.made"),
		row("dim", two, "", "yes", "L∞", "1", "attack_test.made"),
		row("to next", three, "", "yes", "L∞", "8/255", "targeted, BPTT, cross-entropy, 7 steps of 0.01, start: uniform in the ball, one perturbation for all frames"),
		row("zero", three, "4", "yes", "L∞", "0.25", "BPTR, flat, 1 step of 0.25, start: the image"),
		row("noise", three, "", "no", "none", "", "Gaussian noise, std 0.001"),
		row("mix", three, "", "yes", "L∞", "1", "mix of (BPTT, cross-entropy, 1 step of 8/255, start: the image), (Gaussian noise, std 0.125)"),
		row("worst case", one, "", "", "L∞", "1", ""),
	}, rows)

	text := r.String()
	assert.True(t, strings.HasPrefix(text, "Accuracy on 4 images, worst case within L∞ 1\n\n"), text)
	assert.Contains(t, text, "\nzero did not attack 4 images: the gradient was zero.\n")
	assert.Equal(t, 1, strings.Count(text, "did not attack"))
	assert.Contains(t, text, r.Table().String())
	assert.Contains(t, text, "\n"+r.ClassTable().String())
	for _, line := range strings.Split(r.Table().String(), "\n")[1:3] {
		assert.Equal(t, len("worst case  accuracy %"), strings.Index(line, ".0")+len(".0"), "flush right: %q", line)
	}
	lines := strings.Split(r.Table().Markdown(), "\n")
	assert.Equal(t, "| worst case | 25.0 | 4.6 | 69.9 | 1 |  |  | L∞ | 1 |  |", lines[len(rows)])
	assert.Equal(t, strings.Repeat("| --- ", 10)+"|", lines[1])
}

// One image of class 0 and of class 2, and two of class 1.
func TestPerClass(t *testing.T) {
	want := []attack.ClassResult{
		{Class: 0, Images: 1, Clean: 1, WorstCase: 0},
		{Class: 1, Images: 2, Clean: 1, WorstCase: 1},
		{Class: 2, Images: 1, Clean: 1, WorstCase: 0},
	}
	r := evaluated(t, nil)
	assert.Nil(t, r.ClassNames)
	assert.Equal(t, want, r.PerClass())
	none, half, all := []string{"0.0", "0.0", "79.3"}, []string{"50.0", "9.5", "90.5"}, []string{"100.0", "20.7", "100.0"}
	row := func(cells []string, clean, worst []string) []string {
		return append(append(cells, clean...), worst...)
	}
	assert.Equal(t, [][]string{
		{"class", "images", "clean %", "95 % from", "to", "worst case %", "95 % from", "to"},
		row([]string{"0", "1"}, all, none), row([]string{"1", "2"}, half, half), row([]string{"2", "1"}, all, none),
	}, read(t, r.ClassTable()))

	r = evaluated(t, nil, "cat", "dog", "owl")
	assert.Equal(t, []string{"cat", "dog", "owl"}, r.ClassNames)
	for i, name := range r.ClassNames {
		want[i].Name = name
	}
	assert.Equal(t, want, r.PerClass())
	rows := read(t, r.ClassTable())
	assert.Equal(t, []string{"class", "name", "images"}, rows[0][:3])
	assert.Equal(t, row([]string{"1", "dog", "2"}, half, half), rows[2])
	assert.Contains(t, r.String(), "\n    1  dog ")

	// Labels in any order.
	r = &attack.Report{}
	r.Images = 500
	counts := map[int]int{}
	for range r.Images {
		y := rand.IntN(30)
		counts[y]++
		r.Labels, r.Clean.Predicted, r.Survived = append(r.Labels, y), append(r.Clean.Predicted, 0), append(r.Survived, false)
	}
	last := -1
	for _, c := range r.PerClass() {
		assert.Greater(t, c.Class, last)
		assert.Equal(t, counts[c.Class], c.Images)
		last = c.Class
	}
	assert.NotContains(t, r.String(), "class", "a table of more than 20 classes")
}

// The names of a network's classes are those of the report.
func TestReportNamesClasses(t *testing.T) {
	m := brightest(t)
	m.Config.ClassNames = []string{"cat", "dog", "owl"}
	r, err := attack.Evaluate(ctx, m, set{x: pixels(0), y: []int{0}}, nil, attack.DefaultConfig())
	require.NoError(t, err)
	assert.Equal(t, m.Config.ClassNames, r.ClassNames)
	assert.Equal(t, "Accuracy on 1 image\n", strings.SplitAfter(r.String(), "\n")[0])
}

// A report of no images prints that, and no number.
func TestEmptyReport(t *testing.T) {
	r := &attack.Report{Attacks: []attack.Outcome{{Name: "PGD"}}}
	assert.True(t, strings.HasPrefix(r.String(), "Accuracy on 0 images\n"))
	assert.Equal(t, []string{"PGD", "0.0", "0.0", "100.0", "0", "", "no", "", "0", ""}, read(t, r.Table())[2])
	assert.Len(t, read(t, r.ClassTable()), 1)
	assert.Nil(t, r.PerClass())
	low, high := r.Interval(0)
	assert.Equal(t, [2]float64{0, 1}, [2]float64{low, high})
}

// The names of the other outcomes are no names of attacks.
func TestReservedNames(t *testing.T) {
	for _, name := range []string{"clean", "worst case"} {
		_, err := attack.Evaluate(ctx, brightest(t), set{x: pixels(0), y: []int{0}}, []attack.Named{{Name: name, Attack: attack.FGSM(0.25, snn.BPTT{})}}, attack.DefaultConfig())
		assert.EqualError(t, err, `attack: evaluate: attack 0 has the name "`+name+`": expected one of its own, other than "clean" and "worst case"`)
	}
}
