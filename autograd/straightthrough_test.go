package autograd_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Every value gets numbers of its own image and step, whatever the batch and the threads. The
// padding stays zero. The gradient is that of the identity: the sum over the steps for a value of
// one step, and that of each step for frames.
func TestStraightThrough(t *testing.T) {
	const N, C, T = 3, 18, 4
	images := tensor.NewNCHW(N, C, 2, 3)
	r := rng.New(1).Rand()
	for i := range images.Data {
		images.Data[i] = r.Float32()
	}
	keys := make([]rng.Key, N)
	for i := range keys {
		keys[i] = rng.New(7).Derive("image", uint64(i))
	}
	noise := func(v float32, r *rand.Rand) float32 { return v + 1 + r.Float32() }
	run := func(x tensor.NCHW, keys []rng.Key, threads int) (y *tensor.Dense, gradient []float32) {
		tape := &autograd.Tape{Threads: threads}
		leaf := tape.Leaf(x, true)
		used := tape.Scratch(leaf.Shape().WithSteps(T).Floats()) // memory with something in it
		for i := range used {
			used[i] = 9
		}
		tape.FreeScratch(used)
		out := autograd.StraightThrough(tape, leaf, T, keys, noise)
		y = &tensor.Dense{Shape: out.Shape(), Data: append([]float32{}, tape.Floats(out)...)}
		seed := tensor.NewDense(out.Shape())
		for i := range seed.Data {
			if y.Data[i] != 0 {
				seed.Data[i] = y.Data[i]
			}
		}
		tape.BackwardFrom(out, seed)
		return y, leaf.Grad().Unpack().Data
	}
	y, g := run(images, keys, 1)
	assert.Equal(t, T, y.Steps)
	values := y.Unpack() // [N, T, C, 2, 3]
	for n := range N {
		for k, v := range images.Image(n) {
			sum := float32(0)
			for s := range T {
				at := func(s int) float32 { return values.Image(n)[s*C*6+k] } // [T, C, 2, 3]
				noisy := at(s)
				sum += noisy
				assert.True(t, noisy >= v+1 && noisy < v+2)
				assert.NotEqual(t, noisy, at((s+1)%T))
			}
			assert.InDelta(t, sum, g[n*len(images.Image(n))+k], 1e-5)
		}
	}
	for i, v := range y.Data { // channels 18 to 31 of the second block
		if block := len(y.Data) / 2; i >= block && (i-block)%tensor.Lanes >= C-tensor.Lanes {
			require.Zero(t, v)
		}
	}
	again, _ := run(images, keys, 3)
	assert.Equal(t, y, again)
	last := tensor.NewNCHW(1, C, 2, 3)
	copy(last.Data, images.Image(2))
	alone, _ := run(last, keys[2:], 1)
	assert.Equal(t, values.Data[len(values.Data)*2/3:], alone.Unpack().Data)

	frames := tensor.NewFrames(tensor.Shape{N: N, Steps: T, C: C, H: 2, W: 3})
	for i := range frames.Data {
		frames.Data[i] = r.Float32()
	}
	y, g = run(frames, keys, 2)
	values = y.Unpack()
	for i, v := range frames.Data {
		assert.True(t, values.Data[i] >= v+1 && values.Data[i] < v+2)
		assert.Equal(t, values.Data[i], g[i])
	}
	tape := &autograd.Tape{}
	assert.Panics(t, func() { autograd.StraightThrough(tape, tape.Leaf(images, false), T, keys[1:], noise) })
	assert.Panics(t, func() { autograd.StraightThrough(tape, tape.Leaf(frames, false), T+1, keys, noise) })
}
