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

// glifGrads returns the gradients in the order of the coefficients.
func glifGrads(g autograd.GLIFGrads) [8][]float64 {
	return [8][]float64{g.SynapticDecay, g.Recurrence, g.Gain, g.Decay, g.Threshold, g.Adaptation, g.AdaptationDecay, g.Reset}
}

// glifCoefficients returns the coefficients in that order, and Start.
func glifCoefficients(n *autograd.GLIF) [9]*[]float32 {
	return [9]*[]float32{&n.SynapticDecay, &n.Recurrence, &n.Gain, &n.Decay, &n.Threshold, &n.Adaptation, &n.AdaptationDecay, &n.Reset, &n.Start}
}

// glifs are neurons with one value of each coefficient for all channels.
func glifs() []autograd.GLIF {
	one := func(v float32) []float32 { return []float32{v} }
	var all []autograd.GLIF
	for _, soft := range []bool{false, true} {
		all = append(all,
			autograd.GLIF{Decay: one(0.6), Threshold: one(1), SoftReset: soft},
			autograd.GLIF{Decay: one(0.6), Gain: one(0.7), Threshold: one(0.8), Reset: one(-0.2), Start: one(0.1), SoftReset: soft},
			autograd.GLIF{Decay: one(0.9), Threshold: one(1), Adaptation: one(0.5), AdaptationDecay: one(0.7), SoftReset: soft},
			autograd.GLIF{SynapticDecay: one(0.5), Decay: one(0.7), Threshold: one(1), SoftReset: soft},
			autograd.GLIF{Recurrence: one(-0.4), Decay: one(0.7), Threshold: one(1), SoftReset: soft},
			autograd.GLIF{SynapticDecay: one(0.4), Recurrence: one(0.3), Gain: one(0.8), Decay: one(0.7), Threshold: one(1),
				Adaptation: one(0.4), AdaptationDecay: one(0.8), Reset: one(0.2), Start: one(-0.3), SoftReset: soft},
		)
	}
	return all
}

// naiveGLIF runs one neuron on the currents x, carries the gradient out of its spikes back
// to x, and adds the gradients of the coefficients to sums.
func naiveGLIF(n autograd.GLIF, derivative func(u float64) float64, detach bool, x []float32, out []float64, sums *[8]float64) (spikes []bool, grad []float64) {
	var t scalars
	leaf := func(v float32) *scalar { return &scalar{v: v} }
	var k [9]*scalar
	for i, v := range glifCoefficients(&n) {
		k[i] = leaf([9]float32{2: 1}[i])
		if *v != nil {
			k[i] = leaf((*v)[0])
		}
	}
	minus, one := leaf(-1), leaf(1)
	sub := func(a, b *scalar) *scalar { return t.add(a, t.mul(minus, b)) }
	i, s, a, m := leaf(0), leaf(0), leaf(0), k[8]
	var in, fired []*scalar
	for _, v := range x {
		current := leaf(v)
		i = t.add(t.add(t.mul(k[0], i), t.mul(k[1], s)), current)
		p := t.add(t.mul(k[3], m), t.mul(k[2], i))
		theta := t.add(k[4], t.mul(k[5], a))
		s = t.step(sub(p, theta), derivative)
		in, fired = append(in, current), append(fired, s)
		reset := s
		if detach {
			reset = leaf(s.v)
		}
		if n.SoftReset {
			m = sub(p, t.mul(theta, reset))
		} else {
			m = t.add(t.mul(p, sub(one, reset)), t.mul(k[7], reset))
		}
		a = t.add(t.mul(k[6], a), t.mul(sub(one, k[6]), s))
	}
	for i, s := range fired {
		s.grad += out[i]
	}
	t.backward()
	for i, s := range fired {
		spikes, grad = append(spikes, s.v == 1), append(grad, in[i].grad)
	}
	for i := range sums {
		sums[i] += k[i].grad
	}
	return spikes, grad
}

func TestFireGLIFThroughTimeAgainstNaiveTape(t *testing.T) {
	racetest.Costly(t)
	tape := &autograd.Tape{Params: true}
	for _, k := range []int{0, len(surrogates) - 1} { // inline, and by slices
		surrogate := surrogates[k]
		for i, n := range glifs() {
			for _, detach := range []bool{false, true} {
				t.Run(fmt.Sprintf("%T %v, neuron %d, detached %v", surrogate.Surrogate, surrogate.Surrogate, i, detach), func(t *testing.T) {
					for _, s := range scenes(1) {
						var got [8][]float64
						n := n
						n.Params = []*autograd.Param{autograd.NewParam(1)}
						n.Chain = func(g autograd.GLIFGrads) { got = glifGrads(g) }
						spikes, grad := s.run(tape, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
							return autograd.FireGLIFThroughTime(t, x, n, s.steps, surrogate, detach)
						})
						var want [8]float64
						size := 1.0
						s.check(t, spikes, grad, func(x []float32, out []float64) ([]bool, []float64) {
							var own [8]float64
							spikes, grad := naiveGLIF(n, surrogate.derivative, detach, x, out, &own)
							for i, v := range own {
								want[i] += v
								size += math.Abs(v)
							}
							return spikes, grad
						})
						for i, coefficient := range glifCoefficients(&n) {
							if i == len(got) {
								break
							}
							require.Len(t, got[i], len(*coefficient))
							if len(got[i]) > 0 {
								assert.InDelta(t, want[i], got[i][0], 1e-5*size, "coefficient %d", i)
							}
						}
					}
				})
			}
		}
	}
}

// perChannel returns neurons whose coefficients differ between channels.
func perChannel(n autograd.GLIF, channels int) autograd.GLIF {
	for i, v := range glifCoefficients(&n) {
		if *v == nil {
			continue
		}
		first := (*v)[0]
		*v = make([]float32, channels)
		for c := range *v {
			(*v)[c] = first * (1 + 0.02*float32((c*7+i)%9))
		}
	}
	return n
}

// Coefficients of each channel give what layers of that channel alone give.
func TestGLIFChannels(t *testing.T) {
	const channels = 19
	sh := tensor.Shape{N: 2, Steps: 5, C: channels, H: 2, W: 3}
	r := rand.New(rand.NewPCG(5, 5))
	x := elementwise(sh, func(_, _, _, _, _ int) float64 { return float64(float32(1.2*r.Float64() - 0.1)) })
	seed := elementwise(sh, func(_, _, _, _, _ int) float64 { return float64(float32(r.NormFloat64())) })
	for _, n := range glifs() {
		n = perChannel(n, channels)
		run := func(n autograd.GLIF, s scene) (*tensor.Spikes, array, [8][]float64) {
			var grads [8][]float64
			n.Params = []*autograd.Param{autograd.NewParam(1)}
			n.Chain = func(g autograd.GLIFGrads) { grads = glifGrads(g) }
			spikes, grad := s.run(&autograd.Tape{Params: true}, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
				return autograd.FireGLIFThroughTime(t, x, n, sh.Steps, snn.Triangle{Width: 1}, false)
			})
			return spikes, grad, grads
		}
		spikes, grad, grads := run(n, scene{sh.Steps, x, seed})
		for c := range channels {
			alone := n
			for _, v := range glifCoefficients(&alone) {
				if *v != nil {
					*v = (*v)[c : c+1]
				}
			}
			channel := func(a array) array {
				sh := a.Shape
				sh.C = 1
				return elementwise(sh, func(n, t, _, y, x int) float64 { return a.at(n, t, c, y, x) })
			}
			wantSpikes, wantGrad, wantGrads := run(alone, scene{sh.Steps, channel(x), channel(seed)})
			each(wantSpikes.Shape, func(n, t, _, y, x int) {
				if spikes.At(n, t, c, y, x) != wantSpikes.At(n, t, 0, y, x) {
					panic(fmt.Sprint("the spikes of channel ", c, " differ"))
				}
			})
			require.Equal(t, wantGrad.v, channel(grad).v, "channel %d", c)
			for i, g := range wantGrads {
				if g != nil {
					require.InDelta(t, g[0], grads[i][c], 1e-12, "coefficient %d of channel %d", i, c)
				}
			}
		}
	}
}

// Under the rate rule the spikes are those of FireGLIFThroughTime; every gradient passes a
// neuron that fired.
func TestFireGLIFThroughRate(t *testing.T) {
	racetest.Costly(t)
	for _, n := range glifs() {
		for _, s := range scenes(1) {
			spikes, grad := s.run(&autograd.Tape{}, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
				return autograd.FireGLIFThroughRate(t, x, n, s.steps)
			})
			s.check(t, spikes, grad, func(x []float32, out []float64) ([]bool, []float64) {
				train, _ := naiveGLIF(n, unevenDerivative, false, x, out, new([8]float64))
				for _, fires := range train {
					if fires {
						return train, out
					}
				}
				return train, make([]float64, len(out))
			})
		}
	}
}

// A layer that is fed one step at a time gives the bits of all steps at once, again after
// Clear.
func TestFireGLIFState(t *testing.T) {
	sh := tensor.Shape{N: 2, Steps: 7, C: 19, H: 3, W: 5}
	r := rand.New(rand.NewPCG(6, 6))
	x := elementwise(sh, func(_, _, _, _, _ int) float64 { return float64(float32(1.2*r.Float64() - 0.1)) })
	for _, n := range glifs() {
		n = perChannel(n, sh.C)
		tape := &autograd.Tape{}
		all := autograd.FireGLIFThroughTime(tape, tape.Input(x.dense(), false), n, sh.Steps, snn.Triangle{Width: 1}, false).Spikes()
		state := autograd.NewGLIFState(n, sh)
		for range 2 {
			fired := 0
			for step := range sh.Steps {
				now := elementwise(sh.WithSteps(1), func(n, _, c, y, z int) float64 { return x.at(n, step, c, y, z) })
				tape := &autograd.Tape{}
				s := autograd.FireGLIFSteps(tape, tape.Input(now.dense(), false), n, 1, state).Spikes()
				fired += s.Count()
				each(now.Shape, func(n, _, c, y, z int) {
					if s.At(n, 0, c, y, z) != all.At(n, step, c, y, z) {
						t.Fatalf("image %d, step %d, channel %d, pixel %d, %d differs", n, step, c, y, z)
					}
				})
			}
			require.Equal(t, all.Count(), fired)
			require.Equal(t, sh.WithSteps(1), state.Membrane().Shape)
			state.Clear(n)
		}
	}
}

// Coefficients are trained where the currents need no gradient, and not where Tape.Params
// is not set.
func TestGLIFTrainsAlone(t *testing.T) {
	n := glifs()[2]
	p := autograd.NewParam(1)
	n.Params = []*autograd.Param{p}
	n.Chain = func(g autograd.GLIFGrads) { p.AddGrad(g.Threshold) }
	var grads [3][]float32
	for i, c := range []struct{ input, params bool }{{true, true}, {false, true}, {true, false}} {
		s := scenes(1)[7]
		tape := &autograd.Tape{Params: c.params}
		x := tape.Input(s.x.dense(), c.input)
		y := autograd.FireGLIFThroughTime(tape, x, n, s.steps, snn.Triangle{Width: 1}, false)
		tape.BackwardFrom(y, s.seed.dense())
		assert.Equal(t, c.input, x.Grad() != nil)
		grads[i] = p.ExportGrad()
		p.ClearGrad()
	}
	require.NotZero(t, grads[0][0])
	assert.Equal(t, grads[0], grads[1])
	assert.Nil(t, grads[2])
}

// Convolutions leave out gradients that GLIF neurons do not use, and only those.
func TestGradientsThatGLIFNeeds(t *testing.T) {
	sh := tensor.Shape{N: 3, Steps: 4, C: 17, H: 6, W: 7}
	r := rand.New(rand.NewPCG(7, 7))
	x := elementwise(sh, func(_, _, _, _, _ int) float64 { return 1.4*r.Float64() - 0.2 })
	s := newStack(sh.C, 20)
	n := perChannel(glifs()[5], sh.C)
	run := func(phi autograd.Surrogate) []float32 {
		tape := &autograd.Tape{}
		in := tape.Input(x.dense(), true)
		y := autograd.Conv2D(tape, autograd.FireGLIFThroughTime(tape, in, n, sh.Steps, phi, false), s.w, s.b, 1, 1)
		seed := tensor.NewDense(y.Shape())
		for i := range seed.Data {
			if i/tensor.Lanes/(sh.Frames()*sh.Pixels())*tensor.Lanes+i%tensor.Lanes < 20 {
				seed.Data[i] = float32(i%11) - 5
			}
		}
		tape.BackwardFrom(y, seed)
		return in.Grad().Data
	}
	close(t, run(triangle{}), run(compact{}))
}

// Wrong numbers of coefficients panic with their name; potentials that are not finite are
// reported.
func TestGLIFMisuse(t *testing.T) {
	tape := &autograd.Tape{}
	sh := tensor.Shape{N: 1, Steps: 1, C: 3, H: 1, W: 1}
	x := tensor.NewDense(sh)
	fire := func(n autograd.GLIF) {
		autograd.FireGLIFThroughTime(tape, tape.Input(x, false), n, 2, snn.Triangle{Width: 1}, false)
	}
	good := autograd.GLIF{Decay: []float32{1}, Threshold: []float32{1, 1, 1}}
	fire(good)
	assert.False(t, tape.TakeNonFinite())
	bad := good
	bad.Gain = make([]float32, 2)
	assert.PanicsWithValue(t, "autograd: FireGLIFThroughTime: 2 values of Gain for 3 channels: expected 3 or 1", func() { fire(bad) })
	bad = good
	bad.Decay = nil
	assert.PanicsWithValue(t, "autograd: FireGLIFThroughTime: 0 values of Decay for 3 channels: expected 3 or 1", func() { fire(bad) })
	other := autograd.NewGLIFState(good, tensor.Shape{N: 2, Steps: 1, C: 3, H: 1, W: 1})
	assert.Panics(t, func() { autograd.FireGLIFSteps(tape, tape.Input(x, false), good, 1, other) })
	adaptive := good
	adaptive.Adaptation = []float32{1}
	assert.Panics(t, func() {
		autograd.FireGLIFSteps(tape, tape.Input(x, false), adaptive, 1, autograd.NewGLIFState(good, sh))
	})
	x.Set(0, 0, 1, 0, 0, float32(math.NaN()))
	fire(good)
	assert.True(t, tape.TakeNonFinite())
	autograd.FireGLIFSteps(tape, tape.Input(x, false), good, 1, autograd.NewGLIFState(good, sh))
	assert.True(t, tape.TakeNonFinite())
}

// steep is a surrogate whose derivative is the largest number.
type steep struct{}

func (steep) Derivative(dst, u []float32) {
	for i := range dst {
		dst[i] = math.MaxFloat32
	}
}

// A gradient of a recurrent layer that is not finite is an error that names its place, unless
// the layer got such a gradient.
func TestRecurrentGradientNotFinite(t *testing.T) {
	sh := tensor.Shape{N: 2, Steps: 3, C: 20, H: 2, W: 3}
	run := func(seed float32) error {
		tape := &autograd.Tape{}
		x := tape.Input(tensor.NewDense(sh), true)
		y := autograd.FireGLIFRecurrent(tape, x, glifs()[0], autograd.NewParam(sh.C, sh.C), sh.Steps, steep{}, false)
		d := tensor.NewDense(sh)
		d.Set(1, 2, 17, 1, 2, seed)
		tape.BackwardFrom(y, d)
		return tape.Err()
	}
	require.NoError(t, run(0.5))
	assert.ErrorContains(t, run(-2), "the gradient with respect to the current is -Inf at step 2 of image 1, channel 17, row 1, column 2: expected a finite derivative")
	require.NoError(t, run(float32(math.Inf(1))))
}
