package certify

import (
	"cmp"
	"math"
	"slices"
)

// halfspace is the set of images x with Σ a_i·x_i ≤ b. index says which pixels the sum has.
type halfspace struct {
	index []int     // ascending
	a     []float64 // [len(index)]
	b     float64
}

// region is a box of images cut by half-spaces.
type region struct {
	lo, hi []float64 // of every pixel
	cuts   []halfspace
}

// sweeps bounds the work of find, in passes over all cuts.
const sweeps = 200

// find looks for a point of the region at a distance slack from every cut, in units of the
// largest change of the cut's sum over the box. It begins at x, a point of the box, and writes
// to x. If it finds no such point, it may prove that the region is empty. y, [len(cuts)], holds
// multipliers to begin with, and receives the last ones.
//
// The iteration is Hildreth's: coordinate ascent on the dual of the projection of x onto the
// region. Its multipliers y ≥ 0 prove that the region is empty if
//
//	min over the box of Σ_k y_k·(a_k·x − b_k) > 0
//
// which excludes finds with all rounding errors counted.
func (r *region) find(x, y []float64, slack float64) (found, empty bool) {
	n := len(r.cuts)
	free := append([]float64(nil), x...) // x before it is clipped to the box: x₀ − Aᵀ·y
	target := make([]float64, n)
	norm := make([]float64, n)
	for k, c := range r.cuts {
		reach := 0.0
		for i, p := range c.index {
			reach += math.Abs(c.a[i]) * (r.hi[p] - r.lo[p])
			norm[k] += c.a[i] * c.a[i]
			free[p] -= y[k] * c.a[i]
		}
		target[k] = c.b - slack*reach
	}
	clip := func(p int) float64 { return min(max(free[p], r.lo[p]), r.hi[p]) }
	for p := range x {
		x[p] = clip(p)
	}
	for sweep := range sweeps {
		worst := 0.0
		for k, c := range r.cuts {
			sum := -target[k]
			for i, p := range c.index {
				sum += c.a[i] * x[p]
			}
			if norm[k] == 0 {
				if c.b < 0 {
					return false, true
				}
				continue
			}
			worst = max(worst, sum/math.Sqrt(norm[k]))
			step := max(-y[k], sum/norm[k])
			if step == 0 {
				continue
			}
			y[k] += step
			for i, p := range c.index {
				free[p] -= step * c.a[i]
				x[p] = clip(p)
			}
		}
		if worst <= 0 {
			return r.holds(x), false
		}
		if sweep%8 == 7 && r.excludes(y) {
			return false, true
		}
	}
	return r.holds(x), r.excludes(y)
}

// holds reports whether x satisfies all cuts, up to the rounding of the sums.
func (r *region) holds(x []float64) bool {
	for _, c := range r.cuts {
		sum := -c.b
		for i, p := range c.index {
			sum += c.a[i] * x[p]
		}
		if sum > 0 {
			return false
		}
	}
	return true
}

// excludes reports whether the multipliers y prove that no point of the box satisfies all
// cuts.
func (r *region) excludes(y []float64) bool { return r.dual(make([]float64, len(r.lo)), y) > 0 }

// dual returns a lower bound of v·x over the region, by the multipliers y ≥ 0 of the cuts:
//
//	v·x ≥ v·x + Σ_k y_k·(a_k·x − b_k) ≥ the least value of the right side over the box
//
// It is rounded downwards. dual overwrites v.
func (r *region) dual(v, y []float64) float64 {
	total, size, terms := 0.0, 0.0, len(r.lo)
	add := func(p int, w float64) { size += math.Abs(w) * max(math.Abs(r.lo[p]), math.Abs(r.hi[p])) }
	for p, w := range v {
		add(p, w)
	}
	for k, c := range r.cuts {
		if y[k] == 0 {
			continue
		}
		for i, p := range c.index {
			v[p] += y[k] * c.a[i]
			add(p, y[k]*c.a[i])
		}
		total -= y[k] * c.b
		size += math.Abs(y[k] * c.b)
		terms += len(c.index) + 1
	}
	for p, v := range v {
		total += min(v*r.lo[p], v*r.hi[p])
	}
	// Every term has at most one rounding for each sum that it is part of, and three products.
	// The last term is for what underflows.
	return total - (float64(terms+8)*0x1p-52*size + float64(terms)*0x1p-1000)
}

// least returns a lower bound of v·x over the region. The multipliers of its dual are chosen one
// after the other, each the best one for those before it (β-CROWN: Wang et al. 2021). If point is
// not nil, it receives the point of the box at which that bound is attained. least overwrites v.
func (r *region) least(v, point []float64) float64 {
	y, sum := make([]float64, len(r.cuts)), slices.Clone(v) // sum is v + Σ_k y_k·a_k
	var turns []turn
	for k := len(r.cuts) - 1; k >= 0; k-- { // the last cut is the one that the last bound did not know
		c := r.cuts[k]
		slope := -c.b // of the least value over the box, with respect to y[k]
		turns = turns[:0]
		for i, p := range c.index {
			low, high := r.lo[p], r.hi[p]
			if c.a[i] < 0 {
				low, high = high, low
			}
			if sum[p]*c.a[i] >= 0 {
				slope += c.a[i] * low
				continue
			}
			slope += c.a[i] * high
			turns = append(turns, turn{-sum[p] / c.a[i], c.a[i] * (high - low)})
		}
		if slope <= 0 {
			continue
		}
		slices.SortFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
		for _, t := range turns {
			y[k] = t.at
			if slope -= t.drop; slope <= 0 {
				break
			}
		}
		for i, p := range c.index {
			sum[p] += y[k] * c.a[i]
		}
	}
	if point != nil {
		for p, v := range sum {
			if point[p] = r.hi[p]; v > 0 {
				point[p] = r.lo[p]
			}
		}
	}
	return r.dual(v, y)
}

// turn is a value of a multiplier at which a pixel goes to the other end of its range, and by how much
// the slope falls there.
type turn struct{ at, drop float64 }

// tighten shrinks the box to where each cut alone leaves it, rounded outwards. It returns
// false if nothing is left.
func (r *region) tighten() bool {
	for _, c := range r.cuts {
		least, size := 0.0, math.Abs(c.b)
		for i, p := range c.index {
			least += min(c.a[i]*r.lo[p], c.a[i]*r.hi[p])
			size += math.Abs(c.a[i]) * max(math.Abs(r.lo[p]), math.Abs(r.hi[p]))
		}
		room := c.b - least + (float64(len(c.index)+8)*0x1p-52*size + 0x1p-1000)
		if room < 0 {
			return false
		}
		for i, p := range c.index {
			switch reach := room / math.Abs(c.a[i]) * (1 + 0x1p-50); {
			case c.a[i] > 0:
				r.hi[p] = min(r.hi[p], math.Nextafter(r.lo[p]+reach, math.Inf(1)))
			case c.a[i] < 0:
				r.lo[p] = max(r.lo[p], math.Nextafter(r.hi[p]-reach, math.Inf(-1)))
			}
		}
	}
	return true
}
