// Paper repeats the experiments of Ding et al. 2022 on CIFAR, one with each command:
//
//	go run ./examples/paper -exp table2 -data FOLDER
//
// where FOLDER holds CIFAR-10 or CIFAR-100 in the official binary or Python version; cifar10 and
// cifar100 in its place download them from the official address, once. The experiments
// are
//
//	table1   the gradient approximations CBA, BPTR and BPTT in attacks on vanilla networks
//	table2   RAT beside vanilla training under all attacks, white-box and black-box
//	table3   the ablation of RAT's parts, MIX and REG
//	table4   RAT beside earlier defences
//	figure1  the accuracy against ε under PGD
//	figure2  what the projection does: the accuracy against its step β, how far attacks
//	         move the spikes of every layer, the singular values of the weights
//	timing   the cost of the attacks and of RAT's parts
//
// -data and -arch may be given several times: table1 and table2 are then made for each of
// the data sets and networks, the others too.
//
// # Scale
//
// The flags' defaults are the paper's settings, with which an experiment takes days to
// weeks on a few cores. -scale small trains narrower networks for fewer steps on fewer
// images: table2, table3, figure1 and figure2 on VGG-11 took 87 minutes of processor time,
// 44 of two cores, with AVX2. -scale tiny takes a few minutes and shows no more than that
// all works. Any flag that is given goes before what the scale says; a set of fewer images
// than the scale's is taken whole. All that is written says at which scale it was made.
//
// # What is kept
//
// In the folder -out,
//
//	networks/     the trained networks, which zoo.Load reads, and a checkpoint of
//	              those that are being trained
//	evaluations/  what each network saw in every test image, under every attack, and the
//	              images for which every gradient of an attack was zero ("zero_gradient"), whose
//	              surviving it says nothing
//	table2.txt    the table that was printed
//	table2.json   the settings, the course of the trainings and the accuracies
//
// and likewise for the other experiments; those that draw figures write them as SVG and
// PNG. A network is named after all that makes it: the training images, the
// architecture, T, the method with its settings, the seed. So experiments that share a
// folder share its networks and evaluations, each is made once, and a run that was
// stopped, by Ctrl-C or otherwise, is gone on with by the same command: it does what is
// missing, from the last completed epoch or attack on, with results that are the same to
// the bit.
//
// -models DIR takes networks from a folder and trains none. -weights FILE has table2 judge
// a network that was trained elsewhere, such as a checkpoint of the reference
// implementation, which -arch, -width and -T describe, or one that another command saved,
// which describes itself: of it no flag can say otherwise. -source FILE is then what
// black-box attacks are made on.
//
// # Accuracies
//
// Every evaluation has a worst case: the share of the images that are classified as
// labelled when clean and under all attacks of the table, which no attack alone shows.
// What an attack makes of an image depends on neither its batch nor the other attacks.
// The paper's own figures are not built in, as they could not be verified in a public
// source. -paper FILE puts those of a file below ours: an array of objects such as
//
//	{"table": "table2", "data": "CIFAR-10", "arch": "vgg11", "method": "rat",
//	 "black_box": false, "attack": "PGD", "gradient": "BPTT", "accuracy_percent": 0 to 100}
//
// # Methods
//
// vanilla is trained on the images as they are with L2 weight decay, mix (MIX) on
// adversarial examples, reg (REG) with the orthogonal projection in place of the weight
// decay, rat with both. They start from the same parameters and see the same batches.
// source is vanilla with another seed, and makes the images of black-box attacks.
//
// hire is HIRE-SNN as [train.HIRE] has it, by default with two periods and the ε of our
// adversarial training. rate is a vanilla network with Poisson input and leaky neurons as
// [zoo.RateCoded] has it, after Sharmin et al. 2020.
package main
