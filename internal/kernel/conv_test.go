package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// levels returns the levels that this machine can run.
func levels() []Level {
	var ls []Level
	for l := Portable; l <= MaxLevel(); l++ {
		ls = append(ls, l)
	}
	return ls
}

// at runs fn at a level, and returns to the one in use.
func at(t testing.TB, l Level, fn func()) {
	t.Helper()
	old := CurrentLevel()
	if err := SetLevel(l); err != nil {
		t.Fatal(err)
	}
	defer SetLevel(old)
	fn()
}

// geometry returns a convolution of square frames, or nothing if the window does
// not fit them.
func geometry(frames, cin, h, w, cout, k, stride, pad int) (Conv, bool) {
	c := Conv{
		Frames: frames, Cin: cin, Hin: h, Win: w, Cout: cout,
		KH: k, KW: k, Stride: stride, Pad: pad,
	}
	if h+2*pad < k || w+2*pad < k {
		return c, false
	}
	c.Hout, c.Wout = (h+2*pad-k)/stride+1, (w+2*pad-k)/stride+1
	return c, true
}

// convCases are the geometries of every test in this file: the corners, and a
// sample of sizes from 1 to 130 in every dimension, of bounded work.
func convCases() []Conv {
	var cs []Conv
	for _, a := range [][8]int{
		// frames, cin, h, w, cout, k, stride, pad
		{1, 1, 1, 1, 1, 1, 1, 0},
		{1, 1, 1, 1, 1, 3, 1, 1},
		{2, 16, 1, 2, 16, 3, 1, 1},
		{2, 17, 2, 2, 33, 3, 1, 1},
		{3, 20, 2, 1, 5, 3, 1, 1},
		{5, 65, 3, 5, 49, 3, 1, 1},
		{9, 130, 4, 4, 40, 3, 1, 1},
		{8, 3, 16, 16, 64, 3, 1, 1},
		{1, 70, 8, 8, 100, 3, 1, 1},
		{2, 33, 32, 32, 16, 3, 1, 1},
		{1, 16, 130, 130, 16, 3, 1, 1},
		{1, 2, 2, 130, 17, 3, 1, 1},
		{2, 2, 130, 2, 17, 3, 1, 1},
		{130, 130, 1, 1, 130, 1, 1, 0},
		{17, 600, 1, 1, 10, 1, 1, 0},
		{31, 64, 1, 1, 300, 1, 1, 0},
		{4, 33, 9, 7, 34, 3, 2, 1},
		{16, 64, 8, 8, 32, 1, 2, 0},
		{3, 70, 6, 6, 80, 1, 1, 1},
		{2, 3, 11, 13, 20, 7, 2, 3},
		{3, 18, 7, 7, 35, 5, 3, 2},
		{2, 16, 6, 6, 16, 2, 2, 0},
		{2, 18, 5, 7, 16, 2, 3, 3},
		{7, 17, 4, 4, 16, 3, 1, 0},
	} {
		c, ok := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		if !ok {
			panic("a case's window does not fit")
		}
		cs = append(cs, c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for len(cs) < 120 {
		size := func() int { // mostly small
			return 1 + int(math.Pow(r.Float64(), 3)*130)
		}
		ks := []int{1, 2, 3, 3, 5, 7}
		c, ok := geometry(size(), 1+r.IntN(130), size(), size(), 1+r.IntN(130), ks[r.IntN(len(ks))], 1+r.IntN(3), r.IntN(4))
		if ok && c.Frames*c.Hout*c.Wout*c.KH*c.KW*c.Cin*c.Cout < 2e6 {
			cs = append(cs, c)
		}
	}
	return cs
}

func (c Conv) String() string {
	return fmt.Sprintf("%dx%d@%dx%d-%d-k%ds%dp%d", c.Frames, c.Cin, c.Hin, c.Win, c.Cout, c.KH, c.Stride, c.Pad)
}

// operands are a convolution's inputs, of the given share of non-zero inputs.
type operands struct {
	c        Conv
	s        []uint16
	x        []float32 // as s, with random values
	ones     []float32 // as s
	w, bias  []float32
	dy       []float32
	dst      []float32 // what add adds to
	dx, dw   []float32
	isDense  bool
	channels int
}

func randoms(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = r.Float32()*2 - 1
	}
	return v
}

// blocked returns random values in blocks, with zeros in the missing channels.
func blocked(r *rand.Rand, channels, n int) []float32 {
	v := randoms(r, blocks(channels)*n*Lanes)
	for i := range v {
		if i/(n*Lanes)*Lanes+i%Lanes >= channels {
			v[i] = 0
		}
	}
	return v
}

func newOperands(c Conv, density float64, seed uint64) *operands {
	r := rand.New(rand.NewPCG(seed, 3))
	in, out := c.Frames*c.Hin*c.Win, c.Frames*c.Hout*c.Wout
	o := &operands{c: c}
	o.x = blocked(r, c.Cin, in)
	o.s = make([]uint16, c.BlocksIn()*in)
	o.ones = make([]float32, len(o.x))
	for i := range o.x {
		if r.Float64() >= density || i/(in*Lanes)*Lanes+i%Lanes >= c.Cin {
			o.x[i] = 0
			continue
		}
		o.s[i/Lanes] |= 1 << (i % Lanes)
		o.ones[i] = 1
	}
	o.w = make([]float32, c.WeightLen())
	k := c.KH * c.KW
	for ob := range c.BlocksOut() {
		for ci := range c.Cin {
			for t := range k {
				for l := range min(Lanes, c.Cout-ob*Lanes) {
					o.w[((ob*c.BlocksIn()*Lanes+ci)*k+t)*Lanes+l] = r.Float32()*2 - 1
				}
			}
		}
	}
	o.bias = blocked(r, c.Cout, 1)
	o.dy = blocked(r, c.Cout, out)
	o.dst = blocked(r, c.Cout, out)
	o.dx = blocked(r, c.Cin, in)
	o.dw = randoms(r, len(o.w))
	return o
}

// The oracles below are the sums of doc.go, element by element.

type mulAdd func(x, y, z float32) float32

func unfused(x, y, z float32) float32 { return float32(x*y) + z }

// weight returns the index of a weight's lane 0.
func (c *Conv) weight(ob, ci, ky, kx int) int {
	return ((ob*c.BlocksIn()*Lanes+ci)*c.KH*c.KW + ky*c.KW + kx) * Lanes
}

func naiveForward(c Conv, x, w, bias []float32, f mulAdd) []float32 {
	dst := make([]float32, c.BlocksOut()*c.Frames*c.Hout*c.Wout*Lanes)
	for ob := range c.BlocksOut() {
		for n := range c.Frames {
			for oy := range c.Hout {
				for ox := range c.Wout {
					d := dst[(((ob*c.Frames+n)*c.Hout+oy)*c.Wout+ox)*Lanes:][:Lanes]
					if bias != nil {
						copy(d, bias[ob*Lanes:])
					}
					for g := 0; g < c.Cin; g += Group {
						for ky := range c.KH {
							for kx := range c.KW {
								y, xx := oy*c.Stride+ky-c.Pad, ox*c.Stride+kx-c.Pad
								if y < 0 || y >= c.Hin || xx < 0 || xx >= c.Win {
									continue
								}
								for ci := g; ci < min(g+Group, c.Cin); ci++ {
									v := x[(((ci/Lanes*c.Frames+n)*c.Hin+y)*c.Win+xx)*Lanes+ci%Lanes]
									if v == 0 {
										continue
									}
									wt := w[c.weight(ob, ci, ky, kx):]
									for l := range d {
										d[l] = f(v, wt[l], d[l])
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return dst
}

func naiveInputGrad(c Conv, dx, dy, w []float32, add bool, f mulAdd) []float32 {
	dst := make([]float32, len(dx))
	if add {
		copy(dst, dx)
	}
	for ci := range c.BlocksIn() * Lanes {
		for n := range c.Frames {
			for y := range c.Hin {
				for x := range c.Win {
					d := &dst[(((ci/Lanes*c.Frames+n)*c.Hin+y)*c.Win+x)*Lanes+ci%Lanes]
					for g := 0; g < c.Cout; g += Group {
						for ky := c.KH - 1; ky >= 0; ky-- {
							for kx := c.KW - 1; kx >= 0; kx-- {
								oy, ox := (y+c.Pad-ky)/c.Stride, (x+c.Pad-kx)/c.Stride
								if y+c.Pad != oy*c.Stride+ky || x+c.Pad != ox*c.Stride+kx ||
									oy < 0 || oy >= c.Hout || ox < 0 || ox >= c.Wout {
									continue
								}
								for co := g; co < min(g+Group, c.Cout); co++ {
									v := dy[(((co/Lanes*c.Frames+n)*c.Hout+oy)*c.Wout+ox)*Lanes+co%Lanes]
									if v != 0 {
										*d = f(v, w[c.weight(co/Lanes, ci, ky, kx)+co%Lanes], *d)
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return dst
}

func naiveWeightGrad(c Conv, dw, x, dy []float32, add bool, f mulAdd) []float32 {
	dst := make([]float32, len(dw))
	if add {
		copy(dst, dw)
	}
	for ob := range c.BlocksOut() {
		for ci := range c.Cin {
			for ky := range c.KH {
				for kx := range c.KW {
					d := dst[c.weight(ob, ci, ky, kx):][:Lanes]
					for n := range c.Frames {
						for oy := range c.Hout {
							for ox := range c.Wout {
								y, xx := oy*c.Stride+ky-c.Pad, ox*c.Stride+kx-c.Pad
								if y < 0 || y >= c.Hin || xx < 0 || xx >= c.Win {
									continue
								}
								v := x[(((ci/Lanes*c.Frames+n)*c.Hin+y)*c.Win+xx)*Lanes+ci%Lanes]
								if v == 0 {
									continue
								}
								g := dy[(((ob*c.Frames+n)*c.Hout+oy)*c.Wout+ox)*Lanes:]
								for l := range d {
									d[l] = f(v, g[l], d[l])
								}
							}
						}
					}
				}
			}
		}
	}
	return dst
}

const guard = 37 // floats before and after a destination; odd, so that it is unaligned

// guardedConv calls fn with a copy of v between guard bands, returns the copy, and
// fails if a band changed.
func guardedConv(t *testing.T, v []float32, fn func(dst []float32)) []float32 {
	t.Helper()
	buf := make([]float32, len(v)+2*guard)
	for i := range buf {
		buf[i] = -12345
	}
	dst := buf[guard:][:len(v):len(v)]
	copy(dst, v)
	fn(dst)
	for i := range guard {
		if buf[i] != -12345 || buf[len(buf)-1-i] != -12345 {
			t.Fatalf("wrote outside the destination")
		}
	}
	return dst
}

// sameBits fails unless the values are equal, NaN being equal to NaN.
func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] && (got[i] == got[i] || want[i] == want[i]) {
			t.Fatalf("%s: element %d of %d is %v, want %v", what, i, len(want), got[i], want[i])
		}
	}
}

// checkConv compares every product at the current level with its oracle, to the bit.
func checkConv(t *testing.T, o *operands, threads int) {
	t.Helper()
	f := mulAdd(fma)
	if CurrentLevel() == Portable {
		f = unfused
	}
	nan := float32(math.NaN())
	c := o.c
	garbage := make([]float32, len(o.dst))
	for i := range garbage {
		garbage[i] = nan // must be overwritten
	}
	for _, bias := range [][]float32{nil, o.bias} {
		sameBits(t, "ConvSpikes", guardedConv(t, garbage, func(dst []float32) { ConvSpikes(dst, o.s, o.w, bias, c, threads) }),
			naiveForward(c, o.ones, o.w, bias, f))
		sameBits(t, "ConvDense", guardedConv(t, garbage, func(dst []float32) { ConvDense(dst, o.x, o.w, bias, c, threads) }),
			naiveForward(c, o.x, o.w, bias, f))
	}
	for _, add := range []bool{false, true} {
		sameBits(t, "ConvInputGrad", guardedConv(t, o.dx, func(dst []float32) { ConvInputGrad(dst, o.dy, o.w, c, add, threads) }),
			naiveInputGrad(c, o.dx, o.dy, o.w, add, f))
		sameBits(t, "ConvWeightGradSpikes", guardedConv(t, o.dw, func(dst []float32) { ConvWeightGradSpikes(dst, o.s, o.dy, c, add, threads) }),
			naiveWeightGrad(c, o.dw, o.ones, o.dy, add, f))
		sameBits(t, "ConvWeightGradDense", guardedConv(t, o.dw, func(dst []float32) { ConvWeightGradDense(dst, o.x, o.dy, c, add, threads) }),
			naiveWeightGrad(c, o.dw, o.x, o.dy, add, f))
	}
}

// At every level every product is the sum of the package's documentation, to the
// bit.
func TestConv(t *testing.T) {
	for i, c := range convCases() {
		for _, l := range levels() {
			t.Run(fmt.Sprintf("%v/%v", c, l), func(t *testing.T) {
				at(t, l, func() { checkConv(t, newOperands(c, []float64{.15, .5, 0, 1}[i%4], uint64(i)), 1+i%3) })
			})
		}
	}
}
