package kernel

import "github.com/org/snnrat/internal/parallel"

// A blocked matrix of R rows and K columns is laid out [⌈R/16⌉][K][16], the lanes
// being rows; lanes of missing rows are zero. Weights are such matrices as they
// are stored, with one row an output channel. Their columns come in another order
// than PyTorch's and some of them are padding, which changes neither W·Wᵀ nor,
// apart from that order, (W·Wᵀ)·W.

// Gram computes dst = w·wᵀ, blocked as well. Half of it is computed, the other
// half mirrored, so dst is symmetric to the bit. Sums run over columns, ascending.
//
//	dst [rowBlocks][16·rowBlocks][16]
//	w   [rowBlocks][cols][16]
func Gram(dst, w []float32, rowBlocks, cols, threads int) {
	const tile = Lanes * Lanes
	n := rowBlocks
	parallel.For(threads, n*(n+1)/2, func(u int) {
		i := 0
		for u > i { // unit u is block (i, u) of the lower triangle
			u -= i + 1
			i++
		}
		j := u
		var acc [tile]float32 // [row of block j][row of block i]
		wi, wj := w[i*cols*Lanes:][:cols*Lanes], w[j*cols*Lanes:][:cols*Lanes]
		for k := 0; k < len(wi); k += Lanes {
			for b, v := range (*[Lanes]float32)(wj[k:]) {
				axpy16(acc[b*Lanes:], v, wi[k:])
			}
		}
		copy(dst[(i*n+j)*tile:], acc[:])
		if i == j {
			return
		}
		mirror := dst[(j*n+i)*tile:][:tile]
		for b := range Lanes {
			for a := range Lanes {
				mirror[a*Lanes+b] = acc[b*Lanes+a]
			}
		}
	})
}

// MatMul computes dst = a·b for blocked matrices. Sums run over a's columns,
// ascending.
//
//	dst [rowBlocks][cols][16]
//	a   [rowBlocks][16·innerBlocks][16]
//	b   [innerBlocks][cols][16]
func MatMul(dst, a, b []float32, rowBlocks, innerBlocks, cols, threads int) {
	const strip = 64 // columns of a unit: their sums, 4 KB, stay in L1
	strips := (cols + strip - 1) / strip
	parallel.For(threads, rowBlocks*strips, func(u int) {
		i, lo := u/strips, u%strips*strip
		d := dst[(i*cols+lo)*Lanes : (i*cols+min(lo+strip, cols))*Lanes]
		clear(d)
		for q := range innerBlocks {
			src := b[(q*cols+lo)*Lanes:][:len(d)]
			for l := range Lanes {
				col := a[((i*innerBlocks+q)*Lanes+l)*Lanes:][:Lanes]
				for k := 0; k < len(d); k += Lanes {
					axpy16(d[k:], src[k+l], col)
				}
			}
		}
	})
}
