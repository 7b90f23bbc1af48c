package lipschitz

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/internal/racetest"

	"pgregory.net/rapid"
)

// The bound of a node holds for every leaf below it, at every depth, for random fixed entries
// and random ρ.
func TestNodeBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, rows := rapid.IntRange(2, 7).Draw(t, "n"), rapid.IntRange(1, 9).Draw(t, "rows")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		w := make([]float32, rows*n)
		for i := range w {
			w[i] = float32(r.NormFloat64())
		}
		m := newColumns(w, rows, n)
		a := newAscent(m)
		a.largestColumn()
		g := newGram(m.rowMajor(), rows, n, false)
		b := &brancher{ctx: context.Background(), n: n, gram: g, order: g.byPart()}
		// Without nodes to visit, search only prepares the bounds.
		b.search(a.ratio*rapid.Float64Range(0.5, 1.5).Draw(t, "rho"), a.best)

		s := make([]float64, n)
		for range 30 {
			d := 1 + r.IntN(n-1)
			for i := range d {
				s[i] = float64(r.IntN(3) - 1)
			}
			most := math.Inf(-1)
			rest := int(math.Pow(3, float64(n-d)))
			for k := range rest {
				for i := d; i < n; i++ {
					s[i] = float64(k%3 - 1)
					k /= 3
				}
				most = max(most, b.form(s, s, 0, n))
			}
			next := make([]float64, n-d)
			for j := d; j < n; j++ {
				for i := range d {
					next[j-d] += b.m[j*n+i] * s[i]
				}
			}
			at := b.depths[d]
			if bound := b.form(s, s, 0, d) + at.base + at.quadratic(next); bound < most {
				t.Fatalf("the bound at depth %d is %v, a leaf has %v", d, bound, most)
			}
			if at.concave {
				for k := range rest {
					for i := d; i < n; i++ {
						s[i] = float64(k%3 - 1)
						k /= 3
					}
					if v := b.form(s, s, d, n); v > 0 {
						t.Fatalf("concave at depth %d, but %v", d, v)
					}
				}
			}
		}
	})
}

// form returns xᵀM·y over the entries from lo to hi.
func (b *brancher) form(x, y []float64, lo, hi int) (sum float64) {
	for i := lo; i < hi; i++ {
		for j := lo; j < hi; j++ {
			sum += x[i] * b.m[i*b.n+j] * y[j]
		}
	}
	return sum
}

// Branch and bound finds the same Λ from the worst start, without a local search before it.
func TestBranchFromAnyStart(t *testing.T) {
	racetest.Costly(t)
	rapid.Check(t, func(t *rapid.T) {
		n, rows := rapid.IntRange(2, 16).Draw(t, "n"), rapid.IntRange(1, 16).Draw(t, "rows")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		w := make([]float32, rows*n)
		for i := range w {
			w[i] = float32(r.NormFloat64())
		}
		a := newAscent(newColumns(w, rows, n))
		a.best[0], a.ratio = 1, a.norm2[0]
		upper, _ := a.branch(context.Background(), a.frobenius, 1_000_000)
		want, err := Lambda(context.Background(), w, rows, n, DefaultLambdaSearch())
		if err != nil {
			t.Fatal(err)
		}
		if !want.Exact || upper < want.Lower || upper > want.Lower*(1+1e-9) || a.lower(a.best) < want.Lower*(1-1e-9) {
			t.Errorf("[%v, %v], want %+v", a.lower(a.best), upper, want)
		}
	})
}

// The method below proves only true bounds, and it proves every bound that clearly holds.
func TestGramBelow(t *testing.T) {
	// The eigenvalues are 1 and 3.
	g := &gram{n: 2, g: []float64{2, 1, 0, 2}, trace: 4}
	for _, c := range []struct {
		t  float64
		ok bool
	}{{2.9, false}, {3 * (1 - 1e-13), false}, {3 * (1 + 1e-13), true}, {5, true}} {
		bound, ok := g.below(c.t)
		if ok != c.ok || ok && (bound < 3 || bound > c.t*(1+1e-12)) {
			t.Errorf("below(%v) = %v, %v", c.t, bound, ok)
		}
	}
	// G − 3·z·zᵀ has the eigenvalues 1 and 0 for z = (1, 1)/√2.
	rest := g.minus(3, []float64{math.Sqrt(0.5), math.Sqrt(0.5)}, 0)
	for near, most := range map[float64]float64{0: 1.2, 0.5: 1.2, 1: 1 + 1e-8, 3: 3 + 1e-8} {
		if bound := rest.above(near); bound < 1 || bound > most {
			t.Errorf("above(%v) = %v, want 1", near, bound)
		}
	}
	if g.minus(3, []float64{1, 0}, 1e-3).err < 3*2e-3 {
		t.Error("the error of z is lost")
	}
}
