package lipschitz

import (
	"cmp"
	"context"
	"math"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"

	"github.com/org/snnrat/tensor/rng"
)

// branch lowers the bound Λ ≤ upper by branch and bound, and it improves a.best. It returns
// the proven bound and the number of visited nodes.
func (a *ascent) branch(ctx context.Context, upper float64, maxNodes int64) (float64, int64) {
	n := len(a.at)
	wide := newGram(a.rowMajor(), a.rows, n, false)
	b := &brancher{ctx: ctx, maxNodes: maxNodes, n: n, gram: wide, order: wide.byPart()}
	share := 0.5
	if n <= 32 { // the search is short, so it needs no intermediate results
		share = 0
	}
	for {
		rho := a.ratio + share*max(0, upper*upper-a.ratio)
		found, done := b.search(rho, a.best)
		switch {
		case found != nil:
			before := a.ratio
			copy(a.s, found)
			a.climb(ctx)
			if a.ratio == before { // an improvement by rounding only
				return upper, b.nodes
			}
			continue
		case !done:
			return upper, b.nodes
		}
		upper = min(upper, up(math.Sqrt(rho+b.slack)))
		if share == 0 {
			return upper, b.nodes
		}
		if share /= 2; share < 0.1 {
			share = 0
		}
	}
}

// byPart orders the entries. The next entry is always the one with the largest part in the
// largest eigenvector of the remaining entries.
func (g *gram) byPart() []int {
	left, order := make([]int, g.n), make([]int, 0, g.n)
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		sub := &gram{n: len(left), g: make([]float64, len(left)*len(left))}
		for i, p := range left {
			for j := i; j < len(left); j++ {
				sub.g[i*sub.n+j] = g.at(p, left[j])
			}
		}
		_, v := sub.top()
		most := 0
		for i, x := range v {
			if math.Abs(x) > math.Abs(v[most]) {
				most = i
			}
		}
		order = append(order, left[most])
		left = slices.Delete(left, most, most+1)
	}
	return order
}

// brancher searches all s of {−1,0,1}ⁿ for one with sᵀM·s > 0. The first entry of s that is
// not 0 is 1. Indices refer to order.
type brancher struct {
	ctx             context.Context
	nodes, maxNodes int64
	n               int
	gram            *gram
	order           []int

	m      []float64 // [n][n], M = WᵀW − ρ·I
	tie    float64   // bounds the rounding error of a computed sᵀM·s; a value up to tie counts as 0
	slack  float64   // Λ² ≤ ρ + slack if no s has sᵀM·s > 0
	depths []depth
	s      []float64
	b      [][3][]float64 // M·s over the fixed entries, for the three children at each depth
}

// depth holds the bound of the nodes whose first n − r entries are fixed.
type depth struct {
	r       int
	inverse []float64 // [r·(r+1)/2], at least P⁻¹: lower triangle by rows, with half the diagonal
	base    float64   // Σ d_i plus a bound of the rounding error of a node's bound
	// concave reports that M_RR has no positive eigenvalue. If all fixed entries are 0, no
	// other entries give a positive sᵀM·s.
	concave bool
}

// search searches for an s with sᵀM·s > 0 and returns it, indexed by the columns of W. If it
// finds none, done reports that none exists.
func (b *brancher) search(rho float64, best []float64) (found []float64, done bool) {
	n := b.n
	b.m = make([]float64, n*n)
	var most, sum float64
	for i, p := range b.order {
		for j, q := range b.order {
			b.m[i*n+j] = b.gram.at(p, q)
		}
		most = max(most, b.m[i*n+i])
		b.m[i*n+i] -= rho
		for _, x := range b.m[i*n:][:n] {
			sum += math.Abs(x)
		}
	}
	b.tie = gammaOf(8*n)*sum + 1e-12*rho
	b.slack = up(b.gram.err + unit*(most+rho) + 2*b.tie)
	s := make([]float64, n)
	for i, p := range b.order {
		s[i] = best[p]
	}
	samples := near(s)
	b.depths = make([]depth, n+1)
	for d := 1; d < n; d++ {
		if b.ctx.Err() != nil {
			return nil, false
		}
		b.depths[d] = b.depth(d, rho, samples)
	}
	b.s = make([]float64, n)
	b.b = make([][3][]float64, n+1)
	for d := range b.b {
		for k := range 3 {
			b.b[d][k] = make([]float64, n)
		}
	}
	better, done := b.visit(0, 0, make([]float64, n), true)
	if !better {
		return nil, done
	}
	found = make([]float64, n)
	for i, p := range b.order {
		found[p] = b.s[i]
	}
	return found, false
}

// visit searches below a node. The entries before d are fixed, value is their sᵀM·s, and m
// holds the products of M with them. zero reports that they are all 0.
func (b *brancher) visit(d int, value float64, m []float64, zero bool) (found, done bool) {
	n := b.n
	if d == n {
		return !zero && value > b.tie, true
	}
	type child struct{ s, value, bound float64 }
	var open [3]child
	count := 0
	for k := range 3 {
		c := child{s: float64(k - 1)}
		if zero && k == 0 {
			continue
		}
		if b.nodes++; b.nodes > b.maxNodes || b.nodes&0xfff == 0 && b.ctx.Err() != nil {
			return false, false
		}
		c.value = value + c.s*(2*m[d]+c.s*b.m[d*n+d])
		next := b.b[d][k]
		for j := d + 1; j < n; j++ {
			next[j] = m[j] + c.s*b.m[d*n+j]
		}
		switch at := &b.depths[d+1]; {
		case zero && k == 1:
			if d+1 == n || at.concave {
				continue
			}
			c.bound = math.Inf(1)
		case d+1 == n:
			c.bound = c.value
		default:
			if c.bound = c.value + at.base + at.quadratic(next[d+1:]); c.bound <= 0 {
				continue
			}
		}
		open[count], count = c, count+1
	}
	slices.SortStableFunc(open[:count], func(x, y child) int { return cmp.Compare(y.bound, x.bound) })
	for _, c := range open[:count] {
		b.s[d] = c.s
		found, done = b.visit(d+1, c.value, b.b[d][int(c.s)+1], zero && c.s == 0)
		if found || !done {
			return found, done
		}
	}
	return false, true
}

// quadratic returns bᵀ·inverse·b.
func (d *depth) quadratic(b []float64) float64 {
	var sum float64
	at := d.inverse
	for i, x := range b {
		var s float64
		for j, a := range at[:i+1] {
			s += a * b[j]
		}
		sum += s * x
		at = at[i+1:]
	}
	return 2 * sum
}

// near returns s and random changes of s. The bounds are fitted to these vectors.
func near(s []float64) [][]float64 {
	samples := make([][]float64, 40)
	r := rng.New(0).Derive("lipschitz.Lambda.near", 0).Rand()
	for k := range samples {
		samples[k] = slices.Clone(s)
		for i := range s {
			if k > 0 && r.IntN(2) == 0 {
				samples[k][i] = float64(r.IntN(3) - 1)
			}
		}
	}
	return samples
}

// depth returns the bound of the nodes with the given number of fixed entries.
func (b *brancher) depth(fixed int, rho float64, samples [][]float64) depth {
	n, r := b.n, b.n-fixed
	sub := &gram{n: r, g: make([]float64, r*r)} // of WᵀW
	p := make([]float64, r*r)                   // D − M_RR
	for i := range r {
		for j := range r {
			p[i*r+j] = -b.m[(fixed+i)*n+fixed+j]
			sub.g[i*r+j] = b.gram.at(b.order[fixed+i], b.order[fixed+j])
		}
		sub.trace += sub.g[i*r+i]
	}
	out := depth{r: r}
	if bound, ok := sub.below(rho * (1 - 1e-9)); ok && bound <= rho {
		out.concave = true
	}
	lambda, _ := sub.top()
	d := make([]float64, r)
	for i := range d {
		d[i] = max(0, 1.02*lambda-rho) + 1e-3*rho
	}
	b.fit(d, p, rho, samples)

	// Raise D until P − τ·I is proven to be positive definite. τ keeps the rounding error of
	// the inverse small.
	tau, trace := 1e-4*rho, 0.0
	for raise := 0.0; ; raise = max(2*raise, tau) {
		trace = 0
		shifted := plusDiagonal(p, d, raise-tau)
		for i := range r {
			trace += math.Abs(p[i*r+i]) + d[i] + raise
		}
		if _, ok := potrf(shifted, r); ok && 2*gammaOf(r+4)*trace < tau/2 {
			for i := range d {
				d[i] += raise
			}
			break
		}
	}
	tau /= 2 // a lower bound of λmin(P)
	full := plusDiagonal(p, d, 0)
	inverse, ok := invert(full, r)
	if !ok {
		return depth{r: r, base: math.Inf(1), inverse: make([]float64, r*(r+1)/2), concave: out.concave}
	}
	// Let E = I − inverse·P. Then xᵀ(P⁻¹ − inverse)·x = xᵀE·P⁻¹x ≤ √κ(P)·‖E‖₂·xᵀP⁻¹x. Hence
	// inverse/(1 − √κ·‖E‖) is at least P⁻¹.
	var e2, a2, p2 float64
	for i := range r {
		for j := range r {
			var sum float64
			for k := range r {
				sum += inverse[i*r+k] * full[k*r+j]
			}
			if i == j {
				sum--
			}
			e2 += sum * sum
			a2 += inverse[i*r+j] * inverse[i*r+j]
			p2 += full[i*r+j] * full[i*r+j]
		}
	}
	e := math.Sqrt(trace/tau) * (math.Sqrt(e2) + gammaOf(r+4)*math.Sqrt(a2)*(math.Sqrt(p2)+trace))
	if !(e < 0.5) {
		out.base = math.Inf(1)
	}
	scale := up(1 / (1 - up(e)))

	// A node computes its value and b from sums of at most 3·n products, and the quadratic
	// from b. Each is off by at most γ_8n times the sum of the magnitudes of its terms. The
	// following loops bound these sums for all nodes.
	magnitude := make([]float64, r) // Σ_F |M_if|
	var terms float64
	for i := range n {
		for j, x := range b.m[i*n:][:fixed] {
			if i < fixed {
				terms += math.Abs(x)
			} else {
				magnitude[i-fixed] += math.Abs(b.m[i*n+j])
			}
		}
	}
	for i := range r {
		for j := range i + 1 {
			x := inverse[i*r+j] * scale
			terms += 2 * math.Abs(x) * magnitude[i] * magnitude[j]
			if i == j {
				x /= 2
			}
			out.inverse = append(out.inverse, x)
		}
		terms += d[i]
		out.base += d[i]
	}
	out.base += 2 * gammaOf(8*n) * terms
	return out
}

// fit lowers the d towards the least average of Σ d_i + bᵀ(D + p)⁻¹b. The average covers
// b = M_RF·s_F of the samples and a random b of small variance. D + p must be positive
// definite. fit changes one d_i at a time, with a closed form: Let A = (D + p)⁻¹. Adding δ to
// d_i changes bᵀA·b to bᵀA·b − δ·(A·b)_i²/(1 + δ·a_ii), and the sum is smallest for
// 1 + δ·a_ii = |A·b|_i.
func (b *brancher) fit(d, p []float64, rho float64, samples [][]float64) {
	n, r, count := b.n, len(d), len(samples)
	fixed := n - r
	a, ok := invert(plusDiagonal(p, d, 0), r)
	if !ok {
		return
	}
	bs := make([]float64, r*count) // [r][samples]
	for k, s := range samples {
		for i := range r {
			for f, x := range s[:fixed] {
				bs[i*count+k] += b.m[(fixed+i)*n+f] * x
			}
		}
	}
	y := make([]float64, r*count) // A·bs
	for i := range r {
		for j := range r {
			for k, x := range bs[j*count:][:count] {
				y[i*count+k] += a[i*r+j] * x
			}
		}
	}
	noise := 1e-3 * rho * rho
	row, yRow := make([]float64, r), make([]float64, count)
	for range 30 {
		for i := range r {
			copy(row, a[i*r:][:r])
			copy(yRow, y[i*count:][:count])
			size := math.Sqrt(squares(yRow)/float64(count) + noise*squares(row))
			delta := max((max(size, 0.01)-1)/row[i], -d[i])
			d[i] += delta
			f := delta / (1 + delta*row[i])
			for p, x := range row {
				for q, z := range row {
					a[p*r+q] -= f * x * z
				}
				for k, z := range yRow {
					y[p*count+k] -= f * x * z
				}
			}
		}
	}
}

// plusDiagonal returns a copy of p with d_i + x added to its diagonal.
func plusDiagonal(p, d []float64, x float64) []float64 {
	sum := slices.Clone(p)
	for i := range d {
		sum[i*len(d)+i] += d[i] + x
	}
	return sum
}

// potrf factorizes a in place. It reads the upper triangle.
func potrf(a []float64, n int) (blas64.Triangular, bool) {
	t, ok := lapack64.Potrf(blas64.Symmetric{Uplo: blas.Upper, N: n, Stride: n, Data: a})
	return blas64.Triangular(t), ok
}

// invert returns the approximate inverse of the positive definite p. The result is exactly
// symmetric.
func invert(p []float64, n int) ([]float64, bool) {
	a := slices.Clone(p)
	t, ok := potrf(a, n)
	if ok {
		_, ok = lapack64.Potri(t)
	}
	for i := range n {
		for j := range i {
			a[i*n+j] = a[j*n+i]
		}
	}
	return a, ok
}
