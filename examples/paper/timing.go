package main

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"time"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/tables"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/train"
	"github.com/org/snnrat/train/dataset"
)

// timing measures the time of the attacks by gradient approximation, and of RAT's parts.
var timing = experiment{
	name:  "timing",
	archs: []string{"vgg11", "wrn-16-4"},
	plan:  func(*options) []need { return nil },
	work: func(l *lab) float64 {
		return float64(len(l.subjects) * (4*(1+timedEpochs) + len(table1Attacks)*len(trials.Gradients)))
	},
	report: reportTiming,
}

const (
	timedBatches = 4 // of training in an epoch that is timed
	timedEpochs  = 3 // after one without
	timedAttacks = 5 // after one without
)

// times holds medians, in milliseconds an image.
type times struct {
	Threads int                           `json:"threads"`
	Batch   int                           `json:"batch"`
	Forward float64                       `json:"forward"`
	Attacks map[string]map[string]float64 `json:"attacks"` // by attack and gradient
	Train   map[string]float64            `json:"train"`   // by method
}

func reportTiming(ctx context.Context, l *lab) (*report, error) {
	all := map[string]*times{}
	text := fmt.Sprintf("Milliseconds an image, medians, %d threads, kernels %s, batches of %d; networks after %d updates\n",
		runtime.GOMAXPROCS(0), attack.Kernels(), l.Batch, timedBatches*(1+timedEpochs))
	for _, s := range l.subjects {
		t, err := l.time(ctx, s)
		if err != nil {
			return nil, err
		}
		all[s.String()] = t
		text += fmt.Sprintf("\n%v\n%v", s, t)
	}
	return &report{text: text, results: all}, nil
}

// time trains a network for a few updates by each method, and attacks the vanilla network.
func (l *lab) time(ctx context.Context, s subject) (*times, error) {
	t := &times{Threads: runtime.GOMAXPROCS(0), Batch: l.Batch, Attacks: map[string]map[string]float64{}, Train: map[string]float64{}}
	set, err := s.Train.First(min(timedBatches*l.Batch, s.Train.N))
	if err != nil {
		return nil, err
	}
	model, err := l.timeTraining(ctx, s, set, t)
	if err != nil {
		return nil, err
	}
	x, y := tensor.NewNCHW(min(l.Batch, set.N), set.C, set.H, set.W), set.Labels[:min(l.Batch, set.N)]
	indices := make([]int, x.N)
	for i := range indices {
		indices[i] = i
	}
	if err := set.Fill(x, indices); err != nil {
		return nil, err
	}
	if t.Forward, err = medianOf(timedAttacks, x.N, func() error { _, err := model.Logits(snn.Pass{}, x); return err }); err != nil {
		return nil, err
	}
	for _, name := range table1Attacks {
		t.Attacks[name] = map[string]float64{}
		for _, g := range trials.Gradients {
			p := l.trial(name, g).Adversary()
			t.Attacks[name][fmt.Sprint(g)], err = medianOf(timedAttacks, x.N, func() error {
				_, err := p.Perturb(ctx, model, x, y, nil, l.archive.key())
				return err
			})
			if err != nil {
				return nil, err
			}
			l.meter.Add(1, fmt.Sprintf("%v: %s %v", s, name, g))
		}
	}
	return t, nil
}

// timeTraining measures the training of all methods and returns the vanilla network. The
// methods take turns after every epoch, so other load affects all of them alike.
func (l *lab) timeTraining(ctx context.Context, s subject, set *dataset.Set, to *times) (vanillaNet *snn.Model, err error) {
	methods := []method{vanilla, mix, reg, rat}
	var next []func() (train.Metrics, error, bool)
	for _, m := range methods {
		n := l.network(s, need{method: m})
		n.Epochs = 1 + timedEpochs
		net, err := n.build()
		if err != nil {
			return nil, err
		}
		trainer, err := train.New(net, set, n.config(net), n.key("train"))
		if err != nil {
			return nil, err
		}
		pull, stop := iter.Pull2(trainer.Epochs(ctx))
		defer stop()
		next = append(next, pull)
		if m == vanilla {
			vanillaNet = net
		}
	}
	ms := make([][]float64, len(methods))
	for range 1 + timedEpochs {
		for i, m := range methods {
			e, err, _ := next[i]()
			if err != nil {
				return nil, fmt.Errorf("%v: %s: %w", s, m.Name, err)
			}
			if e.Epoch > 1 {
				ms[i] = append(ms[i], 1000*e.Seconds/float64(set.N))
			}
			l.meter.Add(1, fmt.Sprintf("%v: training, %s", s, m.Name))
		}
	}
	for i, m := range methods {
		to.Train[m.Name] = median(ms[i])
	}
	return vanillaNet, nil
}

// medianOf runs fn once, then measures it times times. It returns the median, in milliseconds
// an image.
func medianOf(times, images int, fn func() error) (float64, error) {
	var ms []float64
	for i := range 1 + times {
		start := time.Now()
		if err := fn(); err != nil {
			return 0, err
		}
		if i > 0 {
			ms = append(ms, 1000*time.Since(start).Seconds()/float64(images))
		}
	}
	return median(ms), nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// String returns the times as tables.
func (t *times) String() string {
	ms := func(v float64) string { return fmt.Sprintf("%.2f", v) }
	attacks := tables.Table{{"attack"}}
	for _, g := range trials.Gradients {
		attacks[0] = append(attacks[0], fmt.Sprint(g))
	}
	attacks[0] = append(attacks[0], "BPTT/BPTR", "BPTT/CBA")
	for _, name := range table1Attacks {
		row := []string{name}
		for _, g := range trials.Gradients {
			row = append(row, ms(t.Attacks[name][fmt.Sprint(g)]))
		}
		bptt := t.Attacks[name]["BPTT"]
		attacks.Add(append(row, ms(bptt/t.Attacks[name]["BPTR"])+"×", ms(bptt/t.Attacks[name]["CBA"])+"×")...)
	}
	parts := tables.Table{{"training", "", "of RAT"}}
	part := func(name string, v float64) {
		parts.Add(name, ms(v), fmt.Sprintf("%.0f %%", 100*v/t.Train["rat"]))
	}
	part("vanilla step", t.Train["vanilla"])
	part("MIX, beyond it", t.Train["mix"]-t.Train["vanilla"])
	part("REG, beyond it", t.Train["reg"]-t.Train["vanilla"])
	part("RAT", t.Train["rat"])
	return fmt.Sprintf("forward  %s\n\n%v\n%v", ms(t.Forward), attacks, parts)
}
