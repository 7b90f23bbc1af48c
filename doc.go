// Package snnrat is a library for spiking neural networks that withstand adversarial
// attacks. It implements SNN-RAT (Ding et al., NeurIPS 2022). This package has no code. The
// code is in these packages:
//
//   - [github.com/org/snnrat/snn]: neurons, gradient approximations, layers, models
//   - [github.com/org/snnrat/attack]: attacks and their evaluation
//   - [github.com/org/snnrat/train]: training, RAT
//   - [github.com/org/snnrat/regularize]: projections of weights after each update
//   - [github.com/org/snnrat/lipschitz]: how much layers amplify a perturbation
//   - [github.com/org/snnrat/autograd], [github.com/org/snnrat/tensor]: operations with their
//     gradients, and the values that they compute with
//
// Start with examples/quickstart.
package snnrat
