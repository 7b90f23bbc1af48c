package certify

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// exactly returns Σ a_i·x_i − b without rounding.
func (c halfspace) exactly(x []float64) *big.Float {
	sum := new(big.Float).SetPrec(2000).SetFloat64(-c.b)
	for i, p := range c.index {
		term := new(big.Float).SetPrec(200).Mul(big.NewFloat(c.a[i]), big.NewFloat(x[p]))
		sum.Add(sum, term)
	}
	return sum
}

// TestRegionHasPoint cuts boxes by half-spaces that all hold a given point, some with the point
// on their boundary. No region may be called empty, and no box may lose the point.
func TestRegionHasPoint(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	found := 0
	const trials = 3000
	for range trials {
		g, inside := randomRegion(r)
		for k := range g.cuts {
			c := &g.cuts[k]
			c.b = 0
			sum := c.exactly(inside)
			c.b, _ = sum.Float64()
			for c.exactly(inside).Sign() > 0 { // the next number is above the exact sum
				c.b += max(c.b, -c.b, 1e-300) * 0x1p-52
			}
			if r.IntN(2) == 0 {
				c.b += r.Float64()
			}
		}
		x := make([]float64, len(g.lo))
		for p := range x {
			x[p] = g.lo[p] + r.Float64()*(g.hi[p]-g.lo[p])
		}
		y := make([]float64, len(g.cuts))
		ok, empty := g.find(x, y, 0)
		require.False(t, empty)
		if ok {
			found++
			for p, v := range x {
				require.True(t, v >= g.lo[p] && v <= g.hi[p])
			}
		}
		for range 20 { // multipliers of any size prove nothing either
			for k := range y {
				y[k] = max(0, r.NormFloat64())
			}
			require.False(t, g.excludes(y))
		}
		require.True(t, g.tighten())
		for p, v := range inside {
			require.True(t, v >= g.lo[p] && v <= g.hi[p], "the box lost a point")
		}
	}
	require.Greater(t, found, trials/3)
}

// TestRegionLeast bounds linear forms over regions that hold a given point. No bound may be above the
// form's value there, rounding included: some forms are sums of cuts on whose boundary the point lies, so
// that the exact bound is that value. Many bounds are better than those of the box alone.
func TestRegionLeast(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	better, attained := 0, 0
	const trials = 3000
	for range trials {
		g, inside := randomRegion(r)
		v := make([]float64, len(g.lo))
		for p := range v {
			v[p] = r.NormFloat64() * float64(r.IntN(2))
		}
		for k := range g.cuts {
			c := &g.cuts[k]
			c.b = 0
			sum := c.exactly(inside)
			c.b, _ = sum.Float64()
			for c.exactly(inside).Sign() > 0 {
				c.b += max(c.b, -c.b, 1e-300) * 0x1p-52
			}
			for i, p := range c.index {
				v[p] -= c.a[i] * float64(r.IntN(3))
			}
		}
		form := halfspace{a: v}
		box := 0.0
		for p := range v {
			form.index = append(form.index, p)
			box += min(v[p]*g.lo[p], v[p]*g.hi[p])
		}
		value := form.exactly(inside)
		point := make([]float64, len(v))
		bound := g.least(slices.Clone(v), point)
		require.GreaterOrEqual(t, value.Cmp(big.NewFloat(bound)), 0, "%v above %v", bound, value)
		better += of(bound > box+1e-9)
		at, _ := value.Float64()
		attained += of(bound > at-1e-9)
		for p, x := range point {
			require.True(t, x == g.lo[p] || x == g.hi[p])
		}
		for range 20 { // multipliers of any size
			y := make([]float64, len(g.cuts))
			for k := range y {
				y[k] = max(0, r.NormFloat64())
			}
			require.GreaterOrEqual(t, value.Cmp(big.NewFloat(g.dual(slices.Clone(v), y))), 0)
		}
	}
	require.Greater(t, better, trials/3)
	require.Greater(t, attained, trials/3)
}

// TestRegionIsEmpty cuts boxes by half-spaces of which a sum with positive multipliers holds no
// point.
func TestRegionIsEmpty(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	proven := 0
	const trials = 500
	for range trials {
		g, _ := randomRegion(r)
		last := halfspace{index: make([]int, len(g.lo)), a: make([]float64, len(g.lo))}
		for p := range g.lo {
			last.index[p] = p
		}
		for k := range g.cuts {
			c := &g.cuts[k]
			c.b = r.NormFloat64()
			for i, p := range c.index {
				last.a[p] -= c.a[i]
			}
			last.b -= c.b
		}
		last.b -= 0.1
		g.cuts = append(g.cuts, last)
		x := make([]float64, len(g.lo))
		copy(x, g.lo)
		ok, empty := g.find(x, make([]float64, len(g.cuts)), 0)
		require.False(t, ok)
		if empty {
			proven++
		}
	}
	require.Greater(t, proven, trials*9/10)
}

// randomRegion returns a region of a few pixels, and a point of its box.
func randomRegion(r *rand.Rand) (*region, []float64) {
	n := 1 + r.IntN(6)
	g := &region{}
	var inside []float64
	for range n {
		lo := float64(r.Float32())
		hi := lo + float64(r.Float32())
		g.lo, g.hi = append(g.lo, lo), append(g.hi, hi)
		inside = append(inside, []float64{lo, hi, min(hi, lo+r.Float64()*(hi-lo))}[r.IntN(3)])
	}
	for range r.IntN(8) {
		c := halfspace{}
		for p := range n {
			if r.IntN(4) > 0 {
				c.index = append(c.index, p)
				c.a = append(c.a, r.NormFloat64())
			}
		}
		g.cuts = append(g.cuts, c)
	}
	return g, inside
}

// The half-spaces of a current hold the image whose current it is, as the program rounds it.
func TestHalfspacesOfCurrents(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const pixels = 24
	for range 50 {
		linear := snn.NewLinear(pixels, 3, true)
		values := make([]float32, linear.Weight.Len())
		for i := range values {
			values[i] = float32(math.Ldexp(r.Float64()-.5, r.IntN(12)))
		}
		linear.Weight.Import(values)
		m, err := snn.NewModel(snn.Config{Channels: pixels, Height: 1, Width: 1, Steps: 1}, snn.NewSequential(linear))
		require.NoError(t, err)
		net, err := compile(m, 1)
		require.NoError(t, err)
		sums := net.weightedSums(net.nodes[len(net.nodes)-1])
		require.Len(t, sums, 3)
		for range 100 {
			x := tensor.NewNCHW(1, pixels, 1, 1)
			exact := make([]float64, pixels)
			for i := range x.Data {
				x.Data[i] = r.Float32()
				exact[i] = float64(x.Data[i])
			}
			currents, err := m.Logits(snn.Pass{}, x)
			require.NoError(t, err)
			for i, v := range currents {
				for _, h := range []halfspace{sums[i].below(float64(v)), sums[i].above(float64(v))} {
					require.LessOrEqual(t, h.exactly(exact).Sign(), 0, "current %v of neuron %d", v, i)
				}
			}
		}
	}
}
