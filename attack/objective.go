package attack

import (
	"math"

	"github.com/org/snnrat/autograd"
)

// Objective is what an attack raises: a function of an image's logits.
type Objective interface {
	// Gradient writes to grad the gradient by logits of the sum of the images'
	// objectives, both row-major [N, classes]. y holds the labels; target the classes
	// that a targeted attack aims at, nil for an untargeted one.
	Gradient(grad, logits []float32, y, target []int)
}

// CrossEntropy is the softmax cross-entropy with the label; for a targeted attack,
// minus that with the target.
//
// Of an image that the network is sure of, a gradient which is the probability of the other
// classes would vanish in rounding, and the attack with it. Below 2⁻²⁰ it is therefore
// divided by that probability, which changes no direction.
type CrossEntropy struct{}

func (CrossEntropy) String() string { return "cross-entropy" }

// Gradient implements [Objective].
func (CrossEntropy) Gradient(grad, logits []float32, y, target []int) {
	labels, sign := y, float32(1)
	if target != nil {
		labels, sign = target, -1
	}
	autograd.CrossEntropy(nil, grad, logits, labels, 0)
	classes := len(logits) / len(labels)
	for i, label := range labels {
		g := grad[i*classes:][:classes]
		if g[label] > -0x1p-20 && classes > 1 {
			others(g, logits[i*classes:][:classes], label)
		}
		for k := range g {
			g[k] *= sign
		}
	}
}

// others writes to grad the gradient of the cross-entropy of the logits z with the label,
// divided by the probability of all other classes: the softmax over them, and −1.
func others(grad, z []float32, label int) {
	top := math.Inf(-1)
	for k, v := range z {
		if k != label {
			top = max(top, float64(v))
		}
	}
	var sum float64
	for k, v := range z {
		if k != label {
			sum += math.Exp(float64(v) - top)
		}
	}
	for k, v := range z {
		grad[k] = float32(math.Exp(float64(v)-top) / sum)
	}
	grad[label] = -1
}
