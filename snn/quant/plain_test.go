package quant_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/kernel"
	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/tensor"
)

// plain is the arithmetic of the package comment, written down step by step in int64.
type plain struct {
	n      *quant.Network
	ranges map[string][]quant.Range // of layers of currents
}

// frame is a value at one step, [c][h][w].
type frame struct {
	c, h, w int
	v       []int64
}

func (f frame) at(c, y, x int) int64 { return f.v[(c*f.h+y)*f.w+x] }

// logits returns the logits of an image, or of a frame for each step.
func (p plain) logits(t testing.TB, x tensor.NCHW) []int32 {
	sum := make([]int64, len(p.n.Bias))
	potentials := map[string][]int64{}
	for step := range p.n.Steps {
		image := frame{x.C, x.H, x.W, nil}
		size := x.C * x.H * x.W
		for _, v := range x.Data[step%max(1, x.Steps)*size:][:size] {
			image.v = append(image.v, int64(quant.Pixel(v)))
		}
		values := map[string]frame{quant.Image: image}
		var y frame
		for _, l := range p.n.Layers {
			switch l := l.(type) {
			case *quant.Conv:
				y = p.conv(t, l, values)
				values[l.Name] = y
			case *quant.Neurons:
				x := values[l.Input]
				y = frame{x.c, x.h, x.w, make([]int64, len(x.v))}
				if potentials[l.Name] == nil {
					potentials[l.Name] = make([]int64, len(x.v))
				}
				for i, current := range x.v {
					m, c := &potentials[l.Name][i], i/(x.h*x.w)
					if l.Gain != nil {
						current *= int64(l.Gain[c])
					}
					product := *m * int64(l.Leak)
					*m = product>>l.LeakShift + current + int64(l.Bias[c])
					if product != int64(int32(product)) || *m != int64(int32(*m)) {
						t.Fatalf("%s: potential %d, product %d", l.Name, *m, product)
					}
					if *m >= int64(l.Threshold[c]) {
						y.v[i] = 1
						if l.SoftReset {
							*m -= int64(l.Threshold[c])
						} else {
							*m = 0
						}
					}
				}
				values[l.Name] = y
			case *quant.SumPool:
				y = pooled(values[l.Input], l.KH, l.KW, func(a, b int64) int64 { return a + b })
				values[l.Name] = y
			case *quant.MaxPool:
				y = pooled(values[l.Input], l.K, l.K, func(a, b int64) int64 { return max(a, b) })
				values[l.Name] = y
			}
		}
		for c, v := range y.v {
			sum[c] += v
		}
	}
	logits := make([]int32, len(sum))
	for c, v := range sum {
		logits[c] = int32(v) + p.n.Bias[c]
	}
	return logits
}

func (p plain) conv(t testing.TB, l *quant.Conv, values map[string]frame) frame {
	x := values[l.Input]
	y := frame{c: l.Cout, h: (x.h+2*l.Pad-l.KH)/l.Stride + 1, w: (x.w+2*l.Pad-l.KW)/l.Stride + 1}
	for o := range y.c {
		for i := range y.h {
			for j := range y.w {
				var sum, add int64
				gain, r := int64(1), p.ranges[l.Name][o]
				if l.Gain != nil {
					gain = int64(l.Gain[o])
				}
				if l.Add != "" {
					add = values[l.Add].at(o, i, j)
				}
				for c := range x.c {
					for ky := range l.KH {
						for kx := range l.KW {
							var v int64
							if a, b := i*l.Stride+ky-l.Pad, j*l.Stride+kx-l.Pad; a >= 0 && b >= 0 && a < x.h && b < x.w {
								v = x.at(c, a, b)
							} else if l.Border != nil {
								v = int64(l.Border[c])
							}
							sum += v * int64(l.Weight[((o*l.Cin+c)*l.KH+ky)*l.KW+kx])
						}
					}
				}
				sum = add + gain*sum
				if sum < r.Min || sum > r.Max {
					t.Fatalf("%s: %d not in %v", l.Name, sum, r)
				}
				y.v = append(y.v, sum)
			}
		}
	}
	return y
}

func pooled(x frame, kh, kw int, join func(a, b int64) int64) frame {
	y := frame{c: x.c, h: x.h / kh, w: x.w / kw}
	for c := range y.c {
		for i := range y.h {
			for j := range y.w {
				var v int64
				for k := range kh * kw {
					v = join(v, x.at(c, i*kh+k/kw, j*kw+k%kw))
				}
				y.v = append(y.v, v)
			}
		}
	}
	return y
}

// random returns a random network: convolutions of any geometry with the largest weights among
// them, neurons of all kinds with thresholds that potentials reach, pooling, and residual sums.
func random(r *rand.Rand) *quant.Network {
	n := &quant.Network{Channels: 1 + r.IntN(3), Height: 3 + r.IntN(6), Width: 3 + r.IntN(6), Steps: 1 + r.IntN(5), Scale: 1}
	c, h, w, input, top := n.Channels, n.Height, n.Width, quant.Image, 255
	conv := func(cout, kh, kw, stride, pad int, add string) *quant.Conv {
		l := &quant.Conv{
			Name: fmt.Sprint("conv", len(n.Layers)), Input: input, Add: add, Cout: cout, Cin: c, KH: kh, KW: kw, Stride: stride, Pad: pad,
			Weight: make([]int8, cout*c*kh*kw), Scale: make([]float32, cout),
		}
		span := []int{3, 127}[r.IntN(2)]
		for i := range l.Weight {
			l.Weight[i] = int8(r.IntN(2*span+1) - span)
		}
		for i := range cout {
			l.Scale[i] = 1
		}
		if r.IntN(4) == 0 { // all as large as they can be
			for i := range l.Weight[:len(l.Weight)/cout] {
				l.Weight[i] = []int8{127, -127}[i&1*r.IntN(2)]
			}
		}
		if input == quant.Image && r.IntN(2) == 0 {
			for range c {
				l.Border = append(l.Border, uint8(r.IntN(256)))
			}
		}
		if add != "" || r.IntN(4) == 0 {
			for range cout {
				l.Gain = append(l.Gain, 1+int32(r.IntN(20)))
			}
		}
		n.Layers = append(n.Layers, l)
		return l
	}
	neurons := func(of *quant.Conv) {
		l := &quant.Neurons{Name: fmt.Sprint("n", len(n.Layers)), Input: of.Name, Leak: 1, SoftReset: r.IntN(2) == 0}
		if r.IntN(2) == 0 {
			l.LeakShift = uint(1 + r.IntN(8))
			l.Leak = int32(r.IntN(1<<l.LeakShift + 1))
		}
		scale := 1 + 60*top/(1+r.IntN(4))
		for range of.Cout {
			l.Bias = append(l.Bias, int32(r.IntN(scale)-scale/4))
			l.Threshold = append(l.Threshold, 1+int32(r.IntN(3*scale)))
		}
		if r.IntN(3) == 0 {
			for range of.Cout {
				l.Gain = append(l.Gain, int32(r.IntN(3)-1))
			}
		}
		n.Layers = append(n.Layers, l)
		c, input, top = of.Cout, l.Name, 1
	}
	for range 1 + r.IntN(2) {
		k, stride := 1+r.IntN(3), 1+r.IntN(2)
		pad := r.IntN(k)
		l := conv(1+r.IntN(40), k, k, stride, pad, "")
		h, w = (h+2*pad-k)/stride+1, (w+2*pad-k)/stride+1
		neurons(l)
		if r.IntN(3) == 0 { // a residual block, its shortcut the currents of l
			q := conv(c, 3, 3, 1, 1, l.Name)
			neurons(q)
		}
		switch k := 2; {
		case h < 2 || w < 2:
		case r.IntN(3) == 0:
			n.Layers = append(n.Layers, &quant.MaxPool{Name: fmt.Sprint("max", len(n.Layers)), Input: input, K: k})
			input, h, w = fmt.Sprint("max", len(n.Layers)-1), h/k, w/k
		case r.IntN(2) == 0:
			n.Layers = append(n.Layers, &quant.SumPool{Name: fmt.Sprint("sum", len(n.Layers)), Input: input, KH: k, KW: k})
			input, h, w, top = fmt.Sprint("sum", len(n.Layers)-1), h/k, w/k, top*k*k
		}
		if h < 3 || w < 3 {
			break
		}
	}
	conv(1+r.IntN(20), h, w, 1, 0, "")
	for range n.Layers[len(n.Layers)-1].(*quant.Conv).Cout {
		n.Bias = append(n.Bias, int32(r.IntN(2000)-1000))
	}
	return n
}

// At every kernel level, networks compute what the package comment says. No current leaves its
// range.
func TestLogitsArePlain(t *testing.T) {
	level := kernel.CurrentLevel()
	defer func() { require.NoError(t, kernel.SetLevel(level)) }()
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 80 {
		n := random(r)
		require.NoError(t, n.Validate())
		x := tensor.NewNCHW(3, n.Channels, n.Height, n.Width)
		if r.IntN(3) == 0 {
			x = tensor.NewFrames(tensor.Shape{N: 3, Steps: n.Steps, C: n.Channels, H: n.Height, W: n.Width})
		}
		for i := range x.Data {
			x.Data[i] = float32(r.IntN(256)) / 255
		}
		p := plain{n, map[string][]quant.Range{}}
		for _, l := range n.Layers {
			if l, ok := l.(*quant.Conv); ok {
				var err error
				p.ranges[l.Name], err = n.Ranges(l.Name)
				require.NoError(t, err)
			}
		}
		var want []int32
		for i := range x.N {
			want = append(want, p.logits(t, x.Slice(i, i+1))...)
		}
		for _, level := range kernel.Levels() {
			require.NoError(t, kernel.SetLevel(level))
			got, err := n.Logits(x)
			require.NoError(t, err)
			require.Equal(t, want, got, "network %d, %v", i, level)
		}
	}
}

// A pass after the first one allocates only the logits, at every kernel level, although the
// garbage collector runs in between.
func TestLogitsAllocate(t *testing.T) {
	level := kernel.CurrentLevel()
	defer func() { require.NoError(t, kernel.SetLevel(level)) }()
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 40 {
		n := random(r)
		n.Threads = 1
		x := tensor.NewNCHW(3, n.Channels, n.Height, n.Width)
		for _, level := range kernel.Levels() {
			require.NoError(t, kernel.SetLevel(level))
			require.Equal(t, 1., testing.AllocsPerRun(2, func() {
				runtime.GC()
				runtime.GC() // the first one leaves what a sync.Pool has
				_, err := n.Logits(x)
				if err != nil {
					t.Error(err)
				}
			}), "network %d, %v", i, level)
		}
	}
}
