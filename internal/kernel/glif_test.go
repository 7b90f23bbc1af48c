package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// glifCase is a layer of GLIF neurons with random inputs and coefficients.
type glifCase struct {
	GLIF
	Scan
	doutSteps int
	norm      Norm
	x, dout   []float32
}

const (
	glifConstIn = 1 << iota
	glifConstOut
	glifSoft
	glifNormed
	glifSynaptic
	glifAdaptive
	glifOthers // gain, reset and start
	glifFlags
)

func newGLIFCase(seed uint64, blocks, images, pixels, steps int, flags int) *glifCase {
	r := rand.New(rand.NewPCG(seed, uint64(pixels)))
	between := func(lo, hi float32) []float32 {
		v := make([]float32, blocks*Lanes)
		for i := range v {
			v[i] = lo + (hi-lo)*r.Float32()
		}
		return v
	}
	on := func(f int) bool { return flags&f != 0 }
	base := newNeuronCase(seed, blocks, images, pixels, steps, on(glifConstIn), on(glifConstOut), on(glifSoft), on(glifNormed))
	c := &glifCase{Scan: base.Scan, doutSteps: base.doutSteps, norm: base.norm, x: base.x, dout: base.dout}
	c.GLIF = GLIF{Decay: between(0.3, 1), Threshold: between(0.5, 1.5), Soft: on(glifSoft)}
	if on(glifSynaptic) {
		c.SynapticDecay, c.Recurrence = between(0, 0.8), between(-0.6, 0.6)
	}
	if on(glifAdaptive) {
		c.Adaptation, c.AdaptationDecay = between(0, 0.8), between(0.3, 0.95)
	}
	if on(glifOthers) {
		c.Gain, c.Reset, c.Start = between(0.5, 1.2), between(-0.3, 0.3), between(-0.3, 0.3)
	}
	return c
}

func forGLIFCases(t *testing.T, fn func(t *testing.T, c *glifCase)) {
	for _, size := range [][4]int{{1, 1, 1, 1}, {2, 2, 3, 8}, {1, 1, 25, 13}, {2, 1, 70, 3}, {1, 1, 1400, 3}} {
		for flags := range glifFlags {
			if size[2] > 1000 && flags != glifFlags-1 { // several runs of a unit
				continue
			}
			t.Run(fmt.Sprintf("%v flags=%07b", size, flags), func(t *testing.T) {
				fn(t, newGLIFCase(uint64(flags), size[0], size[1], size[2], size[3], flags))
			})
		}
	}
}

func (c *glifCase) each(fn func(u, px, l int)) {
	for u := range c.Units {
		for px := range c.Pixels {
			for l := range Lanes {
				fn(u, px, l)
			}
		}
	}
}

// channel returns a coefficient of a lane of unit u.
func (c *glifCase) channel(v []float32, u, l int, absent float32) float32 {
	if v == nil {
		return absent
	}
	return v[u/c.Images*Lanes+l]
}

func (c *glifCase) input(u, px, l, t int) float32 {
	x := c.x[((u*c.CurrentSteps+t%c.CurrentSteps)*c.Pixels+px)*Lanes+l]
	if c.norm.A == nil {
		return x
	}
	return float32(c.channel(c.norm.A, u, l, 1)*x) + c.channel(c.norm.B, u, l, 0)
}

// neuron steps one neuron as the equations of GLIF read.
func (c *glifCase) neuron(u, px, l int) (fires []bool, distance []float32, i, m, a float32) {
	alpha, v := c.channel(c.SynapticDecay, u, l, 0), c.channel(c.Recurrence, u, l, 0)
	kappa, lambda := c.channel(c.Gain, u, l, 1), c.channel(c.Decay, u, l, 0)
	beta, rho := c.channel(c.Adaptation, u, l, 0), c.channel(c.AdaptationDecay, u, l, 0)
	m = c.channel(c.Start, u, l, 0)
	s := float32(0)
	for t := range c.Steps {
		i = (float32(alpha*i) + float32(v*s)) + c.input(u, px, l, t)
		p := float32(lambda*m) + float32(kappa*i)
		theta := c.channel(c.Threshold, u, l, 0) + float32(beta*a)
		distance = append(distance, p-theta)
		if s = 0; p >= theta {
			s = 1
		}
		fires = append(fires, s == 1)
		switch {
		case c.Soft:
			m = p - float32(theta*s)
		case s == 1:
			m = c.channel(c.Reset, u, l, 0)
		default:
			m = p
		}
		a = float32(rho*a) + float32((1-rho)*s)
	}
	return fires, distance, float32(alpha*i) + float32(v*s), m, a
}

func (c *glifCase) forward(threads int) []uint16 {
	s := make([]uint16, c.Units*c.Steps*c.Pixels)
	GLIFForward(s, c.x, c.norm, &c.GLIF, c.Scan, nil, threads)
	return s
}

func (c *glifCase) grad(s []uint16, phi Surrogate, detach bool) GLIFGrad {
	return GLIFGrad{GLIF: c.GLIF, Scan: c.Scan, Norm: c.norm, X: c.x, Spikes: s,
		Dout: c.dout, DoutSteps: c.doutSteps, Surrogate: phi, Detach: detach}
}

func TestGLIFForward(t *testing.T) {
	forGLIFCases(t, func(t *testing.T, c *glifCase) {
		const width = 0.4
		s, near := make([]uint16, c.Units*c.Steps*c.Pixels), make([]uint16, c.Units*c.Steps*c.Pixels)
		state := NewGLIFState(&c.GLIF, c.Scan)
		if !GLIFForward(s, c.x, c.norm, &c.GLIF, c.Scan, state, 0) {
			t.Fatal("finite potentials are reported")
		}
		if !slices.Equal(s, c.forward(2)) {
			t.Fatal("the spikes differ without a state")
		}
		GLIFSupport(near, c.x, c.norm, &c.GLIF, c.Scan, width, 0)
		c.each(func(u, px, l int) {
			fires, distance, i, m, a := c.neuron(u, px, l)
			for step, want := range fires {
				at := (u*c.Steps+step)*c.Pixels + px
				if got := s[at]>>l&1 == 1; got != want {
					t.Fatalf("unit %d pixel %d lane %d step %d: spike %v, want %v", u, px, l, step, got, want)
				}
				if got, want := near[at]>>l&1 == 1, distance[step] > -width && distance[step] < width; got != want {
					t.Fatalf("unit %d pixel %d lane %d step %d: near %v, want %v", u, px, l, step, got, want)
				}
			}
			at := (u*c.Pixels+px)*Lanes + l
			if state.Membrane[at] != m || state.Carry != nil && state.Carry[at] != i || state.Adaptation != nil && state.Adaptation[at] != a {
				t.Fatalf("unit %d pixel %d lane %d: the state after the last step differs", u, px, l)
			}
		})
	})
}

// With a leak and a threshold alone, spikes and gradients are those of the LIF kernel to
// the bit.
func TestGLIFIsLIF(t *testing.T) {
	forNeuronCases(t, func(t *testing.T, c *neuronCase) {
		n := c.Units / c.Images * Lanes
		g := &glifCase{Scan: c.Scan, doutSteps: c.doutSteps, norm: c.norm, x: c.x, dout: c.dout, GLIF: GLIF{
			Decay: slices.Repeat([]float32{c.Decay}, n), Threshold: slices.Repeat([]float32{c.Threshold}, n), Soft: c.Soft,
		}}
		zero, one := make([]float32, n), slices.Repeat([]float32{1}, n)
		explicit := *g
		explicit.SynapticDecay, explicit.Recurrence, explicit.Gain = zero, zero, one
		explicit.Adaptation, explicit.AdaptationDecay, explicit.Reset = zero, slices.Repeat([]float32{0.9}, n), zero
		s := c.forward(0)
		for _, g := range []*glifCase{g, &explicit} {
			if !slices.Equal(g.forward(0), s) {
				t.Fatal("the spikes differ")
			}
			for _, detach := range []bool{false, true} {
				got, want := make([]float32, len(c.x)), make([]float32, len(c.x))
				NeuronBackward(want, c.grad(s, triangle{1}, detach), false, 0)
				GLIFBackward(got, nil, g.grad(s, triangle{1}, detach), false, 0)
				if !slices.Equal(got, want) { // ==: signs of zeros may differ
					t.Fatal("the gradients differ")
				}
			}
		}
	})
}

func TestGLIFForwardReportsNonFinite(t *testing.T) {
	forGLIFCases(t, func(t *testing.T, c *glifCase) {
		s := make([]uint16, c.Units*c.Steps*c.Pixels)
		for k, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			for i := k * 7; i < len(c.x); i += 1 + len(c.x)/11 {
				was := c.x[i]
				c.x[i] = bad
				if GLIFForward(s, c.x, c.norm, &c.GLIF, c.Scan, nil, 2) {
					t.Fatalf("%v at %d of %d is not reported", bad, i, len(c.x))
				}
				c.x[i] = was
			}
		}
		c.Threshold[3] = float32(math.NaN())
		if GLIFForward(s, c.x, c.norm, &c.GLIF, c.Scan, nil, 2) {
			t.Fatal("a threshold that is NaN is not reported")
		}
	})
}

// A stream that runs some steps at a time gives the bits of one call.
func TestGLIFState(t *testing.T) {
	forGLIFCases(t, func(t *testing.T, c *glifCase) {
		want := c.forward(0)
		state := NewGLIFState(&c.GLIF, c.Scan)
		for range 2 {
			for t0, n := 0, 1; t0 < c.Steps; t0, n = t0+n, n%3+1 {
				n = min(n, c.Steps-t0)
				part := c.Scan
				part.Steps, part.CurrentSteps = n, min(n, c.CurrentSteps)
				var x []float32
				for u := range c.Units {
					at := u * c.CurrentSteps
					if c.CurrentSteps > 1 {
						at += t0
					}
					x = append(x, c.x[at*c.Pixels*Lanes:][:part.CurrentSteps*c.Pixels*Lanes]...)
				}
				s := make([]uint16, c.Units*n*c.Pixels)
				GLIFForward(s, x, c.norm, &c.GLIF, part, state, 2)
				for u := range c.Units {
					if !slices.Equal(s[u*n*c.Pixels:][:n*c.Pixels], want[(u*c.Steps+t0)*c.Pixels:][:n*c.Pixels]) {
						t.Fatalf("unit %d, steps %d to %d: the spikes differ", u, t0, t0+n-1)
					}
				}
			}
			state.Clear(&c.GLIF, c.Scan)
		}
	})
}

// node is a value on a tape of scalars in float64: what it came from, and its derivatives
// by that.
type node struct {
	value, grad float64
	a, b        *node
	byA, byB    float64
}

// scalarTape has a capacity that it must not exceed, since nodes point to each other.
type scalarTape []node

func (t *scalarTape) put(v float64, a, b *node, byA, byB float64) *node {
	*t = append((*t)[:len(*t):cap(*t)], node{value: v, a: a, b: b, byA: byA, byB: byB})
	return &(*t)[len(*t)-1]
}

func (t *scalarTape) leaf(v float32) *node { return t.put(float64(v), nil, nil, 0, 0) }
func (t *scalarTape) add(a, b *node) *node { return t.put(a.value+b.value, a, b, 1, 1) }
func (t *scalarTape) sub(a, b *node) *node { return t.put(a.value-b.value, a, b, 1, -1) }
func (t *scalarTape) mul(a, b *node) *node { return t.put(a.value*b.value, a, b, b.value, a.value) }

func (t scalarTape) back() {
	for i := range t {
		n := &t[len(t)-1-i]
		if n.a != nil {
			n.a.grad += n.grad * n.byA
		}
		if n.b != nil {
			n.b.grad += n.grad * n.byB
		}
	}
}

// glifNode is one neuron on a tape of scalars, with the spikes given.
type glifNode struct {
	x, spikes    []*node
	coefficients [sumRows]*node // in the order of glifTotals
	last         *node          // the membrane after the last step
	tape         scalarTape
}

func (c *glifCase) onTape(tape scalarTape, u, px, l int, fires []bool, phi func(d float64) float64, detach bool) *glifNode {
	g := &glifNode{tape: tape[:0]}
	t := &g.tape
	alpha, v := t.leaf(c.channel(c.SynapticDecay, u, l, 0)), t.leaf(c.channel(c.Recurrence, u, l, 0))
	kappa, lambda := t.leaf(c.channel(c.Gain, u, l, 1)), t.leaf(c.channel(c.Decay, u, l, 0))
	theta0, beta := t.leaf(c.channel(c.Threshold, u, l, 0)), t.leaf(c.channel(c.Adaptation, u, l, 0))
	rho, reset := t.leaf(c.channel(c.AdaptationDecay, u, l, 0)), t.leaf(c.channel(c.Reset, u, l, 0))
	g.coefficients = [sumRows]*node{alpha, v, kappa, lambda, theta0, beta, rho, reset}
	m, one := t.leaf(c.channel(c.Start, u, l, 0)), t.leaf(1)
	i, a, s := t.leaf(0), t.leaf(0), t.leaf(0)
	na, nb := t.leaf(c.channel(c.norm.A, u, l, 1)), t.leaf(c.channel(c.norm.B, u, l, 0))
	for step := range c.Steps {
		if step < c.CurrentSteps {
			g.x = append(g.x, t.leaf(c.x[((u*c.CurrentSteps+step)*c.Pixels+px)*Lanes+l]))
		}
		x := t.add(t.mul(na, g.x[step%c.CurrentSteps]), nb)
		i = t.add(t.add(t.mul(alpha, i), t.mul(v, s)), x)
		p := t.add(t.mul(lambda, m), t.mul(kappa, i))
		theta := t.add(theta0, t.mul(beta, a))
		d := t.sub(p, theta)
		s = t.put(0, d, nil, phi(d.value), 0)
		if fires[step] {
			s.value = 1
		}
		g.spikes = append(g.spikes, s)
		z := s
		if detach {
			z = t.put(s.value, nil, nil, 0, 0)
		}
		if c.Soft {
			m = t.sub(p, t.mul(theta, z))
		} else {
			m = t.add(p, t.mul(z, t.sub(reset, p)))
		}
		a = t.add(t.mul(rho, a), t.mul(t.sub(one, rho), s))
	}
	g.last = m
	return g
}

// Gradients of inputs and of coefficients are those of a tape of scalars that steps each
// neuron in float64.
func TestGLIFBackward(t *testing.T) {
	const w = 1.25
	phi := func(d float64) float64 { return math.Max(0, w-math.Abs(d)) / (w * w) }
	tape := make(scalarTape, 0, 2000)
	forGLIFCases(t, func(t *testing.T, c *glifCase) {
		s := c.forward(0)
		for _, detach := range []bool{false, true} {
			n := c.Units / c.Images * Lanes
			want, size := NewGLIFSums(n/Lanes), make([]float64, sumRows*n)
			dx := make([]float64, len(c.x))
			c.each(func(u, px, l int) {
				fires, _, _, _, _ := c.neuron(u, px, l)
				g := c.onTape(tape, u, px, l, fires, phi, detach)
				for step, s := range g.spikes {
					s.grad = float64(c.dout[((u*c.doutSteps+step%c.doutSteps)*c.Pixels+px)*Lanes+l])
				}
				g.tape.back()
				for i, x := range g.x {
					dx[((u*c.CurrentSteps+i)*c.Pixels+px)*Lanes+l] = x.grad
				}
				for row, dst := range want.rows() {
					dst[u/c.Images*Lanes+l] += g.coefficients[row].grad
					size[row*n+u/c.Images*Lanes+l] += math.Abs(g.coefficients[row].grad)
				}
			})
			if c.SynapticDecay == nil {
				clear(want.SynapticDecay)
				clear(want.Recurrence)
			}
			if c.Adaptation == nil {
				clear(want.Adaptation)
				clear(want.AdaptationDecay)
			}
			if c.Soft {
				clear(want.Reset)
			}
			for _, add := range []bool{false, true} {
				got, sums, before := make([]float32, len(c.x)), NewGLIFSums(n/Lanes), 0.0
				if add {
					before = 0.5
					for i := range got {
						got[i] = 0.5
					}
				}
				GLIFBackward(got, sums, c.grad(s, triangle{w}, detach), add, 2)
				for i, v := range got {
					if v := float64(v) - before; math.Abs(v-dx[i]) > 3e-5*(1+math.Abs(dx[i])) {
						t.Fatalf("detach %v add %v: gradient %d of the input is %v, want %v", detach, add, i, v, dx[i])
					}
				}
				rows := want.rows()
				for row, v := range sums.rows() {
					for i, v := range v {
						if math.Abs(v-rows[row][i]) > 2e-5*(1+size[row*n+i]) {
							t.Fatalf("detach %v: sum %d of channel %d is %v, want %v", detach, row, i, v, rows[row][i])
						}
					}
				}
			}
		}
	})
}

// With given spikes the last potential is a smooth function of the coefficients. Its
// derivatives on the tape are those of finite differences.
func TestGLIFTapeFiniteDifferences(t *testing.T) {
	for flags := range glifFlags {
		c := newGLIFCase(uint64(flags), 1, 1, 1, 6, flags)
		fires := []bool{false, true, false, false, true, false}
		zero := func(float64) float64 { return 0 } // the spikes are given
		run := func() *glifNode { return c.onTape(make(scalarTape, 0, 200), 0, 0, 0, fires, zero, true) }
		last := func() float64 { return run().last.value }
		g := run()
		g.last.grad = 1
		g.tape.back()
		for row, v := range [sumRows][]float32{c.SynapticDecay, c.Recurrence, c.Gain, c.Decay,
			c.Threshold, c.Adaptation, c.AdaptationDecay, c.Reset} {
			if v == nil {
				continue
			}
			const h = 1.0 / 1024
			was := v[0]
			v[0] = was + h
			up := last()
			v[0] = was - h
			down := last()
			v[0] = was
			if got, want := g.coefficients[row].grad, (up-down)/(2*h); math.Abs(got-want) > 1e-3*(1+math.Abs(want)) {
				t.Fatalf("flags %07b: derivative %d is %v, want %v", flags, row, got, want)
			}
		}
	}
}

// Threads change no bit, the slice call of a surrogate gives those of the triangle, and the
// gradient may overwrite that of the spikes.
func TestGLIFBackwardSameBits(t *testing.T) {
	forGLIFCases(t, func(t *testing.T, c *glifCase) {
		s, blocks := c.forward(0), c.Units/c.Images
		want, wantSums := make([]float32, len(c.x)), NewGLIFSums(blocks)
		GLIFBackward(want, wantSums, c.grad(s, triangle{1}, false), false, 1)
		same := func(what string, got []float32, sums *GLIFSums) {
			t.Helper()
			equalBits(t, what, got, want)
			rows := sums.rows()
			for row, w := range wantSums.rows() {
				if !slices.Equal(rows[row], w) {
					t.Fatalf("%s: sum %d differs", what, row)
				}
			}
		}
		got, sums := make([]float32, len(c.x)), NewGLIFSums(blocks)
		GLIFBackward(got, sums, c.grad(s, sliced{1}, false), false, 3)
		same("slice call", got, sums)
		GLIFBackward(got, nil, c.grad(s, triangle{1}, false), false, 3)
		same("without sums", got, wantSums)
		sums = NewGLIFSums(blocks)
		GLIFBackward(nil, sums, c.grad(s, triangle{1}, false), false, 3)
		same("sums alone", got, sums)
		unscaled := c.grad(s, triangle{1}, false)
		unscaled.Unscaled = true
		GLIFBackward(got, nil, unscaled, false, 3)
		if c.norm.A != nil {
			Scale(got, got, c.norm.A, blocks, len(got)/blocks/Lanes, false, 1)
		}
		same("scaled afterwards", got, wantSums)
		if c.doutSteps == c.CurrentSteps {
			g := c.grad(s, triangle{1}, false)
			g.Dout, sums = slices.Clone(c.dout), NewGLIFSums(blocks)
			GLIFBackward(g.Dout, sums, g, false, 0)
			same("in place", g.Dout, sums)
		}
	})
}
