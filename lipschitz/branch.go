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

// branch narrows Λ ≤ upper by branch and bound and improves a.best. It returns the
// bound that it proved and the nodes that it visited.
func (a *ascent) branch(ctx context.Context, upper float64, maxNodes int64) (float64, int64) {
	n := len(a.at)
	wide := newGram(a.rowMajor(), a.rows, n, false)
	b := &brancher{ctx: ctx, maxNodes: maxNodes, n: n, gram: wide, order: wide.byPart()}
	share := 0.5
	if n <= 32 { // too little work to be worth intermediate results
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
			if a.ratio == before { // better by rounding only
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

// byPart orders the entries: always that of the largest part in the largest
// eigenvector of those that are left.
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

// brancher searches the tree of all s of {−1,0,1}ⁿ, whose first entry that is not
// zero is 1, for one of sᵀM·s > 0. Indices are those of order.
type brancher struct {
	ctx             context.Context
	nodes, maxNodes int64
	n               int
	gram            *gram
	order           []int

	m      []float64 // [n][n], M = WᵀW − ρ·I
	tie    float64   // what rounding may add to a computed sᵀM·s; no more counts as none
	slack  float64   // Λ² ≤ ρ + slack if there is no s of sᵀM·s > 0
	depths []depth
	s      []float64
	b      [][3][]float64 // M·s over the fixed entries, for the three children at a depth
}

// depth holds what bounds the nodes whose first n − r entries are fixed.
type depth struct {
	r       int
	inverse []float64 // at least P⁻¹: [r·(r+1)/2], lower triangle by rows, halved on the diagonal
	base    float64   // Σ d_i, and what rounding may take from the bound of a node
	// Whether M_RR has no positive eigenvalue, so that 0 is the best after zeros.
	concave bool
}

// search looks for an s of sᵀM·s > 0. It returns it, in W's columns; or whether it
// has shown that there is none.
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

// visit searches below a node: the entries before d are fixed, value is their sᵀM·s,
// m the products of M with them, and zero says that they are all 0.
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

// near returns vectors like s, s among them, to fit bounds to.
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

	// Raise D until P − τ·I is proven to be positive definite, for a τ that keeps
	// what rounding does to the inverse small.
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
	tau /= 2 // λmin(P) is at least this
	full := plusDiagonal(p, d, 0)
	inverse, ok := invert(full, r)
	if !ok {
		return depth{r: r, base: math.Inf(1), inverse: make([]float64, r*(r+1)/2), concave: out.concave}
	}
	// With E = I − inverse·P, xᵀ(P⁻¹ − inverse)·x = xᵀE·P⁻¹x ≤ √κ(P)·‖E‖₂·xᵀP⁻¹x, so
	// that inverse/(1 − √κ·‖E‖) is at least P⁻¹.
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

	// A node computes its value and b from sums of no more than 3·n products, and the
	// quadratic from those of b: each is off by no more than γ_8n times the sum of its
	// terms' magnitudes, of which these are the largest.
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

// fit lowers the d, which must make D + p positive definite, towards the least
// Σ d_i + bᵀ(D + p)⁻¹b, on average over b = M_RF·s_F of the samples and over a random
// b of small variance. One d_i is changed at a time, which has a closed form: with
// A = (D + p)⁻¹, adding δ to d_i turns bᵀA·b to bᵀA·b − δ·(A·b)_i²/(1 + δ·a_ii), and
// the sum is the least for 1 + δ·a_ii = |A·b|_i.
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

// plusDiagonal returns p with d_i + x added to its diagonal.
func plusDiagonal(p, d []float64, x float64) []float64 {
	sum := slices.Clone(p)
	for i := range d {
		sum[i*len(d)+i] += d[i] + x
	}
	return sum
}

// potrf factorizes a in place, of which it reads the upper triangle.
func potrf(a []float64, n int) (blas64.Triangular, bool) {
	t, ok := lapack64.Potrf(blas64.Symmetric{Uplo: blas.Upper, N: n, Stride: n, Data: a})
	return blas64.Triangular(t), ok
}

// invert returns about the inverse of the positive definite p, symmetric to the bit.
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
