// Package tensor holds the values that flow through a spiking network:
//
//   - [Dense] is a float32 value,
//   - [Spikes] is a value of zeros and ones, one bit each,
//   - [NCHW] is a batch of images or of frames over time, or of their gradients, in plain
//     row-major order,
//   - [Arena] lends the memory of values and takes it back.
//
// # Layout
//
// Dense and Spikes group channels into blocks of [Lanes] = 16. A block of Dense is 16
// float32 values, which fill one AVX-512 register. A block of Spikes is one uint16, with
// channel c in bit c%16. Such a word can serve as the lane mask of that register.
//
//	Dense   [⌈C/16⌉][N·Steps][H][W][16]float32
//	Spikes  [⌈C/16⌉][N·Steps][H][W]uint16
//
// Lanes beyond channel C are zero. The frames of an image are neighbours: frame
// n·Steps + t is image n at step t. The input or output of a linear layer has
// H = W = 1. Steps is the number of time steps T if the value changes over time. A value
// that is the same at every step has Steps = 1 and is stored once.
//
// A network uses NCHW order only for its input and for results: images go in; gradients
// and adversarial images come out.
//
// # Aliasing and panics
//
// A destination must not overlap its sources. A function panics if shapes do not fit,
// since the caller can check them before the call. Values that come from data give an
// error.
package tensor
