package certify

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRoundedOutwards checks that a bound in float32 is the nearest one on the right side.
func TestRoundedOutwards(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	inf := float32(math.Inf(1))
	for range 10000 {
		x := r.NormFloat64() * math.Ldexp(1, r.IntN(280)-150)
		lo, hi := down32(x), up32(x)
		require.LessOrEqual(t, float64(lo), x)
		require.Less(t, x, float64(math.Nextafter32(lo, inf)))
		require.GreaterOrEqual(t, float64(hi), x)
		require.Greater(t, x, float64(math.Nextafter32(hi, -inf)))
		v := float32(x)
		require.Equal(t, v, down32(float64(v)))
		require.Equal(t, v, up32(float64(v)))
	}
}

// TestBallHoldsEveryImage checks that a ball holds every value that an attack may take: one in
// [0,1], whose distance from the pixel, computed in float64, is at most the larger one of eps and
// float32(eps). The ball has at most two values more on each side, and none outside of [0,1].
func TestBallHoldsEveryImage(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		x := []float32{r.Float32(), r.Float32() * 0x1p-20, 0, 1}[r.IntN(4)]
		eps := []float64{math.Ldexp(1+r.Float64(), -r.IntN(30)), float64(r.IntN(17)) / 255, 0}[r.IntN(3)]
		allowed := func(v float32) bool {
			return v >= 0 && v <= 1 && math.Abs(float64(v)-float64(x)) <= max(eps, float64(float32(eps)))
		}
		b := ballOf([]float32{x}, eps)
		lo, hi := b.lo[0], b.hi[0]
		require.True(t, lo >= 0 && hi <= 1 && lo <= x && x <= hi)
		require.False(t, allowed(math.Nextafter32(lo, -1)), "x = %v, ε = %v", x, eps)
		require.False(t, allowed(math.Nextafter32(hi, 2)), "x = %v, ε = %v", x, eps)
		for range 2 {
			lo, hi = math.Nextafter32(lo, 1), math.Nextafter32(hi, 0)
		}
		require.True(t, allowed(lo) || lo > x, "x = %v, ε = %v", x, eps)
		require.True(t, allowed(hi) || hi < x, "x = %v, ε = %v", x, eps)
	}
}
