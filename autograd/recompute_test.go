package autograd_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
)

// drawn returns parameters of random values.
func drawn(r *rand.Rand, shape ...int) *autograd.Param {
	p := autograd.NewParam(shape...)
	p.Import(float32s(normals(r, p.Len())))
	return p
}

// Averages of spikes and 1×1 convolutions of spikes are computed again in the backward pass, if
// that is all that reads them. They are not kept then, and the gradients have the same bits.
func TestRecomputedValues(t *testing.T) {
	sh := tensor.Shape{N: 4, Steps: 4, C: 64, H: 16, W: 16}
	unit := 4 * sh.Floats()
	for name, c := range map[string]struct {
		run   func(t *autograd.Tape, x *autograd.Value, w []*autograd.Param, done func(*autograd.Value)) *autograd.Value
		saved int // bytes of what is not kept
	}{
		"pooled": {func(t *autograd.Tape, x *autograd.Value, w []*autograd.Param, done func(*autograd.Value)) *autograd.Value {
			p := autograd.AvgPool(t, x, 2, 2, 2)
			y := autograd.Conv2D(t, p, w[0], nil, 1, 1)
			done(p)
			return y
		}, unit / 4},
		"pooled, in three layers": {func(t *autograd.Tape, x *autograd.Value, w []*autograd.Param, done func(*autograd.Value)) *autograd.Value {
			p := autograd.AvgPool(t, x, 2, 2, 2)
			a, b := autograd.Conv2D(t, p, w[0], nil, 1, 1), autograd.Conv2D(t, p, w[0], nil, 1, 1)
			s := autograd.Add(t, autograd.Add(t, a, b), p)
			done(p)
			return s
		}, unit / 4},
		"shortcut": {func(t *autograd.Tape, x *autograd.Value, w []*autograd.Param, done func(*autograd.Value)) *autograd.Value {
			a, b := autograd.Conv2D(t, x, w[0], nil, 2, 1), autograd.Conv2D(t, x, w[1], w[2], 2, 0)
			y := autograd.Convex(t, a, b, w[3])
			done(a)
			done(b)
			return y
		}, unit / 4},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		w := []*autograd.Param{drawn(r, 16, sh.C, 3, 3), drawn(r, 16, sh.C, 1, 1), drawn(r, 16), drawn(r, 2)}
		if name == "shortcut" {
			w[0], w[1], w[2] = drawn(r, sh.C, sh.C, 3, 3), drawn(r, sh.C, sh.C, 1, 1), drawn(r, sh.C)
		}
		if name == "pooled, in three layers" {
			w[0] = drawn(r, sh.C, sh.C, 3, 3)
		}
		run := func(release bool) (grads [][]float32, kept int) {
			tape := &autograd.Tape{Params: true}
			x := tape.InputSpikes(spikesOf(sh), true)
			let := func(v *autograd.Value) {
				if release {
					tape.Release(v)
				}
			}
			y := c.run(tape, x, w, let)
			extra := tape.Scratch(4 * sh.Floats()) // so much that the peak is now
			kept = tape.Peak() - 4*len(extra)
			tape.FreeScratch(extra)
			seed := make([]float32, y.Shape().N*y.Shape().Neurons())
			for i := range seed {
				seed[i] = float32(i%7) - 3
			}
			m := autograd.MeanOverTime(tape, y)
			tape.Backward(m, seed)
			grads = append(grads, slices.Clone(x.Grad().Data))
			for _, p := range w {
				grads = append(grads, p.ExportGrad())
				p.ClearGrad()
			}
			return grads, kept
		}
		want, all := run(false)
		got, kept := run(true)
		assert.Equal(t, want, got, name)
		assert.InDelta(t, c.saved, all-kept, float64(unit)/16, name)
	}
}
