package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/term"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// networks are the three that the run trains.
type networks struct {
	RAT, Vanilla, Source *snn.Model
	metrics              map[string][]train.Metrics
}

// names are the networks' names in files, in the order in which they are trained.
var names = []string{"vanilla", "rat", "source"}

func checkpoint(o *options, name string) string { return filepath.Join(o.out, name+".ckpt") }

// prepare makes the output folder, and refuses to overwrite a run that can be resumed.
func prepare(o *options) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	probe, err := os.CreateTemp(o.out, ".writable")
	if err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	if o.resume {
		return nil
	}
	for _, name := range names {
		if _, err := os.Stat(checkpoint(o, name)); err == nil {
			return fmt.Errorf("%s is of a run that stopped: go on with -resume, choose another folder with -out, or remove it", checkpoint(o, name))
		}
	}
	return nil
}

func trainAll(ctx context.Context, o *options, d *data) (*networks, error) {
	nets := &networks{metrics: map[string][]train.Metrics{}}
	for i, n := range []struct {
		title string
		model **snn.Model
		rat   bool
	}{{"plain network", &nets.Vanilla, false}, {"RAT network", &nets.RAT, true}, {"black-box source", &nets.Source, false}} {
		m, err := zoo.New(o.network(d), rng.New(o.Seed).Derive(names[i], 0))
		if err != nil {
			return nil, err
		}
		if i == 0 {
			fmt.Printf("%v\n%d training and %d test images of %s\n\n", m.Summary(), d.train.N, d.test.N, o.Data)
		}
		*n.model = m
		title := fmt.Sprintf("training %d/3: %s", i+1, n.title)
		if nets.metrics[names[i]], err = trainOne(ctx, o, d, m, names[i], title, n.rat); err != nil {
			return nil, fmt.Errorf("%s: %w", title, err)
		}
		if err := m.Save(filepath.Join(o.out, names[i]+".safetensors")); err != nil {
			return nil, err
		}
	}
	return nets, nil
}

func (o *options) network(d *data) zoo.Config {
	cfg := zoo.Default(o.Arch)
	cfg.WidthMultiplier, cfg.Steps = o.Width, o.T
	cfg.Threshold, cfg.Leak = float32(o.Theta), float32(o.Leak)
	cfg.Channels, cfg.Height, cfg.Width, cfg.Classes = d.train.C, d.train.H, d.train.W, d.train.Classes
	cfg.Mean, cfg.Std = d.mean, d.std
	return cfg
}

// trainOne trains a network, or goes on with it, and keeps a checkpoint of every
// epoch.
func trainOne(ctx context.Context, o *options, d *data, m *snn.Model, name, title string, rat bool) ([]train.Metrics, error) {
	cfg := train.Default(o.Epochs)
	cfg.LR = o.LR
	if rat {
		reg := regularize.DefaultOrthogonal()
		reg.Beta = float32(o.Beta)
		cfg.Adversary = attack.RATMix(float32(o.Eps / 255))
		cfg.Regularizer, cfg.Simplex = reg, regularize.Simplex
		cfg.Optimizer = train.SGD{Momentum: 0.9}
	}
	bar := term.NewBar(title)
	defer bar.Close()
	cfg.Progress = func(p train.Progress) {
		bar.Set((p.Epoch-1)*p.Steps+p.Step, p.Epochs*p.Steps, fmt.Sprintf("loss %.3f", p.Loss))
	}
	t, err := train.New(m, d.train, cfg, rng.New(o.Seed).Derive("train "+name, 0))
	if err != nil {
		return nil, err
	}
	if o.resume {
		if err := t.Resume(checkpoint(o, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	for _, err := range t.Epochs(ctx) {
		if err != nil {
			return nil, err
		}
		if err := t.Save(checkpoint(o, name)); err != nil {
			return nil, err
		}
	}
	bar.Close()
	h := t.History()
	last := h[len(h)-1]
	fmt.Printf("%s: loss %.3f, training accuracy %.1f %%, firing rate %.1f %%\n", title, last.Loss, 100*last.Accuracy, 100*last.FiringRate)
	return h, nil
}

// finish removes the checkpoints of a run that is complete.
func (n *networks) finish(o *options) error {
	for _, name := range names {
		if err := os.Remove(checkpoint(o, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
