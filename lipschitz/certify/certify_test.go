package certify

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

var methods = []Method{Intervals{}, Trains{}, Linear{}}

// named is a network of nets.
type named struct {
	name string
	*snn.Model
}

// nets are small networks with the layers that have bounds.
func nets(t testing.TB, r *rand.Rand) (models []named) {
	cfg := snn.Config{Channels: 2, Height: 6, Width: 6, Steps: 4, Mean: []float32{.4, .5}, Std: []float32{.3, .2}}
	soft := snn.NewLIF(0.9)
	soft.SoftReset = true
	exact := snn.NewIF()
	exact.SoftReset = true
	odd := snn.NewLIF(0.75)
	odd.Reset, odd.Start, odd.DecayInput = -0.25, 0.125, true
	glif := snn.NewParamLIF(6, 0.5, 0.75)
	for i, v := range glif.Decay.MutableData()[:6] {
		glif.Decay.MutableData()[i] = v + float32(i)*0.05
	}
	block := &snn.Residual{
		BN1: snn.NewBatchNorm(6), N1: snn.NewIF(), Conv1: snn.NewConv2D(6, 5, 3, 1, 1, false), BN2: snn.NewBatchNorm(5), N2: snn.NewIF(),
		Conv2: snn.NewConv2D(5, 6, 3, 1, 1, true), Comb: autogradParam(2),
	}
	strided := &snn.Residual{
		N1: snn.NewLIF(0.5), Conv1: snn.NewConv2D(6, 8, 3, 2, 1, true), N2: snn.NewIF(),
		Conv2: snn.NewConv2D(8, 8, 3, 1, 1, false), Short: snn.NewConv2D(6, 8, 1, 2, 0, false), Comb: autogradParam(2),
	}
	for _, c := range []struct {
		name string
		body *snn.Sequential
	}{
		{"plain", snn.NewSequential(snn.NewConv2D(2, 6, 3, 1, 1, true), snn.NewBatchNorm(6), snn.NewIF(), snn.AvgPool{K: 2},
			snn.NewConv2D(6, 8, 3, 1, 1, false), snn.NewBatchNorm(8), snn.NewLIF(0.8), snn.AvgPool{K: 0}, snn.Flatten{}, &snn.Dropout{P: 0.5}, snn.NewLinear(8, 4, true))},
		{"soft", snn.NewSequential(snn.NewConv2D(2, 6, 3, 2, 0, true), soft, snn.Flatten{}, snn.NewLinear(24, 12, true), odd, snn.NewLinear(12, 4, true), snn.NewIF())},
		{"max", snn.NewSequential(snn.NewConv2D(2, 6, 3, 1, 1, true), glif, snn.MaxPool{K: 2}, snn.NewConv2D(6, 6, 3, 1, 0, true), exact, snn.Flatten{}, snn.NewLinear(6, 4, true))},
		{"residual", snn.NewSequential(snn.NewConv2D(2, 6, 3, 1, 1, false), block, strided, snn.NewBatchNorm(8), snn.NewIF(), snn.AvgPool{K: 3},
			snn.Flatten{}, snn.NewLinear(8, 4, true))},
		{"pooled", snn.NewSequential(snn.AvgPool{K: 2}, snn.Flatten{}, snn.NewLinear(18, 10, true), snn.NewIF(), snn.NewLinear(10, 4, false))},
	} {
		m, err := snn.NewModel(cfg, c.body)
		require.NoError(t, err)
		m.Init(rng.New(r.Uint64()))
		for _, p := range m.State() {
			v := p.Export()
			for i := range v {
				switch {
				case len(p.Name) > 12 && p.Name[len(p.Name)-12:] == "running_mean":
					v[i] = 0.2 * float32(r.NormFloat64())
				case len(p.Name) > 11 && p.Name[len(p.Name)-11:] == "running_var":
					v[i] = 0.5 + r.Float32()
				case len(p.Name) > 5 && p.Name[len(p.Name)-5:] == ".bias":
					v[i] = 0.3 * float32(r.NormFloat64())
				case len(p.Shape) == 1 && (strings.HasSuffix(p.Name, ".weight") || strings.HasSuffix(p.Name, ".comb")) && r.IntN(3) == 0:
					v[i] = -v[i]
				case len(p.Shape) > 1:
					v[i] *= 1.5
				}
			}
			p.Import(v)
		}
		models = append(models, named{c.name, m})
	}
	return models
}

func images(r *rand.Rand, m *snn.Model, n int) tensor.NCHW {
	x := tensor.NewNCHW(n, m.Channels, m.Height, m.Width)
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	return x
}

// TestSoundBySampling certifies random networks, and looks for an image of the ball whose margin is
// below the proven one, at every kernel level.
func TestSoundBySampling(t *testing.T) {
	start := kernel.CurrentLevel()
	defer func() { require.NoError(t, kernel.SetLevel(start)) }()
	r := rand.New(rand.NewPCG(1, 2))
	certified := map[string]int{}
	for round := range 5 {
		for _, n := range nets(t, r) {
			name, m := n.name, n.Model
			eps := []float64{0, 0.0005, 0.003, 0.02, 0.002}[round]
			x := images(r, m, 2)
			if round == 4 { // a frame for each step
				x.Steps = m.Steps
				x.Data = make([]float32, x.N*x.Pixels())
				for i := range x.Data {
					x.Data[i] = r.Float32()
				}
			}
			y := predict(t, m, x)
			for _, method := range methods {
				results, err := Certify(context.Background(), m, x, y, Config{Epsilon: eps, Method: method})
				require.NoError(t, err)
				for i, got := range results {
					if got.Verdict == Certified {
						certified[method.String()]++
					}
					for _, level := range kernel.Levels() {
						require.NoError(t, kernel.SetLevel(level))
						least := leastMargin(t, r, m, x.Slice(i, i+1), y[i], eps, 32)
						require.GreaterOrEqual(t, least, got.Margin, "%s, %v, image %d, ε = %v, level %v", name, method, i, eps, level)
						if got.Verdict == Certified {
							require.GreaterOrEqual(t, least, 0.)
						}
					}
					require.NoError(t, kernel.SetLevel(start))
				}
			}
		}
	}
	t.Log(certified)
	for _, m := range methods {
		require.Positive(t, certified[m.String()])
	}
}

func predict(t testing.TB, m *snn.Model, x tensor.NCHW) []int {
	z, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	y := make([]int, x.N)
	for i := range y {
		y[i] = argmax(z[i*m.Classes():][:m.Classes()])
	}
	return y
}

// inside returns n images of the ball around x. Half of them are corners.
func inside(r *rand.Rand, x tensor.NCHW, ball ball, n int) tensor.NCHW {
	near := x
	near.N, near.Data = n, make([]float32, n*len(x.Data))
	for i := range near.N {
		for j := range x.Data {
			lo, hi := ball.lo[j], ball.hi[j]
			v := lo + r.Float32()*(hi-lo)
			if i%2 == 0 {
				v = []float32{lo, hi}[r.IntN(2)]
			}
			near.Image(i)[j] = min(max(v, lo), hi)
		}
	}
	return near
}

// leastMargin returns the least margin of n random images of the ball around x.
func leastMargin(t testing.TB, r *rand.Rand, m *snn.Model, x tensor.NCHW, y int, eps float64, n int) float64 {
	near := inside(r, x, ballOf(x.Data, eps), n)
	z, err := m.Logits(snn.Pass{}, near)
	require.NoError(t, err)
	least := math.Inf(1)
	for i := range near.N {
		z := z[i*m.Classes():][:m.Classes()]
		for j, v := range z {
			if j != y {
				least = min(least, float64(z[y])-float64(v))
			}
		}
	}
	return least
}

func autogradParam(n int) *autograd.Param { return autograd.NewParam(n) }

// TestBall compares the bounds of a ball with the float32 that are in it, for the ε of an attack too.
func TestBall(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 20000 {
		v := r.Float32()
		if r.IntN(4) == 0 {
			v = float32(r.IntN(256)) / 255
		}
		eps := r.Float64() * math.Pow(2, -float64(r.IntN(30)))
		b := ballOf([]float32{v}, eps)
		for _, eps := range []float64{eps, float64(float32(eps))} {
			in := func(w float32) bool {
				return math.Abs(float64(w)-float64(v)) <= eps && w >= 0 && w <= 1
			}
			for k := range int64(8) { // around the ends
				for _, end := range []float64{float64(v) - eps, float64(v) + eps} {
					if w := fromOrdinal(ordinal(float32(end)) + k - 4); in(w) && (w < b.lo[0] || w > b.hi[0]) {
						t.Fatalf("%v is within %v of %v, but not in [%v, %v]", w, eps, v, b.lo[0], b.hi[0])
					}
				}
			}
		}
		// The bounds themselves are in the ball, up to the last digit of float64.
		most := max(eps, float64(float32(eps))) * (1 + 1e-9)
		require.True(t, b.lo[0] >= 0 && b.hi[0] <= 1 && b.lo[0] <= v && v <= b.hi[0])
		require.LessOrEqual(t, max(float64(v)-float64(b.lo[0]), float64(b.hi[0])-float64(v)), most)
	}
}
