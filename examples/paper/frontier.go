package main

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/internal/tables"
	"gonum.org/v1/gonum/floats"
)

// frontier compares methods with RAT at equal accuracy on clean images. RAT is trained with each ε of
// -train-radii, and so are the other methods that train with ε.
var frontier = experiment{
	name:   frontierName,
	archs:  []string{"vgg11"},
	plan:   planFrontier,
	report: reportFrontier,
}

const frontierName = "frontier"

func planFrontier(o *options) (needs []need) {
	add := func(n need) {
		if !slices.ContainsFunc(needs, func(m need) bool { return m.method == n.method && m.quiet == n.quiet && m.eps == n.eps }) {
			needs = append(needs, n)
		}
	}
	for _, name := range o.Methods {
		n := trainingNamed(name).need()
		n.trials = o.trialsAtRadii()
		if n.eps != 0 || !n.training().hasEps() {
			add(n)
			continue
		}
		for _, n.eps = range o.TrainRadii {
			add(n)
		}
	}
	return needs
}

// trainedAt is what frontier says of a method with an ε in training.
type trainedAt struct {
	Method   string      `json:"method"`
	Eps      float64     `json:"eps_255,omitempty"` // in training; 0 if the method has no such ε
	Networks []*summary  `json:"networks"`          // one for each seed
	Clean    *estimate   `json:"clean"`
	PGD      []*estimate `json:"pgd"`   // at each radius
	Worst    []*estimate `json:"worst"` // at each radius: clean, and PGD and the battery at all radii up to this one
}

func (t *trainedAt) label() string { return methodAt(t.Method, t.Eps) }

// methodAt names a method with its ε in training in 255ths, 0 for none of its own.
func methodAt(method string, eps float64) string {
	if eps == 0 {
		return method
	}
	return fmt.Sprintf("%s, ε=%v", method, eps)
}

// frontierOf is the frontier of a subject.
type frontierOf struct {
	Networks    []*trainedAt `json:"networks"`
	Comparisons []paired     `json:"comparisons"` // of the worst cases with RAT's at equal clean accuracy
}

func reportFrontier(_ context.Context, l *lab) (*report, error) {
	r := &report{figures: map[string]plots.Figure{}, text: "Worst cases against those of RAT at equal accuracy on clean images\n"}
	all := map[string]*frontierOf{}
	for _, s := range l.subjects {
		f := &frontierOf{}
		for _, n := range l.eachOnce() {
			found, err := l.replicas(s, n)
			if err != nil {
				return nil, err
			}
			t := &trainedAt{Method: n.training().Name, Eps: n.eps, Networks: found.networks, Clean: newEstimate(found.clean)}
			for k := range l.Radii {
				t.PGD, t.Worst = append(t.PGD, newEstimate(found.pgd[k])), append(t.Worst, newEstimate(found.worst[k]))
			}
			f.Networks = append(f.Networks, t)
		}
		f.compare(l.Radii)
		all[s.String()] = f
		r.text += fmt.Sprintf("\n%v\n\n%v\n%v", s, l.frontierTable(f), l.comparisonTable(f.Comparisons))
		figure := l.drawFrontier(f)
		figure.Note = l.note(s)
		r.figures[l.fileName(l.resultName(), s)] = figure
	}
	r.text += "\nRAT at the clean accuracy of a network: the best mixture of at most two RAT networks that has at least this accuracy, by the\n" +
		"means over seeds and images. A mixture answers with one of its networks, drawn for each image.\n" + l.radiiNote()
	r.results = all
	return r, nil
}

// mixture is a network that answers as a with the chance share, and as b otherwise.
type mixture struct {
	a, b  *trainedAt
	share float64
}

// worst returns the chance that each image is right in the worst case at radius k.
func (m mixture) worst(k int) [][]float64 {
	v, other := m.a.Worst[k].right.values(), m.b.Worst[k].right.values()
	for s := range v {
		floats.Scale(m.share, v[s])
		floats.AddScaled(v[s], 1-m.share, other[s])
	}
	return v
}

func (m mixture) label() string {
	if m.a == m.b {
		return m.a.label()
	}
	return fmt.Sprintf("%.2f·(%s) + %.2f·(%s)", m.share, m.a.label(), 1-m.share, m.b.label())
}

// bestMixture returns the mixture of at most two networks with the best worst case at radius k of
// those with a clean accuracy of at least clean. There is none if every network has less.
func bestMixture(list []*trainedAt, clean float64, k int) (best mixture, ok bool) {
	value := -1.0
	try := func(m mixture) {
		if v := m.share*m.a.Worst[k].Accuracy + (1-m.share)*m.b.Worst[k].Accuracy; v > value {
			best, value = m, v
		}
	}
	for _, a := range list {
		if a.Clean.Accuracy < clean {
			continue
		}
		try(mixture{a, a, 1})
		for _, b := range list {
			if b.Clean.Accuracy < clean {
				try(mixture{a, b, (clean - b.Clean.Accuracy) / (a.Clean.Accuracy - b.Clean.Accuracy)})
			}
		}
	}
	return best, value >= 0
}

// compare compares all networks but RAT's with RAT at their clean accuracies.
func (f *frontierOf) compare(radii []float64) {
	var base []*trainedAt
	for _, t := range f.Networks {
		if t.Method == rat.Name {
			base = append(base, t)
		}
	}
	for _, t := range f.Networks {
		if t.Method == rat.Name {
			continue
		}
		for k, eps := range radii {
			m, ok := bestMixture(base, t.Clean.Accuracy, k)
			if !ok {
				continue // no RAT network is as accurate
			}
			d := t.Worst[k].right.values()
			for s, less := range m.worst(k) {
				floats.Sub(d[s], less)
			}
			p := bootstrapped(d)
			p.Of, p.With, p.Under = t.label(), m.label(), fmt.Sprintf("worst ε=%v", eps)
			f.Comparisons = append(f.Comparisons, p)
		}
	}
}

// frontierTable returns the accuracies in percent. Several seeds have their standard deviation.
func (l *lab) frontierTable(f *frontierOf) tables.Table {
	t := tables.Table{{"Accuracy in %", "clean"}}
	for _, part := range []string{"PGD", "worst"} {
		for _, eps := range l.Radii {
			t[0] = append(t[0], fmt.Sprintf("%s ε=%v", part, eps))
		}
	}
	for _, n := range f.Networks {
		row := []string{n.label()}
		for _, e := range slices.Concat([]*estimate{n.Clean}, n.PGD, n.Worst) {
			row = append(row, e.cell())
		}
		t.Add(row...)
	}
	return t
}

// drawFrontier draws the worst case at the largest radius against the clean accuracy.
func (l *lab) drawFrontier(f *frontierOf) plots.Figure {
	last := len(l.Radii) - 1
	figure := plots.Figure{
		Title: fmt.Sprintf("worst case at ε = %v/255 against clean accuracy", l.Radii[last]), X: "clean accuracy (%)", Y: "worst case (%)",
		YTicks: []float64{0, 20, 40, 60, 80, 100},
	}
	low, high := 100.0, 0.0
	for _, n := range f.Networks {
		low, high = min(low, 100*n.Clean.Accuracy), max(high, 100*n.Clean.Accuracy)
	}
	for x := 5 * math.Floor(low/5); x < high+5; x += 5 {
		figure.XTicks = append(figure.XTicks, x)
	}
	for _, n := range f.Networks {
		if len(figure.Lines) == 0 || figure.Lines[len(figure.Lines)-1].Name != n.Method {
			figure.Lines = append(figure.Lines, plots.Line{Name: n.Method, Color: len(figure.Lines)})
		}
		line := &figure.Lines[len(figure.Lines)-1]
		line.X, line.Y = append(line.X, 100*n.Clean.Accuracy), append(line.Y, 100*n.Worst[last].Accuracy)
	}
	return figure
}
