package kernel

import "unsafe"

// This file holds the argument blocks of the small routines that the drivers of this
// package call. Every stride and offset is in bytes. A vector is 16 float32 at AVX-512 and
// NEON, and 8 at AVX2. Lanes never mix. A driver at AVX2 therefore treats a block of 16 channels as two
// columns that lie 32 bytes apart.

// offset is one entry of the list that a routine goes through: the offset of its input, and
// the offset of its weights.
type offset struct{ src, w int64 }

// The values with which a routine starts its sums: zero, the bias, or the destination.
const (
	startZero = iota
	startBias
	startDst
)

// tile is a register tile of rows × cols vectors of a matrix product:
//
//	dst[item][r][c] = start + Σ src[item][r][k]·w[k][c]
//
// k runs over outer × offsets × blocks × lanes in that order. src is a scalar that is
// broadcast; w and dst are vectors. At AVX2 wCol must be 32. In addition srcLane must be 4,
// or srcRow 4 and cols 2. At NEON cols must be 1, and nothing is prefetched.
type tile struct {
	src, w, dst, bias unsafe.Pointer
	offsets           unsafe.Pointer // []offset
	count             uint64         // of offsets
	start             uint64
	rows, cols        uint64
	srcRow, dstRow    uint64
	wCol, dstCol      uint64
	outer             uint64
	srcOuter, wOuter  uint64
	blocks            uint64
	srcBlock, wBlock  uint64 // from the end of a block's lanes to the next block
	lanes             uint64
	srcLane, wLane    uint64
	ahead             uint64 // bytes from what a block reads of src to what it prefetches
	wAhead            uint64 // the same for w, with two or more columns at AVX-512
	more              uint64 // items after the first
	srcItem, dstItem  uint64

	// If a sum is NaN, the routine sets nan and returns. It has not written the item of that
	// sum, nor the moreLeft items after it.
	nan, moreLeft uint64

	// At AVX2, if soon is not nil, every block of four lanes or more prefetches 512 bytes
	// into L2. The first block of each item prefetches those at soon, and each later block
	// those soonBlock bytes further on.
	soon      unsafe.Pointer
	soonBlock uint64

	//lint:ignore U1000 the routine's own
	srcAt, dstAt, end, blocksLeft, outerLeft, srcOuterAt, wOuterAt, soonAt uint64
}

// gather adds, for every item and every set bit of its masks, cols columns of 64 bytes,
// up to gatherBlocks:
//
//	dst[item][c] = start + Σ over offsets, set bits i: w[offset][i][c]
type gather struct {
	masks, w, dst, bias unsafe.Pointer
	offsets             unsafe.Pointer // []offset into masks and w
	count               uint64         // of offsets
	start               uint64
	items, cols         uint64
	maskItem, dstItem   uint64
	wCol, dstCol        uint64
	wBit                uint64

	// At AVX2 and AVX-512, each item prefetches the next soonItem bytes of each column into
	// L2, from soon until soonEnd. The processor's own prefetchers cannot: events read weights
	// in no regular order.
	soon, soonEnd unsafe.Pointer
	soonItem      uint64

	//lint:ignore U1000 the routine's own
	end uint64
}

// scatter3 is a convolution with a 3×3 window of stride 1 and padding 1. It sends the set
// bits of the masks of whole frames through the window. It adds to dst, or starts from bias
// if that is not nil:
//
//	masks [frames][height][width]uint64, bit i: channel i of a group
//	w     [blocks, wBlock bytes apart][64][9] vectors, side by side
//	dst   [blocks, dstBlock bytes apart][frames][height][width] vectors, 64 bytes apart
//	bias  [blocks, 64 bytes apart] vectors
//	x     [frames][height][width], xPixel bytes apart, [channels]float32, for the routine
//	      that multiplies
//
// For scatterPairs3, a bit of the masks stands for two channels, of which one is not zero:
//
//	w     [blocks, wBlock bytes apart][64][9][16][2]int8; at the portable level
//	      [blocks, wBlock bytes apart][128][9][4]uint64, see packInts
//	x     [frames][height][width], xPixel bytes apart, [64][2]uint8, at most 127
type scatter3 struct {
	masks, w, dst, bias, x unsafe.Pointer
	frames, height, width  uint64
	blocks                 uint64 // 1; up to 2 at AVX-512, up to 4 at the portable level
	wBlock, dstBlock       uint64
	xPixel                 uint64

	//lint:ignore U1000 the routine's own
	rowsLeft, row, fromStep uint64
}

// outer3 computes part of the weight gradient of a 3×3 window. For each channel it adds the
// deltas around the set bits of the channel's masks. Bit q of the masks belongs to slot q of
// the deltas. The deltas are a raster of rows of rowStride bytes:
//
//	masks  [channels][words]uint64
//	deltas vectors, side by side
//	dw     [channels][9] vectors, 64 bytes apart
//	x      [channels][words][64]float32, for the routine that multiplies
type outer3 struct {
	masks, deltas, dw, x unsafe.Pointer
	channels, words      uint64
	rowStride            uint64
	start                uint64
}

// sampled3 computes selected outputs of a product with a 3×3 window and adds them to dst. A
// set bit in the masks selects a channel at one of up to 64 places. The routine clears the
// bits of the outputs that it has computed. If a sum is NaN, its bit stays and nan is set.
//
//	masks  [channels]uint64
//	places [64]place
//	deltas [slots][64]float32, a raster of rows of rowStride bytes
//	w      [blocks, wBlock bytes apart][channels][9] vectors, 64 bytes apart
//	dst    lane i of a vector for channel i
type sampled3 struct {
	masks, places, deltas, w, dst unsafe.Pointer
	channels, blocks              uint64
	rowStride, wBlock             uint64
	nan                           uint64

	//lint:ignore U1000 the routine's own
	group, rest uint64
}

// place is an output position of sampled3: the offset of the delta in the upper left corner
// of its window, and the offset in dst, in bytes.
type place struct{ delta, dst int32 }

// groupValues packs up to four blocks of channels pixel by pixel:
//
//	src   [blocks, srcBlock bytes apart][pixels, srcPixel bytes apart][16]float32
//	dst   [pixels, dstPixel bytes apart][blocks][16]float32
//	masks [pixels]uint64, bit i: value i of the pixel is not zero
type groupValues struct {
	src, dst, masks    unsafe.Pointer
	pixels, blocks     uint64
	srcBlock, srcPixel uint64
	dstPixel           uint64
	turn               uint64 // 64 − 16·blocks
}

// winogradLines is rows × items lines of vectors of 16 lanes, which a transform of Winograd's
// algorithm reads from src and writes to dst, or adds to it. Of a line, value i lies i·srcNext
// bytes after the first.
type winogradLines struct {
	src, dst         unsafe.Pointer
	factors          unsafe.Pointer // []float32
	srcNext, dstNext uint64
	items            uint64
	srcItem, dstItem uint64
	rows             uint64
	srcRow, dstRow   uint64
	add              uint64 // not zero to add, winogradSums only

	//lint:ignore U1000 the routine's own
	srcAt, dstAt, rowsLeft uint64
}

// expandInts widens weights, and exchanges their rows and columns:
//
//	dst[k][o] = src[o][k]
//
//	src [16, row bytes apart][vectors]int8
//	dst [vectors][16]int16; at the portable level [vectors][4]uint64, see packInts
type expandInts struct {
	src, dst     unsafe.Pointer
	row, vectors uint64 // vectors is a multiple of 16, and positive
}

// intTile adds to pixels × 16 sums of products of bytes:
//
//	dst[pixel][c] += Σ over lines, quads, i: src[pixel][line][4·quad + i]·w[line][quad][c][i]
//
// A sum of 16 bits takes burst quads, and is then added to dst. Quads and burst are even. No
// sum of burst quads, whatever the weights, is outside of int16.
//
//	src [pixels, srcPixel bytes apart][lines, srcLine bytes apart][quads][4]uint8
//	w   [lines][quads][16][4]int8
//	dst [pixels, dstPixel bytes apart][16]int32
type intTile struct {
	src, w, dst        unsafe.Pointer
	pixels             uint64 // at least 1
	srcPixel, dstPixel uint64
	lines, srcLine     uint64
	quads, burst       uint64

	//lint:ignore U1000 the routine's own
	linesLeft, quadsLeft, burstLeft, line uint64
}

// intWiden completes sums of 16 bits:
//
//	dst[row][i] = gain·(src[row][i] + wide[row][i]) + add[row][i]
//
// A nil wide or add is 0, and a nil gain is 1.
//
//	src  [rows, srcRow bytes apart][vectors][16]int16
//	wide [rows, wideRow bytes apart][vectors][16]int32, or nil; it may be dst
//	gain [16]int32, or nil
//	add  [rows, addRow bytes apart][vectors][16]int32, or nil; it may be dst
//	dst  [rows, dstRow bytes apart][vectors][16]int32
type intWiden struct {
	src, wide, gain, add, dst       unsafe.Pointer
	rows, vectors                   uint64 // at least 1
	srcRow, wideRow, addRow, dstRow uint64
}

// intNeurons runs all steps of neurons that begin at 0. At each step
//
//	m ← ⌊m·leak / 2^shift⌋ + gain·x + bias
//
// A neuron fires if m ≥ threshold. Then m is set to 0, or lowered by the threshold if soft is
// not 0. If gain is nil, it is 1. If plain is not 0, leak is 1 and shift 0.
//
//	x                     [steps, xStep bytes apart][pixels][16]int32
//	s                     [steps, sStep bytes apart][pixels]uint16
//	gain, bias, threshold [16]int32
type intNeurons struct {
	x, s                  unsafe.Pointer
	gain, bias, threshold unsafe.Pointer
	pixels, steps         uint64 // at least 1
	xStep, sStep          uint64
	leak, shift           uint64
	plain, soft           uint64
}
