package train

import (
	"context"
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// Regularizer projects the weights of linear and convolutional layers after every
// update, such as regularize.Orthogonal.
type Regularizer interface {
	// Apply projects p, of Shape [out, in] or [Cout, Cin, k, k], from at most threads
	// goroutines (GOMAXPROCS if threads is not positive), and draws from key alone.
	Apply(p *autograd.Param, key rng.Key, threads int) error
}

// Monitor measures the model after every epoch, such as lipschitz.Tracker.
type Monitor interface {
	// Measure returns what it measured of m, which it leaves alone, after so many
	// epochs: finite numbers by name. Layers' come as quantity/parameter, such as
	// sigma_max/features.0.weight.
	Measure(ctx context.Context, m *snn.Model, epochs int) (map[string]float64, error)
}

// Config says how a [Trainer] trains.
type Config struct {
	Epochs         int                  // passes over the set, at least 1
	LR             float64              // base learning rate, finite and positive
	Schedule       Schedule             // of the learning rate over the epochs
	Optimizer      Optimizer            // makes the updates
	Loader         dataset.LoaderConfig // batches, their order and augmentation
	Gradient       snn.Gradient         // how the gradient of the weights crosses neurons
	LabelSmoothing float64              // share of the target that is spread over all classes, in [0, 1)

	// Adversary makes the images of a step from those of the batch: MIX of RAT. Nil
	// leaves them as they are.
	Adversary snn.Adversary
	// HIRE moves the images within a step, from one update to the next. Nil makes one
	// update a step.
	HIRE *HIRE
	// Regularizer projects every weight of two extents or more after each update: REG
	// of RAT. Nil leaves them as they are.
	Regularizer Regularizer
	// Simplex projects the weights of a convex combination onto the probability
	// simplex, after each update, in place: regularize.Simplex. Nil leaves them free.
	Simplex func(v []float32) error

	// Monitor measures the model at the end of every epoch, for Metrics.Measured, or
	// not if it is nil. The training does not depend on it, so that a resumed one may
	// have another.
	Monitor Monitor

	// Progress, if not nil, is called after every step, from the goroutine that
	// ranges over Epochs.
	Progress func(Progress)
}

// Default returns the settings of the paper's vanilla network for so many epochs: SGD
// with momentum 0.9 and weight decay 5e-4, a learning rate of 0.1 on a cosine schedule,
// batches of 64 images, and backpropagation through time. See [RAT] for the robust
// network.
func Default(epochs int) Config {
	return Config{
		Epochs: epochs, LR: 0.1, Schedule: Cosine{}, Optimizer: DefaultSGD(),
		Loader: dataset.DefaultTraining(), Gradient: snn.BPTT{},
	}
}

// RAT returns the settings of regularized adversarial training (Ding et al. 2022) for so
// many epochs. Each batch is perturbed by mix (MIX). After each update, reg projects the
// weights and simplex the convex combinations (REG). REG replaces weight decay, so the
// optimizer is SGD with momentum 0.9 and without weight decay. All else is as in
// [Default].
//
// The paper's settings are attack.RATMix(2./255), regularize.Simplex, and
// regularize.ForVGG() or regularize.ForWRN(). A nil mix trains by REG alone. RAT panics
// if reg or simplex is nil.
func RAT(epochs int, mix snn.Adversary, reg Regularizer, simplex func(v []float32) error) Config {
	if reg == nil || simplex == nil {
		panic("train: RAT: the regularizer or the simplex projection is nil")
	}
	cfg := Default(epochs)
	cfg.Optimizer = SGD{Momentum: 0.9}
	cfg.Adversary, cfg.Regularizer, cfg.Simplex = mix, reg, simplex
	return cfg
}

// Progress tells how far training is.
type Progress struct {
	Epoch, Epochs int // the current one, from 1, and how many there will be
	Step, Steps   int // the steps of the epoch that are done, and how many it has
	Loss          float64
}

// Metrics are the measurements of an epoch.
type Metrics struct {
	Epoch int     `json:"epoch"` // from 1
	LR    float64 `json:"lr"`    // learning rate
	// Loss and Accuracy, in [0,1], are means over the images that were trained on,
	// perturbed if there is an Adversary, at the time they were, in training mode.
	Loss     float64 `json:"loss"`
	Accuracy float64 `json:"accuracy"`
	// FiringRate is the mean number of spikes a neuron and step, in [0,1]; 0 under
	// snn.CBA, which has none.
	FiringRate float64 `json:"firing_rate"`
	// Measured is what Config.Monitor measured after the epoch; nil without one.
	Measured        map[string]float64 `json:"measured,omitempty"`
	Seconds         float64            `json:"seconds"` // but for the Monitor's
	ImagesPerSecond float64            `json:"images_per_second"`
}

// validate returns an error that names the first field that is out of its range;
// those of Optimizer and Loader are checked where they are used.
func (c Config) validate() error {
	switch {
	case c.Epochs < 1:
		return fmt.Errorf("train: Config.Epochs is %d, want at least 1", c.Epochs)
	case !finite(c.LR) || c.LR <= 0:
		return fmt.Errorf("train: Config.LR is %v, want a finite positive number", c.LR)
	case c.Schedule == nil:
		return fmt.Errorf("train: Config.Schedule is nil, want one such as Cosine{}")
	case c.Optimizer == nil:
		return fmt.Errorf("train: Config.Optimizer is nil, want one such as DefaultSGD()")
	case c.Gradient == nil:
		return fmt.Errorf("train: Config.Gradient is nil, want one such as snn.BPTT{}")
	case !(c.LabelSmoothing >= 0 && c.LabelSmoothing < 1):
		return fmt.Errorf("train: Config.LabelSmoothing is %v, want a number in [0, 1)", c.LabelSmoothing)
	}
	if err := c.Schedule.Validate(); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}
