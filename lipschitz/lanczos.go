package lipschitz

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/org/snnrat/tensor/rng"
)

// Lanczos sets when an iteration for the largest singular value of a map W stops. The
// iteration is the Lanczos method for WᵀW with blocks of two vectors, full
// orthogonalization and restarts (Wu and Simon: Thick-restart Lanczos method, SIAM J. Matrix
// Anal. Appl. 22, 2000). Its start vectors are pseudo-random and always the same, so the
// same map gives the same bits.
type Lanczos struct {
	// Tol, in (0, 1), is the relative residual that three iterations in a row must reach:
	// ‖WᵀW·v − σ²·v‖₂ ≤ Tol·σ² for the unit vector v and σ = ‖W·v‖₂. Rounding limits the
	// residual to about 1e-15·√n.
	Tol float64
	// MaxIterations, at least 1, limits the iterations. Some dozens are usual.
	MaxIterations int
}

// DefaultLanczos returns a tolerance of 1e-5 and 10,000 iterations.
func DefaultLanczos() Lanczos { return Lanczos{Tol: 1e-5, MaxIterations: 10_000} }

func (o Lanczos) validate(op string) error {
	switch {
	case !(o.Tol > 0 && o.Tol < 1):
		return fmt.Errorf("lipschitz: %s: Lanczos.Tol is %v; expected a number in (0, 1)", op, o.Tol)
	case o.MaxIterations < 1:
		return fmt.Errorf("lipschitz: %s: Lanczos.MaxIterations is %d; expected at least 1", op, o.MaxIterations)
	}
	return nil
}

// block is the number of vectors that an iteration multiplies. basis is the largest dimension
// of the subspace. A restart keeps the best kept vectors. An iteration can pass close to the
// vector of a smaller eigenvalue, the closer the nearer the two eigenvalues are. For that
// reason settled iterations in a row must reach the tolerance, and a block of two vectors
// separates two such eigenvalues.
const block, basis, kept, settled = 2, 16, 6, 3

// eigen is the result of an iteration for a symmetric matrix A.
type eigen struct {
	value      float64   // vᵀ·A·v; up to rounding a lower bound of the largest eigenvalue
	vector     []float64 // v, of length 1
	residual   float64   // ‖A·v − value·v‖/value
	converged  bool
	iterations int
}

// largest returns the largest eigenvalue of the positive semidefinite n × n matrix A. The
// search uses the Rayleigh–Ritz method in a subspace. The subspace starts with pseudo-random
// vectors and grows by the residuals of its best vectors, which are the directions of the
// Lanczos method. The search ends when the best residual has been at most o.Tol several times,
// or after o.MaxIterations. times sets z to A·v for one or two vectors v.
//
// largest returns the error of times.
func largest(n int, o Lanczos, times func(z, v [][]float64) error) (e eigen, err error) {
	next := vectors(block, n)
	r := rng.New(0).Derive("lipschitz.Lanczos", 0).Rand()
	for _, v := range next {
		for i := range v {
			v[i] = r.NormFloat64()
		}
	}
	var b, z [][]float64             // an orthonormal basis, and A times each
	h := mat.NewSymDense(basis, nil) // bᵀ·A·b
	reached := 0
	for e.iterations < o.MaxIterations && reached < settled {
		size := len(b)
		for _, v := range next {
			if len(b) < min(basis, n) && orthonormalize(v, b) {
				b = append(b, v)
			}
		}
		if len(b) == size { // the subspace is invariant
			reached = settled
			break
		}
		z = append(z, vectors(len(b)-size, n)...)
		if err := times(z[size:], b[size:]); err != nil {
			return eigen{}, err
		}
		e.iterations++
		for j := size; j < len(b); j++ {
			for i := range j + 1 {
				h.SetSym(i, j, floats.Dot(b[i], z[j]))
			}
		}
		values, ritz, ok := eigenSym(h.SliceSym(0, len(b)), true)
		if !ok { // A is zero
			e.vector = b[0]
			break
		}
		count, restart := min(block, len(b)), len(b) == basis && basis < n
		if restart {
			count = kept
		}
		best, image := combine(b, ritz, count), combine(z, ritz, count)
		if restart {
			b, z = best, image
			h.Zero()
			for i := range b {
				h.SetSym(i, i, values[i])
			}
		}
		e.vector = best[0]
		next = vectors(min(block, count), n)
		for i, v := range next {
			floats.AddScaledTo(v, image[i], -values[i], best[i])
		}
		if floats.Norm(next[0], 2) <= o.Tol*values[0] {
			reached++
		} else {
			reached = 0
		}
	}
	// A final product, free of the rounding errors that restarts accumulate.
	e.vector = slices.Clone(e.vector)
	floats.Scale(1/floats.Norm(e.vector, 2), e.vector)
	image := vectors(1, n)
	if err := times(image, [][]float64{e.vector}); err != nil {
		return eigen{}, err
	}
	if e.value = max(0, floats.Dot(image[0], e.vector)); e.value == 0 {
		e.converged = true
		return e, nil
	}
	floats.AddScaled(image[0], -e.value, e.vector)
	e.residual = floats.Norm(image[0], 2) / e.value
	e.converged = reached == settled && e.residual <= o.Tol
	return e, nil
}

func vectors(count, n int) [][]float64 {
	v := make([][]float64, count)
	for i := range v {
		v[i] = make([]float64, n)
	}
	return v
}

// combine returns linear combinations of the rows of b. The first count columns of by hold
// the coefficients.
func combine(b [][]float64, by *mat.Dense, count int) [][]float64 {
	sums := vectors(count, len(b[0]))
	for j := range sums {
		for i, v := range b {
			floats.AddScaled(sums[j], by.At(i, j), v)
		}
	}
	return sums
}

// orthonormalize makes v a unit vector that is orthogonal to the orthonormal b. It returns
// false if v is in their span up to rounding.
func orthonormalize(v []float64, b [][]float64) bool {
	before := floats.Norm(v, 2)
	for range 2 { // one pass leaves rounding errors
		for _, u := range b {
			floats.AddScaled(v, -floats.Dot(u, v), u)
		}
	}
	after := floats.Norm(v, 2)
	if !(after > 1e-8*before) {
		return false
	}
	floats.Scale(1/after, v)
	return true
}

// eigenSym returns the eigenvalues of a positive semidefinite matrix, largest first. If
// withVectors is set, it also returns the eigenvectors as columns. ok is false if the matrix
// is zero or if the eigenvalues were not found.
//
// The eigenvalues are off by about 1e-16 of the trace. eigenSym adds equal shares of the trace
// to the diagonal and subtracts them from the eigenvalues. It does so because gonum's
// eigenvalues are wrong without limit for matrices that consist of blocks, one of which is
// nearly zero; mat.SVD is off by hundredths for such matrices.
func eigenSym(a mat.Symmetric, withVectors bool) (values []float64, vectors *mat.Dense, ok bool) {
	n := a.SymmetricDim()
	trace := mat.Trace(a)
	if !(trace > 0) || math.IsInf(trace, 0) {
		return nil, nil, false
	}
	m := mat.NewSymDense(n, nil)
	m.ScaleSym(1/trace, a)
	share := 1 / float64(n)
	for i := range n {
		m.SetSym(i, i, m.At(i, i)+share)
	}
	var e mat.EigenSym
	if !e.Factorize(m, withVectors) {
		return nil, nil, false
	}
	values = e.Values(nil)
	if math.Abs(floats.Sum(values)-2) > 1e-9 {
		return nil, nil, false
	}
	slices.Reverse(values)
	for i, v := range values {
		values[i] = (v - share) * trace
	}
	if !withVectors {
		return values, nil, true
	}
	var ascending mat.Dense
	e.VectorsTo(&ascending)
	vectors = mat.NewDense(n, n, nil)
	for j := range n {
		vectors.SetCol(j, mat.Col(nil, n-1-j, &ascending))
	}
	return values, vectors, true
}
