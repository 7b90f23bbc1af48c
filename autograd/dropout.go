package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor/rng"
)

// dropout keeps its mask, which is the same at every step or different at each.
type dropout struct {
	x, y      *Value
	mask      *Value // [C/16][N·(1 or Steps)][H][W]
	scale     float32
	everyStep bool
}

// Dropout sets each element of x to zero with probability p and multiplies the others by
// 1/(1−p). An image has one mask for all steps. If everyStep is set, each step has a mask
// of its own, and the result of an x of one step has the given steps.
//
// The probability is rounded to a multiple of 2⁻²⁴.
//
// keys holds one key for each image. The mask of image n depends on keys[n] alone. Dropout
// panics if p is not in [0,1) or if the number of keys is not N.
//
// Source: Srivastava et al., Dropout, 2014.
func Dropout(t *Tape, x *Value, p float32, everyStep bool, steps int, keys []rng.Key) *Value {
	if !(p >= 0 && p < 1) || len(keys) != x.shape.N {
		panic(fmt.Sprintf("autograd: Dropout: probability %v, %d keys for %v", p, len(keys), x.shape))
	}
	in := x
	x = Densify(t, x)
	if everyStep && x.shape.Steps < steps {
		once := x
		x = RepeatSteps(t, once, steps)
		t.letGo(once, in)
	}
	op := &dropout{x: x, scale: 1 / (1 - p), everyStep: everyStep}
	sh := x.shape
	if !everyStep {
		sh.Steps = 1
	}
	op.mask = t.NewSpikes(sh, false)
	words, px := t.Words(op.mask), sh.Pixels()
	parallel.For(t.Threads, sh.Frames(), func(i int) { // a frame is a step of an image
		d := drawers.Get().(*drawer)
		defer drawers.Put(d)
		d.Seed(keys[i/sh.Steps].Derive("step", uint64(i%sh.Steps)))
		for b := range sh.Blocks() {
			bernoulli(words[(b*sh.Frames()+i)*px:][:px], 1-p, &d.Random)
		}
	})
	op.y = t.NewDense(x.shape, x.needsGrad)
	op.y.winograd = x.winograd
	op.apply(t, t.Floats(op.y), t.Floats(x), x.shape.Steps, false)
	t.Record(op, op.mask)
	t.Release(op.mask)
	t.letGo(x, in)
	return op.y
}

func (o *dropout) apply(t *Tape, dst, src []float32, steps int, add bool) {
	sh := o.x.shape
	if o.everyStep {
		kernel.MaskScale(dst, src, t.Words(o.mask), o.scale, add, t.Threads)
		return
	}
	kernel.Gate(dst, src, t.Words(o.mask), nil, o.scale, sh.Blocks()*sh.N, sh.N, steps, sh.Pixels(), add, t.Threads)
}

func (o *dropout) Output() *Value { return o.y }

func (o *dropout) Backward(t *Tape) {
	if o.everyStep {
		t.GradEveryStep(o.y)
	}
	dy, steps := t.Grad(o.y)
	s := t.OpenGrad(o.x, steps)
	o.apply(t, s.Data, dy, steps, s.Add)
	t.CloseGrad(s)
}
