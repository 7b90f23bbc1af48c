// Package train trains spiking networks, in the ordinary way or with regularized
// adversarial training (RAT; Ding, Bu, Yu, Huang, Liu: SNN-RAT: Robustness-enhanced Spiking
// Neural Network through Regularized Adversarial Training, NeurIPS 2022):
//
//	cfg := train.Default(5) // epochs
//	trainer, err := train.New(model, set, cfg, rng.New(1))
//	if err != nil {
//		return err
//	}
//	trainer.SaveEvery(10*time.Minute, "checkpoint.safetensors")
//	for m, err := range trainer.Epochs(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Printf("epoch %d: loss %.3f\n", m.Epoch, m.Loss)
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
// [HIRE] is an earlier defence, and [AWP] a later one. [IBP] trains networks whose robustness can
// be proved. Each is a [Recipe], which says what a step does with its batch.
//
// # A step
//
// A step takes one batch and does the following, in this order:
//
//  1. The adversary, if there is one, perturbs the images. The network runs in evaluation
//     mode.
//  2. A pass in training mode computes the mean loss of the batch and its gradient.
//     Penalties add to both.
//  3. The gradient is clipped, if Config.ClipNorm is set.
//  4. The optimizer updates the parameters.
//  5. The regularizer projects the weights, and the simplex projection the weights of
//     convex combinations.
//  6. The moving average, if Config.EMA is set, counts the parameters.
//
// The passes and the updates are those of [OneUpdate]. Another [Recipe], such as [HIRE], [AWP] or
// [IBP], does parts 2 to 6 in its own way.
//
// # Losses and penalties
//
// Config.Loss is a [Loss]. It sees the output of every step. [CrossEntropy], the default, is
// that of the mean output over time. A loss may ask for the output for the images before the
// adversary; [TRADES] and [MART] do. The training then makes a pass over these images first,
// also in training mode, and the gradient goes through both passes.
//
// Config.Penalties are functions of the spikes or the currents of layers of neurons.
//
// # Metrics
//
// [Trainer.Epochs] yields the [Metrics] of every epoch. They include the scores of
// Config.Validation and the numbers that Config.Monitor measures. A lipschitz.Tracker, for
// example, measures the spectral norm of every layer. Checkpoints keep all metrics, and Metrics
// marshal to JSON. Config.Recorders write them to files: [CSV], and [TensorBoard].
//
// # Several processes
//
// Config.MicroShards splits batches into parts, and Config.Ranks shares the parts out to several
// processes. Package mpi connects them. The weights, the metrics and the checkpoint are the
// same bits at any number of processes. docs/scaling.md says how to run them.
//
// # Repeating and resuming
//
// All random numbers come from the key given to [New]: each use has its own key, derived by
// epoch, step, image or parameter. The same key gives the same bits at any number of
// threads. A training that stops and resumes from a checkpoint gives the same bits as an
// uninterrupted one. A checkpoint can be saved after any step, within an epoch or between
// two.
package train
