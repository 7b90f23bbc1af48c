package lipschitz

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
)

// Norm is the result of an iteration for the largest singular value of a matrix W.
type Norm struct {
	Sigma      float64   // ‖W·Vector‖₂; up to rounding a lower bound of ‖W‖₂
	Vector     []float64 // the right singular vector v, of length 1
	Residual   float64   // ‖WᵀW·v − σ²·v‖₂/σ² for σ = Sigma; at most Tol after convergence
	Iterations int       // products of up to two vectors with WᵀW; a final product is not counted
}

// SpectralNorm returns the largest singular value ‖W‖₂ of the row-major rows × cols matrix
// w. It computes in float64, with the iteration of [Lanczos].
//
// Sigma is a lower bound of ‖W‖₂ up to rounding, and within Tol·Sigma of a singular value.
// The iteration does not prove that this singular value is the largest. If several are nearly
// equal, Sigma can belong to another one. [SpectralUpper] proves an upper bound.
//
// The norm of a zero matrix is 0, with an arbitrary Vector. SpectralNorm returns an error if
// w holds a value that is not finite, if a field of o is out of its range, or if
// MaxIterations do not reach the tolerance.
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

// spectralNorm returns the result after at most o.MaxIterations, and whether it converged.
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
