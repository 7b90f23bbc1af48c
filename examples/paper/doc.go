// Paper repeats the experiments of Ding et al. 2022 on CIFAR. Each command makes one of
// them:
//
//	go run ./examples/paper -exp table2 -data FOLDER
//
// FOLDER holds CIFAR-10 or CIFAR-100 in the official binary or Python version. The names
// cifar10 and cifar100 in its place download the data set once. The experiments are
//
//	table1   the gradient approximations CBA, BPTR and BPTT in attacks on vanilla networks
//	table2   RAT and vanilla training under all attacks, white-box and black-box
//	table3   the ablation of RAT's parts, MIX and REG
//	table4   RAT and earlier defences
//	figure1  the accuracy against ε under PGD
//	figure2  the effect of the projection: the accuracy against its step β, the distances of spikes
//	         under attack in every layer, and the singular values of the weights
//	timing   the cost of the attacks and of RAT's parts
//	ablation what the projection and weight decay do, with batch norm and without
//	audit    published defences, judged by a short attack and by the battery
//	frontier methods against RAT at equal accuracy on clean images
//
// -data and -arch can be given several times. The experiment is then made for each data
// set and network.
//
// # Scale
//
// The defaults of the flags are the paper's settings. An experiment then takes days to
// weeks on a few cores. -scale small trains narrower networks for fewer steps on fewer
// images: table2, table3, figure1 and figure2 on VGG-11 took 87 minutes of processor time,
// 44 on two cores, with AVX2. -scale tiny takes a few minutes and only shows that
// everything works. -scale mini is for -data fashion-mini, the images that are embedded. It has the
// network and the training of examples/rat, with ε = 8/255 in training and 8 and 16/255 at test. A
// flag on the command line overrides the scale. If a data set has fewer
// images than the scale asks for, all of them are used. All results name their scale.
//
// # Several seeds
//
// -seeds 3 makes an experiment with the seeds -seed, -seed+1 and -seed+2. -seeds 1,2,3 lists the
// seeds. Each network and each evaluation is that of a run with this one seed. Tables have means
// and standard deviations over the seeds.
//
// Two kinds of networks are compared on the same test images, network by network of the same
// seed. The 95 % interval of the difference is that of a bootstrap over seeds and images. A
// difference whose interval contains 0 is undecided. McNemar's exact test beside it takes the
// seeds as given. It says less, because the difference between two seeds is often large. Few seeds
// say little about others: chance alone gives S seeds the same sign with the chance 2^(1−S), and
// the interval can then exclude 0.
//
// # The paper's relations
//
// table1 to table4 test what the paper states about their figures, such as that RAT withstands each
// attack better than vanilla: it holds, fails, or is undecided. The comparison is as above, with one
// seed for this seed alone. Beside it stands what the worst cases of the two networks say.
//
//	go run ./examples/paper -exp table3 -seeds 2 -scale small -data FOLDER
//
// # The ablation
//
// ablation trains on images as they are: with L2 weight decay, with neither, with REG for each β
// of -betas, with REG and L2, and with scale. It does so with batch norm and without. -bn=true or
// -bn=false makes one of the two halves alone. REG + L2 and scale have the β of -beta.
//
// Scale is REG without the orthogonality: W ← W·(1 + β − β·s²), where s² is the mean of the squared
// singular values. It brings s to 1 as REG brings each singular value to 1, but keeps their ratios.
//
// A network without batch norm begins with weights that are scaled, layer by layer, so that the
// currents of each layer of neurons have the root mean square 1 on 64 training images. With the
// scale of the others, hardly any neuron of VGG-11 would fire, and it would learn nothing. A
// residual network is not scaled.
//
//	go run ./examples/paper -exp ablation -seeds 3 -data fashion-mini -scale mini
//
// All networks are judged on the same images, by PGD and the battery at each ε of -radii. A worst
// case counts all smaller ε. The distance D₂ between the spikes for clean and for perturbed images
// is measured on the first 256 test images, under PGD on the network itself and under Gaussian
// noise. The noise is the same for all networks and seeds.
//
// # The audit
//
// audit trains the methods of -methods, all of them by default, with the same images, architecture
// and seeds, and judges them on the same images:
//
//	go run ./examples/paper -exp audit -seeds 2 -battery standard -data FOLDER -scale small
//
// Its columns are PGD, APGD and the worst case at each ε of -radii. PGD has the settings of the
// paper. APGD counts the images that no gradient attack of the battery has broken. The worst case
// also counts the battery's search by scores and its rounds. APGD and the worst case count all smaller ε. The APGD
// column is nearest to AutoAttack: adaptive steps and several objectives, here by several
// surrogates. The cost is the passes for an image in an epoch, and the wall time of the training.
//
// The methods have these losses and settings. ε is that of -eps, and what -set changes is in
// parentheses. An asterisk marks a value that we chose because the sources that we saw do not say it.
//
//	vanilla     cross-entropy, L2 weight decay
//	reg, mix, rat
//	            the parts of RAT, see below
//	at          PGD images (at.steps 4, at.alpha 0.5* as a share of ε)
//	trades      cross-entropy of each step for clean images, and trades.beta 5 times the
//	            divergence at trades.temperature 2 (trades.steps 4, trades.alpha 0.375)
//	mart        mart.lambda 5, PGD images as at
//	relu        the ReLU network of the same weights, trained by TRADES with relu.beta 5* (relu.steps
//	            4, relu.alpha 0.375), all from the ReLU network. It is then scaled layer by layer so
//	            that the share relu.quantile 0.997 of the currents is below the threshold, and judged
//	            as the spiking network.
//	conversion  begins with the network of relu, and trains with the learning rate conversion.lr 0.001
//	            on one step of the attack of TRADES, with conversion.beta 2. With batch norm, its
//	            factors are learned in place of thresholds: one can express the other.
//	sr          gradient sparsity, clean images (sr.lambda 0.008*, sr.h 0.01)
//	mpd-sgr     FGSM* images, and the share of a normal distribution of the potentials within
//	            mpd-sgr.gamma 1* of the threshold, mpd-sgr.eta 0.1* times its sum over the layers
//	tgo         RAT with noisy neurons (tgo.noise 0.2*), and potentials kept tgo.delta 0.5* from
//	            the threshold: the mean over the layers, with a weight that rises to tgo.lambda 0.5
//	tgo-quiet   the network of tgo, judged without its noise
//	mppd-l2     clean and adversarial images by halves, FGSM with ε = mppd-l2.eps_255 4 from noise
//	            of mppd-l2.start 0.001, and the ℓ2 dynamics of the last layer of neurons, means over
//	            steps and neurons (mppd-l2.alpha 1*, mppd-l2.tau 0.99)
//	mppd-tv-l1  the same with the ℓ1 form (mppd-tv-l1.alpha 2.5, mppd-tv-l1.eps_255 4*)
//	sqe         RAT with stochastic quantization of the input (sqe.levels 2)
//	hire, rate  see below
//
// A method can have additions. mart+awp+ema is mart with two of these:
//
//	+reg        REG instead of weight decay
//	+mix        RAT's mixture of single steps (MIX) in place of the method's own attack
//	+awp        steps on weights that are perturbed by awp.gamma 0.005 of their norm ([train.AWP])
//	+ema        judged by the moving average of the weights, of decay ema.decay 0.995*
//	+feel       images lose frequencies from step to step ([snn.FrequencyEncoding]), and the leaks of
//	            neurons are learned, beginning with feel.decay 0.5*
//
// Those of -methods that train within -eps can have an ε in training of their own, in 255ths. So an
// audit can compare methods at equal accuracy on clean images:
//
//	go run ./examples/paper -exp audit -methods rat@8,mart@4 -data FOLDER -scale small
//
// All but reg, rat, tgo, sqe and those with +reg have L2 weight decay. All but conversion begin with the
// parameters of vanilla. Relu and conversion are for networks without residual blocks. A
// battery averages over ten passes for random networks: tgo, sqe and rate cost it ten times as
// much. PGD and the accuracy on clean images take each gradient and each class from one pass. So a
// worst case of a random network also counts the images that are wrong in one of these passes by
// chance.
//
// # The frontier
//
// A method can lose accuracy on clean images for robustness, as RAT does with a larger ε in training.
// frontier trains RAT with each ε of -train-radii, and reads off its worst case at the clean accuracy
// of the other methods. Those whose training has an ε are trained with each of these, too. mart@4
// is trained with ε = 4/255 alone:
//
//	go run ./examples/paper -exp frontier -seeds 2 -methods rat,mart -data fashion-mini -scale mini
//
// RAT at a clean accuracy is the best mixture of at most two RAT networks that has at least this
// accuracy: it answers with one of them, drawn for each image. A network that is more accurate than
// all of RAT's is not compared.
//
// # Files
//
// The folder -out holds
//
//	networks/     the trained networks, which zoo.Load reads, and a checkpoint of each
//	              network in training
//	evaluations/  the class that each network assigned to every test image under every attack,
//	              and the reports of the batteries
//	table2.txt    the table that was printed
//	table2.json   the settings, the metrics of the trainings and the accuracies
//
// and the same for the other experiments. Figures are written as SVG and PNG. An evaluation
// lists under "zero_gradient" the images for which every gradient of an attack was zero. The
// attack had no direction there, so the accuracy on them shows no robustness.
//
// The name of a network contains a digest of everything that it depends on: the training
// images, the architecture, T, the method with its settings, and the seed. An evaluation
// depends on the network, the test images, the seed and the version of this library. So
// experiments that share a folder share its networks and evaluations, and each is made once.
//
// # Stopping and resuming
//
// Ctrl-C or SIGTERM stops the program after the current step. The same command continues
// from there, with the same bits as an uninterrupted run. timing keeps nothing until it is complete,
// and begins anew. At full size it takes over ten minutes. A run that is killed loses at
// most the last ten minutes of training, the current attack, or the last ten seconds of a
// battery. Networks and evaluations
// have checksums. The error for a changed file names it. The file .lock locks the folder: a
// second run in it is refused, and can use another folder.
//
// # Several machines
//
// With -shard i/n the program evaluates trained networks on range number i of n of the test images,
// in a folder -out of its own. The same flags with -merge and the folders of all shards make the
// results of a single run, bit by bit. Networks come from -models or -weights; train them first. What
// the experiment measures beside its trials is made by -merge. docs/robust.md has a script for Slurm.
//
//	go run ./examples/paper FLAGS -models DIR -shard 2/8 -out out/shards/2
//	go run ./examples/paper FLAGS -models DIR -out out/paper -merge out/shards/*
//
// # Networks from elsewhere
//
// -models DIR takes networks from the folder "networks" of another run and trains none.
//
// -weights FILE makes table2 of a network that was trained elsewhere. A file that this
// library saved describes its network, and flags cannot contradict it. A state dict of the
// reference implementation holds parameters only. -arch, -width, -T, -mean, -std, -decay,
// -theta, -reset, -surrogate and -surrogate-param then describe the network. -source FILE is
// the network that black-box attacks are made on.
//
// # Accuracies
//
// Every evaluation has a worst case: the share of the images that are classified as
// labelled when clean and under every attack of the table. Noise is not one of these attacks,
// because it has no bound. The attacked image depends neither on its batch nor on the other
// attacks.
//
// A white-box worst case also counts a battery of attacks on the same images, [attack.Quick].
// An image meets its attacks, at the table's ε, until one of them breaks it. In figure1, which
// has several ε, it is the largest. The table has the accuracy that the battery leaves, and
// says if the battery's checks found a fault. A black-box worst case counts no battery.
//
// An image that withstands the quick battery takes the time of about 2200 forward passes, and
// ten times as much in a random network, as with Poisson input. PGD takes that of 20. -battery none leaves the battery
// out, and the note below the table then says so. -battery standard and -battery thorough take
// about 6 and 25 times as long as quick.
//
// The accuracies of the paper's Tables 1 to 4 are built in. A row "paper" below ours has
// them where the settings are the same: the data set, the architecture, the method with its
// β, and the attack with its ε, α and steps. T and the scale of the training can differ:
// the heading names both.
//
// # Methods
//
//	vanilla  the images as they are, with L2 weight decay
//	mix      adversarial examples (MIX), with L2 weight decay
//	reg      the orthogonal projection (REG) in place of the weight decay
//	rat      both
//
// These four start from the same parameters and see the same batches. source is vanilla with
// another seed, and the black-box attacks are made on it.
//
// hire is HIRE-SNN ([train.HIRE]), by default with two periods and the ε of our adversarial
// training. A period begins with potentials of 0, so its time steps must suffice for spikes to
// reach the last layer. With two steps the VGG-11 of -scale tiny learns nothing, as hire or as
// vanilla. So -scale small and tiny give hire 8 time steps.
//
// rate is a vanilla network with Poisson input and leaky neurons ([zoo.RateCoded]), after Sharmin
// et al. 2020.
package main
