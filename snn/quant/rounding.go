package quant

import (
	"fmt"
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor/rng"
)

// Rounding is a training with rounded weights. It is for the Regularizer of train.Config, whose
// Apply is called after every update. Apply rounds each output channel of a weight to multiples of
// max|w| / (2^(Bits−1) − 1), which are what [Convert] keeps of them. In residual blocks and in the
// last layer, Convert rounds to other multiples.
//
// Rounding keeps the weights before rounding and adds the updates to them, so that small updates
// are not lost. This is the straight-through estimator (Bengio et al. 2013). The kept weights are
// not in checkpoints: a resumed training begins with the rounded ones.
//
// A Rounding belongs to one training.
type Rounding struct {
	bits  int
	exact map[*autograd.Param]*kept
}

// kept is a weight before and after rounding, in row-major order.
type kept struct{ exact, rounded []float32 }

// NewRounding returns a Rounding with the bits of a conversion. It returns an error if they are out
// of range.
func NewRounding(cfg Config) (*Rounding, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("quant: NewRounding: %w", err)
	}
	return &Rounding{bits: cfg.Bits, exact: map[*autograd.Param]*kept{}}, nil
}

// Apply rounds the weight p. It uses neither random numbers nor goroutines. It returns an error if a
// weight is not finite.
func (r *Rounding) Apply(p *autograd.Param, _ rng.Key, _ int) error {
	now := p.Export()
	k := r.exact[p]
	if k == nil {
		k = &kept{exact: now, rounded: make([]float32, len(now))}
		r.exact[p] = k
	} else {
		for i, v := range now {
			k.exact[i] += v - k.rounded[i]
		}
	}
	most := Config{Bits: r.bits}.most()
	row := len(now) / p.Shape[0]
	for o := range p.Shape[0] {
		largest := 0.
		for i, v := range k.exact[o*row : (o+1)*row] {
			if v-v != 0 {
				return fmt.Errorf("quant: %s: value %d is %v: expected a finite number", p.Name, o*row+i, v)
			}
			largest = max(largest, math.Abs(float64(v)))
		}
		unit := largest / most
		for i, v := range k.exact[o*row : (o+1)*row] {
			k.rounded[o*row+i] = 0
			if unit > 0 {
				k.rounded[o*row+i] = float32(math.Round(float64(v)/unit) * unit)
			}
		}
	}
	p.Import(k.rounded)
	return nil
}
