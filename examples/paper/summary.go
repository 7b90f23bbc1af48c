package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/trials"
)

// summary holds the accuracies of a network in an experiment's results. The evaluations
// hold the predictions.
type summary struct {
	Network string `json:"network"`
	Source  string `json:"source,omitempty"` // of black-box attacks
	// WorstCase is the share of the images that are classified as labelled when clean
	// and under all attacks of the outcomes, the battery included; noise is none.
	WorstCase float64 `json:"worst_case_accuracy"`
	Outcomes  []score `json:"outcomes"`
	// Of several seeds, accuracies are means, with the standard deviations beside them. All else is
	// that of the first seed.
	Seeds       []*summary `json:"seeds,omitempty"`
	WorstCaseSD *float64   `json:"worst_case_standard_deviation,omitempty"`
}

// score is the accuracy in a trial, in [0,1], and the paper's at the same settings if it
// reports one.
type score struct {
	trials.Trial
	Accuracy     float64  `json:"accuracy"`
	SD           *float64 `json:"standard_deviation,omitempty"` // over the seeds
	Paper        *float64 `json:"paper,omitempty"`
	ZeroGradient int      `json:"zero_gradient_images,omitempty"` // for which every gradient of the attack was zero
	// Checks are those of a battery.
	Checks []attack.Check `json:"battery_checks,omitempty"`
}

// summarize returns the summary of a need. Its trials must have been made.
func (l *lab) summarize(s subject, n need) (*summary, error) {
	r, err := l.record(s, n)
	if err != nil {
		return nil, err
	}
	sum := &summary{Network: r.Network, Source: r.Source}
	var outcomes []trials.Outcome
	faults := 0
	for _, t := range append([]trials.Trial{trials.Clean}, n.trials...) {
		o, err := r.outcome(t)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, *o)
		sc := score{Trial: t, Accuracy: o.Accuracy, ZeroGradient: len(o.ZeroGradient)}
		if p, ok := l.paperFigure(s, n, t); ok {
			p /= 100
			sc.Paper = &p
		}
		if b := r.battery(t); b != nil {
			sc.Checks = b.Report.Checks
			faults += b.Faults()
		}
		sum.Outcomes = append(sum.Outcomes, sc)
	}
	if r.Source == "" { // the same network is judged black-box too, by no battery
		l.faults[r.Network] = faults
	}
	sum.WorstCase = trials.WorstCase(r.Labels, outcomes)
	return sum, nil
}

// percent returns the accuracy in a trial, as a table has it, and the paper's, "–" if it
// reports none at the same settings, and "" for batteries, of which it has none.
func (s *summary) percent(t trials.Trial) (ours, paper string) {
	for _, o := range s.Outcomes {
		if o.Trial != t {
			continue
		}
		ours = withSD(o.Accuracy, o.SD)
		switch {
		case o.Preset != "":
			return ours, ""
		case o.Paper == nil:
			return ours, "–"
		}
		return ours, percent(*o.Paper)
	}
	return "", ""
}

// eachOnce lists the needs without their repetitions for further seeds.
func (l *lab) eachOnce() (list []need) {
	for _, n := range l.needs {
		if n.replica == 0 {
			list = append(list, n)
		}
	}
	return list
}

// pool returns the summary of a need for all seeds.
func (l *lab) pool(s subject, n need) (*summary, error) {
	var each []*summary
	for i := range l.Seeds {
		n.replica = i
		sum, err := l.summarize(s, n)
		if err != nil {
			return nil, err
		}
		each = append(each, sum)
	}
	if len(each) == 1 {
		return each[0], nil
	}
	all := *each[0]
	all.Seeds, all.Outcomes = each, slices.Clone(all.Outcomes)
	over := func(of func(*summary) float64) (mean float64, sd *float64) {
		var v []float64
		for _, sum := range each {
			v = append(v, of(sum))
		}
		mean, spread := meanSD(v)
		return mean, &spread
	}
	all.WorstCase, all.WorstCaseSD = over(func(s *summary) float64 { return s.WorstCase })
	for k := range all.Outcomes {
		o := &all.Outcomes[k]
		o.Accuracy, o.SD = over(func(s *summary) float64 { return s.Outcomes[k].Accuracy })
	}
	return &all, nil
}

// withSD returns an accuracy in percent, with its standard deviation if there is one.
func withSD(accuracy float64, sd *float64) string {
	if sd == nil {
		return percent(accuracy)
	}
	return percent(accuracy) + " ± " + percent(*sd)
}

func percent(x float64) string { return fmt.Sprintf("%.1f", 100*x) }

// noBattery is the value of -battery that leaves the battery out.
const noBattery = "none"

// battery lists the battery of white-box worst cases, unless the flags leave it out.
func (o *options) battery(eps float64) []trials.Trial {
	if o.Battery == noBattery {
		return nil
	}
	return []trials.Trial{trials.Battery(o.Battery, eps)}
}

// batteryHeading is the heading of the battery's column, if there is one.
func (o *options) batteryHeading() (heading []string) {
	for range o.battery(o.TestEps) {
		heading = append(heading, "battery")
	}
	return heading
}

// worstCaseNote explains the worst cases of a table, over these attacks and a battery of radius
// eps. The table's summaries must have been made.
func (l *lab) worstCaseNote(attacks string, eps float64) string {
	note := fmt.Sprintf("Worst case: images classified as labelled when clean and under %s.\n", attacks)
	if l.Battery == noBattery {
		return note + "It counts these attacks alone, as -battery none leaves the battery out.\n"
	}
	note += fmt.Sprintf("White-box, it also counts the %s battery at ε = %v/255, whose attacks an image meets until one breaks it.\n", l.Battery, eps)
	return note + l.faultsNote()
}

// faultsNote names the networks in which checks of batteries found faults.
func (l *lab) faultsNote() (note string) {
	for _, name := range slices.Sorted(maps.Keys(l.faults)) {
		if n := l.faults[name]; n > 0 {
			note += fmt.Sprintf("Faults that the battery's checks found: %s %d. See battery_checks in %s.json.\n", name, n, l.resultName())
		}
	}
	return note
}
