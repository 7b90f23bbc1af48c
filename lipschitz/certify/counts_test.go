package certify

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor/rng"
)

// integrators is a random network of IF neurons with soft reset. With whole, its weights and
// thresholds are multiples of 1/8, so that sums meet thresholds.
func integrators(t testing.TB, r *rand.Rand, whole bool) *snn.Model {
	neurons := func() *snn.LIF {
		n := snn.NewIF()
		n.SoftReset, n.Threshold, n.Start = true, []float32{0.5, 1, 1.25}[r.IntN(3)], []float32{0, 0.25}[r.IntN(2)]
		return n
	}
	body := snn.NewSequential(snn.NewConv2D(2, 6, 3, 1, 1, true), neurons(), snn.AvgPool{K: 2}, snn.NewConv2D(6, 8, 3, 1, 1, true), snn.NewBatchNorm(8), neurons(),
		snn.Flatten{}, snn.NewLinear(72, 10, true), neurons(), snn.NewLinear(10, 4, true))
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 6, Width: 6, Steps: 5}, body)
	require.NoError(t, err)
	m.Init(rng.New(r.Uint64()))
	for _, p := range m.Params() {
		v := p.Export()
		for i := range v {
			if len(p.Shape) == 1 {
				v[i] = 0.7 * float32(r.NormFloat64())
			}
			if whole {
				v[i] = float32(int(8*v[i])) / 8
			}
		}
		p.Import(v)
	}
	return m
}

// No image of the ball has a smaller margin than the proven one, at every kernel level. Counts
// prove more than plain intervals.
func TestCountsSoundBySampling(t *testing.T) {
	start := kernel.CurrentLevel()
	defer func() { require.NoError(t, kernel.SetLevel(start)) }()
	r := rand.New(rand.NewPCG(7, 2))
	certified := map[Method]int{}
	var sum [2]float64
	for round := range 24 {
		m := integrators(t, r, round%2 == 1)
		eps := []float64{0, 0.01, 0.05, 0.2}[round/2%4]
		x := images(r, m, 3)
		if round%2 == 1 {
			for i, v := range x.Data {
				x.Data[i] = float32(int(8*v)) / 8
			}
		}
		y := predict(t, m, x)
		for k, method := range []Method{Counts{}, Intervals{}} {
			results, err := Certify(context.Background(), m, x, y, Config{Epsilon: eps, Method: method})
			require.NoError(t, err)
			for i, got := range results {
				sum[k] += got.Margin
				if got.Verdict == Certified {
					certified[method]++
				}
				if method != (Counts{}) {
					continue
				}
				for _, level := range kernel.Levels() {
					require.NoError(t, kernel.SetLevel(level))
					require.GreaterOrEqual(t, leastMargin(t, r, m, x.Slice(i, i+1), y[i], eps, 64), got.Margin, "round %d, ε = %v, level %v", round, eps, level)
				}
				require.NoError(t, kernel.SetLevel(start))
			}
		}
	}
	t.Log(certified, sum)
	assert.Greater(t, certified[Counts{}], certified[Intervals{}])
	assert.Greater(t, sum[0], sum[1])
}

// TestCountsRounded has a neuron that gets the same current at every step. Its threshold is the
// potential that the program reaches at the last step, or the next number. In exact arithmetic, the
// neuron would often not fire in the first case, or fire in the second.
func TestCountsRounded(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	const steps = 6
	first, sum, early, next := snn.NewLinear(1, 1, false), snn.NewLinear(1, 1, false), snn.NewIF(), snn.NewIF()
	early.SoftReset, next.SoftReset = true, true
	last := snn.NewLinear(1, 2, false)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: steps}, snn.NewSequential(first, early, sum, next, last))
	require.NoError(t, err)
	first.Weight.Import([]float32{4}) // a spike at every step
	var wrong [2]int
	for range 300 {
		w := 0.25 + 0.25*r.Float32()
		sum.Weight.Import([]float32{w})
		var v float32
		for range steps {
			v += w
		}
		for fires := range 2 {
			next.Threshold = v
			if fires == 0 {
				next.Threshold = math.Nextafter32(v, 10)
			}
			net, err := compile(m, 1)
			require.NoError(t, err)
			a := newAnalysis(net, ballOf([]float32{0.5}, 0.125))
			require.NoError(t, a.counts())
			s := a.spikes[4]
			require.Equal(t, []uint64{0, 1 << (steps - 1)}, []uint64{s.must[0], s.may[0]})
			wrong[fires] += of((steps*float64(w) >= float64(next.Threshold)) != (fires == 1))
		}
	}
	require.Greater(t, wrong[0], 20)
	require.Greater(t, wrong[1], 20)
}

func TestCountsRefuse(t *testing.T) {
	soft := func(decay float32, input bool) *snn.LIF {
		n := snn.NewLIF(decay)
		n.SoftReset, n.DecayInput = true, input
		return n
	}
	for _, c := range []struct {
		want   string
		layers []snn.Layer
	}{
		{"layer 0: counts have no bound here: expected IF neurons with soft reset", []snn.Layer{snn.NewIF(), snn.Flatten{}, snn.NewLinear(16, 2, true)}},
		{"layer 0: counts have no bound here: expected IF neurons with soft reset", []snn.Layer{soft(0.5, false), snn.Flatten{}, snn.NewLinear(16, 2, true)}},
		{"layer 2: counts have no bound here: expected IF neurons with soft reset", []snn.Layer{soft(1, false), snn.NewConv2D(1, 1, 1, 1, 0, true), soft(0.5, true), snn.Flatten{}, snn.NewLinear(16, 2, true)}},
		{"layer 1: counts have no bound for max pooling: expected average pooling", []snn.Layer{soft(1, false), snn.MaxPool{K: 2}, snn.Flatten{}, snn.NewLinear(4, 2, true)}},
	} {
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 2}, snn.NewSequential(c.layers...))
		require.NoError(t, err)
		_, err = Certify(context.Background(), m, images(rand.New(rand.NewPCG(1, 1)), m, 1), []int{0}, Config{Epsilon: 0.1, Method: Counts{}})
		assert.EqualError(t, err, "certify: image 0: "+c.want)
	}
}
