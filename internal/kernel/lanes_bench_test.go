package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/org/snnrat/internal/parallel"
)

// bandwidth measures, in the run that reports it, how fast all threads together
// read memory, in bytes a second: bytes.IndexByte compares vectors and finds
// nothing.
func bandwidth(b *testing.B, size int) float64 {
	b.Helper()
	buf := bytes.Repeat([]byte{2}, size)
	const piece = 1 << 18
	var best float64
	for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
		begin := time.Now()
		parallel.For(0, (size+piece-1)/piece, func(i int) {
			if bytes.IndexByte(buf[i*piece:min(size, (i+1)*piece)], 1) >= 0 {
				panic("found what is not there")
			}
		})
		best = max(best, float64(size)/time.Since(begin).Seconds())
	}
	return best
}

// eachLevel runs a benchmark at the levels above portable.
func eachLevel(b *testing.B, name string, fn func(b *testing.B)) {
	for l := max(Portable, MaxLevel()-1); l <= MaxLevel(); l++ {
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

// The layers of a VGG-11 at 8 steps: 64 channels @32 of 16 images, from memory;
// and 512 @2, from cache.
func BenchmarkNeuron(b *testing.B) {
	for _, size := range []struct {
		name                   string
		blocks, images, pixels int
	}{{"memory", 8, 16, 1024}, {"cache", 4, 8, 16}} {
		c := newNeuronCase(1, size.blocks, size.images, size.pixels, 8, false, false, false, true)
		s := c.forward(0)
		dx := make([]float32, len(c.x))
		read := bandwidth(b, 4*len(c.x))
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
