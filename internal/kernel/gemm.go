package kernel

import (
	"unsafe"

	"github.com/org/snnrat/internal/parallel"
)

// A blocked matrix of R rows and K columns has the layout [⌈R/16⌉][K][16]. Its lanes are
// rows; lanes of missing rows are zero. Stored weights are such matrices: a row is an output
// channel. Their columns have another order than PyTorch's, and some columns are padding.
// This does not change W·Wᵀ. It changes (W·Wᵀ)·W only in the order of columns.

// kSlice is the number of products after which a sum goes back to memory. The sums of a
// product run over k in ascending order. Above the portable level multiply-adds are fused.
const kSlice = 256 // 16 KB of a block: a unit's panels stay in L2

// productThreads returns 1 for a product of few multiply-adds, 30 µs of work. Splitting it
// would cost more than it saves.
func productThreads(threads, multiplyAdds int) int {
	if multiplyAdds < 4<<20 {
		return 1
	}
	return parallel.Threads(threads)
}

// Gram computes dst = w·wᵀ for a blocked matrix w. It computes one half of dst and mirrors
// it, so that dst is symmetric to the bit.
//
//	dst [rowBlocks][16·rowBlocks][16]
//	w   [rowBlocks][cols][16]
func Gram(dst, w []float32, rowBlocks, cols, threads int) {
	l, n := CurrentLevel(), rowBlocks
	// A unit multiplies a group of blocks i with one of blocks j ≤ i.
	threads = productThreads(threads, n*n*Lanes*Lanes*cols/2)
	is, js := 24, 32
	for js > 1 && ceilDiv(n, is)*ceilDiv(n, js)/2 < 4*threads {
		is, js = max(3, is/2), js/2
	}
	nj := ceilDiv(n, js)
	parallel.For(threads, ceilDiv(n, is)*nj, func(u int) {
		i0, j0 := u/nj*is, u%nj*js
		i1, j1 := min(i0+is, n), min(j0+js, n)
		if j0 >= i1 {
			return
		}
		if l == Portable {
			gramPortable(dst, w, n, cols, i0, i1, j0, j1)
		} else {
			l.gram(dst, w, n, cols, i0, i1, j0, j1)
		}
		const row = Lanes * 4
		for i := i0; i < i1; i++ {
			for j := j0; j < min(i, j1); j++ {
				l.transpose16(&dst[(j*n+i)*Lanes*Lanes], &dst[(i*n+j)*Lanes*Lanes], row, row)
			}
		}
	})
}

// gramPortable computes blocks (i, j), j ≤ i.
func gramPortable(dst, w []float32, n, cols, i0, i1, j0, j1 int) {
	var list [kSlice]term
	for lo := 0; lo < cols; lo += kSlice {
		slice := list[:min(kSlice, cols-lo)]
		for j := j0; j < min(i1, j1); j++ {
			for b := range Lanes {
				for k := range slice {
					slice[k] = term{int32(k * Lanes * 4), w[(j*cols+lo+k)*Lanes+b]}
				}
				for i := max(i0, j); i < i1; i++ {
					d := (*[Lanes]float32)(dst[((i*n+j)*Lanes+b)*Lanes:]) // row b of block j, by rows of block i
					if lo == 0 {
						clear(d[:])
					}
					addProducts(d, ptr(w, (i*cols+lo)*Lanes), slice)
				}
			}
		}
	}
}

// gram is gramPortable with register tiles, whose vectors are rows of blocks i.
func (l Level) gram(dst, w []float32, n, cols, i0, i1, j0, j1 int) {
	t := l.newMatrixTile(cols, n*Lanes)
	t.srcRow, t.srcLane = 4, Lanes*4
	for lo := 0; lo < cols; lo += kSlice {
		t.setSlice(lo)
		t.lanes = uint64(min(kSlice, cols-lo))
		for j := j0; j < min(i1, j1); j++ {
			for i := max(i0, j); i < i1; i += l.tileBlocks() {
				t.w = ptr(w, (i*cols+lo)*Lanes)
				l.matrixTile(&t, min(l.tileBlocks(), i1-i), Lanes, func(b int) {
					t.src, t.dst = ptr(w, (j*cols+lo)*Lanes+b), ptr(dst, ((i*n+j)*Lanes+b)*Lanes)
				})
			}
		}
	}
}

// MatMul computes dst = a·b for blocked matrices.
//
//	dst [rowBlocks][cols][16]
//	a   [rowBlocks][16·innerBlocks][16]
//	b   [innerBlocks][cols][16]
func MatMul(dst, a, b []float32, rowBlocks, innerBlocks, cols, threads int) {
	l := CurrentLevel()
	threads = productThreads(threads, rowBlocks*innerBlocks*Lanes*Lanes*cols)
	rows, width := 12, 128 // blocks and columns of a unit
	for width > 16 && ceilDiv(rowBlocks, rows)*ceilDiv(cols, width) < 4*threads {
		rows, width = max(3, rows/2), width/2
	}
	perBlock := ceilDiv(cols, width)
	parallel.For(threads, ceilDiv(rowBlocks, rows)*perBlock, func(u int) {
		r0, c0 := u/perBlock*rows, u%perBlock*width
		r1, c1 := min(r0+rows, rowBlocks), min(c0+width, cols)
		l.matMul(strip{dst, cols, 0}, a, b, innerBlocks, cols, r0, r1, c0, c1)
	})
}

// Project computes w ← w + beta·(w − g·w) in place, for blocked matrices w and g. It works
// on one strip of columns after the other.
//
//	w [rowBlocks][cols][16]
//	g [rowBlocks][16·rowBlocks][16]
func Project(w, g []float32, beta float32, rowBlocks, cols, threads int) {
	l := CurrentLevel()
	threads = productThreads(threads, rowBlocks*rowBlocks*Lanes*Lanes*cols)
	const rows = 12 // blocks of a product
	width := 128
	for width > 16 && ceilDiv(cols, width) < 4*threads {
		width /= 2
	}
	parallel.For(threads, ceilDiv(cols, width), func(u int) {
		c0 := u * width
		n := min(width, cols-c0)
		buf := strips.get(rowBlocks * n * Lanes)
		defer strips.put(buf)
		for r0 := 0; r0 < rowBlocks; r0 += rows {
			l.matMul(strip{*buf, n, c0}, g, w, rowBlocks, cols, r0, min(r0+rows, rowBlocks), c0, c0+n)
		}
		for r := range rowBlocks {
			next, old := (*buf)[r*n*Lanes:][:n*Lanes], w[(r*cols+c0)*Lanes:][:n*Lanes]
			l.extrapolate(&next[0], &old[0], beta, len(next))
			copy(old, next)
		}
	})
}

var strips lender[float32]

// strip is the part of a product's blocks that holds the columns from first on, cols
// of them.
type strip struct {
	data        []float32
	cols, first int
}

// at returns the position of a row block's vector of a column.
func (s *strip) at(row, col int) int { return (row*s.cols + col - s.first) * Lanes }

// matMulPortable computes columns c0 to c1 of blocks r0 to r1.
func matMulPortable(dst strip, a, b []float32, innerBlocks, cols, r0, r1, c0, c1 int) {
	var list [kSlice]term
	inner := innerBlocks * Lanes
	for lo := 0; lo < inner; lo += kSlice {
		slice := list[:min(kSlice, inner-lo)]
		for c := c0; c < c1; c++ {
			for i := range slice {
				k := lo + i
				slice[i] = term{int32(i * Lanes * 4), b[(k/Lanes*cols+c)*Lanes+k%Lanes]}
			}
			for r := r0; r < r1; r++ {
				d := (*[Lanes]float32)(dst.data[dst.at(r, c):])
				if lo == 0 {
					clear(d[:])
				}
				addProducts(d, ptr(a, (r*inner+lo)*Lanes), slice)
			}
		}
	}
}

// matMul is matMulPortable with register tiles, whose vectors are rows of dst.
func (l Level) matMul(dst strip, a, b []float32, innerBlocks, cols, r0, r1, c0, c1 int) {
	if l == Portable {
		matMulPortable(dst, a, b, innerBlocks, cols, r0, r1, c0, c1)
		return
	}
	inner := innerBlocks * Lanes
	t := l.newMatrixTile(inner, dst.cols)
	t.srcRow, t.srcLane, t.lanes = Lanes*4, 4, Lanes
	t.srcBlock = uint64((cols - 1) * Lanes * 4)
	for lo := 0; lo < inner; lo += kSlice {
		t.setSlice(lo)
		t.blocks = uint64(min(kSlice, inner-lo) / Lanes)
		for r := r0; r < r1; r += l.tileBlocks() {
			t.w = ptr(a, (r*inner+lo)*Lanes)
			l.matrixTile(&t, min(l.tileBlocks(), r1-r), c1-c0, func(c int) {
				t.src, t.dst = ptr(b, (lo/Lanes*cols+c0+c)*Lanes), ptr(dst.data, dst.at(r, c0+c))
			})
		}
	}
}

// newMatrixTile returns a tile whose vectors are the blocks of w [..][k][16], and whose
// results lie in blocks of cols vectors.
func (l Level) newMatrixTile(k, cols int) tile {
	_, bytes := l.vectors()
	t := tile{
		offsets: unsafe.Pointer(&noOffset), count: 1, outer: 1, blocks: 1,
		wLane: Lanes * 4, dstRow: Lanes * 4,
		wCol: uint64(bytes), dstCol: uint64(bytes),
	}
	if bytes == Lanes*4 {
		t.wCol, t.dstCol = uint64(k*Lanes*4), uint64(cols*Lanes*4)
	}
	return t
}

var noOffset [1]offset

// setSlice says whether the slice from lo starts the sums or goes on.
func (t *tile) setSlice(lo int) {
	t.start = startZero
	if lo > 0 {
		t.start = startDst
	}
}

// matrixTile computes so many rows of a tile of so many blocks and one item; at sets its
// operands for the rows from one on.
func (l Level) matrixTile(t *tile, blocks, rows int, at func(row int)) {
	vectors, bytes := l.vectors()
	most := l.tileRows(blocks)
	if most > 8 {
		most = 8 // divides 16
	}
	t.cols = uint64(blocks * vectors)
	for r := 0; r < rows; r += most {
		t.rows = uint64(min(most, rows-r))
		at(r)
		l.tile(t)
		if t.nan != 0 {
			t.nan = 0
			t.matrixSums(bytes)
		}
	}
}

// matrixSums computes a tile whose sums are not all numbers, which the routine leaves
// alone. Unlike a convolution's, a product's zeros count: 0·∞ is NaN.
func (t *tile) matrixSums(bytes int) {
	at := func(p unsafe.Pointer, off uint64, l int) *float32 {
		return (*float32)(unsafe.Add(p, int(off)+4*l))
	}
	for r := range t.rows {
		for c := range t.cols {
			for l := range bytes / 4 {
				d := at(t.dst, r*t.dstRow+c*t.dstCol, l)
				var sum float32
				if t.start == startDst {
					sum = *d
				}
				src, w := r*t.srcRow, c*t.wCol
				for range t.blocks {
					for range t.lanes {
						sum = fma(*at(t.src, src, 0), *at(t.w, w, l), sum)
						src, w = src+t.srcLane, w+t.wLane
					}
					src += t.srcBlock
				}
				*d = sum
			}
		}
	}
}
