package autograd_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// BenchmarkNeurons runs layers of neurons forward and backward, with the gradients of the
// currents and of what is trained: 16 images, 8 steps, 128×16×16 neurons. The file
// testdata/bench_spikingjelly.py does the same with SpikingJelly.
func BenchmarkNeurons(b *testing.B) {
	sh := tensor.Shape{N: 16, Steps: 8, C: 128, H: 16, W: 16}
	r := rand.New(rand.NewPCG(1, 2))
	random := func() *tensor.Dense {
		d := tensor.NewDense(sh)
		for i := range d.Data {
			d.Data[i] = float32(r.NormFloat64())
		}
		return d
	}
	x, seed := random(), random()
	for _, n := range benchNeurons() {
		b.Run(n.name, func(b *testing.B) {
			tape := &autograd.Tape{Params: true}
			c := &clock{b: b}
			for range b.N {
				c.stop()
				tape.Reset()
				in := tape.Input(x, true)
				c.start()
				y := n.fire(tape, in)
				c.stop()
				end := &given{y, tape.NewDense(tensor.Shape{N: 1, Steps: 1, C: 1, H: 1, W: 1}, true), seed, c}
				clear(tape.Floats(end.y))
				tape.Record(end)
				c.start()
				tape.Backward(end.y, []float32{1})
			}
			c.stop()
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/call")
			b.ReportMetric(c.used.Seconds()*1e3/float64(b.N), "cpu-ms/call")
		})
	}
}

type benchNeuron struct {
	name string
	fire func(t *autograd.Tape, x *autograd.Value) *autograd.Value
}

// benchNeurons are the layers of testdata/bench_spikingjelly.py, and one with all
// coefficients. "channels" has a recurrence over all channels, and "plain" is a LIF neuron in
// plain Go.
func benchNeurons() []benchNeuron {
	const steps = 8
	half := float32(0.5) // the sigmoid of 0
	one := func(v float32) []float32 { return []float32{v} }
	trained := []*autograd.Param{autograd.NewParam(1)}
	recurrence := func(g autograd.GLIFGrads) { trained[0].AddGrad(g.Recurrence) }
	glif := func(name string, n autograd.GLIF) benchNeuron {
		return benchNeuron{name, func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireGLIFThroughTime(t, x, n, steps, snn.Triangle{Width: 1}, false)
		}}
	}
	weights := autograd.NewParam(128, 128)
	weights.Fill(func(i int) (float32, error) { return float32(i*7919%128-64) / 2048, nil })
	return []benchNeuron{
		glif("PLIF", autograd.GLIF{Decay: one(1 - half), Gain: one(half), Threshold: one(1), Params: trained,
			Chain: func(g autograd.GLIFGrads) { trained[0].AddGrad([]float64{0.25 * (g.Gain[0] - g.Decay[0])}) }}),
		glif("ALIF", autograd.GLIF{Decay: one(0.9), Threshold: one(1), Adaptation: one(0.5), AdaptationDecay: one(0.8)}),
		glif("CuBaLIF", autograd.GLIF{SynapticDecay: one(0.5), Decay: one(0.75), Threshold: one(1)}),
		glif("recurrent", autograd.GLIF{Recurrence: one(-0.2), Decay: one(0.5), Gain: one(0.5), Threshold: one(1), Params: trained, Chain: recurrence}),
		glif("all", autograd.GLIF{SynapticDecay: one(0.5), Recurrence: one(-0.2), Decay: one(0.9), Gain: one(0.5), Threshold: one(1),
			Adaptation: one(0.5), AdaptationDecay: one(0.8), Params: trained, Chain: recurrence}),
		{"LIF", func(t *autograd.Tape, x *autograd.Value) *autograd.Value { // its own kernel
			return autograd.FireThroughTime(t, x, autograd.Dynamics{Decay: 0.5, Threshold: 1}, steps, snn.Triangle{Width: 1}, false)
		}},
		{"channels", func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			n := autograd.GLIF{Decay: one(0.5), Gain: one(0.5), Threshold: one(1)}
			return autograd.FireGLIFRecurrent(t, x, n, weights, steps, snn.Triangle{Width: 1}, false)
		}},
		{"plain", func(t *autograd.Tape, x *autograd.Value) *autograd.Value {
			return autograd.FireModel(t, x, plainLIF{}, nil, steps, snn.Triangle{Width: 1})
		}},
	}
}

// plainLIF is a LIF neuron in plain Go, as a program outside the module would write it.
type plainLIF struct{}

func (plainLIF) NumStates() int { return 1 }

func (plainLIF) Integrate(z [][]float32, x, u []float32) {
	m := z[0]
	for i, x := range x {
		m[i] = 0.5*m[i] + x
		u[i] = m[i] - 1
	}
}

func (plainLIF) Reset(z [][]float32, s []float32) {
	m := z[0]
	for i, v := range s {
		m[i] *= 1 - v
	}
}

func (plainLIF) ResetGrad(dz [][]float32, ds []float32, z [][]float32, s []float32) {
	dm := dz[0]
	for i, m := range z[0] {
		ds[i] -= m * dm[i]
		dm[i] *= 1 - s[i]
	}
}

func (plainLIF) IntegrateGrad(dz [][]float32, dx, du []float32, _ [][]float32, _ []float32) {
	dm := dz[0]
	for i, d := range du {
		dx[i] = dm[i] + d
		dm[i] = 0.5 * dx[i]
	}
}

// given is an operation that gives x a gradient, outside the time of a benchmark.
type given struct {
	x, y *autograd.Value
	seed *tensor.Dense
	c    *clock
}

func (o *given) Output() *autograd.Value { return o.y }

func (o *given) Backward(t *autograd.Tape) {
	o.c.stop()
	t.AddGrad(o.x, o.seed.Data, o.seed.Steps)
	o.c.start()
}

// clock is the timer of a benchmark, and one of processor time, which other programs change
// less.
type clock struct {
	b       *testing.B
	used    time.Duration
	since   time.Duration
	running bool
}

func (c *clock) start() {
	c.b.StartTimer()
	c.since, c.running = processorTime(), true
}

func (c *clock) stop() {
	if c.running {
		c.used += processorTime() - c.since
	}
	c.running = false
	c.b.StopTimer()
}
