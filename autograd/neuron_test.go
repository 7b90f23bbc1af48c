package autograd_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/internal/racetest"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scalars is a naive tape: every operation on single numbers, one step at a time, by
// itself on the tape with its local derivatives. Values are rounded to float32 as a
// neuron's are; gradients are in float64.
type scalars []func()

type scalar struct {
	v    float32
	grad float64
}

func (t *scalars) record(v float32, back func(grad float64)) *scalar {
	y := &scalar{v: v}
	*t = append(*t, func() { back(y.grad) })
	return y
}

func (t *scalars) add(a, b *scalar) *scalar {
	return t.record(a.v+b.v, func(g float64) { a.grad += g; b.grad += g })
}

func (t *scalars) mul(a, b *scalar) *scalar {
	return t.record(a.v*b.v, func(g float64) { a.grad += g * float64(b.v); b.grad += g * float64(a.v) })
}

// step is the Heaviside step with a surrogate derivative.
func (t *scalars) step(u *scalar, derivative func(u float64) float64) *scalar {
	var s float32
	if u.v >= 0 {
		s = 1
	}
	return t.record(s, func(g float64) { u.grad += g * derivative(float64(u.v)) })
}

func (t *scalars) backward() {
	for i := len(*t) - 1; i >= 0; i-- {
		(*t)[i]()
	}
}

// neuronCase is a layer of neurons and how its gradient is taken.
type neuronCase struct {
	autograd.Dynamics
	derivative func(u float64) float64
	detach     bool
}

// naive runs one neuron on the currents x and carries the gradient out of its spikes
// back to x.
func (c neuronCase) naive(x []float32, out []float64) (spikes []bool, grad []float64) {
	var t scalars
	minus, leak := &scalar{v: -1}, &scalar{v: c.Decay}
	one, threshold := &scalar{v: 1}, &scalar{v: -c.Threshold}
	m := &scalar{}
	var in, fired []*scalar
	for _, v := range x {
		current := &scalar{v: v}
		m = t.add(t.mul(leak, m), current)
		s := t.step(t.add(m, threshold), c.derivative)
		in, fired = append(in, current), append(fired, s)
		reset := s
		if c.detach {
			reset = &scalar{v: s.v}
		}
		if c.SoftReset {
			m = t.add(m, t.mul(threshold, reset))
		} else {
			m = t.mul(m, t.add(one, t.mul(minus, reset)))
		}
	}
	for i, s := range fired {
		s.grad += out[i]
	}
	t.backward()
	for i, s := range fired {
		spikes, grad = append(spikes, s.v == 1), append(grad, in[i].grad)
	}
	return spikes, grad
}

// uneven is a surrogate that is not even.
type uneven struct{}

func (uneven) Derivative(dst, u []float32) {
	for i, v := range u {
		dst[i] = float32(unevenDerivative(float64(v)))
	}
}

func unevenDerivative(u float64) float64 { return math.Exp(-u*u) * (1 + u/2) }

// surrogates are those of package snn, and another, beside their definitions.
var surrogates = []struct {
	autograd.Surrogate
	derivative func(u float64) float64
}{
	{snn.Triangle{Width: 1}, func(u float64) float64 { return max(0, 1-math.Abs(u)) }},
	{snn.Triangle{Width: 0.5}, func(u float64) float64 { return max(0, 0.5-math.Abs(u)) * 4 }},
	{snn.Rectangle{Width: 0.75}, func(u float64) float64 { return map[bool]float64{true: 1 / 0.75}[math.Abs(u) < 0.375] }},
	{snn.Sigmoid{Alpha: 4}, func(u float64) float64 { s := 1 / (1 + math.Exp(-4*u)); return 4 * s * (1 - s) }},
	{snn.Arctan{Alpha: 2}, func(u float64) float64 { return 1 / (1 + math.Pow(math.Pi*u, 2)) }},
	{snn.FastSigmoid{Slope: 10}, func(u float64) float64 { return math.Pow(1+10*math.Abs(u), -2) }},
	{uneven{}, unevenDerivative},
}

// scene is a layer's currents and the gradient of its spikes.
type scene struct {
	steps   int
	x, seed array
}

// scenes draws currents, some of them on a grid so that membranes meet the threshold
// exactly: varying and constant ones, with gradients that vary and that do not. The
// last is larger than a kernel's tile.
func scenes(threshold float32) []scene {
	r := rand.New(rand.NewPCG(8, 9))
	var all []scene
	for i, s := range []tensor.Shape{
		{N: 1, Steps: 1, C: 1, H: 1, W: 1},
		{N: 3, Steps: 4, C: 17, H: 1, W: 1},
		{N: 2, Steps: 3, C: 33, H: 1, W: 2},
		{N: 1, Steps: 8, C: 4, H: 9, W: 5},
	} {
		for _, currentSteps := range []int{1, s.Steps} {
			for _, seedSteps := range []int{1, s.Steps} {
				x := elementwise(s.WithSteps(currentSteps), func(n, t, c, y, z int) float64 {
					v := 1.2*r.Float64() - 0.2
					if (i+c)%2 == 0 {
						v = float64(r.IntN(5)) / 4
					}
					return float64(float32(v) * threshold)
				})
				seed := elementwise(s.WithSteps(seedSteps), func(_, _, _, _, _ int) float64 { return float64(float32(r.NormFloat64())) })
				all = append(all, scene{s.Steps, x, seed})
			}
		}
	}
	return all
}

// run fires the neurons and returns their spikes and the gradient of the currents.
func (s scene) run(tape *autograd.Tape, fire func(t *autograd.Tape, x *autograd.Value) *autograd.Value) (*tensor.Spikes, array) {
	tape.Reset()
	x := tape.Input(s.x.dense(), true)
	y := fire(tape, x)
	spikes := tensor.NewSpikes(y.Shape())
	copy(spikes.Bits, y.Spikes().Bits)
	tape.BackwardFrom(y, s.seed.dense())
	return spikes, ofDense(x.Grad())
}

// check compares with a rule for one neuron: its spikes and gradients over all steps,
// the latter summed for constant currents.
func (s scene) check(t *testing.T, spikes *tensor.Spikes, grad array, naive func(x []float32, out []float64) ([]bool, []float64)) {
	t.Helper()
	all := s.x.WithSteps(s.steps)
	require.Equal(t, all, spikes.Shape)
	want := array{s.x.Shape, make([]float64, len(s.x.v))}
	fired := 0
	each(all.WithSteps(1), func(n, _, c, y, z int) {
		var x []float32
		var out []float64
		for step := range s.steps {
			x = append(x, float32(s.x.at(n, step, c, y, z)))
			out = append(out, s.seed.at(n, step, c, y, z))
		}
		train, g := naive(x, out)
		for step := range s.steps {
			if train[step] != spikes.At(n, step, c, y, z) {
				t.Fatalf("image %d, step %d, channel %d, pixel %d, %d: fires %v", n, step, c, y, z, !train[step])
			}
			if train[step] {
				fired++
			}
			want.v[want.index(n, min(step, s.x.Steps-1), c, y, z)] += g[step]
		}
	})
	require.Equal(t, fired, spikes.Count(), "spikes of missing channels")
	got := elementwise(s.x.Shape, grad.at)
	assert.Less(t, difference(got.v, want.v), 1e-5, "gradient")
}

func TestFireThroughTimeAgainstNaiveTape(t *testing.T) {
	racetest.Costly(t)
	tape := &autograd.Tape{}
	for _, surrogate := range surrogates {
		for _, leak := range []float32{1, 0.6} {
			for _, threshold := range []float32{1, 0.7} {
				for _, soft := range []bool{false, true} {
					for _, detach := range []bool{false, true} {
						c := neuronCase{autograd.Dynamics{Decay: leak, Threshold: threshold, SoftReset: soft}, surrogate.derivative, detach}
						t.Run(fmt.Sprintf("%T %v, leak %v, threshold %v, soft %v, detached %v", surrogate.Surrogate, surrogate.Surrogate, leak, threshold, soft, detach), func(t *testing.T) {
							for _, s := range scenes(threshold) {
								spikes, grad := s.run(tape, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
									return autograd.FireThroughTime(t, x, c.Dynamics, s.steps, surrogate, detach)
								})
								s.check(t, spikes, grad, c.naive)
							}
						})
					}
				}
			}
		}
	}
}

// Under the rate rule a neuron that fired at least once passes every gradient on, and
// another one none; the spikes are those of FireThroughTime.
func TestFireThroughRate(t *testing.T) {
	tape := &autograd.Tape{}
	for _, leak := range []float32{1, 0.5} {
		for _, threshold := range []float32{1, 0.7} {
			for _, soft := range []bool{false, true} {
				c := neuronCase{autograd.Dynamics{Decay: leak, Threshold: threshold, SoftReset: soft}, unevenDerivative, false}
				for _, s := range scenes(threshold) {
					spikes, grad := s.run(tape, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
						return autograd.FireThroughRate(t, x, c.Dynamics, s.steps)
					})
					s.check(t, spikes, grad, func(x []float32, out []float64) ([]bool, []float64) {
						train, _ := c.naive(x, out)
						grad := make([]float64, len(out))
						for _, fires := range train {
							if fires {
								return train, out
							}
						}
						return train, grad
					})
				}
			}
		}
	}
}

// A gradient that is the same at every step is carried on as such, which is what
// makes the rate rule cheap.
func TestFireThroughRateKeepsOneStep(t *testing.T) {
	for _, s := range scenes(1) {
		_, grad := s.run(&autograd.Tape{}, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireThroughRate(t, x, autograd.Dynamics{Decay: 1, Threshold: 1}, s.steps)
		})
		assert.Equal(t, min(s.seed.Steps, s.x.Steps), grad.Steps)
	}
}

// Neurons give the same bits at any number of threads.
func TestNeuronsThreads(t *testing.T) {
	d := autograd.Dynamics{Decay: 0.9, Threshold: 0.7}
	for _, s := range scenes(0.7) {
		type outcome struct {
			spikes *tensor.Spikes
			grad   array
		}
		var want [2]outcome
		for threads := 1; threads <= 3; threads++ {
			for i, fire := range []func(t *autograd.Tape, x *autograd.Value) *autograd.Value{
				func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
					return autograd.FireThroughTime(t, x, d, s.steps, snn.Triangle{Width: 1}, false)
				},
				func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
					return autograd.FireThroughRate(t, x, d, s.steps)
				},
			} {
				spikes, grad := s.run(&autograd.Tape{Threads: threads}, fire)
				if threads == 1 {
					want[i] = outcome{spikes, grad}
				}
				require.Equal(t, want[i], outcome{spikes, grad})
			}
		}
	}
}
