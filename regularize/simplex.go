package regularize

import (
	"cmp"
	"fmt"
	"slices"
)

// Simplex replaces v by the nearest point, in Euclidean distance, of the probability
// simplex {x : xᵢ ≥ 0, Σxᵢ = 1}. That point is max(v − τ, 0) for the τ that makes the sum 1
// (Duchi et al.: Efficient Projections onto the ℓ1-Ball, ICML 2008, Fig. 1). Simplex
// returns an error, and does not change v, if a value is not finite. It panics if v is
// empty.
func Simplex(v []float32) error {
	if len(v) == 0 {
		panic("regularize: Simplex: no values")
	}
	for i, x := range v {
		if x-x != 0 {
			return fmt.Errorf("regularize: Simplex: value %d is %v; expected a finite number", i, x)
		}
	}
	u := slices.Clone(v)
	slices.SortFunc(u, func(a, b float32) int { return cmp.Compare(b, a) })
	// A shift of all values does not change the result. Differences from the largest value
	// keep the digits of the sums.
	top := float64(u[0])
	var sum, tau float64
	for j, x := range u {
		d := float64(x) - top
		sum += d
		t := (sum - 1) / float64(j+1)
		if d <= t {
			break
		}
		tau = t
	}
	for i, x := range v {
		v[i] = float32(max(float64(x)-top-tau, 0))
	}
	return nil
}
