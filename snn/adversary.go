package snn

import (
	"context"

	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Adversary makes adversarial images. The attacks of package attack are adversaries;
// package train trains on the images of one.
type Adversary interface {
	// Perturb returns images of x's shape that are to mislead m, with values in [0,1].
	// Slice y holds the true label of each image, in [0, m.Classes()).
	//
	// Perturb runs m in evaluation mode. It changes neither m's state nor x.
	//
	// All random numbers of image i come from key.Derive("image", ids[i]); those that
	// concern the whole batch come from other keys derived from key. Nil ids stand for
	// the images' places in the batch. What is returned for an image therefore depends
	// neither on the other images nor on the number of threads.
	//
	// Perturb returns ctx's error soon after ctx is done. It returns an error that names
	// the value at fault if x does not fit m, if x holds a value outside [0,1], if a
	// label is out of range, if the numbers of images, labels and ids differ, or if the
	// adversary's own settings are invalid.
	Perturb(ctx context.Context, m *Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error)
}
