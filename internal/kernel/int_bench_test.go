package kernel

import (
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkIntConv runs in turns on one thread, for one image of eight steps: a convolution of
// spikes and neurons in float32, and both on whole numbers; the same for pooled spikes, of which
// half are not zero. It reports each one's rate as BenchmarkConv does, as a multiple of the peak:
// that of the fastest run.
func BenchmarkIntConv(b *testing.B) {
	peak := peakGflops(1)
	for _, a := range [][8]int{
		{8, 64, 32, 32, 64, 3, 1, 1},
		{8, 64, 16, 16, 128, 3, 1, 1},
		{8, 128, 16, 16, 256, 3, 1, 1},
		{8, 256, 8, 8, 512, 3, 1, 1},
		{8, 512, 8, 8, 512, 3, 1, 1},
		{8, 512, 4, 4, 512, 3, 1, 1},
		{8, 64, 32, 32, 128, 3, 2, 1},
		{8, 64, 32, 32, 128, 1, 2, 0},
		{8, 16, 32, 32, 64, 3, 1, 1},
		{128, 512, 4, 4, 512, 3, 1, 1},
		{128, 4096, 1, 1, 4096, 1, 1, 0},
	} {
		c, _ := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		b.Run(c.String(), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			spikes, pooled := newOperands(c, .14, 2), newOperands(c, .5, 2)
			w := make([]int8, c.Cout*c.Cin*c.KH*c.KW)
			for i := range w {
				w[i] = int8(max(-127, min(127, r.NormFloat64()*35)))
			}
			bytes := make([]uint8, len(pooled.x))
			for i, v := range pooled.x {
				if v != 0 {
					bytes[i] = uint8(1 + r.IntN(4))
				}
			}
			nb, px := c.BlocksOut(), c.Hout*c.Wout
			n := IntNeurons{Bias: make([]int32, nb*Lanes), Threshold: make([]int32, nb*Lanes), Leak: 1}
			for i := range n.Threshold {
				n.Threshold[i] = 1000
			}
			o := IntOutput{Images: c.Frames / 8, Spikes: make([]uint16, nb*c.Frames*px), Neurons: &n, Steps: 8}
			sc := Scan{Units: nb * o.Images, Images: o.Images, Pixels: px, Steps: 8, CurrentSteps: 8}
			fires := func(o *operands, fired []uint16) {
				NeuronForward(fired, o.dst, Norm{}, Neuron{Decay: 1, Threshold: 1}, sc, 1)
			}
			one, four := NewIntConv(c, w, 1), NewIntConv(c, w, 4)
			best := [...]time.Duration{time.Hour, time.Hour, time.Hour, time.Hour}
			for b.Loop() {
				for i, fn := range []func(){
					func() { ConvSpikes(spikes.dst, spikes.s, spikes.w, nil, c, 1); fires(spikes, o.Spikes) },
					func() { one.Spikes(o, spikes.s, 8, 1) },
					func() { ConvDense(pooled.dst, pooled.x, pooled.w, nil, c, 1); fires(pooled, o.Spikes) },
					func() { four.Bytes(o, bytes, nil, 8, 1) },
				} {
					start := time.Now()
					fn()
					best[i] = min(best[i], time.Since(start))
				}
			}
			for i, name := range []string{"float32-spikes", "int-spikes", "float32-pooled", "int-pooled"} {
				b.ReportMetric(c.flops()/best[i].Seconds()/1e9/peak, name)
			}
			b.ReportMetric(peak, "peak-GFLOP/s")
		})
	}
}

// BenchmarkIntEvents is BenchmarkEvents for sums of 16 bits.
func BenchmarkIntEvents(b *testing.B) {
	const size, spikes, sweeps = 16, 16, 50
	const taps = (3*size - 2) * (3*size - 2)
	m, w := make([]uint64, size*size), make([]packed4, Group*9)
	dst, l := make([]packed4, size*size), CurrentLevel()
	for i := range m {
		m[i] = 1<<spikes - 1
	}
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		for range sweeps {
			l.scatterInts3(&scatter3{
				masks: ptr(m, 0), w: ptr(w, 0), dst: ptr(dst, 0), bias: ptr(noBias[:], 0),
				frames: 1, height: size, width: size, blocks: 1,
			})
		}
		best = min(best, time.Since(start))
	}
	b.ReportMetric(float64(sweeps*taps*spikes*Lanes)/1e9/best.Seconds(), "Gadd/s")
}
