package main

import (
	"context"
	"fmt"
	"os"
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

// checkpoint returns the path of the checkpoint of a training that was stopped. There must be one with
// -resume, and without none that the training would overwrite.
func (o *options) checkpoint() (string, error) {
	path := filepath.Join(o.out, "network.ckpt")
	_, err := os.Lstat(path)
	switch {
	case o.Network != "":
	case o.resume && err != nil:
		return "", fmt.Errorf("-resume: %s holds no training that was stopped: start without -resume, or certify its network with -network", o.out)
	case !o.resume && err == nil:
		return "", fmt.Errorf("-out %s: holds a training that was stopped: go on with -resume, choose another folder, or remove %s", o.out, path)
	}
	return path, nil
}

// train trains the network, or goes on with it from its checkpoint. The ramp of ε takes the middle
// half of the epochs.
func (j *job) train(ctx context.Context, m *snn.Model, checkpoint string) ([]train.Metrics, error) {
	cfg := train.Default(j.Epochs)
	cfg.LR, cfg.ClipNorm = j.LR, 1
	cfg.Recipe = train.IBP{Eps: float32(j.TrainEps / 255), Kappa: j.Kappa, Warmup: j.Epochs / 8, Ramp: (j.Epochs + 1) / 2}
	epochWork := stepWork * float64(j.Train.N)
	cfg.Progress = func(p train.Progress) {
		j.meter.Add(epochWork/float64(p.Steps), fmt.Sprintf("training: epoch %d/%d, loss %.3f", p.Epoch, p.Epochs, p.Loss))
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
	return metrics, nil
}
