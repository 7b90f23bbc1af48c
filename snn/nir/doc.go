// Package nir reads and writes networks as graphs of the Neuromorphic Intermediate Representation
// (Pedersen et al.: Neuromorphic intermediate representation, Nature Communications 2024), and
// makes networks of package snn of them.
//
//	graph, err := nir.Read("network.nir")
//	if err != nil {
//		return err
//	}
//	model, notes, err := graph.Model(nir.Config{Dt: 1e-4, Steps: 8})
//	for _, n := range notes {
//		fmt.Println(n) // where the network is not the graph to the letter
//	}
//
// [GraphOf] returns the graph of a network. The page docs/nir.md compares what other libraries
// make of the same graph.
//
// # What a graph leaves open
//
// The equations of a graph are differential equations. A network has steps of time. [Config] says
// how the one becomes the other:
//
//	Dt            the time step; graphs name their time constants in seconds, or in a unit of their own
//	Exponential   λ = e^(−dt/τ) instead of Euler's 1 − dt/τ; the input counts 1 − λ times in both
//	AtThreshold   whether a neuron fires at its threshold; NIR says above it
//	SoftReset     whether a spike lowers the potential, instead of setting it to v_reset
//	Start         the potential before the first step
//
// In a step, a CubaLIF or CubaLI computes its current first, and its potential of the new current.
// Spikes that return to their neurons arrive in the next step. A spike is a current of 1 during
// one step.
//
// # Nodes
//
//	Affine, Linear          snn.Linear
//	Conv1d, Conv2d          snn.Conv2D; groups, dilation and one-sided padding become weights of zero
//	AvgPool2d, SumPool2d    snn.AvgPool, or a convolution with fixed weights
//	Flatten                 snn.Flatten, of all dimensions
//	Scale                   Scale
//	IF, LIF                 snn.LIF if all neurons of the layer are alike, otherwise snn.GLIF
//	CubaLIF, Threshold      snn.GLIF
//	I, LI, CubaLI           Integrator
//	NIRGraph                its nodes
//
// A node with a field that NIR does not give its type is refused.
//
// A graph can claim values that it does not hold: one for all neurons, and the zeros of groups, dilation
// and pooling. [Graph.Model] returns an error if they are more than 2²⁷ in all.
//
// Neurons have the potential above v_leak, in units in which their input counts once. The weights
// are those of the graph, and thresholds are scaled: θ = (v_threshold − v_leak)·τ/(r·dt) for a
// LIF. Fields of neurons may differ between channels, but not between pixels of one.
//
// Edges may skip nodes and join again, where values are added up. Edges that return are allowed
// from a neuron to itself, and through a Linear, or an Affine whose bias is zero.
//
// # HDF5
//
// Read and Write use libhdf5 by cgo, in programs that are built with the tag hdf5. On Debian:
//
//	apt-get install libhdf5-dev
//	go build -tags hdf5 ./examples/nir
//
// Without the tag they return an error that says so, and there is no cgo. All else works without.
//
// Read trusts libhdf5. A file whose bytes were changed usually gives an error, but libhdf5 1.10.8 can
// also read outside of its memory, which ends the process. Read files that you trust, or read others
// in a process of their own.
package nir

// Version is the version of NIR that this package writes.
const Version = "1.0.8"
