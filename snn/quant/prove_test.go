package quant_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/snn/quant"
	"github.com/org/snnrat/tensor"
)

// few returns a random network of few pixels. It has one or two hidden layers, thresholds that
// currents just meet, and pooling.
func few(r *rand.Rand) *quant.Network {
	n := &quant.Network{Channels: 1, Height: 2, Width: 2 + r.IntN(2), Steps: 1 + r.IntN(5), Scale: 1}
	c, h, w, input, top := 1, n.Height, n.Width, quant.Image, 255
	conv := func(cout, kh, kw, pad int) {
		l := &quant.Conv{
			Name: fmt.Sprint("conv", len(n.Layers)), Input: input, Cout: cout, Cin: c, KH: kh, KW: kw, Stride: 1, Pad: pad,
			Weight: make([]int8, cout*c*kh*kw), Scale: make([]float32, cout),
		}
		for i := range l.Weight {
			l.Weight[i] = int8(r.IntN(19) - 9)
		}
		for i := range cout {
			l.Scale[i] = 1
		}
		if input == quant.Image && pad > 0 {
			l.Border = []uint8{uint8(r.IntN(256))}
		}
		n.Layers = append(n.Layers, l)
		c, h, w, input = cout, h+2*pad-kh+1, w+2*pad-kw+1, l.Name
	}
	for range 1 + r.IntN(2) {
		k := 1 + r.IntN(2)
		conv(2+r.IntN(3), k, k, r.IntN(k))
		l := &quant.Neurons{Name: fmt.Sprint("n", len(n.Layers)), Input: input, Leak: 1, SoftReset: r.IntN(2) == 0}
		if r.IntN(2) == 0 {
			l.Leak, l.LeakShift = int32(r.IntN(5)), 2
		}
		for range c {
			l.Bias = append(l.Bias, int32(r.IntN(4*top+1)-top))
			l.Threshold = append(l.Threshold, 1+int32(r.IntN(9*top)))
		}
		if r.IntN(3) == 0 {
			for range c {
				l.Gain = append(l.Gain, int32(r.IntN(3)-1))
			}
		}
		n.Layers = append(n.Layers, l)
		input, top = l.Name, 1
		if h > 1 && w > 1 && r.IntN(3) == 0 {
			name := fmt.Sprint("p", len(n.Layers))
			if r.IntN(2) == 0 {
				n.Layers = append(n.Layers, &quant.SumPool{Name: name, Input: input, KH: 2, KW: 2})
			} else {
				n.Layers = append(n.Layers, &quant.MaxPool{Name: name, Input: input, K: 2})
			}
			input, h, w = name, h/2, w/2
		}
		if h < 2 || w < 2 {
			break
		}
	}
	conv(3, h, w, 0)
	n.Bias = []int32{int32(r.IntN(3)), int32(r.IntN(3)), int32(r.IntN(3))}
	return n
}

// nearBorder returns an image between two others that have different classes, if there are such.
func nearBorder(t *testing.T, n *quant.Network, r *rand.Rand) tensor.NCHW {
	x := tensor.NewNCHW(8, 1, n.Height, n.Width)
	for i := range x.Data {
		x.Data[i] = float32(r.IntN(256)) / 255
	}
	classes, err := n.Predict(x)
	require.NoError(t, err)
	a := x.Slice(0, 1)
	for i, c := range classes {
		if c == classes[0] {
			continue
		}
		b := x.Slice(i, i+1)
		for range 7 {
			middle := a.Clone()
			for p, v := range b.Data {
				middle.Data[p] = float32((int(quant.Pixel(a.Data[p]))+int(quant.Pixel(v)))/2) / 255
			}
			class, err := n.Predict(middle)
			require.NoError(t, err)
			if class[0] == classes[0] {
				a = middle
			} else {
				b = middle
			}
		}
		break
	}
	return a
}

// Verdicts are those of all images around an image, one by one.
func TestProveAgainstAllImages(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	verdicts, images := map[quant.Verdict]int{}, 0
	for range 250 {
		n := few(r)
		x := nearBorder(t, n, r)
		eps := 1
		if n.Width == 2 {
			eps = 2
		}
		class, err := n.Predict(x)
		require.NoError(t, err)
		proof, err := n.Prove(context.Background(), x, class[0], eps, 100000)
		require.NoError(t, err)
		verdicts[proof.Verdict]++

		side, count := 2*eps+1, 1
		for range x.Data {
			count *= side
		}
		all := tensor.NewNCHW(count, 1, n.Height, n.Width)
		for i := range count {
			rest := i
			for p, v := range x.Data {
				all.Image(i)[p] = float32(min(255, max(0, int(quant.Pixel(v))+rest%side-eps))) / 255
				rest /= side
			}
		}
		images += count
		classes, err := n.Predict(all)
		require.NoError(t, err)
		want := quant.Certified
		for _, c := range classes {
			if c != class[0] {
				want = quant.Broken
			}
		}
		require.Equal(t, want, proof.Verdict)
		if want == quant.Broken {
			y := tensor.NewNCHW(1, 1, n.Height, n.Width)
			for i, v := range proof.Counterexample {
				y.Data[i] = float32(v) / 255
				assert.InDelta(t, quant.Pixel(x.Data[i]), v, float64(eps))
			}
			broken, err := n.Predict(y)
			require.NoError(t, err)
			assert.NotEqual(t, class, broken)
		}
	}
	t.Log(verdicts, images, "images")
	assert.Greater(t, verdicts[quant.Certified], 50)
	assert.Greater(t, verdicts[quant.Broken], 20)
	assert.Greater(t, images, 100000)
}

func TestProveRefuses(t *testing.T) {
	ctx := context.Background()
	n, x := tiny(), tensor.NewNCHW(1, 1, 2, 2)
	for want, try := range map[string]func() (quant.Proof, error){
		"label 2: expected 0 to 1":   func() (quant.Proof, error) { return n.Prove(ctx, x, 2, 1, 1) },
		"eps -1":                     func() (quant.Proof, error) { return n.Prove(ctx, x, 0, -1, 1) },
		"0 nodes":                    func() (quant.Proof, error) { return n.Prove(ctx, x, 0, 1, 0) },
		"expected one image":         func() (quant.Proof, error) { return n.Prove(ctx, tensor.NewNCHW(2, 1, 2, 2), 0, 1, 1) },
		"expected N×1×2×2":           func() (quant.Proof, error) { return n.Prove(ctx, tensor.NewNCHW(1, 1, 2, 3), 0, 1, 1) },
		"65 steps: expected at most": func() (quant.Proof, error) { n := tiny(); n.Steps = 65; return n.Prove(ctx, x, 0, 1, 1) },
		"pooling of the image": func() (quant.Proof, error) {
			n := tiny()
			n.Layers[0] = &quant.SumPool{Name: "conv", Input: quant.Image, KH: 1, KW: 1}
			n.Layers[1] = &quant.Conv{Name: "n", Input: "conv", Cout: 2, Cin: 1, KH: 1, KW: 1, Stride: 1, Weight: []int8{1, 1}, Scale: []float32{1, 1}}
			n.Layers[2] = &quant.Neurons{Name: "pool", Input: "n", Bias: []int32{0, 0}, Threshold: []int32{1, 1}, Leak: 1}
			n.Layers[3].(*quant.Conv).KH, n.Layers[3].(*quant.Conv).KW = 2, 2
			n.Layers[3].(*quant.Conv).Weight = make([]int8, 16)
			return n.Prove(ctx, x, 0, 1, 1)
		},
	} {
		p, err := try()
		assert.ErrorContains(t, err, want)
		assert.Equal(t, quant.Unknown, p.Verdict)
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	p, err := n.Prove(stopped, x, 0, 1, 10)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, quant.Unknown, p.Verdict)
}

// BenchmarkProve proves random networks of one hidden layer around random images of 4×4 pixels,
// with at most 20,000 nodes for each. It reports the share of verdicts and the nodes of a search.
func BenchmarkProve(b *testing.B) {
	for _, neurons := range []int{4, 8, 16} {
		for _, eps := range []int{1, 2, 4, 8} {
			b.Run(fmt.Sprintf("neurons=%d/eps=%d", neurons, eps), func(b *testing.B) {
				r := rand.New(rand.NewPCG(1, 1))
				verdicts, nodes := map[quant.Verdict]int{}, 0
				for b.Loop() {
					n := &quant.Network{Channels: 1, Height: 4, Width: 4, Steps: 4, Scale: 1, Bias: make([]int32, 10)}
					fc := func(input string, cout, cin, side int) *quant.Conv {
						c := &quant.Conv{
							Name: "fc of " + input, Input: input, Cout: cout, Cin: cin, KH: side, KW: side, Stride: 1,
							Weight: make([]int8, cout*cin*side*side), Scale: make([]float32, cout),
						}
						for i := range c.Weight {
							c.Weight[i] = int8(r.IntN(255) - 127)
						}
						for i := range c.Scale {
							c.Scale[i] = 1
						}
						return c
					}
					hidden := &quant.Neurons{Name: "n", Input: "fc of image", Leak: 1, Bias: make([]int32, neurons), Threshold: make([]int32, neurons)}
					for i := range hidden.Threshold {
						hidden.Threshold[i] = 30000
					}
					n.Layers = []quant.Layer{fc(quant.Image, neurons, 1, 4), hidden, fc("n", 10, neurons, 1)}
					x := tensor.NewNCHW(1, 1, 4, 4)
					for i := range x.Data {
						x.Data[i] = float32(r.IntN(256)) / 255
					}
					class, err := n.Predict(x)
					require.NoError(b, err)
					p, err := n.Prove(context.Background(), x, class[0], eps, 20000)
					require.NoError(b, err)
					verdicts[p.Verdict]++
					nodes += p.Nodes
				}
				for _, v := range []quant.Verdict{quant.Certified, quant.Broken, quant.Unknown} {
					b.ReportMetric(float64(verdicts[v])/float64(b.N), string(v))
				}
				b.ReportMetric(float64(nodes)/float64(b.N), "nodes/op")
			})
		}
	}
}
