package kernel

import (
	"fmt"

	"github.com/org/snnrat/internal/parallel"
)

// Conv is the geometry of a 2-D convolution over Frames frames. A linear layer is a 1×1
// convolution of one pixel.
//
// Weights have the layout [⌈Cout/16⌉][Cin rounded up to 16][KH·KW][16]. Their lanes are
// output channels.
type Conv struct {
	Frames           int
	Cin, Hin, Win    int
	Cout, Hout, Wout int
	KH, KW           int
	Stride, Pad      int
}

func blocks(c int) int { return (c + Lanes - 1) / Lanes }

// BlocksIn returns the number of blocks of input channels.
func (c *Conv) BlocksIn() int { return blocks(c.Cin) }

// BlocksOut returns the number of blocks of output channels.
func (c *Conv) BlocksOut() int { return blocks(c.Cout) }

// WeightLen returns the length of the weights, padding included.
func (c *Conv) WeightLen() int {
	return c.BlocksOut() * c.BlocksIn() * Lanes * c.KH * c.KW * Lanes
}

// check panics if a slice is too short for c. Assembly would read or write past its end.
func (c *Conv) check(op string, in, out, w int, bias []float32) {
	if in < c.BlocksIn()*c.Frames*c.Hin*c.Win*Lanes || out < c.BlocksOut()*c.Frames*c.Hout*c.Wout*Lanes ||
		w < c.WeightLen() || bias != nil && len(bias) < c.BlocksOut()*Lanes {
		panic(fmt.Sprintf("kernel: %s: input of %d values, output of %d, %d weights, bias of %d do not fit %+v", op, in, out, w, len(bias), *c))
	}
}

// CanLeaveOut reports whether ConvInputGrad can skip elements that are not needed.
func (c *Conv) CanLeaveOut() bool { return c.same3() }

// ConvSpikes computes the convolution dst = bias + w∗s of spikes s. It panics if a slice is
// too short, as all convolutions do.
//
//	dst  [⌈Cout/16⌉][Frames][Hout·Wout][16]
//	s    [⌈Cin/16⌉][Frames][Hin·Win]
//	bias [⌈Cout/16⌉][16], or nil for none
func ConvSpikes(dst []float32, s []uint16, w, bias []float32, c Conv, threads int) {
	c.check("ConvSpikes", len(s)*Lanes, len(dst), len(w), bias)
	if c.Frames > 0 {
		CurrentLevel().convSpikes(dst, s, w, bias, c.flat(), threads)
	}
}

// ConvDense computes the convolution dst = bias + w∗x of dense x. dst and bias are as in
// ConvSpikes.
//
//	x [⌈Cin/16⌉][Frames][Hin·Win][16]
func ConvDense(dst, x, w, bias []float32, c Conv, threads int) {
	c.check("ConvDense", len(x), len(dst), len(w), bias)
	if c.Frames > 0 {
		CurrentLevel().convDense(dst, x, w, bias, c.flat(), threads)
	}
}

// ConvDenseWinograd is ConvDense for results that no spike depends on. For large convolutions
// with a 3×3 window, it uses Winograd's algorithm at all levels but NEON, as ConvInputGrad does and
// with such errors. Otherwise its bits are those of ConvDense.
func ConvDenseWinograd(dst, x, w, bias []float32, c Conv, threads int) {
	if l := CurrentLevel(); c.Frames > 0 && l.winograd(&c) {
		c.check("ConvDenseWinograd", len(x), len(dst), len(w), bias)
		l.convDenseWinograd(dst, x, w, bias, &c, threads)
		return
	}
	ConvDense(dst, x, w, bias, c, threads)
}

// ConvInputGrad computes dx = wᵀ∗dy, or adds it to dx if add is set. This is a convolution
// whose input is dy, and its sums run in that convolution's order. Lanes of missing
// channels get zero if dy is finite; otherwise their content is undefined.
//
// need says which elements of dx the caller uses: those whose bit is set, or all if need is
// nil. The other elements may be left out. For the geometries of [Conv.CanLeaveOut] they are. The
// sum of each group of 64 output channels is then formed on its own, lane by lane, as in
// [sampled3Portable]. The sums of the groups are added. This order does not depend on the bits of
// need.
//
// At all levels but NEON, large convolutions with a 3×3 window, stride 1 and padding 1 use
// Winograd's algorithm instead for some frames. Those are the frames of which at least a quarter is
// needed. If need is nil, they are those of whose dy at least a quarter is not zero, by a sample.
// The choice depends on the frame alone. Elements that are not needed are computed there, too. The
// algorithm's rounding errors are about twice those of the sums. Where the exact gradient is zero
// although deltas near by are not, it may give a number of the size of these errors.
//
//	dx   [⌈Cin/16⌉][Frames][Hin·Win][16]
//	dy   [⌈Cout/16⌉][Frames][Hout·Wout][16]
//	need [⌈Cin/16⌉][Frames][Hin·Win], or nil
func ConvInputGrad(dx, dy, w []float32, need []uint16, c Conv, add bool, threads int) {
	c.check("ConvInputGrad", len(dx), len(dy), len(w), nil)
	if need != nil {
		c.check("ConvInputGrad", len(need)*Lanes, len(dy), len(w), nil)
	}
	if c.Frames > 0 {
		CurrentLevel().convInputGrad(dx, dy, w, need, c.flat(), add, threads)
	}
}

// ConvWeightGradSpikes computes dw = Σ dy⊗s, or adds it to dw if add is set. The sum is
// over frames and then pixels. s is as in ConvSpikes, dy is as its dst, and dw has the layout
// of weights.
func ConvWeightGradSpikes(dw []float32, s []uint16, dy []float32, c Conv, add bool, threads int) {
	c.check("ConvWeightGradSpikes", len(s)*Lanes, len(dy), len(dw), nil)
	switch {
	case c.Frames > 0:
		CurrentLevel().convWeightGradSpikes(dw, s, dy, c.flat(), add, threads)
	case !add:
		clear(dw[:c.WeightLen()])
	}
}

// ConvWeightGradDense is ConvWeightGradSpikes for a dense input x.
func ConvWeightGradDense(dw, x, dy []float32, c Conv, add bool, threads int) {
	c.check("ConvWeightGradDense", len(x), len(dy), len(dw), nil)
	switch {
	case c.Frames > 0:
		CurrentLevel().convWeightGradDense(dw, x, dy, c.flat(), add, threads)
	case !add:
		clear(dw[:c.WeightLen()])
	}
}

// ConvBiasGrad computes db = scale·Σ dy, or adds it to db if add is set. The sum is over
// frames and pixels, in float64. Lanes of missing channels get zero, since they are zero in
// dy.
//
//	db [⌈Cout/16⌉][16]
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

var floats lender[float32]

// scratch lends n floats of any content until release.
func scratch(n int) *[]float32 { return floats.get(n) }

func release(b *[]float32) { floats.put(b) }
