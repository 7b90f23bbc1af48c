package main

import (
	"fmt"

	"github.com/org/snnrat/examples/internal/trials"
)

// summary holds the accuracies of a network in an experiment's results. The evaluations
// hold the predictions.
type summary struct {
	Network string `json:"network"`
	Source  string `json:"source,omitempty"` // of black-box attacks
	// WorstCase is the share of the images that are classified as labelled when clean
	// and under all attacks of the outcomes; noise is none.
	WorstCase float64 `json:"worst_case_accuracy"`
	Outcomes  []score `json:"outcomes"`
}

// score is the accuracy in a trial, in [0,1], and the paper's at the same settings if it
// reports one.
type score struct {
	trials.Trial
	Accuracy     float64  `json:"accuracy"`
	Paper        *float64 `json:"paper,omitempty"`
	ZeroGradient int      `json:"zero_gradient_images,omitempty"` // for which every gradient of the attack was zero
}

// summarize returns the summary of a need. Its trials must have been made.
func (l *lab) summarize(s subject, n need) (*summary, error) {
	r, err := l.record(s, n)
	if err != nil {
		return nil, err
	}
	sum := &summary{Network: r.Network, Source: r.Source}
	var outcomes []trials.Outcome
	for _, t := range append([]trials.Trial{trials.Clean}, n.trials...) {
		o := r.find(t)
		if o == nil {
			return nil, fmt.Errorf("%s: no outcome of %v: expected that the file stays", r.Network, t)
		}
		outcomes = append(outcomes, *o)
		sc := score{Trial: t, Accuracy: o.Accuracy, ZeroGradient: len(o.ZeroGradient)}
		if p, ok := l.paperFigure(s, n, t); ok {
			p /= 100
			sc.Paper = &p
		}
		sum.Outcomes = append(sum.Outcomes, sc)
	}
	sum.WorstCase = trials.WorstCase(r.Labels, outcomes)
	return sum, nil
}

// percent returns the accuracy in a trial, as a table has it, and the paper's, "–" if it
// reports none at the same settings.
func (s *summary) percent(t trials.Trial) (ours, paper string) {
	for _, o := range s.Outcomes {
		if o.Trial != t {
			continue
		}
		if o.Paper == nil {
			return percent(o.Accuracy), "–"
		}
		return percent(o.Accuracy), percent(*o.Paper)
	}
	return "", ""
}

func percent(x float64) string { return fmt.Sprintf("%.1f", 100*x) }
