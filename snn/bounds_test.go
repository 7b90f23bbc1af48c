package snn_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// boundedNets are networks of every layer that has bounds, with every kind of neurons.
func boundedNets(t *testing.T) map[string]*snn.Model {
	nets := map[string]*snn.Model{}
	for name, n := range map[string]snn.LIF{
		"IF, soft reset":  {Decay: 1, Threshold: 1, SoftReset: true},
		"from a start":    {Decay: 1, Threshold: 0.7, SoftReset: true, Start: 0.3},
		"IF, hard reset":  {Decay: 1, Threshold: 1},
		"LIF, soft reset": {Decay: 0.75, Threshold: 1, SoftReset: true},
		"LIF, hard reset": {Decay: 0.75, Threshold: 1},
	} {
		neurons := func() *snn.LIF {
			n := n
			n.Surrogate, n.DetachReset = snn.Triangle{Width: 1}, true
			return &n
		}
		for _, spikes := range []bool{false, true} { // the outputs are spikes
			body := snn.NewSequential(snn.NewConv2D(2, 6, 3, 1, 1, true), snn.NewBatchNorm(6), neurons(), snn.AvgPool{K: 2})
			body.Append("inner", snn.NewSequential(snn.NewConv2D(6, 17, 3, 2, 1, false), neurons(), &snn.Dropout{P: 0.5}, snn.Flatten{}))
			body.Append("last", snn.NewLinear(17*2*2, 4, true))
			if spikes {
				name += ", spikes as outputs"
				body.Append("out", neurons())
			}
			m, err := snn.NewModel(snn.Config{Channels: 2, Height: 7, Width: 8, Steps: 4, Mean: []float32{0.3, 0.5}, Std: []float32{0.4, 0.25}}, body)
			require.NoError(t, err)
			m.Init(rng.New(3))
			r := rng.New(4).Rand()
			for _, p := range m.State()[2:] {
				if len(p.Shape) > 1 {
					continue
				}
				p.Fill(func(int) (float32, error) { // biases, and batch norm with weights of both signs
					v := float32(r.NormFloat64()) * 0.7
					if p.Name == "1.running_var" {
						v = v*v + 0.3
					}
					return v, nil
				})
			}
			nets[name] = m
		}
	}
	return nets
}

func randomImages(n int, seed uint64) tensor.NCHW {
	x, r := tensor.NewNCHW(n, 2, 7, 8), rng.New(seed).Rand()
	for i := range x.Data {
		x.Data[i] = r.Float32()
	}
	return x
}

func worstOf(t *testing.T, m *snn.Model, x tensor.NCHW, eps float32, labels []int) (worst []float32) {
	require.NoError(t, m.DifferentiateBounds(snn.Pass{}, x, eps, labels, func(w []float32) ([]float32, error) {
		worst = append(worst, w...)
		return nil, nil
	}))
	return worst
}

// No image of the ball has a larger difference of logits than the worst ones. Corners of the ball
// come near.
func TestWorstLogitsBoundTheBall(t *testing.T) {
	labels := []int{0, 1, 2, 3, 0, 1}
	for name, m := range boundedNets(t) {
		t.Run(name, func(t *testing.T) {
			for _, eps := range []float32{0.01, 0.05, 0.3} {
				x := randomImages(len(labels), 5)
				worst := worstOf(t, m, x, eps, labels)
				near, r := math.Inf(1), rng.New(6).Rand()
				for trial := range 60 {
					y := x.Clone()
					for i, v := range x.Data {
						d := eps * float32(2*r.Float64()-1)
						if trial%3 > 0 { // corners
							d = eps * float32(1-2*r.IntN(2))
						}
						y.Data[i] = min(max(v+d, 0), 1)
					}
					z, err := m.Logits(snn.Pass{}, y)
					require.NoError(t, err)
					for n, label := range labels {
						for k := range 4 {
							slack := float64(worst[n*4+k]) - float64(worst[n*4+label]) - float64(z[n*4+k]-z[n*4+label])
							require.GreaterOrEqual(t, slack, -1e-5, "image %d, class %d, trial %d", n, k, trial)
							if k != label {
								near = min(near, slack)
							}
						}
					}
				}
				t.Logf("ε = %v: the nearest bound is off by %.3f", eps, near)
			}
		})
	}
}

// With a leak, a larger current may give fewer spikes two layers later: here 0.84375 gives one, and
// 0.875 none. So spikes must not be counted.
func TestBoundsOfLeakDoNotCount(t *testing.T) {
	neurons := func() *snn.LIF {
		return &snn.LIF{Decay: 0.5, Threshold: 1, SoftReset: true, Surrogate: snn.Triangle{Width: 1}}
	}
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 1, Width: 1, Steps: 5}, snn.NewSequential(
		snn.NewLinear(1, 1, false), neurons(), snn.NewLinear(1, 1, false), neurons(), snn.NewLinear(1, 2, false)))
	require.NoError(t, err)
	for i, w := range [][]float32{{1}, {0.625}, {0, 1}} {
		m.Params()[i].Import(w)
	}
	x := tensor.NewNCHW(3, 1, 1, 1)
	copy(x.Data, []float32{0.84375, 0.875, 0.859375})
	z, err := m.Logits(snn.Pass{}, x)
	require.NoError(t, err)
	require.Equal(t, []float32{0.2, 0}, []float32{z[1], z[3]})
	worst := worstOf(t, m, x.Slice(2, 3), 0.015625, []int{0})
	assert.GreaterOrEqual(t, worst[1]-worst[0], float32(0.2))
}

// The ball is clipped to [0,1], so that the bounds at its edge are those of half the ball.
func TestBoundsAreClipped(t *testing.T) {
	labels := []int{0, 1}
	for name, m := range boundedNets(t) {
		for edge, center := range map[float32]float32{0: 0.25, 1: 0.75} {
			at, half := tensor.NewNCHW(2, 2, 7, 8), tensor.NewNCHW(2, 2, 7, 8)
			for i := range at.Data {
				at.Data[i], half.Data[i] = edge, center
			}
			assert.Equal(t, worstOf(t, m, half, 0.25, labels), worstOf(t, m, at, 0.5, labels), "%s at %v", name, edge)
		}
	}
}

// Without a radius, the worst logits are the logits, and their gradients are those of the network.
func TestBoundsWithoutRadius(t *testing.T) {
	labels := []int{0, 1, 2, 3, 0, 1}
	x := randomImages(len(labels), 5)
	seed := make([]float32, len(labels)*4)
	for i, r := 0, rng.New(8).Rand(); i < len(seed); i++ {
		seed[i] = float32(r.NormFloat64())
	}
	for name, m := range boundedNets(t) {
		t.Run(name, func(t *testing.T) {
			gradients := func() (g [][]float32) {
				for _, p := range m.Params() {
					g = append(g, p.ExportGrad())
					p.ClearGrad()
				}
				return g
			}
			var logits []float32
			require.NoError(t, m.ParamGradients(snn.Pass{}, x, func(z []float32) []float32 { logits = append(logits, z...); return seed }))
			want := gradients()
			for _, threads := range []int{1, 3} {
				require.NoError(t, m.DifferentiateBounds(snn.Pass{Threads: threads}, x, 0, labels, func(w []float32) ([]float32, error) {
					assert.InDeltaSlice(t, logits, w, 1e-5)
					return seed, nil
				}))
				for i, g := range gradients() {
					require.NotNil(t, g)
					assert.InDeltaSlice(t, want[i], g, 1e-4, m.Params()[i].Name)
				}
			}
		})
	}
}

// A larger ball has larger bounds, and its gradients are the same bits at any number of threads.
func TestBoundsGradientsAreDeterministic(t *testing.T) {
	labels := []int{0, 1, 2, 3, 0, 1}
	x := randomImages(len(labels), 5)
	for name, m := range boundedNets(t) {
		t.Run(name, func(t *testing.T) {
			var want [][]float32
			for _, threads := range []int{1, 2, 5} {
				require.NoError(t, m.DifferentiateBounds(snn.Pass{Threads: threads}, x, 0.1, labels, func(w []float32) ([]float32, error) {
					grad := make([]float32, len(w))
					autograd.CrossEntropy(nil, grad, w, labels, 0)
					return grad, nil
				}))
				var got [][]float32
				for _, p := range m.Params() {
					got = append(got, p.ExportGrad())
					p.ClearGrad()
				}
				if want == nil {
					want = got
				}
				assert.Equal(t, want, got)
			}
			small, large := worstOf(t, m, x, 0.05, labels), worstOf(t, m, x, 0.1, labels)
			for i, label := range labels {
				for k := range 4 {
					assert.GreaterOrEqual(t, large[i*4+k]-large[i*4+label], small[i*4+k]-small[i*4+label]-1e-5)
				}
			}
		})
	}
}

func TestBoundsRefuse(t *testing.T) {
	soft := func() *snn.LIF {
		return &snn.LIF{Decay: 1, Threshold: 1, SoftReset: true, Surrogate: snn.Triangle{Width: 1}}
	}
	leaky := snn.NewLIF(0.5)
	leaky.Start = 0.25
	linear := func() *snn.Linear { return snn.NewLinear(16, 3, true) }
	for want, layers := range map[string][]snn.Layer{
		"snn: layer 1: a snn.MaxPool has no bounds: expected an snn.BoundedLayer, such as Conv2D, Linear, BatchNorm, AvgPool, Flatten, Dropout or LIF": {soft(), snn.MaxPool{K: 2}, snn.Flatten{}, snn.NewLinear(4, 3, true)},
		"snn: layer 2: no bounds for neurons that have a decay or a hard reset, after ones that have neither: expected the same kind in all layers":    {soft(), snn.Flatten{}, snn.NewIF(), linear()},
		"snn: layer 0: no bounds for neurons with Reset, Start or DecayInput and a decay or a hard reset: expected them unset":                         {leaky, snn.Flatten{}, linear()},
	} {
		m, err := snn.NewModel(snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 3}, snn.NewSequential(layers...))
		require.NoError(t, err)
		assert.EqualError(t, m.ValidateBounds(), want)
		assert.EqualError(t, m.DifferentiateBounds(snn.Pass{}, tensor.NewNCHW(1, 1, 4, 4), 0.1, []int{0}, nil), want)
	}
	m, err := snn.NewModel(snn.Config{Channels: 1, Height: 4, Width: 4, Steps: 3}, snn.NewSequential(snn.Flatten{}, snn.NewIF(), linear()))
	require.NoError(t, err)
	run := func(p snn.Pass, x tensor.NCHW, eps float32) error {
		return m.DifferentiateBounds(p, x, eps, make([]int, x.N), func(w []float32) ([]float32, error) { return make([]float32, len(w)), nil })
	}
	x := tensor.NewNCHW(2, 1, 4, 4)
	require.NoError(t, run(snn.Pass{}, x, 0.1))
	for _, eps := range []float32{-0.1, 1.5, float32(math.NaN())} {
		assert.EqualError(t, run(snn.Pass{}, x, eps), fmt.Sprintf("snn: eps %v: expected a number in [0, 1]", eps))
	}
	assert.EqualError(t, run(snn.Pass{Train: true}, x, 0.1), "snn: bounds in training mode: expected Pass.Train unset")
	assert.EqualError(t, run(snn.Pass{Gradient: snn.CBA{}}, x, 0.1), "snn: bounds under CBA: expected a gradient with the forward pass of an evaluation")
	assert.EqualError(t, run(snn.Pass{Gradient: snn.BPTR{}}, x, 0.1), "snn: layer 1: bounds under BPTR: expected BPTT, or neurons with decay 1 and soft reset")
	assert.EqualError(t, run(snn.Pass{Gradient: snn.BPTT{Surrogate: snn.Triangle{}}}, x, 0.1), "snn: BPTT: surrogate triangle 0: expected a positive number")
	assert.EqualError(t, run(snn.Pass{}, tensor.NewFrames(tensor.Shape{N: 1, Steps: 3, C: 1, H: 4, W: 4}), 0.1), "snn: no bounds for examples of 3 frames: expected images")
	assert.PanicsWithValue(t, "snn: 1 labels for 2 images", func() { m.DifferentiateBounds(snn.Pass{}, x, 0.1, []int{0}, nil) })
	x.Data[3] = 2
	assert.ErrorContains(t, run(snn.Pass{}, x, 0.1), "snn: ")
	x.Data[3] = 0
	m.Encoder = snn.Poisson{}
	assert.EqualError(t, m.ValidateBounds(), "snn: no bounds for the encoder snn.Poisson: expected Direct")
	m.Encoder = snn.Direct{}
	m.Params()[0].MutableData()[0] = float32(math.Inf(1))
	assert.ErrorContains(t, run(snn.Pass{}, x, 0.1), "finite")
}
