package autograd_test

import (
	"math"
	"math/rand/v2"
	"testing"

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
	sigmoid := func(w float64) float32 { return float32(1 / (1 + math.Exp(-w))) }
	one := func(v float32) []float32 { return []float32{v} }
	trained := autograd.NewParam(1)
	for _, c := range []struct {
		name string
		n    autograd.GLIF
	}{
		{"PLIF", autograd.GLIF{Decay: one(1 - sigmoid(0)), Gain: one(sigmoid(0)), Threshold: one(1), Params: []*autograd.Param{trained},
			Chain: func(g autograd.GLIFGrads) { trained.AddGrad([]float64{0.25 * (g.Gain[0] - g.Decay[0])}) }}},
		{"ALIF", autograd.GLIF{Decay: one(0.9), Threshold: one(1), Adaptation: one(0.5), AdaptationDecay: one(0.8)}},
		{"CuBaLIF", autograd.GLIF{SynapticDecay: one(0.5), Decay: one(0.75), Threshold: one(1)}},
		{"recurrent", autograd.GLIF{Recurrence: one(-0.2), Decay: one(0.5), Gain: one(0.5), Threshold: one(1), Params: []*autograd.Param{trained},
			Chain: func(g autograd.GLIFGrads) { trained.AddGrad(g.Recurrence) }}},
		{"all", autograd.GLIF{SynapticDecay: one(0.5), Recurrence: one(-0.2), Decay: one(0.9), Gain: one(0.5), Threshold: one(1),
			Adaptation: one(0.5), AdaptationDecay: one(0.8), Params: []*autograd.Param{trained}, Chain: func(g autograd.GLIFGrads) { trained.AddGrad(g.Recurrence) }}},
		{"LIF", autograd.GLIF{}}, // in its own kernel
	} {
		b.Run(c.name, func(b *testing.B) {
			tape := &autograd.Tape{Params: true}
			for range b.N {
				b.StopTimer()
				tape.Reset()
				in := tape.Input(x, true)
				b.StartTimer()
				var y *autograd.Value
				if c.n.Decay == nil {
					y = autograd.FireThroughTime(tape, in, autograd.Dynamics{Decay: 0.5, Threshold: 1}, sh.Steps, snn.Triangle{Width: 1}, false)
				} else {
					y = autograd.FireGLIFThroughTime(tape, in, c.n, sh.Steps, snn.Triangle{Width: 1}, false)
				}
				b.StopTimer()
				end := &given{y, tape.NewDense(tensor.Shape{N: 1, Steps: 1, C: 1, H: 1, W: 1}, true), seed, b}
				clear(tape.Floats(end.y))
				tape.Record(end)
				b.StartTimer()
				tape.Backward(end.y, []float32{1})
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N), "ms/call")
		})
	}
}

// given is an operation that gives x a gradient, outside the time of a benchmark.
type given struct {
	x, y *autograd.Value
	seed *tensor.Dense
	b    *testing.B
}

func (o *given) Output() *autograd.Value { return o.y }

func (o *given) Backward(t *autograd.Tape) {
	o.b.StopTimer()
	t.AddGrad(o.x, o.seed.Data, o.seed.Steps)
	o.b.StartTimer()
}
