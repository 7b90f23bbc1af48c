// Package certify proves that no small change of an image changes the class that a spiking network
// gives it.
//
//	results, err := certify.Certify(ctx, m, images, labels, certify.Config{Epsilon: 1. / 255})
//
// # What is proved
//
// An image is [Certified] if the network gives the label to every image of its ball. The ball is all
// float32 images with values in [0,1] that differ from the image by at most ε in each value. The network is
// what m.Logits computes with the zero snn.Pass, rounding included. The class is the first of the
// largest logits.
//
// The proof holds for every kernel level, order of sums and number of threads, but for one of [Complete]
// that rests on runs of the network. That one holds at the kernel level in use. Proofs assume that
// float32 operations round to nearest, as IEEE 754 has it, with gradual underflow. That is the case for
// Go programs on amd64 and arm64.
//
// [Broken] comes with an image of the ball that the network gives another class, at the kernel level
// in use. [Unknown] is neither. It says nothing about the network.
//
// # Methods
//
// A [Method] computes bounds of the logits over the ball: [Intervals], [Trains] and [Linear], the
// default. Each is at least as tight as the one before, up to rounding of the bounds themselves, and
// slower. [Counts] is for networks of IF neurons with soft reset. The page docs/certificates.md derives
// the methods and measures them.
//
// # Layers
//
// There are bounds for convolutions, linear layers, batch norm, average pooling, residual blocks, and
// for LIF and GLIF neurons with any reset, but without synaptic current, adaptation and recurrence.
// There are bounds for maximum pooling of spikes. Images may have a frame for each of at most 64 steps.
//
// Random encoders and neurons are refused: a certificate would hold for one draw only. Randomized
// smoothing is the method for them.
package certify
