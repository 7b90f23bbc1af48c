// Paper repeats the experiments of Ding et al. 2022 on CIFAR, one with each command:
//
//	go run ./examples/paper -exp table2 -data FOLDER
//
// where FOLDER holds CIFAR-10 or CIFAR-100 in the official binary layout; cifar10 and
// cifar100 in its place download them from the official address, once. The experiments
// are
//
//	table2  RAT beside vanilla training under all attacks, white-box and black-box
//
// # Scale
//
// The flags' defaults are the paper's settings, with which an experiment takes days to
// weeks on a few cores. -scale small makes it in the order of ten minutes on two, -scale tiny in
// one, on a narrower network with fewer steps, images and epochs; any flag that is given
// goes before what the scale says. All that is written says at which scale it was made.
//
// # What is kept
//
// In the folder -out,
//
//	networks/     the trained networks, which zoo.Load reads, and a checkpoint of
//	              those that are being trained
//	evaluations/  what each network saw in every test image, under every attack
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
// -models DIR takes networks from a folder and trains none.
//
// # Methods
//
// vanilla is trained on the images as they are with L2 weight decay, mix (MIX) on
// adversarial examples, reg (REG) with the orthogonal projection in place of the weight
// decay, rat with both. They start from the same parameters and see the same batches.
// source is vanilla with another seed, and makes the images of black-box attacks.
package main
