package lipschitz

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"

	"github.com/org/snnrat/tensor/rng"
)

// Lanczos says when an iteration for the largest singular value of a map stops. It is
// Lanczos' of WᵀW, by two vectors at a time, with full orthogonalization and restarts (Wu
// and Simon: Thick-restart Lanczos method, SIAM J. Matrix Anal. Appl. 22, 2000). Its start
// is pseudo-random and always the same, so that the same map always gives the same bits.
type Lanczos struct {
	// Tol, in (0, 1), is the relative residual to reach: ‖WᵀW·v − σ²·v‖₂ ≤ Tol·σ²
	// for the unit vector v and σ = ‖W·v‖₂. Rounding keeps about 1e-15·√n out of
	// reach.
	Tol float64
	// MaxIterations, at least 1, is when to give up. Some dozens are usual.
	MaxIterations int
}

// DefaultLanczos returns a tolerance of 1e-5 and 10,000 iterations.
func DefaultLanczos() Lanczos { return Lanczos{Tol: 1e-5, MaxIterations: 10_000} }

func (o Lanczos) validate(op string) error {
	switch {
	case !(o.Tol > 0 && o.Tol < 1):
		return fmt.Errorf("lipschitz: %s: Tol is %v; expected a number in (0, 1)", op, o.Tol)
	case o.MaxIterations < 1:
		return fmt.Errorf("lipschitz: %s: MaxIterations is %d; expected at least 1", op, o.MaxIterations)
	}
	return nil
}

// block is how many vectors an iteration multiplies. From one it can come to rest at another
// eigenvalue than the largest, if the start is nearly orthogonal to that one's vector; two
// such starts do not happen. basis is how many vectors a subspace has at most, and kept
// how many of them, the best, are left then.
const block, basis, kept = 2, 16, 6

// eigen is what an iteration found of a symmetric matrix A.
type eigen struct {
	value      float64   // vᵀ·A·v, which the largest eigenvalue is never below but for rounding
	vector     []float64 // v, of length 1
	residual   float64   // ‖A·v − value·v‖/value
	iterations int
}

// largest returns the largest eigenvalue of the symmetric n × n matrix A, which must not be
// negative. It looks for it in a subspace that begins with pseudo-random vectors and grows
// by the residuals of its best ones (Rayleigh–Ritz), which are what Lanczos adds, until that
// of the best is at most o.Tol, and that of the second too little for a larger eigenvalue,
// or o.MaxIterations are made. times sets z to v·A, for the one or two rows of v.
//
// It returns an error if times does.
func largest(n int, o Lanczos, times func(z, v blas64.General) error) (eigen, error) {
	v := matrix(block, n)
	r := rng.New(0).Derive("lipschitz.Lanczos", 0).Rand()
	for i := range v.Data {
		v.Data[i] = r.NormFloat64()
	}
	most := min(basis, n)
	b, z := matrix(most, n), matrix(most, n) // an orthonormal basis, and its product with A
	h := make([]float64, most*most)          // b·A·bᵀ, upper triangle
	x, y := matrix(kept, n), matrix(kept, n)
	var e eigen
	for size := 0; e.iterations < o.MaxIterations; {
		old := size
		for i := 0; i < v.Rows && size < most; i++ {
			if orthonormalize(row(v, i), rowsOf(b, 0, size)) {
				blas64.Copy(row(v, i), row(b, size))
				size++
			}
		}
		if size == old { // there is nothing outside of the subspace
			break
		}
		if err := times(rowsOf(z, old, size), rowsOf(b, old, size)); err != nil {
			return eigen{}, err
		}
		e.iterations++
		for j := old; j < size; j++ {
			for i := range j + 1 {
				h[i*most+j] = blas64.Dot(row(b, i), row(z, j))
			}
		}
		values, ritz := jacobi(h, most, size)
		if !(values[0] > 0) { // A is zero
			return eigen{vector: row(b, 0).Data, iterations: e.iterations}, nil
		}
		best := func(count int) { // vectors, and their products
			x.Rows, y.Rows = count, count
			blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, rowsOf(ritz, 0, count), rowsOf(b, 0, size), 0, x)
			blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, rowsOf(ritz, 0, count), rowsOf(z, 0, size), 0, y)
		}
		if size+block > most && size < n {
			best(min(kept, size))
			size = x.Rows
			copy(b.Data, x.Data[:size*n])
			copy(z.Data, y.Data[:size*n])
			clear(h)
			for i := range size {
				h[i*most+i] = values[i]
			}
		} else {
			best(min(block, size))
		}
		e.vector = slices.Clone(row(x, 0).Data)
		e.value = values[0]
		v = rowsOf(y, 0, min(block, y.Rows))
		reach := 0.0 // an eigenvalue may be as large as that, by the others of the best
		for i := range v.Rows {
			blas64.Axpy(-values[i], row(x, i), row(v, i))
			if i > 0 {
				reach = max(reach, values[i]+blas64.Nrm2(row(v, i)))
			}
		}
		e.residual = blas64.Nrm2(row(v, 0)) / e.value
		if e.residual <= o.Tol && reach <= e.value*(1+o.Tol) {
			break
		}
	}
	return e, nil
}

func matrix(rows, cols int) blas64.General {
	return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
}

// rowsOf returns the rows from one up to another of m, which has no gaps.
func rowsOf(m blas64.General, from, to int) blas64.General {
	return blas64.General{Rows: to - from, Cols: m.Cols, Stride: m.Cols, Data: m.Data[from*m.Cols : to*m.Cols]}
}

func row(m blas64.General, i int) blas64.Vector {
	return blas64.Vector{N: m.Cols, Inc: 1, Data: m.Data[i*m.Cols:][:m.Cols]}
}

// orthonormalize makes v orthogonal to the orthonormal rows of b, and 1 long. It reports
// whether v was not in their span.
func orthonormalize(v blas64.Vector, b blas64.General) bool {
	before := blas64.Nrm2(v)
	part := blas64.Vector{N: b.Rows, Inc: 1, Data: make([]float64, b.Rows)}
	for range 2 { // once leaves rounding's share of what is taken away
		if b.Rows > 0 {
			blas64.Gemv(blas.NoTrans, 1, b, v, 0, part)
			blas64.Gemv(blas.Trans, -1, b, part, 1, v)
		}
	}
	after := blas64.Nrm2(v)
	if !(after > 1e-8*before) {
		return false
	}
	blas64.Scal(1/after, v)
	return true
}
