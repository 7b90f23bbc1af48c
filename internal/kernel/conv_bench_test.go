package kernel

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/org/snnrat/internal/parallel"
)

// peakGflops measures the multiply-adds that so many threads do on registers: the best
// of short rounds, which other work on the machine does not lower.
func peakGflops(threads int) float64 {
	l := CurrentLevel()
	flops := make([]float64, parallel.Threads(threads))
	best := 0.
	for range 100 {
		start := time.Now()
		parallel.For(threads, len(flops), func(i int) { flops[i] = peakRound(l, 50000) })
		sum := 0.
		for _, f := range flops {
			sum += f
		}
		best = max(best, sum/time.Since(start).Seconds()/1e9)
	}
	return best
}

// benchCases are the layers that matter: the default network of examples/rat, the
// paper's VGG-11 and WRN-16-4, and at last layers of large images and windows. Those of 8 frames, an image of 8 steps, take a millisecond
// or a few: on a machine with other work there is always such a run that it leaves alone.
func benchCases() []Conv {
	var cs []Conv
	for _, a := range [][8]int{
		{64, 1, 28, 28, 16, 3, 1, 1},
		{256, 16, 14, 14, 32, 3, 1, 1},
		{256, 32, 7, 7, 32, 3, 1, 1},
		{16, 3, 32, 32, 64, 3, 1, 1},
		{128, 64, 16, 16, 128, 3, 1, 1},
		{128, 128, 16, 16, 128, 3, 1, 1},
		{128, 256, 8, 8, 256, 3, 1, 1},
		{128, 512, 4, 4, 512, 3, 1, 1},
		{16, 512, 4, 4, 512, 3, 1, 1},
		{128, 64, 32, 32, 64, 3, 1, 1},
		{128, 64, 32, 32, 128, 3, 2, 1},
		{128, 64, 32, 32, 128, 1, 2, 0},
		{128, 64, 16, 16, 256, 1, 1, 0},
		{128, 4096, 1, 1, 4096, 1, 1, 0},
		{16, 4096, 1, 1, 4096, 1, 1, 0},
		{128, 4096, 1, 1, 10, 1, 1, 0},
		{8, 64, 32, 32, 64, 3, 1, 1},
		{8, 64, 32, 32, 128, 3, 2, 1},
		{8, 64, 32, 32, 128, 1, 2, 0},
		{8, 64, 16, 16, 256, 1, 1, 0},
		{8, 3, 224, 224, 64, 7, 2, 3},
		{8, 64, 224, 224, 64, 3, 1, 1},
		{8, 64, 56, 56, 64, 7, 1, 3},
	} {
		c, _ := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		cs = append(cs, c)
	}
	return cs
}

func (c Conv) flops() float64 {
	return 2 * float64(c.Frames*c.Hout*c.Wout) * float64(c.KH*c.KW) * float64(c.Cin) * float64(c.Cout)
}

// traffic returns the bytes of inputs, outputs and weights, spikes being a bit each.
func (c Conv) traffic(spikes bool) (in, out, w float64) {
	in = float64(c.BlocksIn() * c.Frames * c.Hin * c.Win * Lanes * 4)
	if spikes {
		in /= 32
	}
	return in, float64(c.BlocksOut() * c.Frames * c.Hout * c.Wout * Lanes * 4), float64(c.WeightLen() * 4)
}

// BenchmarkConv reports, of the fastest run, the FLOPs of the dense product over its time,
// the peak of fused multiply-adds measured in the same run, and their ratio; and what the
// kernel must at least read, and fetch and write back, over its time, beside the rate at
// which so many threads read memory.
func BenchmarkConv(b *testing.B) {
	for _, threads := range []int{1, 2} {
		read := bandwidth(b, 1<<27, threads)
		for _, c := range benchCases() {
			run := func(name string, density float64, fn func(o *operands)) {
				in, out, w := c.traffic(strings.HasSuffix(name, "spikes"))
				seen := in * min(1, float64(c.Hout*c.Wout*c.KH*c.KW)/float64(c.Hin*c.Win))
				bytes := seen + w + 2*out
				switch {
				case strings.HasPrefix(name, "inputgrad"):
					bytes = out + w + 2*in
				case strings.HasPrefix(name, "weightgrad"):
					bytes = seen + out + 2*w
				}
				b.Run(fmt.Sprintf("threads=%d/%v/%s/d=%.2f", threads, c, name, density), func(b *testing.B) {
					o := newOperands(c, density, 2)
					fn(o)
					b.ReportAllocs()
					rate := 0.
					for b.Loop() {
						start := time.Now()
						fn(o)
						rate = max(rate, c.flops()/time.Since(start).Seconds()/1e9)
					}
					b.StopTimer()
					peak := peakGflops(threads)
					b.ReportMetric(rate, "GFLOP/s")
					b.ReportMetric(peak, "peak-GFLOP/s")
					b.ReportMetric(rate/peak, "of-peak")
					b.ReportMetric(rate/c.flops()*bytes, "GB/s")
					b.ReportMetric(read/1e9, "read-GB/s")
				})
			}
			for _, d := range []float64{.05, .15, .30} {
				run("spikes", d, func(o *operands) { ConvSpikes(o.dst, o.s, o.w, nil, c, threads) })
			}
			for _, d := range []float64{.42, 1} {
				run("dense", d, func(o *operands) { ConvDense(o.dst, o.x, o.w, nil, c, threads) })
			}
			run("inputgrad", 1, func(o *operands) { ConvInputGrad(o.dx, o.dy, o.w, nil, c, false, threads) })
			run("inputgrad-where", .40, func(o *operands) { ConvInputGrad(o.dx, o.dy, o.w, o.s, c, false, threads) })
			if c.Cin == c.Cout { // the gradient has the shape of the input
				run("inputgrad", .40, func(o *operands) { ConvInputGrad(o.dx, o.x, o.w, nil, c, false, threads) })
			}
			for _, d := range []float64{.05, .15, .30} {
				run("weightgrad-spikes", d, func(o *operands) { ConvWeightGradSpikes(o.dw, o.s, o.dy, c, false, threads) })
			}
			run("weightgrad-dense", 1, func(o *operands) { ConvWeightGradDense(o.dw, o.x, o.dy, c, false, threads) })
		}
	}
}

// BenchmarkEvents is the sweep over spikes alone, all of it in L1: what its loads, one for
// an addition of a vector, allow. It reports additions of numbers, of the fastest run and
// on average.
func BenchmarkEvents(b *testing.B) {
	const size, spikes, sweeps = 16, 16, 50
	const taps = (3*size - 2) * (3*size - 2) // that a channel's spikes reach
	_, bytes := CurrentLevel().vectors()
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			best, runs := time.Hour, 0
			for b.Loop() {
				start := time.Now()
				parallel.For(threads, threads, func(int) {
					m, w := make([]uint64, size*size), make([]float32, Group*9*Lanes)
					dst := make([]float32, size*size*Lanes)
					for i := range m {
						m[i] = 1<<spikes - 1
					}
					for range sweeps {
						CurrentLevel().scatterSpikes3(&scatter3{
							masks: ptr(m, 0), w: ptr(w, 0), dst: ptr(dst, 0), bias: ptr(noBias[:], 0),
							frames: 1, height: size, width: size, blocks: 1,
						})
					}
				})
				best, runs = min(best, time.Since(start)), runs+1
			}
			adds := float64(threads*sweeps*taps*spikes*bytes/4) / 1e9
			b.ReportMetric(adds/best.Seconds(), "Gadd/s")
			b.ReportMetric(adds*float64(runs)/b.Elapsed().Seconds(), "mean-Gadd/s")
		})
	}
}

// BenchmarkWinograd runs in turns on one thread: Winograd's algorithm for the input gradient,
// register tiles, and the gradient where it is needed, a share of 0.40; then Winograd's algorithm
// for a forward convolution ("output") and its direct sum, with half of the inputs not zero. It
// reports each one's rate as BenchmarkConv does, as a multiple of the peak: that of the fastest run.
func BenchmarkWinograd(b *testing.B) {
	l, peak := CurrentLevel(), peakGflops(1)
	for _, a := range [][8]int{
		{8, 64, 32, 32, 64, 3, 1, 1},
		{8, 64, 16, 16, 128, 3, 1, 1},
		{8, 128, 16, 16, 128, 3, 1, 1},
		{32, 128, 8, 8, 256, 3, 1, 1},
		{32, 256, 8, 8, 256, 3, 1, 1},
		{128, 256, 4, 4, 512, 3, 1, 1},
		{128, 512, 4, 4, 512, 3, 1, 1},
		{16, 512, 4, 4, 512, 3, 1, 1},
		{1, 512, 4, 4, 512, 3, 1, 1},
	} {
		c, _ := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		b.Run(c.String(), func(b *testing.B) {
			if l == Portable || !l.winograd(&c) {
				b.Skip("not by Winograd's algorithm")
			}
			o, half := newOperands(c, .40, 2), newOperands(c, .50, 2)
			best := make([]time.Duration, 5)
			for i := range best {
				best[i] = time.Hour
			}
			for b.Loop() {
				for i, fn := range []func(){
					func() { l.convInputGradWinograd(o.dx, o.dy, o.w, &c, c.allFrames(), false, 1) },
					func() { l.convInputGradTiles(o.dx, o.dy, o.w, &c, false, 1) },
					func() { l.convInputGradWhere3(o.dx, o.dy, o.w, o.s, &c, c.allFrames(), false, 1) },
					func() { l.convDenseWinograd(o.dst, half.x, o.w, o.bias, &c, 1) },
					func() { l.convDense(o.dst, half.x, o.w, o.bias, c, 1) },
				} {
					start := time.Now()
					fn()
					best[i] = min(best[i], time.Since(start))
				}
			}
			for i, name := range []string{"winograd", "tiles", "needed", "output", "direct.50"} {
				b.ReportMetric(c.flops()/best[i].Seconds()/1e9/peak, name)
			}
			b.ReportMetric(best[0].Seconds()*1e3, "winograd-ms")
		})
	}
}
