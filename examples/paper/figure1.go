package main

import (
	"context"
	"fmt"

	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
)

// figure1 is the accuracy against ε under PGD with BPTT.
var figure1 = experiment{
	name:  "figure1",
	archs: []string{"vgg11"},
	plan: func(o *options) (needs []need) {
		for _, black := range []bool{false, true} {
			for _, m := range []method{rat, vanilla} {
				n := need{method: m, source: black, trials: curve(o)}
				if !black {
					n.trials = append(n.trials, o.battery(largest)...)
				}
				needs = append(needs, n)
			}
		}
		return needs
	},
	report: reportFigure1,
}

// radii are the ε of figure1, in 255ths.
var radii = []float64{1, 2, 4, 6, 8, 12, largest}

// largest is the radius of the battery, as the worst case is that over all radii.
const largest = 16

func curve(o *options) (list []trials.Trial) {
	for _, eps := range radii {
		list = append(list, trials.New("PGD", snn.BPTT{}, eps, o.TestAlpha, o.TestSteps))
	}
	return list
}

func reportFigure1(_ context.Context, l *lab) (*report, error) {
	r := &report{figures: map[string]plots.Figure{}}
	all := map[string][]*summary{}
	r.text = fmt.Sprintf("Accuracy in %% under PGD (BPTT, %d steps of %v) against ε (255ths)\n%s", l.TestSteps, l.TestAlpha, l.aboutPaper())
	for _, s := range l.subjects {
		f := plots.Figure{
			Title:  fmt.Sprintf("accuracy under PGD (BPTT, %d steps)", l.TestSteps),
			Note:   l.note(s),
			X:      "ε (255ths)",
			Y:      "accuracy (%)",
			XTicks: []float64{0, 2, 4, 6, 8, 12, 16},
			YTicks: []float64{0, 20, 40, 60, 80, 100},
		}
		t := tables.Table{{"ε", "0"}}
		for _, eps := range radii {
			t[0] = append(t[0], fmt.Sprint(eps))
		}
		t[0] = append(append(t[0], l.batteryHeading()...), "worst case")
		columns := append(append([]trials.Trial{trials.Clean}, curve(l.options)...), l.battery(largest)...)
		for _, n := range l.needs {
			sum, err := l.summarize(s, n)
			if err != nil {
				return nil, err
			}
			all[s.String()] = append(all[s.String()], sum)
			line := plots.Line{Name: n.method.Name + ", white-box", Dashed: n.source}
			if n.source {
				line.Name = n.method.Name + ", black-box"
			}
			if n.method == vanilla {
				line.Color = 1
			}
			for _, o := range sum.Outcomes {
				if o.Preset == "" {
					line.X, line.Y = append(line.X, o.Eps), append(line.Y, 100*o.Accuracy)
				}
			}
			f.Lines = append(f.Lines, line)
			addScore(&t, line.Name, sum, columns)
		}
		r.figures[l.fileName("figure1", s)] = f
		r.text += fmt.Sprintf("\n%v\n%v", s, t)
	}
	r.text += "\n" + l.worstCaseNote("every attack of the row", largest)
	r.results = all
	return r, nil
}

// fileName names a subject's figure.
func (l *lab) fileName(name string, s subject) string {
	if len(l.subjects) == 1 {
		return name
	}
	return name + "-" + slug(s.String())
}
