package certify_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/autograd"
	"github.com/org/snnrat/snn"
	"github.com/org/snnrat/tensor"
)

// tiny is a network so small that all images of a grid can be enumerated.
type tiny struct {
	kind   string
	m      *snn.Model
	params []*autograd.Param // that a test may change
	lif    []*snn.LIF
	r      *rand.Rand
	style  style
}

// style says how the parameters of a tiny network are drawn.
type style int

const (
	// dyadic draws multiples of 1/4. Sums do not round, and often meet a threshold exactly.
	dyadic style = iota
	// random draws normal numbers.
	random
	// cancelling draws large numbers that cancel, with small ones between them, so that the
	// result depends on the order of the sum.
	cancelling
	// subnormal draws numbers that float32 holds with few bits, and thresholds of that size. The
	// bounds prove little about it.
	subnormal
	styles
)

// onGrids are the styles before subnormal.
const onGrids = int(subnormal)

func (s style) String() string { return [...]string{"dyadic", "random", "cancelling", "subnormal"}[s] }

// unit is the size of currents and thresholds.
func (n *tiny) unit() float32 {
	if n.style == subnormal {
		return 0x1p-140
	}
	return 1
}

func (n *tiny) value() float32 {
	switch n.style {
	case dyadic:
		return float32(n.r.IntN(13)-6) / 4
	case cancelling:
		large := []float32{0x1p12, -0x1p12, 0x1p23, -0x1p23}
		if n.r.IntN(3) == 0 {
			return large[n.r.IntN(len(large))] * (1 + 0x1p-23*float32(n.r.IntN(3)))
		}
	}
	return float32(n.r.NormFloat64()) * n.unit()
}

func (n *tiny) fill(p *autograd.Param, value func() float32) {
	v := make([]float32, p.Len())
	for i := range v {
		v[i] = value()
	}
	p.Import(v)
	n.params = append(n.params, p)
}

func (n *tiny) linear(in, out int) *snn.Linear {
	l := snn.NewLinear(in, out, true)
	n.fill(l.Weight, n.value)
	n.fill(l.Bias, n.value)
	return l
}

func (n *tiny) conv(in, out, k, pad int) *snn.Conv2D {
	l := snn.NewConv2D(in, out, k, 1, pad, n.r.IntN(2) == 0)
	n.fill(l.Weight, n.value)
	if l.Bias != nil {
		n.fill(l.Bias, n.value)
	}
	return l
}

func (n *tiny) norm(c int) *snn.BatchNorm {
	l := snn.NewBatchNorm(c)
	n.fill(l.Weight, func() float32 { return 1 + float32(n.r.NormFloat64())/2 })
	n.fill(l.Bias, func() float32 { return float32(n.r.NormFloat64()) / 2 * n.unit() })
	n.fill(l.RunningMean, func() float32 { return float32(n.r.NormFloat64()) / 4 * n.unit() })
	n.fill(l.RunningVar, func() float32 { return 0.25 + n.r.Float32() })
	n.params = n.params[:len(n.params)-1] // no test may make a variance negative
	return l
}

// neurons returns a layer of neurons with settings drawn from all that a certificate knows.
func (n *tiny) neurons() *snn.LIF {
	l := snn.NewLIF([]float32{1, 1, 0.5, 0.75, 0.9}[n.r.IntN(5)])
	l.Threshold = []float32{1, 0.5, 0.75, 1.1}[n.r.IntN(4)]
	switch n.r.IntN(4) {
	case 0:
		l.SoftReset = true
	case 1:
		l.Reset = []float32{-0.5, 0.25}[n.r.IntN(2)]
	}
	if n.r.IntN(6) == 0 {
		l.Start = []float32{-0.25, 0.25, 1}[n.r.IntN(3)]
	}
	if l.Decay < 1 && n.r.IntN(4) == 0 {
		l.DecayInput = true
	}
	l.Threshold *= n.unit()
	l.Reset *= n.unit()
	l.Start *= n.unit()
	n.lif = append(n.lif, l)
	return l
}

// integrate makes all neurons IF neurons with soft reset.
func (n *tiny) integrate() {
	for _, l := range n.lif {
		l.Decay, l.Reset, l.DecayInput, l.SoftReset = 1, 0, false, true
	}
}

// kinds are the networks.
var kinds = []struct {
	name    string
	c, h, w int // of an image
	levels  int // a power of two; a pixel of the grid is k/levels, 0 ≤ k ≤ levels
	frames  int // of an example; 1 for images
	steps   int // T; 0 for a random number from 1 to 5
	body    func(n *tiny) *snn.Sequential
}{
	{"linear", 1, 1, 2, 16, 1, 0, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.Flatten{}, n.linear(2, 3), n.neurons(), n.linear(3, 2))
	}},
	{"deep", 1, 1, 3, 8, 1, 0, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.Flatten{}, n.linear(3, 3), n.neurons(), n.linear(3, 3), n.neurons(), n.linear(3, 3))
	}},
	{"spiking output", 1, 1, 2, 16, 1, 0, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.Flatten{}, n.linear(2, 3), n.neurons(), n.linear(3, 3), n.neurons())
	}},
	{"convolution", 1, 2, 2, 4, 1, 0, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(n.conv(1, 2, 2, 0), n.neurons(), snn.Flatten{}, n.linear(2, 2))
	}},
	{"batch norm, average pool", 1, 2, 2, 4, 1, 0, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(n.conv(1, 2, 3, 1), n.norm(2), n.neurons(), snn.AvgPool{K: 2}, n.conv(2, 2, 1, 0), n.norm(2), n.neurons(), snn.Flatten{}, n.linear(2, 2))
	}},
	{"max pool", 2, 2, 1, 4, 1, 0, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(n.conv(2, 2, 2, 1), n.neurons(), snn.MaxPool{K: 2}, snn.Flatten{}, n.linear(2, 2))
	}},
	{"pools of images", 1, 2, 3, 2, 1, 0, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.AvgPool{K: 2}, n.conv(1, 2, 1, 0), n.neurons(), snn.AvgPool{}, snn.Flatten{}, n.linear(2, 2))
	}},
	{"residual", 1, 2, 2, 4, 1, 0, func(n *tiny) *snn.Sequential {
		b := &snn.Residual{
			BN1: n.norm(2), N1: n.neurons(), Conv1: n.conv(2, 2, 3, 1), BN2: n.norm(2), N2: n.neurons(), Conv2: n.conv(2, 2, 1, 0),
			Comb: autograd.NewParam(2),
		}
		n.fill(b.Comb, func() float32 { return n.r.Float32() })
		return snn.NewSequential(n.conv(1, 2, 1, 0), b, n.norm(2), n.neurons(), snn.AvgPool{}, snn.Flatten{}, n.linear(2, 2))
	}},
	{"shortcut with a convolution", 1, 1, 3, 8, 1, 0, func(n *tiny) *snn.Sequential {
		b := &snn.Residual{
			N1: n.neurons(), Conv1: n.conv(1, 2, 1, 0), N2: n.neurons(), Conv2: n.conv(2, 2, 3, 1), Short: n.conv(1, 2, 1, 0),
			Comb: autograd.NewParam(2),
		}
		n.fill(b.Comb, func() float32 { return n.r.Float32() })
		return snn.NewSequential(b, n.neurons(), snn.Flatten{}, n.linear(6, 2))
	}},
	{"frames", 1, 1, 2, 4, 2, 2, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.Flatten{}, n.linear(2, 3), n.neurons(), n.linear(3, 2))
	}},
	{"one neuron", 1, 1, 1, 4, 4, 4, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.Flatten{}, n.linear(1, 1), n.neurons(), n.linear(1, 2))
	}},
	{"one step", 1, 1, 2, 16, 1, 1, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.Flatten{}, n.linear(2, 3), n.neurons(), n.linear(3, 2))
	}},
	{"many steps", 1, 1, 1, 64, 1, 60, func(n *tiny) *snn.Sequential {
		return snn.NewSequential(snn.Flatten{}, n.linear(1, 1), n.neurons(), n.linear(1, 2))
	}},
}

// newTiny returns a network of a kind.
func newTiny(t testing.TB, kind, seed int, s style) *tiny {
	k := kinds[kind]
	n := &tiny{kind: k.name, r: rand.New(rand.NewPCG(uint64(seed), uint64(kind)<<8|uint64(s))), style: s}
	cfg := snn.Config{Channels: k.c, Height: k.h, Width: k.w, Steps: 1 + n.r.IntN(5)}
	if k.steps > 0 {
		cfg.Steps = k.steps
	}
	if n.r.IntN(3) == 0 {
		for range k.c {
			cfg.Mean = append(cfg.Mean, n.r.Float32())
			cfg.Std = append(cfg.Std, 0.25+n.r.Float32())
		}
	}
	m, err := snn.NewModel(cfg, k.body(n))
	require.NoError(t, err)
	m.Threads = 1
	n.m = m
	return n
}

func (n *tiny) String() string { return fmt.Sprintf("%s, %v, T = %d", n.kind, n.style, n.m.Steps) }

// grid returns all images of a kind whose pixels are k/levels. Pixel 0 changes fastest.
func grid(kind int) tensor.NCHW {
	k := kinds[kind]
	size := k.c * k.h * k.w * k.frames
	n := 1
	for range size {
		n *= k.levels + 1
	}
	x := images(kind, n)
	for i := range n {
		rest := i
		for p := range size {
			x.Data[i*size+p] = float32(rest%(k.levels+1)) / float32(k.levels)
			rest /= k.levels + 1
		}
	}
	return x
}

// images returns n black examples of a kind.
func images(kind, n int) tensor.NCHW {
	k := kinds[kind]
	return tensor.NewFrames(tensor.Shape{N: n, Steps: k.frames, C: k.c, H: k.h, W: k.w})
}

// classes returns the class that the program computes for each image: the first one of the
// largest logits.
func (n *tiny) classes(t testing.TB, x tensor.NCHW) []int {
	z, err := n.m.Logits(snn.Pass{}, x)
	require.NoError(t, err, "%v", n)
	c := n.m.Classes()
	y := make([]int, x.N)
	for i := range y {
		for k, v := range z[i*c:][:c] {
			if v > z[i*c+y[i]] {
				y[i] = k
			}
		}
	}
	return y
}

// corners returns the corners of the ball around an image, and as many points that are a number away
// from a corner in each pixel, towards the image. The radius is the larger one of eps and
// float32(eps).
func corners(kind int, x []float32, eps float64) tensor.NCHW {
	eps = max(eps, float64(float32(eps)))
	n := 1 << len(x)
	all := images(kind, 2*n)
	for i := range n {
		for p, v := range x {
			c := reach(v, eps, i>>p&1 == 1)
			all.Data[i*len(x)+p] = c
			all.Data[(n+i)*len(x)+p] = math.Nextafter32(c, v)
		}
	}
	return all
}

// reach returns the largest float32 in [0,1] that is at most eps above v, or the smallest that
// is at most eps below.
func reach(v float32, eps float64, up bool) float32 {
	to, sign := float32(2), 1.0
	if !up {
		to, sign = -1, -1
	}
	c := float32(float64(v) + sign*eps)
	for math.Abs(float64(c)-float64(v)) > eps {
		c = math.Nextafter32(c, v)
	}
	for next := math.Nextafter32(c, to); math.Abs(float64(next)-float64(v)) <= eps; next = math.Nextafter32(c, to) {
		c = next
	}
	return min(max(c, 0), 1)
}

// broken returns for each image of the grid whether an image of the grid within eps of it has
// another class than y says for it.
func broken(kind int, x tensor.NCHW, class, y []int, eps float64) []bool {
	levels := kinds[kind].levels
	k := int(eps * float64(levels)) // exact, since levels is a power of two
	size := len(x.Image(0))
	// ball[i] holds whether each class occurs around image i. The maximum over a box is taken
	// axis by axis.
	classes := slices.Max(class) + 1
	ball := make([]bool, x.N*classes)
	for i, c := range class {
		ball[i*classes+c] = true
	}
	stride := 1
	for range size {
		next := make([]bool, len(ball))
		for i := range x.N {
			at := i / stride % (levels + 1)
			for j := max(0, at-k); j <= min(levels, at+k); j++ {
				for c := range classes {
					if ball[(i+(j-at)*stride)*classes+c] {
						next[i*classes+c] = true
					}
				}
			}
		}
		ball, stride = next, stride*(levels+1)
	}
	out := make([]bool, x.N)
	for i := range out {
		for c := range classes {
			out[i] = out[i] || ball[i*classes+c] && c != y[i]
		}
	}
	return out
}

// TestBroken holds the enumeration against one that looks at every pair of images.
func TestBroken(t *testing.T) {
	for kind, k := range kinds {
		if k.name != "linear" && k.name != "convolution" && k.name != "frames" {
			continue // of the same number of values and levels as one of these
		}
		n := newTiny(t, kind, 1, dyadic)
		x := grid(kind)
		class := n.classes(t, x)
		for _, eps := range []float64{0, 1 / float64(k.levels)} {
			got := broken(kind, x, class, class, eps)
			for i := range x.N {
				want := false
				for j := range x.N {
					d := 0.0
					for p, v := range x.Image(i) {
						d = max(d, math.Abs(float64(v)-float64(x.Image(j)[p])))
					}
					want = want || d <= eps && class[j] != class[i]
				}
				require.Equal(t, want, got[i], "%v: image %d", n, i)
			}
		}
	}
}
