package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/org/snnrat/lipschitz"
	"github.com/org/snnrat/regularize"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// Packages train and lipschitz do not import each other. This line checks that they fit.
var _ train.Monitor = (*lipschitz.Tracker)(nil)

// network is a network of the analysis.
type network struct {
	Name     string          `json:"name"`
	Config   zoo.Config      `json:"config"`
	Training []train.Metrics `json:"training,omitempty"`
	analysis

	model *snn.Model
	train bool // to be trained
	reg   bool // with REG
}

// networks returns the networks of -model, or two networks to train.
func (j *job) networks() (nets []*network, err error) {
	for _, path := range j.Models {
		m, cfg, err := zoo.Load(path)
		if err != nil {
			return nil, fmt.Errorf("-model: %w", err)
		}
		if m.Channels != j.Test.C || m.Height != j.Test.H || m.Width != j.Test.W {
			return nil, fmt.Errorf("-model %s: a network for images of %d×%d×%d: -data %s has %d×%d×%d; expected the same",
				path, m.Channels, m.Height, m.Width, j.options.Data, j.Test.C, j.Test.H, j.Test.W)
		}
		if err := m.ValidateDataset(j.Test); err != nil {
			return nil, fmt.Errorf("-model %s, -data %s: %w", path, j.options.Data, err)
		}
		nets = append(nets, &network{Name: path, Config: cfg, model: m})
	}
	if len(nets) == 0 {
		cfg := zoo.Default(j.Arch)
		cfg.WidthMultiplier, cfg.Steps = j.Width, j.T
		cfg.Threshold, cfg.Decay = float32(j.Theta), float32(j.Decay)
		cfg.Channels, cfg.Height, cfg.Width, cfg.Classes = j.Train.C, j.Train.H, j.Train.W, j.Train.Classes
		cfg.Mean, cfg.Std = j.Mean, j.Std
		for _, name := range []string{"plain", "regularized"} { // both start with the same weights
			m, err := zoo.New(cfg, rng.New(j.Seed).Derive("network", 0))
			if err != nil {
				return nil, fmt.Errorf("network of -arch %q: %w", j.Arch, err)
			}
			nets = append(nets, &network{Name: name, Config: cfg, model: m, train: true, reg: name == "regularized"})
		}
	}
	for _, n := range nets {
		if n.connections, err = lipschitz.Connections(n.model); err != nil {
			return nil, fmt.Errorf("%s: %w", n.Name, err)
		}
		if len(n.connections) < 2 { // the last one is that of the logits
			what := "-model " + n.Name
			if n.train {
				what = fmt.Sprintf("network of -arch %q", j.Arch)
			}
			return nil, fmt.Errorf("%s: no layer of neurons: expected at least one", what)
		}
		for _, c := range n.connections {
			for _, p := range c.Paths {
				if least := p.Map.MinGrid(); j.Grid > 0 && j.Grid < least && p.Map.Overlaps() > 1 {
					return nil, fmt.Errorf("-grid %d: expected 0 or at least %d for the map from %s to %s", j.Grid, least, p.From, c.Layer)
				}
			}
		}
	}
	return nets, nil
}

// trainOne trains a network and saves it. It prints the norms of the weights after every epoch.
func (j *job) trainOne(ctx context.Context, n *network) error {
	cfg := train.Default(j.Epochs)
	if n.reg {
		reg := regularize.ForVGG()
		reg.Beta = float32(j.Beta)
		cfg = train.RAT(j.Epochs, nil, reg, regularize.Simplex)
	}
	cfg.LR, cfg.Loader = j.LR, j.Loader
	cfg.Monitor = lipschitz.NewTracker(regularize.Defect)
	cfg.Progress = func(p train.Progress) {
		j.meter.Add(j.trainingWork()/float64(p.Epochs*p.Steps), fmt.Sprintf("%s: epoch %d/%d, loss %.3f", n.Name, p.Epoch, p.Epochs, p.Loss))
	}
	t, err := train.New(n.model, j.Train, cfg, rng.New(j.Seed).Derive("train", 0))
	if err != nil {
		return err
	}
	for e, err := range t.Epochs(ctx) {
		if err != nil {
			return err
		}
		j.meter.Clear()
		largest, defect := norms(e)
		fmt.Fprintf(j.stdout, "%-11s  epoch %d: loss %.3f, accuracy %.1f %%; largest σ_max %.3f, product %.3g, ‖W·Wᵀ − I‖ %.3f\n",
			n.Name, e.Epoch, e.Loss, 100*e.Accuracy, largest, e.Measured["sigma_max_product"], defect)
	}
	n.Training = t.History()
	return n.model.Save(filepath.Join(j.out, n.Name+".safetensors"))
}

// norms returns the largest spectral norm of the weights after an epoch, and the root of the
// sum of their squared defects.
func norms(m train.Metrics) (largest, defect float64) {
	for name, v := range m.Measured {
		switch kind, _, _ := strings.Cut(name, "/"); kind {
		case "sigma_max":
			largest = max(largest, v)
		case "defect":
			defect = math.Hypot(defect, v)
		}
	}
	return largest, defect
}
