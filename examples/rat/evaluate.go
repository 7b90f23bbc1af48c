package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// The attacks of the table, in its rows and columns.
var (
	attackNames = []string{"FGSM", "RFGSM", "PGD", "BIM"}
	gradients   = []snn.Gradient{snn.BPTR{}, snn.BPTT{}}
)

// curve lists the radii of the curves, in 255ths.
var curve = []float64{2, 4, 6, 8, 12, 16, 24}

// iterations is the number of steps of PGD and BIM.
const iterations = 7

// label is the name of an attack in reports.
func label(name string, g snn.Gradient, eps255 float64) string {
	return fmt.Sprintf("%s %v ε=%v/255", name, g, eps255)
}

func newAttack(name string, g snn.Gradient, eps255 float64) attack.Named {
	eps := float32(eps255 / 255)
	var a *attack.Attack
	switch name {
	case "FGSM":
		a = attack.FGSM(eps, g)
	case "RFGSM":
		a = attack.RFGSM(eps, g)
	case "PGD":
		a = attack.PGD(eps, eps/3, iterations, g)
	case "BIM":
		a = attack.BIM(eps, eps/3, iterations, g)
	}
	return attack.Named{Name: label(name, g, eps255), Attack: a}
}

// attacks lists the attacks that a pair of networks is judged under, the table's and
// the curves', each once.
func attacks(o *options, white bool) []attack.Named {
	list := []attack.Named{}
	add := func(a attack.Named) {
		if !slices.ContainsFunc(list, func(b attack.Named) bool { return b.Name == a.Name }) {
			list = append(list, a)
		}
	}
	if white {
		add(attack.Named{Name: "noise", Attack: attack.GaussianNoise{Std: float32(o.TestEps / 255)}})
		for _, name := range []string{"FGSM", "PGD"} {
			add(newAttack(name, snn.CBA{}, o.TestEps))
		}
	}
	for _, name := range attackNames {
		for _, g := range gradients {
			add(newAttack(name, g, o.TestEps))
		}
	}
	for _, eps := range curve {
		add(newAttack("PGD", snn.BPTT{}, eps))
	}
	return list
}

// evaluate judges the RAT and the plain network, white-box and black-box.
func evaluate(ctx context.Context, o *options, d *data, nets *networks) (*results, error) {
	res := &results{Options: *o, Training: nets.metrics}
	for i, e := range []struct {
		title  string
		models []*snn.Model
		source *snn.Model
		to     []**attack.Report
	}{
		{"white-box, plain network", []*snn.Model{nets.Vanilla}, nil, []**attack.Report{&res.White.Vanilla}},
		{"white-box, RAT network", []*snn.Model{nets.RAT}, nil, []**attack.Report{&res.White.RAT}},
		{"black-box, both", []*snn.Model{nets.RAT, nets.Vanilla}, nets.Source, []**attack.Report{&res.Black.RAT, &res.Black.Vanilla}},
	} {
		bar := term.NewBar(fmt.Sprintf("attacks %d/3: %s", i+1, e.title))
		cfg := attack.DefaultConfig()
		cfg.Key, cfg.Source = rng.New(o.Seed).Derive("attacks", 0), e.source
		cfg.Progress = func(p attack.Progress) { bar.Set(p.Done, p.Total, p.Attack) }
		reports, err := attack.EvaluateAll(ctx, e.models, d.test, attacks(o, e.source == nil), cfg)
		bar.Close()
		if err != nil {
			return nil, err
		}
		for k, to := range e.to {
			*to = reports[k]
		}
	}
	return res, nil
}
