package kernel

// The portable twins of the routines of GLIF neurons.

// glifForwardPortable runs all steps of a run of neurons and writes s.
func glifForwardPortable(r *glifRun) {
	check := vector32(r.check, 0)
	r.scan(func(t, px uint64, l int, c glifStep) {
		d := c.p - c.theta
		check[l] += d - d
		r.set(t, px, l, c.fires)
	})
}

// glifSupportPortable runs neurons and writes, for spikes, where the membrane potential
// before the reset is less than width away from its threshold, or not a number.
func glifSupportPortable(r *glifRun) {
	r.scan(func(t, px uint64, l int, c glifStep) {
		d := c.p - c.theta
		r.set(t, px, l, !(d >= r.k.width[l] || -d >= r.k.width[l]))
	})
}

// glifReplayPortable runs neurons and writes their history and, if slope is set, their
// distance above threshold there.
func glifReplayPortable(r *glifRun) {
	r.scan(func(t, px uint64, l int, c glifStep) {
		at := t*r.historyStep + px*256
		vector32(r.history, at)[l] = c.i
		vector32(r.history, at+64)[l] = c.m
		if r.adaptation != nil {
			vector32(r.history, at+128)[l] = c.a
		}
		if r.slope != nil {
			vector32(r.slope, t*r.slopeStep+px*64)[l] = c.p - c.theta
		}
	})
}

// set writes bit l of a word of s. Bits are written in ascending order.
func (r *glifRun) set(t, px uint64, l int, on bool) {
	w := word(r.s, t*r.sStep+px*2)
	if l == 0 {
		*w = 0
	}
	if on {
		*w |= 1 << l
	}
}

// glifStep is what one neuron's step computes, m and a being those before it.
type glifStep struct {
	i, m, a  float32
	p, theta float32
	fires    bool
}

// scan runs the neurons and calls fn at every step of each.
func (r *glifRun) scan(fn func(t, px uint64, l int, c glifStep)) {
	k := &r.k
	for t := range r.steps {
		for px := range r.pixels {
			x, m := vector32(r.x, t*r.xStep+px*64), vector32(r.membrane, px*64)
			for l := range Lanes {
				c := glifStep{i: float32(k.a[l]*x[l]) + k.b[l], m: m[l], theta: k.threshold[l]}
				if r.feedback != nil {
					c.i += vector32(r.feedback, px*64)[l]
				}
				if r.carry != nil {
					c.i += vector32(r.carry, px*64)[l]
				}
				if r.adaptation != nil {
					c.a = vector32(r.adaptation, px*64)[l]
					c.theta += float32(k.adaptation[l] * c.a)
				}
				c.p = float32(k.decay[l]*c.m) + float32(k.gain[l]*c.i)
				c.fires = c.p >= c.theta
				fn(t, px, l, c)

				next, carry, a := c.p, float32(k.synapticDecay[l]*c.i), float32(k.adaptationDecay[l]*c.a)
				if c.fires {
					next = k.reset[l]
					if r.soft != 0 {
						next = c.p - c.theta
					}
					carry -= k.recurrence[l]
					a -= k.jump[l]
				}
				m[l] = next
				if r.carry != nil {
					vector32(r.carry, px*64)[l] = carry
				}
				if r.adaptation != nil {
					vector32(r.adaptation, px*64)[l] = a
				}
			}
		}
	}
}

// glifBackwardPortable goes back over the steps. It writes dx and adds to total and sums,
// those that are set.
func glifBackwardPortable(r *glifRun) {
	k, sums := &r.k, &r.sums
	for t := r.steps - 1; t < r.steps; t-- {
		for px := range r.pixels {
			history := func(i uint64) *[Lanes]float32 { return vector32(r.history, t*r.historyStep+px*256+i*64) }
			adjoint := func(i uint64) *[Lanes]float32 { return vector32(r.adjoint, px*256+i*64) }
			current, before, level := history(0), history(1), history(2)
			di, dm, da := adjoint(0), adjoint(1), adjoint(2)
			dout := vector32(r.dout, t*r.doutStep+px*64)
			s := *word(r.s, t*r.sStep+px*2)
			var g [Lanes]float32
			for l := range Lanes {
				fires := s>>l&1 == 1
				p := float32(k.decay[l]*before[l]) + float32(k.gain[l]*current[l])
				theta := k.threshold[l]
				if r.adaptation != nil {
					theta += float32(k.adaptation[l] * level[l])
				}
				var phi float32
				if r.slope != nil {
					phi = vector32(r.slope, t*r.slopeStep+px*64)[l]
				} else {
					u := p - theta
					if u < 0 {
						u = -u
					}
					phi = max(0, k.width[l]-u) * k.height[l]
				}
				ds := dout[l]
				if r.feedback != nil {
					ds += vector32(r.feedback, px*64)[l]
				}
				if r.adaptation != nil {
					ds -= float32(k.jump[l] * da[l])
				}
				if r.carry != nil {
					ds -= float32(k.recurrence[l] * di[l])
				}
				switch {
				case r.detach != 0:
				case r.soft != 0:
					ds -= float32(theta * dm[l])
				default:
					ds += float32((k.reset[l] - p) * dm[l])
				}
				du := float32(phi * ds)
				dp, dtheta := du, du // dtheta is −∂θ
				if r.soft != 0 || !fires {
					dp += dm[l]
				}
				if r.soft != 0 && fires {
					dtheta += dm[l]
				}
				if r.summed != 0 {
					sums.gain[l] += float32(dp * current[l])
					sums.decay[l] += float32(dp * before[l])
					sums.threshold[l] += dtheta
					if fires {
						sums.reset[l] += dm[l]
					}
					if r.carry != nil {
						sums.synapticDecay[l] += float32(current[l] * di[l])
						if fires {
							sums.recurrence[l] += di[l]
						}
					}
					if r.adaptation != nil {
						sums.adaptation[l] += float32(dtheta * level[l])
						d := level[l]
						if fires {
							d--
						}
						sums.adaptationDecay[l] += float32(d * da[l])
					}
				}
				if r.adaptation != nil {
					da[l] = float32(k.adaptationDecay[l]*da[l]) - float32(k.adaptation[l]*dtheta)
				}
				dm[l] = float32(k.decay[l] * dp)
				g[l] = float32(k.gain[l] * dp)
				if r.carry != nil {
					g[l] += float32(k.synapticDecay[l] * di[l])
					di[l] = g[l]
				}
			}
			if r.total != nil {
				add16(vector32(r.total, px*64)[:], g[:])
			}
			if r.grad != nil {
				*vector32(r.grad, px*64) = g
			}
			if r.dx != nil {
				for l := range g {
					g[l] = float32(k.scale[l] * g[l])
				}
				store16(vector32(r.dx, t*r.dxStep+px*64)[:], &g, r.add != 0)
			}
		}
	}
}
