package train

import (
	"errors"
	"fmt"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// Loss is the function of a network's output that a training minimizes. A training
// minimizes the mean of the loss over the images of a batch. [CrossEntropy], [TET],
// [TRADES], [MART], [GradientSparsity] and [CleanMix] are losses.
//
// A loss is a value without state. A training resumes only with the loss that it began
// with, and it compares exported fields. A loss with a String method goes by what that
// returns in errors, and by its type otherwise.
type Loss interface {
	// Validate returns an error that names the first field out of its range.
	Validate() error
	// NeedsClean reports whether the loss reads BatchOutput.Clean. The training then makes a
	// second pass, over the images as they were before the adversary.
	NeedsClean() bool
	// Compute writes the loss of image n to losses[n], for n from 0 to N − 1. It finds zeros
	// there. It returns the gradient of their sum with respect to the output: N·Classes values for the
	// gradient of Mean, or N·Steps·Classes values for that of Logits. The gradient of Mean
	// makes the faster backward pass.
	//
	// If NeedsClean is true, Compute also returns the gradient with respect to Clean, in
	// either layout, or nil if it is zero. Otherwise it returns nil for it.
	//
	// A value that is not a finite number ends the training, and so does a gradient of
	// another length. The error names the loss, the epoch, the step and the value.
	Compute(losses []float64, o BatchOutput) (grad, clean []float32)
}

// BatchOutput is what a [Loss] sees of a batch.
type BatchOutput struct {
	snn.Output            // of the images that the network trains on: those of the adversary, if there is one
	Clean      snn.Output // of the images before the adversary; zero unless the loss asked for it
	Labels     []int      // [N], in [0, Classes)
}

// CrossEntropy is the softmax cross-entropy of the mean output over time with the label.
// [autograd.CrossEntropy] has the equation. It is the loss of Ding et al. 2022.
type CrossEntropy struct {
	Smoothing float64 // share of the target that is spread evenly over all classes, in [0, 1)
}

// Validate implements [Loss].
func (l CrossEntropy) Validate() error {
	if !(l.Smoothing >= 0 && l.Smoothing < 1) {
		return fmt.Errorf("CrossEntropy.Smoothing is %v, want a number in [0, 1)", l.Smoothing)
	}
	return nil
}

// NeedsClean implements [Loss].
func (CrossEntropy) NeedsClean() bool { return false }

// Compute implements [Loss].
func (l CrossEntropy) Compute(losses []float64, o BatchOutput) (grad, clean []float32) {
	grad = make([]float32, len(o.Mean))
	autograd.CrossEntropy(losses, grad, o.Mean, o.Labels, l.Smoothing)
	return grad, nil
}

// CleanMix is a mix of a loss of the adversary's images and the same loss of the images
// before the adversary (Goodfellow et al. 2015):
//
//	(1 − Share)·Loss(perturbed) + Share·Loss(clean)
type CleanMix struct {
	Share float64 // in [0, 1]
	Loss  Loss    // one that needs no clean output
}

// Validate implements [Loss].
func (l CleanMix) Validate() error {
	switch {
	case !(l.Share >= 0 && l.Share <= 1):
		return fmt.Errorf("CleanMix.Share is %v, want a number in [0, 1]", l.Share)
	case l.Loss == nil:
		return errors.New("CleanMix.Loss is nil, want one such as CrossEntropy{}")
	case l.Loss.NeedsClean():
		return fmt.Errorf("CleanMix.Loss is %s, want a loss that needs no clean output", lossName(l.Loss))
	}
	return l.Loss.Validate()
}

// NeedsClean implements [Loss].
func (CleanMix) NeedsClean() bool { return true }

// Compute implements [Loss].
func (l CleanMix) Compute(losses []float64, o BatchOutput) (grad, clean []float32) {
	ofClean := make([]float64, len(losses))
	grad, _ = l.Loss.Compute(losses, BatchOutput{Output: o.Output, Labels: o.Labels})
	clean, _ = l.Loss.Compute(ofClean, BatchOutput{Output: o.Clean, Labels: o.Labels})
	for i, c := range ofClean {
		losses[i] = (1-l.Share)*losses[i] + l.Share*c
	}
	scale(grad, 1-l.Share)
	scale(clean, l.Share)
	return grad, clean
}

func scale(v []float32, factor float64) {
	for i := range v {
		v[i] *= float32(factor)
	}
}

// lossName returns the name of a loss in errors.
func lossName(l Loss) string {
	if s, ok := l.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", l)
}

// compute calls the loss and checks what it returns. The gradients are those of the mean
// loss of a batch of the given number of images.
func compute(l Loss, losses []float64, o BatchOutput, images int) (grad, clean []float32, err error) {
	grad, clean = l.Compute(losses, o)
	for n, v := range losses {
		if !finite(v) {
			return nil, nil, fmt.Errorf("loss %s: that of image %d of the batch is %v, want a finite number", lossName(l), n, v)
		}
	}
	if err := checkGradient(grad, o.Output); err != nil {
		return nil, nil, fmt.Errorf("loss %s: gradient: %w", lossName(l), err)
	}
	if clean == nil {
		return divided(grad, images), nil, nil
	}
	if !l.NeedsClean() {
		return nil, nil, fmt.Errorf("loss %s: it returns a gradient of the clean output, want nil if NeedsClean is false", lossName(l))
	}
	if err := checkGradient(clean, o.Clean); err != nil {
		return nil, nil, fmt.Errorf("loss %s: gradient of the clean output: %w", lossName(l), err)
	}
	return divided(grad, images), divided(clean, images), nil
}

// divided returns the gradient of a sum, divided by n. The loss keeps its memory.
func divided(grad []float32, n int) []float32 {
	scaled := make([]float32, len(grad))
	for i, g := range grad {
		scaled[i] = g / float32(n)
	}
	return scaled
}

// checkGradient returns an error if a gradient with respect to o has another length or a
// value that is not finite.
func checkGradient(grad []float32, o snn.Output) error {
	if len(grad) != len(o.Mean) && len(grad) != len(o.Logits) {
		return fmt.Errorf("%d values, want %d for the mean of %d images and %d classes, or %d for every one of %d steps",
			len(grad), len(o.Mean), o.N, o.Classes, len(o.Logits), o.Steps)
	}
	for i, v := range grad {
		if v-v != 0 {
			return fmt.Errorf("value %d, of image %d of the batch and class %d, is %v, want a finite number",
				i, i/(len(grad)/o.N), i%o.Classes, v)
		}
	}
	return nil
}
