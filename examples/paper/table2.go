package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn"
)

// table2 sets RAT beside vanilla training, under attacks on the network itself
// (white-box) and on another one (black-box).
var table2 = experiment{
	name:  "table2",
	archs: []string{"vgg11", "wrn-16-4"},
	plan: func(o *options) (needs []need) {
		for _, m := range []method{vanilla, rat} {
			needs = append(needs, need{method: m, trials: whiteBox(o)}, need{method: m, source: true, trials: blackBox(o)})
		}
		return needs
	},
	report: reportTable2,
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

// whiteBox lists the attacks of Table 2, noise, and attacks by way of activations,
// which the paper has in Table 1 alone: what is trusted is the worst case.
func whiteBox(o *options) []trials.Trial {
	list := append(blackBox(o), trials.Noise(o.TestEps))
	for _, name := range table1Attacks {
		list = append(list, o.trial(name, snn.CBA{}))
	}
	return list
}

// table1Attacks are the attacks of Table 1.
var table1Attacks = []string{"FGSM", "RFGSM", "PGD"}

// trial returns an attack at the test's settings.
func (o *options) trial(name string, g snn.Gradient) trials.Trial {
	return trials.New(name, g, o.TestEps, o.TestAlpha, o.TestSteps)
}

// comparison is Table 2 of a subject: RAT beside vanilla.
type comparison struct {
	Subject string              `json:"subject"`
	White   map[string]*summary `json:"white_box"`
	Black   map[string]*summary `json:"black_box"`
}

func reportTable2(_ context.Context, l *lab) (*report, error) {
	var all []comparison
	text := fmt.Sprintf("Accuracy in %% at ε = %v/255: RAT (vanilla)\n", l.TestEps)
	for _, s := range l.subjects {
		c := comparison{s.String(), map[string]*summary{}, map[string]*summary{}}
		for _, n := range l.needs {
			sum, err := l.summarize(s, n)
			if err != nil {
				return nil, err
			}
			to := c.White
			if n.source {
				to = c.Black
			}
			to[n.method.Name] = sum
		}
		all = append(all, c)
		text += fmt.Sprintf("\n%v\n%v", s, c.table(l.options))
	}
	return &report{text: text + "\n" + notes, results: all}, nil
}

// notes explain the tables.
const notes = "Worst case: images classified as labelled when clean and under every attack of the column.\n" + unverified

// table writes the comparison in the form of the paper's, its figures below ours where
// they are known.
func (c comparison) table(o *options) table {
	both := func(in map[string]*summary, t trials.Trial) (ours, paper string) {
		a, pa := in["rat"].percent(t)
		b, pb := in["vanilla"].percent(t)
		if pa == "–" && pb == "–" {
			return fmt.Sprintf("%s (%4s)", a, b), "–"
		}
		return fmt.Sprintf("%s (%4s)", a, b), fmt.Sprintf("%s (%4s)", pa, pb)
	}
	t := table{{"", "white-box", "", "", "black-box"}, {"", "BPTR", "BPTT", "CBA", "BPTR", "BPTT"}}
	row := func(name string, white, black []trials.Trial) {
		ours, paper := []string{name}, []string{"  paper"}
		known := false
		for i, list := range [][]trials.Trial{white, black} {
			for _, t := range list {
				a, p := both([]map[string]*summary{c.White, c.Black}[i], t)
				ours, paper = append(ours, a), append(paper, p)
				known = known || p != "–"
			}
			for len(ours) < 4 {
				ours, paper = append(ours, ""), append(paper, "")
			}
		}
		t.add(ours...)
		if known {
			t.add(paper...)
		}
	}
	row("clean", []trials.Trial{trials.Clean}, nil)
	row("noise", []trials.Trial{trials.Noise(o.TestEps)}, nil)
	for _, name := range attackNames {
		white := []trials.Trial{o.trial(name, snn.BPTR{}), o.trial(name, snn.BPTT{})}
		black := white
		if slices.Contains(table1Attacks, name) {
			white = append(slices.Clone(white), o.trial(name, snn.CBA{}))
		}
		row(name, white, black)
	}
	worst := func(in map[string]*summary) string {
		return fmt.Sprintf("%s (%4s)", percent(in["rat"].WorstCase), percent(in["vanilla"].WorstCase))
	}
	t.add("worst case", worst(c.White), "", "", worst(c.Black))
	return t
}
