package autograd_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// trajectory runs one GLIF neuron. It returns its distances from the threshold, its synaptic
// currents and its spikes.
func trajectory(n autograd.GLIF, x []float32) (u, current []float64, spikes []bool) {
	var k [9]float32
	for i, v := range glifCoefficients(&n) {
		k[i] = [9]float32{2: 1}[i]
		if *v != nil {
			k[i] = (*v)[0]
		}
	}
	var i, s, a float32
	m := k[8]
	for _, v := range x {
		i = float32(k[0]*i) + float32(k[1]*s) + v
		p, theta := float32(k[3]*m)+float32(k[2]*i), k[4]+float32(k[5]*a)
		u, current, spikes = append(u, float64(p-theta)), append(current, float64(i)), append(spikes, p >= theta)
		m, s = p, 0
		if p >= theta {
			s = 1
			if m = k[7]; n.SoftReset {
				m = p - theta
			}
		}
		a = float32(k[6]*a) + float32((1-k[6])*s)
	}
	return u, current, spikes
}

// Each step counts alone, and the gradient is the mean over time.
func TestFireGLIFStepwise(t *testing.T) {
	racetest.Costly(t)
	for _, k := range []int{0, len(surrogates) - 1} {
		surrogate := surrogates[k]
		for i, n := range glifs() {
			t.Run(fmt.Sprintf("%T, neuron %d", surrogate.Surrogate, i), func(t *testing.T) {
				for _, s := range scenes(1) {
					spikes, grad := s.run(&autograd.Tape{}, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
						return autograd.FireGLIFStepwise(t, x, n, s.steps, surrogate)
					})
					require.Equal(t, 1, grad.Steps)
					s.check(t, spikes, grad, func(x []float32, out []float64) ([]bool, []float64) {
						u, _, spikes := trajectory(n, x)
						mean := 0.0
						for t, u := range u {
							mean += out[t] * surrogate.derivative(u) / float64(len(x))
						}
						if n.Gain != nil {
							mean *= float64(n.Gain[0])
						}
						grad := make([]float64, len(x))
						for t := range grad {
							grad[t] = mean
						}
						return spikes, grad
					})
				}
			})
		}
	}
}

// The gradient goes through the rate as a function of the mean current, and through the synapse.
func TestFireGLIFThroughCurrent(t *testing.T) {
	for i, n := range glifs() {
		if n.Recurrence != nil {
			continue
		}
		t.Run(fmt.Sprint("neuron ", i), func(t *testing.T) {
			for _, s := range scenes(1) {
				spikes, grad := s.run(&autograd.Tape{}, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
					return autograd.FireGLIFThroughCurrent(t, x, n, s.steps)
				})
				s.check(t, spikes, grad, func(x []float32, out []float64) ([]bool, []float64) {
					_, current, spikes := trajectory(n, x)
					decay, scale, alpha := float64(n.Decay[0]), 1/float64(n.Threshold[0]), 0.0
					if n.Gain != nil {
						scale *= float64(n.Gain[0])
					}
					if n.SynapticDecay != nil {
						alpha = float64(n.SynapticDecay[0])
					}
					z := 0.0
					for _, c := range current {
						z += c * scale / float64(len(x))
					}
					f := 0.0
					switch {
					case z >= 0 && z < 1-decay:
						f = 0.2
					case z >= 1-decay && z <= 2:
						f = (0.8 + 0.2*decay) / (1 + decay)
					}
					grad, later := make([]float64, len(x)), 0.0
					for t := len(x) - 1; t >= 0; t-- {
						later = out[t]*f*scale + alpha*later
						grad[t] = later
					}
					return spikes, grad
				})
			}
		})
	}
}

// Neurons that do batch norm's work have the gradient of neurons behind a batch norm that is
// computed, in training and in evaluation.
func TestFireGLIFThroughCurrentFused(t *testing.T) {
	sh := tensor.Shape{N: 3, Steps: 4, C: 17, H: 3, W: 5}
	r := rand.New(rand.NewPCG(9, 7))
	out := elementwise(sh, func(_, _, _, _, _ int) float64 { return r.NormFloat64() })
	for _, steps := range []int{1, 4} {
		x := elementwise(sh.WithSteps(steps), func(_, _, _, _, _ int) float64 { return 2.4*r.Float64() - 0.6 })
		for _, train := range []bool{false, true} {
			run := func(fused bool) []float32 {
				tape := &autograd.Tape{Params: train}
				s := newStack(sh.C, sh.C)
				in := tape.Input(x.dense(), true)
				h := in
				if train {
					h = autograd.BatchNormTrain(tape, in, &s.bn, sh.Steps)
				} else {
					h = autograd.BatchNormEval(tape, in, &s.bn)
				}
				if !fused {
					tape.Floats(h)
				}
				y := autograd.FireGLIFThroughCurrent(tape, h, glifs()[1], sh.Steps)
				tape.BackwardFrom(y, out.dense())
				return in.Grad().Data
			}
			close(t, run(false), run(true))
		}
	}
}

// positioned is a BlockSurrogate whose derivative is that of a triangle times a number that
// depends on the place of the neuron and on the step. It checks how it is called.
type positioned struct {
	snn.Triangle
	t     *testing.T
	sh    tensor.Shape // of the spikes
	mu    sync.Mutex
	calls map[[2]int]int
}

func weight(n, t, c, pixel int) float32 { return float32(1 + (n*7+t*5+c*3+pixel)%11) }

func (s *positioned) BlockDerivative(u []float32, image, block int) {
	pixels := s.sh.Pixels()
	if pixels == 1 {
		require.Len(s.t, u, s.sh.Blocks()*s.sh.Steps*tensor.Lanes)
	} else {
		require.Len(s.t, u, s.sh.Steps*pixels*tensor.Lanes)
	}
	s.Triangle.Derivative(u, u)
	for i := range u {
		lane, at := i%tensor.Lanes, i/tensor.Lanes
		pixel, step, b := at%pixels, at/pixels%s.sh.Steps, at/pixels/s.sh.Steps
		u[i] *= weight(image, step, (block+b)*tensor.Lanes+lane, pixel)
	}
	s.mu.Lock()
	s.calls[[2]int{image, block}]++
	s.mu.Unlock()
}

// A block surrogate is called once for each image and block, with all of its steps and pixels:
// its gradients are those of single neurons whose surrogates carry the numbers.
func TestBlockSurrogate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	glif := glifs()[8] // adaptive, soft reset
	glif.Reset, glif.Start = nil, nil
	lif := autograd.Dynamics{Decay: 0.75, Threshold: 1}
	recurrent := autograd.NewParam(33, 33)
	for name, fire := range map[string]func(t *autograd.Tape, x *autograd.Value, steps int, s autograd.Surrogate) *autograd.Value{
		"LIF": func(t *autograd.Tape, x *autograd.Value, steps int, s autograd.Surrogate) *autograd.Value {
			return autograd.FireThroughTime(t, x, lif, steps, s, false)
		},
		"GLIF": func(t *autograd.Tape, x *autograd.Value, steps int, s autograd.Surrogate) *autograd.Value {
			return autograd.FireGLIFThroughTime(t, x, glif, steps, s, false)
		},
		"recurrent": func(t *autograd.Tape, x *autograd.Value, steps int, s autograd.Surrogate) *autograd.Value {
			return autograd.FireGLIFRecurrent(t, x, glif, recurrent, steps, s, false)
		},
		"stepwise": func(t *autograd.Tape, x *autograd.Value, steps int, s autograd.Surrogate) *autograd.Value {
			return autograd.FireGLIFStepwise(t, x, glif, steps, s)
		},
	} {
		for _, sh := range []tensor.Shape{{N: 3, Steps: 4, C: 33, H: 1, W: 1}, {N: 2, Steps: 3, C: 33, H: 5, W: 29}} {
			for _, threads := range []int{1, 2} {
				t.Run(fmt.Sprint(name, " ", sh, " ", threads), func(t *testing.T) {
					x := elementwise(sh, func(_, _, _, _, _ int) float64 { return float64(float32(1.4*r.Float64() - 0.2)) })
					out := elementwise(sh, func(_, _, _, _, _ int) float64 { return float64(float32(r.NormFloat64())) })
					run := func(x, out array, s autograd.Surrogate) (*tensor.Spikes, array) {
						return scene{sh.Steps, x, out}.run(&autograd.Tape{Threads: threads}, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
							return fire(t, x, sh.Steps, s)
						})
					}
					s := &positioned{Triangle: snn.Triangle{Width: 1}, t: t, sh: sh, calls: map[[2]int]int{}}
					plain, _ := run(x, out, s.Triangle)
					spikes, grad := run(x, out, s)
					require.Equal(t, plain, spikes)
					blocks := sh.Blocks()
					if sh.Pixels() == 1 {
						blocks = 1
					}
					require.Len(t, s.calls, sh.N*blocks)
					for _, n := range s.calls {
						require.Equal(t, 1, n)
					}
					if name == "recurrent" { // by weights of 0
						_, want := scene{sh.Steps, x, out}.run(&autograd.Tape{}, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
							return autograd.FireGLIFThroughTime(t, x, glif, sh.Steps, s, false)
						})
						require.Less(t, difference(grad.v, want.v), 1e-5)
					}
					if name != "LIF" && name != "GLIF" {
						_, want := run(x, out, &flatBlocks{s.Triangle}) // a block surrogate without numbers
						_, got := run(x, out, s.Triangle)
						require.Equal(t, want.v, got.v)
						return
					}
					for _, at := range [][4]int{{0, 0, 0, 0}, {1, 32, 0, 0}, {sh.N - 1, 17, sh.H - 1, sh.W - 1}, {1, 5, sh.H / 2, sh.W / 2}} {
						n, c, y, z := at[0], at[1], at[2], at[3]
						one := func(a array) array {
							return elementwise(tensor.Shape{N: 1, Steps: sh.Steps, C: 1, H: 1, W: 1}, func(_, t, _, _, _ int) float64 { return a.at(n, t, c, y, z) })
						}
						_, want := run(one(x), one(out), &numbered{s.Triangle, func(step int) float32 { return weight(n, step, c, y*sh.W+z) }})
						for step := range sh.Steps {
							assert.InDelta(t, want.at(0, step, 0, 0, 0), grad.at(n, step, c, y, z), 1e-5, "image %d, step %d, channel %d, pixel %d, %d", n, step, c, y, z)
						}
					}
				})
			}
		}
	}
}

// Neurons with a block surrogate work with batch norm, in training too, and with average pooling:
// the gradients are those of the same surrogate of one neuron, to the bit.
func TestBlockSurrogateFused(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, sh := range []tensor.Shape{{N: 3, Steps: 4, C: 17, H: 6, W: 8}, {N: 3, Steps: 4, C: 17, H: 2, W: 2}} {
		x := elementwise(sh, func(_, _, _, _, _ int) float64 { return 1.4*r.Float64() - 0.2 })
		out := elementwise(tensor.Shape{N: 3, Steps: 4, C: 17, H: sh.H / 2, W: sh.W / 2}, func(_, _, _, _, _ int) float64 { return r.NormFloat64() })
		for _, train := range []bool{false, true} {
			run := func(phi autograd.Surrogate) []float32 {
				tape := &autograd.Tape{Params: train}
				s := newStack(sh.C, sh.C)
				in := tape.Input(x.dense(), true)
				h := in
				if train {
					h = autograd.BatchNormTrain(tape, in, &s.bn, sh.Steps)
				} else {
					h = autograd.BatchNormEval(tape, in, &s.bn)
				}
				h = autograd.FireThroughTime(tape, h, autograd.Dynamics{Decay: 0.9, Threshold: 0.7}, sh.Steps, phi, false)
				tape.BackwardFrom(autograd.AvgPool(tape, h, 2, 2, 2), out.dense())
				return in.Grad().Data
			}
			want := run(triangle{})
			require.NotEqual(t, make([]float32, len(want)), want)
			require.Equal(t, want, run(&flatBlocks{snn.Triangle{Width: 1}}))
		}
	}
}

// flatBlocks is a triangle as a BlockSurrogate.
type flatBlocks struct{ snn.Triangle }

func (s *flatBlocks) BlockDerivative(u []float32, _, _ int) { s.Derivative(u, u) }

// numbered is a triangle for one neuron, with a factor for each step. It is given all steps at
// once.
type numbered struct {
	s      snn.Triangle
	factor func(step int) float32
}

func (s *numbered) Derivative(dst, u []float32) {
	s.s.Derivative(dst, u)
	for i := range u {
		dst[i] *= s.factor(i / tensor.Lanes)
	}
}

// A neuron in plain Go is computed in parts, and refuses a block surrogate.
func TestModelRefusesBlockSurrogate(t *testing.T) {
	tape := &autograd.Tape{}
	x := tape.Input(tensor.NewDense(tensor.Shape{N: 1, Steps: 1, C: 3, H: 1, W: 1}), true)
	autograd.FireModelThroughTime(tape, x, smooth{}, []*autograd.Param{autograd.NewParam()}, 2, &flatBlocks{snn.Triangle{Width: 1}})
	assert.ErrorContains(t, tape.Err(), "reads all neurons of a block of channels")
}
