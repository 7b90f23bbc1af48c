package smooth

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mathext"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Gaussian is randomized smoothing by Gaussian noise (Cohen, Rosenfeld, Kolter: Certified
// adversarial robustness via randomized smoothing, ICML 2019). The package comment has its
// theorem, and what is exact and what is random.
type Gaussian struct {
	// Sigma is the standard deviation σ of the noise, finite and positive, for pixels in [0,1].
	Sigma float64
	// Levels is the number of steps of the grid on which images and noisy images lie, from 1 to
	// 2¹⁷: the values are k/Levels for k = 0, …, Levels. It is 255 for images of bytes and 1 for
	// frames of spikes.
	Levels int
	// Samples0, from 1 to 2²⁰, is the number of noisy images by which Certify chooses the class.
	Samples0 int
	// Samples, from 1 to 2²⁰, is the number of noisy images by which Certify bounds the probability of that
	// class, and by which Predict predicts.
	Samples int
	// Alpha, in (0,1), is the largest probability that the result for an image is wrong.
	Alpha float64
}

// DefaultGaussian returns the settings of Cohen et al. for images of bytes, with a tenth of their
// samples: 100 to choose the class and 10,000 to bound its probability, and α = 0.001.
func DefaultGaussian(sigma float64) Gaussian {
	return Gaussian{Sigma: sigma, Levels: 255, Samples0: 100, Samples: 10_000, Alpha: 0.001}
}

// String returns the settings in one line.
func (g Gaussian) String() string {
	return fmt.Sprintf("Gaussian noise of σ = %v on the grid of 1/%d, %d + %d samples, α = %v", g.Sigma, g.Levels, g.Samples0, g.Samples, g.Alpha)
}

// mostSamples bounds the memory of a vote, and the error of lowerBound. The continued fraction of
// mathext.RegIncBeta ends after 300 terms. Near the mean of a binomial, it has not converged then for 2²¹
// samples and more.
const mostSamples = 1 << 20

func (g Gaussian) validate() error {
	switch {
	case !(g.Sigma > 0) || math.IsInf(g.Sigma, 0):
		return fmt.Errorf("sigma %v: expected a finite, positive number", g.Sigma)
	case g.Levels < 1 || g.Levels > mostLevels:
		return fmt.Errorf("levels %d: expected 1 to %d", g.Levels, mostLevels)
	case g.Samples0 < 1 || g.Samples0 > mostSamples:
		return fmt.Errorf("samples0 %d: expected 1 to %d", g.Samples0, mostSamples)
	case g.Samples < 1 || g.Samples > mostSamples:
		return fmt.Errorf("samples %d: expected 1 to %d", g.Samples, mostSamples)
	case !(g.Alpha > 0 && g.Alpha < 1):
		return fmt.Errorf("alpha %v: expected a number in (0,1)", g.Alpha)
	}
	return nil
}

// Certify implements [Method]. The radius of a certificate is an L2 distance, over all frames of
// an example that has several. It is 0 if the class is Abstain.
//
// Certify returns an error that names a setting out of range or a value that is not on the grid.
// The other errors are those of [snn.Model.ValidateParams] and [snn.Model.Logits].
func (g Gaussian) Certify(ctx context.Context, m *snn.Model, x tensor.NCHW, ids []uint64, key rng.Key) ([]Certificate, error) {
	list := make([]Certificate, x.N)
	err := g.eachImage(m, x, ids, key, func(i int, s *sampler) error {
		first, err := s.vote(ctx, "guess", g.Samples0)
		if err != nil {
			return err
		}
		c := Certificate{Class: argmax(first)}
		if c.Votes, err = s.vote(ctx, "certify", g.Samples); err != nil {
			return err
		}
		c.Low = max(0, lowerBound(c.Votes[c.Class], g.Samples, g.Alpha)-s.slack(x.Pixels()))
		if c.Low > 0.5 {
			// Less than Φ⁻¹ by more than it is rounded. It holds around the grid's image.
			c.Radius = max(0, g.Sigma*mathext.NormalQuantile(c.Low)*(1-1e-9)-s.off)
		}
		if c.Radius == 0 {
			c.Class = Abstain
		}
		list[i] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Prediction is what the smoothed network predicts for an image.
type Prediction struct {
	Class int   `json:"class"` // or Abstain
	Votes []int `json:"votes"` // [classes], the number of noisy images in each class
	// P is the p-value of the two-sided binomial test that the two classes with the most votes
	// are equally probable.
	P float64 `json:"p"`
}

// Predict predicts the class of each image by g.Samples noisy images. It abstains if P is more than
// g.Alpha. A class that it returns is the most probable one, except with a probability of at most
// g.Alpha. Arguments and errors are those of Certify.
func (g Gaussian) Predict(ctx context.Context, m *snn.Model, x tensor.NCHW, ids []uint64, key rng.Key) ([]Prediction, error) {
	list := make([]Prediction, x.N)
	err := g.eachImage(m, x, ids, key, func(i int, s *sampler) error {
		votes, err := s.vote(ctx, "predict", g.Samples)
		if err != nil {
			return err
		}
		p := Prediction{Class: argmax(votes), Votes: votes}
		second := 0
		for c, n := range votes {
			if c != p.Class {
				second = max(second, n)
			}
		}
		if p.P = binomialTest(votes[p.Class], second); p.P > g.Alpha {
			p.Class = Abstain
		}
		list[i] = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// eachImage calls fn with a sampler for each image of x.
func (g Gaussian) eachImage(m *snn.Model, x tensor.NCHW, ids []uint64, key rng.Key, fn func(i int, s *sampler) error) error {
	err := cmp.Or(g.validate(), validate(m, x, ids))
	if err != nil {
		return fmt.Errorf("smooth: %w", err)
	}
	z := newNoise(g.Sigma, g.Levels)
	for i := range x.N {
		s := &sampler{noise: z, m: m, shape: x.Shape(), key: imageKey(key, ids, i)}
		if s.levels, s.off, err = z.levelsOf(x, i); err != nil {
			return fmt.Errorf("smooth: %w", err)
		}
		if err := fn(i, s); err != nil {
			return fmt.Errorf("smooth: image %d: %w", i, err)
		}
	}
	return nil
}

// sampler runs a network on noisy versions of one image.
type sampler struct {
	*noise
	m      *snn.Model
	shape  tensor.Shape // of the image; N does not count
	levels []int32      // [pixels]
	off    float64      // the L2 distance of the image from its levels
	key    rng.Key      // of the image
}

// vote classifies n noisy images and returns the number of them in each class. The noise of sample
// j, and what the network itself draws on it, come from the image's key, the purpose and j.
func (s *sampler) vote(ctx context.Context, purpose string, n int) ([]int, error) {
	classes := make([]int, n)
	shape := s.shape
	shape.N = n
	err := s.m.ForEachChunk(shape, snn.Pass{}, func(lo, hi int, p snn.Pass) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		shape := shape
		shape.N = hi - lo
		x := tensor.NewFrames(shape)
		p.Keys = make([]rng.Key, x.N)
		for j := range p.Keys {
			// Layers and encoders derive keys of their own from this one.
			p.Keys[j] = s.key.Derive(purpose, uint64(lo+j))
			s.drawTo(x.Image(j), s.levels, p.Keys[j])
		}
		return classify(classes[lo:hi], s.m, p, x)
	})
	if err != nil {
		return nil, err
	}
	votes := make([]int, s.m.Classes())
	for _, c := range classes {
		votes[c]++
	}
	return votes, nil
}

// lowerBound returns the exact lower bound of Clopper and Pearson (1934) of a probability of which
// k cases of n are known: with probability 1 − alpha it is not above the true one. It is the p with
// P(X ≥ k) = alpha for a binomial X of n and p, less 1e-10 for the error of the computation. Its error
// is below 1e-11 for n up to mostSamples.
func lowerBound(k, n int, alpha float64) float64 {
	if k == 0 {
		return 0
	}
	low, high := 0.0, 1.0 // by bisection: InvRegIncBeta computes 1 − alpha, which loses digits
	for range 60 {
		p := (low + high) / 2
		if mathext.RegIncBeta(float64(k), float64(n-k+1), p) < alpha {
			low = p
		} else {
			high = p
		}
	}
	return max(0, low-1e-10)
}

// binomialTest returns the p-value of the two-sided test that a ≥ b of a + b cases come from a
// probability of ½.
func binomialTest(a, b int) float64 {
	if a == b { // zero cases among them
		return 1
	}
	return min(1, 2*mathext.RegIncBeta(float64(a), float64(b+1), 0.5))
}
