package train

import "github.com/org/snnrat/snn"

// Robust returns the settings of the recipe that withstood the strongest attacks best among the
// published defences that examples/paper audits on the embedded Fashion-MNIST images, for the given
// number of epochs. docs/results/audit.md has the figures, and says at which small scale they hold.
// On CIFAR-10 its lead over [RAT] at equal accuracy on clean images is smaller.
// The recipe is [MART] with Lambda 5. All else is as in [Default], weight decay included.
//
// The adversary of the audit has half the ε of its test:
//
//	attack.PGD(eps, eps/2, 4, snn.BPTT{})
//
// Each step of the training makes two passes for the weights, and the adversary four. Two cheaper
// trainings come within a few points on these images: [RAT] on a network without batch norm makes
// a third of these passes, and [TRADES] with the adversary of RAT a half.
//
// Robust panics if the adversary is nil.
func Robust(epochs int, adversary snn.Adversary) Config {
	if adversary == nil {
		panic("train: Robust: the adversary is nil")
	}
	cfg := Default(epochs)
	cfg.Adversary, cfg.Loss = adversary, MART{Lambda: 5}
	return cfg
}
