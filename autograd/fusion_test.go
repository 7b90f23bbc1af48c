package autograd_test

import (
	"fmt"
	"testing"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
	"github.com/stretchr/testify/require"
)

// stack is convolution, batch norm and neurons. With apart set, batch norm's output is
// read before the neurons are, so that nothing is fused.
type stack struct {
	w, b  *autograd.Param
	bn    autograd.BatchNormState
	train bool
	rate  bool
	glif  bool // GLIF neurons
	twice bool // another operation uses batch norm's output, too
}

func newStack(cin, cout int) *stack {
	fill := func(key string, mean, spread float32, shape ...int) *autograd.Param {
		p := autograd.NewParam(shape...)
		r := rng.New(7).Derive(key, 0).Rand()
		v := make([]float32, p.Len())
		for i := range v {
			v[i] = mean + spread*float32(r.NormFloat64())
		}
		p.Import(v)
		return p
	}
	return &stack{
		w: fill("w", 0, 0.4, cout, cin, 3, 3), b: fill("b", 0, 0.1, cout),
		bn: autograd.BatchNormState{
			Weight: fill("weight", 1, 0.1, cout), Bias: fill("bias", 0.3, 0.1, cout),
			RunningMean: fill("mean", 0, 0.1, cout), RunningVar: fill("var", 1, 0.05, cout),
			Eps: 1e-5, Momentum: 0.1,
		},
	}
}

type outcome struct {
	spikes []uint16
	dx     []float32
	grads  [][]float32
}

func (s *stack) run(x *tensor.Spikes, steps int, apart, input, params bool) outcome {
	t := &autograd.Tape{Params: params}
	in := t.InputSpikes(x, input)
	d := autograd.Dynamics{Decay: 0.9, Threshold: 0.8}
	conv := autograd.Conv2D(t, in, s.w, s.b, 1, 1)
	var h *autograd.Value
	if s.train {
		h = autograd.BatchNormTrain(t, conv, &s.bn, steps)
	} else {
		h = autograd.BatchNormEval(t, conv, &s.bn)
	}
	t.Release(conv)
	if apart {
		h.Dense()
	}
	g := autograd.GLIF{SynapticDecay: []float32{0.3}, Decay: []float32{0.8}, Threshold: []float32{0.9}, Adaptation: []float32{0.3}, AdaptationDecay: []float32{0.7}}
	var y *autograd.Value
	switch {
	case s.rate && s.glif:
		y = autograd.FireGLIFThroughRate(t, h, g, steps)
	case s.rate:
		y = autograd.FireThroughRate(t, h, d, steps)
	case s.glif:
		y = autograd.FireGLIFThroughTime(t, h, g, steps, triangle{}, false)
	default:
		y = autograd.FireThroughTime(t, h, d, steps, triangle{}, false)
	}
	out := outcome{spikes: append([]uint16(nil), y.Spikes().Bits...)}
	if s.twice {
		y = autograd.Add(t, y, h)
	}
	t.Release(h)
	if !input && !params {
		return out
	}
	seed := tensor.NewDense(y.Shape())
	r := rng.New(3).Rand()
	for i := range seed.Data {
		if i%tensor.Lanes < y.Shape().C%tensor.Lanes || y.Shape().C%tensor.Lanes == 0 {
			seed.Data[i] = float32(r.NormFloat64())
		}
	}
	all := []*autograd.Param{s.w, s.b, s.bn.Weight, s.bn.Bias}
	for _, p := range all {
		p.ClearGrad()
	}
	t.BackwardFrom(y, seed)
	if input {
		out.dx = append([]float32(nil), in.Grad().Data...)
	}
	if params {
		for _, p := range all {
			out.grads = append(out.grads, p.ExportGrad())
		}
	}
	return out
}

// triangle is the paper's surrogate, of width 1, without the kernels' short cut.
type triangle struct{}

func (triangle) Derivative(dst, u []float32) {
	for i, v := range u {
		dst[i] = max(0, 1-max(v, -v))
	}
}

// What is computed in one pass is what is computed step by step: spikes to the bit,
// gradients to rounding. Neurons run the convolution of the first shape on four images at a
// time, and then on the fifth.
func TestFusion(t *testing.T) {
	defer autograd.SetCached(4 * 64 * 8 * 8 * 8)()
	for _, sh := range []tensor.Shape{{N: 5, Steps: 8, C: 3, H: 8, W: 8}, {N: 3, Steps: 4, C: 17, H: 5, W: 7}} {
		cout := 64
		if sh.C == 17 {
			cout = 33
		}
		x := tensor.NewSpikes(sh)
		r := rng.New(1).Rand()
		for i := range x.Bits {
			mask := uint16(1)<<min(16, sh.C-i/(sh.Frames()*sh.Pixels())*16) - 1
			word := r.Uint32()
			x.Bits[i] = uint16(word) & uint16(word>>16) & mask
		}
		for _, train := range []bool{false, true} {
			for kind := range 4 {
				rate, glif := kind&1 != 0, kind&2 != 0
				for _, twice := range []bool{false, true} {
					if glif && twice && cout == 64 {
						continue // no path of its own
					}
					for _, want := range []struct{ input, params bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
						if testing.Short() && !(want.input && want.params) {
							continue // under the race detector, all of them at once will do
						}
						name := fmt.Sprintf("%v train=%v rate=%v glif=%v twice=%v input=%v params=%v", sh, train, rate, glif, twice, want.input, want.params)
						t.Run(name, func(t *testing.T) {
							s := newStack(sh.C, cout)
							s.train, s.rate, s.glif, s.twice = train, rate, glif, twice
							a := s.run(x, sh.Steps, false, want.input, want.params)
							b := newStack(sh.C, cout)
							b.train, b.rate, b.glif, b.twice = train, rate, glif, twice
							c := b.run(x, sh.Steps, true, want.input, want.params)
							require.Equal(t, c.spikes, a.spikes)
							close(t, c.dx, a.dx)
							require.Equal(t, len(c.grads), len(a.grads))
							for i := range c.grads {
								if i == 1 && train { // zero but for rounding
									continue
								}
								close(t, c.grads[i], a.grads[i])
							}
						})
					}
				}
			}
		}
	}
}

// compact is the triangle that tells its support.
type compact struct{ triangle }

func (compact) Support() float32 { return 1 }

// Convolutions leave out gradients of spikes that their neurons do not use, and only
// those: the neurons' own gradient is that of convolutions on dense values, which leave
// out none.
func TestGradientsThatNeuronsNeed(t *testing.T) {
	sh := tensor.Shape{N: 3, Steps: 4, C: 17, H: 6, W: 7}
	x := tensor.NewDense(sh)
	r := rng.New(5).Rand()
	for i := range x.Data {
		if i/tensor.Lanes/(sh.Frames()*sh.Pixels())*tensor.Lanes+i%tensor.Lanes < sh.C {
			x.Data[i] = float32(r.NormFloat64())
		}
	}
	w := newStack(sh.C, 33).w
	d := autograd.Dynamics{Decay: 0.9, Threshold: 0.8}
	for _, rate := range []bool{false, true} {
		for _, steps := range []int{1, sh.Steps} { // of the gradient
			run := func(s autograd.Surrogate, dense bool) []float32 {
				tape := &autograd.Tape{}
				in := tape.Input(x, true)
				fire := func(v *autograd.Value) *autograd.Value {
					if rate {
						return autograd.FireThroughRate(tape, v, d, sh.Steps)
					}
					return autograd.FireThroughTime(tape, v, d, sh.Steps, s, false)
				}
				spikes := fire(in)
				if dense {
					spikes = autograd.Densify(tape, spikes)
				}
				y := autograd.Add(tape, autograd.Conv2D(tape, spikes, w, nil, 1, 1), autograd.Conv2D(tape, spikes, w, nil, 1, 1))
				return gradient(tape, in, y, steps)
			}
			t.Run(fmt.Sprintf("rate=%v, gradient of %d steps", rate, steps), func(t *testing.T) {
				want := run(compact{}, true)
				close(t, want, run(compact{}, false))
				close(t, want, run(triangle{}, false))
			})
		}
	}
}

// supported is the triangle of width 1 with a support that may be wider.
type supported struct {
	triangle
	width float32
}

func (s supported) Support() float32 { return s.width }

// Gradients are left out only where the surrogate is narrow beside the threshold. With a wide one,
// the bits are those of a surrogate that tells no support.
func TestWideSurrogatesNeedAll(t *testing.T) {
	sh := tensor.Shape{N: 3, Steps: 4, C: 17, H: 6, W: 7}
	x := tensor.NewDense(sh)
	r := rng.New(5).Rand()
	for i := range x.Data {
		if i/tensor.Lanes/(sh.Frames()*sh.Pixels())*tensor.Lanes+i%tensor.Lanes < sh.C {
			x.Data[i] = float32(r.NormFloat64())
		}
	}
	w := newStack(sh.C, 33).w
	thresholds := make([]float32, sh.C) // of GLIF neurons, the largest last
	for i := range thresholds {
		thresholds[i] = 0.5 + float32(i)/32
	}
	for name, fire := range map[string]func(*autograd.Tape, *autograd.Value, autograd.Surrogate) *autograd.Value{
		"LIF": func(tape *autograd.Tape, v *autograd.Value, s autograd.Surrogate) *autograd.Value {
			return autograd.FireThroughTime(tape, v, autograd.Dynamics{Decay: 0.9, Threshold: 1}, sh.Steps, s, false)
		},
		"GLIF": func(tape *autograd.Tape, v *autograd.Value, s autograd.Surrogate) *autograd.Value {
			g := autograd.GLIF{Decay: []float32{0.9}, Threshold: thresholds}
			return autograd.FireGLIFThroughTime(tape, v, g, sh.Steps, s, false)
		},
	} {
		run := func(s autograd.Surrogate) []float32 {
			tape := &autograd.Tape{}
			in := tape.Input(x, true)
			return gradient(tape, in, autograd.Conv2D(tape, fire(tape, in, s), w, nil, 1, 1), sh.Steps)
		}
		want := run(triangle{})
		for _, width := range []float32{1.26, 3} {
			require.Equal(t, want, run(supported{width: width}), "%s, %v", name, width)
		}
		for _, width := range []float32{1, 1.25} {
			got := run(supported{width: width})
			close(t, want, got)
			require.NotEqual(t, want, got, "%s, %v: nothing was left out", name, width)
		}
	}
}

// Neurons spread the gradient of their spikes' means themselves; dense values have it
// spread for them. Whatever else reads the spikes, the gradient is the same.
func TestGradientsOfMeans(t *testing.T) {
	sh := tensor.Shape{N: 3, Steps: 4, C: 17, H: 6, W: 8}
	x := tensor.NewDense(sh)
	r := rng.New(5).Rand()
	for i := range x.Data {
		x.Data[i] = float32(r.NormFloat64())
	}
	d := autograd.Dynamics{Decay: 0.9, Threshold: 0.8}
	pool := func(k int) func(*autograd.Tape, *autograd.Value) *autograd.Value {
		return func(t *autograd.Tape, v *autograd.Value) *autograd.Value { return autograd.AvgPool(t, v, k, k, k) }
	}
	twice := func(t *autograd.Tape, v *autograd.Value) *autograd.Value {
		return autograd.Add(t, autograd.AvgPool(t, v, 2, 2, 2), autograd.AvgPool(t, v, 2, 2, 2))
	}
	more := func(t *autograd.Tape, v *autograd.Value) *autograd.Value {
		both := autograd.Add(t, autograd.AvgPool(t, v, 6, 8, 1), autograd.AvgPool(t, autograd.Densify(t, v), 6, 8, 1))
		return autograd.Add(t, both, autograd.AvgPool(t, v, 6, 8, 1))
	}
	for name, read := range map[string]func(*autograd.Tape, *autograd.Value) *autograd.Value{
		"means": pool(2), "windows that leave some out": pool(5), "two readers": twice, "another reader first": more,
		"all": func(t *autograd.Tape, v *autograd.Value) *autograd.Value { return autograd.GlobalAvgPool(t, v) },
	} {
		for _, steps := range []int{1, sh.Steps} { // of the gradient
			run := func(dense bool) []float32 {
				tape := &autograd.Tape{}
				in := tape.Input(x, true)
				s := autograd.FireThroughTime(tape, in, d, sh.Steps, triangle{}, false)
				if dense {
					s = autograd.Densify(tape, s)
				}
				y := read(tape, s)
				return gradient(tape, in, y, steps)
			}
			t.Run(fmt.Sprintf("%s, gradient of %d steps", name, steps), func(t *testing.T) {
				close(t, run(true), run(false))
			})
		}
	}
}

// gradient carries a random gradient of y, of so many steps, back to in.
func gradient(t *autograd.Tape, in, y *autograd.Value, steps int) []float32 {
	seed := tensor.NewDense(y.Shape().WithSteps(steps))
	r := rng.New(3).Rand()
	for i := range seed.Data {
		seed.Data[i] = float32(r.NormFloat64())
	}
	t.BackwardFrom(y, seed)
	return append([]float32(nil), in.Grad().Data...)
}

// close requires equality to 1e-5 of the largest magnitude.
func close(t *testing.T, want, got []float32) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	var worst, scale float32
	for i, w := range want {
		worst, scale = max(worst, max(w-got[i], got[i]-w)), max(scale, max(w, -w))
	}
	if len(want) > 0 {
		require.Positive(t, scale)
		require.LessOrEqual(t, worst, 1e-5*scale)
	}
}
