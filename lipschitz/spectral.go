package lipschitz

import (
	"fmt"
	"math"
	"slices"

	"github.com/org/snnrat/tensor/rng"
)

// PowerIteration says when [SpectralNorm] stops.
type PowerIteration struct {
	// Tol, in (0, 1), is the relative residual to reach: ‖WᵀW·v − σ²·v‖₂ ≤ Tol·σ²
	// for the unit vector v and σ = ‖W·v‖₂. Rounding keeps about 1e-15·√n out of
	// reach.
	Tol float64
	// MaxIterations, at least 1, is when to give up. About ln(n/Tol)/(1 − (s₂/s₁)²)
	// are needed for n columns and the largest singular values s₁ > s₂, fewer if
	// these differ by no more than Tol.
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
// matrix w by power iteration on WᵀW, in float64, from a fixed pseudo-random vector,
// so that the same matrix always gives the same bits.
//
// Sigma is a lower bound of ‖W‖₂ up to rounding, and within Tol·Sigma of a singular
// value. That this is the largest rests on the start: with c the component of the
// start along the largest singular vector, ‖W‖₂² ≤ Sigma²·(1 + Tol/|c|), since
// iterating never makes c smaller; in n dimensions a random |c| is about 1/√n. For an
// upper bound that is proven see [SpectralUpper].
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
	n := iterate(w, rows, cols, start(cols), o)
	if n.Residual <= o.Tol {
		return n, nil
	}
	return Norm{}, fmt.Errorf("lipschitz: SpectralNorm: relative residual %.3g after %d iterations on a %d × %d matrix; expected at most %g",
		n.Residual, o.MaxIterations, rows, cols, o.Tol)
}

// start returns the pseudo-random vector of length 1 that power iterations start from.
func start(n int) []float64 {
	v := make([]float64, n)
	r := rng.New(0).Derive("lipschitz.SpectralNorm", 0).Rand()
	for i := range v {
		v[i] = r.NormFloat64()
	}
	normalize(v)
	return v
}

// iterate makes a power iteration from v, of length 1, which it overwrites, until it
// converges or MaxIterations are made.
func iterate(w []float32, rows, cols int, v []float64, o PowerIteration) Norm {
	if !slices.ContainsFunc(w, func(x float32) bool { return x != 0 }) {
		return Norm{Vector: v}
	}
	z := make([]float64, cols) // WᵀW·v
	for it := 1; ; it++ {
		clear(z)
		var sigma2 float64
		for r := range rows {
			row := w[r*cols:][:cols]
			y := dot(row, v)
			sigma2 += y * y
			for i, x := range row {
				z[i] += y * float64(x)
			}
		}
		var r2 float64
		for i, x := range z {
			d := x/sigma2 - v[i]
			r2 += d * d
		}
		res := math.Sqrt(r2)
		if res <= o.Tol || it == o.MaxIterations {
			return Norm{Sigma: math.Sqrt(sigma2), Vector: v, Residual: res, Iterations: it}
		}
		normalize(z)
		v, z = z, v
	}
}

func normalize(v []float64) {
	var sum float64
	for _, x := range v {
		sum += x * x
	}
	scale := 1 / math.Sqrt(sum)
	for i := range v {
		v[i] *= scale
	}
}

// dot sums in four interleaved parts, so that no addition waits for the last.
func dot(row []float32, v []float64) float64 {
	var s [4]float64
	v = v[:len(row)]
	for len(row) >= 4 {
		s[0] += float64(row[0]) * v[0]
		s[1] += float64(row[1]) * v[1]
		s[2] += float64(row[2]) * v[2]
		s[3] += float64(row[3]) * v[3]
		row, v = row[4:], v[4:]
	}
	for i, x := range row {
		s[0] += float64(x) * v[i]
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}
