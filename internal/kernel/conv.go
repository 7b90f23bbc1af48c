package kernel

import (
	"fmt"

	"github.com/org/snnrat/internal/parallel"
)

// Conv is the geometry of a 2-D convolution over Frames frames. A linear layer is
// a 1×1 convolution with one pixel.
//
// Weights are laid out [⌈Cout/16⌉][Cin rounded up to 16][KH·KW][16], the lanes
// being output channels.
type Conv struct {
	Frames           int
	Cin, Hin, Win    int
	Cout, Hout, Wout int
	KH, KW           int
	Stride, Pad      int
}

func blocks(c int) int { return (c + Lanes - 1) / Lanes }

// BlocksIn returns the number of input channel blocks.
func (c *Conv) BlocksIn() int { return blocks(c.Cin) }

// BlocksOut returns the number of output channel blocks.
func (c *Conv) BlocksOut() int { return blocks(c.Cout) }

// WeightLen returns the length of the weights, padding included.
func (c *Conv) WeightLen() int {
	return c.BlocksOut() * c.BlocksIn() * Lanes * c.KH * c.KW * Lanes
}

// check panics if a slice is too short for c; the assembly would run over its end.
func (c *Conv) check(op string, in, out, w int, bias []float32) {
	if in < c.BlocksIn()*c.Frames*c.Hin*c.Win*Lanes || out < c.BlocksOut()*c.Frames*c.Hout*c.Wout*Lanes ||
		w < c.WeightLen() || bias != nil && len(bias) < c.BlocksOut()*Lanes {
		panic(fmt.Sprintf("kernel: %s: input of %d values, output of %d, %d weights, bias of %d do not fit %+v", op, in, out, w, len(bias), *c))
	}
}

// CanLeaveOut reports whether ConvInputGrad leaves out elements that are not needed.
func (c *Conv) CanLeaveOut() bool { return c.same3() }

// ConvSpikes computes dst = bias + w∗s for spikes s.
//
//	dst  [⌈Cout/16⌉][Frames][Hout·Wout][16]
//	s    [⌈Cin/16⌉][Frames][Hin·Win]
//	bias [⌈Cout/16⌉][16], or nil for none
func ConvSpikes(dst []float32, s []uint16, w, bias []float32, c Conv, threads int) {
	c.check("ConvSpikes", len(s)*Lanes, len(dst), len(w), bias)
	if l := CurrentLevel(); l > Portable && c.Frames > 0 {
		l.convSpikes(dst, s, w, bias, c.flat(), threads)
		return
	}
	convSpikesPortable(dst, s, w, bias, c, threads)
}

// ConvDense computes dst = bias + w∗x for dense x [⌈Cin/16⌉][Frames][Hin·Win][16];
// the rest is as in ConvSpikes.
func ConvDense(dst, x, w, bias []float32, c Conv, threads int) {
	c.check("ConvDense", len(x), len(dst), len(w), bias)
	if l := CurrentLevel(); l > Portable && c.Frames > 0 {
		l.convDense(dst, x, w, bias, c.flat(), threads)
		return
	}
	convDensePortable(dst, x, w, bias, c, threads)
}

// ConvInputGrad computes dx = wᵀ∗dy, or adds it to dx if add is set. The sum over
// output channels and window runs as a convolution's does, its input being dy. The
// lanes of missing channels get zero, or anything if dy is not finite.
//
// If need is not nil, elements whose bit is not set are not needed: their contribution
// may be left out. For a 3×3 window that moves by one it is, and sums run another way
// then, whatever need has: those of groups of 64 output channels are formed for
// themselves, lane by lane ([sampled3Portable]), and added up.
//
//	dx   [⌈Cin/16⌉][Frames][Hin·Win][16]
//	dy   [⌈Cout/16⌉][Frames][Hout·Wout][16]
//	need [⌈Cin/16⌉][Frames][Hin·Win], or nil
func ConvInputGrad(dx, dy, w []float32, need []uint16, c Conv, add bool, threads int) {
	c.check("ConvInputGrad", len(dx), len(dy), len(w), nil)
	if need != nil {
		c.check("ConvInputGrad", len(need)*Lanes, len(dy), len(w), nil)
	}
	if l := CurrentLevel(); l > Portable && c.Frames > 0 {
		l.convInputGrad(dx, dy, w, need, c.flat(), add, threads)
		return
	}
	convInputGradPortable(dx, dy, w, c, add, threads)
}

// ConvWeightGradSpikes computes dw = Σ dy⊗s over frames and pixels, in that
// order, or adds it to dw if add is set. Shapes are as in ConvSpikes.
func ConvWeightGradSpikes(dw []float32, s []uint16, dy []float32, c Conv, add bool, threads int) {
	c.check("ConvWeightGradSpikes", len(s)*Lanes, len(dy), len(dw), nil)
	if l := CurrentLevel(); l > Portable && c.Frames > 0 {
		l.convWeightGradSpikes(dw, s, dy, c.flat(), add, threads)
		return
	}
	convWeightGradSpikesPortable(dw, s, dy, c, add, threads)
}

// ConvWeightGradDense is ConvWeightGradSpikes for a dense input x.
func ConvWeightGradDense(dw, x, dy []float32, c Conv, add bool, threads int) {
	c.check("ConvWeightGradDense", len(x), len(dy), len(dw), nil)
	if l := CurrentLevel(); l > Portable && c.Frames > 0 {
		l.convWeightGradDense(dw, x, dy, c.flat(), add, threads)
		return
	}
	convWeightGradDensePortable(dw, x, dy, c, add, threads)
}

// ConvBiasGrad computes db = scale·Σ dy over frames and pixels in float64, or adds
// it to db if add is set. The lanes of missing channels stay as dy has them: zero.
func ConvBiasGrad(db, dy []float32, c Conv, scale float32, add bool, threads int) {
	l, n := CurrentLevel(), c.Frames*c.Hout*c.Wout
	parallel.For(threads, c.BlocksOut(), func(b int) {
		var sum [Lanes]float64
		if n > 0 {
			l.sum(&sum[0], &dy[b*n*Lanes : (b+1)*n*Lanes][0], n)
		}
		d := (*[Lanes]float32)(db[b*Lanes:])
		for l, v := range sum {
			v *= float64(scale)
			if add {
				d[l] += float32(v)
			} else {
				d[l] = float32(v)
			}
		}
	})
}

// fill sets every pixel of d to block b of the bias, or to zero.
func fill(d, bias []float32, b int) {
	if bias == nil {
		clear(d)
		return
	}
	v := [Lanes]float32(bias[b*Lanes:])
	for i := 0; i < len(d); i += Lanes {
		*(*[Lanes]float32)(d[i:]) = v
	}
}

func add16(dst, src []float32) {
	d, s := (*[Lanes]float32)(dst), (*[Lanes]float32)(src)
	d[0] += s[0]
	d[1] += s[1]
	d[2] += s[2]
	d[3] += s[3]
	d[4] += s[4]
	d[5] += s[5]
	d[6] += s[6]
	d[7] += s[7]
	d[8] += s[8]
	d[9] += s[9]
	d[10] += s[10]
	d[11] += s[11]
	d[12] += s[12]
	d[13] += s[13]
	d[14] += s[14]
	d[15] += s[15]
}

// axpy16 rounds its products before it adds them, on every architecture.
func axpy16(dst []float32, a float32, src []float32) {
	d, s := (*[Lanes]float32)(dst), (*[Lanes]float32)(src)
	d[0] += float32(a * s[0])
	d[1] += float32(a * s[1])
	d[2] += float32(a * s[2])
	d[3] += float32(a * s[3])
	d[4] += float32(a * s[4])
	d[5] += float32(a * s[5])
	d[6] += float32(a * s[6])
	d[7] += float32(a * s[7])
	d[8] += float32(a * s[8])
	d[9] += float32(a * s[9])
	d[10] += float32(a * s[10])
	d[11] += float32(a * s[11])
	d[12] += float32(a * s[12])
	d[13] += float32(a * s[13])
	d[14] += float32(a * s[14])
	d[15] += float32(a * s[15])
}

var floats lender[float32]

// scratch lends n floats of any content until release.
func scratch(n int) *[]float32 { return floats.get(n) }

func release(b *[]float32) { floats.put(b) }
