package main

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/examples/internal/figures"
	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// ablation shows what the projection (REG) does and what weight decay (L2) does, with and without
// batch norm. No network trains on adversarial examples.
var ablation = experiment{
	name:   ablationName,
	archs:  []string{"vgg11"},
	plan:   planAblation,
	report: reportAblation,
}

const ablationName = "ablation"

func planAblation(o *options) (needs []need) {
	norms := []bool{true, false}
	if o.given["bn"] {
		norms = []bool{o.BatchNorm}
	}
	for _, bn := range norms {
		add := func(m method, beta float64) {
			n := need{method: m, beta: beta, noBN: !bn, trials: o.trialsAtRadii()}
			for _, eps := range o.Radii {
				n.distances = append(n.distances, distanceTrial(o, eps), trials.Noise(eps))
			}
			needs = append(needs, n)
		}
		add(vanilla, 0)
		add(none, 0)
		for _, beta := range o.betas {
			add(reg, beta)
		}
		add(regL2, 0)
		add(scaled, 0)
	}
	return needs
}

// treatment is a kind of networks of ablation: one for each seed.
type treatment struct {
	Name      string     `json:"name"`
	BatchNorm bool       `json:"batch_norm"`
	Networks  []*summary `json:"networks"` // one for each seed
	// The accuracies, means over the seeds, and their standard deviations.
	Clean float64   `json:"clean"`
	PGD   []float64 `json:"pgd"`   // at each radius
	Worst []float64 `json:"worst"` // at each radius: clean, and PGD and the battery at all radii up to this one
	// SD are the standard deviations of Clean, PGD and Worst over the seeds, in this order; nil
	// for one seed.
	SD []float64 `json:"standard_deviations,omitempty"`
	// Distances are those of spikes at each radius, means over the seeds: under PGD on the network
	// itself, and under noise that all networks share.
	Own   []*figures.Distances `json:"distances_own_attack"`
	Noise []*figures.Distances `json:"distances_shared_noise"`

	method method
	clean  correct
	worst  []correct
}

// treatmentName names the treatment without its batch norm.
func (l *lab) treatmentName(s subject, n need) string {
	switch n.method {
	case vanilla:
		return "L2"
	case reg:
		return fmt.Sprintf("REG β=%v", l.network(s, n).Beta)
	case regL2:
		return fmt.Sprintf("REG β=%v + L2", l.network(s, n).Beta)
	case scaled:
		return fmt.Sprintf("scale β=%v", l.network(s, n).Beta)
	}
	return n.method.Name
}

// treat collects what there is of a treatment.
func (l *lab) treat(s subject, n need) (*treatment, error) {
	all, err := l.replicas(s, n)
	if err != nil {
		return nil, err
	}
	t := &treatment{Name: l.treatmentName(s, n), BatchNorm: l.network(s, n).Network.BatchNorm, Networks: all.networks, method: n.method, clean: all.clean, worst: all.worst}
	own, noise := make([][]*figures.Distances, len(l.Radii)), make([][]*figures.Distances, len(l.Radii))
	for _, r := range all.records {
		for k, eps := range l.Radii {
			for _, d := range []struct {
				to *[]*figures.Distances
				of trials.Trial
			}{{&own[k], distanceTrial(l.options, eps)}, {&noise[k], trials.Noise(eps)}} {
				found := r.distancesUnder(d.of, distanceImages(s))
				if found == nil {
					return nil, fmt.Errorf("%s: no distances under %v: expected that the file stays", r.Network, d.of)
				}
				*d.to = append(*d.to, found)
			}
		}
	}
	add := func(c correct) float64 {
		var accuracies []float64
		for _, v := range c.values() {
			accuracies = append(accuracies, stat.Mean(v, nil))
		}
		mean, sd := meanSD(accuracies)
		if len(l.Seeds) > 1 {
			t.SD = append(t.SD, sd)
		}
		return mean
	}
	t.Clean = add(t.clean)
	for _, c := range all.pgd {
		t.PGD = append(t.PGD, add(c))
	}
	for _, c := range t.worst {
		t.Worst = append(t.Worst, add(c))
	}
	for k := range l.Radii {
		t.Own, t.Noise = append(t.Own, meanDistances(own[k])), append(t.Noise, meanDistances(noise[k]))
	}
	return t, nil
}

// meanSD returns the mean of v and its standard deviation, 0 for one value.
func meanSD(v []float64) (mean, sd float64) {
	if len(v) == 1 {
		return v[0], 0
	}
	return stat.MeanStdDev(v, nil)
}

// meanDistances returns the mean of distances of networks of one architecture.
func meanDistances(list []*figures.Distances) *figures.Distances {
	of := func(field func(*figures.Distances) []float64) []float64 {
		mean := make([]float64, len(list[0].Layers))
		for _, d := range list {
			floats.AddScaled(mean, 1/float64(len(list)), field(d))
		}
		return mean
	}
	return &figures.Distances{
		Layers:    list[0].Layers,
		D2:        of(func(d *figures.Distances) []float64 { return d.D2 }),
		PerNeuron: of(func(d *figures.Distances) []float64 { return d.PerNeuron }),
		PerSpike:  of(func(d *figures.Distances) []float64 { return d.PerSpike }),
		Rate:      of(func(d *figures.Distances) []float64 { return d.Rate }),
	}
}

// label names a treatment with its batch norm.
func (t *treatment) label() string {
	if t.BatchNorm {
		return t.Name + ", BN"
	}
	return t.Name + ", no BN"
}

// ablated is the ablation of a subject.
type ablated struct {
	Treatments  []*treatment `json:"treatments"`
	Comparisons []paired     `json:"comparisons"`
}

func reportAblation(_ context.Context, l *lab) (*report, error) {
	r := &report{figures: map[string]plots.Figure{}}
	all := map[string]*ablated{}
	r.text = "L2 (weight decay), REG (the orthogonal projection) and scale (REG without the orthogonality)\n" +
		"on images as they are, with batch norm (BN) and without\n"
	for _, s := range l.subjects {
		a := &ablated{}
		for _, n := range l.eachOnce() {
			t, err := l.treat(s, n)
			if err != nil {
				return nil, err
			}
			a.Treatments = append(a.Treatments, t)
		}
		a.Comparisons = l.compareTreatments(a.Treatments)
		all[s.String()] = a
		r.text += fmt.Sprintf("\n%v\n\n%v\n%v\n%v", s, l.accuracyTable(a.Treatments), l.comparisonTable(a.Comparisons), l.distanceTables(a.Treatments))
		for name, f := range l.drawAblation(a.Treatments) {
			f.Note = l.note(s)
			r.figures[l.fileName(name, s)] = f
		}
	}
	r.text += "\n" + l.radiiNote()
	r.results = all
	return r, nil
}

// radiiNote explains the worst cases of a table of several radii. The table's summaries must have
// been made.
func (l *lab) radiiNote() string {
	note := fmt.Sprintf("PGD: BPTT, %d steps of %v. Worst case at ε: images classified as labelled when clean and under the attacks at all radii up to ε,\n", l.TestSteps, l.TestAlpha)
	if l.Battery == noBattery {
		return note + "which are PGD alone, as -battery none leaves the battery out.\n"
	}
	return note + fmt.Sprintf("which are PGD and the %s battery.\n", l.Battery) + l.faultsNote()
}

// accuracyTable returns the accuracies in percent, with their standard deviations over the seeds.
func (l *lab) accuracyTable(list []*treatment) tables.Table {
	t := tables.Table{{"Accuracy in %", "clean"}}
	for _, what := range []string{"PGD", "worst"} {
		for _, eps := range l.Radii {
			t[0] = append(t[0], fmt.Sprintf("%s ε=%v", what, eps))
		}
	}
	t[0] = append(t[0], "firing rate")
	for _, tr := range list {
		row := []string{tr.label()}
		for i, v := range slices.Concat([]float64{tr.Clean}, tr.PGD, tr.Worst) {
			var sd *float64
			if tr.SD != nil {
				sd = &tr.SD[i]
			}
			row = append(row, withSD(v, sd))
		}
		t.Add(append(row, percent(stat.Mean(tr.Noise[0].Rate, nil)))...)
	}
	return t
}

// compareTreatments compares every treatment with L2, with none and REG with scaling alone, and the
// gains over L2 with batch norm with those without.
func (l *lab) compareTreatments(list []*treatment) (all []paired) {
	find := func(name string, bn bool) *treatment {
		for _, t := range list {
			if t.Name == name && t.BatchNorm == bn {
				return t
			}
		}
		return nil
	}
	outcomes := func(t *treatment) (names []string, right []correct) {
		names, right = []string{"clean"}, []correct{t.clean}
		for k, eps := range l.Radii {
			names, right = append(names, fmt.Sprintf("worst ε=%v", eps)), append(right, t.worst[k])
		}
		return names, right
	}
	bases := []string{"L2", "none"}
	if i := slices.IndexFunc(list, func(t *treatment) bool { return t.method == scaled }); i >= 0 {
		bases = append(bases, list[i].Name)
	}
	for _, t := range list {
		for _, base := range bases {
			if t.Name == base {
				break // the bases before it are its own
			}
			b := find(base, t.BatchNorm)
			names, ofT := outcomes(t)
			_, ofB := outcomes(b)
			for k := range names {
				p := comparePairs(ofT[k], ofB[k])
				p.Of, p.With, p.Under = t.label(), b.label(), names[k]
				all = append(all, p)
			}
		}
	}
	for _, t := range list {
		other := find(t.Name, false)
		if !t.BatchNorm || other == nil || t.Name == "L2" {
			continue
		}
		names, with := outcomes(t)
		_, base := outcomes(find("L2", true))
		_, without := outcomes(other)
		_, otherBase := outcomes(find("L2", false))
		for k := range names {
			gain, otherGain := minus(with[k], base[k]), minus(without[k], otherBase[k])
			for s := range gain {
				floats.Sub(gain[s], otherGain[s])
			}
			p := bootstrapped(gain)
			p.Of, p.With, p.Under = t.Name+" − L2, BN", "the same, no BN", names[k]
			all = append(all, p)
		}
	}
	return all
}

func (l *lab) comparisonTable(list []paired) string {
	t := tables.Table{pairedHeading}
	for _, p := range list {
		t.Add(p.cells()...)
	}
	return t.Text(1, 2, 3, 8) + l.pairedNote()
}

// distanceTables returns tables of the spike distances at the largest radius.
func (l *lab) distanceTables(list []*treatment) string {
	last := len(l.Radii) - 1
	text := fmt.Sprintf("Distances D₂ of spikes at ε = %v/255 in each layer, means over images and seeds; in the last column relative to L2 with the same BN,\n"+
		"geometric mean over the layers in which both are positive (JSON has all radii)\n", l.Radii[last])
	for _, part := range []struct {
		name  string
		of    func(*treatment) []*figures.Distances
		field func(*figures.Distances) []float64
	}{
		{"own PGD, D₂/√(N·T)", func(t *treatment) []*figures.Distances { return t.Own }, func(d *figures.Distances) []float64 { return d.PerNeuron }},
		{"own PGD, D₂/√spikes", func(t *treatment) []*figures.Distances { return t.Own }, func(d *figures.Distances) []float64 { return d.PerSpike }},
		{"shared noise, D₂/√(N·T)", func(t *treatment) []*figures.Distances { return t.Noise }, func(d *figures.Distances) []float64 { return d.PerNeuron }},
		{"shared noise, D₂/√spikes", func(t *treatment) []*figures.Distances { return t.Noise }, func(d *figures.Distances) []float64 { return d.PerSpike }},
	} {
		table := tables.Table{{part.name}}
		for k := range list[0].Own[last].Layers {
			table[0] = append(table[0], fmt.Sprint(k+1))
		}
		table[0] = append(table[0], "to L2")
		var base []float64
		for _, t := range list {
			values := part.field(part.of(t)[last])
			if t.Name == "L2" {
				base = values
			}
			row := []string{t.label()}
			var logs []float64
			for k, v := range values {
				row = append(row, fmt.Sprintf("%.3f", v))
				if v > 0 && base[k] > 0 {
					logs = append(logs, math.Log(v/base[k]))
				}
			}
			ratio := "–"
			if logs != nil {
				ratio = fmt.Sprintf("%.2f", math.Exp(stat.Mean(logs, nil)))
			}
			table.Add(append(row, ratio)...)
		}
		text += fmt.Sprintf("\n%v", table)
	}
	return text
}

// drawAblation draws the worst cases against ε, and the distances in every layer.
func (l *lab) drawAblation(list []*treatment) map[string]plots.Figure {
	accuracy := plots.Figure{
		Title: "worst case of L2 and REG", X: "ε (255ths)", Y: "accuracy (%)",
		XTicks: append([]float64{0}, l.Radii...), YTicks: []float64{0, 20, 40, 60, 80, 100},
	}
	last := len(l.Radii) - 1
	var own, noise []figures.Curve
	colors := map[string]int{}
	for _, t := range list {
		if _, ok := colors[t.Name]; !ok {
			colors[t.Name] = len(colors)
		}
		line := plots.Line{Name: t.label(), X: accuracy.XTicks, Y: []float64{100 * t.Clean}, Color: colors[t.Name], Dashed: !t.BatchNorm}
		for _, v := range t.Worst {
			line.Y = append(line.Y, 100*v)
		}
		accuracy.Lines = append(accuracy.Lines, line)
		curve := figures.Curve{Name: t.label(), Distances: t.Own[last], Color: line.Color, Dashed: line.Dashed}
		own = append(own, curve)
		curve.Distances = t.Noise[last]
		noise = append(noise, curve)
	}
	at := fmt.Sprintf("at ε = %v/255", l.Radii[last])
	prefix := l.resultName() + "-"
	return map[string]plots.Figure{
		prefix + "accuracy":       accuracy,
		prefix + "distance-own":   figures.DrawDistances("spike distance under each network's own PGD "+at, own),
		prefix + "distance-noise": figures.DrawDistances("spike distance under shared noise "+at, noise),
	}
}

// resultName is the name of the results' files. It tells the results without batch norm from
// those with it, and in the ablation from those of both.
func (l *lab) resultName() string {
	switch {
	case !l.given["bn"] || l.BatchNorm && l.Exp != ablationName:
		return l.Exp
	case l.BatchNorm:
		return l.Exp + "-bn"
	default:
		return l.Exp + "-nobn"
	}
}
