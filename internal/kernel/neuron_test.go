package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"testing"
)

// triangle is a surrogate that the kernel computes inline, sliced the same one
// that it does not know.
type triangle struct{ w float32 }

func (t triangle) TriangleWidth() float32 { return t.w }

func (t triangle) Derivative(dst, u []float32) { sliced(t).Derivative(dst, u) }

type sliced struct{ w float32 }

func (t sliced) Derivative(dst, u []float32) {
	h := 1 / (t.w * t.w)
	for i, v := range u {
		if v < 0 {
			v = -v
		}
		dst[i] = max(0, t.w-v) * h
	}
}

// neuronCase is a layer of neurons with random inputs around the threshold.
type neuronCase struct {
	Neuron
	Scan
	doutSteps int
	norm      Norm
	x, dout   []float32
}

func values(r *rand.Rand, n int, scale, shift float32) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())*scale + shift
	}
	return v
}

func newNeuronCase(seed uint64, blocks, images, pixels, steps int, constIn, constOut, soft, normed bool) *neuronCase {
	r := rand.New(rand.NewPCG(seed, uint64(pixels)))
	c := &neuronCase{
		Neuron:    Neuron{Decay: 0.9, Threshold: 1, Soft: soft},
		Scan:      Scan{Units: blocks * images, Images: images, Pixels: pixels, Steps: steps, CurrentSteps: steps},
		doutSteps: steps,
	}
	if constIn {
		c.CurrentSteps = 1
	}
	if constOut {
		c.doutSteps = 1
	}
	if normed {
		c.norm = Norm{values(r, blocks*Lanes, 0.5, 1), values(r, blocks*Lanes, 0.2, 0.1)}
	}
	c.x = values(r, c.Units*c.CurrentSteps*pixels*Lanes, 0.7, 0.4)
	c.dout = values(r, c.Units*c.doutSteps*pixels*Lanes, 1, 0)
	return c
}

// neuron is one lane of one unit's pixel, stepped as the equations read.
func (c *neuronCase) neuron(u, px, l int) (x, cur, p, dout []float32, s []bool) {
	a, b := float32(1), float32(0)
	if c.norm.A != nil {
		a, b = c.norm.A[u/c.Images*Lanes+l], c.norm.B[u/c.Images*Lanes+l]
	}
	m := float32(0)
	for t := range c.Steps {
		xt := c.x[((u*c.CurrentSteps+t%c.CurrentSteps)*c.Pixels+px)*Lanes+l]
		x = append(x, xt)
		cur = append(cur, float32(a*xt)+b)
		dout = append(dout, c.dout[((u*c.doutSteps+t%c.doutSteps)*c.Pixels+px)*Lanes+l])
		m = float32(c.Decay*m) + cur[t]
		p = append(p, m)
		s = append(s, m >= c.Threshold)
		if s[t] {
			if c.Soft {
				m -= c.Threshold
			} else {
				m = 0
			}
		}
	}
	return x, cur, p, dout, s
}

func (c *neuronCase) each(fn func(u, px, l int)) {
	for u := range c.Units {
		for px := range c.Pixels {
			for l := range Lanes {
				fn(u, px, l)
			}
		}
	}
}

func (c *neuronCase) forward(threads int) []uint16 {
	s := make([]uint16, c.Units*c.Steps*c.Pixels)
	NeuronForward(s, c.x, c.norm, c.Neuron, c.Scan, threads)
	return s
}

func (c *neuronCase) grad(s []uint16, phi Surrogate, detach bool) NeuronGrad {
	return NeuronGrad{Neuron: c.Neuron, Scan: c.Scan, Norm: c.norm, X: c.x, Spikes: s,
		Dout: c.dout, DoutSteps: c.doutSteps, Surrogate: phi, Detach: detach}
}

// wantGrad is ∂loss/∂cur(t) of one neuron in float64: each step's contribution is
// carried back along every path, ∂p(t+1)/∂p(t) being the product of the decay and
// of the reset's two factors.
func (c *neuronCase) wantGrad(p, dout []float32, s []bool, w float64, detach bool) []float64 {
	d := make([]float64, c.Steps)
	var next float64
	for t := c.Steps - 1; t >= 0; t-- {
		u := float64(p[t]) - float64(c.Threshold)
		phi := math.Max(0, w-math.Abs(u)) / (w * w)
		dqdp := 1.0 // ∂q/∂p with s a function of p
		if c.Soft {
			if !detach {
				dqdp -= float64(c.Threshold) * phi
			}
		} else {
			if s[t] {
				dqdp = 0
			}
			if !detach {
				dqdp -= float64(p[t]) * phi
			}
		}
		d[t] = float64(dout[t])*phi + next*float64(c.Decay)*dqdp
		next = d[t]
	}
	return d
}

func forNeuronCases(t *testing.T, fn func(t *testing.T, c *neuronCase)) {
	for _, size := range [][4]int{{1, 1, 1, 1}, {1, 2, 3, 4}, {2, 3, 5, 8}, {1, 1, 70, 31}, {2, 1, 130, 3}} {
		for bits := range 16 {
			on := func(i int) bool { return bits>>i&1 == 1 }
			c := newNeuronCase(uint64(bits), size[0], size[1], size[2], size[3], on(0), on(1), on(2), on(3))
			t.Run(fmt.Sprintf("%vconst=%v,%v soft=%v norm=%v", size, on(0), on(1), on(2), on(3)),
				func(t *testing.T) { fn(t, c) })
		}
	}
}

// The fused scan gives the spikes of the stepped neuron on the affine currents.
func TestNeuronForward(t *testing.T) {
	forNeuronCases(t, func(t *testing.T, c *neuronCase) {
		s := c.forward(0)
		c.each(func(u, px, l int) {
			_, _, _, _, want := c.neuron(u, px, l)
			for step, fires := range want {
				if got := s[(u*c.Steps+step)*c.Pixels+px]>>l&1 == 1; got != fires {
					t.Fatalf("unit %d pixel %d lane %d step %d: spike %v, want %v", u, px, l, step, got, fires)
				}
			}
		})
	})
}

// A potential that is not finite is reported, whatever unit, pixel, lane or step it is
// in, and whether the neuron fires or not; finite ones are not.
func TestNeuronForwardReportsNonFinite(t *testing.T) {
	inf := float32(math.Inf(1))
	forNeuronCases(t, func(t *testing.T, c *neuronCase) {
		s := make([]uint16, c.Units*c.Steps*c.Pixels)
		if !NeuronForward(s, c.x, c.norm, c.Neuron, c.Scan, 0) {
			t.Fatal("finite potentials are reported")
		}
		for k, bad := range []float32{float32(math.NaN()), inf, -inf} {
			for i := k * 7; i < len(c.x); i += 1 + len(c.x)/23 {
				was := c.x[i]
				c.x[i] = bad
				if NeuronForward(s, c.x, c.norm, c.Neuron, c.Scan, 2) {
					t.Fatalf("%v at %d of %d is not reported", bad, i, len(c.x))
				}
				c.x[i] = was
			}
		}
		// Potentials overflow where currents do not.
		if c.CurrentSteps == 1 && c.Steps > 2 && c.Decay > 0.5 {
			was := c.x[0]
			c.x[0] = -3e38
			if NeuronForward(s, c.x, c.norm, c.Neuron, c.Scan, 1) && c.norm.A == nil {
				t.Fatal("an overflow is not reported")
			}
			c.x[0] = was
		}
	})
}

// The support is where the membrane before the reset is near the threshold, or lost.
func TestNeuronSupport(t *testing.T) {
	const width = 0.4
	forNeuronCases(t, func(t *testing.T, c *neuronCase) {
		c.x[len(c.x)/2] = float32(math.NaN())
		near := make([]uint16, c.Units*c.Steps*c.Pixels)
		NeuronSupport(near, c.x, c.norm, c.Neuron, c.Scan, width, 0)
		some, all := false, true
		c.each(func(u, px, l int) {
			_, _, p, _, _ := c.neuron(u, px, l)
			for step, m := range p {
				d := m - c.Threshold
				want := d != d || -width < d && d < width
				some, all = some || want, all && want
				if got := near[(u*c.Steps+step)*c.Pixels+px]>>l&1 == 1; got != want {
					t.Fatalf("unit %d pixel %d lane %d step %d: near %v, want %v at %v", u, px, l, step, got, want, d)
				}
			}
		})
		if !some || all {
			t.Fatal("the case has no two answers")
		}
	})
}

func TestNeuronBackward(t *testing.T) {
	const w = 1.25
	forNeuronCases(t, func(t *testing.T, c *neuronCase) {
		s := c.forward(0)
		for _, detach := range []bool{false, true} {
			for _, add := range []bool{false, true} {
				dx := make([]float32, len(c.x))
				before := float32(0)
				if add {
					before = 0.5
					for i := range dx {
						dx[i] = before
					}
				}
				NeuronBackward(dx, c.grad(s, triangle{w}, detach), add, 0)
				c.each(func(u, px, l int) {
					_, _, p, dout, fires := c.neuron(u, px, l)
					a, got := 1.0, make([]float64, c.CurrentSteps)
					if c.norm.A != nil {
						a = float64(c.norm.A[u/c.Images*Lanes+l])
					}
					for i, d := range c.wantGrad(p, dout, fires, w, detach) {
						got[i%c.CurrentSteps] += a * d
					}
					for i, want := range got {
						v := float64(dx[((u*c.CurrentSteps+i)*c.Pixels+px)*Lanes+l]) - float64(before)
						if math.Abs(v-want) > 2e-5*(1+math.Abs(want)) {
							t.Fatalf("detach %v add %v: unit %d pixel %d lane %d step %d: %v, want %v", detach, add, u, px, l, i, v, want)
						}
					}
				})
			}
		}
	})
}

// The inline triangle and one behind the slice call give the same bits, and the
// gradient may overwrite the one of the spikes.
func TestNeuronBackwardSurrogateSlice(t *testing.T) {
	forNeuronCases(t, func(t *testing.T, c *neuronCase) {
		s := c.forward(0)
		want, got := make([]float32, len(c.x)), make([]float32, len(c.x))
		NeuronBackward(want, c.grad(s, triangle{1}, false), false, 1)
		NeuronBackward(got, c.grad(s, sliced{1}, false), false, 2)
		equalBits(t, "slice call", got, want)
		if c.doutSteps == c.CurrentSteps {
			g := c.grad(s, triangle{1}, false)
			g.Dout = append([]float32(nil), c.dout...)
			NeuronBackward(g.Dout, g, false, 0)
			equalBits(t, "in place", g.Dout, want)
		}
	})
}

// The fused sums are those that NormReduce finds in dcur, and dcur is what
// NeuronBackward gives without the factor.
func TestNeuronNormBackward(t *testing.T) {
	forNeuronCases(t, func(t *testing.T, c *neuronCase) {
		r := rand.New(rand.NewPCG(9, 9))
		blocks := c.Units / c.Images
		mean, inv := make([]float64, blocks*Lanes), make([]float64, blocks*Lanes)
		for i := range mean {
			mean[i], inv[i] = 0.4+0.1*r.NormFloat64(), 1+r.Float64()
		}
		g := c.grad(c.forward(0), triangle{1.5}, false)
		dcur := make([]float32, len(c.x))
		sum, dot := make([]float64, len(mean)), make([]float64, len(mean))
		NeuronNormBackward(dcur, sum, dot, g, mean, inv, 2)

		wantSum, wantDot := make([]float64, len(mean)), make([]float64, len(mean))
		var size float64
		for i, d := range dcur {
			at := i/(c.Images*c.CurrentSteps*c.Pixels*Lanes)*Lanes + i%Lanes
			wantSum[at] += float64(d)
			wantDot[at] += float64(d) * (float64(c.x[i]) - mean[at]) * inv[at]
			size += math.Abs(float64(d))
		}
		for i := range mean {
			if math.Abs(sum[i]-wantSum[i]) > 1e-6*size || math.Abs(dot[i]-wantDot[i]) > 1e-5*size {
				t.Fatalf("channel %d: sums %v, %v; want %v, %v", i, sum[i], dot[i], wantSum[i], wantDot[i])
			}
		}
		one, oneDot := make([]float64, len(mean)), make([]float64, len(mean))
		NeuronNormBackward(dcur, one, oneDot, g, mean, inv, 1)
		for i := range mean {
			if one[i] != sum[i] || oneDot[i] != dot[i] {
				t.Fatalf("channel %d: the sums depend on the number of threads", i)
			}
		}

		if c.norm.A == nil {
			want := make([]float32, len(c.x))
			NeuronBackward(want, g, false, 0)
			equalBits(t, "dcur", dcur, want)
		}
	})
}

// A gradient of means is spread over their windows tile by tile as it is at once.
func TestNeuronBackwardPool(t *testing.T) {
	for _, l := range Levels() {
		t.Run(l.String(), func(t *testing.T) { at(t, l, func() { checkNeuronBackwardPool(t) }) })
	}
}

func checkNeuronBackwardPool(t *testing.T) {
	for _, p := range []Pool{
		{Hin: 2, Win: 2, KH: 2, KW: 2, Stride: 2}, {Hin: 6, Win: 4, KH: 2, KW: 2, Stride: 2}, {Hin: 9, Win: 15, KH: 3, KW: 3, Stride: 3},
		{Hin: 34, Win: 38, KH: 2, KW: 2, Stride: 2}, {Hin: 2, Win: 700, KH: 2, KW: 2, Stride: 2}, {Hin: 7, Win: 7, KH: 7, KW: 7, Stride: 7},
		{Hin: 3, Win: 5, KH: 1, KW: 1, Stride: 1},
	} {
		p.Hout, p.Wout = p.Hin/p.Stride, p.Win/p.Stride
		for i, steps := range []int{1, 4, 8, 40} {
			c := newNeuronCase(uint64(i), 2, 2, p.Hin*p.Win, steps, i%2 == 1, i%3 == 1, false, true)
			g := c.grad(c.forward(0), triangle{1}, false)
			g.Pool, g.Dout = &p, values(rand.New(rand.NewPCG(1, 2)), c.Units*c.doutSteps*p.Hout*p.Wout*Lanes, 1, 0)
			whole := c.grad(g.Spikes, triangle{1}, false)
			whole.Dout = make([]float32, c.Units*c.doutSteps*c.Pixels*Lanes)
			all := p
			all.Planes = c.Units * c.doutSteps
			AvgPoolGrad(whole.Dout, g.Dout, all, false, 0)

			got, want := values(rand.New(rand.NewPCG(3, 4)), len(c.x), 1, 0), make([]float32, len(c.x))
			NeuronBackward(got, g, false, 2)
			NeuronBackward(want, whole, false, 2)
			equalBits(t, "dx", got, want)
			g.Surrogate = sliced{1}
			NeuronBackward(got, g, true, 2)
			NeuronBackward(want, whole, true, 2)
			equalBits(t, "dx added to", got, want)

			n := c.Units / c.Images * Lanes
			mean, inv := make([]float64, n), make([]float64, n)
			for i := range mean {
				mean[i], inv[i] = 0.4, 1.1
			}
			sums := [4][]float64{make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)}
			NeuronNormBackward(got, sums[0], sums[1], g, mean, inv, 2)
			NeuronNormBackward(want, sums[2], sums[3], whole, mean, inv, 1)
			equalBits(t, "dcur", got, want)
			for i := range mean {
				if math.Abs(sums[0][i]-sums[2][i]) > 1e-9*float64(len(got)) || math.Abs(sums[1][i]-sums[3][i]) > 1e-9*float64(len(got)) {
					t.Fatalf("%v: channel %d: sums %v, %v; want %v, %v", p, i, sums[0][i], sums[1][i], sums[2][i], sums[3][i])
				}
			}
		}
	}
}

// No pointer ever points past the gradients that are spread, where the garbage collector
// may find that there is nothing.
func TestNeuronBackwardPoolCollected(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	p := Pool{Hin: 64, Win: 32, KH: 2, KW: 2, Stride: 2, Hout: 32, Wout: 16}
	for i := range 100 {
		c := newNeuronCase(uint64(i), 2, 2, p.Hin*p.Win, 1, false, true, false, true)
		g := c.grad(c.forward(0), triangle{1}, false)
		g.Pool, g.Dout = &p, c.dout[:c.Units*p.Hout*p.Wout*Lanes]
		dx := make([]float32, len(c.x))
		for range 20 {
			NeuronBackward(dx, g, false, 2)
		}
	}
}

// Gate passes (scale·a)·src where the bit is set.
func TestGate(t *testing.T) {
	const units, images, steps, pixels, scale = 6, 3, 2, 37, 0.3
	r := rand.New(rand.NewPCG(3, 4))
	src, a := values(r, units*steps*pixels*Lanes, 1, 0), values(r, units/images*Lanes, 1, 0)
	mask := make([]uint16, units*pixels)
	for i := range mask {
		mask[i] = uint16(r.Uint32())
	}
	for _, a := range [][]float32{nil, a} {
		dst := make([]float32, len(src))
		for _, add := range []bool{false, true} {
			Gate(dst, src, mask, a, scale, units, images, steps, pixels, add, 0)
		}
		for i, v := range dst {
			u, px, l := i/Lanes/pixels/steps, i/Lanes%pixels, i%Lanes
			f := float32(scale)
			if a != nil {
				f *= a[u/images*Lanes+l]
			}
			want := float32(f*src[i]) * 2
			if mask[u*pixels+px]>>l&1 == 0 {
				want = 0
			}
			if v != want {
				t.Fatalf("a %v: value %d is %v, want %v", a != nil, i, v, want)
			}
		}
	}
}

// NeuronStep gives the bits of NeuronForward, however the steps are divided into calls, and
// leaves the membranes of the recursion.
func TestNeuronStep(t *testing.T) {
	for _, l := range Levels() {
		at(t, l, func() {
			for seed, soft := range []bool{false, true} {
				const pixels, steps = 700, 7
				c := newNeuronCase(uint64(seed), 2, 2, pixels, steps, false, false, soft, true)
				want := make([]uint16, c.Units*steps*pixels)
				NeuronForward(want, c.x, c.norm, c.Neuron, c.Scan, 1)
				state := make([]float32, c.Units*pixels*Lanes)
				part, x := make([]uint16, c.Units*pixels), make([]float32, c.Units*pixels*Lanes)
				one := c.Scan
				one.Steps, one.CurrentSteps = 1, 1
				for step := range steps {
					for u := range c.Units {
						copy(x[u*pixels*Lanes:][:pixels*Lanes], c.x[(u*steps+step)*pixels*Lanes:])
					}
					if !NeuronStep(part, x, c.norm, c.Neuron, one, state, 1+step%2) {
						t.Fatal("a potential is not finite")
					}
					for i, s := range part {
						if w := want[(i/pixels*steps+step)*pixels+i%pixels]; s != w {
							t.Fatalf("%v, step %d: spikes %016b of pixel %d: want %016b", l, step, s, i, w)
						}
					}
				}
				for i, m := range state {
					var want float32
					u, px, lane := i/(pixels*Lanes), i/Lanes%pixels, i%Lanes
					a, b := c.norm.A[u/c.Images*Lanes+lane], c.norm.B[u/c.Images*Lanes+lane]
					for step := range steps {
						want = float32(c.Decay*want) + (float32(a*c.x[((u*steps+step)*pixels+px)*Lanes+lane]) + b)
						switch {
						case want >= c.Threshold && soft:
							want -= c.Threshold
						case want >= c.Threshold:
							want = 0
						}
					}
					if m != want {
						t.Fatalf("%v: membrane %d is %v: want %v", l, i, m, want)
					}
				}
				state[3] = float32(math.NaN())
				if NeuronStep(part, x, c.norm, c.Neuron, one, state, 1) {
					t.Error("a potential that is not finite goes unnoticed")
				}
			}
		})
	}
}
