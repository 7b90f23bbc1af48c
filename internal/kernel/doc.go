// Package kernel holds the library's hot loops. They work on slices in the
// blocked layout of package tensor and know nothing of tapes or layers. Portable
// Go is the definition of every one of them.
//
// # Order of sums
//
// A convolution's output element is the sum of its products in one order on every
// path: groups of [Group] input channels, within a group the kernel's rows, then
// its columns, then the group's channels, all ascending, starting from the bias.
// Products with a zero input may be left out: adding 0·w changes nothing, and 1·w
// is exact, so the event-driven and the dense paths give the same bits.
// Parallel work is split over outputs, never along a sum.
package kernel

// Lanes is the number of channels in a block.
const Lanes = 16

// Group is the number of input channels that a convolution sums up before it
// moves to the next position of its window.
const Group = 64
