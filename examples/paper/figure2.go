package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/figures"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
)

// figure2 shows the effects of the projection. They are the accuracy of RAT against the step β, the
// distance that an attack moves the spikes of every layer by, and the singular values of the
// weights.
var figure2 = experiment{
	name:  "figure2",
	archs: []string{"vgg11"},
	plan: func(o *options) (needs []need) {
		for _, m := range []method{vanilla, mix, reg, rat} {
			needs = append(needs, need{method: m, unjudged: true})
		}
		for _, beta := range o.betas {
			needs = append(needs, need{method: rat, beta: beta, trials: betaTrials(o)})
		}
		return needs
	},
	work: func(l *lab) float64 {
		images := 0
		for _, s := range l.subjects {
			images += distanceImages(s)
		}
		return float64(4*len(distanceRadii)*images) * distanceTrial(l.options, 8).Work(2)
	},
	report: reportFigure2,
}

func betaTrials(o *options) []trials.Trial {
	list := []trials.Trial{o.trial("FGSM", snn.BPTT{}), o.trial("PGD", snn.BPTR{}), o.trial("PGD", snn.BPTT{})}
	return append(list, o.battery(o.TestEps)...)
}

// distanceRadii are the ε, in 255ths, at which spikes are compared.
var distanceRadii = []float64{2, 4, 8}

func distanceTrial(o *options, eps float64) trials.Trial {
	return trials.New("PGD", snn.BPTT{}, eps, o.TestAlpha, o.TestSteps)
}

// distanceImages is the number of test images over which distances are averaged.
func distanceImages(s subject) int { return min(s.Test.N, 256) }

// portrait holds the distances and the singular values of a network.
type portrait struct {
	Network   string               `json:"network"`
	Distances []*figures.Distances `json:"distances"` // at each of distanceRadii
	Weights   []figures.Spectrum   `json:"weights"`
}

// anatomy is Figure 2 of a subject.
type anatomy struct {
	Betas     map[string]*summary  `json:"betas"` // of RAT, by β
	Portraits map[string]*portrait `json:"portraits"`
}

func reportFigure2(ctx context.Context, l *lab) (*report, error) {
	r := &report{figures: map[string]plots.Figure{}}
	all := map[string]*anatomy{}
	r.text = l.aboutPaper()
	for _, s := range l.subjects {
		a := &anatomy{map[string]*summary{}, map[string]*portrait{}}
		for _, n := range l.needs {
			var err error
			if n.beta != 0 {
				a.Betas[fmt.Sprint(n.beta)], err = l.summarize(s, n)
			} else {
				a.Portraits[n.method.Name], err = l.portray(ctx, s, l.loaded[l.network(s, n).name])
			}
			if err != nil {
				return nil, err
			}
		}
		all[s.String()] = a
		text := fmt.Sprintf("%v\n", s)
		for _, part := range []struct {
			name string
			draw func(*lab, *anatomy) (plots.Figure, string)
		}{
			{"figure2-beta", drawBetas}, {"figure2-distance", drawDistances}, {"figure2-singular-values", drawSpectra},
		} {
			f, t := part.draw(l, a)
			f.Note = l.note(s)
			r.figures[l.fileName(part.name, s)] = f
			text += "\n" + t
		}
		r.text += text
	}
	r.results = all
	return r, nil
}

// portray returns the portrait of a network.
func (l *lab) portray(ctx context.Context, s subject, j *judged) (*portrait, error) {
	p := &portrait{Network: j.name}
	test, err := s.Test.First(distanceImages(s))
	if err != nil {
		return nil, err
	}
	for _, eps := range distanceRadii {
		t := distanceTrial(l.options, eps)
		d, err := figures.Measure(ctx, j.model, test, attack.Named{Name: t.String(), Attack: t.Adversary()}, l.archive.key())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.name, err)
		}
		p.Distances = append(p.Distances, d)
		l.meter.Add(float64(test.N)*t.Work(2), fmt.Sprintf("%s: spike distances, ε = %v/255", j.name, eps))
	}
	if p.Weights, err = figures.Spectra(ctx, j.model); err != nil {
		return nil, fmt.Errorf("%s: %w", j.name, err)
	}
	l.meter.Finished(j.name + ": spike distances and singular values")
	return p, nil
}

// drawBetas returns a figure and a table of the accuracy of RAT against β.
func drawBetas(l *lab, a *anatomy) (plots.Figure, string) {
	f := plots.Figure{Title: "accuracy of RAT against β", X: "β", Y: "accuracy (%)", XTicks: l.betas, LogX: true, YTicks: []float64{0, 20, 40, 60, 80, 100}}
	t := tables.Table{{"Accuracy in % against β"}}
	list := append([]trials.Trial{trials.Clean}, betaTrials(l.options)...)
	for i, tr := range list {
		line := plots.Line{Name: strings.TrimSpace(tr.Attack + " " + tr.Gradient), Color: i}
		t[0] = append(t[0], line.Name)
		for _, beta := range l.betas {
			sum := a.Betas[fmt.Sprint(beta)]
			line.X, line.Y = append(line.X, beta), append(line.Y, 100*sum.Outcomes[i].Accuracy)
		}
		f.Lines = append(f.Lines, line)
	}
	t[0] = append(t[0], "worst case")
	for _, beta := range l.betas {
		addScore(&t, fmt.Sprint(beta), a.Betas[fmt.Sprint(beta)], list)
	}
	return f, t.String() + l.worstCaseNote("every attack of the row", l.TestEps)
}

// pairs lists the networks that figure2 compares: without and with the projection, on clean
// images and on adversarial examples.
var pairs = []method{vanilla, reg, mix, rat}

// drawDistances returns a figure and a table of the spike distance of every layer. The figure
// has the vanilla network and the one with the projection. The table has all pairs.
func drawDistances(l *lab, a *anatomy) (plots.Figure, string) {
	var curves []figures.Curve
	t := tables.Table{{"Mean D₂/√(neurons·T)", "ε"}}
	for k := range a.Portraits[vanilla.Name].Distances[0].Layers {
		t[0] = append(t[0], fmt.Sprintf("layer %d", k+1))
	}
	for _, m := range pairs {
		for k, d := range a.Portraits[m.Name].Distances {
			eps := fmt.Sprintf("%v/255", distanceRadii[k])
			row := []string{m.Name, eps}
			for _, v := range d.PerNeuron {
				row = append(row, fmt.Sprintf("%.3f", v))
			}
			t.Add(row...)
			if m == vanilla || m == reg {
				curves = append(curves, figures.Curve{Name: m.Name + ", ε = " + eps, Distances: d, Color: k, Dashed: m == vanilla})
			}
		}
	}
	return figures.DrawDistances("spike distance under PGD", curves), t.String()
}

// drawSpectra returns a figure and a table of the distribution of the singular values.
func drawSpectra(l *lab, a *anatomy) (plots.Figure, string) {
	limits := []float64{0.5, 0.9, 1.1, 1.5}
	t := tables.Table{{"Singular values, share in %", "below 0.5", "0.5 to 0.9", "0.9 to 1.1", "1.1 to 1.5", "above 1.5", "largest"}}
	var networks []figures.Network
	for _, m := range pairs {
		counts := make([]float64, len(limits)+1)
		var n, largest float64
		for _, w := range a.Portraits[m.Name].Weights {
			for _, v := range w.Values {
				k, _ := slices.BinarySearch(limits, v)
				counts[k]++
				n++
				largest = max(largest, v)
			}
		}
		row := []string{m.Name}
		for _, c := range counts {
			row = append(row, percent(c/n))
		}
		t.Add(append(row, fmt.Sprintf("%.2f", largest))...)
		networks = append(networks, figures.Network{Name: m.Name, Spectra: a.Portraits[m.Name].Weights})
	}
	f := figures.DrawSpectra("singular values of all weights", networks)
	for i, m := range pairs {
		f.Lines[i].Dashed = m.Mix // its line is close to that of the network without
	}
	return f, t.String()
}
