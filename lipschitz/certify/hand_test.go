package certify

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// threshold returns a network of one pixel and T steps: first, neurons with threshold 0.5, rest, and
// a last neuron, whose spikes decide for class 1 if there is any.
func threshold(t testing.TB, steps int, first *snn.Linear, rest ...snn.Layer) *snn.Model {
	n := snn.NewIF()
	n.Threshold = 0.5
	last := snn.NewLinear(1, 2, true)
	layers := append([]snn.Layer{first, n}, rest...)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: steps}, snn.NewSequential(append(layers, last)...))
	require.NoError(t, err)
	for i, v := range first.Weight.Export() {
		w := first.Weight.Export()
		if v == 0 {
			w[i] = 1
		}
		first.Weight.Import(w)
	}
	last.Weight.Import([]float32{0, 1})
	last.Bias.Import([]float32{0.5 / float32(steps), 0})
	return m
}

func pixel(v float32) tensor.NCHW {
	x := tensor.NewNCHW(1, 1, 1, 1)
	x.Data[0] = v
	return x
}

// verdicts returns the verdicts of the methods.
func verdicts(t testing.TB, m *snn.Model, x tensor.NCHW, y int, eps float64) (v []Verdict) {
	for _, method := range methods {
		r, err := Certify(context.Background(), m, x, []int{y}, Config{Epsilon: eps, Method: method})
		require.NoError(t, err)
		v = append(v, r[0].Verdict)
	}
	return v
}

func TestThresholdJustMet(t *testing.T) {
	all := func(v Verdict) []Verdict { return []Verdict{v, v, v} }
	m := threshold(t, 1, snn.NewLinear(1, 1, false))
	// From 0.5 on, the neuron fires. At 0.5 itself, the bound of its current includes a rounding.
	require.Equal(t, all(Certified), verdicts(t, m, pixel(0.75), 1, 0.2499))
	require.Equal(t, all(Unknown), verdicts(t, m, pixel(0.75), 1, 0.25))
	require.Equal(t, all(Certified), verdicts(t, m, pixel(0.25), 0, 0.2499))
	require.Equal(t, all(Unknown), verdicts(t, m, pixel(0.25), 0, 0.25))
	require.Equal(t, all(Broken), verdicts(t, m, pixel(0.25), 1, 0.1))
	require.Equal(t, all(Certified), verdicts(t, m, pixel(0.75), 1, 0))

	// Spikes with weights of a half sum up to the threshold 1 of the next neuron, without rounding.
	sum := snn.NewLinear(2, 1, false)
	m = threshold(t, 1, snn.NewLinear(1, 2, false), sum, snn.NewIF())
	sum.Weight.Import([]float32{0.5, 0.5})
	require.Equal(t, all(Certified), verdicts(t, m, pixel(0.75), 1, 0.2))
	sum.Weight.Import([]float32{0.5, 0.5 - 0x1p-20})
	require.Equal(t, all(Certified), verdicts(t, m, pixel(0.75), 0, 0.2))
	// The program rounds the sum 1 − 2⁻²⁵ to 1. The bounds know its error alone.
	sum.Weight.Import([]float32{0.5, 0.5 - 0x1p-25})
	require.Equal(t, all(Broken), verdicts(t, m, pixel(0.75), 0, 0.2))
	require.Equal(t, all(Unknown), verdicts(t, m, pixel(0.75), 1, 0.2))
}

// TestAfter has potentials that the threshold and the float32 before it bound.
func TestAfter(t *testing.T) {
	theta := float32(0.3)
	for _, soft := range []bool{false, true} {
		op := &neurons{threshold: []float32{theta}, reset: []float32{0.1}, soft: soft}
		at := func(lo, hi float32) (fires, stays bool) {
			_, _, fires, stays = op.after(0, potential{lo, hi})
			return fires, stays
		}
		fires, stays := at(theta, theta)
		require.True(t, fires && !stays)
		fires, stays = at(below(theta), below(theta))
		require.True(t, !fires && stays)
		fired, stayed, fires, stays := op.after(0, potential{below(theta), 0.5})
		require.True(t, fires && stays)
		require.Equal(t, potential{below(theta), below(theta)}, stayed)
		if soft {
			require.Equal(t, potential{0, 0.5 - theta}, fired)
		} else {
			require.Equal(t, potential{0.1, 0.1}, fired)
		}
	}
}

// TestJointSteps has a current from 0.4 to 0.6 and the threshold 0.5. The neuron fires at the first
// step, or it does not and then fires at the second: intervals do not know that it fires.
func TestJointSteps(t *testing.T) {
	m := threshold(t, 2, snn.NewLinear(1, 1, false))
	require.Equal(t, []Verdict{Unknown, Certified, Certified}, verdicts(t, m, pixel(0.5), 1, 0.1))

	// The next neuron needs a current of 2 within the three steps. Those of [0.3, 0.45] give it a spike
	// at the second step. Those of [0.26, 0.3] fire at the second step too.
	sum := snn.NewLinear(1, 1, false)
	m = threshold(t, 4, snn.NewLinear(1, 1, false), sum, snn.NewIF())
	sum.Weight.Import([]float32{0.5})
	require.Equal(t, []Verdict{Certified, Certified, Certified}, verdicts(t, m, pixel(0.375), 1, 0.12))
	// From 0.2 to 0.3 the first spike comes at the second or at the third step. The fourth step has the
	// second spike, or there is none: the sum is not known to reach 1.
	require.Equal(t, []Verdict{Unknown, Unknown, Unknown}, verdicts(t, m, pixel(0.26), 1, 0.06))
}

// TestTies has equal logits, of which the first is the class.
func TestTies(t *testing.T) {
	for name, layers := range map[string][]snn.Layer{
		"logits": {snn.NewLinear(1, 1, false), nil, snn.NewLinear(1, 3, false)},
		"spikes": {snn.NewLinear(1, 3, false), nil},
	} {
		n := snn.NewIF()
		n.Threshold = 0.5
		layers[1] = n
		for _, steps := range []int{1, 3, 4} {
			if name == "logits" && steps == 3 { // their sums are rounded
				continue
			}
			m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: steps}, snn.NewSequential(layers...))
			require.NoError(t, err)
			for _, p := range m.Params() {
				w := p.Export()
				for i := range w {
					w[i] = 1
				}
				p.Import(w)
			}
			for _, method := range methods {
				r, err := Certify(context.Background(), m, pixel(0.75), []int{0}, Config{Epsilon: 0.125, Method: method})
				require.NoError(t, err)
				require.Equal(t, Certified, r[0].Verdict, "%s, T = %d, %v", name, steps, method)
				require.Zero(t, r[0].Margin)
			}
			require.Equal(t, []Verdict{Broken, Broken, Broken}, verdicts(t, m, pixel(0.75), 1, 0.125))
		}
	}
}

// TestMarginOfSpikes has neurons as the output. The program rounds their mean rates, so that the margin
// of one spike is less than 1/T.
func TestMarginOfSpikes(t *testing.T) {
	const steps = 3
	n, first := snn.NewIF(), snn.NewLinear(1, 2, true)
	n.SoftReset = true
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: steps}, snn.NewSequential(first, n))
	require.NoError(t, err)
	first.Bias.Import([]float32{1.01, 0.99}) // 3 and 2 spikes
	z, err := m.Logits(snn.Pass{}, pixel(0.5))
	require.NoError(t, err)
	margin := float64(z[0]) - float64(z[1])
	require.Less(t, margin, 1./steps)
	for _, method := range append(slices.Clone(methods), Counts{}) {
		r, err := Certify(context.Background(), m, pixel(0.5), []int{0}, Config{Epsilon: 0.1, Method: method})
		require.NoError(t, err)
		require.Equal(t, Certified, r[0].Verdict, "%v", method)
		require.LessOrEqual(t, r[0].Margin, margin, "%v", method)
		require.InDelta(t, margin, r[0].Margin, 1e-5, "%v", method)
	}
}

// TestTieInBall has logits that are equal for some images of the ball, whose class is then the first. It
// is not that of the image.
func TestTieInBall(t *testing.T) {
	first, last, n := snn.NewLinear(1, 2, false), snn.NewLinear(2, 2, false), snn.NewIF()
	n.Threshold = 0.5
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1}, snn.NewSequential(first, n, last))
	require.NoError(t, err)
	first.Weight.Import([]float32{2, 0.75})
	last.Weight.Import([]float32{1, 0, 1, 1}) // logits s₀ and s₀ + s₁
	require.Equal(t, []int{1}, predict(t, m, pixel(0.75)))
	require.Equal(t, []int{0}, predict(t, m, pixel(0.6)))
	require.Equal(t, []Verdict{Unknown, Unknown, Unknown}, verdicts(t, m, pixel(0.75), 1, 0.15))
	last.Weight.Import([]float32{1, 1, 1, 0})
	require.Equal(t, []Verdict{Certified, Certified, Certified}, verdicts(t, m, pixel(0.75), 0, 0.15))
}

// TestGrid has values that are multiples of a power of two, and others.
func TestGrid(t *testing.T) {
	for _, c := range []struct {
		weight, bias, want float64
	}{
		{0.5, 0.25, 0.25}, {0.75, 1, 0.25}, {3, 1, 1}, {0.1, 0.5, 0}, {0.5, float64(float32(0.1)), 0}, {0x1p-24, 0.75, 0x1p-24}, {0x1p-24, 1, 0}, {1, 0x1p-24, 0},
	} {
		first, n, last := snn.NewLinear(1, 1, false), snn.NewIF(), snn.NewLinear(1, 2, true)
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1}, snn.NewSequential(first, n, last))
		require.NoError(t, err)
		last.Weight.Import([]float32{float32(c.weight), 0})
		last.Bias.Import([]float32{float32(c.bias), 0})
		net, err := compile(m, 1)
		require.NoError(t, err)
		require.Equal(t, c.want, net.nodes[3].grid, "%+v", c)
		require.Zero(t, net.nodes[1].grid, "values of an image are on no grid")
	}
}

// TestRoundedSums looks for neurons whose sum reaches the threshold in exact arithmetic, but not in
// the program, and for the converse. Their spikes may not be taken as certain.
func TestRoundedSums(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	above, below := 0, 0
	for range 80 {
		const terms = 12
		sum := snn.NewLinear(terms, 1, true)
		next := snn.NewIF()
		m := threshold(t, 1, snn.NewLinear(1, terms, false), sum, next)
		w, exact := make([]float32, terms), 0.0
		for i := range w {
			w[i] = float32(r.NormFloat64())
			exact += float64(w[i])
		}
		sum.Weight.Import(w)
		sum.Bias.Import([]float32{1})
		exact++
		if exact < 0.1 {
			continue
		}
		// The program's sum is the largest threshold at which it fires.
		_, err := m.Logits(snn.Pass{OnNeurons: func(_ *snn.Pass, _ snn.Neuron, currents, _ *autograd.Value) {
			next.Threshold = currents.Dense().Unpack().Data[0]
		}}, pixel(0.75))
		require.NoError(t, err)
		for range 2 {
			fired := fires(t, m)
			if fired != (exact >= float64(next.Threshold)) {
				if fired {
					below++
				} else {
					above++
				}
			}
			net, err := compile(m, 1)
			require.NoError(t, err)
			a := newAnalysis(net, ballOf([]float32{0.75}, 0.1))
			require.NoError(t, a.run(true))
			s := a.spikes[4]
			if fired {
				require.Equal(t, uint64(1), s.may[0])
			} else {
				require.Zero(t, s.must[0])
			}
			next.Threshold = math.Nextafter32(next.Threshold, 100)
		}
	}
	require.Greater(t, above, 4)
	require.Greater(t, below, 4)
}

// TestRoundedPotentials has a neuron that fires at the last step or not at all, by another neuron's
// spike. Without that spike, its potential is rounded to just below the threshold at every step, while
// exact arithmetic often reaches the threshold.
func TestRoundedPotentials(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	const steps = 6
	first, sum, next := snn.NewLinear(1, 2, false), snn.NewLinear(2, 1, false), snn.NewIF()
	m := threshold(t, steps, first, sum, next)
	first.Weight.Import([]float32{9, 1}) // currents of 3/4, and around 1/12: half a threshold's sixth
	reached := 0
	for range 1000 {
		w := 0.25 + 0.18*r.Float32() // the sum of both weights is exact
		sum.Weight.Import([]float32{w, 0.0625})
		var v float32
		exact := 0.0
		for range steps {
			v += w
			exact += float64(w)
		}
		next.Threshold = math.Nextafter32(v, 100)
		reached += of(exact >= float64(next.Threshold))
		net, err := compile(m, 1)
		require.NoError(t, err)
		a := newAnalysis(net, ballOf([]float32{1. / 12}, 0.001))
		require.NoError(t, a.run(true))
		require.Equal(t, uint64(1<<(steps-1)), a.spikes[4].may[0])
		require.Zero(t, a.spikes[4].must[0])
	}
	require.Greater(t, reached, 5)
}

func of(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestRoundedLogits looks for logits whose order in the program is not that of exact arithmetic. The
// class that exact arithmetic gives may not be proven.
func TestRoundedLogits(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	differ := map[int]int{}
	for trial := range 40 {
		const terms = 12
		steps := []int{1, 3}[trial%2]
		first, last, n := snn.NewLinear(1, terms, false), snn.NewLinear(terms, 2, true), snn.NewIF()
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: steps}, snn.NewSequential(first, n, last))
		require.NoError(t, err)
		fill := func(p *autograd.Param, v func() float64) (sum float64) {
			w := p.Export()
			for i := range w {
				w[i] = float32(v())
				sum += float64(w[i])
			}
			p.Import(w)
			return sum
		}
		fill(first.Weight, func() float64 { return 1.5 })
		fill(last.Weight, r.NormFloat64)
		sums := [2]float64{}
		for i, w := range last.Weight.Export() {
			sums[i/terms] += float64(w)
		}
		class := func(bias float32) int {
			last.Bias.Import([]float32{0.1, bias})
			return predict(t, m, pixel(0.75))[0]
		}
		bias := bisect(potential{-100, 100}, func(v float32) bool { return class(v) == 1 })
		for k := range int64(4) { // on both sides of the decision
			b := fromOrdinal(ordinal(bias) + k - 2)
			got := class(b)
			if exact := sums[1] + float64(b) - sums[0] - float64(float32(0.1)); (exact > 0) != (got == 1) {
				differ[steps]++
			}
			net, err := compile(m, 1)
			require.NoError(t, err)
			for _, method := range methods {
				margins, err := method.margins(newAnalysis(net, ballOf([]float32{0.75}, 0.05)), 1-got, []int{got})
				require.NoError(t, err)
				require.Negative(t, margins[0], "%v", method)
			}
		}
	}
	require.Greater(t, differ[1], 4)
	require.Greater(t, differ[3], 4)
}

// fires reports whether the last neuron of a network of threshold fires.
func fires(t testing.TB, m *snn.Model) bool { return predict(t, m, pixel(0.75))[0] == 1 }

// TestMethodsAscend compares the methods on random networks: listed trains are never worse than
// intervals, and linear relaxations never worse than these.
func TestMethodsAscend(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	better := [2]int{}
	for range 3 {
		for _, n := range nets(t, r) {
			name, m := n.name, n.Model
			x := images(r, m, 2)
			y := predict(t, m, x)
			var last []Result
			for k, method := range methods {
				got, err := Certify(context.Background(), m, x, y, Config{Epsilon: 0.01, Method: method})
				require.NoError(t, err)
				for i := range last {
					require.GreaterOrEqual(t, got[i].Margin, last[i].Margin-1e-9, "%s, %v", name, method)
					if got[i].Margin > last[i].Margin+1e-6 {
						better[k-1]++
					}
				}
				last = got
			}
		}
	}
	require.Greater(t, better[0], 5)
	require.Greater(t, better[1], 5)
}

// The second layer's potentials may be too large, so that there are bounds of the first layer alone. A
// search splits its neurons.
func TestCompleteOverflow(t *testing.T) {
	first, second, last := snn.NewLinear(1, 2, false), snn.NewLinear(2, 2, false), snn.NewLinear(2, 2, true)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 8}, snn.NewSequential(first, snn.NewIF(), second, snn.NewIF(), last))
	require.NoError(t, err)
	first.Weight.Import([]float32{1, 1})
	size := float32(mostValue / 4) // eight steps exceed mostValue
	second.Weight.Import([]float32{-size, 0, 0, size})
	last.Weight.Import([]float32{0, 0, 0, 1})
	for bias, want := range map[float32]Verdict{2: Certified, 0.5: Broken} {
		last.Bias.Import([]float32{bias, 0})
		r, err := Complete(t.Context(), m, pixel(0.1), []int{0}, Config{Epsilon: 1}, Effort{Nodes: 50})
		require.NoError(t, err)
		require.Equal(t, want, r[0].Verdict, r[0].Why)
		require.Greater(t, r[0].Nodes, 1)
	}
}

// The network averages spikes by nine, and its sums of these means differ from one kernel level to
// another. Both logits are equal at the level in use, so that a run alone proves the class.
func TestCompleteLevels(t *testing.T) {
	start := kernel.CurrentLevel()
	defer func() { require.NoError(t, kernel.SetLevel(start)) }()
	r := rand.New(rand.NewPCG(1, 1))
	differ := 0
	for range 60 {
		const c = 6
		n, last := snn.NewIF(), snn.NewLinear(c, 2, true)
		n.Threshold = 0.25
		first := snn.NewConv2D(1, c, 1, 1, 0, false)
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 3, Width: 3, Steps: 1}, snn.NewSequential(first, n, snn.AvgPool{K: 3}, snn.Flatten{}, last))
		require.NoError(t, err)
		first.Weight.Fill(func(int) (float32, error) { return 1, nil })
		w := make([]float32, 2*c)
		for i := range c {
			w[i] = float32(r.NormFloat64())
		}
		last.Weight.Import(w)
		x := tensor.NewNCHW(1, 1, 3, 3)
		for i := range x.Data {
			x.Data[i] = float32(r.IntN(2)) / 2
		}
		z, err := m.Logits(snn.Pass{}, x)
		require.NoError(t, err)
		last.Bias.Import([]float32{0, z[0]})
		got, err := Complete(t.Context(), m, x, []int{0}, Config{Epsilon: 0.1}, Effort{Nodes: 50})
		require.NoError(t, err)
		require.Equal(t, Certified, got[0].Verdict)
		for _, level := range kernel.Levels() {
			require.NoError(t, kernel.SetLevel(level))
			if predict(t, m, x)[0] != 0 {
				differ++
				require.Contains(t, got[0].Why, "at this kernel level")
			}
		}
		require.NoError(t, kernel.SetLevel(start))
	}
	require.Equal(t, len(kernel.Levels()) > 1, differ > 0)
}
