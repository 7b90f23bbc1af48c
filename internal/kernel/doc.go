// Package kernel holds the library's hot loops. They work on slices in the
// blocked layout of package tensor and know nothing of tapes or layers. Portable
// Go is the definition of every one of them.
//
// # Order of sums
//
// A convolution's output element is the sum of its products in one order on every
// path: groups of [Group] input channels, within a group the kernel's rows, then
// its columns, then the group's channels, all ascending, starting from the bias.
// Parallel work is split over outputs, never along a sum.
//
// Gradients of inputs of which a part is needed are summed in another order at AVX2
// and AVX-512, whatever part that is, and left out elsewhere, where portable Go computes
// all of them; see [ConvInputGrad].
//
// A zero input adds nothing, whatever its weight: 0·Inf and 0·NaN are left out. The
// event-driven paths never see them; the dense ones multiply and compute again, by
// that rule, the tiles in which a sum is not a number. Which path is taken, by the
// share of inputs that are not zero, therefore changes no result.
//
// # Levels
//
// Hot loops exist in portable Go, for AVX2 and for AVX-512; see [Level]. Sums of
// spikes are the same bits at every level. Products of values are rounded twice in
// portable Go, which multiplies and then adds, and once at the others, which fuse
// the two and agree with each other to the bit (up to the sign of a zero).
package kernel

// Lanes is the number of channels in a block.
const Lanes = 16

// Group is the number of input channels that a convolution sums up before it
// moves to the next position of its window.
const Group = 64
