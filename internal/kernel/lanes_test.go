package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Parity: at every level, every routine gives the bits of the portable one. The tests use
// every number of pixels up to 130 and unaligned data. Infinities and NaNs are among the
// values. A routine writes nothing beside its destination.

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
	for _, l := range Levels() {
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
			parity(t, "NeuronSupport", func(_ func(int) []float32, words func(int) []uint16) {
				NeuronSupport(words(c.Units*c.Steps*c.Pixels), c.x, c.norm, c.Neuron, c.Scan, 0.7, 1)
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
						quarters(dst(8*len(sum)), sum, dot)
					})
				}
			}
		}
	}
}

// quarters writes the bits of float64 values to dst as four numbers each, those of all
// NaNs the same.
func quarters(dst []float32, vs ...[]float64) {
	dst = dst[:0]
	for _, v := range vs {
		for _, x := range v {
			if x != x {
				x = math.NaN()
			}
			b := math.Float64bits(x)
			dst = append(dst, float32(b>>48), float32(b>>32&0xffff), float32(b>>16&0xffff), float32(b&0xffff))
		}
	}
}

func FuzzNeuronParity(f *testing.F) {
	f.Add(uint64(1), uint8(33), uint8(8), uint8(0), float32(0.9), float32(1))
	f.Add(uint64(2), uint8(1), uint8(1), uint8(255), float32(1), float32(0.5))
	f.Fuzz(func(t *testing.T, seed uint64, pixels, steps, flags uint8, leak, threshold float32) {
		on := func(i int) bool { return flags>>i&1 == 1 }
		c := newNeuronCase(seed, 1, 2, 1+int(pixels), 1+int(steps)%40, on(0), on(1), on(2), on(3))
		c.Decay, c.Threshold = leak, threshold
		wild(rand.New(rand.NewPCG(seed, 3)), c.x)
		parity(t, "NeuronForward", func(_ func(int) []float32, words func(int) []uint16) {
			NeuronForward(words(c.Units*c.Steps*c.Pixels), c.x, c.norm, c.Neuron, c.Scan, 2)
		})
		s := c.forward(1)
		parity(t, "NeuronBackward", func(dst func(int) []float32, _ func(int) []uint16) {
			NeuronBackward(dst(len(c.x)), c.grad(s, triangle{1.2}, on(4)), on(5), 2)
		})
	})
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

// Every element-wise operation, at every number of elements up to 130.
func TestElementwiseParity(t *testing.T) {
	for n := 1; n <= 130; n++ {
		r := rand.New(rand.NewPCG(6, uint64(n)))
		const blocks = 2
		x, _ := banded(t, wild(r, values(r, blocks*n*Lanes, 1, 0.5)))
		y, _ := banded(t, wild(r, values(r, blocks*n*Lanes, 1, 0)))
		a, b, c := values(r, blocks*Lanes, 1, 0), values(r, blocks*Lanes, 1, 0), values(r, blocks*Lanes, 1, 0)
		mean, inv := make([]float64, blocks*Lanes), make([]float64, blocks*Lanes)
		for i := range mean {
			mean[i], inv[i] = r.NormFloat64(), 1+r.Float64()
		}
		ragged := len(x) - n%5 // a length that is no multiple of 16
		for _, op := range []struct {
			name string
			do   func(dst func(int) []float32)
		}{
			{"Affine", func(dst func(int) []float32) { Affine(dst(len(x)), x, a, b, blocks, n, 1) }},
			{"Moments", func(dst func(int) []float32) {
				m, q := make([]float64, len(mean)), make([]float64, len(mean))
				Moments(m, q, x, blocks, n, 1)
				quarters(dst(8*len(m)), m, q)
			}},
			{"NormReduce", func(dst func(int) []float32) {
				m, q := make([]float64, len(mean)), make([]float64, len(mean))
				NormReduce(m, q, y, x, mean, inv, blocks, n, 1)
				quarters(dst(8*len(m)), m, q)
			}},
			{"ReLU", func(dst func(int) []float32) { ReLU(dst(len(x)), x, 1) }},
			{"AXPY in place", func(dst func(int) []float32) {
				d := dst(len(x))
				copy(d, x)
				AXPY(d, 0.3, d, false, 1)
			}},
			{"Combine", func(dst func(int) []float32) {
				d := dst(ragged)
				copy(d, x)
				Combine(d, 0.3, d, -0.7, y[:ragged], 1)
			}},
			{"Dot", func(dst func(int) []float32) { quarters(dst(4), []float64{Dot(x[:ragged], y[:ragged], 1)}) }},
			{"SGD", func(dst func(int) []float32) {
				w, v := dst(ragged), dst(ragged)
				SGD(w, x, v, 0.1, 0.9, 0.01, n%2 == 0, 1)
				SGD(w, x, nil, 0.1, 0.9, 0.01, false, 1)
			}},
			{"Adam", func(dst func(int) []float32) {
				w, m, v := dst(ragged), dst(ragged), dst(ragged)
				for i := range v {
					v[i] = max(v[i], -v[i])
				}
				Adam(w, x, m, v, AdamStep{0.9, 0.99, 0.1, 0.01, 0.1, 0.3, 1e-3, 0.01}, 1)
			}},
		} {
			parity(t, op.name, func(dst func(int) []float32, _ func(int) []uint16) { op.do(dst) })
		}
		for _, add := range []bool{false, true} {
			for _, op := range []struct {
				name string
				do   func(dst func(int) []float32)
			}{
				{"Scale", func(dst func(int) []float32) { Scale(dst(len(x)), x, a, blocks, n, add, 1) }},
				{"NormBackward", func(dst func(int) []float32) {
					NormBackward(dst(len(x)), y, x, a, b, c, a, blocks, n, add, 1)
				}},
				{"ReLUGrad", func(dst func(int) []float32) { ReLUGrad(dst(len(x)), y, x, add, 1) }},
				{"AXPY", func(dst func(int) []float32) { AXPY(dst(ragged), 0.3, x[:ragged], add, 1) }},
				{"Repeat", func(dst func(int) []float32) { Repeat(dst(6*n), x[:2*n], 2, 3, n, add, 1) }},
				{"SumSteps", func(dst func(int) []float32) { SumSteps(dst(2*n), x[:6*n], 2, 3, n, 0.3, add, 1) }},
			} {
				parity(t, op.name, func(dst func(int) []float32, _ func(int) []uint16) { op.do(dst) })
			}
		}
	}
}

// Spikes: at all frame sizes up to 130 words.
func TestSpikesParity(t *testing.T) {
	for n := 1; n <= 130; n++ {
		r := rand.New(rand.NewPCG(7, uint64(n)))
		words := make([]uint16, 6*n)
		for i := range words {
			w := r.Uint32()
			words[i] = uint16(w & (w >> 16))
		}
		words[0], words[n] = 0, 0xffff
		s, _ := banded(t, words)
		parity(t, "spikes", func(dst func(int) []float32, w func(int) []uint16) {
			Densify(dst(n*Lanes), s[:n], 1)
			SumStepsSpikes(dst(2*n*Lanes), s, 2, 3, n, 1)
			Fired(w(2*n), s, Scan{Units: 2, Images: 1, Pixels: n, Steps: 3}, 1)
		})
	}
}

func pools() []Pool {
	var ps []Pool
	for _, g := range [][4]int{{1, 1, 1, 1}, {2, 2, 2, 2}, {4, 4, 2, 2}, {5, 7, 2, 2}, {16, 16, 2, 2}, {9, 6, 3, 3}, {8, 8, 8, 8}, {7, 9, 3, 2}, {6, 6, 1, 2}, {32, 32, 4, 4}} {
		p := Pool{Planes: 3, Hin: g[0], Win: g[1], KH: g[2], KW: g[2], Stride: g[3]}
		p.Hout, p.Wout = (g[0]-g[2])/g[3]+1, (g[1]-g[2])/g[3]+1
		ps = append(ps, p)
	}
	return ps
}

// Spikes are flattened as the values 0 and 1 are.
func TestFlattenSpikes(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 7))
	for _, c := range []int{1, 5, 16, 17, 40} {
		for _, pixels := range []int{1, 3, 4, 16, 49, 63, 64, 65, 130} {
			const frames = 3
			s := make([]uint16, blocks(c)*frames*pixels)
			for i := range s {
				channels := min(Lanes, c-i/(frames*pixels)*Lanes)
				s[i] = uint16(r.Uint32()) & uint16(1<<channels-1)
			}
			x := make([]float32, len(s)*Lanes)
			Densify(x, s, 0)
			n := blocks(c*pixels) * frames
			flat, want, got := make([]float32, n*Lanes), make([]float32, n*Lanes), make([]uint16, n)
			Flatten(want, x, frames, c, pixels, 0)
			for _, l := range Levels() {
				at(t, l, func() {
					for i := range got {
						got[i] = 0xffff
					}
					FlattenSpikes(got, s, frames, c, pixels, 0)
					Densify(flat, got, 0)
					equalBits(t, fmt.Sprintf("%d channels, %d pixels at %v", c, pixels, l), flat, want)
				})
			}
		}
	}
}

func TestPoolParity(t *testing.T) {
	for i, p := range pools() {
		r := rand.New(rand.NewPCG(8, uint64(i)))
		in, out := p.Planes*p.Hin*p.Win, p.Planes*p.Hout*p.Wout
		x, _ := banded(t, wild(r, values(r, in*Lanes, 1, 0)))
		dy, _ := banded(t, wild(r, values(r, out*Lanes, 1, 0)))
		s := make([]uint16, in)
		for i := range s {
			s[i] = uint16(r.Uint32())
		}
		parity(t, "pool", func(dst func(int) []float32, _ func(int) []uint16) {
			AvgPool(dst(out*Lanes), x, p, 1)
			MaxPool(dst(out*Lanes), x, p, 1)
			AvgPoolSpikes(dst(out*Lanes), s, p, 1)
			AvgPoolGrad(dst(in*Lanes), dy, p, false, 1)
			AvgPoolGrad(dst(in*Lanes), dy, p, true, 1)
		})
	}
}

// Dot and Combine over several chunks: what plain loops find, at any number of threads.
func TestDotAndCombine(t *testing.T) {
	for _, n := range []int{0, 1, 17, chunk - 1, chunk, chunk + 1, 3*chunk + 77} {
		r := rand.New(rand.NewPCG(11, uint64(n)))
		x, y := values(r, n, 1, 1), values(r, n, 1, 0)
		want, size := 0.0, 0.0
		both := make([]float32, n)
		for i := range x {
			p := float64(x[i]) * float64(y[i])
			want, size = want+p, size+math.Abs(p)
			both[i] = float32(0.3*x[i]) + float32(-0.7*y[i])
		}
		got := Dot(x, y, 1)
		if math.Abs(got-want) > 1e-14*size {
			t.Fatalf("Dot of %d values is %v, want %v", n, got, want)
		}
		if again := Dot(x, y, 3); again != got {
			t.Fatalf("Dot of %d values is %v with 3 threads and %v with one", n, again, got)
		}
		dst, check := banded(t, make([]float32, n))
		Combine(dst, 0.3, x, -0.7, y, 3)
		check("Combine")
		equalBits(t, "Combine", dst, both)
	}
}

// Moments merges its pieces into what two passes over all of x find.
func TestMoments(t *testing.T) {
	const blocks, n = 2, 3*momentVectors + 77
	x := values(rand.New(rand.NewPCG(9, 9)), blocks*n*Lanes, 0.01, 100)
	mean, square := make([]float64, blocks*Lanes), make([]float64, blocks*Lanes)
	Moments(mean, square, x, blocks, n, 0)
	for c := range mean {
		at := func(i int) float64 { return float64(x[(c/Lanes*n+i)*Lanes+c%Lanes]) }
		var m, q float64
		for i := range n {
			m += at(i) / n
		}
		for i := range n {
			q += (at(i) - m) * (at(i) - m)
		}
		if math.Abs(mean[c]-m) > 1e-11*m || math.Abs(square[c]-q) > 1e-9*q {
			t.Fatalf("channel %d: mean %v and squares %v, want %v and %v", c, mean[c], square[c], m, q)
		}
	}
}
