package lipschitz_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/lipschitz"
)

// These tests compare everything that is documented as proven, rounding included, with
// exact rational arithmetic.

func rat(x float64) *big.Rat         { return new(big.Rat).SetFloat64(x) }
func plus(a, b *big.Rat) *big.Rat    { return new(big.Rat).Add(a, b) }
func minus(a, b *big.Rat) *big.Rat   { return new(big.Rat).Sub(a, b) }
func times(a, b *big.Rat) *big.Rat   { return new(big.Rat).Mul(a, b) }
func over(a, b *big.Rat) *big.Rat    { return new(big.Rat).Quo(a, b) }
func larger(a, b *big.Rat) *big.Rat  { return map[bool]*big.Rat{true: a, false: b}[a.Cmp(b) > 0] }
func smaller(a, b *big.Rat) *big.Rat { return map[bool]*big.Rat{true: a, false: b}[a.Cmp(b) < 0] }

// geometric returns Σ_{k<n} x^k.
func geometric(x *big.Rat, n int) *big.Rat {
	if x.Cmp(rat(1)) == 0 {
		return rat(float64(n))
	}
	power := func(v *big.Int) *big.Int { return new(big.Int).Exp(v, big.NewInt(int64(n)), nil) }
	last := new(big.Rat).SetFrac(power(x.Num()), power(x.Denom()))
	return over(minus(rat(1), last), minus(rat(1), x))
}

// wantAbove fails unless got is at least the exact value, and close to it in relation to
// scale.
func wantAbove(t *testing.T, what string, got float64, exact *big.Rat, scale float64) {
	t.Helper()
	if rat(got).Cmp(exact) < 0 {
		e, _ := exact.Float64()
		t.Errorf("%s is %v, below the exact value by about %v", what, got, e-got)
	}
	if e, _ := exact.Float64(); got-e > 1e-12*scale {
		t.Errorf("%s is %v, far above the exact value %v", what, got, e)
	}
}

// uneven draws weights whose magnitudes differ, so that their sums round.
func uneven(r *rand.Rand, n, span int) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(span)))
	}
	return w
}

func TestBoundsAreRoundedOutwards(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		rows, cols := 1+r.IntN(4), 1+r.IntN(60)
		w := uneven(r, rows*cols, 24)
		var bias []float32
		if r.IntN(2) == 0 {
			bias = uneven(r, rows, 20)
		}
		d := lipschitz.Dynamics{
			Decay: float64(float32(0.05 + 0.95*r.Float64())), Threshold: 0.1 + 100*r.Float64(), Steps: 1 + r.IntN(12),
		}
		if r.IntN(4) == 0 {
			d.Decay = 1
		}
		decay, theta := rat(d.Decay), rat(d.Threshold)
		mostPos, mostNeg := rat(0), rat(0)
		var lo, hi *big.Rat
		scale := 0.0
		for i := range rows {
			pos, neg := rat(0), rat(0)
			for _, v := range w[i*cols:][:cols] {
				pos, neg = plus(pos, rat(max(float64(v), 0))), plus(neg, rat(max(-float64(v), 0)))
				scale += math.Abs(float64(v)) * float64(d.Steps)
			}
			mostPos, mostNeg = larger(mostPos, pos), larger(mostNeg, neg)
			least, most := new(big.Rat).Neg(neg), pos
			if bias != nil {
				least, most = plus(rat(float64(bias[i])), least), plus(rat(float64(bias[i])), most)
				scale += math.Abs(float64(bias[i])) * float64(d.Steps)
			}
			sum := geometric(decay, d.Steps)
			l, h := least, most
			if least.Sign() < 0 {
				l = times(least, sum)
			}
			if most.Sign() > 0 {
				h = smaller(times(most, sum), plus(times(decay, theta), most))
			}
			if i == 0 {
				lo, hi = l, h
			}
			lo, hi = smaller(lo, l), larger(hi, h)
		}
		gotLo, gotHi, err := lipschitz.MembraneBounds(w, bias, rows, cols, d.Decay, d.Threshold, d.Steps)
		if err != nil {
			t.Fatal(err)
		}
		wantAbove(t, "−lo", -gotLo, new(big.Rat).Neg(lo), scale)
		wantAbove(t, "hi", gotHi, hi, scale)
		wantAbove(t, "γ", must(lipschitz.Gamma(w, rows, cols)), plus(mostPos, mostNeg), scale)
		paper := times(rat(2), larger(mostPos, mostNeg))
		wantAbove(t, "γ of Eq. 15", must(lipschitz.PaperGamma(w, rows, cols)), paper, scale)

		lambda, gamma, distance, n := 3*r.Float64(), 5*r.Float64(), 9*r.Float64(), 1+r.IntN(5000)
		square := func(x *big.Rat) *big.Rat { return times(x, x) }
		gain := over(times(square(rat(lambda)), geometric(square(decay), d.Steps)), square(theta))
		got := must(d.Gain(lambda))
		wantAbove(t, "gain", got, gain, got)
		share := over(rat(gamma), theta)
		constant := over(times(rat(float64(n*d.Steps*(d.Steps+1))), plus(share, square(share))), decay)
		right := plus(over(square(times(rat(lambda), rat(distance))), square(theta)), constant)
		got = must(d.Theorem1(lambda, gamma, distance, n))
		wantAbove(t, "Theorem 1", got, right, got)
	}
	// Many steps round more often than a few.
	d := lipschitz.Dynamics{Decay: 0.9999, Threshold: 1, Steps: 1024}
	got := must(d.Gain(1))
	wantAbove(t, "gain of many steps", got, geometric(times(rat(d.Decay), rat(d.Decay)), d.Steps), got)
}

// Each threshold is the largest float64 value that the neuron reaches after q steps with exact
// sums. Sums that are rounded to nearest miss some of them.
func TestMaxDifferencesIsProven(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	missed := 0
	for range 300 {
		cols, steps := 2+r.IntN(40), 1+r.IntN(4)
		w := uneven(r, cols, 60)
		var rounded float64
		sum := rat(0)
		for i, v := range w {
			w[i] = float32(math.Abs(float64(v)))
			rounded += float64(w[i])
			sum = plus(sum, rat(float64(w[i])))
		}
		q := 1 + r.IntN(steps)
		reach := times(sum, rat(float64(q)))
		theta, _ := reach.Float64()
		if rat(theta).Cmp(reach) > 0 {
			theta = math.Nextafter(theta, 0)
		}
		if rounded*float64(q) < theta {
			missed++
		}
		d := lipschitz.Dynamics{Decay: 1, Threshold: theta, Steps: steps}
		if got, want := must(d.MaxDifferences(w, nil, 1, cols))[0], min(steps-q+1, 2*(steps/q)); got < want {
			t.Errorf("MaxDifferences is %d, want at least %d", got, want)
		}
	}
	if missed < 20 {
		t.Errorf("sums to nearest miss %d thresholds only", missed)
	}
}

// gramOf returns W·Wᵀ or Wᵀ·W, whichever is smaller.
func gramOf(w []float32, rows, cols int) [][]*big.Rat {
	at := func(i, k int) *big.Rat { return rat(float64(w[i*cols+k])) }
	n, m := rows, cols
	if cols < rows {
		n, m = cols, rows
		at = func(i, k int) *big.Rat { return rat(float64(w[k*cols+i])) }
	}
	g := make([][]*big.Rat, n)
	for i := range g {
		g[i] = make([]*big.Rat, n)
		for j := range g[i] {
			g[i][j] = rat(0)
			for k := range m {
				g[i][j] = plus(g[i][j], times(at(i, k), at(j, k)))
			}
		}
	}
	return g
}

// bounds reports whether σ²·I − G has no negative eigenvalue, that is whether σ is at least
// the square root of G's largest eigenvalue. It eliminates without rounding.
func bounds(sigma float64, g [][]*big.Rat) bool {
	n := len(g)
	a := make([][]*big.Rat, n)
	for i := range a {
		a[i] = make([]*big.Rat, n)
		for j := range a[i] {
			a[i][j] = new(big.Rat).Neg(g[i][j])
		}
		a[i][i] = plus(a[i][i], times(rat(sigma), rat(sigma)))
	}
	for k := range n {
		switch a[k][k].Sign() {
		case -1:
			return false
		case 0:
			for j := k + 1; j < n; j++ {
				if a[k][j].Sign() != 0 {
					return false
				}
			}
			continue
		}
		for i := k + 1; i < n; i++ {
			f := over(a[i][k], a[k][k])
			for j := k + 1; j < n; j++ {
				a[i][j] = minus(a[i][j], times(f, a[k][j]))
			}
		}
	}
	return true
}

// ratioOf returns ‖W·s‖₂²/‖s‖₂².
func ratioOf(w []float32, rows, cols int, s []int8) *big.Rat {
	num, den := rat(0), rat(0)
	for i := range rows {
		y := rat(0)
		for j, x := range s {
			y = plus(y, times(rat(float64(x)), rat(float64(w[i*cols+j]))))
		}
		num = plus(num, times(y, y))
	}
	for _, x := range s {
		den = plus(den, rat(float64(x*x)))
	}
	return over(num, den)
}

func TestSpectralUpperIsProven(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for k := range 60 {
		rows, cols := 1+r.IntN(7), 1+r.IntN(7)
		w := uneven(r, rows*cols, 1+k%20)
		g, norm := gramOf(w, rows, cols), svdNorm(w, rows, cols)
		for _, near := range []float64{norm, norm / 2, 0} {
			got := must(lipschitz.SpectralUpper(w, rows, cols, near))
			if !bounds(got, g) {
				t.Errorf("%d × %d: %v does not bound ‖W‖₂, which is about %v", rows, cols, got, norm)
			}
		}
		if bounds(norm*(1-1e-9), g) {
			t.Errorf("%d × %d: the check accepts less than ‖W‖₂ = %v", rows, cols, norm)
		}
	}
}

func TestLambdaIsProven(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for k := range 40 {
		rows, cols := 1+r.IntN(5), 1+r.IntN(5)
		w := uneven(r, rows*cols, 1+k%12)
		exact := rat(0) // Λ²
		s := make([]int8, cols)
		for code := 1; code < int(math.Pow(3, float64(cols))); code++ {
			for j, c := 0, code; j < cols; j, c = j+1, c/3 {
				s[j] = int8(c%3+1)%3 - 1 // code 0 is s = 0
			}
			exact = larger(exact, ratioOf(w, rows, cols, s))
		}
		for _, o := range []lipschitz.LambdaSearch{lipschitz.DefaultLambdaSearch(), {Starts: 1}} {
			got := must(lipschitz.Lambda(t.Context(), w, rows, cols, o))
			if times(rat(got.Upper), rat(got.Upper)).Cmp(exact) < 0 {
				t.Errorf("Upper %v is below Λ", got.Upper)
			}
			if got.S != nil && times(rat(got.Lower), rat(got.Lower)).Cmp(ratioOf(w, rows, cols, got.S)) > 0 {
				t.Errorf("Lower %v is above what S attains", got.Lower)
			}
		}
	}
}

func TestConvNormIsProven(t *testing.T) {
	racetest.Costly(t)
	r := rand.New(rand.NewPCG(9, 10))
	for k := range 30 {
		c := lipschitz.Conv{
			Cout: 1 + r.IntN(2), Cin: 1 + r.IntN(2), KH: 1 + r.IntN(3), KW: 1 + r.IntN(3),
			Stride: 1 + r.IntN(2), Pad: r.IntN(2), Height: 3, Width: 3,
		}
		c.Weight = uneven(r, c.Cout*c.Cin*c.KH*c.KW, 1+k%6)
		o := lipschitz.DefaultConvSearch()
		o.Lanczos.Tol, o.Lanczos.MaxIterations, o.Grid = 1e-3, 100_000, 8
		got := must(c.Norm(t.Context(), o))
		w, rows, cols := c.Dense()
		g := gramOf(w, rows, cols)
		for name, bound := range map[string]float64{
			"Upper": got.Upper, "ByOverlaps": got.ByOverlaps, "ByFrequencies": got.ByFrequencies, "ByDense": got.ByDense,
		} {
			if !bounds(bound, g) {
				t.Errorf("%+v: %s = %v does not bound the norm", c, name, bound)
			}
		}
		if !bounds(got.Reshaped, gramOf(c.Weight, c.Cout, c.Cin*c.KH*c.KW)) {
			t.Errorf("%+v: Reshaped = %v does not bound ‖W‖₂", c, got.Reshaped)
		}
		if below := math.Nextafter(got.Lower, 0); below > 0 && bounds(below, g) {
			t.Errorf("%+v: Lower = %v exceeds the norm", c, got.Lower)
		}
	}
}
