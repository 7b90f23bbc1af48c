package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/org/snnrat/attack"
	"github.com/org/snnrat/examples/internal/runs"
	"github.com/org/snnrat/examples/internal/trials"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/snn/zoo"
	"github.com/org/snnrat/tensor"
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

// The work on one image, in forward passes: a step of IBP, and the proof for one ε.
const (
	stepWork  = 16
	proofWork = 60
)

func (j *job) trainingWork() float64 {
	if j.Network != "" {
		return 0
	}
	return stepWork * float64(j.Epochs*j.Train.N)
}

func (j *job) proofWork() float64 {
	return float64(len(j.Eps)*j.Test.N) * (proofWork + trials.Battery(j.Battery, 1).Work(1))
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

// prove certifies the test images at a radius, and attacks them.
func (j *job) prove(ctx context.Context, m *snn.Model, eps float64) (*radius, error) {
	proofs, err := j.certify(ctx, m, eps)
	if err != nil {
		return nil, fmt.Errorf("certificates at ε = %v/255: %w", eps, err)
	}
	r := &radius{Eps: eps}
	for i, p := range proofs {
		r.Rows = append(r.Rows, row{Verdict: p.Verdict, Margin: finite(p.Margin), Clean: p.Predicted, Attacked: p.Predicted})
		if p.Label != j.Test.Labels[i] {
			return nil, fmt.Errorf("image %d is certified as class %d: expected its label, %d", i, p.Label, j.Test.Labels[i])
		}
	}
	j.meter.Finished(fmt.Sprintf("certificates at ε = %v/255", eps))
	b := &trials.BatteryOutcome{Trial: trials.Battery(j.Battery, eps), Report: &attack.BatteryReport{Partial: true}}
	work := b.Work(1)
	err = b.Run(ctx, m, j.Test, attack.Shard{}, rng.New(j.Seed).Derive("battery", 0),
		func() { j.meter.Add(work, fmt.Sprintf("attacks at ε = %v/255", eps)) }, func() error { return nil })
	if err != nil {
		return nil, err
	}
	j.meter.Finished(fmt.Sprintf("attacks at ε = %v/255", eps))
	r.Faults = b.Faults()
	for i, o := range b.Report.Results {
		r.Rows[i].Attacked = o.Predicted
	}
	r.count(j.Test.Labels)
	return r, nil
}

// certify certifies the test images at a radius, several at a time. It looks for no counterexample.
func (j *job) certify(ctx context.Context, m *snn.Model, eps float64) ([]certify.Result, error) {
	x, all := tensor.NewNCHW(j.Test.N, j.Test.C, j.Test.H, j.Test.W), make([]int, j.Test.N)
	for i := range all {
		all[i] = i
	}
	if err := j.Test.Fill(x, all); err != nil {
		return nil, err
	}
	cfg := certify.Config{Epsilon: eps / 255, Method: method(m)}
	results, errs := make([]certify.Result, x.N), make([]error, x.N)
	const at = 8 // images at a time on each thread, between two lines of progress
	batch := at * parallel.Threads(j.threads)
	for lo := 0; lo < x.N; lo += batch {
		n := min(batch, x.N-lo)
		parallel.For(j.threads, n, func(i int) {
			i += lo
			r, err := certify.Certify(ctx, m, x.Slice(i, i+1), j.Test.Labels[i:i+1], cfg)
			if errs[i] = err; err == nil {
				results[i] = r[0]
			}
		})
		if err := cmp.Or(errs...); err != nil {
			return nil, err
		}
		j.meter.Add(float64(n)*proofWork, fmt.Sprintf("certificates at ε = %v/255", eps))
	}
	return results, nil
}

// method returns the method of the certificates: counts where all neurons are IF neurons with soft
// reset, and else linear relaxations.
func method(m *snn.Model) certify.Method {
	for _, r := range m.Summary().Rows {
		if n, ok := r.Layer.(snn.Neuron); ok {
			if l, ok := n.(*snn.LIF); !ok || l.Decay != 1 || !l.SoftReset {
				return certify.Linear{}
			}
		}
	}
	return certify.Counts{}
}
