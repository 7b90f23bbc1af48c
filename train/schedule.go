package train

import (
	"fmt"
	"math"
)

// Schedule lowers the learning rate from epoch to epoch: [Constant], [Cosine] or
// [StepDecay].
type Schedule interface {
	// Validate returns an error that names the first field out of its range.
	Validate() error
	// Rate returns the learning rate of an epoch, numbered from 0, out of epochs, for
	// the base rate lr of epoch 0.
	Rate(lr float64, epoch, epochs int) float64
}

// Constant leaves the learning rate as it is.
type Constant struct{}

// Validate implements [Schedule].
func (Constant) Validate() error { return nil }

// Rate implements [Schedule].
func (Constant) Rate(lr float64, epoch, epochs int) float64 { return lr }

// Cosine lowers the learning rate along half a wave, down to Floor after the last
// epoch (Loshchilov and Hutter, SGDR, ICLR 2017; PyTorch's CosineAnnealingLR):
//
//	Floor + ½·(lr − Floor)·(1 + cos(π·epoch/epochs))
type Cosine struct {
	Floor float64 // at least 0
}

// Validate implements [Schedule].
func (s Cosine) Validate() error {
	if !finite(s.Floor) || s.Floor < 0 {
		return fmt.Errorf("Cosine.Floor is %v, want a finite number of at least 0", s.Floor)
	}
	return nil
}

// Rate implements [Schedule].
func (s Cosine) Rate(lr float64, epoch, epochs int) float64 {
	return s.Floor + (lr-s.Floor)*(1+math.Cos(math.Pi*float64(epoch)/float64(epochs)))/2
}

// StepDecay multiplies the learning rate by Gamma after every Every epochs
// (PyTorch's StepLR).
type StepDecay struct {
	Every int     // at least 1
	Gamma float64 // in (0, 1]
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
func (s StepDecay) Rate(lr float64, epoch, epochs int) float64 {
	return lr * math.Pow(s.Gamma, float64(epoch/s.Every))
}
