package main

import (
	"context"
	"fmt"

	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
)

// table1 compares the gradient approximations, in attacks on vanilla networks.
var table1 = experiment{
	name:  "table1",
	archs: []string{"vgg11", "wrn-16-4"},
	plan: func(o *options) []need {
		n := need{method: vanilla}
		for _, name := range table1Attacks {
			for _, g := range trials.Gradients {
				n.trials = append(n.trials, o.trial(name, g))
			}
		}
		n.trials = append(n.trials, o.battery(o.TestEps)...)
		return []need{n}
	},
	report:    reportTable1,
	relations: relationsOfTable1,
}

func reportTable1(_ context.Context, l *lab) (*report, error) {
	all := map[string]*summary{}
	t := tables.Table{{"", "clean"}, {"", ""}}
	for _, name := range table1Attacks {
		t[0] = append(t[0], name, "", "")
		for _, g := range trials.Gradients {
			t[1] = append(t[1], fmt.Sprint(g))
		}
	}
	t[0] = append(append(t[0], l.batteryHeading()...), "worst case")
	for _, s := range l.subjects {
		sum, err := l.pool(s, l.needs[0])
		if err != nil {
			return nil, err
		}
		all[s.String()] = sum
		addScore(&t, s.String(), sum, append([]trials.Trial{trials.Clean}, l.needs[0].trials...))
	}
	text := fmt.Sprintf("Accuracy in %% of vanilla networks under white-box attacks at ε = %v/255\n%s\n%v\n%s", l.TestEps, l.aboutPaper(), t, l.worstCaseNote("every attack of the table's part", l.TestEps))
	return &report{text: text, results: all}, nil
}

// addScore adds a row of a network's accuracies and its worst case. It adds a row of the
// paper's accuracies below if the paper reports one of them.
func addScore(t *tables.Table, name string, sum *summary, list []trials.Trial) {
	ours, paper := []string{name}, []string{"  paper"}
	known := false
	for _, tr := range list {
		a, p := sum.percent(tr)
		ours, paper = append(ours, a), append(paper, p)
		known = known || p != "–" && p != ""
	}
	t.Add(append(ours, withSD(sum.WorstCase, sum.WorstCaseSD))...)
	if known {
		t.Add(paper...)
	}
}
