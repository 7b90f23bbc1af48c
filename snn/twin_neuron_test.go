package snn_test

import (
	"math"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
)

// cell is a neuron of the twin. Each coefficient is a vector of one value, or one for each
// channel, and nil for 0.
type cell struct {
	decay, w, threshold, alpha, strength, rho, v *vector
	all                                          *vector // [C, C], the recurrent weights
	decayInput, soft, detach                     bool
	unlimited                                    bool // decay is used as it is
	reset, start                                 float64
	surrogate                                    snn.Surrogate
}

// at returns the value of a coefficient for channel c.
func (q *vector) at(c int) float64 {
	if q == nil {
		return 0
	}
	return q.v[c%len(q.v)]
}

// add adds d to the gradient for channel c.
func (q *vector) add(c int, d float64) {
	if q != nil {
		q.d[c%len(q.v)] += d
	}
}

// fixed is a coefficient that is no parameter.
func fixed(v float32) *vector { return &vector{[]float64{float64(v)}, make([]float64, 1)} }

func (tw *twin) neuron(x *grid, name string, n snn.Neuron) *grid {
	switch n := n.(type) {
	case *snn.LIF:
		return tw.fire(x, name, cell{
			decay: fixed(n.Decay), threshold: fixed(n.Threshold), decayInput: n.DecayInput, soft: n.SoftReset, detach: n.DetachReset,
			reset: float64(n.Reset), start: float64(n.Start), surrogate: n.Surrogate,
		})
	case *snn.Custom:
		l := n.Dynamics.(*leaky)
		return tw.fire(x, name, cell{decay: tw.param(l.Beta), threshold: tw.param(l.Theta), soft: l.Soft, detach: l.Detach, unlimited: true, surrogate: n.Surrogate})
	}
	g := n.(*snn.GLIF)
	of := func(p *autograd.Param) *vector {
		if p == nil {
			return nil
		}
		return tw.param(p)
	}
	c := cell{
		decay: of(g.Decay), w: of(g.W), threshold: of(g.Threshold), alpha: of(g.SynapticDecay), strength: of(g.Adaptation),
		rho: of(g.AdaptationDecay), v: of(g.Recurrent), decayInput: g.DecayInput, soft: g.SoftReset, detach: g.DetachReset,
		reset: float64(g.Reset), start: float64(g.Start), surrogate: g.Surrogate,
	}
	if g.Recurrent != nil && len(g.Recurrent.Shape) == 2 {
		c.v, c.all = nil, c.v
	}
	return tw.fire(x, name, c)
}

// unit limits v to [0,1], and says by what a gradient is multiplied.
func (q *cell) unit(v float64) (limited, slope float64) {
	if !q.unlimited && (v < 0 || v > 1) {
		return min(max(v, 0), 1), 0
	}
	return v, 1
}

// fire runs neurons step by step, all of a step before the next.
func (tw *twin) fire(x *grid, name string, q cell) *grid {
	y := newGrid(x.n, x.t, x.c, x.h, x.w)
	if _, ok := tw.pass.Gradient.(snn.CBA); ok {
		for i, v := range x.v {
			tw.near(v, 0)
			y.v[i] = max(v, 0)
		}
		tw.back = append(tw.back, func() {
			for i, v := range y.v {
				if v > 0 {
					x.d[i] += y.d[i]
				}
			}
		})
		return y
	}
	g, through := tw.pass.Gradient.(snn.BPTT)
	if through && g.Surrogate != nil {
		q.surrogate = g.Surrogate
	}
	leak := func(c int) (lambda, kappa float64) {
		lambda, _ = q.unit(q.decay.at(c))
		if q.w != nil {
			lambda = 1 - 1/(1+math.Exp(-q.w.at(c)))
		}
		if kappa = 1; q.decayInput {
			kappa = 1 - lambda
		}
		return lambda, kappa
	}
	frame, pixels := x.c*x.h*x.w, x.h*x.w
	// States after each step, by the place in the grid.
	current, before, theta, adapted := newGrid(x.n, x.t, x.c, x.h, x.w), make([]float64, len(x.v)), make([]float64, len(x.v)), make([]float64, len(x.v))
	after := make([]float64, len(x.v))
	fires := make([]bool, len(x.v))
	prior := func(v []float64, t, i int, start float64) float64 {
		if t == 0 {
			return start
		}
		return v[i-frame]
	}
	// returning calls fn for the spikes of the step before that reach the neuron at i.
	returning := func(t, c, i int, fn func(from, weight int)) {
		if t == 0 || q.all == nil {
			return
		}
		for k := range x.c {
			fn(i-frame+(k-c)*pixels, c*x.c+k)
		}
	}
	x.each(func(_, t, c, _, _, i int) {
		lambda, kappa := leak(c)
		alpha, _ := q.unit(q.alpha.at(c))
		current.v[i] = alpha*prior(current.v, t, i, 0) + x.v[i] + q.v.at(c)*prior(y.v, t, i, 0)
		returning(t, c, i, func(from, weight int) { current.v[i] += q.all.v[weight] * y.v[from] })
		before[i] = lambda*prior(after, t, i, q.start) + kappa*current.v[i]
		theta[i] = q.threshold.at(c) + q.strength.at(c)*prior(adapted, t, i, 0)
		tw.near(before[i], theta[i])
		if r, ok := q.surrogate.(snn.Rectangle); ok { // which jumps, too
			tw.near(math.Abs(before[i]-theta[i]), float64(r.Width)/2)
		}
		after[i] = before[i]
		if fires[i] = before[i] >= theta[i]; fires[i] {
			y.v[i] = 1
			if after[i] = q.reset; q.soft {
				after[i] = before[i] - theta[i]
			}
		}
		rho, _ := q.unit(q.rho.at(c))
		adapted[i] = rho*prior(adapted, t, i, 0) + (1-rho)*y.v[i]
	})
	tw.spikes[name] = fires
	tw.back = append(tw.back, func() {
		fired := map[int]bool{}
		x.each(func(n, t, _, _, _, i int) {
			fired[n*frame+i%frame] = fired[n*frame+i%frame] || fires[i]
		})
		// Gradients of the states after each step. That of the spikes is y.d and what is added.
		ds, di, dm, da := append([]float64(nil), y.d...), make([]float64, len(x.v)), make([]float64, len(x.v)), make([]float64, len(x.v))
		for step := x.t - 1; step >= 0; step-- {
			x.each(func(n, t, c, _, _, i int) {
				if t != step {
					return
				}
				if !through {
					if fired[n*frame+i%frame] {
						x.d[i] += y.d[i]
					}
					return
				}
				lambda, kappa := leak(c)
				alpha, alphaSlope := q.unit(q.alpha.at(c))
				rho, rhoSlope := q.unit(q.rho.at(c))
				a := prior(adapted, t, i, 0)
				ds[i] += (1 - rho) * da[i]
				q.rho.add(c, rhoSlope*da[i]*(a-y.v[i]))
				dp, dTheta := dm[i], 0.0
				if q.soft {
					if !q.detach {
						ds[i] -= dm[i] * theta[i]
					}
					dTheta = -dm[i] * y.v[i]
				} else {
					if !q.detach {
						ds[i] += dm[i] * (q.reset - before[i])
					}
					dp = dm[i] * (1 - y.v[i])
				}
				u := []float32{float32(before[i] - theta[i])}
				q.surrogate.Derivative(u, u)
				dp += ds[i] * float64(u[0])
				dTheta -= ds[i] * float64(u[0])
				q.threshold.add(c, dTheta)
				q.strength.add(c, dTheta*a)
				m := prior(after, t, i, q.start)
				dLambda, dKappa := dp*m, dp*current.v[i]
				if q.decayInput {
					dLambda -= dKappa
				}
				if q.w != nil {
					q.w.add(c, -dLambda*lambda*(1-lambda))
				} else {
					_, slope := q.unit(q.decay.at(c))
					q.decay.add(c, slope*dLambda)
				}
				di[i] += kappa * dp
				q.alpha.add(c, alphaSlope*di[i]*prior(current.v, t, i, 0))
				q.v.add(c, di[i]*prior(y.v, t, i, 0))
				x.d[i] += di[i]
				returning(t, c, i, func(from, weight int) {
					q.all.d[weight] += di[i] * y.v[from]
					ds[from] += di[i] * q.all.v[weight]
				})
				if t > 0 {
					ds[i-frame] += di[i] * q.v.at(c)
					di[i-frame] += alpha * di[i]
					dm[i-frame] += lambda * dp
					da[i-frame] += rho*da[i] + dTheta*q.strength.at(c)
				}
			})
		}
	})
	return y
}
