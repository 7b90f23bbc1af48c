package autograd

import (
	"fmt"
	"math/rand/v2"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// dropout keeps its mask, one for all steps or one for each.
type dropout struct {
	x, y      *Value
	mask      *Value // [C/16][N·(1 or Steps)][H][W]
	scale     float32
	everyStep bool
}

// Dropout zeroes every element of x with probability p in [0,1) and scales the
// others by 1/(1−p). One mask serves all steps of an image, or, if everyStep is
// set, each step has its own: then a value that is the same at every step gets steps
// of them. The mask of image n comes from keys[n] alone.
//
// Srivastava et al., Dropout, 2014.
func Dropout(t *Tape, x *Value, p float32, everyStep bool, steps int, keys []rng.Key) *Value {
	if !(p >= 0 && p < 1) || len(keys) != x.shape.N {
		panic(fmt.Sprintf("autograd: Dropout: probability %v, %d keys for %v", p, len(keys), x.shape))
	}
	x = Densify(t, x)
	if everyStep && x.shape.Steps < steps {
		x = RepeatSteps(t, x, steps)
	}
	op := &dropout{x: x, scale: 1 / (1 - p), everyStep: everyStep}
	sh := x.shape
	if !everyStep {
		sh.Steps = 1
	}
	op.mask = t.spikes(sh, false)
	px := sh.Pixels()
	for n, key := range keys {
		r := key.Rand()
		for b := range sh.Blocks() {
			m := op.mask.spikes[(b*sh.N+n)*sh.Steps*px:][:sh.Steps*px]
			for i := range m {
				m[i] = bernoulli(r, 1-p)
			}
		}
	}
	op.y = t.dense(x.shape, x.needsGrad)
	op.apply(t, op.y.dense, x.dense, x.shape.Steps, false)
	t.record(op)
	return op.y
}

// bernoulli draws 16 independent bits that are 1 with probability p.
func bernoulli(r *rand.Rand, p float32) (w uint16) {
	for l := range tensor.Lanes {
		if r.Float32() < p {
			w |= 1 << l
		}
	}
	return w
}

func (o *dropout) apply(t *Tape, dst, src []float32, steps int, add bool) {
	sh := o.x.shape
	if o.everyStep {
		kernel.MaskScale(dst, src, o.mask.spikes, o.scale, add, t.Threads)
		return
	}
	kernel.Gate(dst, src, o.mask.spikes, nil, o.scale, sh.Blocks()*sh.N, sh.N, steps, sh.Pixels(), add, t.Threads)
}

func (o *dropout) Output() *Value { return o.y }

func (o *dropout) Backward(t *Tape) {
	if o.everyStep {
		t.everyStep(o.y)
	}
	s := t.open(o.x, o.y.gradSteps)
	o.apply(t, s.buf, o.y.grad, s.steps, s.add)
	t.close(s)
}
