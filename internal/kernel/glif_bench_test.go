package kernel

import "testing"

// The layers of BenchmarkNeuron, with all coefficients and without the optional ones.
func BenchmarkGLIF(b *testing.B) {
	for _, size := range []struct {
		name                   string
		blocks, images, pixels int
	}{{"memory", 8, 16, 1024}, {"cache", 4, 8, 16}} {
		for _, kind := range []struct {
			name  string
			flags int
		}{{"plain", glifNormed}, {"synaptic", glifNormed | glifSynaptic}, {"adaptive", glifNormed | glifAdaptive}, {"all", glifNormed | glifSynaptic | glifAdaptive | glifOthers}} {
			c := newGLIFCase(1, size.blocks, size.images, size.pixels, 8, kind.flags)
			s := c.forward(0)
			dx := make([]float32, len(c.x))
			read := bandwidth(b, 4*len(c.x), 0)
			name := size.name + "/" + kind.name
			eachLevel(b, name+"/forward", func(b *testing.B) {
				for range b.N {
					GLIFForward(s, c.x, c.norm, &c.GLIF, c.Scan, nil, 0)
				}
				rates(b, len(c.x), len(c.x)*4+len(s)*2, read)
			})
			g := c.grad(s, triangle{1}, false)
			eachLevel(b, name+"/backward", func(b *testing.B) {
				for range b.N {
					GLIFBackward(dx, nil, g, false, 0)
				}
				rates(b, len(c.x), len(c.x)*12+len(s)*2, read)
			})
			eachLevel(b, name+"/backward-sums", func(b *testing.B) {
				sums := NewGLIFSums(size.blocks)
				for range b.N {
					GLIFBackward(dx, sums, g, false, 0)
				}
				rates(b, len(c.x), len(c.x)*12+len(s)*2, read)
			})
		}
	}
}
