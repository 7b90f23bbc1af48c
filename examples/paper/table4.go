package main

import (
	"context"
	"fmt"

	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
)

// table4 compares RAT with earlier defences.
var table4 = experiment{
	name:  "table4",
	archs: []string{"vgg11"},
	plan: func(o *options) (needs []need) {
		for _, m := range []method{vanilla, rate, hire, rat} {
			needs = append(needs, need{method: m, trials: defenceTrials(o)})
		}
		return needs
	},
	report:    reportTable4,
	relations: relationsOfTable4,
}

// defences are the names of table4's rows.
var defences = map[method]string{
	vanilla: "vanilla", rate: "Sharmin et al. 2020", hire: "HIRE-SNN (Kundu et al. 2021)", rat: "RAT",
}

func defenceTrials(o *options) []trials.Trial {
	list := []trials.Trial{trials.Noise(o.TestEps)}
	for _, g := range []snn.Gradient{snn.BPTR{}, snn.BPTT{}} {
		for _, name := range table1Attacks {
			list = append(list, o.trial(name, g))
		}
	}
	return append(list, o.battery(o.TestEps)...)
}

func reportTable4(_ context.Context, l *lab) (*report, error) {
	all := map[string]map[string]*summary{}
	text := fmt.Sprintf("Accuracy in %% under white-box attacks at ε = %v/255\n"+
		"(Sharmin et al.: Poisson input, leaky neurons, %d steps; HIRE-SNN: %d steps in %d periods, pixels moved by %v/255)\n%s",
		l.TestEps, l.RateSteps, l.HIRESteps, l.HIREPeriods, l.HIREEps, l.aboutPaper())
	for _, s := range l.subjects {
		all[s.String()] = map[string]*summary{}
		t := tables.Table{{"", "", "", "BPTR", "", "", "BPTT"}, {"defence", "clean", "noise"}}
		for range 2 {
			t[1] = append(t[1], table1Attacks...)
		}
		t[1] = append(append(t[1], l.batteryHeading()...), "worst case")
		for _, n := range l.eachOnce() {
			sum, err := l.pool(s, n)
			if err != nil {
				return nil, err
			}
			all[s.String()][n.method.Name] = sum
			addScore(&t, defences[n.method], sum, n.toJudge())
		}
		text += fmt.Sprintf("\n%v\n%v", s, t)
	}
	return &report{text: text + "\n" + l.worstCaseNote("every attack of the table's part", l.TestEps), results: all}, nil
}
