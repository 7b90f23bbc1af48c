package kernel

import (
	"math/rand/v2"
	"testing"
)

// glifParity compares all routines of GLIF neurons on a case.
func glifParity(t *testing.T, c *glifCase, add bool, threads int) {
	t.Helper()
	words := c.Units * c.Steps * c.Pixels
	parity(t, "GLIFForward", func(dst func(int) []float32, w func(int) []uint16) {
		state := &GLIFState{Membrane: dst(c.Units * c.Pixels * Lanes)}
		if c.synaptic() {
			state.Carry = dst(len(state.Membrane))
		}
		if c.adaptive() {
			state.Adaptation = dst(len(state.Membrane))
		}
		finite := []float32{0, 0}
		for i, state := range []*GLIFState{state, nil} {
			if GLIFForward(w(words), c.x, c.norm, &c.GLIF, c.Scan, state, threads) {
				finite[i] = 1
			}
		}
		copy(dst(2), finite)
	})
	parity(t, "GLIFSupport", func(_ func(int) []float32, w func(int) []uint16) {
		GLIFSupport(w(words), c.x, c.norm, &c.GLIF, c.Scan, 0.7, threads)
	})
	s := c.forward(threads)
	for _, phi := range []Surrogate{triangle{1.2}, sliced{1.2}} {
		for _, detach := range []bool{false, true} {
			parity(t, "GLIFBackward", func(dst func(int) []float32, _ func(int) []uint16) {
				sums := NewGLIFSums(c.Units / c.Images)
				GLIFBackward(dst(len(c.x)), sums, c.grad(s, phi, detach), add, threads)
				rows := sums.rows()
				quarters(dst(4*sumRows*len(rows[0])), rows[:]...)
				GLIFBackward(dst(len(c.x)), nil, c.grad(s, phi, detach), !add, threads)
			})
		}
	}
}

func TestGLIFParity(t *testing.T) {
	for pixels := 1; pixels <= 130; pixels++ {
		for variant := range 2 {
			r := rand.New(rand.NewPCG(1, uint64(2*pixels+variant)))
			c := newGLIFCase(uint64(pixels), 1+pixels%2, 1, pixels, 1+pixels%9, r.IntN(glifFlags))
			if variant == 1 {
				wild(r, c.x)
				wild(r, c.dout)
			}
			c.x, _ = banded(t, c.x)
			glifParity(t, c, r.IntN(2) == 1, 1)
		}
	}
}

func FuzzGLIFParity(f *testing.F) {
	f.Add(uint64(1), uint8(33), uint8(8), uint8(0), float32(0.9), float32(1), float32(0))
	f.Add(uint64(2), uint8(1), uint8(1), uint8(255), float32(1), float32(0.5), float32(-2))
	f.Fuzz(func(t *testing.T, seed uint64, pixels, steps, flags uint8, decay, threshold, other float32) {
		c := newGLIFCase(seed, 1, 2, 1+int(pixels), 1+int(steps)%40, int(flags)%glifFlags)
		r := rand.New(rand.NewPCG(seed, 3))
		c.Decay[r.IntN(Lanes)], c.Threshold[r.IntN(Lanes)] = decay, threshold
		for _, v := range [][]float32{c.SynapticDecay, c.Recurrence, c.Gain, c.Adaptation, c.AdaptationDecay, c.Reset, c.Start} {
			if v != nil {
				v[r.IntN(Lanes)] = other
			}
		}
		wild(r, c.x)
		glifParity(t, c, flags > 127, 2)
	})
}
