package attack

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// planted is check 10. For each image, a random corner of the ball is planted: the test is to
// come as far as that point along its own direction among the logits. Random points seldom do
// (after Zimmermann et al. 2022, who train a readout of features).
func (p *probe) planted(ctx context.Context, c *Check) error {
	const samples = 20
	found, lucky := make([]bool, len(p.images)), make([]bool, len(p.images))
	err := p.each(ctx, "planted", func(k int, o *Oracle) error {
		o.keep = false
		var z [samples][]float32
		for i := range z {
			x := slices.Clone(o.Clean)
			RandomStep{p.Threat.Eps}.Initialize(x, p.Threat.Norm, p.Threat.Eps, o.Rand("sample", uint64(i)))
			o.Ball().Project(x)
			var err error
			if z[i], err = o.Logits(x); err != nil {
				return err
			}
		}
		direction := plant(z[:])
		o.keep, o.by = true, func(logits []float32) (float32, bool) {
			d := direction.at(logits)
			return float32(-d), d >= 0
		}
		a := p.attack(p.Threat.Eps)
		a.Objective = direction
		err := a.Search(o)
		found[k] = o.found
		if err != nil && err != ErrFound {
			return err
		}
		for i := range samples {
			x := slices.Clone(o.Clean)
			RandomStep{p.Threat.Eps}.Initialize(x, p.Threat.Norm, p.Threat.Eps, o.Rand("noise", uint64(i)))
			o.Ball().Project(x)
			o.keep = false
			logits, err := o.Logits(x)
			if err != nil {
				return err
			}
			lucky[k] = lucky[k] || direction.at(logits) >= 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.Text = fmt.Sprintf("%s gets as far as a planted point of the ball for %d of %d images, and %d random points get as far for %d.", p.attackName(), number(found), len(found), samples, number(lucky))
	if float64(number(found)) < 0.95*float64(len(found)) {
		c.raise(Warning, "The gradients do not lead to points that are known to exist: trust searches by score alone.")
	}
	return nil
}

// along is an objective: how far the logits are along a direction, beyond a point.
type along struct {
	w    []float64
	from float64
}

// plant returns the direction from the mean of some logits to that of them which lies farthest
// out in its own direction. Its value there is 0.
func plant(z [][]float32) along {
	mean := make([]float64, len(z[0]))
	for _, v := range z {
		for k := range v {
			mean[k] += float64(v[k]) / float64(len(z))
		}
	}
	var best along
	lead := math.Inf(-1)
	for i, v := range z {
		a := along{w: make([]float64, len(v))}
		for k := range v {
			a.w[k] = float64(v[k]) - mean[k]
		}
		a.from = a.at(v)
		next := math.Inf(-1) // the others' farthest
		for j, u := range z {
			if j != i {
				next = max(next, a.at(u))
			}
		}
		if scale := a.scale(); scale > 0 && -next/scale > lead {
			best, lead = a, -next/scale
		}
	}
	if best.w == nil { // all logits are the same
		best.w = mean
	}
	return best
}

// at returns how far logits are beyond the point.
func (a along) at(logits []float32) float64 {
	sum := -a.from
	for k, v := range logits {
		sum += a.w[k] * float64(v)
	}
	return sum
}

func (a along) scale() float64 {
	sum := 0.0
	for _, v := range a.w {
		sum += v * v
	}
	return sum
}

// Evaluate implements [Objective].
func (a along) Evaluate(value []float64, grad, logits []float32, y, _ []int) {
	scale := math.Sqrt(a.scale())
	if scale == 0 {
		scale = 1
	}
	classes := len(logits) / len(y)
	for i := range y {
		value[i] = a.at(logits[i*classes:][:classes]) / scale
		for k, w := range a.w {
			grad[i*classes+k] = float32(w / scale)
		}
	}
}
