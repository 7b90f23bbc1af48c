package kernel

import "unsafe"

// The argument blocks of the small routines that the drivers in this package are
// built from. Every stride and offset is in bytes; a vector is 16 float32 at
// AVX-512 and 8 at AVX2, and lanes never mix, so that a driver at AVX2 visits a
// block of 16 channels as two columns that lie 32 bytes apart.

// offset is one step of a list that a routine walks: where it reads its input,
// and where its weights.
type offset struct{ src, w int64 }

// How a routine sets its accumulators.
const (
	startZero = iota
	startBias
	startDst
)

// tile is a register tile of rows × cols vectors of a matrix product:
//
//	dst[item][r][c] = start + Σ src[item][r][k]·w[k][c]
//
// k runs over outer × offsets × blocks × lanes in that order. src is a scalar
// that is broadcast, w and dst are vectors. At AVX2 wCol must be 32, and srcLane 4, or
// srcRow 4 and cols 2.
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
	ahead             uint64 // from what a block reads of src to what is to be prefetched
	wAhead            uint64 // the same of w, for two or more columns at AVX-512
	more              uint64 // items that follow the first
	srcItem, dstItem  uint64

	// If a sum is not a number, nan is set, and its item and the moreLeft that follow are
	// left alone.
	nan, moreLeft uint64

	// At AVX2, if soon is not nil, every block of four lanes or more prefetches 512 bytes
	// into L2, the first those at soon, the next ones soonBlock bytes on; every item anew.
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

	// With every item, bytes of each column from soon on are prefetched into L2, until
	// soonEnd; events alone would touch them in no order.
	soon, soonEnd unsafe.Pointer
	soonItem      uint64

	//lint:ignore U1000 the routine's own
	end uint64
}

// scatter3 sends the set bits of the masks of whole frames through a 3×3 window
// of stride 1 and padding 1, adding to dst, or to bias if that is not nil:
//
//	masks [frames][height][width]uint64, bit i: channel i of a group
//	w     [blocks, wBlock bytes apart][64][9] vectors, side by side
//	dst   [blocks, dstBlock bytes apart][frames][height][width] vectors, 64 bytes apart
//	bias  [blocks, 64 bytes apart] vectors
//	x     [frames][height][width], xPixel bytes apart, [channels]float32, for the routine
//	      that multiplies
type scatter3 struct {
	masks, w, dst, bias, x unsafe.Pointer
	frames, height, width  uint64
	blocks                 uint64 // 1, or 2 at AVX-512
	wBlock, dstBlock       uint64
	xPixel                 uint64

	//lint:ignore U1000 the routine's own
	rowsLeft, row, fromStep uint64
}

// outer3 adds to the 3×3 weight gradient of each of a number of channels the
// deltas around the set bits of its masks. Bit q of a channel's masks is slot q of
// the deltas, a raster of rows of rowStride bytes:
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

// sampled3 computes, of a product with a 3×3 window, the outputs that the masks of up
// to 64 places name, and adds them to dst. It clears the bits of those that it has
// computed; the others' sums were not numbers, and nan is set.
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

// place is an output of a sampled3: bytes from the first delta to the one in the upper
// left corner of its window, and into dst.
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
