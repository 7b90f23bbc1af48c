package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
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

// PGD and BIM make this number of steps of α = ε/alphaShare.
const iterations, alphaShare = 7, 3

// newTrial returns an attack with radius eps, in 255ths.
func newTrial(name string, g snn.Gradient, eps float64) trials.Trial {
	return trials.New(name, g, eps, eps/255/alphaShare, iterations)
}

// noBattery is the value of -battery that leaves the battery out.
const noBattery = "none"

// preset returns the battery of the table, which is not left out.
func (o *options) preset() trials.Trial { return trials.Battery(o.Battery, o.TestEps) }

// listTrials returns the trials of an evaluation, except that of the clean images: those of
// the table and those of the curves, each once.
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

// checkAttacks returns an error if -test-eps gives an attack that is not valid.
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

// work is the work of the evaluation of one image, in forward passes.
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
		if e.source == "" && j.Battery != noBattery {
			work += float64(j.Test.N) * j.preset().Work(len(e.judged))
		}
	}
	return work
}

// evaluate makes all evaluations that the journal does not hold.
func (j *job) evaluate(ctx context.Context, nets *trained) (*results, error) {
	res := &results{
		Maker: runs.NewMaker(), Options: *j.options, Training: nets.metrics, Labels: j.Test.Labels,
		White: map[string]*judgement{}, Black: map[string]*judgement{},
	}
	for _, e := range evaluations {
		list := append([]trials.Trial{trials.Clean}, listTrials(j.options, e.source == "")...)
		judged := j.journal.Judged[e.title]
		if j.fit(judged, e, list) {
			j.meter.Skip(float64(j.Test.N) * e.work(j.options))
		} else {
			var err error
			if judged, err = j.judge(ctx, nets, e, list); err != nil {
				return nil, err
			}
			j.journal.Judged[e.title] = judged
			if err := j.journal.save(); err != nil {
				return nil, err
			}
			j.meter.Finished("attacks: " + e.title)
		}
		for i, name := range e.judged {
			if e.source != "" {
				res.Black[name] = newJudgement(j.Test.Labels, judged[i], j.TestEps, nil)
				continue
			}
			var battery *trials.BatteryOutcome
			if j.Battery != noBattery {
				var err error
				if battery, err = j.battery(ctx, nets.models[name], name); err != nil {
					return nil, err
				}
			}
			res.White[name] = newJudgement(j.Test.Labels, judged[i], j.TestEps, battery)
		}
	}
	return res, nil
}

// battery runs the battery around the images whose results the journal does not hold.
func (j *job) battery(ctx context.Context, m *snn.Model, name string) (*trials.BatteryOutcome, error) {
	b := &trials.BatteryOutcome{Trial: j.preset(), Report: &attack.BatteryReport{Partial: true, Results: j.journal.Batteries[name]}}
	if b.Validate(j.Test.Labels, j.Test.Classes) != nil {
		b.Report.Results = nil
	}
	j.meter.Skip(float64(len(b.Report.Results)) * b.Work(1))
	save := func() error {
		j.journal.Batteries[name] = b.Report.Results
		return j.journal.save()
	}
	progress := func() { j.meter.Add(b.Work(1), "battery: "+name) }
	err := b.Run(ctx, m, j.Test, attack.Shard{}, rng.New(j.Seed).Derive("battery", 0), progress, save)
	if err == nil {
		err = save()
	}
	if err != nil {
		return nil, fmt.Errorf("attacks: %s: %w", name, err)
	}
	j.meter.Finished("attacks: battery: " + name)
	return b, nil
}

// fit reports whether a journal's outcomes are those of an evaluation.
func (j *job) fit(judged [][]trials.Outcome, e evaluation, list []trials.Trial) bool {
	if len(judged) != len(e.judged) {
		return false
	}
	for _, outcomes := range judged {
		if len(outcomes) != len(list) {
			return false
		}
		for i, o := range outcomes {
			if o.Trial != list[i] || o.Validate(j.Test.Labels, j.Train.Classes) != nil {
				return false
			}
		}
	}
	return true
}

// judge returns for each network of an evaluation the outcomes of the trials, the first of
// which is of clean images.
func (j *job) judge(ctx context.Context, nets *trained, e evaluation, list []trials.Trial) ([][]trials.Outcome, error) {
	cfg := attack.DefaultConfig()
	cfg.Key, cfg.Source = rng.New(j.Seed).Derive("attacks", 0), nets.models[e.source]
	var models []*snn.Model
	for _, name := range e.judged {
		models = append(models, nets.models[name])
	}
	var attacks []attack.Named
	work := map[string]float64{}
	for i, t := range list {
		if i > 0 {
			attacks = append(attacks, attack.Named{Name: t.String(), Attack: t.Adversary()})
		}
		work[t.String()] = t.Work(len(models))
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
	judged := make([][]trials.Outcome, len(reports))
	for i, r := range reports {
		for k, o := range append([]attack.Outcome{r.Clean}, r.Attacks...) {
			judged[i] = append(judged[i], trials.NewOutcome(list[k], o))
		}
	}
	return judged, nil
}
