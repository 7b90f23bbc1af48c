package lipschitz

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/internal/racetest"
)

func ratio(x float64) *big.Rat { return new(big.Rat).SetFloat64(x) }

// The results are the smallest float64 values that are not below the exact ones; close to
// underflow they may be one step above.
func TestDirectedRounding(t *testing.T) {
	racetest.Costly(t)
	r := rand.New(rand.NewPCG(1, 2))
	draw := func() float64 {
		if r.IntN(20) == 0 {
			return 0
		}
		span := []int{4, 60, 520, 1000}[r.IntN(4)]
		return math.Ldexp(1+r.Float64(), r.IntN(2*span)-span)
	}
	inexact := 0
	for range 30_000 {
		a, b := draw(), draw()
		sign := float64(1 - 2*r.IntN(2))
		for _, c := range []struct {
			name  string
			got   float64
			exact *big.Rat
		}{
			{"addUp", addUp(sign*a, b), new(big.Rat).Add(ratio(sign*a), ratio(b))},
			{"addDown", -addDown(sign*a, b), new(big.Rat).Neg(new(big.Rat).Add(ratio(sign*a), ratio(b)))},
			{"mulUp", mulUp(a, b), new(big.Rat).Mul(ratio(a), ratio(b))},
			{"divUp", divUp(a, b+1e-300), new(big.Rat).Quo(ratio(a), ratio(b+1e-300))},
		} {
			if math.IsInf(c.got, 1) {
				continue
			}
			order := ratio(c.got).Cmp(c.exact)
			if order < 0 {
				t.Fatalf("%s(%v, %v) = %v is below the exact value", c.name, sign*a, b, c.got)
			}
			if order == 0 {
				continue
			}
			inexact++
			below := math.Nextafter(c.got, math.Inf(-1))
			if math.Abs(c.got) < tiny || a < tiny {
				below = math.Nextafter(below, math.Inf(-1))
			}
			if ratio(below).Cmp(c.exact) >= 0 {
				t.Fatalf("%s(%v, %v) = %v, and %v is not below the exact value either", c.name, sign*a, b, c.got, below)
			}
		}
	}
	if inexact < 30_000 {
		t.Errorf("%d inexact results are too few", inexact)
	}
	for _, c := range [][2]float64{
		{addUp(0.5, 0.25), 0.75}, {addDown(0.5, 0.25), 0.75}, {mulUp(1.5, 0.5), 0.75}, {divUp(3, 4), 0.75}, {powersUp(0.5, 3), 1.75},
	} {
		if c[0] != c[1] {
			t.Errorf("%v, want exactly %v", c[0], c[1])
		}
	}
}
