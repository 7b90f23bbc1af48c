// Package kernel holds the library's hot loops. They work on slices in the blocked layout
// of package tensor. They do not depend on tapes or layers. TUNING.md records how fast they
// are and what limits them.
//
// # Levels
//
// Each loop is written in portable Go, which defines its result. Most loops also have
// assembly for AVX2 and AVX-512, and for NEON on arm64. [Level] chooses between these.
//
// Sums of spikes are the same bits at every level. Portable Go rounds a product of values
// and then rounds the sum. AVX2, AVX-512 and NEON fuse the two and round once. They agree
// with each other to the bit, except for the sign of a zero.
//
// # Order of sums
//
// An output element of a convolution is a sum of products. The order of the sum is the same
// on every path. It starts with the bias and takes groups of [Group] input channels. Within
// a group it goes over the rows of the window, then its columns, then the channels of the
// group. All indices ascend. Parallel work is split over outputs, never along a sum.
//
// There are two exceptions. If a caller of [ConvInputGrad] needs only part of the gradient, the
// sums run in another order, which does not depend on that part. At all levels but NEON,
// ConvInputGrad and [ConvDenseWinograd] compute large 3×3 convolutions by Winograd's algorithm. The
// shape of a frame alone decides which ones.
//
// Sums of matrix products ascend, too. Large products are the exception: [Gram] and [Project] compute
// them by Strassen's algorithm. The shape of the matrices alone decides which ones.
//
// # Zeros
//
// A zero input adds nothing to a sum, even if its weight is Inf or NaN. Event-driven paths
// skip zeros. Dense paths multiply by them; they compute a tile again without the zeros if
// one of its sums is NaN. The share of zeros decides which path is taken. It therefore has
// no effect on results.
//
// Winograd's algorithm mixes the inputs of a tile of 4×4 outputs. A zero input adds nothing
// if the weights and the tile's other inputs are finite. If one of them is not, outputs of the
// tile that do not depend on it may be NaN.
package kernel

// Lanes is the number of channels in a block.
const Lanes = 16

// Group is the number of input channels that a convolution sums before it moves to the
// next position of its window.
const Group = 64
