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
		r.set(t, px, l, !(d >= r.width || -d >= r.width))
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
				c := glifStep{i: float32(k[rowA][l]*x[l]) + k[rowB][l], m: m[l], theta: k[rowThreshold][l]}
				if r.carry != nil {
					c.i += vector32(r.carry, px*64)[l]
				}
				if r.adaptation != nil {
					c.a = vector32(r.adaptation, px*64)[l]
					c.theta += float32(k[rowAdaptation][l] * c.a)
				}
				c.p = float32(k[rowDecay][l]*c.m) + float32(k[rowGain][l]*c.i)
				c.fires = c.p >= c.theta
				fn(t, px, l, c)

				next, carry, a := c.p, float32(k[rowSynapticDecay][l]*c.i), float32(k[rowAdaptationDecay][l]*c.a)
				if c.fires {
					next = k[rowReset][l]
					if r.soft != 0 {
						next = c.p - c.theta
					}
					carry -= k[rowRecurrence][l]
					a -= k[rowJump][l]
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
	k := &r.k
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
				p := float32(k[rowDecay][l]*before[l]) + float32(k[rowGain][l]*current[l])
				theta := k[rowThreshold][l]
				if r.adaptation != nil {
					theta += float32(k[rowAdaptation][l] * level[l])
				}
				var phi float32
				if r.slope != nil {
					phi = vector32(r.slope, t*r.slopeStep+px*64)[l]
				} else {
					u := p - theta
					if u < 0 {
						u = -u
					}
					phi = max(0, k[rowWidth][l]-u) * k[rowHeight][l]
				}
				ds := dout[l]
				if r.adaptation != nil {
					ds -= float32(k[rowJump][l] * da[l])
				}
				if r.carry != nil {
					ds -= float32(k[rowRecurrence][l] * di[l])
				}
				switch {
				case r.detach != 0:
				case r.soft != 0:
					ds -= float32(theta * dm[l])
				default:
					ds += float32((k[rowReset][l] - p) * dm[l])
				}
				du := float32(phi * ds)
				dp, dtheta := du, du // dtheta is −∂θ
				if r.soft != 0 || !fires {
					dp += dm[l]
				}
				if r.soft != 0 && fires {
					dtheta += dm[l]
				}
				if r.sums != nil {
					add := func(row uint64, v float32) { vector32(r.sums, row*64)[l] += v }
					add(sumGain, float32(dp*current[l]))
					add(sumDecay, float32(dp*before[l]))
					add(sumThreshold, dtheta)
					if fires {
						add(sumReset, dm[l])
					}
					if r.carry != nil {
						add(sumSynapticDecay, float32(current[l]*di[l]))
						if fires {
							add(sumRecurrence, di[l])
						}
					}
					if r.adaptation != nil {
						add(sumAdaptation, float32(dtheta*level[l]))
						d := level[l]
						if fires {
							d--
						}
						add(sumAdaptationDecay, float32(d*da[l]))
					}
				}
				if r.adaptation != nil {
					da[l] = float32(k[rowAdaptationDecay][l]*da[l]) - float32(k[rowAdaptation][l]*dtheta)
				}
				dm[l] = float32(k[rowDecay][l] * dp)
				g[l] = float32(k[rowGain][l] * dp)
				if r.carry != nil {
					g[l] += float32(k[rowSynapticDecay][l] * di[l])
					di[l] = g[l]
				}
			}
			if r.total != nil {
				add16(vector32(r.total, px*64)[:], g[:])
			}
			if r.dx != nil {
				for l := range g {
					g[l] = float32(k[rowA][l] * g[l])
				}
				store16(vector32(r.dx, t*r.dxStep+px*64)[:], &g, r.add != 0)
			}
		}
	}
}
