package autograd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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
		"pooled, in neurons of a model": {func(t *autograd.Tape, x *autograd.Value, w []*autograd.Param, done func(*autograd.Value)) *autograd.Value {
			p := autograd.AvgPool(t, x, 2, 2, 2)
			a := autograd.Conv2D(t, p, w[0], nil, 1, 1)
			s := autograd.Add(t, a, autograd.FireModelThroughTime(t, p, smooth{}, w[4:], 4, one{}))
			done(p)
			return s
		}, unit / 4},
		"pooled, in bounds": {func(t *autograd.Tape, x *autograd.Value, w []*autograd.Param, done func(*autograd.Value)) *autograd.Value {
			p := autograd.AvgPool(t, x, 2, 2, 2)
			a := autograd.Conv2D(t, p, w[0], nil, 1, 1)
			s := autograd.Add(t, a, autograd.FireBound(t, p, p, autograd.Dynamics{Decay: 1, Threshold: 1}, 4, one{}, autograd.Upper))
			done(p)
			return s
		}, unit / 4},
		"shortcut": {func(t *autograd.Tape, x *autograd.Value, w []*autograd.Param, done func(*autograd.Value)) *autograd.Value {
			a, b := autograd.Conv2D(t, x, w[1], w[2], 2, 0), autograd.Conv2D(t, x, w[0], nil, 2, 1)
			y := autograd.Convex(t, a, b, w[3])
			done(a)
			done(b) // which follows from y and a
			return y
		}, unit / 2},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		w := []*autograd.Param{drawn(r, 16, sh.C, 3, 3), drawn(r, 16, sh.C, 1, 1), drawn(r, 16), drawn(r, 2), drawn(r)}
		if name == "shortcut" {
			w[0], w[1], w[2] = drawn(r, sh.C, sh.C, 3, 3), drawn(r, sh.C, sh.C, 1, 1), drawn(r, sh.C)
			w[3].Import([]float32{0.4, 0.6})
		}
		if strings.HasPrefix(name, "pooled, in") {
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

// The gradients of the weights of a convex combination are Σ a·∂y and Σ b·∂y, whatever the
// weights. With weights that can be divided by, the tape keeps the result and one branch.
func TestConvexWeights(t *testing.T) {
	sh := tensor.Shape{N: 2, Steps: 4, C: 16, H: 8, W: 8}
	for _, steps := range [][2]int{{4, 4}, {1, 4}, {4, 1}} {
		for _, w := range [][]float32{{.5, .5}, {1, 0}, {0, 1}, {.02, .98}, {.98, .02}, {.06, .94}, {.059, .941}, {-.3, 2}, {0, 0}, {1e-5, 1}, {1, 1e-5}, {1e-30, 1e-31}, {1e-31, 1e-30}} {
			r := rand.New(rand.NewPCG(3, 4))
			branch := func(steps int) *tensor.Dense {
				d := tensor.NewDense(sh.WithSteps(steps))
				copy(d.Data, float32s(normals(r, len(d.Data))))
				return d
			}
			a, b, p := branch(steps[0]), branch(steps[1]), autograd.NewParam(2)
			p.Import(w)
			tape := &autograd.Tape{Params: true}
			y := autograd.Convex(tape, tape.Input(a, true), tape.Input(b, true), p)
			seed := branch(sh.Steps)
			tape.BackwardFrom(y, seed)
			got := p.ExportGrad()
			for i, v := range []*tensor.Dense{a, b} {
				var sum, size float64
				frame := sh.Pixels() * tensor.Lanes
				for k, g := range seed.Data {
					at := k
					if v.Steps == 1 {
						at = k/(sh.Steps*frame)*frame + k%frame
					}
					sum += float64(v.Data[at]) * float64(g)
					size += math.Abs(float64(v.Data[at]) * float64(g))
				}
				assert.InDelta(t, sum, got[i], 1e-7*size, fmt.Sprintf("weights %v, steps %v, branch %d", w, steps, i))
			}
		}
	}
}
