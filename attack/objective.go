package attack

import "github.com/org/snnrat/autograd"

// Objective is what an attack raises: a function of an image's logits.
type Objective interface {
	// Gradient writes to grad the gradient by logits of the sum of the images'
	// objectives, both row-major [N, classes]. y holds the labels; target the classes
	// that a targeted attack aims at, nil for an untargeted one.
	Gradient(grad, logits []float32, y, target []int)
}

// CrossEntropy is the softmax cross-entropy with the label; for a targeted attack,
// minus that with the target.
type CrossEntropy struct{}

// Gradient implements [Objective].
func (CrossEntropy) Gradient(grad, logits []float32, y, target []int) {
	if target == nil {
		autograd.CrossEntropy(nil, grad, logits, y, 0)
		return
	}
	autograd.CrossEntropy(nil, grad, logits, target, 0)
	for i := range grad {
		grad[i] = -grad[i]
	}
}
