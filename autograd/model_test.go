package autograd_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// smooth is a model without resets, so that its spikes do not act on its states. State 1 adds up
// the currents. State 0, which is u, is its own square plus the product of state 1 and a
// parameter.
type smooth struct{}

func (smooth) NumStates() int { return 2 }
func (smooth) Start(z [][]float32) {
	for j := range z[0] {
		z[0][j] = 0.25
	}
}
func (smooth) Integrate(z [][]float32, x, u []float32) {
	for j, x := range x {
		z[1][j] += x
		z[0][j] = z[0][j]*z[0][j] + z[1][j]*z[2][j]
		u[j] = z[0][j]
	}
}
func (smooth) Reset(z [][]float32, s []float32)                                   {}
func (smooth) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {}
func (smooth) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	for j, x := range x {
		d := dz[0][j] + du[j]
		dz[2][j] += d * (z[1][j] + x)
		dx[j] = dz[1][j] + d*z[2][j]
		dz[1][j] = dx[j]
		dz[0][j] = 2 * d * z[0][j]
	}
}

// one is the derivative of the identity.
type one struct{}

func (one) Derivative(dst, u []float32) {
	for i := range dst {
		dst[i] = 1
	}
}

// With the surrogate 1, the gradient of a model is that of Σ seed·u. It agrees with finite
// differences of a float64 computation, for currents of one step and of all, for more images
// than a chunk has, and for channels that do not fill a block.
func TestFireModelGradient(t *testing.T) {
	for _, sh := range []tensor.Shape{{N: 2, Steps: 4, C: 3, H: 5, W: 9}, {N: 70, Steps: 1, C: 17, H: 1, W: 1}, {N: 3, Steps: 4, C: 16, H: 2, W: 2}} {
		for _, shape := range [][]int{{}, {sh.C}} {
			const steps = 4
			r := rng.New(1).Rand()
			x, seed := tensor.NewDense(sh), tensor.NewDense(sh.WithSteps(steps))
			fill := func(d *tensor.Dense) {
				for n := range d.N {
					for step := range d.Steps {
						for c := range d.C {
							for y := range d.H {
								for w := range d.W {
									d.Set(n, step, c, y, w, float32(r.Float64()-0.5))
								}
							}
						}
					}
				}
			}
			fill(x)
			fill(seed)
			p := autograd.NewParam(shape...)
			p.Fill(func(int) (float32, error) { return float32(r.Float64()), nil })
			tape := &autograd.Tape{Params: true}
			in := tape.Input(x, true)
			y := autograd.FireModelThroughTime(tape, in, smooth{}, []*autograd.Param{p}, steps, one{})
			tape.BackwardFrom(y, seed)
			require.NoError(t, tape.Err())

			// loss is the part of Σ seed·u of one neuron.
			loss := func(n, c, i, j int, w float64, dx []float64) (sum float64) {
				z0, z1 := 0.25, 0.0
				for step := range steps {
					z1 += float64(x.At(n, min(step, sh.Steps-1), c, i, j)) + dx[min(step, sh.Steps-1)]
					z0 = z0*z0 + z1*w
					sum += z0 * float64(seed.At(n, step, c, i, j))
				}
				return sum
			}
			const h = 1e-5
			dw := make([]float64, p.Len())
			values := p.Export()
			for n := range sh.N {
				for c := range sh.C {
					for i := range sh.H {
						for j := range sh.W {
							w := float64(values[c%len(values)])
							none := make([]float64, sh.Steps)
							dw[c%len(dw)] += (loss(n, c, i, j, w+h, none) - loss(n, c, i, j, w-h, none)) / (2 * h)
							for step := range sh.Steps {
								dx := make([]float64, sh.Steps)
								dx[step] = h
								up := loss(n, c, i, j, w, dx)
								dx[step] = -h
								want := (up - loss(n, c, i, j, w, dx)) / (2 * h)
								require.InDelta(t, want, in.Grad().At(n, step, c, i, j), 1e-4, "%v: image %d, step %d, channel %d", sh, n, step, c)
							}
						}
					}
				}
			}
			for i, g := range p.ExportGrad() {
				assert.InDelta(t, dw[i], g, 1e-3*max(1, math.Abs(dw[i])), "%v: parameter %v, value %d", sh, shape, i)
			}
		}
	}
}

// Shapes that do not fit are panics with both shapes.
func TestFireModelPanics(t *testing.T) {
	tape := &autograd.Tape{}
	x := tape.Input(tensor.NewDense(tensor.Shape{N: 1, Steps: 3, C: 4, H: 1, W: 1}), true)
	glif := autograd.GLIF{Decay: []float32{1}, Threshold: []float32{1}}
	for want, run := range map[string]func(){
		"FireModelThroughTime: neurons of 2 steps for currents": func() {
			autograd.FireModelThroughTime(tape, x, smooth{}, []*autograd.Param{autograd.NewParam()}, 2, one{})
		},
		"FireModelThroughTime: parameter  of shape [5] for 4 channels: expected [] or [4]": func() {
			autograd.FireModelThroughTime(tape, x, smooth{}, []*autograd.Param{autograd.NewParam(5)}, 3, one{})
		},
		"FireModelThroughRate: parameter  of shape [4 4] for 4 channels: expected [] or [4]": func() {
			autograd.FireModelThroughRate(tape, x, smooth{}, []*autograd.Param{autograd.NewParam(4, 4)}, 3)
		},
		"FireGLIFRecurrent: weights [4 5] for 4 channels: expected [4 4]": func() {
			autograd.FireGLIFRecurrent(tape, x, glif, autograd.NewParam(4, 5), 3, one{}, false)
		},
		"FireGLIFRecurrentStep: weights [4 40] for 4 channels: expected [4 4]": func() {
			last := tensor.NewSpikes(x.Shape().WithSteps(1))
			autograd.FireGLIFRecurrentStep(tape, tape.Input(last.Dense(), false), glif, autograd.NewParam(4, 40), autograd.NewGLIFState(glif, last.Shape), last)
		},
		"FireGLIFRecurrent: neurons of 5 steps for currents": func() {
			autograd.FireGLIFRecurrent(tape, x, glif, autograd.NewParam(4, 4), 5, one{}, false)
		},
	} {
		func() {
			defer func() { assert.Contains(t, fmt.Sprint(recover()), want) }()
			run()
		}()
	}
}
