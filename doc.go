// Package snnrat is a library for spiking neural networks that withstand adversarial
// attacks. It implements SNN-RAT (Ding et al., NeurIPS 2022). This package has no code. The
// code is in these packages:
//
//   - [github.com/org/snnrat/snn]: neurons, gradient approximations, layers, models; below it
//     zoo (networks by name), quant (networks of integers) and nir (NIR graphs)
//   - [github.com/org/snnrat/attack]: attacks and their evaluation
//   - [github.com/org/snnrat/train]: training, RAT; below it dataset (images and events) and
//     mpi (several processes)
//   - [github.com/org/snnrat/regularize]: projections of weights after each update
//   - [github.com/org/snnrat/lipschitz]: how much layers amplify a perturbation; below it
//     certify and smooth (certificates)
//   - [github.com/org/snnrat/autograd], [github.com/org/snnrat/tensor]: operations with their
//     gradients, and the values that they compute with
//
// Start with examples/quickstart.
package snnrat
