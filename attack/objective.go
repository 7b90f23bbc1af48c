package attack

import (
	"math"

	"github.com/org/snnrat/autograd"
)

// Objective is the function of an image's logits that an attack raises. If an objective has
// a String method, reports show what it returns.
type Objective interface {
	// Evaluate writes the objective of each image to value, [N], and to grad the gradient of
	// their sum with respect to logits. Both grad and logits are row-major, [N, classes].
	// Slices value and grad are zero before the call. Slice y holds the labels, [N]. Slice
	// target holds the classes that a targeted attack aims at, [N]; it is nil for an
	// untargeted attack. An Attack evaluates one image at a time.
	Evaluate(value []float64, grad, logits []float32, y, target []int)
}

// CrossEntropy is the softmax cross-entropy of the logits with the label. For a targeted
// attack it is minus the cross-entropy with the target.
//
// The gradient is proportional to the probability of the classes other than the label. For
// an image that the network is sure of, rounding would make the gradient zero. Evaluate
// therefore divides the gradient by that probability if the probability is below 2⁻²⁰. This
// keeps the direction.
type CrossEntropy struct{}

// String returns "cross-entropy".
func (CrossEntropy) String() string { return "cross-entropy" }

// Evaluate implements [Objective].
func (CrossEntropy) Evaluate(value []float64, grad, logits []float32, y, target []int) {
	labels, sign := y, float32(1)
	if target != nil {
		labels, sign = target, -1
	}
	autograd.CrossEntropy(nil, grad, logits, labels, 0)
	classes := len(logits) / len(labels)
	for i, label := range labels {
		g, z := grad[i*classes:][:classes], logits[i*classes:][:classes]
		value[i] = float64(sign) * (expSum(z) - float64(z[label]))
		if g[label] > -0x1p-20 && classes > 1 {
			others(g, z, label)
		}
		for k := range g {
			g[k] *= sign
		}
	}
}

// others writes to grad the gradient of the cross-entropy of the logits z with the label,
// divided by the probability of all other classes. That is the softmax over the other
// classes, and −1 for the label.
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
