package autograd

import (
	"fmt"

	"github.com/org/snnrat/tensor/rng"
)

type poisson struct{ x, y *Value }

// Poisson encodes images x in [0,1] as spikes. At every step a pixel fires with a
// probability equal to its value. The backward pass is the straight-through estimator
// ∂x = Σₜ ∂y(t), since E[y(t)] = x.
//
// keys holds one key for each image. The spikes of image n depend on keys[n] alone. Poisson
// panics if x is not dense with one step, if steps is less than 1, or if the number of keys
// is not N.
func Poisson(t *Tape, x *Value, steps int, keys []rng.Key) *Value {
	sh := x.shape
	x.mustBeOwned("Poisson")
	if x.spikes != nil || sh.Steps != 1 || steps < 1 || len(keys) != sh.N {
		panic(fmt.Sprintf("autograd: Poisson: %d steps and %d keys for %v", steps, len(keys), sh))
	}
	y := t.NewSpikes(sh.WithSteps(steps), x.needsGrad)
	pixels, spikes := t.Floats(x), t.Words(y)
	clear(spikes)
	px := sh.Pixels()
	for n, key := range keys {
		r := key.Rand()
		for c := range sh.C {
			for step := range steps {
				for i := range px {
					if r.Float32() < pixels[((c/16*sh.N+n)*px+i)*16+c%16] {
						spikes[((c/16*sh.N+n)*steps+step)*px+i] |= 1 << (c % 16)
					}
				}
			}
		}
	}
	if y.needsGrad {
		t.Record(&poisson{x, y})
	}
	return y
}

func (o *poisson) Output() *Value { return o.y }

func (o *poisson) Backward(t *Tape) { t.carrySum(o.x, o.y) }
