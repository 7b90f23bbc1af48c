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
// everything works. A flag on the command line overrides the scale. If a data set has fewer
// images than the scale asks for, all of them are used. All results name their scale.
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
// from there, with the same bits as an uninterrupted run. A run that is killed loses at
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
// ten times as much with Poisson input. PGD takes that of 20. -battery none leaves the battery
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
// training. rate is a vanilla network with Poisson input and leaky neurons
// ([zoo.RateCoded]), after Sharmin et al. 2020.
package main
