package smooth

import (
	"context"
	"fmt"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Abstain is the class of a smoothed network that does not decide.
const Abstain = -1

// Method makes a smoothed network of a network and certifies its classes. [Gaussian] and [Windows]
// are methods.
type Method interface {
	// Certify classifies each image of x, or each example of several frames, with the smoothed
	// network of m, and bounds the distance within which the class cannot change.
	//
	// The random numbers of image i come from key.Derive("image", ids[i]). If ids is nil, the id
	// of image i is i. The result for an image depends neither on the other images nor on the
	// number of threads.
	//
	// Certify returns ctx's error soon after ctx is done.
	Certify(ctx context.Context, m *snn.Model, x tensor.NCHW, ids []uint64, key rng.Key) ([]Certificate, error)
	// String returns the settings in one line.
	String() string
}

// Certificate is a class of the smoothed network and the distance within which it cannot change.
type Certificate struct {
	Class int `json:"class"` // or Abstain
	// Radius is the largest certified distance, in the unit of the method: the smoothed network
	// gives every image within it the same Class. That need not be the label.
	Radius float64 `json:"radius"`
	// Votes holds the number of noisy images, or of windows, in each class, [classes].
	Votes []int `json:"votes"`
	// Low is the lower bound of the probability of the class under noise. It is 0 for Windows.
	Low float64 `json:"low,omitempty"`
}

// validate returns an error if m cannot run on x, or if the numbers of images and ids differ.
func validate(m *snn.Model, x tensor.NCHW, ids []uint64) error {
	if err := m.ValidateParams(); err != nil {
		return err
	}
	if err := m.ValidateImages(x); err != nil {
		return err
	}
	if ids != nil && len(ids) != x.N {
		return fmt.Errorf("%d ids for %d images: expected one for each, or nil", len(ids), x.N)
	}
	return nil
}

// imageKey returns the key of image i.
func imageKey(key rng.Key, ids []uint64, i int) rng.Key {
	id := uint64(i)
	if ids != nil {
		id = ids[i]
	}
	return key.Derive("image", id)
}

// classify writes the class that m predicts for each image of x to classes.
func classify(classes []int, m *snn.Model, p snn.Pass, x tensor.NCHW) error {
	logits, err := m.Logits(p, x)
	if err != nil {
		return err
	}
	for i := range classes {
		classes[i] = argmax(logits[i*m.Classes():][:m.Classes()])
	}
	return nil
}

// argmax returns the index of the largest value, the first of them if there are several.
func argmax[T int | float32](v []T) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}
