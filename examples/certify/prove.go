package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train"
)

// network returns the network of -network, or a new one of the other flags.
func (j *job) network() (*snn.Model, error) {
	if j.Network != "" {
		m, _, err := zoo.Load(j.Network)
		if err == nil {
			err = m.ValidateDataset(j.Test)
		}
		if err != nil {
			return nil, fmt.Errorf("-network %s: %w", j.Network, err)
		}
		return m, nil
	}
	cfg := zoo.Default(j.Arch).For(j.Train)
	cfg.Steps, cfg.BatchNorm, cfg.SoftReset, cfg.Detach = j.T, false, true, true
	cfg.Threshold = 0.5 // with 1, few neurons fire within two steps before the training
	m, err := zoo.New(cfg, rng.New(j.Seed))
	if err == nil {
		err = m.ValidateBounds()
	}
	if err != nil {
		return nil, fmt.Errorf("network of -arch %q: %w", j.Arch, err)
	}
	return m, nil
}

// stepWork is the work of a step of IBP on one image, in forward passes.
const stepWork = 16

func (j *job) trainingWork() float64 {
	if j.Network != "" {
		return 0
	}
	return stepWork * float64(j.Epochs*j.Train.N)
}

// train trains the network, or goes on with it from its checkpoint. The ramp of ε takes the middle
// half of the epochs.
func (j *job) train(ctx context.Context, m *snn.Model) ([]train.Metrics, error) {
	cfg := train.Default(j.Epochs)
	cfg.LR, cfg.ClipNorm = j.LR, 1
	cfg.Recipe = train.IBP{Eps: float32(j.TrainEps / 255), Kappa: j.Kappa, Warmup: j.Epochs / 8, Ramp: (j.Epochs + 1) / 2}
	epochWork := stepWork * float64(j.Train.N)
	cfg.Progress = func(p train.Progress) {
		j.meter.Add(epochWork/float64(p.Steps), fmt.Sprintf("training: epoch %d/%d, loss %.3f", p.Epoch, p.Epochs, p.Loss))
	}
	checkpoint := filepath.Join(j.out, "network.ckpt")
	if !j.resume {
		if err := runs.Remove(checkpoint); err != nil {
			return nil, err
		}
	}
	metrics, err := runs.Training{
		Checkpoint: checkpoint, Interval: runs.DefaultInterval,
		Resumed: func(epochs float64) { j.meter.Skip(epochs * epochWork) },
		Epoch: func(e train.Metrics) {
			j.meter.Finished(fmt.Sprintf("training: epoch %d of %d: loss %.3f, training accuracy %.1f %%", e.Epoch, j.Epochs, e.Loss, 100*e.Accuracy))
		},
	}.Run(ctx, m, j.Train, cfg, rng.New(j.Seed).Derive("train", 0))
	if err != nil {
		return nil, fmt.Errorf("training: %w", err)
	}
	return metrics, runs.Remove(checkpoint)
}
