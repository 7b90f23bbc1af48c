// Package snnrat is a library for spiking neural networks that withstand adversarial
// attacks: SNN-RAT (Ding et al., NeurIPS 2022). It holds no code; its packages do.
//
//   - [github.com/org/snnrat/snn]: neurons, gradient approximations, layers, models
//   - [github.com/org/snnrat/attack]: attacks and their evaluation
//   - [github.com/org/snnrat/train]: training, RAT
//   - [github.com/org/snnrat/regularize]: projections of weights
//   - [github.com/org/snnrat/lipschitz]: how much a layer amplifies
//   - [github.com/org/snnrat/autograd], [github.com/org/snnrat/tensor]: what they stand on
//
// Start with examples/quickstart.
package snnrat
