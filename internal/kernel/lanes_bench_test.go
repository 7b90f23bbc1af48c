package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/org/snnrat/internal/parallel"
)

// bandwidth measures, in the run that reports it, how fast so many threads together
// read memory, in bytes a second: bytes.IndexByte compares vectors and finds
// nothing.
func bandwidth(b *testing.B, size, threads int) float64 {
	b.Helper()
	buf := bytes.Repeat([]byte{2}, size)
	const piece = 1 << 18
	var best float64
	for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
		begin := time.Now()
		parallel.For(threads, (size+piece-1)/piece, func(i int) {
			if bytes.IndexByte(buf[i*piece:min(size, (i+1)*piece)], 1) >= 0 {
				panic("found what is not there")
			}
		})
		best = max(best, float64(size)/time.Since(begin).Seconds())
	}
	return best
}

// eachLevel runs a benchmark at the two highest levels.
func eachLevel(b *testing.B, name string, fn func(b *testing.B)) {
	for _, l := range Levels()[max(0, len(Levels())-2):] {
		b.Run(fmt.Sprintf("%s/%v", name, l), func(b *testing.B) {
			at(b, l, func() { fn(b) })
		})
	}
}

// rates reports neurons × steps and bytes per second against the bandwidth.
func rates(b *testing.B, steps, bytes int, read float64) {
	perSecond := float64(b.N) / b.Elapsed().Seconds()
	if steps > 0 {
		b.ReportMetric(float64(steps)*perSecond/1e9, "Gsteps/s")
	}
	b.ReportMetric(float64(bytes)*perSecond/1e9, "GB/s")
	b.ReportMetric(read/1e9, "read-GB/s")
}

// Layers at 8 steps: 128 channels of 32×32 pixels and 16 images, from memory; and 64 of
// 4×4 and 8 images, from cache.
func BenchmarkNeuron(b *testing.B) {
	for _, size := range []struct {
		name                   string
		blocks, images, pixels int
	}{{"memory", 8, 16, 1024}, {"cache", 4, 8, 16}} {
		c := newNeuronCase(1, size.blocks, size.images, size.pixels, 8, false, false, false, true)
		s := c.forward(0)
		dx := make([]float32, len(c.x))
		read := bandwidth(b, 4*len(c.x), 0)
		eachLevel(b, size.name+"/forward", func(b *testing.B) {
			for range b.N {
				NeuronForward(s, c.x, c.norm, c.Neuron, c.Scan, 0)
			}
			rates(b, len(c.x), len(c.x)*4+len(s)*2, read)
		})
		g := c.grad(s, triangle{1}, false)
		mean, inv := make([]float64, size.blocks*Lanes), make([]float64, size.blocks*Lanes)
		eachLevel(b, size.name+"/backward", func(b *testing.B) {
			for range b.N {
				NeuronBackward(dx, g, false, 0)
			}
			rates(b, len(c.x), len(c.x)*12+len(s)*2, read)
		})
		eachLevel(b, size.name+"/backward-norm", func(b *testing.B) {
			sum, dot := make([]float64, len(mean)), make([]float64, len(mean))
			for range b.N {
				NeuronNormBackward(dx, sum, dot, g, mean, inv, 0)
			}
			rates(b, len(c.x), len(c.x)*12+len(s)*2, read)
		})
		fired := make([]uint16, c.Units*c.Pixels)
		for i := range fired {
			fired[i] = uint16(rand.Uint32())
		}
		eachLevel(b, size.name+"/gate", func(b *testing.B) {
			for range b.N {
				Gate(dx, c.dout, fired, c.norm.A, 1, c.Units, c.Images, c.Steps, c.Pixels, false, 0)
			}
			rates(b, 0, len(c.x)*8, read)
		})
	}
}

// BenchmarkElementwise runs each operation once over 64 MB of values and reports
// the bytes that it reads and writes a second.
func BenchmarkElementwise(b *testing.B) {
	const blocks, n, steps = 4, 1 << 18, 8
	const size = blocks * n * Lanes
	r := rand.New(rand.NewPCG(1, 1))
	x, y, d := values(r, size, 1, 0), values(r, size, 1, 0), make([]float32, size)
	s, t := make([]uint16, blocks*n), make([]uint16, blocks*n)
	for i := range s {
		w := r.Uint32()
		s[i] = uint16(w & (w >> 16))
	}
	a := values(r, blocks*Lanes, 1, 0)
	sum, dot, inv := make([]float64, blocks*Lanes), make([]float64, blocks*Lanes), make([]float64, blocks*Lanes)
	pool := Pool{Planes: blocks * n / 1024, Hin: 32, Win: 32, Hout: 16, Wout: 16, KH: 2, KW: 2, Stride: 2}
	read := bandwidth(b, 4*size, 0)
	for _, op := range []struct {
		name    string
		eighths int // of a byte, a value
		do      func()
	}{
		{"affine", 64, func() { Affine(d, x, a, a, blocks, n, 0) }},
		{"moments", 32, func() { Moments(sum, dot, x, blocks, n, 0) }},
		{"norm-reduce", 64, func() { NormReduce(sum, dot, y, x, inv, inv, blocks, n, 0) }},
		{"norm-backward", 96, func() { NormBackward(d, y, x, a, a, a, a, blocks, n, false, 0) }},
		{"relu", 64, func() { ReLU(d, x, 0) }},
		{"relu-grad", 96, func() { ReLUGrad(d, y, x, false, 0) }},
		{"axpy-add", 96, func() { AXPY(d, 0.5, x, true, 0) }},
		{"combine", 96, func() { Combine(d, 0.5, x, 0.5, y, 0) }},
		{"dot", 64, func() { Dot(x, y, 0) }},
		{"repeat", 36, func() { Repeat(d, x, blocks, steps, n/steps*Lanes, false, 0) }},
		{"sum-steps", 36, func() { SumSteps(d, x, blocks, steps, n/steps*Lanes, 0.5, false, 0) }},
		{"densify", 33, func() { Densify(d, s, 0) }},
		{"sum-steps-spikes", 5, func() { SumStepsSpikes(d, s, blocks, steps, n/steps, 0) }},
		{"avg-pool", 40, func() { AvgPool(d, x, pool, 0) }},
		{"avg-pool-spikes", 9, func() { AvgPoolSpikes(d, s, pool, 0) }},
		{"avg-pool-grad", 40, func() { AvgPoolGrad(d, x, pool, false, 0) }},
		{"max-pool", 40, func() { MaxPool(d, x, pool, 0) }},
		{"fired", 1, func() { Fired(t, s, Scan{Units: blocks, Images: 1, Pixels: n / steps, Steps: steps}, 0) }},
		{"sgd", 160, func() { SGD(d, x, y, 0.1, 0.5, 0.01, false, 0) }},
		{"adam", 224, func() { Adam(d, x, y, y, AdamStep{Beta1: 0.5, Beta2: 0.5, Correction: 1, Eps: 1}, 0) }},
	} {
		eachLevel(b, op.name, func(b *testing.B) {
			for range b.N {
				op.do()
			}
			rates(b, 0, size/8*op.eighths, read)
		})
	}
}
