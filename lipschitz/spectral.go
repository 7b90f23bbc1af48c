package lipschitz

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
)

// Norm is what an iteration found.
type Norm struct {
	Sigma      float64   // ‖W·Vector‖₂, which the spectral norm is never below
	Vector     []float64 // the right singular vector, of length 1
	Residual   float64   // ‖WᵀW·v − σ²·v‖₂/σ², at most Tol if it converged
	Iterations int       // products of two vectors with WᵀW; one more is the last
}

// SpectralNorm returns the largest singular value ‖W‖₂ of the row-major rows × cols
// matrix w, in float64, by an iteration as in [Lanczos].
//
// Sigma is a lower bound of ‖W‖₂ up to rounding, and within Tol·Sigma of a singular
// value. That this is the largest is not proven: of several that are nearly as large it may
// be another. For an upper bound that is proven see [SpectralUpper].
//
// The norm of a zero matrix is 0, with an arbitrary Vector. SpectralNorm returns an
// error if w holds a value that is not finite, if a field of o is out of its range,
// or if the tolerance is not reached in MaxIterations.
func SpectralNorm(w []float32, rows, cols int, o Lanczos) (Norm, error) {
	if err := o.validate("SpectralNorm"); err != nil {
		return Norm{}, err
	}
	if err := check("SpectralNorm", w, rows, cols); err != nil {
		return Norm{}, err
	}
	n, converged := spectralNorm(w, rows, cols, o)
	if !converged {
		return Norm{}, fmt.Errorf("lipschitz: SpectralNorm: relative residual %.3g after %d iterations on a %d × %d matrix; expected at most %g",
			n.Residual, n.Iterations, rows, cols, o.Tol)
	}
	return n, nil
}

// spectralNorm returns what is reached in o.MaxIterations, converged or not.
func spectralNorm(w []float32, rows, cols int, o Lanczos) (n Norm, converged bool) {
	wide := make([]float64, cols)
	e, _ := largest(cols, o, func(z, v [][]float64) error {
		for r := range rows {
			for i, x := range w[r*cols:][:cols] {
				wide[i] = float64(x)
			}
			for i := range v {
				floats.AddScaled(z[i], floats.Dot(wide, v[i]), wide)
			}
		}
		return nil
	})
	return Norm{Sigma: math.Sqrt(e.value), Vector: e.vector, Residual: e.residual, Iterations: e.iterations}, e.converged
}
