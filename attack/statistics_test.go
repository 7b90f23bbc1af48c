package attack_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/snn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The values are those of statsmodels 0.15.0:
//
//	from statsmodels.stats.proportion import proportion_confint
//	proportion_confint(k, n, alpha=0.05, method="wilson")
//
// Newcombe (1998, Table I) has four of them to four digits: 81 of 263 gives 0.2553 to 0.3662,
// 15 of 148 gives 0.0624 to 0.1605, and 1 of 29 gives 0.0061 to 0.1718.
func TestWilson(t *testing.T) {
	for _, c := range []struct {
		k, n      int
		low, high float64
	}{
		{0, 1, 0, 0.7934506856227627},
		{1, 1, 0.2065493143772374, 1},
		{0, 10, 0, 0.27753279986288926},
		{10, 10, 0.7224672001371106, 1},
		{1, 29, 0.006113214292762667, 0.17175521879320294},
		{81, 263, 0.2552885198782742, 0.36620957698280004},
		{15, 148, 0.06238639953073628, 0.16048724172330803},
		{7, 9, 0.45258896910698887, 0.9367748928821533},
		{9123, 10000, 0.9065965642806005, 0.9176867906629395},
		{500000, 1000000, 0.4990200198900048, 0.5009799801099952},
	} {
		low, high := attack.Wilson(c.k, c.n)
		assert.InDelta(t, c.low, low, 1e-12, "%d of %d", c.k, c.n)
		assert.InDelta(t, c.high, high, 1e-12, "%d of %d", c.k, c.n)
		r := attack.Report{Images: c.n}
		again, _ := r.Interval(float64(c.k) / float64(c.n))
		assert.Equal(t, low, again)
	}
	for n := range 200 {
		low, _ := attack.Wilson(0, n)
		_, high := attack.Wilson(n, n)
		assert.Equal(t, [2]float64{0, 1}, [2]float64{low, high}, n)
	}
	for _, k := range []int{-1, 4} {
		assert.PanicsWithValue(t, fmt.Sprintf("attack: Wilson: %d cases of 3: expected a number from 0 to 3", k), func() { attack.Wilson(k, 3) })
	}
}

// pair returns two reports whose networks both, alone or neither classify so many images as
// labelled, under clean and under PGD.
func pair(both, onlyA, onlyB, neither int) (a, b *attack.Report) {
	n := both + onlyA + onlyB + neither
	report := func(right func(i int) bool) *attack.Report {
		r := &attack.Report{
			Images: n, Labels: make([]int, n), ClassNames: []string{"cat", "dog"}, Digest: "d", Key: "k", Norm: "L∞", Eps: 0.25,
			Clean: attack.Outcome{Name: "clean", Predicted: make([]int, n)}, Survived: make([]bool, n),
		}
		for i := range n {
			r.Labels[i] = i % 2
			r.Clean.Predicted[i] = i % 2
			if r.Survived[i] = right(i); !r.Survived[i] {
				r.Clean.Predicted[i] = 1 - i%2
			}
		}
		for i := range n {
			if r.Survived[i] {
				r.WorstCase += 1 / float64(n)
			}
		}
		r.Clean.Accuracy = r.WorstCase
		r.Attacks = []attack.Outcome{
			{Name: "PGD", Accuracy: r.WorstCase, Predicted: slices.Clone(r.Clean.Predicted), Norm: "L∞", Eps: 0.25, InWorstCase: true, Settings: &attack.Settings{Kind: "gradient attack", Steps: 7, Alpha: 0.1}},
			{Name: "noise", Accuracy: r.WorstCase, Predicted: slices.Clone(r.Clean.Predicted), Norm: "none", Settings: &attack.Settings{Kind: "Gaussian noise"}},
		}
		return r
	}
	return report(func(i int) bool { return i < both+onlyA }),
		report(func(i int) bool { return i < both || i >= both+onlyA && i < both+onlyA+onlyB })
}

// The p-values are those of statsmodels 0.15.0:
//
//	from statsmodels.stats.contingency_tables import mcnemar
//	mcnemar([[101, b], [c, 33]], exact=True).pvalue
func TestMcNemar(t *testing.T) {
	for _, c := range []struct {
		onlyA, onlyB int
		p            float64
	}{
		{0, 0, 1}, {0, 1, 1}, {0, 5, 0.0625}, {6, 16, 0.052478790283203125}, {10, 10, 1}, {3, 12, 0.03515625},
		{59, 6, 4.964650327128616e-12}, {121, 59, 4.4344492637551645e-06}, {1000, 1100, 0.03072070786424249}, {25, 25, 1},
	} {
		a, b := pair(101, c.onlyA, c.onlyB, 33)
		for _, under := range []string{"clean", "PGD", "noise", "worst case"} {
			got, err := attack.McNemar(a, b, under)
			require.NoError(t, err)
			assert.InEpsilon(t, c.p, got.P, 1e-9, "%d %d", c.onlyA, c.onlyB)
			got.P = 0
			assert.Equal(t, attack.Comparison{Under: under, Both: 101, OnlyA: c.onlyA, OnlyB: c.onlyB, Neither: 33}, got)
		}
	}
	a, b := pair(101, 3, 12, 33)
	got, err := attack.McNemar(a, b, "PGD")
	require.NoError(t, err)
	assert.Equal(t, "PGD: a and b classify 101 images correctly, a alone 3, b alone 12, neither 33; McNemar p = 0.0352", got.String())
}

func TestMcNemarErrors(t *testing.T) {
	// each returns the same error for some outcomes; the others have none.
	each := func(want string, under ...string) map[string]string {
		errs := map[string]string{}
		for _, name := range under {
			errs[name] = want
		}
		return errs
	}
	all := []string{"clean", "PGD", "worst case"}
	for _, c := range []struct {
		change func(b *attack.Report)
		want   map[string]string
	}{
		{func(b *attack.Report) { *b = attack.Report{} }, each("a report of no images: expected at least one", all...)},
		{func(b *attack.Report) { b.Labels = b.Labels[1:] }, each("labels of 9 images: expected the 10 of images", all...)},
		{func(b *attack.Report) { b.Labels[3] = 0 }, each("image 3 has the labels 1 and 0: expected reports of the same images", all...)},
		{func(b *attack.Report) { b.Digest = "0123456789" }, each("images with the digests d… and 01234567…: expected reports of the same images", all...)},
		{func(b *attack.Report) { b.ClassNames = []string{"dog", "cat"} }, each(`reports of the classes ["cat" "dog"] and ["dog" "cat"]: expected the same classes`, all...)},
		{func(b *attack.Report) { b.ClassNames, b.Digest = nil, "" }, nil},
		{func(b *attack.Report) { b.Attacks[0].Name = "BIM" }, map[string]string{
			"PGD":        `a report without an outcome "PGD": expected one of ["BIM" "clean" "noise" "worst case"]`,
			"worst case": "attack BIM counts in one worst case alone: expected the same attacks",
		}},
		{func(b *attack.Report) { b.Key = "0123456789" }, each("reports with the keys k… and 01234567…: expected the same random numbers", all[1:]...)},
		{func(b *attack.Report) { b.BlackBox = true }, each("white-box and black-box attacks: expected the same", all[1:]...)},
		{func(b *attack.Report) { b.Eps = 8. / 255 }, each("worst cases within L∞ 0.25 and L∞ 8/255: expected one threat model", all[2:]...)},
		{func(b *attack.Report) { b.Attacks[0].Norm = "L2" }, each("attack PGD within L∞ 0.25 and L2 0.25: expected one threat model", all[1:]...)},
		{func(b *attack.Report) {
			b.Attacks[0].Settings = &attack.Settings{Kind: "gradient attack", Steps: 20, Alpha: 0.1}
		}, each(`attack PGD with the settings "7 steps of 0.1" and "20 steps of 0.1": expected the same`, all[1:]...)},
		{func(b *attack.Report) {
			b.Attacks[0].Settings = &attack.Settings{Kind: "gradient attack", Steps: 7, Alpha: 0.1, KeepBest: true}
		}, each(`attack PGD with the settings {"kind":"gradient attack","steps":7,"alpha":0.1} and {"kind":"gradient attack","steps":7,"alpha":0.1,"keep_best":true}: expected the same`, all[1:]...)},
		{func(b *attack.Report) { b.Attacks[0].Settings = nil }, each(`attack PGD with the settings "7 steps of 0.1" and "": expected the same`, all[1:]...)},
	} {
		for _, under := range all {
			a, b := pair(4, 1, 3, 2)
			c.change(b)
			got, err := attack.McNemar(a, b, under)
			_, back := attack.McNemar(b, a, under)
			if c.want[under] == "" {
				assert.NoError(t, err, "%s: %v", under, c.want)
				continue
			}
			assert.EqualError(t, err, "attack: McNemar: "+c.want[under])
			assert.Error(t, back)
			assert.Zero(t, got)
		}
	}
	a, _ := pair(4, 1, 3, 2)
	_, err := attack.McNemar(a, nil, "clean")
	assert.EqualError(t, err, "attack: McNemar: a nil report: expected two reports")
	b, _ := pair(4, 1, 3, 3)
	_, err = attack.McNemar(a, b, "clean")
	assert.EqualError(t, err, "attack: McNemar: reports of 10 and 11 images: expected the same images")
}

// Reports of Evaluate on the same images can be compared; one other pixel is noticed.
func TestMcNemarEvaluated(t *testing.T) {
	m, other := brightest(t), brightest(t)
	other.Params()[0].Import([]float32{1, 0, 0, 0, 1, 0, 0, 0, -1})
	data := set{x: pixels(0, 1, 2, 0), y: []int{0, 1, 2, 0}}
	attacks := []attack.Named{
		{Name: "FGSM", Attack: attack.FGSM(0.25, snn.BPTT{})},
		{Name: "first", Attack: made{pixels(1, 1, 2, 0)}}, // image 0 is lost
	}
	evaluate := func(m *snn.Model, data set, batch int) *attack.Report {
		cfg := attack.DefaultConfig()
		cfg.Batch, cfg.Threat = batch, whole
		r, err := attack.Evaluate(ctx, m, data, attacks, cfg)
		require.NoError(t, err)
		return r
	}
	a := evaluate(m, data, 4)
	b := evaluate(other, data, 3)
	for under, lost := range map[string]int{"clean": 0, "FGSM": 0, "first": 1, "worst case": 1} {
		got, err := attack.McNemar(a, b, under)
		require.NoError(t, err)
		assert.Equal(t, attack.Comparison{Under: under, Both: 3 - lost, OnlyA: 1, Neither: lost, P: 1}, got)
	}

	brighter := set{x: data.x.Clone(), y: data.y}
	brighter.x.Data[11] = 0.125
	_, err := attack.McNemar(a, evaluate(m, brighter, 4), "clean")
	assert.ErrorContains(t, err, "expected reports of the same images")
}

// A report's JSON is checked when it is read.
func TestReportFromJSON(t *testing.T) {
	a, _ := pair(4, 1, 3, 2)
	a.Attacks[0].Target = []int{-1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	text, err := json.Marshal(a)
	require.NoError(t, err)
	var back attack.Report
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, *a, back)
	assert.Equal(t, a.String(), back.String())

	for _, c := range []struct {
		change func(r *attack.Report)
		want   string
	}{
		{func(r *attack.Report) { r.Images = -1 }, "labels of 10 images: expected the -1 of images"},
		{func(r *attack.Report) { r.Labels[1] = -1 }, "labels of image 1: -1: expected a class of at least 0"},
		{func(r *attack.Report) { r.Survived = nil }, "survived of 0 images: expected the 10 of images"},
		{func(r *attack.Report) { r.WorstCase = 1.5 }, "worst_case_accuracy 1.5: expected a number from 0 to 1"},
		{func(r *attack.Report) { r.Clean.Predicted[2] = -1 }, "clean: predicted of image 2: -1: expected a class of at least 0"},
		{func(r *attack.Report) { r.Attacks[0].Accuracy = -1 }, "PGD: accuracy -1: expected a number from 0 to 1"},
		{func(r *attack.Report) { r.Attacks[0].Predicted = nil }, "PGD: predicted of 0 images: expected the 10 of images"},
		{func(r *attack.Report) { r.Attacks[1].Success = make([]bool, 2) }, "noise: success of 2 images: expected the 10 of images"},
		{func(r *attack.Report) { r.Attacks[0].Target[0] = -2 }, "PGD: target of image 0: -2: expected a class of at least -1"},
		{func(r *attack.Report) { r.Clean.Accuracy = 0.6 }, "clean: accuracy 0.6: expected that of the predictions, of which 5 of 10 are right"},
		{func(r *attack.Report) { r.Attacks[1].Accuracy = 1 }, "noise: accuracy 1: expected that of the predictions, of which 5 of 10 are right"},
		{func(r *attack.Report) { r.Survived[9] = true }, "survived of image 9 is true: expected false by the predictions"},
		{func(r *attack.Report) { r.WorstCase = 0.9 }, "worst_case_accuracy 0.9: expected that of survived, which is true for 5 of 10"},
		{func(r *attack.Report) { r.Attacks[0].Predicted[0] = 1; r.Attacks[0].Accuracy = 0.4 }, "survived of image 0 is true: expected false by the predictions"},
		{func(r *attack.Report) { r.Attacks[1].Name = "PGD" }, `attack 1 has the name "PGD": expected one of its own, other than "clean" and "worst case"`},
	} {
		r, _ := pair(4, 1, 3, 2)
		r.Attacks[0].Target = make([]int, 10)
		c.change(r)
		text, err := json.Marshal(r)
		require.NoError(t, err)
		assert.EqualError(t, json.Unmarshal(text, &back), "attack: report: "+c.want)
	}
	assert.ErrorContains(t, json.Unmarshal([]byte(`{"images": "two"}`), &back), "images")
	assert.Equal(t, *a, back, "which no error changed")

	// Nothing is left of an earlier report.
	b, _ := pair(1, 1, 0, 0)
	b.ClassNames, b.Digest = nil, ""
	text, err = json.Marshal(b)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, *b, back)
}
