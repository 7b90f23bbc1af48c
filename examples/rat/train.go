package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// Packages train, attack and regularize do not import each other. Their types fit each
// other's interfaces.
var (
	_ snn.Adversary     = attack.Mix(nil)
	_ snn.Adversary     = (*attack.Attack)(nil)
	_ train.Regularizer = regularize.Orthogonal{}
)

// network is one of the three that the run trains.
type network struct {
	name  string // in files and keys
	title string
	rat   bool
}

// networks are in the order in which they are trained.
var networks = []network{
	{name: "vanilla", title: "plain network"},
	{name: "rat", title: "RAT network", rat: true},
	{name: "source", title: "source network"},
}

// work is the work of training on one image, in forward passes: 1 for the forward pass, 2
// for the backward pass, and for RAT the gradient step of the attack.
func (n network) work() float64 {
	if n.rat {
		return 3 + trials.GradientWork
	}
	return 3
}

// trained are the networks and the metrics of their training, by name.
type trained struct {
	models  map[string]*snn.Model
	metrics map[string][]train.Metrics
}

// check returns the summary of a network of the flags, or an error that names a flag that
// does not fit the others.
func (j *job) check() (*snn.Summary, error) {
	m, err := zoo.New(j.config(), rng.New(j.Seed))
	if err != nil {
		return nil, fmt.Errorf("network of -arch %q: %w", j.Arch, err)
	}
	if err := checkAttacks(j.options); err != nil {
		return nil, err
	}
	return m.Summary(), nil
}

func (j *job) config() zoo.Config {
	cfg := zoo.Default(j.Arch)
	cfg.WidthMultiplier, cfg.Steps = j.Width, j.T
	cfg.Threshold, cfg.Decay = float32(j.Theta), float32(j.Decay)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes = j.Train.C, j.Train.H, j.Train.W, j.Train.Classes
	cfg.Mean, cfg.Std = j.Mean, j.Std
	return cfg
}

func (j *job) trainingWork() (work float64) {
	for _, n := range networks {
		work += float64(j.Epochs*j.Train.N) * n.work()
	}
	return work
}

func (j *job) trainAll(ctx context.Context) (*trained, error) {
	nets := &trained{map[string]*snn.Model{}, map[string][]train.Metrics{}}
	for _, n := range networks {
		m, err := zoo.New(j.config(), rng.New(j.Seed).Derive(n.name, 0))
		if err != nil {
			return nil, err
		}
		h, err := j.trainOne(ctx, m, n)
		j.meter.Clear()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.title, err)
		}
		last := h[len(h)-1]
		fmt.Fprintf(j.stdout, "%s: loss %.3f, training accuracy %.1f %%, firing rate %.1f %%\n",
			n.title, last.Loss, 100*last.Accuracy, 100*last.FiringRate)
		nets.models[n.name], nets.metrics[n.name] = m, h
	}
	return nets, nil
}

// trainOne trains a network, or goes on with it from its checkpoint.
func (j *job) trainOne(ctx context.Context, m *snn.Model, n network) ([]train.Metrics, error) {
	cfg := train.Default(j.Epochs)
	if n.rat {
		reg := regularize.ForVGG()
		reg.Beta = float32(j.Beta)
		cfg = train.RAT(j.Epochs, attack.RATMix(float32(j.Eps/255)), reg, regularize.Simplex)
	}
	cfg.LR, cfg.Loader = j.LR, j.Loader
	epochWork := float64(j.Train.N) * n.work()
	cfg.Progress = func(p train.Progress) {
		j.meter.Add(epochWork/float64(p.Steps), fmt.Sprintf("%s: epoch %d/%d, loss %.3f", n.title, p.Epoch, p.Epochs, p.Loss))
	}
	return runs.Training{
		Checkpoint: j.journal.checkpoint(n.name), Interval: runs.DefaultInterval,
		Resumed: func(epochs float64) { j.meter.Skip(epochs * epochWork) },
		Epoch: func(e train.Metrics) {
			j.meter.Finished(fmt.Sprintf("%s: epoch %d of %d: loss %.3f, training accuracy %.1f %%",
				n.title, e.Epoch, j.Epochs, e.Loss, 100*e.Accuracy))
		},
	}.Run(ctx, m, j.Train, cfg, rng.New(j.Seed).Derive("train "+n.name, 0))
}

// save writes the networks to a folder.
func (t *trained) save(folder string) error {
	for _, n := range networks {
		if err := t.models[n.name].Save(filepath.Join(folder, n.name+".safetensors")); err != nil {
			return err
		}
	}
	return nil
}
