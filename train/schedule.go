package train

import (
	"fmt"
	"math"
)

// Schedule gives the learning rate of each epoch. [Constant], [Cosine] and [StepDecay] are
// schedules.
type Schedule interface {
	// Validate returns an error that names the first field out of its range.
	Validate() error
	// Rate returns the learning rate of the given epoch. Epochs are numbered from 0 to
	// epochs − 1, and lr is the base learning rate.
	Rate(lr float64, epoch, epochs int) float64
}

// Constant is a learning rate that stays at its base value.
type Constant struct{}

// Validate implements [Schedule].
func (Constant) Validate() error { return nil }

// Rate implements [Schedule].
func (Constant) Rate(lr float64, epoch, epochs int) float64 { return lr }

// Cosine lowers the learning rate along half a cosine wave. The rate would reach Floor in
// the epoch after the last (Loshchilov and Hutter, SGDR, ICLR 2017; PyTorch's
// CosineAnnealingLR):
//
//	Floor + ½·(lr − Floor)·(1 + cos(π·epoch/epochs))
type Cosine struct {
	Floor float64 // lowest learning rate, at least 0
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
func (s StepDecay) Rate(lr float64, epoch, epochs int) float64 {
	return lr * math.Pow(s.Gamma, float64(epoch/s.Every))
}
