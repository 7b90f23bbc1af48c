package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
)

// table2 compares RAT with vanilla training, under attacks on the network itself (white-box)
// and on another network (black-box).
var table2 = experiment{
	name:  "table2",
	archs: []string{"vgg11", "wrn-16-4"},
	plan: func(o *options) (needs []need) {
		for _, m := range o.compared() {
			needs = append(needs, need{method: m, trials: whiteBox(o)})
			if o.weights == "" || o.source != "" {
				needs = append(needs, need{method: m, source: true, trials: blackBox(o)})
			}
		}
		return needs
	},
	report:    reportTable2,
	relations: relationsOfTable2,
}

// compared lists the networks of Table 2. A cell has the accuracy of the first and, in
// brackets, that of the second.
func (o *options) compared() []method {
	if o.weights != "" {
		return []method{given}
	}
	return []method{rat, vanilla}
}

// attackNames are the attacks of Table 2.
var attackNames = []string{"FGSM", "RFGSM", "PGD", "BIM"}

// blackBox lists the attacks of Table 2.
func blackBox(o *options) (list []trials.Trial) {
	for _, name := range attackNames {
		list = append(list, o.trial(name, snn.BPTR{}), o.trial(name, snn.BPTT{}))
	}
	return list
}

// whiteBox lists the attacks of Table 2, noise, attacks by CBA, and the battery. The paper has
// CBA in Table 1 only, but the worst case needs the strongest attacks.
func whiteBox(o *options) []trials.Trial {
	list := append(blackBox(o), trials.Noise(o.TestEps))
	for _, name := range table1Attacks {
		list = append(list, o.trial(name, snn.CBA{}))
	}
	return append(list, o.battery(o.TestEps)...)
}

// table1Attacks are the attacks of Table 1.
var table1Attacks = []string{"FGSM", "RFGSM", "PGD"}

// trial returns an attack at the test's settings.
func (o *options) trial(name string, g snn.Gradient) trials.Trial {
	return trials.New(name, g, o.TestEps, o.TestAlpha, o.TestSteps)
}

// comparison is Table 2 of a subject. The keys are the names of the methods.
type comparison struct {
	Subject string              `json:"subject"`
	White   map[string]*summary `json:"white_box"`
	Black   map[string]*summary `json:"black_box"`
}

func reportTable2(_ context.Context, l *lab) (*report, error) {
	var all []comparison
	what := "RAT (vanilla)"
	if l.weights != "" {
		what = l.weights
	}
	text := fmt.Sprintf("Accuracy in %% at ε = %v/255: %s\n%s", l.TestEps, what, l.aboutPaper())
	for _, s := range l.subjects {
		c := comparison{s.String(), map[string]*summary{}, map[string]*summary{}}
		for _, n := range l.eachOnce() {
			sum, err := l.pool(s, n)
			if err != nil {
				return nil, err
			}
			if n.source {
				c.Black[n.method.Name] = sum
			} else {
				c.White[n.method.Name] = sum
			}
		}
		all = append(all, c)
		text += fmt.Sprintf("\n%v\n%v", s, c.table(l.options))
	}
	return &report{text: text + "\n" + l.worstCaseNote("every attack of the table's part", l.TestEps), results: all}, nil
}

// table returns the comparison in the form of the paper's table, with its figures below ours.
func (c comparison) table(o *options) tables.Table {
	cell := func(in map[string]*summary, text func(*summary) string) string {
		var cell string
		for i, m := range o.compared() {
			if sum := in[m.Name]; sum != nil && i == 0 {
				cell = text(sum)
			} else if sum != nil {
				cell += fmt.Sprintf(" (%4s)", text(sum))
			}
		}
		return cell
	}
	t := tables.Table{{"", "white-box", "", "", "black-box"}, {"", "BPTR", "BPTT", "CBA", "BPTR", "BPTT"}}
	row := func(name string, white, black []trials.Trial) {
		ours, paper := []string{name}, []string{"  paper"}
		add := func(in map[string]*summary, list []trials.Trial) {
			for _, tr := range list {
				ours = append(ours, cell(in, func(s *summary) string { a, _ := s.percent(tr); return a }))
				paper = append(paper, cell(in, func(s *summary) string { _, p := s.percent(tr); return p }))
			}
		}
		add(c.White, white)
		for len(ours) < 4 {
			ours, paper = append(ours, ""), append(paper, "")
		}
		add(c.Black, black)
		t.Add(ours...)
		if strings.ContainsAny(strings.Join(paper[1:], ""), "0123456789") {
			t.Add(paper...)
		}
	}
	row("clean", []trials.Trial{trials.Clean}, nil)
	row("noise", []trials.Trial{trials.Noise(o.TestEps)}, nil)
	for _, name := range attackNames {
		both := []trials.Trial{o.trial(name, snn.BPTR{}), o.trial(name, snn.BPTT{})}
		white := both
		if slices.Contains(table1Attacks, name) {
			white = append(slices.Clone(both), o.trial(name, snn.CBA{}))
		}
		row(name, white, both)
	}
	if list := o.battery(o.TestEps); list != nil {
		row("battery", list, nil)
	}
	worst := func(s *summary) string { return withSD(s.WorstCase, s.WorstCaseSD) }
	t.Add("worst case", cell(c.White, worst), "", "", cell(c.Black, worst))
	return t
}
