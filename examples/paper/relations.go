package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
)

// relation is one that the paper states: the accuracy of a need in a trial is higher than that of
// another.
type relation struct {
	claim          string // what the paper says, in a few words
	of, with       need
	under, against trials.Trial
}

// tested is a relation with its test.
type tested struct {
	Claim string `json:"claim"`
	paired
	Result string `json:"result"` // holds, fails or undecided
	// Worst is the same comparison of the two networks by their worst cases, and WorstResult its
	// result; nil and empty if the relation compares two attacks on one network.
	Worst       *paired `json:"worst_case,omitempty"`
	WorstResult string  `json:"worst_case_result,omitempty"`
}

// resultOf returns what a test says of the statement that the difference is positive: holds, fails
// or undecided.
func resultOf(p paired) string {
	switch p.Verdict {
	case "higher":
		return "holds"
	case "lower":
		return "fails"
	}
	return p.Verdict
}

// moreRobust lists the relations that one method is more accurate than another under attacks.
func moreRobust(claim string, a, b method, source bool, list []trials.Trial) (all []relation) {
	needs := func(m method) need { return need{method: m, source: source} }
	for _, t := range list {
		all = append(all, relation{claim, needs(a), needs(b), t, t})
	}
	return all
}

func relationsOfTable1(o *options) (all []relation) {
	n := need{method: vanilla}
	for _, name := range table1Attacks {
		for _, g := range []snn.Gradient{snn.BPTR{}, snn.BPTT{}} {
			all = append(all, relation{fmt.Sprintf("%v is stronger than CBA", g), n, n, o.trial(name, snn.CBA{}), o.trial(name, g)})
		}
	}
	return all
}

func relationsOfTable2(o *options) []relation {
	if o.weights != "" {
		return nil
	}
	costs := relation{"RAT costs clean accuracy", need{method: vanilla}, need{method: rat}, trials.Clean, trials.Clean}
	all := append([]relation{costs}, moreRobust("RAT is more robust", rat, vanilla, false, append([]trials.Trial{trials.Noise(o.TestEps)}, blackBox(o)...))...)
	return append(all, moreRobust("RAT is more robust, black-box", rat, vanilla, true, blackBox(o))...)
}

func relationsOfTable3(o *options) (all []relation) {
	var list []trials.Trial
	for _, name := range attackNames {
		list = append(list, o.trial(name, snn.BPTT{}))
	}
	for _, c := range []struct {
		claim string
		a, b  method
	}{
		{"REG alone helps", reg, vanilla}, {"MIX alone helps", mix, vanilla},
		{"REG helps beside MIX", rat, mix}, {"MIX helps beside REG", rat, reg},
	} {
		all = append(all, moreRobust(c.claim, c.a, c.b, false, list)...)
	}
	return all
}

func relationsOfTable4(o *options) (all []relation) {
	list := []trials.Trial{o.trial("FGSM", snn.BPTT{}), o.trial("PGD", snn.BPTT{})}
	for _, m := range []method{rate, hire, vanilla} {
		all = append(all, moreRobust("RAT is more robust", rat, m, false, list)...)
	}
	for _, m := range []method{rate, hire} {
		all = append(all, relation{"RAT has more clean accuracy", need{method: rat}, need{method: m}, trials.Clean, trials.Clean})
	}
	return all
}

// test tests the relations on a subject. All that they need must have been evaluated.
func (l *lab) test(s subject, list []relation) (all []tested, err error) {
	right := func(n need, list []trials.Trial) (c correct, err error) {
		for i := range l.Seeds {
			n.replica = i
			r, err := l.record(s, n)
			if err != nil {
				return nil, err
			}
			right, err := r.right(list...)
			if err != nil {
				return nil, err
			}
			c = append(c, right)
		}
		return c, nil
	}
	compare := func(a, b need, under, against []trials.Trial) (paired, error) {
		x, err := right(a, under)
		if err != nil {
			return paired{}, err
		}
		y, err := right(b, against)
		if err != nil {
			return paired{}, err
		}
		p := comparePairs(x, y)
		p.Of, p.With = a.method.Name, b.method.Name
		return p, nil
	}
	for _, r := range list {
		p, err := compare(r.of, r.with, []trials.Trial{r.under}, []trials.Trial{r.against})
		if err != nil {
			return nil, err
		}
		t := tested{Claim: r.claim, paired: p, Result: resultOf(p)}
		t.Under = r.under.String()
		if r.of.method == r.with.method {
			t.Of, t.With = r.under.String(), r.against.String()
			t.Under = r.of.method.Name
		} else if r.under != trials.Clean {
			worst := l.worstTrials(r.of)
			w, err := compare(r.of, r.with, worst, worst)
			if err != nil {
				return nil, err
			}
			w.Under = "worst case"
			t.Worst, t.WorstResult = &w, resultOf(w)
		}
		all = append(all, t)
	}
	return all, nil
}

// worstTrials lists the trials that the worst case of a need counts, clean images among them.
func (l *lab) worstTrials(of need) []trials.Trial {
	i := slices.IndexFunc(l.needs, func(n need) bool { return n.method == of.method && n.source == of.source })
	return upTo(l.needs[i], math.Inf(1))
}

// relationsText returns the tested relations as a table.
func (l *lab) relationsText(list []tested) string {
	t := tables.Table{{"the paper says", "accuracy of", "against", "under", "difference", "95 % interval", "each seed", "McNemar p", "", "by worst cases"}}
	for _, r := range list {
		cells := r.cells()
		cells[len(cells)-1] = r.Result
		t.Add(append(append([]string{r.Claim}, cells...), r.WorstResult)...)
	}
	return t.Text(1, 2, 3, 4, 9, 10) + l.pairedNote()
}
