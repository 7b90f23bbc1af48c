package autograd

import (
	"fmt"
	"math/rand/v2"

	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// straightThrough is an operation with the gradient of y(t) = x(t). Poisson records it, too.
type straightThrough struct{ x, y *Value }

// StraightThrough returns y(t) = f(x(t), r) for every element of x, with random numbers from r.
// x has the given steps, or one step that stands for all. The backward pass is the
// straight-through estimator, that of y(t) = x(t): ∂x = Σₜ ∂y(t), or ∂x(t) = ∂y(t) if x has all
// steps.
//
// keys holds one key for each image. The values of image n depend on keys[n] and on that image
// alone. f may be called from several goroutines, with an r for each. StraightThrough panics if x
// has neither one step nor steps of them, or if the number of keys is not N.
func StraightThrough(t *Tape, x *Value, steps int, keys []rng.Key, f func(v float32, r *rand.Rand) float32) *Value {
	in := x
	x = Densify(t, x)
	sh := x.shape
	if sh.Steps != 1 && sh.Steps != steps || steps < 1 || len(keys) != sh.N {
		panic(fmt.Sprintf("autograd: StraightThrough: %d steps and %d keys for %v", steps, len(keys), sh))
	}
	y := t.NewDense(sh.WithSteps(steps), x.needsGrad)
	src, dst, frame := t.Floats(x), t.Floats(y), sh.Pixels()*tensor.Lanes
	parallel.For(t.Threads, sh.N*steps, func(i int) { // a step of an image
		n, step := i/steps, i%steps
		r := keys[n].Derive("step", uint64(step)).Rand()
		for b := range sh.Blocks() {
			from := src[((b*sh.N+n)*sh.Steps+step%sh.Steps)*frame:][:frame]
			to := dst[((b*sh.N+n)*steps+step)*frame:][:frame]
			lanes := min(tensor.Lanes, sh.C-b*tensor.Lanes)
			for k, v := range from {
				to[k] = 0
				if k%tensor.Lanes < lanes {
					to[k] = f(v, r)
				}
			}
		}
	})
	if y.needsGrad {
		t.Record(&straightThrough{x, y})
	}
	t.letGo(x, in)
	return y
}

func (o *straightThrough) Output() *Value { return o.y }

// Backward adds the gradient of every step to that of x.
func (o *straightThrough) Backward(t *Tape) {
	if o.x.shape.Steps == 1 {
		t.carrySum(o.x, o.y)
		return
	}
	dy, steps := t.Grad(o.y)
	t.AddGrad(o.x, dy, steps)
}
