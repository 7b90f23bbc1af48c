package certify_test

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/lipschitz/certify"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// TestCompleteEnumerated holds complete verification against enumerated images. What it certifies
// may not be broken on the grid, and what it breaks comes with an image. It leaves few images
// unknown: those of networks in which rounding errors are as large as currents.
func TestCompleteEnumerated(t *testing.T) {
	var decided, unknown, searched atomic.Int64
	t.Run("networks", func(t *testing.T) {
		for kind, k := range kinds {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				for seed := range onGrids {
					n := newTiny(t, kind, 100+seed, style(seed))
					x := grid(kind)
					class := n.classes(t, x)
					for _, eps := range []float64{1 / float64(k.levels), 2.5 / float64(k.levels)} {
						b := broken(kind, x, class, class, eps)
						for i := seed; i < x.N; i += 17 {
							r, err := certify.Complete(context.Background(), n.m, x.Slice(i, i+1), class[i:i+1],
								certify.Config{Epsilon: eps}, certify.Effort{Nodes: 200})
							require.NoError(t, err, "%v", n)
							switch r[0].Verdict {
							case certify.Certified:
								require.False(t, b[i], "%v, ε = %v: image %d is certified, but an image of the grid breaks it", n, eps, i)
								require.False(t, r[0].Margin < 0, "%v: margin %v", n, r[0].Margin)
								if r[0].Nodes > 0 {
									searched.Add(1)
									require.LessOrEqual(t, r[0].Margin, leastOnGrid(t, n, kind, x, i, class[i], eps), "%v, ε = %v: image %d", n, eps, i)
								}
							case certify.Broken:
								breaks(t, n, kind, x.Image(i), class[i], eps, r[0].Result)
							default:
								unknown.Add(1)
								require.Equal(t, 200, r[0].Nodes)
								continue
							}
							decided.Add(1)
						}
					}
				}
			})
		}
	})
	t.Logf("%d decided, %d unknown; %d proven by a search", decided.Load(), unknown.Load(), searched.Load())
	require.Less(t, unknown.Load(), decided.Load()/50)
	require.Greater(t, searched.Load(), int64(50))
}

// leastOnGrid returns the least margin of the label in the images of the grid within eps of image i.
func leastOnGrid(t *testing.T, n *tiny, kind int, x tensor.NCHW, i, label int, eps float64) float64 {
	near := images(kind, x.N)
	count := 0
	for j := range x.N {
		d := 0.0
		for p, v := range x.Image(i) {
			d = max(d, math.Abs(float64(v)-float64(x.Image(j)[p])))
		}
		if d <= eps {
			copy(near.Image(count), x.Image(j))
			count++
		}
	}
	z, err := n.m.Logits(snn.Pass{}, near.Slice(0, count))
	require.NoError(t, err)
	c := n.m.Classes()
	least := math.Inf(1)
	for j := range count {
		for k, v := range z[j*c:][:c] {
			if k != label {
				least = min(least, float64(z[j*c+label])-float64(v))
			}
		}
	}
	return least
}

// TestCompleteStops checks the bounds of the effort, and what a stopped search leaves.
func TestCompleteStops(t *testing.T) {
	cfg := certify.Config{Epsilon: 0.25}
	// The first image that takes a search of a few nodes.
	var n *tiny
	var one tensor.NCHW
	var label []int
	var whole certify.Completed
	for seed := 0; whole.Nodes < 3; seed++ {
		const deep = 1
		require.Less(t, seed, 50, "the test needs a search")
		n = newTiny(t, deep, seed, random)
		x := grid(deep)
		y := n.classes(t, x)
		r, err := certify.Complete(t.Context(), n.m, x, y, cfg, certify.Effort{Nodes: 50})
		require.NoError(t, err)
		for i, r := range r {
			if r.Nodes > 2 && r.Verdict != certify.Unknown {
				one, label, whole = x.Slice(i, i+1), y[i:i+1], r
				break
			}
		}
	}
	most := whole.Nodes

	r, err := certify.Complete(t.Context(), n.m, one, label, cfg, certify.Effort{Nodes: most})
	require.NoError(t, err)
	require.Equal(t, whole, r[0], "the same search, to the bit")
	r, err = certify.Complete(t.Context(), n.m, one, label, cfg, certify.Effort{Nodes: most - 1})
	require.NoError(t, err)
	require.Equal(t, certify.Unknown, r[0].Verdict)
	require.Equal(t, most-1, r[0].Nodes)
	require.Contains(t, r[0].Why, "nodes of branch and bound do not decide it")
	r, err = certify.Complete(t.Context(), n.m, one, label, cfg, certify.Effort{Nodes: 200, Time: 1})
	require.NoError(t, err)
	require.Equal(t, certify.Unknown, r[0].Verdict)

	ctx, stop := context.WithCancel(t.Context())
	cfg.Search = certify.SearchFunc(func(_ context.Context, _ *snn.Model, x tensor.NCHW, _ []int, _ float32) (tensor.NCHW, error) {
		stop()
		return x, nil
	})
	r, err = certify.Complete(ctx, n.m, one, label, cfg, certify.Effort{Nodes: 200})
	require.ErrorIs(t, err, context.Canceled)
	for _, r := range r {
		require.Equal(t, certify.Unknown, r.Verdict)
	}

	for want, e := range map[string]certify.Effort{
		"certify: Nodes 0: expected at least 1":   {Time: time.Second},
		"certify: Nodes -3: expected at least 1":  {Nodes: -3},
		"certify: Time -1ns: expected at least 0": {Nodes: 1, Time: -1},
	} {
		_, err := certify.Complete(t.Context(), n.m, one, label, certify.Config{}, e)
		require.EqualError(t, err, want)
	}
	_, err = certify.Complete(t.Context(), n.m, one, label, certify.Config{Epsilon: math.NaN()}, certify.Effort{Nodes: 1})
	require.ErrorContains(t, err, "Epsilon NaN")
}

// In this network a search meets a part in which all neurons' trains are below their lines by more than
// one. It splits a neuron there, too.
func TestCompleteBelowTheLines(t *testing.T) {
	n := &tiny{r: rand.New(rand.NewPCG(1073, 0)), style: random}
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 3, Steps: 4},
		snn.NewSequential(snn.Flatten{}, n.linear(3, 20), n.neurons(), n.linear(20, 19), n.neurons(), n.linear(19, 3)))
	require.NoError(t, err)
	n.m = m
	x := tensor.NewNCHW(1, 1, 1, 3)
	for i := range x.Data {
		x.Data[i] = n.r.Float32()
	}
	r, err := certify.Complete(t.Context(), m, x, n.classes(t, x), certify.Config{Epsilon: .125}, certify.Effort{Nodes: 100})
	require.NoError(t, err)
	require.Greater(t, r[0].Nodes, 1)
}

// Where a shortcut passes the image around the first neurons, their spikes do not decide the output.
func TestCompleteShortcut(t *testing.T) {
	block := &snn.Residual{N1: snn.NewIF(), Conv1: snn.NewConv2D(1, 1, 1, 1, 0, false), N2: snn.NewIF(), Conv2: snn.NewConv2D(1, 1, 1, 1, 0, false), Comb: autograd.NewParam(2)}
	last := snn.NewLinear(2, 2, true)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 2, Steps: 1}, snn.NewSequential(block, snn.Flatten{}, last))
	require.NoError(t, err)
	block.Comb.Import([]float32{1, 1})
	last.Weight.Import([]float32{1, -1, -1, 1}) // the class is that of the larger pixel
	x := tensor.NewNCHW(1, 1, 1, 2)
	copy(x.Data, []float32{.5, .25})
	for eps, want := range map[float64]certify.Verdict{.1: certify.Certified, .2: certify.Broken} {
		r, err := certify.Complete(context.Background(), m, x, []int{0}, certify.Config{Epsilon: eps}, certify.Effort{Nodes: 2000})
		require.NoError(t, err)
		require.Equal(t, want, r[0].Verdict, "ε = %v: %s", eps, r[0].Why)
	}
}

// TestCompleteRivals has a class that the first bounds do not exclude, and another one. The first never
// wins. The other one wins between 0.7 and 0.71, or is excluded at once, by a small margin.
func TestCompleteRivals(t *testing.T) {
	first, n, last := snn.NewLinear(1, 4, true), snn.NewIF(), snn.NewLinear(4, 3, true)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1}, snn.NewSequential(first, n, last))
	require.NoError(t, err)
	first.Weight.Import([]float32{1, 1, 1, 1})
	first.Bias.Import([]float32{.7, .4, .3, .29}) // the neurons fire from 0.3, 0.6, 0.7 and 0.71 on
	last.Bias.Import([]float32{.5, 0, 0})
	x := tensor.NewNCHW(1, 1, 1, 1)
	x.Data[0] = .5
	complete := func(third, fourth float32) certify.Completed {
		last.Weight.Import([]float32{0, 0, 0, 0, -1, 1, 0, 0, 0, 0, third, fourth})
		r, err := certify.Complete(t.Context(), m, x, []int{0}, certify.Config{Epsilon: .5, Method: certify.Intervals{}}, certify.Effort{Nodes: 50})
		require.NoError(t, err)
		require.Greater(t, r[0].Nodes, 2)
		return r[0]
	}
	require.Equal(t, certify.Broken, complete(1, -1).Verdict)
	r := complete(.4, 0)
	require.Equal(t, certify.Certified, r.Verdict)
	require.InDelta(t, .1, r.Margin, 1e-6)
}

// Neurons that see nothing but the padding of a convolution have a constant current.
func TestPaddingBeyondWindow(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 2}, snn.NewSequential(
		snn.NewConv2D(1, 1, 1, 1, 2, true), snn.NewIF(), snn.Flatten{}, snn.NewLinear(64, 2, true),
	))
	require.NoError(t, err)
	m.Init(rng.New(1))
	x := tensor.NewNCHW(1, 1, 4, 4)
	for i := range x.Data {
		x.Data[i] = float32(i) / 16
	}
	logits, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	label := 0
	if logits[1] > logits[0] {
		label = 1
	}
	r, err := certify.Complete(t.Context(), m, x, []int{label}, certify.Config{Epsilon: 1, Method: certify.Intervals{}}, certify.Effort{Nodes: 20})
	require.NoError(t, err)
	require.Positive(t, r[0].Nodes)
}

// Batch norm divides by √(variance + Eps). Without Eps, the neuron would fire.
func TestBatchNormEps(t *testing.T) {
	c, norm, last := snn.NewConv2D(1, 1, 1, 1, 0, false), snn.NewBatchNorm(1), snn.NewLinear(1, 2, true)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1}, snn.NewSequential(c, norm, snn.NewIF(), snn.Flatten{}, last))
	require.NoError(t, err)
	c.Weight.Import([]float32{1})
	norm.Weight.Import([]float32{1})
	norm.RunningMean.Import([]float32{0.494})
	norm.RunningVar.Import([]float32{3e-5}) // the current of 0.5 is 0.006/√(4·10⁻⁵) = 0.95
	last.Weight.Import([]float32{0, 2})
	last.Bias.Import([]float32{1, 0})
	x := tensor.NewNCHW(1, 1, 1, 1)
	x.Data[0] = 0.5
	for _, method := range methods {
		r, err := certify.Certify(t.Context(), m, x, []int{0}, certify.Config{Epsilon: 1e-6, Method: method})
		require.NoError(t, err)
		require.Equal(t, certify.Certified, r[0].Verdict, "%T: %s", method, r[0].Why)
	}
}

// A pass runs the layers with which a residual block was built. One that has been replaced since has no
// certificate: the image's class is 1 from 0.5 on, and that of the new neurons' network never is.
func TestResidualChanged(t *testing.T) {
	block := &snn.Residual{N1: snn.NewIF(), Conv1: snn.NewConv2D(1, 1, 1, 1, 0, false), N2: snn.NewIF(), Conv2: snn.NewConv2D(1, 1, 1, 1, 0, false), Comb: autograd.NewParam(2)}
	first, last := snn.NewConv2D(1, 1, 1, 1, 0, false), snn.NewLinear(1, 2, true)
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 1}, snn.NewSequential(first, block, snn.Flatten{}, last))
	require.NoError(t, err)
	block.Comb.Import([]float32{0, 1})
	for _, c := range []*snn.Conv2D{block.Conv1, block.Conv2} {
		c.Weight.Import([]float32{1})
	}
	first.Weight.Import([]float32{2})
	last.Weight.Import([]float32{0, 1})
	last.Bias.Import([]float32{0.5, 0})
	x := tensor.NewNCHW(1, 1, 1, 1)
	x.Data[0] = 0.375
	check := func() (certify.Result, error) {
		r, err := certify.Certify(t.Context(), m, x, []int{0}, certify.Config{Epsilon: 0.25})
		if err != nil {
			return certify.Result{}, err
		}
		return r[0], nil
	}
	r, err := check()
	require.NoError(t, err)
	require.Equal(t, certify.Unknown, r.Verdict)
	old := block.N1
	block.N1 = &snn.LIF{Decay: 1, Threshold: 4, Surrogate: snn.Triangle{Width: 1}}
	r, err = check()
	require.ErrorContains(t, err, "layer 1: n1 was replaced, added or removed after the network was built", "%v", r)
	block.N1, block.Short = old, snn.NewConv2D(1, 1, 1, 1, 0, false)
	_, err = check()
	require.ErrorContains(t, err, "layer 1: short was replaced, added or removed")
	block.Short = nil
	x.Data[0] = 0.625
	r, err = check()
	require.NoError(t, err)
	require.Equal(t, 1, r.Predicted)
}
