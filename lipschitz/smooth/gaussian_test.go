package smooth

import (
	"context"
	"fmt"
	"math"
	"sort"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// The expected bounds are solutions of P(X ≥ k) = α by bisection in mpmath with 40 digits, where
// P(X ≥ k) is a sum of binomial terms and not a beta function.
func TestLowerBound(t *testing.T) {
	for _, c := range []struct {
		k, n  int
		alpha float64
		want  float64
	}{
		{0, 10, 0.001, 0},
		{1, 1, 0.001, 0.001},
		{5, 10, 0.05, 0.222441101008129079},
		{99, 100, 0.001, 0.911373111296042429},
		{100, 100, 0.001, 0.933254300796991044},
		{5100, 10000, 0.001, 0.494499306726592702},
		{9990, 10000, 0.001, 0.997588308032568247},
		{10000, 10000, 0.001, 0.999309463002589922},
		{99900, 100000, 0.001, 0.998650992446753063},
		{3, 1000, 0.025, 0.000619099931649571263},
		{1, 100, 0.025, 0.000253146032977420634},
		{5000, 5000, 1e-12, 0.994489037154792134},
		{297, 300, 1e-12, 0.884205424299529517},
		{9995, 10000, 1e-9, 0.996637363838629211},
		{990, 1000, 1e-15, 0.940850476267720912},
		{50, 100, 1e-20, 0.118425401621010152},
		{786432, 1 << 20, 0.01, 0.749014855427238256},
		{524800, 1 << 20, 0.5, 0.500487804257772922},
		{1047552, 1 << 20, 0.001, 0.998925460088198527},
	} {
		got := lowerBound(c.k, c.n, c.alpha)
		assert.LessOrEqual(t, got, c.want, "%d of %d", c.k, c.n)
		assert.InDelta(t, c.want, got, 1.1e-10, "%d of %d", c.k, c.n)
	}
}

// The bound is a proof for the largest number of samples too. With many samples it is z deviations below
// the share of the votes.
func TestLowerBoundOfMostSamples(t *testing.T) {
	n := float64(mostSamples)
	for _, c := range []struct{ alpha, z float64 }{{0.5, 0}, {0.05, 1.6449}, {0.01, 2.3263}, {0.001, 3.0902}} {
		for _, share := range []float64{0.5625, 0.75, 0.9375} {
			deviation := math.Sqrt(share * (1 - share) / n)
			got := lowerBound(int(share*n), mostSamples, c.alpha)
			assert.InDelta(t, share-c.z*deviation, got, 0.02*deviation, "α = %v, %v of %d", c.alpha, share, mostSamples)
		}
	}
}

// The expected p-values are sums of binomial terms in mpmath.
func TestBinomialTest(t *testing.T) {
	for _, c := range []struct {
		a, b int
		want float64
	}{
		{0, 0, 1}, {7, 7, 1}, {1, 0, 1}, {10, 0, 0.001953125}, {6, 4, 0.75390625},
		{60, 40, 0.05688793364098079}, {5100, 4900, 0.04658552770494739},
	} {
		assert.InDelta(t, c.want, binomialTest(c.a, c.b), 1e-12, "%d and %d", c.a, c.b)
	}
}

// The expected thresholds are 2⁶³·erf((n + ½)/(√2·σ·levels)) in mpmath. They differ by less than
// what slack allows for one.
func TestNoiseThresholds(t *testing.T) {
	for _, c := range []struct {
		sigma     float64
		levels, n int
		want      uint64
	}{
		{0.25, 255, 0, 57718515275532344},
		{0.25, 255, 1, 173141344819225948},
		{0.25, 255, 50, 5273285710104506519},
		{0.25, 255, 100, 8163446178701490233},
		{0.25, 255, 200, 9208058363417274492},
		{0.25, 255, 254, 9222768136233689767},
		{0.5, 1, 0, 6296699171631786404},
		{0.12, 7, 0, 4134982222513919916},
		{0.12, 7, 3, 9223086955395348965},
		{0.12, 7, 6, 9223372036854682728},
	} {
		z := newNoise(c.sigma, c.levels)
		assert.InDelta(t, 0, float64(int64(z.thresholds[c.n]-c.want)), 1<<12, "σ = %v, levels %d, n = %d", c.sigma, c.levels, c.n)
	}
}

// magnitude counts the thresholds up to u, at them and beside them too.
func TestMagnitude(t *testing.T) {
	for _, z := range []*noise{newNoise(0.25, 255), newNoise(0.01, 1), newNoise(2, 1), newNoise(0.3, 4000), newNoise(1e-9, 255), newNoise(1e9, 255)} {
		r := rng.New(1).Rand()
		draws := []uint64{0, 1<<63 - 1}
		for _, v := range z.thresholds[:len(z.thresholds)-1] {
			draws = append(draws, v-1, v, min(v+1, 1<<63-1))
		}
		for range 1000 {
			draws = append(draws, r.Uint64()>>1)
		}
		for _, u := range draws {
			want := sort.Search(len(z.thresholds), func(n int) bool { return z.thresholds[n] > u })
			if got := z.magnitude(u); got != int32(want) {
				t.Fatalf("%d for the draw %d, expected %d", got, u, want)
			}
		}
	}
}

// The noise has the mean 0 and the deviation σ, and is clipped.
func TestNoiseMoments(t *testing.T) {
	const n = 200_000
	levels := make([]int32, n)
	for i := range levels {
		levels[i] = 128
	}
	got := make([]float32, n)
	newNoise(0.05, 255).drawTo(got, levels, rng.New(1))
	sum, squares := 0.0, 0.0
	for _, v := range got {
		d := float64(v) - 128.0/255
		sum, squares = sum+d, squares+d*d
	}
	assert.InDelta(t, 0, sum/n, 5*0.05/math.Sqrt(n))
	variance := 0.05*0.05 + 1./12/255/255 // of rounded noise
	assert.InDelta(t, variance, squares/n, 5*variance*math.Sqrt(2./n))
	newNoise(10, 255).drawTo(got, levels, rng.New(1))
	low, high := 0, 0
	for _, v := range got {
		require.True(t, v >= 0 && v <= 1)
		if v == 0 {
			low++
		} else if v == 1 {
			high++
		}
	}
	assert.InDelta(t, 0.48, float64(low)/n, 0.01) // Φ(−127.5/2550)
	assert.InDelta(t, 0.48, float64(high)/n, 0.01)
}

// The expected probability of each class is a sum over all noisy images of a tiny network. It is
// exact, and so is the smoothed network's class at every image of the grid. On every image, the
// votes fit the probabilities, Low is not above that of the class, and no image of the grid within
// the radius has another class.
func TestGaussianAgainstEnumeration(t *testing.T) {
	const samples = 500
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		shape  tensor.Shape
		steps  int
		levels int
		sigma  float64
	}{
		{"images", tensor.Shape{Steps: 1, C: 1, H: 1, W: 3}, 4, 3, 0.3},
		{"frames of spikes", tensor.Shape{Steps: 3, C: 1, H: 1, W: 2}, 3, 1, 0.5},
		{"little noise", tensor.Shape{Steps: 1, C: 2, H: 1, W: 1}, 2, 7, 0.12},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := every(c.shape, c.levels)
			g := Gaussian{Sigma: c.sigma, Levels: c.levels, Samples0: 50, Samples: samples, Alpha: 0.001}
			certified, broken, above, positive := 0, 0, 0, 0
			for seed := range seeds() {
				m := tiny(t, seed, c.shape, c.steps, 3, nil)
				share := shares(t, m, all, c.levels, c.sigma)
				list, err := g.Certify(ctx, m, all, nil, rng.New(seed))
				require.NoError(t, err)
				for i, got := range list {
					for class, p := range share[i] {
						deviation := math.Sqrt(samples*p*(1-p)) + 0.5
						require.InDelta(t, samples*p, got.Votes[class], 6*deviation, "image %d, class %d", i, class)
					}
					if got.Class == Abstain {
						require.Zero(t, got.Radius)
						continue
					}
					positive++
					if got.Low > share[i][got.Class] {
						above++
					}
					for j := range all.N {
						if distance(all, i, j) <= got.Radius {
							certified++
							if argmaxFloat(share[j]) != got.Class {
								broken++
							}
						}
					}
				}
			}
			require.Greater(t, positive, all.N/2)
			require.Greater(t, certified, positive) // more than each image itself
			require.Zero(t, broken, "of %d pairs", certified)
			require.LessOrEqual(t, above, 1+positive/200, "of %d", positive) // α = 0.001
		})
	}
}

// shares returns the exact probability of every class at every image of all.
func shares(t *testing.T, m *snn.Model, all tensor.NCHW, levels int, sigma float64) [][]float64 {
	classes := make([]int, all.N)
	require.NoError(t, classify(classes, m, snn.Pass{}, all))
	phi := func(v float64) float64 { return math.Erfc(-v/math.Sqrt2) / 2 }
	step := make([][]float64, levels+1) // [from][to]
	for from := range step {
		for to := range levels + 1 {
			low, high := 0.0, 1.0
			if to > 0 {
				low = phi((float64(to-from) - 0.5) / (sigma * float64(levels)))
			}
			if to < levels {
				high = phi((float64(to-from) + 0.5) / (sigma * float64(levels)))
			}
			step[from] = append(step[from], high-low)
		}
	}
	list := make([][]float64, all.N)
	for i := range list {
		list[i] = make([]float64, m.Classes())
		for j := range all.N {
			p := 1.0
			for k, v := range all.Image(i) {
				p *= step[int(math.Round(float64(v)*float64(levels)))][int(math.Round(float64(all.Image(j)[k])*float64(levels)))]
			}
			list[i][classes[j]] += p
		}
	}
	return list
}

func distance(x tensor.NCHW, i, j int) float64 {
	sum := 0.0
	for k, v := range x.Image(i) {
		d := float64(v) - float64(x.Image(j)[k])
		sum += d * d
	}
	return math.Sqrt(sum)
}

func argmaxFloat(v []float64) int {
	best := 0
	for i := range v {
		if v[i] > v[best] {
			best = i
		}
	}
	return best
}

// The network sees one spike of one pixel, and its class is whether there was one. With values 0, ½
// and 1, the probability of a spike is ½·P(½) + P(1).
func TestGaussianOfPoisson(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1, Encoder: snn.Poisson{}},
		snn.NewSequential(snn.Flatten{}, snn.NewLinear(1, 2, true)))
	require.NoError(t, err)
	m.Params()[0].Import([]float32{0, 1})
	m.Params()[1].Import([]float32{0.5, 0})
	const n = 20_000
	g := Gaussian{Sigma: 0.4, Levels: 2, Samples0: 10, Samples: n, Alpha: 0.01}
	x := tensor.NewNCHW(1, 1, 1, 1)
	x.Data[0] = 0.5
	list, err := g.Certify(context.Background(), m, x, nil, rng.New(1))
	require.NoError(t, err)
	// P(1) = P(ε ≥ ¼) = P(0), so that the spike has the probability ½.
	assert.InDelta(t, n/2, list[0].Votes[1], 5*math.Sqrt(n/4))
	x.Data[0] = 1
	list, err = g.Certify(context.Background(), m, x, nil, rng.New(1))
	require.NoError(t, err)
	p1, p0 := 1-math.Erfc(0.25/0.4/math.Sqrt2)/2, math.Erfc(0.75/0.4/math.Sqrt2)/2
	p := p1 + (1-p1-p0)/2
	assert.InDelta(t, n*p, list[0].Votes[1], 5*math.Sqrt(n*p*(1-p)))
	assert.Equal(t, 1, list[0].Class)
}

// The certified ball of an image that is not quite on the grid is within that of the grid's image.
func TestGaussianBesideGrid(t *testing.T) {
	m := tiny(t, 3, tensor.Shape{Steps: 1, C: 1, H: 1, W: 3}, 4, 3, nil)
	g := Gaussian{Sigma: 0.25, Levels: 2, Samples0: 20, Samples: 200, Alpha: 0.01}
	x := tensor.NewNCHW(2, 1, 1, 3)
	copy(x.Image(0), []float32{0.5, 1, 0.5})
	copy(x.Image(1), []float32{0.5 + 0x1p-23, 1 - 0x1p-24, 0.5 - 0x1p-22})
	list, err := g.Certify(context.Background(), m, x, []uint64{1, 1}, rng.New(1))
	require.NoError(t, err)
	require.NotEqual(t, Abstain, list[0].Class)
	require.Equal(t, list[0].Votes, list[1].Votes)
	require.LessOrEqual(t, list[1].Radius+distance(x, 0, 1), list[0].Radius)
	require.InDelta(t, list[0].Radius, list[1].Radius, 3e-7)
}

// Predict returns the class with the most votes, or abstains when two are equally probable.
func TestPredict(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1},
		snn.NewSequential(snn.Flatten{}, snn.NewLinear(1, 2, true)))
	require.NoError(t, err)
	m.Params()[0].Import([]float32{0, 1})
	m.Params()[1].Import([]float32{0.49, 0}) // class 1 for values above 0.49
	g := Gaussian{Sigma: 0.2, Levels: 1, Samples0: 1, Samples: 1000, Alpha: 0.001}
	x := tensor.NewNCHW(2, 1, 1, 1)
	x.Data[1] = 1
	list, err := g.Predict(context.Background(), m, x, nil, rng.New(1))
	require.NoError(t, err)
	for i, p := range list {
		assert.Equal(t, i, p.Class)
		assert.Equal(t, 1000, p.Votes[0]+p.Votes[1])
		assert.Less(t, p.P, 1e-9)
	}
	g.Sigma = 1e6 // both classes have the probability ½
	abstained := 0
	for seed := range uint64(20) {
		list, err = g.Predict(context.Background(), m, x, nil, rng.New(seed))
		require.NoError(t, err)
		for _, p := range list {
			if p.Class == Abstain {
				abstained++
			}
		}
	}
	assert.GreaterOrEqual(t, abstained, 39) // of 40, with α = 0.001
	certificates, err := g.Certify(context.Background(), m, x, nil, rng.New(1))
	require.NoError(t, err)
	assert.Equal(t, Abstain, certificates[0].Class)
	assert.Zero(t, certificates[0].Radius)
}

// Two classes have the probability ½ each, so that every certificate is wrong. Their share is that of
// P(X ≥ 15) = 0.0207 for X of 20 samples at ½, which α = 0.025 allows. A class that is chosen by the same
// samples would have twice as many.
func TestConfidence(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1},
		snn.NewSequential(snn.Flatten{}, snn.NewLinear(1, 2, true)))
	require.NoError(t, err)
	m.Threads = 1
	m.Params()[0].Import([]float32{0, 1})
	m.Params()[1].Import([]float32{0.5, 0})
	const images = 2000
	g := Gaussian{Sigma: 1e9, Levels: 1, Samples0: 20, Samples: 20, Alpha: 0.025}
	list, err := g.Certify(context.Background(), m, tensor.NewNCHW(images, 1, 1, 1), nil, rng.New(1))
	require.NoError(t, err)
	wrong := 0
	for _, c := range list {
		if c.Class != Abstain {
			wrong++
		}
	}
	assert.InDelta(t, 0.0207*images, wrong, 4*math.Sqrt(0.0207*images))
}

// The result for an image depends on its id and the key: not on its batch, nor on threads.
func TestGaussianRepeats(t *testing.T) {
	ctx, s := context.Background(), tensor.Shape{Steps: 1, C: 1, H: 2, W: 2}
	g := Gaussian{Sigma: 0.4, Levels: 255, Samples0: 10, Samples: 500, Alpha: 0.01}
	for _, encoder := range []snn.Encoder{snn.Direct{}, snn.Poisson{}} {
		m := tiny(t, 3, s, 4, 5, encoder)
		x := tensor.NewNCHW(3, 1, 2, 2)
		for i := range x.Data {
			x.Data[i] = float32(20*i) / 255
		}
		want, err := g.Certify(ctx, m, x, []uint64{7, 8, 9}, rng.New(1))
		require.NoError(t, err)
		for _, threads := range []int{1, 3} {
			m.Threads = threads
			got, err := g.Certify(ctx, m, x.Slice(1, 2), []uint64{8}, rng.New(1))
			require.NoError(t, err)
			assert.Equal(t, want[1:2], got)
		}
		other, err := g.Certify(ctx, m, x.Slice(1, 2), []uint64{7}, rng.New(1))
		require.NoError(t, err)
		assert.NotEqual(t, want[1:2], other)
	}
}

func TestGaussianRefuses(t *testing.T) {
	ctx, s := context.Background(), tensor.Shape{Steps: 1, C: 1, H: 1, W: 2}
	x := tensor.NewNCHW(2, 1, 1, 2)
	good := Gaussian{Sigma: 0.4, Levels: 255, Samples0: 10, Samples: 50, Alpha: 0.01}
	m := tiny(t, 1, s, 4, 2, nil)
	_, err := good.Certify(ctx, m, x, nil, rng.New(1))
	require.NoError(t, err)
	for want, change := range map[string]func(*Gaussian){
		"sigma 0":                            func(g *Gaussian) { g.Sigma = 0 },
		"sigma -1":                           func(g *Gaussian) { g.Sigma = -1 },
		"sigma NaN":                          func(g *Gaussian) { g.Sigma = math.NaN() },
		"sigma +Inf":                         func(g *Gaussian) { g.Sigma = math.Inf(1) },
		"levels 0":                           func(g *Gaussian) { g.Levels = 0 },
		"levels 10000":                       func(g *Gaussian) { g.Levels = 1_000_000 },
		"samples0 0":                         func(g *Gaussian) { g.Samples0 = 0 },
		fmt.Sprint("samples0 ", math.MaxInt): func(g *Gaussian) { g.Samples0 = math.MaxInt },
		fmt.Sprint("samples ", math.MaxInt):  func(g *Gaussian) { g.Samples = math.MaxInt },
		"samples 1048577":                    func(g *Gaussian) { g.Samples = 1<<20 + 1 },
		"samples -5":                         func(g *Gaussian) { g.Samples = -5 },
		"alpha 0":                            func(g *Gaussian) { g.Alpha = 0 },
		"alpha 1":                            func(g *Gaussian) { g.Alpha = 1 },
		"alpha NaN":                          func(g *Gaussian) { g.Alpha = math.NaN() },
	} {
		g := good
		change(&g)
		_, err := g.Certify(ctx, m, x, nil, rng.New(1))
		assert.ErrorContains(t, err, "smooth: "+want)
		_, err = g.Predict(ctx, m, x, nil, rng.New(1))
		assert.ErrorContains(t, err, "smooth: "+want)
	}
	off := x.Clone()
	off.Data[3] = 0.123
	_, err = good.Certify(ctx, m, off, nil, rng.New(1))
	assert.ErrorContains(t, err, "image 1, value 1: 0.123 is no multiple of 1/255")
	off.Data[3] = 2
	_, err = good.Certify(ctx, m, off, nil, rng.New(1))
	assert.ErrorContains(t, err, "outside [0, 1]")
	_, err = good.Certify(ctx, m, x, []uint64{1}, rng.New(1))
	assert.ErrorContains(t, err, "1 ids for 2 images")
	stopped, stop := context.WithCancel(ctx)
	stop()
	_, err = good.Certify(stopped, m, x, nil, rng.New(1))
	assert.ErrorIs(t, err, context.Canceled)
	m.Params()[0].Import(notFinite(m.Params()[0].Len()))
	_, err = good.Certify(ctx, m, x, nil, rng.New(1))
	assert.ErrorContains(t, err, "expected a finite number")
}
