package snn_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
	"github.com/org/snnrat/tensor/rng"
)

// quadratic is the quadratic integrate-and-fire neuron in Euler steps (SpikingJelly's
// QIFNode): m ← m + (x + A·(m − Rest)·(m − Critical))/Tau, with a hard reset to ResetTo, where
// the neuron also begins.
type quadratic struct{ Tau, Critical, A, Threshold, Rest, ResetTo float32 }

func (q *quadratic) String() string { return fmt.Sprintf("quadratic τ=%v", q.Tau) }
func (q *quadratic) NumStates() int { return 1 }
func (q *quadratic) Start(z [][]float32) {
	for j := range z[0] {
		z[0][j] = q.ResetTo
	}
}

func (q *quadratic) Validate() error {
	if !(q.Tau > 0) {
		return fmt.Errorf("tau %v: expected a positive number", q.Tau)
	}
	return nil
}

func (q *quadratic) Integrate(z [][]float32, x, u []float32) {
	for j, m := range z[0] {
		m += (x[j] + q.A*(m-q.Rest)*(m-q.Critical)) / q.Tau
		z[0][j], u[j] = m, m-q.Threshold
	}
}

func (q *quadratic) Reset(z [][]float32, s []float32) {
	for j, s := range s {
		z[0][j] = (1-s)*z[0][j] + s*q.ResetTo
	}
}

func (q *quadratic) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {
	for j, s := range s {
		ds[j] += dz[0][j] * (q.ResetTo - z[0][j])
		dz[0][j] *= 1 - s
	}
}

func (q *quadratic) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	for j, d := range du {
		d += dz[0][j]
		dx[j] = d / q.Tau
		dz[0][j] = d + d*q.A*(2*z[0][j]-q.Rest-q.Critical)/q.Tau
	}
}

// leaky is LIF in plain Go. Beta and Theta are parameters.
type leaky struct {
	Beta, Theta  *autograd.Param
	Soft, Detach bool
	Derivative   float32 // by which the derivative of the step is multiplied
}

func newLeaky(c int, decay, threshold float32) *leaky {
	vector := func(name string, v float32) *autograd.Param {
		p := autograd.NewParam(c)
		p.Name = name
		p.Fill(func(int) (float32, error) { return v, nil })
		return p
	}
	return &leaky{Beta: vector("beta", decay), Theta: vector("threshold", threshold), Derivative: 1}
}

func (l *leaky) String() string            { return "leaky" }
func (l *leaky) NumStates() int            { return 1 }
func (l *leaky) Params() []*autograd.Param { return []*autograd.Param{l.Beta, l.Theta} }

func (l *leaky) Integrate(z [][]float32, x, u []float32) {
	m, beta, theta := z[0], z[1], z[2]
	for j, x := range x {
		m[j] = float32(beta[j]*m[j]) + x
		u[j] = m[j] - theta[j]
	}
}

func (l *leaky) Reset(z [][]float32, s []float32) {
	for j, s := range s {
		if l.Soft {
			z[0][j] -= s * z[2][j]
		} else {
			z[0][j] *= 1 - s
		}
	}
}

func (l *leaky) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {
	by := z[0]
	if l.Soft {
		by = z[2]
	}
	for j, s := range s {
		if !l.Detach {
			ds[j] -= dz[0][j] * by[j]
		}
		if l.Soft {
			dz[2][j] -= dz[0][j] * s
		} else {
			dz[0][j] *= 1 - s
		}
	}
}

func (l *leaky) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	for j, d := range du {
		dz[2][j] -= d
		d += dz[0][j]
		dz[1][j] += d * z[0][j]
		dz[0][j], dx[j] = d*z[1][j], d*l.Derivative
	}
}

// networkOf returns a network of 19 and 20 channels with neurons that make returns for a
// number of channels.
func networkOf(t *testing.T, make func(c int) snn.Neuron) *snn.Model {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 9, Width: 7, Steps: 5}, snn.NewSequential(
		snn.NewConv2D(2, 19, 3, 1, 1, true), snn.NewBatchNorm(19), make(19), snn.AvgPool{K: 2},
		&snn.Residual{
			BN1: snn.NewBatchNorm(19), N1: make(19), Conv1: snn.NewConv2D(19, 20, 3, 1, 1, false), N2: make(20),
			Conv2: snn.NewConv2D(20, 20, 3, 1, 1, false), Short: snn.NewConv2D(19, 20, 1, 1, 0, false), Comb: autograd.NewParam(2),
		},
		make(20), snn.AvgPool{}, snn.NewLinear(20, 4, true)))
	require.NoError(t, err)
	m.Init(rng.New(5))
	return m
}

// gradients returns what a pass gives: the logits, and the gradients of the images and of all
// parameters.
func gradients(t *testing.T, m *snn.Model, p snn.Pass) (logits []float32, grads [][]float32) {
	for _, q := range m.Params() {
		q.ClearGrad()
	}
	x, err := m.Gradients(p, images(m, 3), func(l []float32) []float32 {
		logits = append(logits, l...)
		d := make([]float32, len(l))
		for i := range d {
			d[i] = float32(i%5) - 1.7
		}
		return d
	})
	require.NoError(t, err)
	require.NotEqual(t, make([]float32, len(x.Data)), x.Data)
	grads = append(grads, x.Data)
	for _, q := range m.Params() {
		if g := q.ExportGrad(); g != nil {
			grads = append(grads, g)
		}
	}
	return logits, grads
}

// A LIF in plain Go has the logits of the library's, to the bit, and its gradients, in every
// approximation, at any number of threads.
func TestCustomIsLIF(t *testing.T) {
	for _, soft := range []bool{false, true} {
		for _, detach := range []bool{false, true} {
			own := networkOf(t, func(c int) snn.Neuron {
				l := newLeaky(c, 0.8, 0.3)
				l.Soft, l.Detach, l.Beta.Trainable, l.Theta.Trainable = soft, detach, false, false
				return snn.NewCustom(l, snn.Triangle{Width: 1})
			})
			lif := networkOf(t, func(int) snn.Neuron {
				return &snn.LIF{Decay: 0.8, Threshold: 0.3, SoftReset: soft, DetachReset: detach, Surrogate: snn.Triangle{Width: 1}}
			})
			for _, g := range []snn.Gradient{snn.BPTT{}, snn.BPTT{Surrogate: snn.Sigmoid{Alpha: 3}}, snn.BPTR{}, snn.CBA{}} {
				name := fmt.Sprintf("%v soft=%v detach=%v", g, soft, detach)
				wantLogits, want := gradients(t, lif, snn.Pass{Gradient: g})
				logits, got := gradients(t, own, snn.Pass{Gradient: g, Threads: 1})
				assert.Equal(t, wantLogits, logits, name)
				require.Len(t, got, len(want))
				for i := range want {
					near(t, name, want[i], got[i])
				}
				_, again := gradients(t, own, snn.Pass{Gradient: g, Threads: 2})
				assert.Equal(t, got, again, name)
			}
		}
	}
}

// The parameters of a neuron in plain Go have the gradients that the library's have.
func TestCustomParams(t *testing.T) {
	own := networkOf(t, func(c int) snn.Neuron { return snn.NewCustom(newLeaky(c, 0.8, 0.3), snn.Triangle{Width: 1}) })
	lif := networkOf(t, func(c int) snn.Neuron { return snn.NewParamLIF(c, 0.8, 0.3) })
	wantLogits, _ := gradients(t, lif, snn.Pass{})
	logits, _ := gradients(t, own, snn.Pass{})
	assert.Equal(t, wantLogits, logits)
	want := map[string]*autograd.Param{}
	for _, p := range lif.Params() {
		want[p.Name] = p
	}
	require.NotNil(t, want["4.n1.beta"])
	require.Len(t, own.Params(), len(want))
	for _, p := range own.Params() {
		require.NotNil(t, want[p.Name], p.Name)
		near(t, p.Name, want[p.Name].ExportGrad(), p.ExportGrad())
	}
}

// The settings and the parameters of a neuron in plain Go are saved and loaded.
func TestCustomIsSaved(t *testing.T) {
	build := func(d snn.Dynamics, s snn.Surrogate) *snn.Model {
		m, err := snn.NewModel(snn.Config{Channels: 3, Height: 1, Width: 1, Steps: 4}, snn.NewSequential(snn.NewCustom(d, s)))
		require.NoError(t, err)
		return m
	}
	meta := func(m *snn.Model) map[string]string {
		var b bytes.Buffer
		require.NoError(t, m.Write(&b))
		other := build(&quadratic{Tau: 1}, snn.Triangle{Width: 1})
		if _, ok := m.Body().(*snn.Sequential).Layers()[0].(*snn.Custom).Dynamics.(*leaky); ok {
			other = build(newLeaky(3, 1, 1), snn.Triangle{Width: 1})
		}
		path := t.TempDir() + "/m.safetensors"
		require.NoError(t, m.Save(path))
		require.NoError(t, other.LoadWith(path, snn.LoadOptions{Settings: true}))
		want, _ := gradients(t, m, snn.Pass{})
		got, _ := gradients(t, other, snn.Pass{})
		assert.Equal(t, want, got)
		return other.Meta
	}
	q := build(&quadratic{Tau: 1.5, Critical: 0.6, A: 0.7, Threshold: 0.5, Rest: -0.2, ResetTo: -0.1}, snn.Sigmoid{Alpha: 2})
	assert.Contains(t, q.Summary().String(), "quadratic τ=1.5")
	meta(q)
	l := newLeaky(3, 0.7, 0.4)
	l.Beta.Import([]float32{0.1, 0.5, 0.9})
	l.Soft = true
	meta(build(l, snn.Arctan{Alpha: 2}))

	n := q.Body().(*snn.Sequential).Layers()[0].(*snn.Custom)
	text, err := n.MarshalJSON()
	require.NoError(t, err)
	other := build(newLeaky(3, 1, 1), snn.Triangle{Width: 1}).Body().(*snn.Sequential).Layers()[0].(*snn.Custom)
	assert.ErrorContains(t, other.UnmarshalJSON(text), `dynamics "*snn_test.quadratic": expected *snn_test.leaky`)
	assert.ErrorContains(t, n.UnmarshalJSON(bytes.Replace(text, []byte("1.5"), []byte("-1"), 1)), "tau -1: expected a positive number")
	assert.ErrorContains(t, n.UnmarshalJSON(bytes.Replace(text, []byte("sigmoid"), []byte("cubic"), 1)), `surrogate "cubic"`)
	n.Surrogate = snn.Triangle{}
	_, err = q.Logits(snn.Pass{}, images(q, 1))
	assert.ErrorContains(t, err, "layer 0: surrogate triangle 0")
}

// A potential and a derivative that are not finite are errors with the layer and the value.
func TestCustomNotFinite(t *testing.T) {
	l := newLeaky(20, 0.8, 0.3)
	d := &broken{leaky: l, at: math.NaN()}
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 3, Width: 3, Steps: 3}, snn.NewSequential(
		snn.NewConv2D(2, 20, 3, 1, 0, true), snn.NewCustom(d, snn.Triangle{Width: 1}), snn.NewLinear(20, 2, false)))
	require.NoError(t, err)
	m.Init(rng.New(1))
	run := func() error {
		_, err := m.Gradients(snn.Pass{}, images(m, 2), func(l []float32) []float32 { return []float32{1, -1, 2, 1} })
		return err
	}
	assert.ErrorContains(t, run(), "layer 1: the membrane potential minus the threshold is NaN at step 0 of image 0, channel 0, row 0, column 0: expected a finite number")
	d.at = 0
	require.NoError(t, run())
	l.Derivative = float32(math.Inf(1))
	err = run()
	assert.ErrorContains(t, err, "layer 1")
	assert.ErrorContains(t, err, ": expected a finite derivative")
	assert.ErrorContains(t, err, "the gradient with respect to the current is ")
	l.Derivative = 1
	d.param = float32(math.Inf(1))
	assert.ErrorContains(t, run(), "the gradient with respect to parameter 0 of channel 0 is +Inf: expected a finite derivative")
}

// A neuron that leaves out values of u or dx does not compute with what was in memory.
func TestCustomLeavesOut(t *testing.T) {
	d := &forgetful{leaky: newLeaky(20, 0.8, 0.3)}
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 3, Width: 3, Steps: 3}, snn.NewSequential(
		snn.NewConv2D(2, 20, 3, 1, 0, true), snn.NewCustom(d, snn.Triangle{Width: 1}), snn.NewLinear(20, 2, false)))
	require.NoError(t, err)
	m.Init(rng.New(1))
	run := func() error {
		_, err := m.InputGradient(snn.Pass{}, images(m, 2), func(l []float32) []float32 { return []float32{1, -1, 2, 1} })
		return err
	}
	require.NoError(t, run())
	d.u = true
	assert.ErrorContains(t, run(), "layer 1: the membrane potential minus the threshold is NaN at step 0 of image 0, channel 1, row 0, column 0")
	d.u, d.dx = false, true
	err = run()
	assert.ErrorContains(t, err, "layer 1")
	assert.ErrorContains(t, err, "the gradient with respect to the current is NaN at step 2 of image 0, channel 1, row 0, column 0")
}

// forgetful is leaky that leaves out u or dx of all neurons but the first.
type forgetful struct {
	*leaky
	u, dx bool
}

func (f *forgetful) Integrate(z [][]float32, x, u []float32) {
	all := slices.Clone(u)
	f.leaky.Integrate(z, x, all)
	if f.u {
		all = all[:1]
	}
	copy(u, all)
}

func (f *forgetful) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	all := slices.Clone(dx)
	f.leaky.IntegrateGrad(dz, all, du, z, x)
	if f.dx {
		all = all[:1]
	}
	copy(dx, all)
}

// broken is leaky with an error in what it computes.
type broken struct {
	*leaky
	at    float64
	param float32
}

func (b *broken) Integrate(z [][]float32, x, u []float32) {
	b.leaky.Integrate(z, x, u)
	for j := range u {
		u[j] += float32(b.at)
	}
}

func (b *broken) IntegrateGrad(dz [][]float32, dx, du []float32, z [][]float32, x []float32) {
	b.leaky.IntegrateGrad(dz, dx, du, z, x)
	for j := range dz[1] {
		dz[1][j] += b.param
	}
}

// late is a neuron that is no RateNeuron: BPTR refuses it, and CBA asks it.
type late struct{ *snn.LIF }

func (n late) Forward(p *snn.Pass, x *autograd.Value) *autograd.Value { return snn.Fire(p, n, x) }
func (n late) FireThroughRate()                                       {}
func (n late) FireAsReLU(p *snn.Pass, x *autograd.Value) *autograd.Value {
	p.Fail(errors.New("asked"))
	return autograd.ReLU(p.Tape, x)
}

// BPTR needs a neuron with a rate, and CBA asks a ReLUNeuron.
func TestNeuronsThatRefuse(t *testing.T) {
	m, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewSequential(late{snn.NewIF()}))
	require.NoError(t, err)
	_, err = m.Logits(snn.Pass{Gradient: snn.BPTR{}}, images(m, 1))
	assert.ErrorContains(t, err, "layer 0: BPTR of a snn_test.late, which has no rule for its firing rate")
	_, err = m.Logits(snn.Pass{Gradient: snn.CBA{}}, images(m, 1))
	assert.ErrorContains(t, err, "asked")
	_, err = m.Logits(snn.Pass{}, images(m, 1))
	assert.NoError(t, err)
}

// Files cannot take the parameters away, and those replaced after NewModel are errors of the
// pass and of Save.
func TestCustomParamsStay(t *testing.T) {
	l := newLeaky(3, 0.7, 0.4)
	n := snn.NewCustom(l, snn.Triangle{Width: 1})
	m := pixelNet(t, 3, n)
	text, err := n.MarshalJSON()
	require.NoError(t, err)
	const want = "the 2 parameters of *snn_test.leaky are not the 2 with which the network was built"
	assert.ErrorContains(t, n.UnmarshalJSON(bytes.Replace(text, []byte(`"Beta":{}`), []byte(`"Beta":null`), 1)), want)
	_, err = m.Logits(snn.Pass{}, images(m, 1))
	require.NoError(t, err)
	l.Beta = autograd.NewParam(3)
	_, err = m.Logits(snn.Pass{}, images(m, 1))
	assert.ErrorContains(t, err, "layer n: "+want)
	assert.ErrorContains(t, m.Save(t.TempDir()+"/m.safetensors"), "layer n: "+want)
}

// A layer without dynamics is an error of NewModel.
func TestCustomWithoutDynamics(t *testing.T) {
	for _, d := range []snn.Dynamics{nil, (*quadratic)(nil)} {
		_, err := snn.NewModel(snn.Config{Channels: 2, Height: 1, Width: 1, Steps: 2}, snn.NewSequential(snn.NewCustom(d, snn.Triangle{Width: 1})))
		assert.EqualError(t, err, "snn: layer 0: no dynamics: expected an snn.Dynamics")
	}
}

// The potentials of a stream are zero beyond the last channel, also those of neurons that begin
// and reset elsewhere.
func TestCustomPadding(t *testing.T) {
	q := &quadratic{Tau: 2, Critical: 0.5, A: 1, Threshold: 1, ResetTo: -0.25}
	m, err := snn.NewModel(snn.Config{Channels: 3, Height: 1, Width: 1, Steps: 2}, snn.NewCustom(q, snn.Triangle{Width: 1}))
	require.NoError(t, err)
	s, err := m.NewStream(snn.StreamConfig{})
	require.NoError(t, err)
	p, err := s.Probe("")
	require.NoError(t, err)
	for range 2 {
		_, err = s.Step(tensor.NewNCHW(1, 3, 1, 1))
		require.NoError(t, err)
		assert.Less(t, p.Membrane.At(0, 0, 2, 0, 0), float32(0))
		assert.Equal(t, make([]float32, tensor.Lanes-3), p.Membrane.Data[3:])
	}
}
