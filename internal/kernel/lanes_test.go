package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Parity: every routine gives, at every level, the bits of the portable one, at
// every number of pixels up to 130, on unaligned data, with infinities and NaNs
// among the values, and writes nothing beside its destination.

const band = 19 // odd, so that vectors are not aligned

// banded returns v in the middle of sentinels, and a check that they are intact.
func banded[E float32 | uint16 | float64](t *testing.T, v []E) (mid []E, check func(what string)) {
	const sentinel = 12345
	b := slices.Concat(slices.Repeat([]E{sentinel}, band), v, slices.Repeat([]E{sentinel}, band))
	return b[band : band+len(v)], func(what string) {
		t.Helper()
		for i, e := range b {
			if (i < band || i >= band+len(v)) && e != sentinel {
				t.Fatalf("%s: wrote %d elements from the destination, of %d elements", what, i-band, len(v))
			}
		}
	}
}

// wild replaces some of v by values that arithmetic treats specially.
func wild(r *rand.Rand, v []float32) []float32 {
	special := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)),
		float32(math.NaN()), math.MaxFloat32, math.SmallestNonzeroFloat32, 1}
	for range len(v) / 40 {
		v[r.IntN(len(v))] = special[r.IntN(len(special))]
	}
	return v
}

// equalBits compares values, signs of zeros included; all NaNs are one.
func equalBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, v := range got {
		if math.Float32bits(v) != math.Float32bits(want[i]) && (v == v || want[i] == want[i]) {
			t.Fatalf("%s: value %d of %d is %v, want %v", what, i, len(got), v, want[i])
		}
	}
}

// parity runs op at the portable level and at each other one. op gets its
// destinations from the function it is passed, which bands and compares them.
func parity(t *testing.T, name string, op func(dst func(n int) []float32, words func(n int) []uint16)) {
	t.Helper()
	var want [][]float32
	var wantWords [][]uint16
	old := CurrentLevel()
	defer SetLevel(old)
	for l := Portable; l <= MaxLevel(); l++ {
		if err := SetLevel(l); err != nil {
			t.Fatal(err)
		}
		var outs [][]float32
		var outWords [][]uint16
		var checks []func(string)
		op(func(n int) []float32 {
			start := make([]float32, n)
			for i := range start {
				start[i] = float32(i%7) - 3
			}
			d, check := banded(t, start)
			outs, checks = append(outs, d), append(checks, check)
			return d
		}, func(n int) []uint16 {
			d, check := banded(t, make([]uint16, n))
			outWords, checks = append(outWords, d), append(checks, check)
			return d
		})
		for _, check := range checks {
			check(name + " at " + l.String())
		}
		if l == Portable {
			want, wantWords = outs, outWords
			continue
		}
		for i, o := range outs {
			equalBits(t, name+" at "+l.String(), o, want[i])
		}
		for i, o := range outWords {
			if !slices.Equal(o, wantWords[i]) {
				t.Fatalf("%s at %v: words differ", name, l)
			}
		}
	}
}

func TestNeuronParity(t *testing.T) {
	for pixels := 1; pixels <= 130; pixels++ {
		on := func(i int) bool { return pixels>>i&1 == 1 }
		for variant := range 2 {
			c := newNeuronCase(uint64(pixels), 1+pixels%2, 1, pixels, 1+pixels%9, on(1), on(2), on(3) != (variant == 1), on(0))
			r := rand.New(rand.NewPCG(1, uint64(pixels)))
			if variant == 1 {
				wild(r, c.x)
				wild(r, c.dout)
			}
			mean, inv := make([]float64, c.Units/c.Images*Lanes), make([]float64, c.Units/c.Images*Lanes)
			for i := range mean {
				mean[i], inv[i] = r.NormFloat64(), 1+r.Float64()
			}
			x, _ := banded(t, c.x)
			c.x = x
			parity(t, "NeuronForward", func(_ func(int) []float32, words func(int) []uint16) {
				NeuronForward(words(c.Units*c.Steps*c.Pixels), c.x, c.norm, c.Neuron, c.Scan, 1)
			})
			s := c.forward(1)
			for _, phi := range []Surrogate{triangle{1.2}, sliced{1.2}} {
				for _, detach := range []bool{false, true} {
					for _, add := range []bool{false, true} {
						parity(t, "NeuronBackward", func(dst func(int) []float32, _ func(int) []uint16) {
							NeuronBackward(dst(len(c.x)), c.grad(s, phi, detach), add, 1)
						})
					}
					parity(t, "NeuronNormBackward", func(dst func(int) []float32, _ func(int) []uint16) {
						sum, dot := make([]float64, len(mean)), make([]float64, len(mean))
						NeuronNormBackward(dst(len(c.x)), sum, dot, c.grad(s, phi, detach), mean, inv, 1)
						halves(dst(4*len(sum)), sum, dot)
					})
				}
			}
		}
	}
}

// halves writes the bits of float64 values to dst as pairs of float32, which
// compare as the bits do unless they are NaNs.
func halves(dst []float32, vs ...[]float64) {
	dst = dst[:0]
	for _, v := range vs {
		for _, x := range v {
			hi := float32(x)
			dst = append(dst, hi, float32(x-float64(hi)))
		}
	}
}

func TestGateParity(t *testing.T) {
	for n := 1; n <= 130; n++ {
		r := rand.New(rand.NewPCG(5, uint64(n)))
		src, a := wild(r, values(r, 2*n*Lanes, 1, 0)), values(r, Lanes, 1, 0)
		mask := make([]uint16, n)
		for i := range mask {
			mask[i] = uint16(r.Uint32())
		}
		for _, add := range []bool{false, true} {
			parity(t, "Gate", func(dst func(int) []float32, _ func(int) []uint16) {
				Gate(dst(len(src)), src, mask, a, 0.7, 1, 1, 2, n, add, 1)
			})
		}
	}
}
