package kernel

import "github.com/org/snnrat/internal/parallel"

// Affine computes dst = a·x + b by channel, over n 16-lane elements a block; dst
// may be x.
//
//	dst, x [blocks][n][16]
//	a, b   [blocks][16]
func Affine(dst, x, a, b []float32, blocks, n int, threads int) {
	pieces(threads, blocks, n, pieceVectors, func(blk, lo, hi int) {
		a, b := (*[Lanes]float32)(a[blk*Lanes:]), (*[Lanes]float32)(b[blk*Lanes:])
		for i := lo; i < hi; i++ {
			x, d := (*[Lanes]float32)(x[(blk*n+i)*Lanes:]), (*[Lanes]float32)(dst[(blk*n+i)*Lanes:])
			for l, v := range x {
				d[l] = float32(a[l]*v) + b[l]
			}
		}
	})
}

// Scale computes dst = a·x by channel, or adds it to dst if add is set; shapes are
// as in Affine.
func Scale(dst, x, a []float32, blocks, n int, add bool, threads int) {
	pieces(threads, blocks, n, pieceVectors, func(blk, lo, hi int) {
		a := (*[Lanes]float32)(a[blk*Lanes:])
		for i := lo; i < hi; i++ {
			x := (*[Lanes]float32)(x[(blk*n+i)*Lanes:])
			var g [Lanes]float32
			for l, v := range x {
				g[l] = float32(a[l] * v)
			}
			store16(dst[(blk*n+i)*Lanes:], &g, add)
		}
	})
}

// Moments writes the sums of x and of (x − shift)² by channel, in float64. With
// shift nil it writes the sums alone.
//
//	x                 [blocks][n][16]
//	sum, square, shift [blocks][16]
func Moments(sum, square []float64, x []float32, shift []float64, blocks, n, threads int) {
	parallel.For(threads, blocks, func(blk int) {
		var s, q, m [Lanes]float64
		if shift != nil {
			m = [Lanes]float64(shift[blk*Lanes:])
		}
		for i := range n {
			for l, v := range (*[Lanes]float32)(x[(blk*n+i)*Lanes:]) {
				d := float64(v) - m[l]
				s[l] += float64(v)
				q[l] += d * d
			}
		}
		copy(sum[blk*Lanes:], s[:])
		if shift != nil {
			copy(square[blk*Lanes:], q[:])
		}
	})
}

// NormReduce writes the two sums of batch norm's backward by channel: of dy, and
// of dy·(x − mean)·inv.
//
//	dy, x                  [blocks][n][16]
//	sum, dot, mean, inv    [blocks][16]
func NormReduce(sum, dot []float64, dy, x []float32, mean, inv []float64, blocks, n, threads int) {
	parallel.For(threads, blocks, func(blk int) {
		var s, q [Lanes]float64
		m := (*[Lanes]float64)(mean[blk*Lanes:])
		for i := range n {
			x := (*[Lanes]float32)(x[(blk*n+i)*Lanes:])
			for l, g := range (*[Lanes]float32)(dy[(blk*n+i)*Lanes:]) {
				s[l] += float64(g)
				q[l] += float64(g) * (float64(x[l]) - m[l])
			}
		}
		for l := range Lanes {
			sum[blk*Lanes+l] = s[l]
			dot[blk*Lanes+l] = q[l] * inv[blk*Lanes+l]
		}
	})
}

// NormBackward computes dx = a·(dy − b) + c·(x − mean) by channel, or adds it to
// dx if add is set.
//
//	dx, dy, x     [blocks][n][16]
//	a, b, c, mean [blocks][16]
func NormBackward(dx, dy, x, a, b, c, mean []float32, blocks, n int, add bool, threads int) {
	pieces(threads, blocks, n, pieceVectors, func(blk, lo, hi int) {
		o := blk * Lanes
		a, b := (*[Lanes]float32)(a[o:]), (*[Lanes]float32)(b[o:])
		c, mean := (*[Lanes]float32)(c[o:]), (*[Lanes]float32)(mean[o:])
		for i := lo; i < hi; i++ {
			dy, x := (*[Lanes]float32)(dy[(blk*n+i)*Lanes:]), (*[Lanes]float32)(x[(blk*n+i)*Lanes:])
			var g [Lanes]float32
			for l := range Lanes {
				g[l] = float32(a[l]*(dy[l]-b[l])) + float32(c[l]*(x[l]-mean[l]))
			}
			store16(dx[(blk*n+i)*Lanes:], &g, add)
		}
	})
}

// pieceVectors is the number of vectors of a piece of element-wise work.
const pieceVectors = 1024

// pieces calls fn for runs of at most size elements of every block.
func pieces(threads, blocks, n, size int, fn func(blk, lo, hi int)) {
	per := (n + size - 1) / size
	parallel.For(threads, blocks*per, func(u int) {
		lo := u % per * size
		fn(u/per, lo, min(lo+size, n))
	})
}
