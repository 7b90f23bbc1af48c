package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/org/snnrat/internal/race"
)

// intCase is a convolution of whole numbers with all that goes in and should come out.
type intCase struct {
	c             Conv
	images, steps int // of the input
	fires         int // steps of the neurons
	w             []int8
	top           int
	spikes        []uint16
	bytes, border []uint8
	gain, add     []int32
	addSteps      int
	neurons       IntNeurons
	currents      []int32
	out           []uint16
}

// newIntCase draws a case. Kind says how the weights are: 0 of all sizes, 1 as positive as
// possible, 2 as negative, 3 of two signs in halves of the input channels.
func newIntCase(r *rand.Rand, c Conv, kind, top int) *intCase {
	k := &intCase{c: c, images: c.Frames, steps: 1, fires: 1 + r.IntN(4), top: top}
	for _, s := range []int{2, 3} {
		if c.Frames%s == 0 && r.IntN(2) == 0 {
			k.images, k.steps, k.fires = c.Frames/s, s, s
		}
	}
	win, in, out, nb := c.KH*c.KW, c.Hin*c.Win, c.Hout*c.Wout, c.BlocksOut()
	k.w = make([]int8, c.Cout*c.Cin*win)
	for i := range k.w {
		switch v := int8(r.IntN(255) - 127); kind {
		case 0:
			k.w[i] = v
		case 1:
			k.w[i] = 127
		case 2:
			k.w[i] = -128
		default:
			if k.w[i] = 127; i/win%c.Cin >= c.Cin/2 {
				k.w[i] = -127
			}
		}
	}
	rate := []float64{0, .1, .5, 1}[r.IntN(4)]
	if kind > 0 {
		rate = 1
	}
	k.spikes, k.bytes = make([]uint16, c.BlocksIn()*c.Frames*in), make([]uint8, c.BlocksIn()*c.Frames*in*Lanes)
	for i := range k.bytes {
		if i/Lanes/(c.Frames*in)*Lanes+i%Lanes < c.Cin && r.Float64() < rate {
			k.spikes[i/Lanes] |= 1 << (i % Lanes)
			k.bytes[i] = uint8(1 + r.IntN(top))
			if kind > 0 {
				k.bytes[i] = uint8(top)
			}
		}
	}
	if r.IntN(2) == 0 {
		k.border = make([]uint8, c.Cin)
		for i := range k.border {
			k.border[i] = uint8(r.IntN(top + 1))
		}
	}
	if k.addSteps = []int{0, 1, k.steps}[r.IntN(3)]; k.addSteps > 0 {
		k.add = make([]int32, nb*k.images*k.addSteps*out*Lanes)
		for i := range k.add {
			k.add[i] = r.Int32N(1<<20) - 1<<19
		}
	}
	if r.IntN(2) == 0 {
		k.gain = make([]int32, nb*Lanes)
		for i := range k.gain {
			k.gain[i] = r.Int32N(5)
		}
	}
	k.neurons = randomIntNeurons(r, nb, 127*top*win*c.Cin/4+1)
	k.currents, k.out = make([]int32, nb*c.Frames*out*Lanes), make([]uint16, nb*k.images*k.fires*out)
	return k
}

func randomIntNeurons(r *rand.Rand, nb, size int) IntNeurons {
	draw := func(lo, hi int) []int32 {
		v := make([]int32, nb*Lanes)
		for i := range v {
			v[i] = int32(lo + r.IntN(hi-lo+1))
		}
		return v
	}
	n := IntNeurons{Bias: draw(-size/4, size/4), Threshold: draw(1, size), Leak: 1, Soft: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		n.Gain = draw(-1, 1)
	}
	if r.IntN(2) == 0 {
		n.Shift = uint(r.IntN(5))
		n.Leak = int32(r.IntN(1<<n.Shift + 1))
	}
	return n
}

func (k *intCase) output(currents, fires bool) IntOutput {
	o := IntOutput{Images: k.images, Gain: k.gain, Add: k.add, AddSteps: k.addSteps, Steps: k.fires}
	if currents {
		o.Currents = make([]int32, len(k.currents))
		for i := range o.Currents {
			o.Currents[i] = -77
		}
	}
	if fires {
		o.Spikes, o.Neurons = make([]uint16, len(k.out)), &k.neurons
		for i := range o.Spikes {
			o.Spikes[i] = 0xa5a5
		}
	}
	return o
}

// want sets what should come out, value by value.
func (k *intCase) want(value func(in, ch int) int32, border []uint8) {
	c := k.c
	win, in, out := c.KH*c.KW, c.Hin*c.Win, c.Hout*c.Wout
	clear(k.currents)
	for o := range c.Cout {
		at := func(f, p int) *int32 { return &k.currents[((o/Lanes*c.Frames+f)*out+p)*Lanes+o%Lanes] }
		for f := range c.Frames {
			for y := range c.Hout {
				for x := range c.Wout {
					sum := at(f, y*c.Wout+x)
					for t := range win {
						iy, ix := y*c.Stride+t/c.KW-c.Pad, x*c.Stride+t%c.KW-c.Pad
						inside := iy >= 0 && iy < c.Hin && ix >= 0 && ix < c.Win
						if !inside && border == nil {
							continue
						}
						for i := range c.Cin {
							w := int32(k.w[(o*c.Cin+i)*win+t])
							if inside {
								*sum += w * value((i/Lanes*c.Frames+f)*in+iy*c.Win+ix, i%Lanes)
							} else {
								*sum += w * int32(border[i])
							}
						}
					}
					if k.gain != nil {
						*sum *= k.gain[o]
					}
					if k.add != nil {
						*sum += k.add[((o/Lanes*k.images+f/k.steps)*k.addSteps+f%k.steps%k.addSteps)*out*Lanes+(y*c.Wout+x)*Lanes+o%Lanes]
					}
				}
			}
		}
	}
	if k.add != nil { // what is added to missing channels is whatever add has there
		for i := range k.currents {
			if i/Lanes/(c.Frames*out)*Lanes+i%Lanes >= c.Cout {
				f, p := i/Lanes/out%c.Frames, i/Lanes%out
				k.currents[i] = k.add[((c.Cout/Lanes*k.images+f/k.steps)*k.addSteps+f%k.steps%k.addSteps)*out*Lanes+p*Lanes+i%Lanes]
			}
		}
	}
	k.neurons.naive(k.out, k.currents, Scan{Units: c.BlocksOut() * k.images, Images: k.images, Pixels: out, Steps: k.fires, CurrentSteps: k.steps})
}

// naive is Forward, neuron by neuron.
func (n *IntNeurons) naive(s []uint16, x []int32, sc Scan) {
	clear(s[:sc.Units*sc.Steps*sc.Pixels])
	for u := range sc.Units {
		for p := range sc.Pixels {
			for l := range Lanes {
				c, m := u/sc.Images*Lanes+l, int32(0)
				for t := range sc.Steps {
					cur := x[((u*sc.CurrentSteps+t%sc.CurrentSteps)*sc.Pixels+p)*Lanes+l]
					if n.Gain != nil {
						cur *= n.Gain[c]
					}
					m = int32(math.Floor(float64(m)*float64(n.Leak)/float64(int(1)<<n.Shift))) + cur + n.Bias[c]
					if m >= n.Threshold[c] {
						s[(u*sc.Steps+t)*sc.Pixels+p] |= 1 << l
						if n.Soft {
							m -= n.Threshold[c]
						} else {
							m = 0
						}
					}
				}
			}
		}
	}
}

// Convolutions of whole numbers are the sums of products, at every level, whatever is asked for
// and whatever the number of threads. So they are for weights and inputs that reach the limits.
func TestIntConv(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	cases := convCases()
	cases = append(cases, []Conv{
		{Frames: 2, Cin: 70, Hin: 9, Win: 9, Cout: 20, Hout: 2, Wout: 2, KH: 8, KW: 8, Stride: 1},          // more than 64 taps: 257 inputs leave int16
		{Frames: 2, Cin: 3, Hin: 17, Win: 17, Cout: 3, Hout: 1, Wout: 1, KH: 17, KW: 17, Stride: 1},        // one mask holds values of several channels
		{Frames: 2, Cin: 3, Hin: 18, Win: 17, Cout: 3, Hout: 2, Wout: 1, KH: 17, KW: 17, Stride: 1},        // a channel alone leaves int16
		{Frames: 4, Cin: 64, Hin: 4, Win: 4, Cout: 40, Hout: 1, Wout: 1, KH: 4, KW: 4, Stride: 1},          // a linear layer
		{Frames: 2, Cin: 300, Hin: 5, Win: 4, Cout: 33, Hout: 5, Wout: 4, KH: 3, KW: 3, Stride: 1, Pad: 1}, // several groups
	}...)
	for i, c := range cases {
		if race.Enabled && i%4 > 0 {
			continue // the detector makes the sums slow
		}
		for kind := range 4 {
			if c.Frames*c.Hout*c.Wout*c.KH*c.KW*c.Cin*c.Cout > 50_000 && kind != i%4 {
				continue
			}
			top := []int{1, 4, 9, 63, 64, 65, 255}[r.IntN(7)]
			k := newIntCase(r, c, kind, top)
			name := fmt.Sprintf("%v, weights %d, %d images of %d steps, bytes up to %d", c, kind, k.images, k.steps, top)
			check := func(run func(conv *IntConv, o IntOutput, threads int), top int) {
				t.Helper()
				conv := NewIntConv(c, k.w, top)
				for _, l := range Levels() {
					at(t, l, func() {
						for threads := 1; threads <= 3; threads++ {
							o := k.output(threads != 2, threads != 3)
							run(conv, o, threads)
							if o.Currents != nil {
								require.True(t, slices.Equal(k.currents, o.Currents), "%s, %v: currents", name, l)
							}
							if o.Spikes != nil {
								require.True(t, slices.Equal(k.out, o.Spikes), "%s, %v: spikes", name, l)
							}
						}
					})
				}
			}
			k.want(func(in, ch int) int32 { return int32(k.spikes[in] >> ch & 1) }, nil)
			check(func(conv *IntConv, o IntOutput, threads int) { conv.Spikes(o, k.spikes, k.steps, threads) }, 1)
			k.want(func(in, ch int) int32 { return int32(k.bytes[in*Lanes+ch]) }, k.border)
			check(func(conv *IntConv, o IntOutput, threads int) { conv.Bytes(o, k.bytes, k.border, k.steps, threads) }, top)
		}
	}
}

// Sums of pairs reach the limits of 16 bits: as a run of channels, and as one product.
func TestIntPairsAtLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, k := range []struct {
		top  int
		size func(ch, tap int) int8 // of a weight
		runs []int
	}{
		{4, func(ch, _ int) int8 { return int8(127 * (1 - min(1, ch%Lanes/7))) }, []int{0, 1, 2, 3, 4}}, // 32004 a block
		{4, func(int, int) int8 { return 22 }, []int{0, 2, 4}},                                          // 12672 a block
		{127, func(ch, tap int) int8 { return int8(bit(ch%Lanes/2 == 3 && tap == 4)) * 127 }, []int{0, 1, 2, 3, 4}},
		{9, func(int, int) int8 { return 1 }, []int{0, 4}},
		{128, func(ch, _ int) int8 { return int8(bit(ch == 0)) }, nil},
	} {
		for _, sign := range []int8{1, -1} {
			c := Conv{Frames: 2, Cin: 61, Hin: 5, Win: 4, Cout: 19, Hout: 5, Wout: 4, KH: 3, KW: 3, Stride: 1, Pad: 1}
			x := newIntCase(r, c, 1, k.top)
			x.border = nil
			for i := range x.w {
				x.w[i] = sign * k.size(i/9%c.Cin, i%9)
			}
			conv := NewIntConv(c, x.w, k.top)
			require.Equal(t, k.runs, conv.runs, "bytes up to %d", k.top)
			x.want(func(in, ch int) int32 { return int32(x.bytes[in*Lanes+ch]) }, nil)
			for _, l := range Levels() {
				at(t, l, func() {
					o := x.output(true, true)
					conv.Bytes(o, x.bytes, nil, x.steps, 2)
					require.Equal(t, x.currents, o.Currents, "bytes up to %d, %v", k.top, l)
					require.Equal(t, x.out, o.Spikes, "bytes up to %d, %v", k.top, l)
				})
			}
		}
	}
}

func TestNotZeroPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 1000 {
		var x, want uint64
		for b := range 8 {
			v := uint64([]int{0, 0, 0, 1, 127, r.IntN(128)}[r.IntN(6)])
			if x |= v << (8 * b); v != 0 {
				want |= 1 << (b / 2)
			}
		}
		require.Equal(t, want, notZeroPairs(x), "%016x", x)
	}
}

// Neurons on whole numbers are their definition, neuron by neuron.
func TestIntNeurons(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		sc := Scan{Images: 1 + r.IntN(3), Pixels: 1 + r.IntN(130), Steps: 1 + r.IntN(9)}
		nb := 1 + r.IntN(3)
		sc.Units, sc.CurrentSteps = nb*sc.Images, []int{1, sc.Steps}[r.IntN(2)]
		n := randomIntNeurons(r, nb, 1000)
		x := make([]int32, sc.Units*sc.CurrentSteps*sc.Pixels*Lanes)
		for i := range x {
			x[i] = r.Int32N(2001) - 1000
		}
		got, want := make([]uint16, sc.Units*sc.Steps*sc.Pixels), make([]uint16, sc.Units*sc.Steps*sc.Pixels)
		n.naive(want, x, sc)
		for _, l := range Levels() {
			at(t, l, func() {
				n.Forward(got, x, sc, 2)
				require.True(t, slices.Equal(want, got), "%+v, %v", sc, l)
			})
		}
	}
}

// Membrane potentials and thresholds reach the limits of int32.
func TestIntNeuronsAtLimits(t *testing.T) {
	const most = math.MaxInt32
	for _, n := range []IntNeurons{
		{Bias: make([]int32, Lanes), Threshold: slices.Repeat([]int32{most}, Lanes), Leak: 1},
		{Bias: make([]int32, Lanes), Threshold: slices.Repeat([]int32{1}, Lanes), Leak: 1},
	} {
		x := make([]int32, 2*Lanes)
		for l := range x {
			x[l] = []int32{most, math.MinInt32, most - 1, 1, 0, -1, 2, math.MinInt32 + 1}[l%8]
			if l >= Lanes {
				x[l] = 0
			}
		}
		sc := Scan{Units: 1, Images: 1, Pixels: 1, Steps: 2, CurrentSteps: 2}
		got, want := make([]uint16, 2), make([]uint16, 2)
		n.naive(want, x, sc)
		for _, l := range Levels() {
			at(t, l, func() {
				n.Forward(got, x, sc, 1)
				require.Equal(t, want, got, "threshold %d, %v", n.Threshold[0], l)
			})
		}
	}
}

// Pools of spikes and of bytes are sums over windows.
func TestSumPool(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 100 {
		p := Pool{Planes: 1 + r.IntN(5), KH: 1 + r.IntN(4), KW: 1 + r.IntN(4)}
		p.Stride, p.Hout, p.Wout = max(p.KH, p.KW), 1+r.IntN(5), 1+r.IntN(5)
		p.Hin, p.Win = p.Hout*p.Stride+r.IntN(2), p.Wout*p.Stride+r.IntN(2)
		s, x := make([]uint16, p.Planes*p.Hin*p.Win), make([]uint8, p.Planes*p.Hin*p.Win*Lanes)
		for i := range s {
			s[i] = uint16(r.Uint32())
		}
		for i := range x {
			x[i] = uint8(r.IntN(255/(p.KH*p.KW) + 1))
		}
		n := p.Planes * p.Hout * p.Wout * Lanes
		spikes, bytes := make([]uint8, n), make([]uint8, n)
		for u := range p.Planes {
			p.windows(func(out, in int) {
				for ky := range p.KH {
					for kx := range p.KW {
						at := u*p.Hin*p.Win + in + ky*p.Win + kx
						for l := range Lanes {
							d := (u*p.Hout*p.Wout+out)*Lanes + l
							spikes[d] += uint8(s[at] >> l & 1)
							bytes[d] += x[at*Lanes+l]
						}
					}
				}
			})
		}
		got := make([]uint8, n)
		SumPoolSpikes(got, s, p, 2)
		require.Equal(t, spikes, got, "%+v", p)
		SumPoolBytes(got, x, p, 2)
		require.Equal(t, bytes, got, "%+v", p)
	}
}
