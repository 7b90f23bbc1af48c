package snn

import (
	"context"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Adversary makes adversarial images. The attacks of package attack are adversaries. Package
// train can train on the images of an adversary.
type Adversary interface {
	// Perturb returns adversarial images for m, made from the images x. They have x's shape
	// and values in [0,1]. Slice y holds the true label of each image, in [0, m.Classes()).
	//
	// Perturb runs m in evaluation mode. It changes neither m's state nor x.
	//
	// All random numbers of image i come from key.Derive("image", ids[i]). Random numbers
	// for the whole batch come from other keys derived from key. If ids is nil, the id of
	// image i is i. The result for an image therefore depends neither on the other images
	// nor on the number of threads.
	//
	// Perturb returns ctx's error soon after ctx is done. It returns an error that names
	// the bad value if x does not fit m or holds a value outside [0,1]. It also returns one
	// if a label is out of range, if the numbers of images, labels and ids differ, or if
	// the adversary's own settings are invalid.
	Perturb(ctx context.Context, m *Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error)
}
