package attack

import (
	"fmt"
	"math/rand/v2"
)

// Start chooses the point where an attack begins. The attack projects the point onto the
// ball and clips it to [0,1]. If a start has a String method, reports show what it returns.
type Start interface {
	// Initialize moves x, the values of one image, [C·H·W], or of all its frames, to the
	// start of an attack of radius eps in norm n. Its random numbers come from r. If frames
	// share a perturbation, x is that perturbation, and zero before the call.
	Initialize(x []float32, n Norm, eps float32, r *rand.Rand)
}

// AtImage starts at the image itself.
type AtImage struct{}

// InBall starts at a point drawn uniformly from the ball of the attack's norm. In [Flips] it is one at
// the border, and in [Retiming] one that moves spikes at random.
type InBall struct{}

// RandomStep starts one step of the attack's norm away from the image, along a vector drawn
// from N(0, I). In L∞ that adds Length·sign(N(0,1)) to each value.
type RandomStep struct{ Length float32 }

// AtBest starts at the best point of the attacks before, in a [Battery], and at the image
// itself elsewhere.
type AtBest struct{}

// Initialize implements [Start].
func (AtBest) Initialize([]float32, Norm, float32, *rand.Rand) {}

// String returns "the best point before".
func (AtBest) String() string { return "the best point before" }

// Initialize implements [Start].
func (AtImage) Initialize([]float32, Norm, float32, *rand.Rand) {}

// Initialize implements [Start].
func (InBall) Initialize(x []float32, n Norm, eps float32, r *rand.Rand) {
	if n, ok := n.(spikeNorm); ok {
		n.around(x, eps, r)
		return
	}
	d := make([]float32, len(x))
	n.Uniform(d, eps, r)
	for i, v := range d {
		x[i] += v
	}
}

// Initialize implements [Start].
func (s RandomStep) Initialize(x []float32, n Norm, _ float32, r *rand.Rand) {
	d := make([]float32, len(x))
	for i := range d {
		d[i] = float32(r.NormFloat64())
	}
	n.Step(x, d, s.Length)
}

// String returns "the image".
func (AtImage) String() string { return "the image" }

// String returns "uniform in the ball".
func (InBall) String() string { return "uniform in the ball" }

// String names the start and its length.
func (s RandomStep) String() string { return fmt.Sprintf("a random step of length %v", s.Length) }
