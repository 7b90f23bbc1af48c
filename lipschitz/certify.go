package lipschitz

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// SpectralUpper returns a proven upper bound of the spectral norm ‖W‖₂ of the row-major
// rows × cols matrix w. The bound accounts for every rounding of its computation.
//
// near is an estimate of the norm, such as Sigma of [SpectralNorm]. SpectralUpper tries
// √(near²·(1 + 10^k)) for k = −10, −9, …, −1, and then steps of about a twentieth. It
// returns the first candidate that it can prove, plus about 1e-16·n² relatively for
// rounding. n is the smaller extent of w. An attempt takes n³/6 multiplications. The Gram
// matrix takes n² times half the larger extent.
//
// The proof is a Cholesky factorization (Rump: Verification of positive definiteness, BIT
// 46, 2006). Let G be the smaller of W·Wᵀ and Wᵀ·W. If the factorization of t·I − G
// succeeds, its factor R satisfies RᵀR = t·I − G + E. For every order of the sums,
// ‖E‖₂ ≤ γ_{n+1}/(1 − γ_{n+1})·tr(t·I − G), where γ_k is the relative error of k roundings
// (Higham: Accuracy and Stability of Numerical Algorithms, Theorem 10.3). RᵀR has no negative
// eigenvalue. Hence ‖W‖₂² = λmax(G) is at most t + ‖E‖₂ plus the rounding errors of G and of
// t·I − G.
//
// The norm of a zero matrix is 0. SpectralUpper returns an error if w holds a value that is
// not finite, or if near is negative or not finite.
func SpectralUpper(w []float32, rows, cols int, near float64) (float64, error) {
	if err := check("SpectralUpper", w, rows, cols); err != nil {
		return 0, err
	}
	if !(near >= 0) || math.IsInf(near, 0) {
		return 0, fmt.Errorf("lipschitz: SpectralUpper: near is %v; expected a finite number of at least 0", near)
	}
	g := newGram(w, rows, cols, rows <= cols)
	return up(math.Sqrt(g.above(near * near))), nil
}

// gram is a symmetric matrix G. It stands for an exact matrix, and err bounds the distance
// of the two.
type gram struct {
	n     int
	g     []float64 // [n][n], upper triangle
	trace float64   // at least the trace of the Gram matrix that G comes from
	err   float64   // at least ‖G − exact matrix‖₂
}

// newGram returns W·Wᵀ or, if ofRows is false, Wᵀ·W. Products of float32 values are exact
// in float64, so only the sums round. A sum of k products is off by at most
// γ_k·‖w_i‖·‖w_j‖. Hence G is off by at most γ_k·‖W‖_F² = γ_k·tr G.
func newGram(w []float32, rows, cols int, ofRows bool) *gram {
	wide := make([]float64, len(w))
	for i, x := range w {
		wide[i] = float64(x)
	}
	n, k, trans := rows, cols, blas.NoTrans
	if !ofRows {
		n, k, trans = cols, rows, blas.Trans
	}
	g := &gram{n: n, g: make([]float64, n*n)}
	blas64.Syrk(trans, 1, blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: wide},
		0, blas64.Symmetric{Uplo: blas.Upper, N: n, Stride: n, Data: g.g})
	for i := range n {
		g.trace += g.g[i*n+i]
	}
	g.trace *= 1 + 2*gammaOf(k+n)
	g.err = up(gammaOf(k) * g.trace)
	return g
}

// at returns the entry of row i and column j.
func (g *gram) at(i, j int) float64 { return g.g[min(i, j)*g.n+max(i, j)] }

// minus returns G − c·z·zᵀ for c ≥ 0. The exact z differs from z by a vector of length
// zErr at most.
func (g *gram) minus(c float64, z []float64, zErr float64) *gram {
	d := &gram{n: g.n, g: make([]float64, len(g.g)), trace: g.trace}
	var zz float64
	for i, x := range z {
		zz += x * x
		for j := i; j < g.n; j++ {
			d.g[i*g.n+j] = g.g[i*g.n+j] - c*x*z[j]
		}
	}
	zz *= 1 + gammaOf(g.n)
	// Every entry has three roundings. ‖|G|‖₂ ≤ tr G because |g_ij| ≤ √(g_ii·g_jj).
	d.err = up(g.err + gammaOf(3)*(g.trace+c*zz) + c*zErr*(2*math.Sqrt(zz)+zErr))
	return d
}

// above returns a proven upper bound of λmax of the exact matrix. The bound is close if
// near is.
func (g *gram) above(near float64) float64 {
	if g.trace == 0 {
		return 0
	}
	// The largest eigenvalue is at least the mean of all eigenvalues.
	var sum float64
	for i := range g.n {
		sum += g.at(i, i)
	}
	start := max(near, sum/float64(g.n), unit*g.trace)
	for delta := 1e-10; ; delta = min(10*delta, 0.1+1.1*delta) {
		// The trace of a Gram matrix is an upper bound too.
		t := start * (1 + delta)
		if t >= g.trace {
			return up(g.trace + g.err)
		}
		if bound, ok := g.below(t); ok {
			return bound
		}
	}
}

// below reports whether it can prove that λmax(G) is below about t. bound is then a proven
// upper bound of λmax of the exact matrix.
func (g *gram) below(t float64) (bound float64, ok bool) {
	n := g.n
	a := make([]float64, len(g.g))
	trace := 0.0
	for i := range n {
		for j := i; j < n; j++ {
			a[i*n+j] = -g.g[i*n+j]
		}
		a[i*n+i] += t
		if !(a[i*n+i] > 0) {
			return 0, false
		}
		trace += a[i*n+i]
	}
	if _, ok = lapack64.Potrf(blas64.Symmetric{Uplo: blas.Upper, N: n, Stride: n, Data: a}); !ok {
		return 0, false
	}
	// a_ii lies in (0, t + |g_ii|], and its rounding error is relative.
	e := gammaOf(n+2)*trace*(1+1e-9) + unit*trace
	return up(t + e + g.err), true
}
