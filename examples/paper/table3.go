package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
)

// table3 is the ablation of RAT's parts. Its worst case has the attacks by CBA of table2, too.
var table3 = experiment{
	name:  "table3",
	archs: []string{"vgg11"},
	plan: func(o *options) (needs []need) {
		for _, m := range []method{vanilla, mix, reg, rat} {
			needs = append(needs, need{method: m, trials: whiteBox(o)})
		}
		return needs
	},
	report:    reportTable3,
	relations: relationsOfTable3,
}

func reportTable3(_ context.Context, l *lab) (*report, error) {
	all := map[string]map[string]*summary{}
	text := fmt.Sprintf("Accuracy in %% under white-box attacks at ε = %v/255, with (+) and without (-) adversarial examples (MIX)\n"+
		"and the projection of the weights (REG; L2 weight decay without)\n%s", l.TestEps, l.aboutPaper())
	for _, s := range l.subjects {
		all[s.String()] = map[string]*summary{}
		t := tables.Table{{"", "", "", "BPTR", "", "", "", "BPTT"}, {"MIX REG", "clean", "noise"}}
		columns := []trials.Trial{trials.Clean, trials.Noise(l.TestEps)}
		for _, g := range []snn.Gradient{snn.BPTR{}, snn.BPTT{}} {
			for _, name := range attackNames {
				t[1] = append(t[1], name)
				columns = append(columns, l.trial(name, g))
			}
		}
		t[1] = append(append(t[1], l.batteryHeading()...), "worst case")
		columns = append(columns, l.battery(l.TestEps)...)
		for _, n := range l.eachOnce() {
			sum, err := l.pool(s, n)
			if err != nil {
				return nil, err
			}
			all[s.String()][n.method.Name] = sum
			sign := map[bool]string{true: "+", false: "-"}
			addScore(&t, fmt.Sprintf(" %s   %s", sign[n.method.Mix], sign[n.method.Reg]), sum, columns)
		}
		text += fmt.Sprintf("\n%v\n%v", s, t)
	}
	return &report{text: text + "\n" + l.worstCaseNote(
		"every attack of the table and under "+strings.Join(table1Attacks, ", ")+" by CBA", l.TestEps), results: all}, nil
}
