package kernel

import "github.com/org/snnrat/internal/parallel"

// This file multiplies large matrices by Strassen's algorithm, in Winograd's form with 15
// additions. It cuts the matrices into quarters and takes seven products instead of eight. The
// order of the steps is that of Boyer, Dumas, Pernet and Zhou, "Memory efficient scheduling of
// Strassen-Winograd's matrix multiplication algorithm", ISSAC 2009, Table 1. Sizes alone decide
// where the algorithm is used.

// strassenLeast is the smallest extent of a quarter. Smaller quarters would save less time in
// products than the additions take.
var strassenLeast = 512

// wideStrip is the number of columns that projectWide projects at a time.
var wideStrip = 2048

// half returns the shape of the product of two quarters.
func (p matProduct) half() matProduct {
	return matProduct{p.rows / 2, p.inner / (2 * Lanes) * Lanes, p.cols / (2 * Lanes) * Lanes, p.transposed}
}

// splits reports whether the product is computed by Strassen's algorithm.
func (p matProduct) splits() bool {
	h := p.half()
	return min(h.rows*Lanes, h.inner, h.cols) >= strassenLeast
}

// scratch returns the number of elements of scratch memory that the product needs.
func (p matProduct) scratch() int {
	if !p.splits() {
		return 0
	}
	h := p.half()
	return h.rows*Lanes*max(h.inner, h.cols) + h.inner*h.cols + h.scratch()
}

// strassen computes dst = a·b, or a·bᵀ.
func (p matProduct) strassen(dst, a, b matrix, scratch []float32, threads int) {
	if !p.splits() {
		p.direct(dst, a, b, false, threads)
		return
	}
	l, h := CurrentLevel(), p.half()
	n := h.rows * Lanes * max(h.inner, h.cols)
	x, xc := matrix{scratch, h.inner}, matrix{scratch, h.cols} // sums of a's quarters; a product
	y := matrix{scratch[n:], h.cols}                           // sums of b's quarters
	yRows, yCols := h.inner/Lanes, h.cols
	if p.transposed {
		y.cols = h.inner
		yRows, yCols = h.cols/Lanes, h.inner
	}
	rest := scratch[n+h.inner*h.cols:]
	a11, a12, a21, a22 := a, a.part(0, h.inner), a.part(h.rows, 0), a.part(h.rows, h.inner)
	b11, b12, b21, b22 := b, p.right(b, 0, h.cols), p.right(b, h.inner, 0), p.right(b, h.inner, h.cols)
	c11, c12, c21, c22 := dst, dst.part(0, h.cols), dst.part(h.rows, 0), dst.part(h.rows, h.cols)
	ofA := func(d, s, t matrix, sign float32) { addParts(d, s, t, sign, h.rows, h.inner, threads) }
	ofB := func(d, s, t matrix, sign float32) { addParts(d, s, t, sign, yRows, yCols, threads) }
	ofC := func(d, s, t matrix, sign float32) { addParts(d, s, t, sign, h.rows, h.cols, threads) }
	multiply := func(d, s, t matrix) { h.strassen(d, s, t, rest, threads) }

	ofA(x, a11, a21, -1)                                                  // S₃
	ofB(y, b22, b12, -1)                                                  // T₃
	multiply(c21, x, y)                                                   // P₇
	ofA(x, a21, a22, 1)                                                   // S₁
	ofB(y, b12, b11, -1)                                                  // T₁
	multiply(c22, x, y)                                                   // P₅
	ofA(x, x, a11, -1)                                                    // S₂
	ofB(y, b22, y, -1)                                                    // T₂
	multiply(c12, x, y)                                                   // P₆
	ofA(x, a12, x, -1)                                                    // S₄
	multiply(c11, x, b22)                                                 // P₃
	multiply(xc, a11, b11)                                                // P₁
	pieces(threads, h.rows, h.cols, pieceVectors/4, func(r, lo, hi int) { // five sums while their parts are in L1
		n := (hi - lo) * Lanes
		p1, p3, p5, p6, p7 := xc.part(r, lo), c11.part(r, lo), c22.part(r, lo), c12.part(r, lo), c21.part(r, lo)
		l.addSigned(p6, p1, p6, 1, n) // U₂ = P₁ + P₆
		l.addSigned(p7, p6, p7, 1, n) // U₃ = U₂ + P₇
		l.addSigned(p6, p6, p5, 1, n) // U₄ = U₂ + P₅
		l.addSigned(p5, p7, p5, 1, n) // U₇ = U₃ + P₅
		l.addSigned(p6, p6, p3, 1, n) // U₅ = U₄ + P₃
	})
	ofB(y, y, b21, -1)      // T₄
	multiply(c11, a22, y)   // P₄
	ofC(c21, c21, c11, -1)  // U₆ = U₃ − P₄
	multiply(c11, a12, b21) // P₂
	ofC(c11, xc, c11, 1)    // U₁ = P₁ + P₂
	p.border(dst, a, b, h, threads)
}

// border computes what four quarters of shape h leave: rows, columns, and terms of sums.
func (p matProduct) border(dst, a, b matrix, h matProduct, threads int) {
	rows, inner, cols := 2*h.rows, 2*h.inner, 2*h.cols
	if inner < p.inner {
		matProduct{rows, p.inner - inner, cols, p.transposed}.direct(dst, a.part(0, inner), p.right(b, inner, 0), true, threads)
	}
	if cols < p.cols {
		matProduct{rows, p.inner, p.cols - cols, p.transposed}.direct(dst.part(0, cols), a, p.right(b, 0, cols), false, threads)
	}
	if rows < p.rows {
		matProduct{p.rows - rows, p.inner, p.cols, p.transposed}.direct(dst.part(rows, 0), a.part(rows, 0), b, false, threads)
	}
}

// addParts computes dst = x + sign·y, sign being 1 or −1. dst may be x or y.
func addParts(dst, x, y matrix, sign float32, rows, cols, threads int) {
	l := CurrentLevel()
	pieces(threads, rows, cols, pieceVectors, func(r, lo, hi int) {
		l.addSigned(dst.part(r, lo), x.part(r, lo), y.part(r, lo), sign, (hi-lo)*Lanes)
	})
}

// addSigned computes dst = x + sign·y for n neighbours.
func (l Level) addSigned(dst, x, y matrix, sign float32, n int) {
	l.combine(&dst.data[0], &x.data[0], &y.data[0], 1, sign, n)
}

// gramCorner returns the shape of the largest product in gram: the rows from half on, times those
// before.
func gramCorner(n, cols int) matProduct { return matProduct{n - n/2, cols, n / 2 * Lanes, true} }

// gramPart returns the part of p whose terms of a sum are computed at a time, so that less
// scratch memory is needed.
func (p matProduct) gramPart() matProduct {
	const most = 4096
	p.inner = ceilDiv(p.inner, ceilDiv(p.inner, most)*Lanes) * Lanes
	return p
}

// GramScratch returns the number of elements of scratch memory that Gram needs: sums of quarters,
// and products that are added to others.
func GramScratch(rowBlocks, cols int) int {
	p := gramCorner(rowBlocks, cols)
	part := p.gramPart()
	switch {
	case !p.splits():
		return 0
	case part.inner < p.inner:
		return part.scratch() + p.rows*Lanes*p.cols
	}
	return part.scratch()
}

// gramProduct computes dst = a·bᵀ and its transpose.
func gramProduct(dst, transpose, a, b matrix, p matProduct, scratch []float32, threads int) {
	part := p.gramPart()
	for lo := 0; lo < p.inner; lo += part.inner {
		part.inner = min(part.inner, p.inner-lo)
		if lo == 0 {
			part.strassen(dst, a, b, scratch, threads)
			continue
		}
		sum := matrix{scratch[len(scratch)-p.rows*Lanes*p.cols:], p.cols}
		part.strassen(sum, a.part(0, lo), b.part(0, lo), scratch, threads)
		addParts(dst, dst, sum, 1, p.rows, p.cols, threads)
	}
	l, across := CurrentLevel(), p.cols/Lanes
	parallel.For(threads, p.rows, func(i int) {
		for j := range across {
			l.mirror(transpose.part(j, i*Lanes), dst.part(i, j*Lanes))
		}
	})
}

// wideProduct returns the shape of the product of g with a strip of w, and whether Project uses
// Strassen's algorithm for it.
func wideProduct(rowBlocks, cols int) (p matProduct, wide bool) {
	p = matProduct{rowBlocks, rowBlocks * Lanes, min(cols, wideStrip), false}
	wide = p.splits()
	p.cols = ceilDiv(cols, ceilDiv(cols, p.cols)*2*Lanes) * 2 * Lanes
	return p, wide
}

// ProjectScratch returns the numbers of elements of memory that Project needs: for a strip of the
// product, and for sums of quarters.
func ProjectScratch(rowBlocks, cols int) (strip, sums int) {
	p, wide := wideProduct(rowBlocks, cols)
	if !wide {
		return 0, 0
	}
	return p.rows * p.cols * Lanes, p.scratch()
}

// projectWide is Project for large matrices. p is the product of g with a strip of w.
func projectWide(w, g matrix, beta float32, strip, sums []float32, p matProduct, cols, threads int) {
	l := CurrentLevel()
	for c := 0; c < cols; c += p.cols {
		p.cols = min(p.cols, cols-c)
		old, next := w.part(0, c), matrix{strip, p.cols}
		p.strassen(next, g, old, sums, threads)
		pieces(threads, p.rows, p.cols, pieceVectors, func(r, lo, hi int) {
			l.projectRow(old.part(r, lo).data[:(hi-lo)*Lanes], next.part(r, lo).data, beta)
		})
	}
}
