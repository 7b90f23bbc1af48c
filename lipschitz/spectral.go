package lipschitz

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"

	"github.com/org/snnrat/tensor/rng"
)

// PowerIteration says when [SpectralNorm] stops.
type PowerIteration struct {
	// Tol, in (0, 1), is the relative residual to reach: ‖WᵀW·v − σ²·v‖₂ ≤ Tol·σ²
	// for the unit vector v and σ = ‖W·v‖₂. Rounding keeps about 1e-15·√n out of
	// reach.
	Tol float64
	// MaxIterations, at least 1, is when to give up. About ln(n/Tol)/(1 − (s/s₁)²)
	// are needed for n columns, the largest singular value s₁ and the fifth, s, or in
	// [Conv.Norm] the second; fewer if these differ by no more than Tol.
	MaxIterations int
}

// DefaultPowerIteration returns a tolerance of 1e-5 and 10,000 iterations.
func DefaultPowerIteration() PowerIteration {
	return PowerIteration{Tol: 1e-5, MaxIterations: 10_000}
}

func (o PowerIteration) validate(op string) error {
	switch {
	case !(o.Tol > 0 && o.Tol < 1):
		return fmt.Errorf("lipschitz: %s: Tol is %v; expected a number in (0, 1)", op, o.Tol)
	case o.MaxIterations < 1:
		return fmt.Errorf("lipschitz: %s: MaxIterations is %d; expected at least 1", op, o.MaxIterations)
	}
	return nil
}

// Norm is what a power iteration found.
type Norm struct {
	Sigma      float64   // ‖W·Vector‖₂, which the spectral norm is never below
	Vector     []float64 // the right singular vector, of length 1
	Residual   float64   // ‖WᵀW·v − σ²·v‖₂/σ², at most Tol of an iteration that converged
	Iterations int       // products with WᵀW
}

// SpectralNorm returns the largest singular value ‖W‖₂ of the row-major rows × cols
// matrix w, in float64, by the power iteration on WᵀW of a block of four vectors, of
// whose span it takes the best (Rayleigh–Ritz; Saad: Numerical Methods for Large
// Eigenvalue Problems, chapter 5). They are pseudo-random and always the same, so that
// the same matrix always gives the same bits.
//
// Sigma is a lower bound of ‖W‖₂ up to rounding, and within Tol·Sigma of a singular
// value. That this is the largest is all but certain, not proven: to come to rest at
// another, all four must start nearly orthogonal to the largest one's vector, by about
// Tol. For an upper bound that is proven see [SpectralUpper].
//
// The norm of a zero matrix is 0, with an arbitrary Vector. SpectralNorm returns an
// error if w holds a value that is not finite, if a field of o is out of its range,
// or if the tolerance is not reached in MaxIterations.
func SpectralNorm(w []float32, rows, cols int, o PowerIteration) (Norm, error) {
	if err := o.validate("SpectralNorm"); err != nil {
		return Norm{}, err
	}
	if err := check("SpectralNorm", w, rows, cols); err != nil {
		return Norm{}, err
	}
	n, err := iterate(w, rows, cols, start(rows, cols), o)
	if err != nil || n.Residual <= o.Tol {
		return n, err
	}
	return Norm{}, fmt.Errorf("lipschitz: SpectralNorm: relative residual %.3g after %d iterations on a %d × %d matrix; expected at most %g",
		n.Residual, o.MaxIterations, rows, cols, o.Tol)
}

// start returns the pseudo-random vectors, a row each and about 1 long, that power
// iterations start from: four, or as many as the matrix has singular values.
func start(rows, cols int) blas64.General {
	v := blas64.General{Rows: min(4, rows, cols), Cols: cols, Stride: cols}
	v.Data = make([]float64, v.Rows*cols)
	r := rng.New(0).Derive("lipschitz.SpectralNorm", 0).Rand()
	for i := range v.Data {
		v.Data[i] = r.NormFloat64() / math.Sqrt(float64(cols))
	}
	return v
}

// iterate makes a power iteration from the rows of v, which it overwrites, until one
// vector of their span converges or MaxIterations are made.
func iterate(w []float32, rows, cols int, v blas64.General, o PowerIteration) (Norm, error) {
	orthonormalize(v)
	if !slices.ContainsFunc(w, func(x float32) bool { return x != 0 }) {
		return Norm{Vector: v.Data[:cols]}, nil
	}
	k := v.Rows
	vector := func(data []float64) blas64.Vector { return blas64.Vector{N: cols, Inc: 1, Data: data[:cols]} }
	row, best, image := make([]float64, cols), make([]float64, cols), make([]float64, cols)
	z := v // v·WᵀW
	z.Data = make([]float64, k*cols)
	y, h := mat.NewVecDense(k, nil), mat.NewSymDense(k, nil) // v·W_rᵀ for a row W_r; v·WᵀW·vᵀ
	var ritz mat.EigenSym
	var q mat.Dense
	for it := 1; ; it++ {
		clear(z.Data)
		h.Zero()
		for r := range rows {
			for i, x := range w[r*cols:][:cols] {
				row[i] = float64(x)
			}
			for j := range k {
				dot := blas64.Dot(vector(row), vector(v.Data[j*cols:]))
				blas64.Axpy(dot, vector(row), vector(z.Data[j*cols:]))
				y.SetVec(j, dot)
			}
			h.SymRankOne(h, 1, y)
		}
		if !ritz.Factorize(h, true) {
			return Norm{}, fmt.Errorf("lipschitz: the eigenvalues of a %d × %d matrix did not converge", k, k)
		}
		sigma2 := ritz.RawValues()[k-1]
		ritz.VectorsTo(&q)
		clear(best)
		clear(image)
		for j := range k {
			blas64.Axpy(q.At(j, k-1), vector(v.Data[j*cols:]), vector(best))
			blas64.Axpy(q.At(j, k-1)/sigma2, vector(z.Data[j*cols:]), vector(image))
		}
		res := floats.Distance(image, best, 2)
		if res <= o.Tol || it == o.MaxIterations {
			return Norm{Sigma: math.Sqrt(sigma2), Vector: best, Residual: res, Iterations: it}, nil
		}
		orthonormalize(z)
		v, z = z, v
	}
}

// orthonormalize makes the rows of v, as many as columns or fewer, an orthonormal basis of
// a space that their span is in.
func orthonormalize(v blas64.General) {
	tau, work := make([]float64, v.Rows), make([]float64, v.Rows)
	lapack64.Gelqf(v, tau, work, len(work))
	lapack64.Orglq(v, tau, work, len(work))
}
