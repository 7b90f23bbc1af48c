package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// recurrentCase is a layer of GLIF neurons with feedback.
type recurrentCase struct {
	*glifCase
	Feedback
}

func forRecurrentCases(t *testing.T, fn func(t *testing.T, c recurrentCase)) {
	for _, size := range [][4]int{{1, 1, 1, 1}, {2, 3, 5, 4}, {1, 2, 75, 6}, {9, 1, 3, 3}} { // blocks, images, pixels, steps
		for flags := range glifFlags {
			if flags&glifNormed != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%v flags=%07b", size, flags), func(t *testing.T) { fn(t, newRecurrentCase(uint64(flags), size, flags)) })
		}
	}
}

// newRecurrentCase returns a case whose last block lacks three channels.
func newRecurrentCase(seed uint64, size [4]int, flags int) recurrentCase {
	c := recurrentCase{newGLIFCase(seed, size[0], size[1], size[2], size[3], flags), Feedback{Channels: size[0]*Lanes - 3}}
	r := rand.New(rand.NewPCG(seed, 5))
	conv := c.conv(c.Pixels)
	c.Weights = make([]float32, conv.WeightLen())
	for i := range c.Weights {
		from, to := i/Lanes%(size[0]*Lanes), i/Lanes/(size[0]*Lanes)*Lanes+i%Lanes
		if from < c.Channels && to < c.Channels {
			c.Weights[i] = float32(r.NormFloat64()) / float32(math.Sqrt(float64(c.Channels)))
		}
	}
	missing := func(v []float32, perBlock int) {
		if v == nil {
			return
		}
		last := v[(size[0]-1)*perBlock*Lanes:]
		for i := range last {
			if i%Lanes >= Lanes-3 {
				last[i] = 0
			}
		}
	}
	missing(c.x, c.Images*c.CurrentSteps*c.Pixels)
	missing(c.dout, c.Images*c.doutSteps*c.Pixels)
	missing(c.Reset, 1)
	missing(c.Start, 1)
	return c
}

func (c *recurrentCase) conv(pixels int) Conv {
	return Conv{Frames: c.Images * c.Steps, Cin: c.Channels, Cout: c.Channels, Hin: 1, Win: pixels, Hout: 1, Wout: pixels, KH: 1, KW: 1, Stride: 1}
}

func (c *recurrentCase) run(threads int) []uint16 {
	s := make([]uint16, c.Units*c.Steps*c.Pixels)
	RecurrentForward(s, c.x, &c.GLIF, c.Feedback, c.Scan, threads)
	return s
}

// later moves data [Units][Steps][frame] by the given number of steps. The steps that are
// left are zeros.
func later[E any](c *recurrentCase, data []E, by, frame int) []E {
	moved := make([]E, len(data))
	for u := range c.Units {
		for i := range c.Steps {
			if j := i + by; j >= 0 && j < c.Steps {
				copy(moved[(u*c.Steps+j)*frame:][:frame], data[(u*c.Steps+i)*frame:])
			}
		}
	}
	return moved
}

// everyStep repeats data of so many steps at every step.
func (c *recurrentCase) everyStep(data []float32, steps int) []float32 {
	if steps == c.Steps {
		return slices.Clone(data)
	}
	all := make([]float32, c.Units*c.Steps*c.Pixels*Lanes)
	Repeat(all, data, c.Units, c.Steps, c.Pixels*Lanes, false, 1)
	return all
}

// open returns the layer without feedback that gets the currents of spikes s in its input.
func (c *recurrentCase) open(s []uint16) *glifCase {
	back := make([]float32, c.Units*c.Steps*c.Pixels*Lanes)
	ConvSpikes(back, later(c, s, 1, c.Pixels), c.Weights, nil, c.conv(c.Pixels), 1)
	o := *c.glifCase
	o.x, o.CurrentSteps = c.everyStep(c.x, c.CurrentSteps), c.Steps
	AXPY(o.x, 1, back, true, 1)
	return &o
}

// The spikes are those of the layer without feedback that gets the same currents.
func TestRecurrentForward(t *testing.T) {
	fired := 0
	forRecurrentCases(t, func(t *testing.T, c recurrentCase) {
		s := make([]uint16, c.Units*c.Steps*c.Pixels)
		if !RecurrentForward(s, c.x, &c.GLIF, c.Feedback, c.Scan, 0) {
			t.Fatal("finite potentials are reported")
		}
		if !slices.Equal(s, c.open(s).forward(0)) {
			t.Fatal("the spikes differ")
		}
		if !slices.Equal(s, c.glifCase.forward(0)) {
			fired++ // the feedback has an effect
		}
		c.x[len(c.x)/2/Lanes*Lanes] = float32(math.Inf(1))
		if RecurrentForward(s, c.x, &c.GLIF, c.Feedback, c.Scan, 2) {
			t.Fatal("a potential that is not finite is not reported")
		}
	})
	if fired < 100 {
		t.Fatalf("feedback changes the spikes of %d cases: expected most", fired)
	}
}

// The gradients are those of the layer without feedback that gets the same currents, and
// whose spikes get wᵀ times the gradient of the currents of the next step besides. They are a
// fixed point, which is reached after as many rounds as there are steps.
func TestRecurrentBackward(t *testing.T) {
	forRecurrentCases(t, func(t *testing.T, c recurrentCase) {
		s, conv, blocks := c.run(0), c.conv(c.Pixels), c.Units/c.Images
		for _, detach := range []bool{false, true} {
			g := c.open(s).grad(s, triangle{1.2}, detach)
			dcur := make([]float32, len(g.X))
			var wantSums *GLIFSums
			for range c.Steps {
				g.Dout, g.DoutSteps = c.everyStep(c.dout, c.doutSteps), c.Steps
				ConvInputGrad(g.Dout, later(&c, dcur, -1, c.Pixels*Lanes), c.Weights, nil, conv, true, 1)
				wantSums = NewGLIFSums(blocks)
				GLIFBackward(dcur, wantSums, g, false, 1)
			}
			wantW := make([]float32, len(c.Weights))
			ConvWeightGradSpikes(wantW, later(&c, s, 1, c.Pixels), dcur, conv, false, 1)
			want := dcur
			if c.CurrentSteps < c.Steps {
				want = make([]float32, len(c.x))
				SumSteps(want, dcur, c.Units, c.Steps, c.Pixels*Lanes, 1, false, 1)
			}

			size := c.Steps * c.Pixels * Lanes
			if c.Pixels == 1 {
				size *= blocks
			}
			for i, phi := range []Surrogate{triangle{1.2}, sliced{1.2}, ofBlock{sliced{1.2}, size}} {
				for _, add := range []bool{detach != (i == 1)} { // adding or not changes neither detach nor phi
					got, dw, sums := make([]float32, len(c.x)), make([]float32, len(wantW)), NewGLIFSums(blocks)
					before := float32(0)
					if add {
						before = 0.5
						for i := range got {
							got[i] = before
						}
					}
					for i := range dw {
						dw[i] = 0.25
					}
					if fault := RecurrentBackward(got, dw, sums, c.grad(s, phi, detach), c.Feedback, add, 2); fault != nil {
						t.Fatalf("a finite gradient is reported: %+v", fault)
					}
					near := func(what string, got, want, size float64) {
						t.Helper()
						if !(math.Abs(got-want) <= 2e-5*(1+size)) {
							t.Fatalf("%T detach %v add %v: %s is %v, want %v", phi, detach, add, what, got, want)
						}
					}
					for i, v := range got {
						near(fmt.Sprint("gradient ", i), float64(v-before), float64(want[i]), math.Abs(float64(want[i])))
					}
					for i, v := range dw {
						near(fmt.Sprint("gradient of weight ", i), float64(v)-0.25, float64(wantW[i]), 5)
					}
					rows := wantSums.rows()
					for row, v := range sums.rows() {
						for i, v := range v {
							near(fmt.Sprintf("sum %d of channel %d", row, i), v, rows[row][i], 10+math.Abs(rows[row][i]))
						}
					}
				}
			}
		}
	})
}

// ofBlock is the triangle as a BlockSurrogate, which gets size potentials of a layer at a time.
type ofBlock struct {
	sliced
	size int
}

func (s ofBlock) BlockDerivative(u []float32, image, block int) {
	if len(u) != s.size {
		panic(fmt.Sprintf("%d potentials: expected %d", len(u), s.size))
	}
	s.Derivative(u, u)
}

// Threads change no bit, and neither do the gradients that are not asked for.
func TestRecurrentSameBits(t *testing.T) {
	c := newRecurrentCase(1, [4]int{2, 9, 75, 3}, glifFlags-1-glifNormed-glifConstIn) // more tiles than parts
	many := newRecurrence(&c.GLIF, c.Feedback, c.Scan, c.x, nil)
	many.pixels = 1
	s := c.run(1)
	if other := make([]uint16, len(s)); true {
		many.parts = many.tiles()
		many.run(2, func(_ int, t *recurrentTile) { t.forward(other) })
		if !slices.Equal(s, other) {
			t.Fatal("the spikes depend on the tiles")
		}
	}
	var want [][]float32
	for _, threads := range []int{1, 2, 5, 64} { // few parts for so many: they share the tiles
		if !slices.Equal(s, c.run(threads)) {
			t.Fatalf("the spikes of %d threads differ", threads)
		}
		dx, dw, sums := make([]float32, len(c.x)), make([]float32, len(c.Weights)), NewGLIFSums(2)
		RecurrentBackward(dx, dw, sums, c.grad(s, triangle{1}, false), c.Feedback, false, threads)
		rows := sums.rows()
		coefficients := make([]float32, 4*sumRows*len(rows[0]))
		quarters(coefficients, rows[:]...)
		if got := [][]float32{dx, dw, coefficients}; want == nil {
			want = got
		} else {
			for i := range got {
				equalBits(t, fmt.Sprintf("%d threads: result %d", threads, i), got[i], want[i])
			}
		}
		RecurrentBackward(dx, nil, nil, c.grad(s, triangle{1}, false), c.Feedback, false, threads)
		equalBits(t, "gradient alone", dx, want[0])
		clear(dw)
		RecurrentBackward(nil, dw, nil, c.grad(s, triangle{1}, false), c.Feedback, false, threads)
		equalBits(t, "weights alone", dw, want[1])
	}
}

// A gradient that is not finite is reported with its place.
func TestRecurrentNotFinite(t *testing.T) {
	c := newRecurrentCase(2, [4]int{2, 3, 70, 4}, glifOthers)
	s := c.run(1)
	const image, step, pixel, channel = 2, 2, 33, 20 // in the second tile
	at := ((((channel/Lanes)*c.Images+image)*c.Steps+step)*c.Pixels+pixel)*Lanes + channel%Lanes
	c.dout[at] = float32(math.NaN())
	got := RecurrentBackward(nil, nil, nil, c.grad(s, triangle{10}, false), c.Feedback, false, 2)
	if got == nil || got.Step != step || got.Image != image || got.Channel != channel || got.Pixel != pixel || got.Value == got.Value {
		t.Fatalf("%+v is reported", got)
	}
}

// All levels give the same bits where products are exact: with weights that are powers of two.
func TestRecurrentParity(t *testing.T) {
	for pixels := 1; pixels <= 150; pixels += 1 + pixels/9 {
		for variant := range 2 {
			r := rand.New(rand.NewPCG(3, uint64(2*pixels+variant)))
			c := newRecurrentCase(uint64(pixels), [4]int{1 + pixels%4, 1 + pixels%2, pixels, 1 + pixels%7}, r.IntN(glifFlags)&^glifNormed)
			if variant == 1 {
				c.Channels = c.Units / c.Images * Lanes // others have any content if values are not finite
				wild(r, c.x)
				wild(r, c.dout)
			}
			for i, w := range c.Weights {
				if w != 0 {
					c.Weights[i] = float32(math.Copysign(math.Ldexp(1, i%3-3), float64(w)))
				}
			}
			var s []uint16
			parity(t, "RecurrentForward", func(dst func(int) []float32, w func(int) []uint16) {
				s = w(c.Units * c.Steps * c.Pixels)
				if RecurrentForward(s, c.x, &c.GLIF, c.Feedback, c.Scan, 1) {
					dst(1)[0] = 1
				}
			})
			for _, phi := range []Surrogate{triangle{1.2}, sliced{1.2}} {
				parity(t, "RecurrentBackward", func(dst func(int) []float32, _ func(int) []uint16) {
					sums := NewGLIFSums(c.Units / c.Images)
					RecurrentBackward(dst(len(c.x)), dst(len(c.Weights)), sums, c.grad(s, phi, pixels%2 == 1), c.Feedback, variant == 0, 1)
					rows := sums.rows()
					quarters(dst(4*sumRows*len(rows[0])), rows[:]...)
				})
			}
		}
	}
}
