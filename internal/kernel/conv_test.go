package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/org/snnrat/internal/race"
)

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
		{11, 35, 4, 4, 67, 3, 1, 1},
		{7, 18, 7, 7, 40, 3, 1, 1},
		{2, 150, 14, 19, 65, 3, 1, 1},
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
		{3, 64, 4, 4, 70, 3, 1, 1}, // Winograd's algorithm, and the next ones
		{2, 66, 7, 11, 64, 3, 1, 1},
		{1, 64, 17, 9, 64, 3, 1, 1},
		{2, 80, 8, 4, 100, 3, 1, 1},
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
		{5, 33, 1, 1, 17, 1, 3, 1}, // sees only padding
		{3, 1, 28, 28, 16, 3, 1, 1},
		{2, 4, 7, 9, 70, 3, 1, 0},
		{1, 2, 12, 17, 130, 5, 1, 2},
		{16, 250, 1, 1, 70, 1, 1, 0},
		{48, 33, 1, 1, 520, 1, 1, 0},
		{24, 300, 1, 1, 20, 1, 1, 0},
		{26, 520, 1, 1, 270, 1, 1, 0}, // weights from memory
		{8, 520, 1, 1, 260, 1, 1, 0},
	} {
		c, ok := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		if !ok {
			panic("a case's window does not fit")
		}
		cs = append(cs, c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for len(cs) < 120 && !testing.Short() {
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
	c       Conv
	s       []uint16
	x       []float32 // as s, with random values
	ones    []float32 // as s
	w, bias []float32
	dy      []float32
	dst     []float32 // what add adds to
	dx, dw  []float32
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
	clearMissing(v, channels, n)
	return v
}

// clearMissing clears the missing channels of v.
func clearMissing(v []float32, channels, n int) {
	for i := range v {
		if i/(n*Lanes)*Lanes+i%Lanes >= channels {
			v[i] = 0
		}
	}
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
	if seed%2 == 1 { // a surrogate's gradient
		for i := range o.dy {
			if r.Float64() < .6 {
				o.dy[i] = 0
			}
		}
	}
	o.dst = blocked(r, c.Cout, out)
	o.dx = blocked(r, c.Cin, in)
	o.dw = randoms(r, len(o.w))
	return o
}

// The oracles below are the sums of doc.go, element by element.

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

// naiveInputGradWhere is the gradient where it is needed, in the order of sums that a
// 3×3 window has then; elsewhere it is zero, or what dx was.
func naiveInputGradWhere(c Conv, dx, dy, w []float32, need []uint16, add bool, f mulAdd) []float32 {
	dst := make([]float32, len(dx))
	if add {
		copy(dst, dx)
	}
	for i := range dst {
		if need[i/Lanes]>>(i%Lanes)&1 == 0 {
			continue
		}
		block, px := i/Lanes/(c.Frames*c.Hin*c.Win), i/Lanes%(c.Frames*c.Hin*c.Win)
		n, y, x := px/(c.Hin*c.Win), px/c.Win%c.Hin, px%c.Win
		for g := 0; g < c.BlocksOut(); g += Group / Lanes {
			var s [Lanes]float32
			for b := g; b < min(g+Group/Lanes, c.BlocksOut()); b++ {
				for t := range 9 {
					oy, ox := y+1-t/3, x+1-t%3
					if oy < 0 || oy >= c.Hout || ox < 0 || ox >= c.Wout {
						continue
					}
					for l, v := range dy[(((b*c.Frames+n)*c.Hout+oy)*c.Wout+ox)*Lanes:][:Lanes] {
						if v != 0 {
							s[l] = f(v, w[c.weight(b, block*Lanes+i%Lanes, t/3, t%3)+l], s[l])
						}
					}
				}
			}
			for l := range 8 {
				s[l] += s[l+8]
			}
			dst[i] += ((s[0] + s[2]) + (s[1] + s[3])) + ((s[4] + s[6]) + (s[5] + s[7]))
		}
	}
	return dst
}

// wantInputGrad is what ConvInputGrad should compute at the current level: by Winograd's algorithm,
// element by element or where needed, for each frame in its way.
func wantInputGrad(o *operands, need []uint16, add bool, f mulAdd) []float32 {
	c, where := o.c, []float32(nil)
	winograd := CurrentLevel().winograd(&c)
	if need != nil && c.CanLeaveOut() {
		where = naiveInputGradWhere(c, o.dx, o.dy, o.w, need, add, f)
		if !winograd {
			return where
		}
	}
	sums := naiveInputGrad(c, o.dx, o.dy, o.w, add, f)
	if !winograd {
		return sums
	}
	ways := [][]float32{ofAll: naiveWinograd(c, o.dx, o.dy, o.w, add, f), ofNeeded: where, ofEvents: sums}
	want, frame := make([]float32, len(sums)), c.Hin*c.Win*Lanes
	for i := 0; i < len(want); i += frame {
		copy(want[i:][:frame], ways[c.way(o.dy, need, i/frame%c.Frames)][i:])
	}
	return want
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

func naiveBiasGrad(c Conv, db, dy []float32, scale float32, add bool) []float32 {
	dst := make([]float32, len(db))
	n := c.Frames * c.Hout * c.Wout
	for i := range dst {
		sum := 0.
		for px := range n {
			sum += float64(dy[(i/Lanes*n+px)*Lanes+i%Lanes])
		}
		dst[i] = float32(sum * float64(scale))
		if add {
			dst[i] += db[i]
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

// checkConv compares every product at the current level with its oracle, to the bit.
func checkConv(t *testing.T, o *operands, threads int) {
	t.Helper()
	f := mulAdd(fma)
	if CurrentLevel() == Portable || MaxLevel() == Portable {
		f = rounded
	}
	nan := float32(math.NaN())
	c := o.c
	garbage := make([]float32, len(o.dst))
	for i := range garbage {
		garbage[i] = nan // must be overwritten
	}
	var wants [2]struct{ spikes, dense, dx, dxNeeded, dwSpikes, dwDense func() []float32 }
	for i, bias := range [][]float32{nil, o.bias} {
		wants[i].spikes = meanwhile(func() []float32 { return naiveForward(c, o.ones, o.w, bias, f) })
		wants[i].dense = meanwhile(func() []float32 { return naiveForward(c, o.x, o.w, bias, f) })
	}
	for i, add := range []bool{false, true} {
		wants[i].dx = meanwhile(func() []float32 { return wantInputGrad(o, nil, add, f) })
		wants[i].dxNeeded = meanwhile(func() []float32 { return wantInputGrad(o, o.s, add, f) })
		wants[i].dwSpikes = meanwhile(func() []float32 { return naiveWeightGrad(c, o.dw, o.ones, o.dy, add, f) })
		wants[i].dwDense = meanwhile(func() []float32 { return naiveWeightGrad(c, o.dw, o.x, o.dy, add, f) })
	}
	for i, bias := range [][]float32{nil, o.bias} {
		equalBits(t, "ConvSpikes", guardedConv(t, garbage, func(dst []float32) { ConvSpikes(dst, o.s, o.w, bias, c, threads) }), wants[i].spikes())
		want := wants[i].dense()
		equalBits(t, "ConvDense", guardedConv(t, garbage, func(dst []float32) { ConvDense(dst, o.x, o.w, bias, c, threads) }), want)
		if CurrentLevel().winograd(&c) {
			want = naiveForwardWinograd(c, o.x, o.w, bias, f)
		}
		equalBits(t, "ConvDenseWinograd", guardedConv(t, garbage, func(dst []float32) { ConvDenseWinograd(dst, o.x, o.w, bias, c, threads) }), want)
	}
	for i, add := range []bool{false, true} {
		dx := guardedConv(t, o.dx, func(dst []float32) { ConvInputGrad(dst, o.dy, o.w, nil, c, add, threads) })
		want := wants[i].dx()
		if !Finite(o.dy, 1) {
			clearMissing(dx, c.Cin, c.Frames*c.Hin*c.Win)
			clearMissing(want, c.Cin, c.Frames*c.Hin*c.Win)
		}
		equalBits(t, "ConvInputGrad", dx, want)
		dx = guardedConv(t, o.dx, func(dst []float32) { ConvInputGrad(dst, o.dy, o.w, o.s, c, add, threads) })
		want = wants[i].dxNeeded()
		if !Finite(o.dy, 1) {
			clearMissing(dx, c.Cin, c.Frames*c.Hin*c.Win)
			clearMissing(want, c.Cin, c.Frames*c.Hin*c.Win)
		}
		equalBits(t, "ConvInputGrad where needed", dx, want)
		equalBits(t, "ConvWeightGradSpikes", guardedConv(t, o.dw, func(dst []float32) { ConvWeightGradSpikes(dst, o.s, o.dy, c, add, threads) }), wants[i].dwSpikes())
		equalBits(t, "ConvWeightGradDense", guardedConv(t, o.dw, func(dst []float32) { ConvWeightGradDense(dst, o.x, o.dy, c, add, threads) }), wants[i].dwDense())
		equalBits(t, "ConvBiasGrad", guardedConv(t, o.bias, func(dst []float32) { ConvBiasGrad(dst, o.dy, c, 3, add, threads) }),
			naiveBiasGrad(c, o.bias, o.dy, 3, add))
	}
}

// meanwhile computes a reference on another goroutine, since most of the tests' time goes there.
func meanwhile(fn func() []float32) func() []float32 {
	done := make(chan []float32, 1)
	go func() { done <- fn() }()
	return func() []float32 { return <-done }
}

// At every level every product is the sum of the package's documentation, to the
// bit.
func TestConv(t *testing.T) {
	for i, c := range convCases() {
		for _, l := range Levels() {
			t.Run(fmt.Sprintf("%v/%v", c, l), func(t *testing.T) {
				at(t, l, func() { checkConv(t, newOperands(c, []float64{.15, .5, 0, 1}[i%4], uint64(i)), 1+i%3) })
			})
		}
	}
}

// Every number of channels, frames, rows and columns up to 130.
func TestConvEverySize(t *testing.T) {
	for i := 1; i <= 130; i++ {
		if testing.Short() && i%7 != 0 {
			continue
		}
		other, few := i*59%131, 1+i%2 // other is every number once, too
		for _, a := range [][8]int{
			{few, i, 2, few, other, 3, 1, 1},
			{few, i, 1, 1, other, 1, 1, 0},
			{i, 3, few, 2, 17, 3, 1, 1},
			{few, 2, i, few, 5, 3, few, 1},
			{few, 17, few, i, 3, 3, few, 1},
		} {
			c, ok := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
			if !ok {
				t.Fatalf("%v: the window does not fit", c)
			}
			o := newOperands(c, []float64{.15, .5}[i%2], uint64(i))
			for _, l := range Levels() {
				t.Run(fmt.Sprintf("%v/%v", c, l), func(t *testing.T) { at(t, l, func() { checkConv(t, o, 1+i%3) }) })
			}
		}
	}
}

// Values are packed and turned in parts where there are many, as are weights.
func TestConvInParts(t *testing.T) {
	images, _ := geometry(130, 3, 25, 25, 5, 3, 1, 1)
	weights, _ := geometry(2, 470, 3, 3, 460, 3, 1, 1)
	if n := images.Frames * images.Hin * images.Win * Lanes; n < packed || weights.WeightLen() < packed {
		t.Fatalf("%d values and %d weights are not in parts of %d", n, weights.WeightLen(), packed)
	}
	for _, c := range []Conv{images, weights} {
		o := newOperands(c, .1, 7)
		for _, l := range Levels() {
			at(t, l, func() {
				if !race.Enabled {
					checkConv(t, o, 2)
					return
				}
				want := products(o, 1) // the oracles take a minute under the race detector
				for name, got := range products(o, 2) {
					equalBits(t, fmt.Sprintf("%v %s %v", c, name, l), got, want[name])
				}
			})
		}
	}
}

// Zero inputs add nothing, whatever the weight; everything else propagates.
func TestConvNotFinite(t *testing.T) {
	inf := float32(math.Inf(1))
	for i, c := range convCases() {
		if i%3 != 0 {
			continue
		}
		o := newOperands(c, []float64{.1, .5, .9, 1}[i/3%4], uint64(i))
		r := rand.New(rand.NewPCG(5, uint64(i)))
		for _, v := range [][]float32{o.w, o.dy} {
			for range 1 + r.IntN(5) {
				k := r.IntN(len(v))
				for v[k] == 0 { // a missing channel
					k = r.IntN(len(v))
				}
				v[k] = []float32{inf, -inf, float32(math.NaN())}[r.IntN(3)]
			}
			v[r.IntN(len(v))] = 0
		}
		for _, l := range Levels() {
			t.Run(fmt.Sprintf("%v/%v", c, l), func(t *testing.T) {
				at(t, l, func() { checkConv(t, o, 2) })
			})
		}
	}
}

// products returns the result of every product.
func products(o *operands, threads int) map[string][]float32 {
	c := o.c
	m := map[string][]float32{
		"ConvSpikes": make([]float32, len(o.dst)), "ConvDense": make([]float32, len(o.dst)),
		"ConvInputGrad": make([]float32, len(o.dx)), "ConvInputGrad where needed": make([]float32, len(o.dx)),
		"ConvWeightGradSpikes": make([]float32, len(o.dw)),
		"ConvWeightGradDense":  make([]float32, len(o.dw)), "ConvBiasGrad": make([]float32, len(o.bias)),
	}
	ConvSpikes(m["ConvSpikes"], o.s, o.w, o.bias, c, threads)
	ConvDense(m["ConvDense"], o.x, o.w, o.bias, c, threads)
	ConvInputGrad(m["ConvInputGrad"], o.dy, o.w, nil, c, false, threads)
	ConvInputGrad(m["ConvInputGrad where needed"], o.dy, o.w, o.s, c, false, threads)
	ConvWeightGradSpikes(m["ConvWeightGradSpikes"], o.s, o.dy, c, false, threads)
	ConvWeightGradDense(m["ConvWeightGradDense"], o.x, o.dy, c, false, threads)
	ConvBiasGrad(m["ConvBiasGrad"], o.dy, c, 1, false, threads)
	return m
}

// Any number of threads gives the same bits, and so do all levels but portable.
func TestConvThreadsAndLevels(t *testing.T) {
	for i, a := range [][8]int{
		{64, 16, 14, 14, 32, 3, 1, 1}, {64, 1, 28, 28, 16, 3, 1, 1}, {24, 80, 8, 8, 96, 3, 1, 1},
		{16, 70, 32, 32, 33, 3, 2, 1}, {16, 64, 16, 16, 128, 1, 2, 0}, {100, 600, 1, 1, 200, 1, 1, 0},
		{16, 3, 32, 32, 64, 3, 1, 1}, {20, 600, 1, 1, 200, 1, 1, 0},
	} {
		c, _ := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		for _, density := range []float64{.3, 1} {
			o := newOperands(c, density, uint64(i))
			var vector map[string][]float32
			for _, l := range Levels() {
				at(t, l, func() {
					want := products(o, 1)
					many := []int{2, 5, 64}
					if l == Portable {
						many = many[:2] // it is slow
					}
					for _, threads := range many {
						for name, got := range products(o, threads) {
							equalBits(t, fmt.Sprintf("%v %s %v, %d threads", c, name, l, threads), got, want[name])
						}
					}
					if l == Portable {
						return
					}
					if vector == nil {
						vector = want
					}
					for name, got := range want {
						equalBits(t, fmt.Sprintf("%v %s at %v", c, name, l), got, vector[name])
					}
				})
			}
		}
	}
}

// A warm call allocates only what starting its goroutines takes.
func TestConvAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("pools drop what they hold under the race detector")
	}
	c, _ := geometry(8, 40, 8, 8, 40, 3, 1, 1)
	for _, density := range []float64{.2, 1} {
		o := newOperands(c, density, 1)
		for name, fn := range map[string]func(){
			"ConvSpikes":           func() { ConvSpikes(o.dst, o.s, o.w, o.bias, c, 2) },
			"ConvDense":            func() { ConvDense(o.dst, o.x, o.w, o.bias, c, 2) },
			"ConvInputGrad":        func() { ConvInputGrad(o.dx, o.dy, o.w, nil, c, false, 2) },
			"where needed":         func() { ConvInputGrad(o.dx, o.dy, o.w, o.s, c, false, 2) },
			"ConvWeightGradSpikes": func() { ConvWeightGradSpikes(o.dw, o.s, o.dy, c, false, 2) },
			"ConvWeightGradDense":  func() { ConvWeightGradDense(o.dw, o.x, o.dy, c, false, 2) },
		} {
			if n := testing.AllocsPerRun(20, fn); n > 20 {
				t.Errorf("%s at density %v allocates %v times a call", name, density, n)
			}
		}
	}
}

// A linear layer of up to 32 rows is split by its outputs alone if they are enough for the threads: its
// weights are read once. Other layers are split by frames, too.
func TestLinearReadsWeightsOnce(t *testing.T) {
	for _, c := range []struct {
		frames, cout, pixels, window, threads int
		once                                  bool
	}{
		{16, 4096, 1, 1, 2, true}, {9, 4096, 1, 1, 4, true}, {32, 2048, 1, 1, 2, true},
		{16, 10, 1, 1, 2, false}, {16, 4096, 1, 1, 64, false}, {128, 4096, 1, 1, 2, false},
		{16, 512, 4, 1, 2, false}, {16, 512, 1, 9, 2, false},
	} {
		for _, l := range Levels() {
			p := product{frames: c.frames, dstPixels: c.pixels, dstBlocks: blocks(c.cout), window: c.window}
			units, parts := l.productUnits(&p, c.threads)
			if (parts == 1) != c.once || c.once && units < 16*c.threads {
				t.Errorf("%v %+v: %d ranges of blocks, %d of frames", l, c, units, parts)
			}
		}
	}
}

// A slice that is too short is refused before the assembly runs over its end, and
// no frames are no work.
func TestConvSizes(t *testing.T) {
	c, _ := geometry(3, 17, 5, 6, 18, 3, 1, 1)
	o := newOperands(c, .3, 1)
	for name, fn := range map[string]func(){
		"output":      func() { ConvDense(o.dst[:len(o.dst)-1], o.x, o.w, nil, c, 1) },
		"input":       func() { ConvDense(o.dst, o.x[:len(o.x)-1], o.w, nil, c, 1) },
		"spikes":      func() { ConvSpikes(o.dst, o.s[:len(o.s)-1], o.w, nil, c, 1) },
		"bias":        func() { ConvSpikes(o.dst, o.s, o.w, o.bias[:16], c, 1) },
		"weights":     func() { ConvInputGrad(o.dx, o.dy, o.w[:len(o.w)-Lanes], nil, c, false, 1) },
		"need":        func() { ConvInputGrad(o.dx, o.dy, o.w, o.s[:len(o.s)-1], c, false, 1) },
		"deltas":      func() { ConvWeightGradSpikes(o.dw, o.s, o.dy[:len(o.dy)-1], c, false, 1) },
		"weight grad": func() { ConvWeightGradDense(o.dw[:9], o.x, o.dy, c, false, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for a short %s", name)
				}
			}()
			fn()
		}()
	}
	c.Frames = 0
	ConvSpikes(nil, nil, o.w, nil, c, 1)
	ConvDense(nil, nil, o.w, nil, c, 1)
	ConvInputGrad(nil, nil, o.w, nil, c, false, 1)
	ConvWeightGradSpikes(o.dw, nil, nil, c, false, 1)
	ConvBiasGrad(o.bias, nil, c, 1, true, 1)
	equalBits(t, "weight gradient of no frames", o.dw, make([]float32, len(o.dw)))
}

func TestLevels(t *testing.T) {
	t.Logf("highest level: %v", MaxLevel()) // .ci/run reads it
	defer SetLevel(CurrentLevel())
	have := Levels()
	if have[0] != Portable || have[len(have)-1] != MaxLevel() || !slices.IsSorted(have) {
		t.Errorf("the levels are %v, which do not ascend from portable to %v", have, MaxLevel())
	}
	for l := Level(-1); int(l) <= len(levelNames); l++ {
		want := slices.Contains(have, l)
		if err := SetLevel(l); (err == nil) != want {
			t.Errorf("SetLevel(%v), with the levels %v: %v", l, have, err)
		}
	}
	of := func(arch string, l Level) Level { // what a name starts, which only builds for arch know
		if len(buildLevels) > 1 && runtime.GOARCH == arch {
			return min(l, MaxLevel())
		}
		return MaxLevel()
	}
	for env, want := range map[string]Level{
		"portable": Portable, "Portable": Portable, "avx2": of("amd64", AVX2), "avx512": MaxLevel(),
		"neon": MaxLevel(), "": MaxLevel(), "sse9": MaxLevel(),
	} {
		if got := startLevel(env); got != want {
			t.Errorf("%s=%q starts at %v, want %v", EnvLevel, env, got, want)
		}
	}
	amd64, arm64 := slices.Contains(buildLevels, AVX2), slices.Contains(buildLevels, NEON)
	for env, good := range map[string]bool{
		"": true, "portable": true, "Portable": true, "avx2": amd64, "avx512": amd64, "neon": arm64, "NEON": arm64, "sse9": false,
	} {
		t.Setenv(EnvLevel, env)
		if err := CheckEnv(); (err == nil) != good {
			t.Errorf("%s=%q: %v", EnvLevel, env, err)
		}
	}
}

// Every size of tile is its twin.
func TestTileShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	src, w, bias := randoms(r, 20*40), randoms(r, 20*40*3*Lanes), randoms(r, 3*Lanes)
	list := []offset{{0, 0}, {40, 640}, {8, 64}}
	for _, l := range Levels()[1:] {
		_, bytes := l.vectors()
		for cols := 1; cols <= l.tileCols(); cols++ {
			for m := 1; m <= l.maxRows(cols); m++ {
				for variant := range uint64(6) {
					start := variant % 3
					a := tile{
						src: ptr(src, 0), w: ptr(w, 0), bias: ptr(bias, 0), start: start,
						offsets: ptr(list, 0), count: 3, rows: uint64(m), cols: uint64(cols),
						srcRow: 40 * 4, dstRow: 100 * 4, wCol: 40 * 64, dstCol: 16 * 4,
						outer: 2, srcOuter: 16, wOuter: 128, blocks: 2, srcBlock: 4, wBlock: 64,
						lanes: []uint64{3, 7, 8}[(variant+variant/3)%3], srcLane: 4, wLane: 64,
						more: variant % 2, srcItem: 12, dstItem: 48 * 4,
					}
					if l == AVX2 {
						a.wCol = 32
					}
					if variant >= 3 && (l != AVX2 || cols == 2) { // rows side by side, not lanes
						a.srcRow, a.srcLane = 4, 40*4
					}
					before := randoms(r, 14*100)
					got, want := append([]float32(nil), before...), append([]float32(nil), before...)
					a.dst = ptr(got, 0)
					l.tile(&a)
					a.dst = ptr(want, 0)
					a.sums(bytes, zeroScalars)
					equalBits(t, fmt.Sprintf("%v tile of %d×%d, variant %d", l, m, cols, variant), got, want)
				}
			}
		}
	}
}

// Whichever items have sums that are not numbers, all are the twin's.
func TestTileNotFinite(t *testing.T) {
	const items, lanes = 4, 8
	inf := float32(math.Inf(1))
	r := rand.New(rand.NewPCG(8, 8))
	for _, l := range Levels()[1:] {
		_, bytes := l.vectors()
		cols := min(2, l.tileCols())
		for i := range l.maxRows(cols) << items {
			rows, bad := 1+i>>items, i%(1<<items)
			for start := range uint64(3) {
				for _, without := range []zeros{zeroScalars, zeroLanes} {
					src, w, bias := randoms(r, items*rows*lanes), randoms(r, lanes*2*Lanes), randoms(r, 2*Lanes)
					for i := range src {
						src[i]++ // not zero
					}
					for i := range w {
						w[i]++
					}
					w[3*2*Lanes+1], w[3*2*Lanes+2] = inf, 0 // 0·∞ in the sums of bad items
					for i := range items {
						if bad>>i&1 == 1 {
							src[(i*rows+rows-1)*lanes+3] = map[zeros]float32{zeroScalars: 0, zeroLanes: inf}[without]
						}
					}
					list := []offset{{}}
					before := randoms(r, items*rows*2*Lanes)
					a := tile{
						src: ptr(src, 0), w: ptr(w, 0), bias: ptr(bias, 0), offsets: ptr(list, 0), count: 1,
						start: start, rows: uint64(rows), cols: uint64(cols), srcRow: lanes * 4, dstRow: 2 * Lanes * 4,
						wCol: uint64(bytes), dstCol: uint64(bytes), outer: 1, blocks: 1, lanes: lanes, srcLane: 4,
						wLane: 2 * Lanes * 4, more: items - 1, srcItem: uint64(rows * lanes * 4), dstItem: uint64(rows * 2 * Lanes * 4),
					}
					got, want := append([]float32(nil), before...), append([]float32(nil), before...)
					a.dst = ptr(got, 0)
					asked := a
					l.runTileWithout(&a, without)
					if a.src != asked.src || a.dst != asked.dst || a.more != asked.more || a.nan != 0 {
						t.Fatalf("%v, items %04b: the tile has changed", l, bad)
					}
					a.dst = ptr(want, 0)
					a.sums(bytes, without)
					equalBits(t, fmt.Sprintf("%v, %d rows, items %04b, start %d, without %d", l, rows, bad, start, without), got, want)
				}
			}
		}
	}
}

func FuzzConv(f *testing.F) {
	f.Add(uint8(3), uint8(17), uint8(5), uint8(6), uint8(20), uint8(3), uint8(1), uint8(1), uint8(40), uint64(1))
	f.Add(uint8(9), uint8(70), uint8(1), uint8(1), uint8(33), uint8(1), uint8(1), uint8(0), uint8(200), uint64(2))
	f.Add(uint8(2), uint8(3), uint8(9), uint8(8), uint8(65), uint8(5), uint8(2), uint8(3), uint8(255), uint64(3))
	f.Fuzz(func(t *testing.T, frames, cin, h, w, cout, k, stride, pad, density uint8, seed uint64) {
		dim := func(v uint8, n int) int { return 1 + int(v)%n }
		c, ok := geometry(dim(frames, 20), dim(cin, 130), dim(h, 20), dim(w, 20), dim(cout, 130), dim(k, 7), dim(stride, 3), int(pad)%4)
		if !ok || c.Frames*c.Hout*c.Wout*c.KH*c.KW*c.Cin*c.Cout > 2e6 {
			t.Skip()
		}
		for _, l := range Levels() {
			at(t, l, func() { checkConv(t, newOperands(c, float64(density)/255, seed), 1+int(seed%3)) })
		}
	})
}
