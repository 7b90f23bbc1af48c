package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"gonum.org/v1/gonum/stat"
)

// audit trains published defences with the same images, architecture and seeds, and judges all by
// a short attack, as they were published, and by the battery.
var audit = experiment{
	name:   auditName,
	archs:  []string{"vgg11"},
	plan:   planAudit,
	report: reportAudit,
}

const auditName = "audit"

func planAudit(o *options) (needs []need) {
	for _, name := range o.Methods {
		n := trainingNamed(name).need()
		n.trials, n.distances = o.trialsAtRadii(), []trials.Trial{trials.Noise(o.Radii[0])} // for the firing rate
		needs = append(needs, n)
	}
	return needs
}

// estimate is an accuracy, in [0,1]: the mean over seeds and images, and the 95 % interval of a
// bootstrap over both.
type estimate struct {
	Accuracy float64   `json:"accuracy"`
	Low      float64   `json:"low"`
	High     float64   `json:"high"`
	PerSeed  []float64 `json:"per_seed"`

	right correct
}

// newEstimate returns the accuracy of networks of some seeds.
func newEstimate(c correct) *estimate {
	p := bootstrapped(c.values())
	return &estimate{p.Difference, p.Low, p.High, p.PerSeed, c}
}

// cell returns the accuracy in percent, with the standard deviation over several seeds.
func (e *estimate) cell() string {
	if len(e.PerSeed) == 1 {
		return withSD(e.Accuracy, nil)
	}
	_, sd := meanSD(e.PerSeed)
	return withSD(e.Accuracy, &sd)
}

// audited is what audit says of a method.
type audited struct {
	Method   string             `json:"method"`
	Eps      float64            `json:"eps_255,omitempty"` // in training, if it is one of its own and not -eps
	Settings map[string]float64 `json:"settings,omitempty"`
	Networks []*summary         `json:"networks"` // one for each seed
	Clean    *estimate          `json:"clean"`
	PGD      []*estimate        `json:"pgd"` // at each radius
	// APGD has the images that are right when clean and that no attack of the battery by gradients
	// alone has broken, at each radius and those below. It is nil without a battery.
	APGD []*estimate `json:"apgd,omitempty"`
	// Worst has the images that are right when clean, and under PGD and the battery, at each radius
	// and those below.
	Worst []*estimate `json:"worst"`
	// Gap is PGD minus Worst at each radius: what a short attack of one surrogate misses.
	Gap []paired `json:"gap"`

	FiringRate float64 `json:"firing_rate"` // mean over the layers of neurons, for clean images, in [0,1]
	// The cost of training: the passes forward and back of an image in an epoch to weights
	// (updates included) and to the image, and the time, the mean over epochs and seeds.
	WeightPasses int     `json:"weight_passes"`
	ImagePasses  int     `json:"image_passes"`
	Milliseconds float64 `json:"milliseconds_an_image"`
}

func (a *audited) label() string { return methodAt(a.Method, a.Eps) }

// byGradients says for each image whether it is right when clean and no attack of the battery by
// gradients alone has broken it.
func byGradients(b *trials.BatteryOutcome) []bool {
	right := make([]bool, len(b.Report.Results))
	for i, r := range b.Report.Results {
		right[i] = r.BrokenBy == attack.Survived || r.BrokenBy >= 0 && !strings.HasPrefix(b.Report.Attacks[r.BrokenBy].Name, "APGD")
	}
	return right
}

// and returns the images that are right in both.
func and(a, b []bool) []bool {
	both := make([]bool, len(a))
	for i := range a {
		both[i] = a[i] && b[i]
	}
	return both
}

// examine collects what there is of a method.
func (l *lab) examine(s subject, n need) (*audited, error) {
	t := n.training()
	all, err := l.replicas(s, n)
	if err != nil {
		return nil, err
	}
	a := &audited{
		Method: t.Name, Eps: n.eps, Settings: l.network(s, n).Settings, Networks: all.networks, Clean: newEstimate(all.clean),
		WeightPasses: 1 + t.forward, ImagePasses: t.gradients,
	}
	if t.start != "" {
		start := trainingNamed(t.start)
		a.WeightPasses, a.ImagePasses = a.WeightPasses+1+start.forward, a.ImagePasses+start.gradients
	}
	apgd := make([]correct, len(l.Radii))
	for i, r := range all.records {
		left := all.clean[i]
		for k, eps := range l.Radii {
			for _, b := range l.battery(eps) {
				left = and(left, byGradients(r.battery(b)))
				apgd[k] = append(apgd[k], left)
			}
		}
		d := r.distancesUnder(n.distances[0], distanceImages(s))
		if d == nil {
			return nil, fmt.Errorf("%s: no distances under %v: expected that the file stays", r.Network, n.distances[0])
		}
		a.FiringRate += stat.Mean(d.Rate, nil) / float64(len(l.Seeds))
		n.replica = i
		net := l.network(s, n)
		history := l.history[net.name]
		if start, ok := startOf(n); ok {
			history = slices.Concat(l.history[l.network(s, start).name], history)
		}
		seconds := 0.0
		for _, m := range history {
			seconds += m.Seconds
		}
		a.Milliseconds += 1000 * seconds / float64(net.Epochs*net.Images*len(l.Seeds))
	}
	for k, eps := range l.Radii {
		a.PGD, a.Worst = append(a.PGD, newEstimate(all.pgd[k])), append(a.Worst, newEstimate(all.worst[k]))
		if apgd[k] != nil {
			a.APGD = append(a.APGD, newEstimate(apgd[k]))
		}
		gap := comparePairs(all.pgd[k], all.worst[k])
		gap.Of, gap.With, gap.Under = a.label()+", PGD", "worst case", fmt.Sprintf("ε=%v", eps)
		a.Gap = append(a.Gap, gap)
	}
	return a, nil
}

// auditOf is the audit of a subject.
type auditOf struct {
	Methods     []*audited `json:"methods"`
	Comparisons []paired   `json:"comparisons"` // of the worst cases with those of vanilla and of RAT
}

func reportAudit(_ context.Context, l *lab) (*report, error) {
	r := &report{figures: map[string]plots.Figure{}}
	all := map[string]*auditOf{}
	r.text = fmt.Sprintf("Published defences, judged by PGD-%d and by the battery\n", l.TestSteps)
	for _, s := range l.subjects {
		a := &auditOf{}
		for _, n := range l.eachOnce() {
			m, err := l.examine(s, n)
			if err != nil {
				return nil, err
			}
			a.Methods = append(a.Methods, m)
		}
		a.compare(l.Radii)
		all[s.String()] = a
		r.text += fmt.Sprintf("\n%v\n\n%v\n%v\n%v", s, l.auditTable(a), l.gapTable(a), l.comparisonTable(a.Comparisons))
		f := l.drawAudit(a)
		f.Note = l.note(s)
		r.figures[l.fileName(l.resultName(), s)] = f
	}
	r.text += "\n" + l.auditNote() + l.radiiNote()
	r.results = all
	return r, nil
}

// compare compares the worst cases of all methods with those of vanilla and of RAT.
func (a *auditOf) compare(radii []float64) {
	for i, base := range a.Methods {
		if base.Method != vanilla.Name && base.Method != rat.Name {
			continue
		}
		for j, m := range a.Methods {
			if m == base || base.Method == rat.Name && (m.Method == vanilla.Name || m.Method == rat.Name && j < i) {
				continue
			}
			for k, eps := range radii {
				p := comparePairs(m.Worst[k].right, base.Worst[k].right)
				p.Of, p.With, p.Under = m.label(), base.label(), fmt.Sprintf("worst ε=%v", eps)
				a.Comparisons = append(a.Comparisons, p)
			}
		}
	}
}

// auditTable returns the table of all methods. Several seeds have their standard deviation.
func (l *lab) auditTable(a *auditOf) tables.Table {
	t := tables.Table{{"Accuracy in %", "clean"}}
	parts := []string{"PGD", "worst"}
	if l.Battery != noBattery {
		parts = []string{"PGD", "APGD", "worst"}
	}
	for _, part := range parts {
		for _, eps := range l.Radii {
			t[0] = append(t[0], fmt.Sprintf("%s ε=%v", part, eps))
		}
	}
	t[0] = append(t[0], "firing rate", "passes", "ms an image")
	for _, m := range a.Methods {
		row := []string{m.label()}
		for _, e := range slices.Concat([]*estimate{m.Clean}, m.PGD, m.APGD, m.Worst) {
			row = append(row, e.cell())
		}
		t.Add(append(row, percent(m.FiringRate), fmt.Sprintf("%d + %d", m.WeightPasses, m.ImagePasses), fmt.Sprintf("%.2f", m.Milliseconds))...)
	}
	return t
}

// gapTable returns what a short attack misses.
func (l *lab) gapTable(a *auditOf) string {
	t := tables.Table{{"PGD minus worst case"}}
	for _, eps := range l.Radii {
		t[0] = append(t[0], fmt.Sprintf("ε=%v", eps), "95 % interval")
	}
	for _, m := range a.Methods {
		row := []string{m.label()}
		for _, g := range m.Gap {
			cells := g.cells()
			row = append(row, cells[3], cells[4])
		}
		t.Add(row...)
	}
	return t.String()
}

// auditNote explains the table.
func (l *lab) auditNote() string {
	note := "vanilla has L2 weight decay, as have all others but reg, rat, tgo, sqe and those with +reg. tgo-quiet is tgo without its noise at test.\n" +
		"passes: forward and back to the weights + forward and back to the image, of an image in an epoch. ms an image: wall time of training.\n" +
		"conversion counts those of relu, too.\n"
	if l.Battery != noBattery {
		note += "APGD: images that are right when clean and that no gradient attack of the battery before its search has broken, at all radii up to ε.\n"
	}
	return note
}

// drawAudit draws for each method the accuracies at the largest radius.
func (l *lab) drawAudit(a *auditOf) plots.Figure {
	last := len(l.Radii) - 1
	f := plots.Figure{
		Title: fmt.Sprintf("published defences at ε = %v/255", l.Radii[last]), Y: "accuracy (%)",
		YTicks: []float64{0, 20, 40, 60, 80, 100},
	}
	lines := []plots.Line{{Name: "clean"}, {Name: fmt.Sprintf("PGD-%d", l.TestSteps), Color: 1}, {Name: "worst case", Color: 2}}
	if l.Battery != noBattery {
		lines = append(lines, plots.Line{Name: "APGD", Color: 3})
	}
	for i, m := range a.Methods {
		f.XTicks, f.XNames = append(f.XTicks, float64(i+1)), append(f.XNames, m.label())
		for k, e := range append([]*estimate{m.Clean, m.PGD[last], m.Worst[last]}, m.APGD[min(last, len(m.APGD)):]...) {
			lines[k].X, lines[k].Y = append(lines[k].X, float64(i+1)), append(lines[k].Y, 100*e.Accuracy)
		}
	}
	for i := range lines {
		lines[i].Unjoined = true
	}
	f.Lines = lines
	return f
}
