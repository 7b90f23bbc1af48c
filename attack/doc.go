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
// On spiking networks, a search from the best point of a gradient attack finds far more than further
// steps.
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
// # Spikes
//
// For frames of spikes, such as those of event cameras, [Flips] bounds the number of changes, or of
// insertions or deletions alone, and [Retiming] how far spikes move in time:
//
//	flips := attack.Flips{Levels: 1} // binary frames
//	greedy := attack.GreedySpikes(flips, 10, 20, snn.BPTT{}) // at most 10 changes
//
// [Greedy] is the step rule of such attacks, and [SpikeSearch] their search by scores. An attack with
// Reduce takes back the changes that it does not need. [Report.Fewest] tells how many were left.
// [DVSFrame], [DVSCorner] and [DVSDash] are the patterns of the DVS literature.
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
// # Batteries
//
// A [Battery] is a list of attacks, cheapest first, which an image meets until one of them has broken
// it. [Quick], [Standard] and [Thorough] are such lists. The [BatteryReport] has the outcome of every
// image, what each attack adds, and twelve checks of the evaluation:
//
//	battery := attack.Standard(attack.Threat{Norm: attack.LInf{}, Eps: 8./255})
//	report, err := battery.Evaluate(ctx, model, testSet, attack.DefaultBatteryConfig())
//
// A [Searcher] is an attack that is written for one image. It asks an [Oracle] for logits and
// gradients. An engine makes the passes of many images together.
//
// # How far to trust an accuracy under attack
//
// An accuracy under attack is an upper bound on robustness: a stronger attack may exist. A network
// can also look robust because its gradient is useless to the attack (Athalye et al. 2018; Carlini
// et al. 2019). That is usual for spiking networks, whose logits are piecewise constant: a search by
// scores from the gradient attacks' best points breaks further images. Report the worst case of
// a battery, with its checks.
//
// PGD and other gradient attacks return the image of their last step, and Evaluate makes one pass to
// judge it. Set Attack.KeepBest and Attack.Draws, or use a battery, for the best image and for random
// networks.
package attack
