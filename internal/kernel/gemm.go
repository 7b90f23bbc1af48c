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
// product run over k in ascending order, but for strassen.go. Above the portable level multiply-adds are fused.
const kSlice = 256 // 16 KB of a block: a unit's panels stay in L2

// matrix is a blocked matrix, or a part of one. Vector c of row block r is at
// (r·cols + c)·16 of data.
type matrix struct {
	data []float32
	cols int
}

// part returns m from a row block and a column on.
func (m matrix) part(row, col int) matrix {
	return matrix{m.data[(row*m.cols+col)*Lanes:], m.cols}
}

// productThreads returns 1 for a product of few multiply-adds, 30 µs of work. Splitting it
// would cost more than it saves.
func productThreads(threads, multiplyAdds int) int {
	if multiplyAdds < 4<<20 {
		return 1
	}
	return parallel.Threads(threads)
}

// Gram computes dst = w·wᵀ for a blocked matrix w. It computes one half of dst and mirrors
// it, so that dst is symmetric to the bit. Of large matrices it computes most of that half by
// Strassen's algorithm. scratch has GramScratch(rowBlocks, cols) elements of any content.
//
//	dst [rowBlocks][16·rowBlocks][16]
//	w   [rowBlocks][cols][16]
func Gram(dst, w, scratch []float32, rowBlocks, cols, threads int) {
	gram(matrix{dst, rowBlocks * Lanes}, matrix{w, cols}, scratch, rowBlocks, cols, threads)
}

// gram is Gram for parts of matrices. It halves the rows until the products of different
// halves are too small for Strassen's algorithm.
func gram(dst, w matrix, scratch []float32, n, cols, threads int) {
	if p := gramCorner(n, cols); p.splits() {
		h := n / 2
		gramProduct(dst.part(h, 0), dst.part(0, h*Lanes), w.part(h, 0), w, p, scratch[:GramScratch(n, cols)], threads)
		gram(dst, w, scratch, h, cols, threads)
		gram(dst.part(h, h*Lanes), w.part(h, 0), scratch, n-h, cols, threads)
		return
	}
	l := CurrentLevel()
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
			gramPortable(dst, w, cols, i0, i1, j0, j1)
		} else {
			l.gram(dst, w, cols, i0, i1, j0, j1)
		}
		for i := i0; i < i1; i++ {
			for j := j0; j < min(i, j1); j++ {
				l.mirror(dst.part(j, i*Lanes), dst.part(i, j*Lanes))
			}
		}
	})
}

// mirror writes the transpose of a block of 16×16 elements.
func (l Level) mirror(dst, src matrix) {
	l.transpose16(&dst.data[0], &src.data[0], Lanes*4, Lanes*4)
}

// gramPortable computes blocks (i, j), j ≤ i.
func gramPortable(dst, w matrix, cols, i0, i1, j0, j1 int) {
	for i := i0; i < i1; i++ {
		for j := j0; j < min(i+1, j1); j++ {
			d := dst.part(i, j*Lanes).data[:Lanes*Lanes] // [row of block j][row of block i]
			clear(d)
			addTransposed(d, w.part(i, 0).data[:cols*Lanes], w.part(j, 0).data[:cols*Lanes])
		}
	}
}

// addTransposed adds a·bᵀ to d, where a and b are blocks of 16 rows.
func addTransposed(d, a, b []float32) {
	var list [kSlice]term
	for ; len(a) > 0; a, b = a[min(kSlice*Lanes, len(a)):], b[min(kSlice*Lanes, len(a)):] {
		slice := list[:min(kSlice, len(a)/Lanes)]
		for j := range Lanes {
			for k := range slice {
				slice[k] = term{int32(k * Lanes * 4), b[k*Lanes+j]}
			}
			addProducts((*[Lanes]float32)(d[j*Lanes:]), ptr(a, 0), slice)
		}
	}
}

// gram is gramPortable with register tiles, whose vectors are rows of blocks i.
func (l Level) gram(dst, w matrix, cols, i0, i1, j0, j1 int) {
	t := l.newMatrixTile(w.cols, dst.cols)
	t.srcRow, t.srcLane = 4, Lanes*4
	for lo := 0; lo < cols; lo += kSlice {
		t.setSlice(lo, false)
		t.lanes = uint64(min(kSlice, cols-lo))
		for j := j0; j < min(i1, j1); j++ {
			for i := max(i0, j); i < i1; i += l.tileBlocks() {
				t.w = ptr(w.part(i, lo).data, 0)
				t.cols = l.tileVectors(min(l.tileBlocks(), i1-i))
				most := min(8, l.tileRows(min(l.tileBlocks(), i1-i))) // 8 divides 16
				for b := 0; b < Lanes; b += most {
					t.rows = uint64(min(most, Lanes-b))
					t.src, t.dst = ptr(w.part(j, lo).data, b), ptr(dst.part(i, j*Lanes+b).data, 0)
					l.runMatrixTile(&t)
				}
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
	p := matProduct{rowBlocks, innerBlocks * Lanes, cols, false}
	p.direct(matrix{dst, cols}, matrix{a, p.inner}, matrix{b, cols}, false, threads)
}

// Project computes w ← w + beta·(w − g·w) in place, for blocked matrices w and g. It works
// on one strip of columns after the other. The strips of large matrices are wide, and products
// are computed by Strassen's algorithm. strip and sums have the numbers of elements that
// ProjectScratch returns, of any content.
//
//	w [rowBlocks][cols][16]
//	g [rowBlocks][16·rowBlocks][16]
func Project(w, g []float32, beta float32, strip, sums []float32, rowBlocks, cols, threads int) {
	if p, wide := wideProduct(rowBlocks, cols); wide {
		projectWide(matrix{w, cols}, matrix{g, p.inner}, beta, strip, sums, p, cols, threads)
		return
	}
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
		next, old := matrix{*buf, n}, matrix{w, cols}.part(0, c0)
		all := matrix{g, rowBlocks * Lanes}
		for r := 0; r < rowBlocks; r += rows {
			p := matProduct{min(rows, rowBlocks-r), rowBlocks * Lanes, n, false}
			p.unit(l, next.part(r, 0), all.part(r, 0), old, false)
		}
		for r := range rowBlocks {
			l.projectRow(old.part(r, 0).data[:n*Lanes], next.part(r, 0).data, beta)
		}
	})
}

// projectRow computes w ← w + beta·(w − product). It overwrites product.
func (l Level) projectRow(w, product []float32, beta float32) {
	l.extrapolate(&product[0], &w[0], beta, len(w))
	copy(w, product)
}

var strips lender[float32]

// matProduct is the shape of dst = a·b, or of dst = a·bᵀ if transposed. Then b has the columns of
// a, and its rows are the columns of dst.
//
//	dst [rows][cols][16]
//	a   [rows][inner][16]
//	b   [inner/16][cols][16], or [cols/16][inner][16] if transposed
type matProduct struct {
	rows        int // blocks
	inner, cols int
	transposed  bool
}

// right returns b from row k of the factor, and a column of the product, on.
func (p matProduct) right(b matrix, k, col int) matrix {
	if p.transposed {
		return b.part(col/Lanes, k)
	}
	return b.part(k/Lanes, col)
}

// direct computes the product, or adds it to dst. The sums run over inner in ascending order.
func (p matProduct) direct(dst, a, b matrix, add bool, threads int) {
	l := CurrentLevel()
	threads = productThreads(threads, p.rows*Lanes*p.inner*p.cols)
	rows, width := 12, 128 // blocks and columns of a unit
	if p.transposed {
		rows = 24 // a unit transposes its part of b
	}
	for width > 16 && ceilDiv(p.rows, rows)*ceilDiv(p.cols, width) < 4*threads {
		rows, width = max(3, rows/2), width/2
	}
	perBlock := ceilDiv(p.cols, width)
	parallel.For(threads, ceilDiv(p.rows, rows)*perBlock, func(u int) {
		r, c := u/perBlock*rows, u%perBlock*width
		unit := matProduct{min(rows, p.rows-r), p.inner, min(width, p.cols-c), p.transposed}
		unit.unit(l, dst.part(r, c), a.part(r, 0), p.right(b, 0, c), add)
	})
}

// portable is unit at the portable level.
func (p matProduct) portable(dst, a, b matrix, add bool) {
	if !add {
		for r := range p.rows {
			clear(dst.part(r, 0).data[:p.cols*Lanes])
		}
	}
	if p.transposed {
		for r := range p.rows {
			for c := 0; c < p.cols; c += Lanes {
				addTransposed(dst.part(r, c).data, a.part(r, 0).data[:p.inner*Lanes], b.part(c/Lanes, 0).data)
			}
		}
		return
	}
	var list [kSlice]term
	for lo := 0; lo < p.inner; lo += kSlice {
		slice := list[:min(kSlice, p.inner-lo)]
		for c := range p.cols {
			for i := range slice {
				k := lo + i
				slice[i] = term{int32(i * Lanes * 4), b.part(k/Lanes, c).data[k%Lanes]}
			}
			for r := range p.rows {
				addProducts((*[Lanes]float32)(dst.part(r, c).data), ptr(a.part(r, lo).data, 0), slice)
			}
		}
	}
}

// unit computes a product with register tiles, whose vectors are rows of dst.
func (p matProduct) unit(l Level, dst, a, b matrix, add bool) {
	if l == Portable {
		p.portable(dst, a, b, add)
		return
	}
	t := l.newMatrixTile(a.cols, dst.cols)
	t.srcRow, t.srcLane = Lanes*4, 4
	var turned matrix // a slice of bᵀ, [kSlice/16][cols][16]
	if p.transposed {
		buf := strips.get(kSlice * p.cols)
		defer strips.put(buf)
		turned = matrix{*buf, p.cols}
	}
	for lo, n := 0, 0; lo < p.inner; lo += n {
		n = min(kSlice, p.inner-lo)
		if n > Lanes {
			n = n / Lanes * Lanes
		}
		src := p.right(b, lo, 0)
		if p.transposed {
			l.turn(turned, src, n, p.cols)
			src = turned
		}
		t.setSlice(lo, add)
		t.blocks, t.lanes = uint64(ceilDiv(n, Lanes)), uint64(min(n, Lanes))
		t.srcBlock = uint64((src.cols - 1) * Lanes * 4)
		for r, blocks := 0, 0; r < p.rows; r += blocks {
			blocks = min(l.tileBlocks(), p.rows-r)
			t.w = ptr(a.part(r, lo).data, 0)
			t.cols = l.tileVectors(blocks)
			var soon []float32
			if r+blocks < p.rows {
				soon = a.part(r+blocks, lo).data[:n*Lanes]
			}
			l.matrixRow(&t, src.data, dst.part(r, 0).data, soon, l.tileRows(blocks), p.cols)
		}
	}
}

// turn writes n columns of a matrix of cols rows as vectors of 16 columns, one for each row:
//
//	dst [⌈n/16⌉][cols][16]
//	src [cols/16][n][16]
func (l Level) turn(dst, src matrix, n, cols int) {
	var rest [Lanes * Lanes]float32 // a block of fewer columns
	for j := 0; j < cols; j += Lanes {
		for k := 0; k < n; k += Lanes {
			from := src.part(j/Lanes, k)
			if n-k < Lanes {
				copy(rest[:], from.data[:(n-k)*Lanes])
				from = matrix{rest[:], Lanes}
			}
			l.mirror(dst.part(k/Lanes, j), from)
		}
	}
}

// matrixRow computes cols columns of the blocks of a tile, at most so many rows of the tile at
// a time. src and dst hold the columns as neighbours. Every tile prefetches the source of the
// next one. The first few prefetch soon, with which the next tiles multiply.
func (l Level) matrixRow(t *tile, src, dst, soon []float32, most, cols int) {
	parts := ceilDiv(cols, most)
	run := func(col, rows, items int) {
		t.rows, t.more = uint64(rows), uint64(items-1)
		t.ahead, t.srcItem, t.dstItem = t.rows*Lanes*4, t.rows*Lanes*4, t.rows*Lanes*4
		t.src, t.dst = ptr(src, col*Lanes), ptr(dst, col*Lanes)
		l.runMatrixTile(t)
	}
	first := 0 // column of the tiles that do not prefetch soon
	if soon != nil {
		for i := range min(4, parts) {
			lo, hi := share(cols, i, parts)
			t.prefetch(soon, i, parts)
			run(lo, hi-lo, 1)
			first = hi
		}
		t.soon = nil
		parts -= min(4, parts)
	}
	if parts == 0 {
		return
	}
	rows, tall := (cols-first)/parts, (cols-first)%parts
	if tall > 0 {
		run(first, rows+1, tall)
	}
	run(first+tall*(rows+1), rows, parts-tall)
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

// tileVectors returns the columns of a tile of so many blocks.
func (l Level) tileVectors(blocks int) uint64 {
	vectors, _ := l.vectors()
	return uint64(blocks * vectors)
}

// setSlice says whether the slice from lo starts the sums or goes on. It always goes on if
// the product is added to dst.
func (t *tile) setSlice(lo int, add bool) {
	t.start = startZero
	if lo > 0 || add {
		t.start = startDst
	}
}

// runMatrixTile computes the items of a tile.
func (l Level) runMatrixTile(t *tile) {
	l.tile(t)
	for t.nan != 0 {
		t.nan = 0
		t.skip(t.more - t.moreLeft)
		_, bytes := l.vectors()
		t.matrixSums(bytes)
		if t.more == 0 {
			return
		}
		t.skip(1)
		l.tile(t)
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
