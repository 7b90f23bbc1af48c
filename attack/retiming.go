package attack

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/org/snnrat/tensor"
)

// Retiming bounds shifts of spikes in time. With an Eps of Δ every spike moves by at most Δ steps and
// stays at its pixel and polarity. A step of a pixel and polarity has room for Levels spikes, for one
// in binary frames. (With Levels 1 that is the capacity-1 retiming of Yu et al.: Time Is All It Takes,
// 2026.)
//
// The distance is the largest shift. Spikes are matched so that it is smallest: the first spike of a
// pixel and polarity with the first, the second with the second, and so on. The distance is +Inf if a pixel
// and polarity has another number of spikes than before, or if a value is not k/Levels.
type Retiming struct {
	Levels int // the count that the value 1 stands for, from 1 to 255; 1 for binary frames
	Steps  int // frames of an example, at least 2
}

// String returns "spike retiming", with the number of levels if there are several.
func (n Retiming) String() string { return spikeName("retiming", n.Levels) }

func (n Retiming) validate(frames int) error {
	if n.Steps < 2 || frames > 0 && frames != n.Steps {
		if frames > 1 {
			return fmt.Errorf("%v: Steps %d: expected %d, the frames of an example", n, n.Steps, frames)
		}
		return fmt.Errorf("%v: Steps %d: expected the frames of an example, at least 2", n, n.Steps)
	}
	return validateLevels(n, n.Levels)
}

func (n Retiming) levels() int { return n.Levels }

// times appends the steps of the spikes of a pixel and polarity to dst, in order.
func (n Retiming) times(dst []int, x []float32, pixel int) []int {
	size := len(x) / n.Steps
	for t := range n.Steps {
		for range levelOf(x[t*size+pixel], n.Levels) {
			dst = append(dst, t)
		}
	}
	return dst
}

// Distance implements [Norm]. It returns the largest shift in steps.
func (n Retiming) Distance(x, y []float32) float64 {
	if n.outside(x, y) != nil {
		return math.Inf(1)
	}
	largest := 0
	n.shifts(x, y, func(_, shift int) { largest = max(largest, shift) })
	return float64(largest)
}

// shifts calls fn for the spikes of y and x that are matched: the pixel, and by how many steps.
func (n Retiming) shifts(x, y []float32, fn func(pixel, shift int)) {
	var a, b []int
	for p := range len(x) / n.Steps {
		a, b = n.times(a[:0], x, p), n.times(b[:0], y, p)
		for i := range a {
			fn(p, abs(a[i]-b[i]))
		}
	}
}

func (n Retiming) outside(x, y []float32) error {
	if n.Steps < 1 || len(x)%n.Steps != 0 || len(x) != len(y) {
		return fmt.Errorf("%d and %d values for %d steps: expected as many, a multiple of the steps", len(x), len(y), n.Steps)
	}
	if err := gridError(y, n.Levels); err != nil {
		return fmt.Errorf("the original: %w", err)
	}
	if err := gridError(x, n.Levels); err != nil {
		return err
	}
	size := len(x) / n.Steps
	for p := range size {
		now, before := 0, 0
		for i := p; i < len(x); i += size {
			now += levelOf(x[i], n.Levels)
			before += levelOf(y[i], n.Levels)
		}
		if now != before {
			return fmt.Errorf("%d spikes at value %d of all frames: expected %d, as in the original", now, p, before)
		}
	}
	return nil
}

// changes counts the spikes that move.
func (n Retiming) changes(x, y []float32) (moved int) {
	n.shifts(x, y, func(_, shift int) {
		if shift != 0 {
			moved++
		}
	})
	return moved
}

// left returns any large number: no spike uses up the shift of another one.
func (Retiming) left([]float32, []float32, float32) int { return math.MaxInt32 }

func (n Retiming) allowed(x, center []float32, eps float32, e edit) bool {
	if e.from < 0 || e.to < 0 || e.from == e.to || !e.fits(x) {
		return false
	}
	pixel := e.from % (len(x) / n.Steps)
	e.apply(x, n.Levels)
	a, b := n.times(nil, x, pixel), n.times(nil, center, pixel)
	e.reverse().apply(x, n.Levels)
	return near(a, b, eps)
}

func (n Retiming) further(x, center []float32, eps float32) (list []edit) {
	size := len(x) / n.Steps
	for from, v := range x {
		if v == 0 {
			continue
		}
		for to := from % size; to < len(x); to += size {
			if e := (edit{from, to}); n.allowed(x, center, eps, e) {
				list = append(list, e)
			}
		}
	}
	return list
}

// back moves spikes to the steps of those that they are matched with. The shifts of the others do not
// grow by that: the matching in which the others keep theirs bounds the best one.
func (n Retiming) back(x, center []float32) (list []edit) {
	size := len(x) / n.Steps
	var a, b []int
	for p := range size {
		a, b = n.times(a[:0], x, p), n.times(b[:0], center, p)
		for i := range a {
			if a[i] != b[i] {
				list = append(list, edit{a[i]*size + p, b[i]*size + p})
			}
		}
	}
	return list
}

func (n Retiming) place(e edit, values int) int { return e.from % (values / n.Steps) }

func (n Retiming) most(tensor.Shape) float32 { return float32(n.Steps - 1) }

// schedule returns the number of spikes at each step that has the largest sum of gains, among those
// that move no spike by more than delta. gain returns that of so many spikes at a step. times holds
// the spikes' steps, in order.
func (n Retiming) schedule(times []int, delta int, gain func(t, spikes int) float64) []int {
	// best[t][m] is the largest sum of the steps before t with the first m spikes there. chosen has
	// how many of them are at step t−1.
	best, chosen := make([][]float64, n.Steps+1), make([][]int, n.Steps+1)
	for t := range best {
		best[t], chosen[t] = make([]float64, len(times)+1), make([]int, len(times)+1)
		for m := range best[t] {
			best[t][m] = math.Inf(-1)
		}
	}
	best[0][0] = 0
	for t := range n.Steps {
		for m, sum := range best[t] {
			for spikes := 0; spikes <= n.Levels && !math.IsInf(sum, -1); spikes++ {
				if spikes > 0 && (m+spikes > len(times) || abs(times[m+spikes-1]-t) > delta) {
					break
				}
				if v := sum + gain(t, spikes); v > best[t+1][m+spikes] {
					best[t+1][m+spikes], chosen[t+1][m+spikes] = v, spikes
				}
			}
		}
	}
	counts, m := make([]int, n.Steps), len(times)
	for t := n.Steps; t > 0; t-- {
		counts[t-1] = chosen[t][m]
		m -= chosen[t][m]
	}
	return counts
}

// reschedule moves the spikes that center has, by up to eps steps, to the steps of the largest sum of
// gains. It leaves a pixel of x as it is if that is as good.
func (n Retiming) reschedule(x, center []float32, eps float32, gain func(i, spikes int) float64) {
	size := len(x) / n.Steps
	var times []int
	for p := range size {
		if times = n.times(times[:0], center, p); len(times) == 0 {
			for i := p; i < len(x); i += size {
				x[i] = 0
			}
			continue
		}
		at := func(t, spikes int) float64 { return gain(t*size+p, spikes) }
		counts := n.schedule(times, int(eps), at)
		now, then := 0.0, 0.0
		for t, spikes := range counts {
			now += at(t, levelOf(x[t*size+p], n.Levels))
			then += at(t, spikes)
		}
		here := n.times(nil, x, p)
		stay := now >= then && near(here, times, eps)
		for t, spikes := range counts {
			i := t*size + p
			if stay {
				spikes = levelOf(x[i], n.Levels)
			}
			x[i] = valueOf(spikes, n.Levels)
		}
	}
}

// near reports whether spikes at the steps a and b are as many and can be matched with shifts of at
// most eps.
func near(a, b []int, eps float32) bool {
	for i := range min(len(a), len(b)) {
		if abs(a[i]-b[i]) > int(eps) {
			return false
		}
	}
	return len(a) == len(b)
}

// Step implements [Norm]. It moves every spike by up to alpha steps, to where the sum of gradients is
// largest.
func (n Retiming) Step(x, g []float32, alpha float32) {
	n.reschedule(x, slices.Clone(x), min(alpha, mostChanges), func(i, spikes int) float64 { return float64(g[i]) * float64(spikes) })
}

// Project implements [Norm]. The nearest point is that of the smallest L2 distance.
func (n Retiming) Project(x, center []float32, eps float32) {
	from := slices.Clone(x)
	n.reschedule(x, center, eps, func(i, spikes int) float64 {
		d := float64(spikes) - float64(from[i])*float64(n.Levels)
		return -float64(d * d)
	})
}

// around moves spikes to the steps of the largest sum of random numbers.
func (n Retiming) around(x []float32, eps float32, r *rand.Rand) {
	g := make([]float32, len(x))
	for i := range g {
		g[i] = float32(r.NormFloat64())
	}
	n.Step(x, g, eps)
}

// Uniform implements [Norm]. It fills dst with zeros, since there is no spike to move. [InBall] moves
// those of an example.
func (Retiming) Uniform(dst []float32, _ float32, _ *rand.Rand) { clear(dst) }
