package attack

import (
	"fmt"
	"math/rand/v2"
)

// Start is where an attack begins. What it chooses is then projected on the ball and
// clipped to [0,1].
type Start interface {
	// Initialize moves x, the values of one image, to the start of an attack of radius eps
	// in norm n.
	Initialize(x []float32, n Norm, eps float32, r *rand.Rand)
}

// AtImage starts at the image itself.
type AtImage struct{}

// InBall starts at a point drawn uniformly from the ball of the attack's norm.
type InBall struct{}

// RandomStep starts a step of the attack's norm away, of that length, along a vector
// drawn from N(0, I): in L∞, length·sign(N(0,1)) for each value.
type RandomStep struct{ Length float32 }

// Initialize implements [Start].
func (AtImage) Initialize([]float32, Norm, float32, *rand.Rand) {}

// Initialize implements [Start].
func (InBall) Initialize(x []float32, n Norm, eps float32, r *rand.Rand) {
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

func (AtImage) String() string { return "the image" }

func (InBall) String() string { return "uniform in the ball" }

func (s RandomStep) String() string { return fmt.Sprintf("a random step of length %v", s.Length) }
