package lipschitz

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/tensor/rng"
)

// ascent searches for an s with a large ‖W·s‖₂/‖s‖₂. The entries of s are −1, 0 and 1, stored
// as floats.
type ascent struct {
	*columns
	rand  *rand.Rand
	best  []float64
	ratio float64 // ‖W·best‖²/‖best‖²
	s     []float64
	y     []float64 // W·s
}

func newAscent(m *columns) *ascent {
	return &ascent{
		columns: m, rand: rng.New(0).Derive("lipschitz.Lambda", 0).Rand(),
		best: make([]float64, len(m.at)), s: make([]float64, len(m.at)),
	}
}

// largestColumn makes the largest column the best s.
func (a *ascent) largestColumn() {
	for j, n2 := range a.norm2 {
		if n2 > a.ratio {
			clear(a.best)
			a.best[j], a.ratio = 1, n2
		}
	}
}

// search climbs from several starts. The first one is v.
func (a *ascent) search(ctx context.Context, v []float64, starts int) {
	for i := 0; i < starts && ctx.Err() == nil; i++ {
		switch {
		case i == 0:
			a.round(v)
		case i == 1:
			copy(a.s, a.best)
		case i%3 == 0: // a random output direction
			y := make([]float64, a.rows)
			for i := range y {
				y[i] = a.rand.NormFloat64()
			}
			a.round(a.transposeTimes(y))
		case i%3 == 1: // a random s
			for j := range a.s {
				a.s[j] = float64(a.rand.IntN(3) - 1)
			}
		default: // near the best s
			copy(a.s, a.best)
			for j := range a.s {
				if a.rand.IntN(5) == 0 {
					a.s[j] = float64(a.rand.IntN(3) - 1)
				}
			}
		}
		a.climb(ctx)
	}
}

// round sets s to the maximizer of hᵀs/‖s‖₂.
func (a *ascent) round(h []float64) {
	order := make([]int, len(h))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch x, y := math.Abs(h[i]), math.Abs(h[j]); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	var sum, most float64
	count := 0
	for k, j := range order {
		sum += math.Abs(h[j])
		if v := sum * sum / float64(k+1); v > most {
			most, count = v, k+1
		}
	}
	clear(a.s)
	for _, j := range order[:count] {
		a.s[j] = math.Copysign(1, h[j])
	}
}

// squares returns the sum of the squares of v.
func squares(v []float64) (sum float64) {
	for _, x := range v {
		sum += x * x
	}
	return sum
}

// better is the factor by which a ratio must grow to count as an improvement. Rounding
// errors are smaller.
const better = 1 + 1e-12

// climb improves s until no step improves it further. It keeps s if s is the best so far.
func (a *ascent) climb(ctx context.Context) {
	ones := squares(a.s)
	if ones == 0 {
		return
	}
	a.y = a.times(a.s)
	ratio := squares(a.y) / ones
	for ctx.Err() == nil {
		before := slices.Clone(a.s)
		a.round(a.transposeTimes(a.y))
		y := a.times(a.s)
		next := squares(y) / squares(a.s)
		if !(next > ratio*better) {
			copy(a.s, before)
			break
		}
		a.y, ratio = y, next
	}
	num, ones := squares(a.y), squares(a.s)
	for moved := true; moved && ctx.Err() == nil; {
		moved = false
		for j, s := range a.s {
			h := dot(a.column(j), a.y)
			for to := -1.0; to <= 1; to++ {
				d := to - s
				n, o := num+d*(2*h+d*a.norm2[j]), ones+to*to-s*s
				if d == 0 || o == 0 || !(n*ones > num*o*better) {
					continue
				}
				axpy(a.y, d, a.column(j))
				a.s[j], ones = to, o
				num, moved = squares(a.y), true
				break
			}
		}
	}
	if r := num / ones; r > a.ratio {
		copy(a.best, a.s)
		a.ratio = r
	}
}

// dot sums in four interleaved parts, so that additions do not wait for each other.
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
