package attack

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/tensor"
)

// Flips counts changes of spikes: it is the L0 norm of binary frames, and for counts the number of
// changes by one level. With an Eps of K an attack makes at most K changes.
//
// A value of the frames is k/Levels for an integer k. The distance between frames with other values
// is +Inf, and so is that between frames whose changes are not all allowed.
type Flips struct {
	Levels       int  // the count that the value 1 stands for, from 1 to 255; 1 for binary frames
	NoInsertions bool // no value rises: spikes are only deleted
	NoDeletions  bool // no value falls: spikes are only inserted
}

// String returns "spike flips", or "spike insertions" or "spike deletions" if the others are not
// allowed. The number of levels follows if there are several.
func (f Flips) String() string {
	name := "flips"
	switch {
	case f.NoDeletions:
		name = "insertions"
	case f.NoInsertions:
		name = "deletions"
	}
	return spikeName(name, f.Levels)
}

func (f Flips) validate(int) error {
	if f.NoInsertions && f.NoDeletions {
		return errors.New("Flips with NoInsertions and NoDeletions: expected at most one of them")
	}
	return validateLevels(f, f.Levels)
}

func (f Flips) levels() int { return f.Levels }

// Distance implements [Norm]. It returns the number of changes from y to x.
func (f Flips) Distance(x, y []float32) float64 {
	if f.outside(x, y) != nil {
		return math.Inf(1)
	}
	sum := 0.0
	for i, v := range x {
		sum += math.Abs(math.Round(float64(v)*float64(f.Levels)) - math.Round(float64(y[i])*float64(f.Levels)))
	}
	return sum
}

func (f Flips) outside(x, y []float32) error {
	if err := gridError(y, f.Levels); err != nil {
		return fmt.Errorf("the original: %w", err)
	}
	if err := gridError(x, f.Levels); err != nil {
		return err
	}
	for i, v := range x {
		if v < y[i] && f.NoDeletions {
			return fmt.Errorf("value %d fell from %v to %v: expected insertions alone", i, y[i], v)
		}
		if v > y[i] && f.NoInsertions {
			return fmt.Errorf("value %d rose from %v to %v: expected deletions alone", i, y[i], v)
		}
	}
	return nil
}

// changes counts levels.
func (f Flips) changes(x, y []float32) (n int) {
	for i, v := range x {
		n += abs(levelOf(v, f.Levels) - levelOf(y[i], f.Levels))
	}
	return n
}

func (f Flips) left(x, center []float32, eps float32) int { return int(eps) - f.changes(x, center) }

func (f Flips) allowed(x, center []float32, _ float32, e edit) bool {
	switch {
	case !e.fits(x):
		return false
	case e.from < 0:
		return !f.NoInsertions && x[e.to] >= center[e.to]
	default:
		return !f.NoDeletions && x[e.from] <= center[e.from]
	}
}

func (f Flips) further(x, center []float32, eps float32) (list []edit) {
	for i := range x {
		for _, e := range []edit{{-1, i}, {i, -1}} {
			if f.allowed(x, center, eps, e) {
				list = append(list, e)
			}
		}
	}
	return list
}

func (f Flips) back(x, center []float32) (list []edit) {
	for i, v := range x {
		k, to := levelOf(v, f.Levels), levelOf(center[i], f.Levels)
		for ; k > to; k-- {
			list = append(list, edit{i, -1})
		}
		for ; k < to; k++ {
			list = append(list, edit{-1, i})
		}
	}
	return list
}

func (f Flips) place(e edit, _ int) int { return max(e.from, e.to) }

func (f Flips) most(s tensor.Shape) float32 { return float32(s.Steps * s.Neurons() * f.Levels) }

// Step implements [Norm]. It makes alpha changes, rounded down, where the gradient is largest. As many
// of them as fit concern the same value.
func (f Flips) Step(x, g []float32, alpha float32) {
	order := make([]int, 0, len(x))
	for i, v := range g {
		if v > 0 && !f.NoInsertions || v < 0 && !f.NoDeletions {
			order = append(order, i)
		}
	}
	size := func(i int) float32 { return max(g[i], -g[i]) }
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a, b)) })
	left := int(min(alpha, mostChanges))
	if left < 1 {
		return
	}
	for _, i := range order {
		k := levelOf(x[i], f.Levels)
		by := min(left, k)
		if g[i] > 0 {
			by = min(left, f.Levels-k)
			k += by
		} else {
			k -= by
		}
		x[i] = valueOf(k, f.Levels)
		if left -= by; left == 0 {
			return
		}
	}
}

// Project implements [Norm]. The nearest point is that of the smallest L2 distance. Each change from
// center towards x has a gain, and those with the largest gains are made.
func (f Flips) Project(x, center []float32, eps float32) {
	type step struct {
		i, by int
		gain  float64
	}
	var steps []step
	for i, v := range x {
		from := levelOf(center[i], f.Levels)
		to := levelOf(v, f.Levels)
		if to > from && f.NoInsertions || to < from && f.NoDeletions {
			to = from
		}
		x[i] = valueOf(to, f.Levels)
		apart := math.Abs(float64(v)*float64(f.Levels) - float64(from))
		for j := range abs(to - from) {
			steps = append(steps, step{i, cmp.Compare(to, from), 2*apart - float64(2*j+1)})
		}
	}
	if len(steps) <= int(eps) {
		return
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(b.gain, a.gain) })
	copy(x, center)
	for _, s := range steps[:int(eps)] {
		x[s.i] = valueOf(levelOf(x[s.i], f.Levels)+s.by, f.Levels)
	}
}

func (f Flips) around(x []float32, eps float32, r *rand.Rand) {
	list := f.further(x, x, eps)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	touched := map[int]bool{}
	for _, e := range list {
		if len(touched) >= int(eps) {
			return
		}
		if p := f.place(e, len(x)); !touched[p] {
			e.apply(x, f.Levels)
			touched[p] = true
		}
	}
}

// Uniform implements [Norm]. It draws eps changes by one level, which need not fit an example. [InBall]
// draws changes that do.
func (f Flips) Uniform(dst []float32, eps float32, r *rand.Rand) {
	clear(dst)
	for _, i := range r.Perm(len(dst))[:min(int(eps), len(dst))] {
		if dst[i] = valueOf(1, f.Levels); f.NoInsertions || !f.NoDeletions && r.IntN(2) == 0 {
			dst[i] = -dst[i]
		}
	}
}
