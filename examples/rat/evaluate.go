package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// The attacks of the table, in its rows and columns.
var (
	attackNames = []string{"FGSM", "RFGSM", "PGD", "BIM"}
	cbaNames    = []string{"FGSM", "PGD"} // white-box
	gradients   = []snn.Gradient{snn.BPTR{}, snn.BPTT{}}
)

// curve lists the radii of the curves, in 255ths.
var curve = []float64{2, 4, 6, 8, 12, 16, 24}

// The steps of PGD and BIM: so many of α = ε/alphaShare.
const iterations, alphaShare = 7, 3

// newTrial returns an attack with radius eps, in 255ths.
func newTrial(name string, g snn.Gradient, eps float64) trials.Trial {
	return trials.New(name, g, eps, eps/255/alphaShare, iterations)
}

// listTrials lists what a pair of networks is judged under beside clean images: the
// table's attacks and the curves', each once.
func listTrials(o *options, white bool) (list []trials.Trial) {
	if white {
		list = append(list, trials.Noise(o.TestEps))
		for _, name := range cbaNames {
			list = append(list, newTrial(name, snn.CBA{}, o.TestEps))
		}
	}
	for _, name := range attackNames {
		for _, g := range gradients {
			list = append(list, newTrial(name, g, o.TestEps))
		}
	}
	for _, eps := range curve {
		if t := newTrial("PGD", snn.BPTT{}, eps); !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

// checkAttacks returns an error if -test-eps makes an attack that is none.
func checkAttacks(o *options) error {
	for _, t := range listTrials(o, true) {
		if err := t.Validate(); err != nil {
			return fmt.Errorf("-test-eps %v: %w", o.TestEps, err)
		}
	}
	return nil
}

// evaluation is a list of trials for some of the networks, named as in networks.
type evaluation struct {
	title  string
	judged []string
	source string // of black-box attacks
}

var evaluations = []evaluation{
	{"white-box, plain", []string{"vanilla"}, ""},
	{"white-box, RAT", []string{"rat"}, ""},
	{"black-box", []string{"rat", "vanilla"}, "source"},
}

// work is that of the evaluation of one image.
func (e evaluation) work(o *options) float64 {
	work := float64(len(e.judged)) // clean
	for _, t := range listTrials(o, e.source == "") {
		work += t.Work(len(e.judged))
	}
	return work
}

func (j *job) evaluationWork() (work float64) {
	for _, e := range evaluations {
		work += float64(j.Test.N) * e.work(j.options)
	}
	return work
}

// evaluate judges the RAT and the plain network, white-box and black-box.
func (j *job) evaluate(ctx context.Context, nets *trained) (*results, error) {
	res := &results{
		Options: *j.options, Training: nets.metrics, Labels: j.Test.Labels,
		White: map[string]*judgement{}, Black: map[string]*judgement{},
	}
	for _, e := range evaluations {
		list := listTrials(j.options, e.source == "")
		reports := j.journal.Reports[e.title]
		if fit(reports, e, list, j.Test.Labels) {
			j.meter.Skip(float64(j.Test.N) * e.work(j.options))
		} else {
			var err error
			if reports, err = j.judge(ctx, nets, e, list); err != nil {
				return nil, err
			}
			j.journal.Reports[e.title] = reports
			if err := j.journal.save(); err != nil {
				return nil, err
			}
			j.meter.Finished("attacks: " + e.title)
		}
		to := res.White
		if e.source != "" {
			to = res.Black
		}
		for i, name := range e.judged {
			to[name] = newJudgement(list, reports[i], j.TestEps)
		}
	}
	return res, nil
}

// fit reports whether a journal's reports are of an evaluation.
func fit(reports []*attack.Report, e evaluation, list []trials.Trial, labels []int) bool {
	if len(reports) != len(e.judged) {
		return false
	}
	for _, r := range reports {
		if r == nil || !slices.Equal(r.Labels, labels) || len(r.Clean.Predicted) != len(labels) || len(r.Attacks) != len(list) {
			return false
		}
		for i, o := range r.Attacks {
			if o.Name != list[i].String() || len(o.Predicted) != len(labels) {
				return false
			}
		}
	}
	return true
}

func (j *job) judge(ctx context.Context, nets *trained, e evaluation, list []trials.Trial) ([]*attack.Report, error) {
	cfg := attack.DefaultConfig()
	cfg.Key, cfg.Source = rng.New(j.Seed).Derive("attacks", 0), nets.models[e.source]
	var models []*snn.Model
	for _, name := range e.judged {
		models = append(models, nets.models[name])
	}
	attacks, work := make([]attack.Named, len(list)), map[string]float64{"clean": float64(len(models))}
	for i, t := range list {
		attacks[i] = attack.Named{Name: t.String(), Attack: t.Adversary()}
		work[attacks[i].Name] = t.Work(len(models))
	}
	done := 0
	cfg.Progress = func(p attack.Progress) {
		j.meter.Add(float64(p.Done-done)*work[p.Attack], e.title+": "+p.Attack)
		done = p.Done
	}
	reports, err := attack.EvaluateAll(ctx, models, j.Test, attacks, cfg)
	if err != nil {
		return nil, fmt.Errorf("attacks: %s: %w", e.title, err)
	}
	return reports, nil
}
