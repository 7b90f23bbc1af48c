package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/org/snnrat/examples/internal/plots"
	"github.com/org/snnrat/examples/internal/trials"
)

// experiment is one of the paper's tables and figures.
type experiment struct {
	name  string
	archs []string // on which it is made by default
	// plan lists what it needs on a subject.
	plan func(o *options) []need
	// work is that of the report itself, in forward passes of an image; nil for none.
	work func(l *lab) float64
	// report makes its results from what is then there.
	report func(ctx context.Context, l *lab) (*report, error)
	// relations lists those that the paper states of it; nil for none. An experiment with
	// relations may have several seeds.
	relations func(o *options) []relation
}

// need is a network of an experiment and its trials. Clean images are always one of them.
type need struct {
	method   method
	beta     float64 // if not 0, instead of the usual one
	eps      float64 // if not 0, that of adversarial training in 255ths, instead of -eps
	source   bool    // judged on images made on the source (black-box)
	trials   []trials.Trial
	unjudged bool // no trials, not even of clean images

	replica int  // index of the seed in options.Seeds
	noBN    bool // without batch norm
	quiet   bool // judged without the noise of its neurons
	// distances lists the perturbations under which distances of spikes are measured.
	distances []trials.Trial
}

// toJudge lists the trials of a need.
func (n need) toJudge() []trials.Trial {
	if n.unjudged {
		return nil
	}
	return append([]trials.Trial{trials.Clean}, n.trials...)
}

// report holds the results of an experiment.
type report struct {
	text    string
	results any
	figures map[string]plots.Figure // by the file's name
	// relations are those of the paper, by the subject.
	relations map[string][]tested
}

var experiments = []experiment{table1, table2, table3, table4, figure1, figure2, timing, ablation, audit, frontier}

func experimentNames() string {
	var names []string
	for _, e := range experiments {
		names = append(names, e.name)
	}
	return strings.Join(names, ", ")
}

// experiment returns the experiment of -exp.
func (o *options) experiment() (experiment, error) {
	i := slices.IndexFunc(experiments, func(e experiment) bool { return e.name == o.Exp })
	if i < 0 {
		return experiment{}, fmt.Errorf("-exp %q: expected one of %s", o.Exp, experimentNames())
	}
	return experiments[i], nil
}
