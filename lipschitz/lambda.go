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

// LambdaSearch says how hard [Lambda] tries.
type LambdaSearch struct {
	// Starts, at least 1, is the number of local searches for the lower end. One takes
	// some 100 products with W.
	Starts int
	// MaxNodes, at least 0, is when branch and bound gives up, in nodes of its tree,
	// of which it visits about a million a second; 0 leaves it out.
	MaxNodes int64
}

// DefaultLambdaSearch returns 32 starts and 100 million nodes.
func DefaultLambdaSearch() LambdaSearch { return LambdaSearch{Starts: 32, MaxNodes: 100_000_000} }

// LambdaBounds is what [Lambda] found: Lower ≤ Λ ≤ Upper.
type LambdaBounds struct {
	// Lower is ‖W·S‖₂/‖S‖₂, rounded down.
	Lower float64
	// Upper is proven, rounding included.
	Upper float64
	// S, of values −1, 0 and 1 in W's columns, the first that is not zero being 1, attains
	// Lower. It is nil for a zero matrix.
	S []int8
	// Exact says that Upper is above Lower by a part of 1e-9 or less, which is where
	// branch and bound ends: S is optimal.
	Exact bool
	// Nodes counts the nodes that branch and bound visited.
	Nodes int64
}

// maxBranch is the number of columns, zero ones not counted, up to which branch and
// bound is tried.
const maxBranch = 96

// Lambda bounds the spiking Lipschitz constant of the row-major rows × cols matrix w
// (Eq. 14 of Ding et al. 2022),
//
//	Λ = max ‖W·s‖₂/‖s‖₂ over the s of {−1,0,1}ⁿ that are not 0, n = cols,
//
// {−1,0,1}ⁿ being what two vectors of spikes can differ by. Λ is at least the largest
// norm of a column and at most ‖W‖₂. The same matrix and o always give the same bits,
// unless ctx ends the search.
//
// Lower comes from local searches: from a vector y of currents to the s that
// maximizes yᵀW·s/‖s‖₂, from that to y = W·s, and so on, which never decreases
// ‖W·s‖₂/‖s‖₂; then by changes of single entries. They start at the largest singular
// vector, the largest column, random vectors and random changes of the best s.
//
// Upper is the smaller of two bounds. One is [SpectralUpper]. The other uses that an
// s of {−1,0,1}ⁿ cannot point along just any vector v: if k of its entries are not
// zero, |vᵀs|/‖s‖₂ is at most the sum of the k largest |v_i| over √k. With c(v) the
// largest of these over k, about 0.9 for a random v of length 1, and with
//
//	WᵀW ⪯ t·I + β·v·vᵀ  for some t, β ≥ 0
//
// it follows that Λ² ≤ t + β·c(v)². For the largest right singular vector v, t = σ₂²
// and β = σ₁² − σ₂² are the best, but any will do: they are proven to satisfy this by
// a Cholesky factorization, as in [SpectralUpper], of the smaller of t·I + β·v·vᵀ −
// Wᵀ·W and of t·I + κ·W·v·(W·v)ᵀ − W·Wᵀ. The latter proves it for
// β = κ·t/(1 − κ·‖v‖²), as WᵀW ⪯ M is the same as W·M⁻¹·Wᵀ ⪯ I.
//
// For up to 96 columns that are not zero, branch and bound then narrows the interval
// to Λ, as far as MaxNodes and ctx let it. docs/lipschitz.md has what it takes for
// matrices of Gaussian weights: hundredths of a second for 24 columns, a minute for 64.
// Weights whose first singular value stands out are easier, those with many optimal s,
// such as many equal blocks on the diagonal, harder.
//
// It fixes one entry of s after the other to show that
//
//	sᵀ(WᵀW − ρ·I)·s ≤ 0 for all s in {−1,0,1}ⁿ, that is Λ² ≤ ρ
//
// for a ρ that approaches Lower² from above by halves of the interval, and then for
// ρ = Lower². With M = WᵀW − ρ·I, F the fixed entries, R the others and a diagonal
// D ≥ 0 such that P = D − M_RR is positive definite, whatever the other entries are
//
//	sᵀM·s ≤ s_FᵀM_FF·s_F + Σ_R d_i + bᵀP⁻¹b,   b = M_RF·s_F
//
// since 2·bᵀx + xᵀM_RR·x = 2·bᵀx − xᵀP·x + Σ d_i·x_i², where the first two terms are
// at most bᵀP⁻¹b for any real x and the last at most Σ d_i. That is the dual of the
// relaxation from {−1,0,1} to the interval between. A node where it is not positive
// holds nothing better than ρ. There is one D for each depth, found by coordinate
// descent on Σ d_i + bᵀP⁻¹b averaged over vectors like the best s. Entries
// are fixed in the order of their part in the largest singular vector of what is
// left, so that M_RR soon has no positive eigenvalue. s and −s being alike, the first
// entry that is not zero is 1.
//
// When ctx ends the search, the interval reached is returned, not an error; if that
// is before its first bounds are known, Upper is the Frobenius norm and S the largest
// column. Lambda returns an error if w holds a value that is not finite or if a field
// of o is out of its range.
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

// columns is W by columns, without those that are zero, in float32 as it came.
type columns struct {
	rows      int
	w         []float32 // [len(at)][rows]
	at        []int     // the columns of W
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
		// Each sum of n terms is off by no more than γ_n times that of magnitudes.
		y2 += math.Pow(max(0, math.Abs(y[i])-gammaOf(n)*up(abs[i])), 2)
	}
	return down(math.Sqrt(y2 * (1 - gammaOf(m.rows+2)) / float64(n)))
}

// flatUpper returns the second bound of [Lambda]; g is the smaller Gram matrix and v
// close to the largest right singular vector, of length about 1.
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
	const most = 1 - 1e-6 // of κ, which 1 − κ·‖v‖² must not come too close to
	var t, beta float64
	if g.n == m.rows {
		// Either way of summing W·v is off by no more than γ_n·‖W‖_F·‖v‖.
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

// flatness returns at least the largest (vᵀs)²/sᵀs over the s of {−1,0,1}ⁿ.
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

// top returns a lower bound, up to rounding, of the largest eigenvalue of a G that has no
// negative one, and the vector, of length 1, where it is attained.
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
