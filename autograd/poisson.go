package autograd

import (
	"fmt"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/internal/parallel"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// Poisson encodes images x in [0,1] as spikes. At every step a pixel fires with a
// probability equal to its value, rounded to a multiple of 2⁻¹⁶. x has one step, or a frame
// for each of the given steps. The backward pass is that of [StraightThrough], since
// E[y(t)] = x(t).
//
// keys holds one key for each image. The spikes of image n depend on keys[n] alone, and
// those of a pixel on its own value alone. Poisson panics if x is not dense, or if x
// has neither one step nor steps of them. It also panics if steps is less than 1, or if the
// number of keys is not N.
func Poisson(t *Tape, x *Value, steps int, keys []rng.Key) *Value {
	return PoissonFrom(t, x, 0, steps, keys)
}

// PoissonFrom is [Poisson] for the steps from first on. It draws what Poisson draws at these
// steps. x has one step, or a frame for each of the given steps.
func PoissonFrom(t *Tape, x *Value, first, steps int, keys []rng.Key) *Value {
	sh := x.shape
	x.mustBeOwned("Poisson")
	if x.spikes != nil || sh.Steps != 1 && sh.Steps != steps || first < 0 || steps < 1 || len(keys) != sh.N {
		panic(fmt.Sprintf("autograd: Poisson: %d steps and %d keys for %v, from step %d on", steps, len(keys), sh, first))
	}
	y := t.NewSpikes(sh.WithSteps(steps), x.needsGrad)
	// A piece is some steps of one image, so that one image keeps all threads busy.
	pieces := min(steps, (parallel.Threads(t.Threads)+sh.N-1)/max(1, sh.N))
	parallel.Run(t.Threads, sh.N*pieces, drawing{sh, steps, first, pieces, t.Floats(x), t.Words(y), keys})
	if y.needsGrad {
		t.Record(&straightThrough{x, y})
	}
	return y
}

// drawing are the variables of PoissonFrom.
type drawing struct {
	sh                   tensor.Shape // of the pixels
	steps, first, pieces int
	pixels               []float32
	spikes               []uint16
	keys                 []rng.Key
}

// Do draws piece i.
func (d drawing) Do(i int) {
	sh, steps, px := d.sh, d.steps, d.sh.Pixels()
	n, piece := i/d.pieces, i%d.pieces
	r := drawers.Get().(*drawer)
	defer drawers.Put(r)
	for len(r.chances) < sh.Blocks() {
		r.chances = append(r.chances, kernel.Chances{})
	}
	from, to := piece*steps/d.pieces, (piece+1)*steps/d.pieces
	for step := from; step < to; step++ {
		r.Seed(d.keys[n].Derive("step", uint64(d.first+step)))
		for b := range sh.Blocks() {
			c := &r.chances[b]
			if step == from || sh.Steps > 1 {
				frame := (b*sh.N+n)*sh.Steps + step%sh.Steps
				c.Set(d.pixels[frame*px*tensor.Lanes:][:px*tensor.Lanes], min(tensor.Lanes, sh.C-b*tensor.Lanes))
			}
			r.Draw(d.spikes[((b*sh.N+n)*steps+step)*px:][:px], c)
		}
	}
}
