package lipschitz

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
)

// LambdaSearch sets the effort of [Lambda].
type LambdaSearch struct {
	// Starts, at least 1, is the number of local searches for the lower bound. A search
	// takes about 100 products with W.
	Starts int
	// MaxNodes, at least 0, limits the nodes of the branch-and-bound tree. About a million
	// nodes a second are usual. 0 turns branch and bound off.
	MaxNodes int64
}

// DefaultLambdaSearch returns 32 starts and 100 million nodes.
func DefaultLambdaSearch() LambdaSearch { return LambdaSearch{Starts: 32, MaxNodes: 100_000_000} }

// LambdaBounds is the result of [Lambda]: Lower ≤ Λ ≤ Upper.
type LambdaBounds struct {
	// Lower is ‖W·S‖₂/‖S‖₂, rounded down.
	Lower float64
	// Upper is a proven upper bound. The proof covers the rounding of the computation.
	Upper float64
	// S attains Lower. It has a value of −1, 0 or 1 for each column of W, and its first
	// value that is not 0 is 1. It is nil for a zero matrix.
	S []int8
	// Exact reports that Upper exceeds Lower by a part of at most 1e-9. S is then optimal up
	// to that part.
	Exact bool
	// Nodes is the number of nodes that branch and bound visited.
	Nodes int64
}

// maxBranch is the largest number of columns for branch and bound. Zero columns do not
// count.
const maxBranch = 96

// Lambda bounds the spiking Lipschitz constant of the row-major rows × cols matrix w
// (Eq. 14 of Ding et al. 2022),
//
//	Λ = max ‖W·s‖₂/‖s‖₂ over the s of {−1,0,1}ⁿ that are not 0, n = cols.
//
// {−1,0,1}ⁿ holds the differences of two vectors of spikes. Λ is at least the largest norm
// of a column and at most ‖W‖₂ (Proposition 1). The result has the same bits for the same
// arguments, unless ctx ends the search.
//
// # Lower bound
//
// Lower comes from local searches. A search alternates between two steps: it takes the s
// with the largest yᵀW·s/‖s‖₂ for a vector y of currents, and then y = W·s. Neither step
// decreases ‖W·s‖₂/‖s‖₂. Then it changes single entries of s. The searches start at the
// largest singular vector, at the largest column, at random vectors, and at random changes
// of the best s.
//
// # Upper bound
//
// Upper is the smaller of two bounds. One is the bound of [SpectralUpper]. The other bound
// uses that s can have only certain directions, unlike an arbitrary vector v. If k entries
// of s are not 0, |vᵀs|/‖s‖₂ is at most the sum of the k largest |v_i| over √k. Let c(v) be
// the largest of these values over k; it is about 0.9 for a random v of length 1. Then
//
//	WᵀW ⪯ t·I + β·v·vᵀ  for t, β ≥ 0  implies  Λ² ≤ t + β·c(v)².
//
// The best choice for the largest right singular vector v is t = σ₂² and β = σ₁² − σ₂². Any
// choice that satisfies the left side is valid. A Cholesky factorization proves the left
// side, as in [SpectralUpper]. It factorizes the smaller of the two matrices
// t·I + β·v·vᵀ − Wᵀ·W and t·I + κ·W·v·(W·v)ᵀ − W·Wᵀ. The second matrix proves it for
// β = κ·t/(1 − κ·‖v‖²), because WᵀW ⪯ M is equivalent to W·M⁻¹·Wᵀ ⪯ I.
//
// # Branch and bound
//
// For up to 96 columns that are not zero, branch and bound narrows the interval until it is
// exact, or until MaxNodes or ctx ends it. docs/lipschitz.md has times for matrices of
// Gaussian weights: hundredths of a second for 24 columns, a minute for 64. A dominant first
// singular value makes a matrix easier. Many optimal s make it harder, for example many
// equal blocks on the diagonal.
//
// The search fixes the entries of s one by one. It proves
//
//	sᵀ(WᵀW − ρ·I)·s ≤ 0 for all s in {−1,0,1}ⁿ, that is Λ² ≤ ρ,
//
// for values ρ that halve the distance to Lower² repeatedly, and finally for ρ = Lower².
// Let M = WᵀW − ρ·I, let F be the fixed entries and R the others. Let D ≥ 0 be a diagonal
// matrix such that P = D − M_RR is positive definite. Then all values of the other entries
// satisfy
//
//	sᵀM·s ≤ s_FᵀM_FF·s_F + Σ_R d_i + bᵀP⁻¹b,   b = M_RF·s_F.
//
// Proof: For the other entries x, 2·bᵀx + xᵀM_RR·x = 2·bᵀx − xᵀP·x + Σ d_i·x_i². The first
// two terms are at most bᵀP⁻¹b for every real x. The last one is at most Σ d_i. This bound is
// the dual of the relaxation of {−1,0,1} to [−1,1]. If it is not positive, the node holds
// nothing better than ρ.
//
// Each depth has its own D. Coordinate descent finds it; the objective is the average of
// Σ d_i + bᵀP⁻¹b over vectors near the best s. The order of the entries follows their part in
// the largest singular vector of the remaining columns. With this order M_RR soon has no
// positive eigenvalue. s and −s have the same ratio, so the first entry that is not 0 is 1.
//
// # Interruption and errors
//
// If ctx ends the search, Lambda returns the interval that it has reached, and no error.
// Before the first bounds are known, Upper is the Frobenius norm and S is the largest
// column. Lambda returns an error if w holds a value that is not finite, or if a field of o
// is out of its range.
func Lambda(ctx context.Context, w []float32, rows, cols int, o LambdaSearch) (LambdaBounds, error) {
	switch {
	case o.Starts < 1:
		return LambdaBounds{}, fmt.Errorf("lipschitz: Lambda: Starts is %d; expected at least 1", o.Starts)
	case o.MaxNodes < 0:
		return LambdaBounds{}, fmt.Errorf("lipschitz: Lambda: MaxNodes is %d; expected at least 0", o.MaxNodes)
	}
	if err := check("Lambda", w, rows, cols); err != nil {
		return LambdaBounds{}, err
	}
	m := newColumns(w, rows, cols)
	if m.frobenius == 0 {
		return LambdaBounds{Exact: true}, nil
	}
	a := newAscent(m)
	a.largestColumn()
	upper := m.frobenius
	if ctx.Err() == nil {
		g := newGram(m.rowMajor(), rows, len(m.at), rows <= len(m.at))
		lambda, v := g.top()
		if rows <= len(m.at) {
			v = m.transposeTimes(v)
		}
		upper = min(upper, up(math.Sqrt(g.above(lambda))))
		if ctx.Err() == nil {
			upper = min(upper, m.flatUpper(g, v))
		}
		a.search(ctx, v, o.Starts)
	}
	b := LambdaBounds{Upper: upper}
	const exact = 1 + 1e-9
	if o.MaxNodes > 0 && len(m.at) <= maxBranch && ctx.Err() == nil && upper > math.Sqrt(a.ratio)*exact {
		b.Upper, b.Nodes = a.branch(ctx, upper, o.MaxNodes)
	}
	b.Lower = m.lower(a.best)
	b.Exact = b.Upper <= b.Lower*exact
	b.S = make([]int8, cols)
	first := a.best[slices.IndexFunc(a.best, func(s float64) bool { return s != 0 })]
	for j, s := range a.best {
		b.S[m.at[j]] = int8(first * s)
	}
	return b, nil
}

// columns holds the columns of W that are not zero, in float32.
type columns struct {
	rows      int
	w         []float32 // [len(at)][rows]
	at        []int     // index of each column in W
	norm2     []float64 // squared norms of the columns
	frobenius float64   // at least ‖W‖_F
}

func newColumns(w []float32, rows, cols int) *columns {
	m := &columns{rows: rows}
	col := make([]float32, rows)
	for j := range cols {
		var n2 float64
		for i := range rows {
			col[i] = w[i*cols+j]
			n2 += float64(col[i]) * float64(col[i])
		}
		if n2 > 0 {
			m.at, m.w, m.norm2 = append(m.at, j), append(m.w, col...), append(m.norm2, n2)
			m.frobenius += n2
		}
	}
	m.frobenius = up(math.Sqrt(m.frobenius * (1 + gammaOf(rows+cols))))
	return m
}

func (m *columns) column(j int) []float32 { return m.w[j*m.rows:][:m.rows] }

func (m *columns) rowMajor() []float32 {
	n := len(m.at)
	w := make([]float32, len(m.w))
	for j := range n {
		for i, x := range m.column(j) {
			w[i*n+j] = x
		}
	}
	return w
}

// transposeTimes returns Wᵀ·y, scaled to length 1.
func (m *columns) transposeTimes(y []float64) []float64 {
	v := make([]float64, len(m.at))
	for j := range v {
		v[j] = dot(m.column(j), y)
	}
	floats.Scale(1/floats.Norm(v, 2), v)
	return v
}

// times returns W·v.
func (m *columns) times(v []float64) []float64 {
	y := make([]float64, m.rows)
	for j, x := range v {
		if x != 0 {
			axpy(y, x, m.column(j))
		}
	}
	return y
}

func axpy(y []float64, a float64, x []float32) {
	for i, v := range x {
		y[i] += a * float64(v)
	}
}

// lower returns ‖W·s‖₂/‖s‖₂, rounded down.
func (m *columns) lower(s []float64) float64 {
	y, abs := make([]float64, m.rows), make([]float64, m.rows)
	n := 0
	for j, x := range s {
		if x == 0 {
			continue
		}
		n++
		for i, v := range m.column(j) {
			y[i] += x * float64(v)
			abs[i] += math.Abs(float64(v))
		}
	}
	var y2 float64
	for i := range y {
		// A sum of n terms is off by at most γ_n times the sum of the magnitudes.
		y2 += math.Pow(max(0, math.Abs(y[i])-gammaOf(n)*up(abs[i])), 2)
	}
	return down(math.Sqrt(y2 * (1 - gammaOf(m.rows+2)) / float64(n)))
}

// flatUpper returns the second upper bound of [Lambda]. g is the smaller Gram matrix. v is
// close to the largest right singular vector, and its length is about 1.
func (m *columns) flatUpper(g *gram, v []float64) float64 {
	var v2 float64
	for _, x := range v {
		v2 += x * x
	}
	v2 *= 1 + gammaOf(len(v))
	z := m.times(v)
	var sigma2 float64
	for _, x := range z {
		sigma2 += x * x
	}
	const most = 1 - 1e-6 // keeps 1 − κ·‖v‖² away from 0
	var t, beta float64
	if g.n == m.rows {
		// W·v is off by at most γ_n·‖W‖_F·‖v‖, for every order of its sums.
		zErr := up(gammaOf(len(v)+1) * m.frobenius * math.Sqrt(v2))
		next, _ := g.minus(1, z, zErr).top()
		kappa := min(most, max(0, 1-next/sigma2))
		t = g.minus(kappa, z, zErr).above(next)
		if !(kappa*v2 < 1) {
			return math.Inf(1)
		}
		beta = up(kappa * t / (1 - up(kappa*v2)))
	} else {
		next, _ := g.minus(sigma2, v, 0).top()
		beta = max(0, sigma2-next)
		t = g.minus(beta, v, 0).above(next)
	}
	return up(math.Sqrt(t + beta*flatness(v)))
}

// flatness returns an upper bound of (vᵀs)²/sᵀs over the s of {−1,0,1}ⁿ.
func flatness(v []float64) float64 {
	abs := make([]float64, len(v))
	for i, x := range v {
		abs[i] = math.Abs(x)
	}
	slices.Sort(abs)
	var sum, most float64
	for k := 1; k <= len(abs); k++ {
		sum += abs[len(abs)-k]
		most = max(most, sum*sum/float64(k))
	}
	return most * (1 + 2*gammaOf(len(v)+3))
}

// top returns a lower bound of the largest eigenvalue of a positive semidefinite G, up to
// rounding, and the unit vector that attains it.
func (g *gram) top() (lambda float64, v []float64) {
	sym := blas64.Symmetric{Uplo: blas.Upper, N: g.n, Stride: g.n, Data: g.g}
	vector := func(data []float64) blas64.Vector { return blas64.Vector{N: g.n, Inc: 1, Data: data} }
	e, _ := largest(g.n, Lanczos{Tol: 1e-7, MaxIterations: 1000}, func(z, v [][]float64) error {
		for i := range v {
			blas64.Symv(1, sym, vector(v[i]), 0, vector(z[i]))
		}
		return nil
	})
	return e.value, e.vector
}
