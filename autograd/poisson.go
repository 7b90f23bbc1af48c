package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

type poisson struct{ x, y *Value }

// Poisson encodes images x in [0,1] as spikes. At every step a pixel fires with a
// probability equal to its value, rounded to a multiple of 2⁻¹⁶. x has one step, or a frame
// for each of the given steps. The backward pass is the straight-through estimator
// ∂x = Σₜ ∂y(t), or ∂x(t) = ∂y(t) for frames, since E[y(t)] = x(t).
//
// keys holds one key for each image. The spikes of image n depend on keys[n] alone, and
// those of a pixel on its own value alone. Poisson panics if x is not dense, if x has
// neither one step nor steps of them, if steps is less than 1, or if the number of keys is
// not N.
func Poisson(t *Tape, x *Value, steps int, keys []rng.Key) *Value {
	sh := x.shape
	x.mustBeOwned("Poisson")
	if x.spikes != nil || sh.Steps != 1 && sh.Steps != steps || steps < 1 || len(keys) != sh.N {
		panic(fmt.Sprintf("autograd: Poisson: %d steps and %d keys for %v", steps, len(keys), sh))
	}
	y := t.NewSpikes(sh.WithSteps(steps), x.needsGrad)
	pixels, spikes := t.Floats(x), t.Words(y)
	// A piece is some steps of one image, so that one image keeps all threads busy.
	pieces := min(steps, (parallel.Threads(t.Threads)+sh.N-1)/max(1, sh.N))
	px := sh.Pixels()
	parallel.For(t.Threads, sh.N*pieces, func(i int) {
		n, piece := i/pieces, i%pieces
		p := limitsPool.Get().(*limits)
		defer limitsPool.Put(p)
		for step := piece * steps / pieces; step < (piece+1)*steps/pieces; step++ {
			src := newSource(keys[n].Derive("step", uint64(step)))
			for b := range sh.Blocks() {
				lanes := min(tensor.Lanes, sh.C-b*tensor.Lanes)
				if step == piece*steps/pieces || sh.Steps > 1 {
					frame := (b*sh.N+n)*sh.Steps + step%sh.Steps
					p.set(b, pixels[frame*px*tensor.Lanes:][:px*tensor.Lanes], lanes)
				}
				p.draw(spikes[((b*sh.N+n)*steps+step)*px:][:px], b, lanes, &src)
			}
		}
	})
	if y.needsGrad {
		t.Record(&poisson{x, y})
	}
	return y
}

func (o *poisson) Output() *Value { return o.y }

func (o *poisson) Backward(t *Tape) {
	if o.x.shape.Steps == 1 {
		t.carrySum(o.x, o.y)
		return
	}
	dy, steps := t.Grad(o.y)
	t.AddGrad(o.x, dy, steps)
}
