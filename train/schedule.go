package train

import (
	"errors"
	"fmt"
	"math"
)

// Schedule gives the learning rate of each step. [Constant], [Cosine], [StepDecay] and
// [Warmup] are schedules.
type Schedule interface {
	// Validate returns an error that names the first field out of its range.
	Validate() error
	// Rate returns the learning rate of a step, finite and at least 0. lr is the base
	// learning rate. Another rate ends the training with an error.
	Rate(lr float64, at Position) float64
}

// Position is the place of a step in a training.
type Position struct {
	Epoch, Epochs int // the epoch, from 0, and the number of all
	Step, Steps   int // the step within the epoch, from 0, and the number of those of an epoch
}

// Constant is a learning rate that stays at its base value.
type Constant struct{}

// Validate implements [Schedule].
func (Constant) Validate() error { return nil }

// Rate implements [Schedule].
func (Constant) Rate(lr float64, _ Position) float64 { return lr }

// Cosine lowers the learning rate along half a cosine wave. The rate would reach Floor in
// the epoch after the last (Loshchilov and Hutter, SGDR, ICLR 2017; PyTorch's
// CosineAnnealingLR):
//
//	Floor + ½·(lr − Floor)·(1 + cos(π·epoch/epochs))
//
// The rate stays the same in an epoch. With EveryStep, epoch has a fraction for the steps that
// are done.
type Cosine struct {
	Floor     float64 // lowest learning rate, at least 0
	EveryStep bool    // lower it after every step
}

// Validate implements [Schedule].
func (s Cosine) Validate() error {
	if !finite(s.Floor) || s.Floor < 0 {
		return fmt.Errorf("Cosine.Floor is %v, want a finite number of at least 0", s.Floor)
	}
	return nil
}

// Rate implements [Schedule].
func (s Cosine) Rate(lr float64, at Position) float64 {
	epoch := float64(at.Epoch)
	if s.EveryStep {
		epoch += float64(at.Step) / float64(at.Steps)
	}
	return s.Floor + float64((lr-s.Floor)*(1+math.Cos(math.Pi*epoch/float64(at.Epochs)))/2)
}

// StepDecay multiplies the learning rate by Gamma each time that Every epochs have passed
// (PyTorch's StepLR).
type StepDecay struct {
	Every int     // epochs between two changes, at least 1
	Gamma float64 // factor of a change, in (0, 1]
}

// Validate implements [Schedule].
func (s StepDecay) Validate() error {
	switch {
	case s.Every < 1:
		return fmt.Errorf("StepDecay.Every is %d, want at least 1", s.Every)
	case !(s.Gamma > 0 && s.Gamma <= 1):
		return fmt.Errorf("StepDecay.Gamma is %v, want a number in (0, 1]", s.Gamma)
	}
	return nil
}

// Rate implements [Schedule].
func (s StepDecay) Rate(lr float64, at Position) float64 {
	return lr * math.Pow(s.Gamma, float64(at.Epoch/s.Every))
}

// Warmup raises the learning rate by equal amounts from step to step (Goyal et al.: Accurate,
// Large Minibatch SGD, 2017). After Epochs epochs it has reached lr. Then begins, and takes
// the first epoch after the warm-up for its epoch 0, and those that are left for all.
type Warmup struct {
	Epochs int // at least 1
	Then   Schedule
}

// Validate implements [Schedule].
func (s Warmup) Validate() error {
	switch {
	case s.Epochs < 1:
		return fmt.Errorf("Warmup.Epochs is %d, want at least 1", s.Epochs)
	case s.Then == nil:
		return errors.New("Warmup.Then is nil, want a schedule such as Cosine{}")
	}
	return s.Then.Validate()
}

// Rate implements [Schedule].
func (s Warmup) Rate(lr float64, at Position) float64 {
	if at.Epoch < s.Epochs {
		return lr * float64(at.Epoch*at.Steps+at.Step+1) / float64(s.Epochs*at.Steps)
	}
	at.Epoch -= s.Epochs
	at.Epochs -= s.Epochs
	return s.Then.Rate(lr, at)
}
