package attack

import (
	"cmp"
	"fmt"
	"math"
	"slices"

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
// an image that the network is sure of, rounding would make the gradient zero. In the gradient,
// a probability below 2⁻²⁰ therefore counts as 2⁻²⁰. This keeps the direction.
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
			value[i] = float64(sign) * others(g, z, label)
		}
		for k := range g {
			g[k] *= sign
		}
	}
}

// others returns the cross-entropy of the logits z with a label of almost all the probability,
// without the rounding of numbers close to 1. To grad it writes 2⁻²⁰ times the softmax over the
// other classes, and −2⁻²⁰ for the label.
func others(grad, z []float32, label int) (value float64) {
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
		grad[k] = float32(0x1p-20 * math.Exp(float64(v)-top) / sum)
	}
	grad[label] = -0x1p-20
	return math.Log1p(sum * math.Exp(top-float64(z[label])))
}

// Margin is the largest logit of another class minus that of the label (Carlini and Wagner
// 2017, without a bound). For a targeted attack it is the target's logit minus the label's. It
// is 0 for networks of one class.
type Margin struct{}

// String returns "margin".
func (Margin) String() string { return "margin" }

// Evaluate implements [Objective].
func (Margin) Evaluate(value []float64, grad, logits []float32, y, target []int) {
	classes := len(logits) / len(y)
	for i, label := range y {
		z, g := logits[i*classes:][:classes], grad[i*classes:][:classes]
		other := rival(z, label)
		if target != nil {
			other = target[i]
		}
		value[i] = float64(z[other]) - float64(z[label])
		g[other]++
		g[label]--
	}
}

// rival returns the class other than label with the largest logit, the first among equals. It
// returns label if there is no other.
func rival(z []float32, label int) int {
	other := label
	for k, v := range z {
		if k != label && (other == label || v > z[other]) {
			other = k
		}
	}
	return other
}

// DLR is the difference of logits ratio (Croce and Hein 2020). With the label y and the classes
// π₁, π₂, … in the order of their logits, it is
//
//	−(z_y − max_{i≠y} z_i) / (z_π₁ − z_π₃)
//	−(z_y − z_t) / (z_π₁ − (z_π₃ + z_π₄)/2), with a target t
//
// It does not change if all logits are scaled or shifted. DLR is [Margin] where it would divide by
// almost nothing, as for equal logits. So it is for two classes, and with a target for three, where
// it would be constant for some targets. An Attack with a target refuses DLR for two classes.
type DLR struct{}

// String returns "DLR".
func (DLR) String() string { return "DLR" }

// Evaluate implements [Objective].
func (DLR) Evaluate(value []float64, grad, logits []float32, y, target []int) {
	classes := len(logits) / len(y)
	order := make([]int, classes)
	for i, label := range y {
		z, g := logits[i*classes:][:classes], grad[i*classes:][:classes]
		for k := range order {
			order[k] = k
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(z[b], z[a]) })
		other, last := rival(z, label), 2
		if target != nil {
			other, last = target[i], 3
		}
		var low [2]int // the classes that the denominator subtracts, half each
		difference, d := float64(z[other])-float64(z[label]), 0.0
		if classes > last {
			low = [2]int{order[2], order[last]}
			d = float64(z[order[0]]) - (float64(z[low[0]])+float64(z[low[1]]))/2
		}
		if d < 0x1p-60 || math.Abs(difference) > 0x1p40*d { // else the gradient is finite in float32
			value[i] = difference
			g[other]++
			g[label]--
			continue
		}
		value[i] = difference / d
		slope := difference / d / d
		g[other] += float32(1 / d)
		g[label] -= float32(1 / d)
		g[order[0]] -= float32(slope)
		g[low[0]] += float32(slope / 2)
		g[low[1]] += float32(slope / 2)
	}
}

// validateClasses returns an error if the objective has no meaning for so many classes.
func (DLR) validateClasses(classes int, targeted bool) error {
	if targeted && classes < 3 {
		return fmt.Errorf("targeted DLR of %d classes: expected at least 3, or another objective such as Margin{}", classes)
	}
	return nil
}
