// Package tensor holds the values that flow through a spiking network: dense
// float32 values and bit-packed spikes, both in blocks of 16 channels, the
// images and gradients at the network's border in plain NCHW order, and the
// arena that buffers are drawn from.
//
// # Layout
//
// Channels come in blocks of [Lanes] = 16. A block of values is 16 float32
// (one AVX-512 register), a block of spikes one uint16 (that register's lane
// mask, channel c in bit c%16):
//
//	Dense   [C/16][N·Steps][H][W][16]float32
//	Spikes  [C/16][N·Steps][H][W]uint16
//
// C/16 is rounded up; the lanes of missing channels are zero. Frames are
// ordered image-major, frame = n·Steps + t, so a neuron's scan over time is
// local. The features of linear layers are the case H = W = 1. Steps is T for
// a value that changes over time and 1 for one that is the same at every step,
// which is stored once.
//
// NCHW order exists only at the border: [NCHW] images go in, gradients and
// adversarial images come out.
//
// # Aliasing and panics
//
// Destinations come first and must not overlap their sources. Functions panic
// when shapes do not fit, which the caller could have known; they return errors
// for values that come from data.
package tensor
