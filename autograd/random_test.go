package autograd_test

import (
	"math"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ones is a value of ones on a tape.
func ones(t *autograd.Tape, s tensor.Shape) *autograd.Value {
	return t.Input(elementwise(s, func(_, _, _, _, _ int) float64 { return 1 }).dense(), false)
}

func imageKeys(n int) []rng.Key {
	keys := make([]rng.Key, n)
	for i := range keys {
		keys[i] = rng.New(21).Derive("image", uint64(i))
	}
	return keys
}

// Each element is dropped with probability p: over n elements the count is within
// 4 standard deviations, and no element is scaled by anything but 0 or 1/(1−p). The
// mask is the same at all steps of an image, or not, as asked.
func TestDropoutStatistics(t *testing.T) {
	s := tensor.Shape{N: 4, Steps: 3, C: 33, H: 8, W: 9}
	for _, p := range []float32{0, 0.1, 0.5, 0.9} {
		for _, everyStep := range []bool{false, true} {
			tape := &autograd.Tape{}
			y := autograd.Dropout(tape, ones(tape, s), p, everyStep, s.Steps, imageKeys(s.N)).Dense()
			kept, repeated := 0, 0
			each(s, func(n, step, c, y2, x int) {
				v := y.At(n, step, c, y2, x)
				if v != 0 {
					require.InEpsilon(t, 1/(1-p), v, 1e-6)
					kept++
				}
				if v == y.At(n, 0, c, y2, x) {
					repeated++
				}
			})
			total := s.Frames() * s.Neurons()
			independent := float64(total)
			if !everyStep {
				independent /= float64(s.Steps)
			}
			q := 1 - float64(p)
			assert.InDelta(t, q, float64(kept)/float64(total), 4*math.Sqrt(q*(1-q)/independent), "p %v", p)
			if !everyStep || p == 0 {
				assert.Equal(t, total, repeated)
			} else {
				// Two independent masks agree with probability q² + (1−q)²; the first step agrees with itself.
				agree := q*q + (1-q)*(1-q)
				want := (1 + agree*float64(s.Steps-1)) / float64(s.Steps)
				assert.InDelta(t, want, float64(repeated)/float64(total), 0.02)
			}
		}
	}
}

// An image's mask and spikes come from its key alone: the same in any batch, and
// different under another key.
func TestRandomOpsDependOnTheKeyAlone(t *testing.T) {
	s := tensor.Shape{N: 3, Steps: 1, C: 17, H: 3, W: 2}
	keys := imageKeys(s.N)
	half := func(t *autograd.Tape, n int) *autograd.Value {
		one := s
		one.N = n
		return t.Input(elementwise(one, func(_, _, _, _, _ int) float64 { return 0.5 }).dense(), false)
	}
	for name, op := range map[string]func(t *autograd.Tape, n int, keys []rng.Key) array{
		"dropout": func(t *autograd.Tape, n int, keys []rng.Key) array {
			return ofDense(autograd.Dropout(t, half(t, n), 0.5, false, 4, keys).Dense())
		},
		"dropout of a value with steps": func(t *autograd.Tape, n int, keys []rng.Key) array {
			return ofDense(autograd.Dropout(t, autograd.RepeatSteps(t, half(t, n), 4), 0.5, false, 4, keys).Dense())
		},
		"dropout at every step": func(t *autograd.Tape, n int, keys []rng.Key) array {
			return ofDense(autograd.Dropout(t, half(t, n), 0.5, true, 4, keys).Dense())
		},
		"poisson": func(t *autograd.Tape, n int, keys []rng.Key) array {
			return ofDense(autograd.Poisson(t, half(t, n), 4, keys).Spikes().Dense())
		},
	} {
		t.Run(name, func(t *testing.T) {
			used := &autograd.Tape{}
			batch := op(used, s.N, keys)
			size := len(batch.v) / s.N
			for n := range s.N {
				used.Reset()
				alone := op(used, 1, keys[n:n+1])
				assert.Equal(t, batch.v[n*size:(n+1)*size], alone.v)
			}
			assert.NotEqual(t, batch.v[:size], batch.v[size:2*size])
		})
	}
}

// A pixel fires with its value as the probability, within 4 standard deviations; 0
// never and 1 always. The gradient goes straight through.
func TestPoisson(t *testing.T) {
	const steps = 4000
	x := tensor.NewNCHW(2, 17, 1, 2)
	for i := range x.Data {
		x.Data[i] = float32(i%11) / 10
	}
	tape := &autograd.Tape{}
	leaf := tape.Leaf(x, true)
	y := autograd.Poisson(tape, leaf, steps, imageKeys(x.N))
	fired := make([]int, len(x.Data))
	both := make([]int, len(x.Data)) // at a step and the one before
	sp := y.Spikes()
	i := 0
	each(leaf.Shape(), func(n, _, c, h, w int) {
		for step := range steps {
			if sp.At(n, step, c, h, w) {
				fired[i]++
				if step > 0 && sp.At(n, step-1, c, h, w) {
					both[i]++
				}
			}
		}
		p := float64(x.Data[i])
		assert.InDelta(t, p, float64(fired[i])/steps, 4*math.Sqrt(p*(1-p)/steps))
		assert.InDelta(t, p*p, float64(both[i])/(steps-1), 6*math.Sqrt(p*p*(1-p*p)/steps), "steps are not independent")
		i++
	})
	require.Equal(t, sum(fired), sp.Count())

	seed := elementwise(leaf.Shape().WithSteps(1), func(n, _, c, h, w int) float64 { return float64(n + c - w) })
	tape.BackwardFrom(y, seed.dense())
	g := ofDense(leaf.Grad())
	for i, v := range seed.v {
		require.Equal(t, v*steps, g.v[i])
	}
}

// The spikes of a step come from its own frame: frames of zeros and ones come out as they
// are, and equal frames as their image. Each frame gets the gradient of its step.
func TestPoissonOfFrames(t *testing.T) {
	x := tensor.NewFrames(tensor.Shape{N: 2, Steps: 3, C: 17, H: 1, W: 2})
	for i := range x.Data {
		x.Data[i] = float32(i / 3 % 2)
	}
	tape := &autograd.Tape{}
	leaf := tape.Leaf(x, true)
	y := autograd.Poisson(tape, leaf, 3, imageKeys(2))
	require.Equal(t, x, y.Spikes().Dense().Unpack())
	seed := elementwise(y.Shape(), func(n, step, c, h, w int) float64 { return float64(n + 10*step + c - w) })
	tape.BackwardFrom(y, seed.dense())
	require.Equal(t, seed, ofDense(leaf.Grad()))

	one := tensor.NewNCHW(2, 17, 1, 2)
	for i := range one.Data {
		one.Data[i] = float32(i%11) / 10
	}
	all := tensor.NewFrames(x.Shape())
	for i := range 6 {
		copy(all.Data[i*one.Pixels():], one.Image(i/3))
	}
	want := autograd.Poisson(tape, tape.Leaf(one, false), 3, imageKeys(2)).Spikes()
	require.Equal(t, want, autograd.Poisson(tape, tape.Leaf(all, false), 3, imageKeys(2)).Spikes())
}

// The spikes of a pixel come from one random number each: a brighter pixel keeps the spikes
// that it had, and no other pixel's spikes change. A pixel of 2⁻¹⁶ fires, 0 does not, and a
// value between rounds to the nearest of them.
func TestPoissonOfOnePixel(t *testing.T) {
	draw := func(v float32, threads int) [][]uint16 {
		x := tensor.NewNCHW(1, 3, 3, 2)
		for i := range x.Data {
			x.Data[i] = 0.5
		}
		x.Data[7] = v // channel 1, pixel 1
		tape := &autograd.Tape{Threads: threads}
		y := autograd.Poisson(tape, tape.Leaf(x, false), 1<<16, imageKeys(1)).Spikes()
		px := make([][]uint16, 6)
		for i, w := range y.Bits {
			px[i%6] = append(px[i%6], w)
		}
		return px
	}
	fires := func(px [][]uint16) (n int) {
		for _, w := range px[1] {
			n += int(w >> 1 & 1)
		}
		return n
	}
	dim, bright := draw(0.25, 1), draw(0.75, 1)
	require.Equal(t, bright, draw(0.75, 3))
	for i := range dim {
		for k, w := range dim[i] {
			differ := w ^ bright[i][k]
			require.True(t, differ == 0 || i == 1 && differ == 2 && w&2 == 0, "pixel %d, step %d: %b and %b", i, k, w, bright[i][k])
		}
	}
	assert.Zero(t, fires(draw(0.49/(1<<16), 1)))
	assert.InDelta(t, 1, fires(draw(0.51/(1<<16), 1)), 4) // of 2¹⁶ draws
	assert.NotZero(t, fires(draw(8./(1<<16), 1)))
	assert.Equal(t, 1<<16, fires(draw(1, 1)))
}

func sum(v []int) int {
	n := 0
	for _, x := range v {
		n += x
	}
	return n
}
