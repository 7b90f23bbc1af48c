package attack

import (
	"context"
	"fmt"
	"math"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// GaussianNoise adds noise from N(0, Std²) to every value and clips to [0,1]. It asks
// the network nothing and is no attack but a baseline. Unlike an Attack's, what it
// adds is not bounded by a ball: at Std = ε, a third of the values change by more
// than ε, but for clipping.
type GaussianNoise struct {
	Std float32 // ≥ 0; the paper's is ε
}

// Perturb implements [snn.Adversary].
func (g GaussianNoise) Perturb(ctx context.Context, m *snn.Model, x tensor.NCHW, y []int, ids []uint64, key rng.Key) (tensor.NCHW, error) {
	if !(g.Std >= 0) || math.IsInf(float64(g.Std), 0) {
		return tensor.NCHW{}, fmt.Errorf("attack: standard deviation %v: expected a number of at least 0", g.Std)
	}
	_, keys, err := prepare(m, x, y, ids, key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return tensor.NCHW{}, err
	}
	noisy := x.Clone()
	for i, k := range keys {
		r, p := k.Derive("noise", 0).Rand(), noisy.Image(i)
		for j := range p {
			p[j] += g.Std * float32(r.NormFloat64())
		}
		clip(p)
	}
	return noisy, nil
}
