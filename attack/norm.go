package attack

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Norm measures perturbations of an image, and makes the steps and projections that belong
// to it. Each slice holds the values of one image, [C·H·W], of all frames of an example,
// [Steps·C·H·W], or of the perturbation that its frames share, [C·H·W]. The String of a norm is its
// name in reports. Norms with equal names count as the same norm.
type Norm interface {
	fmt.Stringer
	// Distance returns the norm of x − y, computed in float64.
	Distance(x, y []float32) float64
	// Step adds to x the vector of norm alpha along which a function with gradient g
	// rises most. It leaves x as it is if g is zero.
	Step(x, g []float32, alpha float32)
	// Project moves x to the nearest point whose Distance from center is at most eps. It
	// rounds towards center.
	Project(x, center []float32, eps float32)
	// Uniform fills dst with a point drawn uniformly from the ball of radius eps around
	// zero.
	Uniform(dst []float32, eps float32, r *rand.Rand)
}

// LInf is the maximum norm: every value changes by at most ε.
type LInf struct{}

// L2 is the Euclidean norm over the values of an image, or of all frames of an example.
type L2 struct{}

// Distance implements [Norm].
func (LInf) Distance(x, y []float32) float64 {
	d := 0.0
	for i, v := range x {
		d = max(d, math.Abs(float64(v)-float64(y[i])))
	}
	return d
}

// Step implements [Norm]: alpha·sign(g), with sign(0) = 0.
func (LInf) Step(x, g []float32, alpha float32) {
	for i, v := range g {
		switch {
		case v > 0:
			x[i] += alpha
		case v < 0:
			x[i] -= alpha
		}
	}
}

// Project implements [Norm].
func (LInf) Project(x, center []float32, eps float32) {
	e := float64(eps)
	for i, v := range x {
		switch d := float64(v) - float64(center[i]); {
		case d > e:
			x[i] = offset(center[i], e)
		case d < -e:
			x[i] = offset(center[i], -e)
		}
	}
}

// Uniform implements [Norm].
func (LInf) Uniform(dst []float32, eps float32, r *rand.Rand) {
	for i := range dst {
		dst[i] = eps * (2*r.Float32() - 1)
	}
}

// String returns "L∞".
func (LInf) String() string { return "L∞" }

// Distance implements [Norm].
func (L2) Distance(x, y []float32) float64 {
	sum := 0.0
	for i, v := range x {
		d := float64(v) - float64(y[i])
		sum += float64(d * d)
	}
	return math.Sqrt(sum)
}

// Step implements [Norm]: alpha·g/‖g‖₂.
func (L2) Step(x, g []float32, alpha float32) {
	sum := 0.0
	for _, v := range g {
		sum += float64(v) * float64(v)
	}
	if sum == 0 {
		return
	}
	scale := float64(alpha) / math.Sqrt(sum)
	for i, v := range g {
		x[i] = float32(float64(x[i]) + float64(scale*float64(v)))
	}
}

// Project implements [Norm].
func (n L2) Project(x, center []float32, eps float32) {
	d := n.Distance(x, center)
	if d <= float64(eps) {
		return
	}
	// The last factor allows for the rounding of the float64 sum, here and in Distance.
	scale := float64(eps) / d * (1 - 1e-9)
	for i, v := range x {
		x[i] = offset(center[i], scale*(float64(v)-float64(center[i])))
	}
}

// Uniform implements [Norm]. It draws a Gaussian direction, and a length ε·u^(1/n) for u
// uniform in [0,1) and n values.
func (L2) Uniform(dst []float32, eps float32, r *rand.Rand) {
	sum := 0.0
	for i := range dst {
		v := r.NormFloat64()
		sum += float64(v * v)
		dst[i] = float32(v)
	}
	scale := float64(eps) * math.Pow(r.Float64(), 1/float64(len(dst))) / math.Sqrt(sum)
	for i, v := range dst {
		dst[i] = float32(scale * float64(v))
	}
}

// String returns "L2".
func (L2) String() string { return "L2" }

// offset returns the float32 nearest to c + d whose distance from c is at most |d|.
func offset(c float32, d float64) float32 {
	v := float32(float64(c) + d)
	if math.Abs(float64(v)-float64(c)) > math.Abs(d) {
		v = math.Nextafter32(v, c)
	}
	return v
}
