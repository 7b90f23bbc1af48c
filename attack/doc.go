// Package attack makes adversarial images for spiking networks and counts who
// survives them:
//
//	pgd := attack.PGD(8./255, 0.01, 7, snn.BPTT{})
//	adv, err := pgd.Perturb(ctx, model, x, labels, ids, key)
//
//	report, err := attack.Evaluate(ctx, model, testSet, []attack.Named{
//		{Name: "FGSM", Attack: attack.FGSM(8./255, snn.BPTR{})},
//		{Name: "PGD", Attack: pgd},
//	}, attack.DefaultConfig())
//
// An [Attack] is composed of an objective, an approximation of the gradient (any
// [snn.Gradient]), a norm that bounds the perturbation, a start and a step, each a
// value of its own; [FGSM], [RFGSM], [PGD] and [BIM] are fillings of it. A new
// objective, norm or start works with all of the others.
//
// White-box attacks make images on the network that is judged, black-box attacks on
// another one, [Config.Source].
//
// Images have values in [0,1]; normalization is part of the model. A perturbation of
// radius ε is bounded exactly: see [Attack.Perturb]. What is random for an image is
// keyed by the image, and a [Mix]'s choice by the call, so results depend neither on
// batches nor on threads.
//
// # How far to trust an accuracy under attack
//
// A network may seem robust because its gradient is of no use (Athalye et al. 2018;
// Carlini et al. 2019). What speaks for that, and how to see it:
//
//   - Outcome.ZeroGradient lists images: the gradient was zero for them.
//   - An attack with ε = 1, which may paint any image, leaves some accuracy.
//   - One step does more than many, or black-box attacks more than white-box ones.
//   - More steps, smaller ones, another surrogate ([snn.BPTT] takes one), another objective,
//     or another start take much more. The same attack under several names starts from as
//     many points, and Report.WorstCase counts an image as lost if one of them succeeds.
//
// An attack returns the images of its last step, which need not be the best that it has
// seen. A network with Poisson encoding is shown new spikes at every step; gradients are not
// averaged over several draws.
package attack
