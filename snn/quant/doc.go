// Package quant turns a trained spiking network into a network of integers.
//
//	q, err := quant.Convert(m, quant.DefaultConfig())
//	logits, err := q.Logits(images) // int32, [N, classes]
//
// Weights become int8, with a scale for each output channel. Batch norm is part of weights,
// biases and thresholds. All sums are sums of integers and cannot overflow. So every order of
// the sums, every number of threads and every machine gives the same bits.
//
// # Arithmetic
//
// This section defines the network exactly. All quantities are integers. Division by 2^k rounds
// down; it is the arithmetic shift of two's complement.
//
// An image has pixels v from 0 to 255. A pixel with the float value x in [0,1] becomes
// v = ⌊255·x + 1/2⌋, computed in float64. For images of 8 bits, that is the value in their file.
//
// A network is a list of layers. A layer reads the output of an earlier layer, or the image.
// There are three types of values. All have a number of steps, T, or 1 if the value is the same
// at every step.
//
//	bytes      0 to 255: the image, and sums of spikes in windows
//	spikes     0 or 1
//	currents   int32
//
// A [Conv] computes currents X from bytes or spikes x. As in PyTorch, this is a
// cross-correlation:
//
//	X[o, i, j] = A[o, i, j] + g[o] · Σ w[o, c, ky, kx] · x[c, i·stride + ky − pad, j·stride + kx − pad]
//
// The sum is over c, ky and kx. Weights are from −127 to 127. Outside the image, x[c] is
// Border[c] for the image, and 0 for other values. A linear layer is a Conv with a window of the
// size of its input. In residual networks, A is the output of an earlier layer of currents, and g a
// positive gain; otherwise they are 0 and 1. If A has one step, it is added at every step.
//
// [Neurons] compute spikes from currents X. With the channel's gain g, bias b and threshold
// θ ≥ 1, a neuron begins with m = 0, and computes at step t = 1, …, T
//
//	m ← ⌊m·Leak / 2^LeakShift⌋ + g·X(t) + b
//	s(t) = 1 if m ≥ θ, else 0
//	m ← 0 if s(t) = 1, or m ← m − θ·s(t) with SoftReset
//
// Leak is from 0 to 2^LeakShift. Leak = 1 with LeakShift = 0 are IF neurons. g is 1 or, in
// residual networks, −1 or 0.
//
// A [SumPool] replaces each window of spikes or bytes by its sum, which is at most 255. A
// [MaxPool] replaces each window of spikes by its largest spike. Windows do not overlap. A
// remainder of the input that fills no window is left out.
//
// The logit of class o is Bias[o] plus the sum of the last layer's output over all T steps; an
// output that has one step counts T times. The prediction is the class with the largest logit,
// the first one of several. The float network's logits are about Scale times those of integers.
//
// # Bounds
//
// [Network.Validate] proves that no value overflows. Let w⁺ and w⁻ be the sums of a channel's
// positive and negative weights, and top the largest value of the input. Every partial sum, in any
// order, is from top·w⁻ to top·w⁺. From these ranges follow those of all currents, which
// [Network.Ranges] returns, and those of the membrane potentials and of their products with Leak.
//
// A network has at most 2²⁴ channels in all layers, and at most 2²⁸ steps of channels of neurons.
//
// # How a network is converted
//
// Let W be the weights of an output channel, with batch norm, the 1/std of the image
// normalization and the 1/(k·k) of average pooling multiplied in. The unit u of the channel is
// max|W| / 127. Then
//
//	w = W/u, b = B/u, θ = Θ/u,
//
// each rounded to the nearest integer, a half away from zero, for the float network's threshold Θ
// and bias B. θ is at least 1, and u is at least max(Θ, |B|)/2^20, so that θ and b are at most 2^20.
// The last layer has one unit for all classes, so that its logits can be compared.
//
// In a residual block y = c₀·x + c₁·r, x and y are currents, and r is the output of a
// convolution. Its weights include c₁. The unit of y is c₀ times that of x, so that the sum of
// integers X + g·R has the unit of y. One unit of x and the gains g of all convolutions that are
// added up are chosen together. The unit is a quarter of the smallest max|W| / 127 among them, and
// each gain is the smallest with which the weights are at most 127. Gains are at most about 2048.
// Neurons that read x have the unit |a|·u, for batch norm's factor a, and its sign is their gain.
//
// The border of a normalized image is 0, which is the mean before normalization. So Border is
// 255 times the mean, rounded.
package quant
