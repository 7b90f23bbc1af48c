package certify

import "math"

// relaxation bounds the spikes of neuron i of n from below: w(train) ≥ slope·V + constant for every
// train that the neuron may have. V is the sum of its currents over all steps, or its current if that
// is static.
type relaxation func(n *node, s *spikeSet, i int, w func(mask uint64) float64) (slope, constant float64)

// constantRelaxation bounds the spikes of a neuron by its trains alone.
func constantRelaxation(_ *node, s *spikeSet, i int, w func(mask uint64) float64) (slope, constant float64) {
	if list := s.trains(i); list != nil {
		least := math.Inf(1)
		for _, t := range list {
			least = min(least, w(t.mask))
		}
		return 0, least
	}
	least := w(s.must[i])
	for rest := s.may[i] &^ s.must[i]; rest != 0; rest &= rest - 1 {
		least += min(0, w(rest&-rest))
	}
	return 0, least
}

// mostHull is the largest number of trains for which hullRelaxation takes a slope.
const mostHull = 32

// hullRelaxation bounds the spikes by a line. Train a of a neuron needs a sum of currents V within
// [lo, hi]. A line is a lower bound if it lies below the points (lo, w(a)) and (hi, w(a)) of all
// trains. The best one at a given V is an edge of the lower convex hull of these points. It is taken
// at the part at of the range of V, in [0, 1].
func hullRelaxation(at float64) relaxation {
	type point struct{ x, y float64 }
	var points []point
	return func(n *node, s *spikeSet, i int, w func(mask uint64) float64) (slope, constant float64) {
		list := s.trains(i)
		if _, ok := n.op.(*neurons); !ok || len(list) < 2 || len(list) > mostHull {
			return constantRelaxation(n, s, i, w)
		}
		points = points[:0]
		first, last := math.Inf(1), math.Inf(-1)
		for _, t := range list {
			y := w(t.mask)
			points = append(points, point{t.lo, y}, point{t.hi, y})
			first, last = min(first, t.lo), max(last, t.hi)
		}
		x := first + at*(last-first)
		best := math.Inf(1)
		for _, a := range points {
			for _, b := range points {
				if a.x > x || b.x < x {
					continue
				}
				if b.x == a.x {
					if v := min(a.y, b.y); v < best {
						best, slope = v, 0
					}
				} else if k := (b.y - a.y) / (b.x - a.x); a.y+k*(x-a.x) < best {
					best, slope = a.y+k*(x-a.x), k
				}
			}
		}
		constant = math.Inf(1)
		for _, p := range points { // the line lies below all points, whatever rounding did to slope
			v := p.y - slope*p.x
			constant = min(constant, v-gamma64(4)*(math.Abs(p.y)+math.Abs(slope*p.x)))
		}
		return slope, constant
	}
}
