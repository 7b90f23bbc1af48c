// Package certify proves that no small change of an image changes the class that a spiking network
// gives it.
//
//	results, err := certify.Certify(ctx, m, images, labels, certify.Config{Epsilon: 1. / 255})
//
// A [Method] computes bounds of the logits over the ball of radius ε in the maximum norm, within
// [0,1]. The bounds include the rounding of the program.
package certify
