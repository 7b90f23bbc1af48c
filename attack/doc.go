// Package attack makes adversarial images for spiking networks and evaluates networks
// under attack.
//
//	pgd := attack.PGD(8./255, 0.01, 7, snn.BPTT{})
//	adv, err := pgd.Perturb(ctx, model, x, labels, ids, key)
//
//	report, err := attack.Evaluate(ctx, model, testSet, []attack.Named{
//		{Name: "FGSM", Attack: attack.FGSM(8./255, snn.BPTR{})},
//		{Name: "PGD", Attack: pgd},
//	}, attack.DefaultConfig())
//
// # Attacks
//
// An [Attack] has five parts, and each of them is a value of its own: an objective, a
// gradient approximation (any [snn.Gradient]), a norm, a start and a step rule. [FGSM],
// [RFGSM], [PGD], [BIM] and [TRADES] return an Attack with the parts of that method. A new
// objective, norm or start works with all other parts. An objective that compares an image
// with its original, as [KL] does, is a [CleanObjective].
//
// [Square] and [LocalSearch] ask for logits alone, and [Rounds] repeats attacks from new starts.
// A [Battery] runs a list of attacks in turn around each image. [Preset] returns one that is
// ready to use. On spiking networks, a search from the best point of a gradient attack finds
// far more than further steps.
//
// White-box attacks make images on the network that is evaluated. Black-box attacks make
// them on another network, [Config.Source].
//
// Images have values in [0,1]. Normalization is part of the model.
//
// An example may have a frame for each time step. Every frame then gets a perturbation of
// its own, or Attack.SharedFrames makes one perturbation for all of them.
//
// # Threat models
//
// A [Threat] is a norm and a radius ε. Every attack is evaluated within one threat model:
// that of the adversary if it is [Bounded], and [Config].Threat otherwise. [Evaluate]
// measures the distance of every attacked image from its original, in float64 and without
// tolerance. It does so for every adversary. An image outside the ball or outside [0,1] is
// an error. The distance is that of the whole example, with all its frames, unless PerFrame
// is set.
//
// The worst case of a [Report] belongs to one threat model. It counts an image as lost if
// the network misclassifies it clean or under any attack within that model. The report
// shows an adversary without a bound, such as [GaussianNoise], but the worst case does not
// count it.
//
// # Results
//
// A [Report] prints itself, and is written to and read from JSON. Its tables give each
// accuracy with a 95 % interval, for all images and per class. [McNemar] compares two
// networks on the same images. The images that [Config].Keep chooses are in [Report].Kept,
// and [Report.WritePNG] and [Report.WriteNPZ] write them to files.
//
// # Repeatability
//
// The random numbers of an image come from a key and the image's index. The choice of a
// [Mix] comes from the key of the call. Results therefore depend neither on the size of a
// batch nor on the number of threads.
//
// # How far to trust an accuracy under attack
//
// An accuracy under attack is an upper bound on robustness: a stronger attack may exist. A
// network can also look robust because its gradient is useless to the attack (Athalye et
// al. 2018; Carlini et al. 2019). Signs of that are:
//
//   - Outcome.ZeroGradient lists many images: the attack did not move them.
//   - An attack with ε = 1, which may change every pixel to any value, leaves some accuracy.
//   - One step is stronger than many steps, or a black-box attack than a white-box one.
//   - The accuracy falls much further with more steps, smaller steps, another surrogate
//     ([snn.BPTT] takes one), another objective or another start.
//
// An attack with a random start can be given several times, each time under another name.
// Each then starts from other points, and Report.WorstCase counts an image as lost if one
// of them succeeds.
//
// An attack returns the images of its last step. An earlier step may have been better. A
// network with Poisson encoding gets new spikes at every step, and the gradient is not
// averaged over several draws.
package attack
