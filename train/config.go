package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
	"github.com/org/snnrat/train/dataset"
)

// Regularizer projects the weights of linear and convolutional layers after every
// update. regularize.Orthogonal is one.
type Regularizer interface {
	// Apply projects the weight p of shape [out, in] or [C_out, C_in, k, k] in place. It
	// uses at most threads goroutines, or GOMAXPROCS if threads is not positive. All its
	// random numbers come from key. An error ends the training.
	Apply(p *autograd.Param, key rng.Key, threads int) error
}

// Monitor measures the model after every epoch. lipschitz.Tracker is one.
type Monitor interface {
	// Measure returns finite numbers by name, measured on m after the given number of
	// epochs. The name of a layer's number is quantity/parameter, such as
	// sigma_max/features.0.weight. Measure must not change m. An error ends the training.
	Measure(ctx context.Context, m *snn.Model, epochs int) (map[string]float64, error)
}

// Config holds the settings of a [Trainer].
type Config struct {
	Epochs    int                  // passes over the set, at least 1
	LR        float64              // base learning rate, finite and positive
	Schedule  Schedule             // learning rate of each step
	Optimizer Optimizer            // update rule
	Loader    dataset.LoaderConfig // batches, their order and augmentation
	Gradient  snn.Gradient         // how the gradient of the weights crosses neurons
	Loss      Loss                 // what the training minimizes
	Recipe    Recipe               // what a step does with a batch

	// Penalties are added to the loss. They see the pass over the images that the network
	// trains on, not a second one over clean images.
	Penalties []Penalty

	// Adversary perturbs the images of every batch (MIX of RAT). Nil trains on the
	// images as they are.
	Adversary snn.Adversary
	// Regularizer projects every weight of two or more extents after each update (REG
	// of RAT). Nil projects none.
	Regularizer Regularizer
	// Simplex projects the weights v of a convex combination onto the probability
	// simplex in place, after each update. regularize.Simplex does so. Nil projects
	// none.
	Simplex func(v []float32) error

	// ClipNorm bounds the L2 norm of the gradient of all parameters together. 0 is no bound.
	ClipNorm float64
	// EMA is the decay, in (0, 1), of an exponential moving average of all parameters and
	// buffers: after each update, average ← d·average + (1 − d)·value. The average starts at
	// the values before the first update, and d is min(EMA, (1+n)/(10+n)) at update n.
	// Validation and SaveBest use the average, and WithAverage hands it out. 0 makes none.
	EMA float64

	// MicroShards, a power of two, splits every batch into so many parts of about the same
	// size. 0 is no parts. The smallest batch has at least as many images.
	//
	// Gradients and the statistics of batch norm are sums over the images of a batch. With
	// parts, they are summed over each part, as if it were alone, and then over the parts by
	// a binary tree. This changes how they are rounded. The penalty of a batch is then the
	// mean of those of its parts.
	MicroShards int
	// Ranks connects this process to others that train the same network. Each rank computes
	// some micro-shards of every batch, and the results are the same bits at any number of
	// ranks. The number of ranks must divide MicroShards. Nil is one process alone.
	//
	// All ranks have the same model, set, key and configuration, apart from Progress and
	// Loader.Prefetch. They make the same calls of New, SaveEvery, SaveBest, Epochs, Save and
	// Resume. They get the same results and, if one fails, an error.
	// Rank 0 writes files and measures the Monitor.
	Ranks Ranks
	// MixedRanks allows ranks whose executables or kernel levels differ, so that the results
	// may depend on which rank computes what.
	MixedRanks bool

	// NoRollback leaves out the copy of the model's and the optimizer's state that a trainer
	// keeps while it trains: as much memory as these take. Without the copy, a step that fails
	// after it has begun to change the model leaves the trainer in a state that cannot be used
	// until Resume. See Epochs. The results of a training do not depend on it.
	NoRollback bool

	// Validation, if not nil, measures the accuracy on other images, for
	// Metrics.Validation and SaveBest.
	Validation *Validation

	// Monitor, if not nil, measures the model after every epoch for Metrics.Measured.
	// It does not affect the training, so a resumed training may have another.
	Monitor Monitor

	// Recorders write the metrics. They do not affect the training, so a resumed training
	// may have others.
	Recorders []Recorder

	// Progress, if not nil, is called after every step by the goroutine that ranges
	// over Epochs. It may call Trainer.Save.
	Progress func(Progress)
}

// Default returns the settings of the paper's vanilla network, for the given number of
// epochs: SGD with momentum 0.9 and weight decay 5e-4, a learning rate of 0.1 on a cosine
// schedule, batches of 64 images, and backpropagation through time. See [RAT] for the
// robust network.
func Default(epochs int) Config {
	return Config{
		Epochs: epochs, LR: 0.1, Schedule: Cosine{}, Optimizer: DefaultSGD(),
		Loader: dataset.DefaultTraining(), Gradient: snn.BPTT{}, Loss: CrossEntropy{}, Recipe: OneUpdate{},
	}
}

// RAT returns the settings of regularized adversarial training (Ding et al. 2022) for the
// given number of epochs. Each batch is perturbed by mix (MIX). After each update, reg
// projects the weights and simplex the convex combinations (REG). REG replaces weight
// decay, so the optimizer is SGD with momentum 0.9 and without weight decay. All else is as
// in [Default].
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

// Progress is the state of a training after a step.
type Progress struct {
	Epoch, Epochs int     // the current epoch, from 1, and the number of all
	Step, Steps   int     // the completed steps of the epoch, and the number of all
	Loss          float64 // mean loss of the step's images
}

// Metrics are the measurements of an epoch.
type Metrics struct {
	Epoch int     `json:"epoch"` // from 1
	LR    float64 `json:"lr"`    // learning rate, of the last step
	// Loss and Accuracy are means over the images of the epoch's steps. The pass of the
	// update computes both, in training mode, on the perturbed images if there is an
	// Adversary. Accuracy is in [0,1].
	Loss     float64 `json:"loss"`
	Accuracy float64 `json:"accuracy"`
	// Penalty is the mean of Config.Penalties over the updates, in units of Loss, which
	// includes it.
	Penalty float64 `json:"penalty,omitempty"`
	// FiringRate is the mean number of spikes per neuron and time step, in [0,1]. It is
	// 0 under snn.CBA, which has no spikes.
	FiringRate float64 `json:"firing_rate"`
	// Measured holds what Config.Monitor returned after the epoch. It is nil without one.
	Measured map[string]float64 `json:"measured,omitempty"`
	// Validation holds the scores of Config.Validation. It is nil after an epoch without one.
	Validation      *Scores `json:"validation,omitempty"`
	Seconds         float64 `json:"seconds"` // wall time without that of Validation and Monitor
	ImagesPerSecond float64 `json:"images_per_second"`
}

// validate returns an error that names the first field that is out of its range. The
// fields of Optimizer and Loader are checked by their users.
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
	case c.Loss == nil:
		return fmt.Errorf("train: Config.Loss is nil, want one such as CrossEntropy{}")
	case c.Recipe == nil:
		return fmt.Errorf("train: Config.Recipe is nil, want one such as OneUpdate{}")
	case !finite(c.ClipNorm) || c.ClipNorm < 0:
		return fmt.Errorf("train: Config.ClipNorm is %v, want a finite positive number, or 0 for no bound", c.ClipNorm)
	case !(c.EMA >= 0 && c.EMA < 1):
		return fmt.Errorf("train: Config.EMA is %v, want a number in (0, 1), or 0 for no average", c.EMA)
	}
	if i := slices.Index(c.Recorders, nil); i >= 0 {
		return fmt.Errorf("train: Config.Recorders[%d] is nil, want one such as CSV{\"metrics.csv\"}", i)
	}
	if err := c.Loss.Validate(); err != nil {
		return fmt.Errorf("train: Config.Loss: %w", err)
	}
	if err := c.Schedule.Validate(); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}
