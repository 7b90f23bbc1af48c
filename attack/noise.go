package attack

import (
	"context"
	"fmt"
	"math"

	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// GaussianNoise adds noise from N(0, Std²) to every value of every frame and clips the result to [0,1]. It
// is a baseline and does not use the network. Its perturbation has no bound: at Std = ε,
// and before clipping, a third of the values change by more than ε.
type GaussianNoise struct {
	Std float32 // standard deviation ≥ 0, for pixels in [0,1]; the paper's is ε
}

// Perturb implements [snn.Adversary]. It returns an error if Std is out of range.
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
			p[j] += float32(g.Std * float32(r.NormFloat64()))
		}
		clip(p)
	}
	return noisy, nil
}
