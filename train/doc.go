// Package train trains spiking networks, plainly or with regularized adversarial
// training (RAT: Ding, Bu, Yu, Huang, Liu: SNN-RAT: Robustness-enhanced Spiking
// Neural Network through Regularized Adversarial Training, NeurIPS 2022):
//
//	cfg := train.Default(5) // epochs
//	trainer, err := train.New(model, set, cfg, rng.New(1))
//	if err != nil {
//		return err
//	}
//	for m, err := range trainer.Epochs(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Printf("epoch %d: loss %.3f\n", m.Epoch, m.Loss)
//		if err := trainer.Save("checkpoint.safetensors"); err != nil {
//			return err
//		}
//	}
//
// # RAT
//
// [RAT] returns the settings of regularized adversarial training, which trains on
// perturbed images (MIX) and projects the weights after each update (REG). REG replaces
// weight decay. The four rows of the paper's ablation are four configurations:
//
//	mix, reg := attack.RATMix(2./255), regularize.ForVGG()
//
//	vanilla     cfg := train.Default(epochs)
//	MIX         cfg := train.Default(epochs); cfg.Adversary = mix
//	REG         cfg := train.RAT(epochs, nil, reg, regularize.Simplex)
//	RAT         cfg := train.RAT(epochs, mix, reg, regularize.Simplex)
//
// Package train imports neither attack nor regularize. An [snn.Adversary] and a
// [Regularizer] are interfaces of one method each.
//
// An earlier defence that changes the step itself is [HIRE], Config.HIRE.
//
// # A step
//
// A step perturbs the batch, if there is an adversary, with the network in evaluation
// mode; computes in training mode the gradient of the mean cross-entropy of the mean
// output over time; makes the optimizer's update; and then projects the weights and
// the convex combinations.
//
// # Watching
//
// The [Metrics] of an epoch hold what a [Config].Monitor measured after it: with a
// lipschitz.Tracker, the spectral norm of every layer, which shows REG at work.
// Metrics are kept in checkpoints and marshal to JSON.
//
// # Repeating and resuming
//
// All that is random comes from the key given to [New], by epoch, step, image and
// parameter. The same key gives the same bits, whatever the number of threads. A
// training that was stopped and resumed from its last checkpoint gives the same bits
// as one that was not.
package train
