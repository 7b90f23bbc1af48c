package kernel

import (
	"math/bits"
	"sync"

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

// tap pairs a pixel of the destination with a position of the kernel's window:
// offsets in floats into a frame of the destination and into the weights of one
// channel.
type tap struct{ dst, w int32 }

// plan lists, for every pixel of a scatter's source, where it goes.
type plan struct {
	taps  []tap
	start []int32 // taps[start[p]:start[p+1]] are pixel p's
}

// forwardPlan scatters input pixels to output pixels. backwardPlan scatters
// output pixels to input pixels.
func (c *Conv) forwardPlan() plan {
	var p plan
	p.start = append(p.start, 0)
	for y := range c.Hin {
		for x := range c.Win {
			for ky := range c.KH {
				oy := y + c.Pad - ky
				if oy < 0 || oy%c.Stride != 0 || oy/c.Stride >= c.Hout {
					continue
				}
				for kx := range c.KW {
					ox := x + c.Pad - kx
					if ox < 0 || ox%c.Stride != 0 || ox/c.Stride >= c.Wout {
						continue
					}
					p.taps = append(p.taps, tap{int32((oy/c.Stride*c.Wout + ox/c.Stride) * Lanes), int32((ky*c.KW + kx) * Lanes)})
				}
			}
			p.start = append(p.start, int32(len(p.taps)))
		}
	}
	return p
}

func (c *Conv) backwardPlan() plan {
	var p plan
	p.start = append(p.start, 0)
	for oy := range c.Hout {
		for ox := range c.Wout {
			for ky := range c.KH {
				y := oy*c.Stride + ky - c.Pad
				if y < 0 || y >= c.Hin {
					continue
				}
				for kx := range c.KW {
					x := ox*c.Stride + kx - c.Pad
					if x < 0 || x >= c.Win {
						continue
					}
					p.taps = append(p.taps, tap{int32((y*c.Win + x) * Lanes), int32((ky*c.KW + kx) * Lanes)})
				}
			}
			p.start = append(p.start, int32(len(p.taps)))
		}
	}
	return p
}

// ConvSpikes computes dst = bias + w∗s for spikes s.
//
//	dst  [⌈Cout/16⌉][Frames][Hout·Wout][16]
//	s    [⌈Cin/16⌉][Frames][Hin·Win]
//	bias [⌈Cout/16⌉][16], or nil for none
func ConvSpikes(dst []float32, s []uint16, w, bias []float32, c Conv, threads int) {
	p := c.forwardPlan()
	in, out, win := c.Hin*c.Win, c.Hout*c.Wout*Lanes, c.KH*c.KW*Lanes
	nb := c.BlocksIn()
	parallel.For(threads, c.BlocksOut()*c.Frames, func(u int) {
		ob, f := u/c.Frames, u%c.Frames
		d := dst[u*out:][:out:out]
		fill(d, bias, ob)
		w := w[ob*nb*Lanes*win:]
		for g := 0; g < nb; g += Group / Lanes {
			for px := range in {
				taps := p.taps[p.start[px]:p.start[px+1]]
				for b := g; b < min(g+Group/Lanes, nb); b++ {
					for word := s[(b*c.Frames+f)*in+px]; word != 0; word &= word - 1 {
						wc := w[(b*Lanes+bits.TrailingZeros16(word))*win:]
						for _, t := range taps {
							add16(d[t.dst:], wc[t.w:])
						}
					}
				}
			}
		}
	})
}

// ConvDense computes dst = bias + w∗x for dense x [⌈Cin/16⌉][Frames][Hin·Win][16];
// the rest is as in ConvSpikes.
func ConvDense(dst, x, w, bias []float32, c Conv, threads int) {
	p := c.forwardPlan()
	scatter(dst, x, w, bias, &p, c.Frames, c.BlocksIn(), c.Hin*c.Win, c.BlocksOut(), c.Hout*c.Wout, c.KH*c.KW, false, threads)
}

// ConvInputGrad computes dx = wᵀ∗dy, or adds it to dx if add is set. The sum over
// output channels and window runs as a convolution's does, its input being dy.
//
//	dx [⌈Cin/16⌉][Frames][Hin·Win][16]
//	dy [⌈Cout/16⌉][Frames][Hout·Wout][16]
func ConvInputGrad(dx, dy, w []float32, c Conv, add bool, threads int) {
	wt := scratch(c.WeightLen())
	defer release(wt)
	transpose(*wt, w, &c, threads)
	p := c.backwardPlan()
	scatter(dx, dy, *wt, nil, &p, c.Frames, c.BlocksOut(), c.Hout*c.Wout, c.BlocksIn(), c.Hin*c.Win, c.KH*c.KW, add, threads)
}

// scatter sends every source pixel's values through the weights to the
// destination pixels that the plan names.
func scatter(dst, src, w, bias []float32, p *plan, frames, srcBlocks, srcPixels, dstBlocks, dstPixels, window int, add bool, threads int) {
	out, win := dstPixels*Lanes, window*Lanes
	parallel.For(threads, dstBlocks*frames, func(u int) {
		ob, f := u/frames, u%frames
		d := dst[u*out:][:out:out]
		if !add {
			fill(d, bias, ob)
		}
		w := w[ob*srcBlocks*Lanes*win:]
		for g := 0; g < srcBlocks; g += Group / Lanes {
			for px := range srcPixels {
				taps := p.taps[p.start[px]:p.start[px+1]]
				for b := g; b < min(g+Group/Lanes, srcBlocks); b++ {
					for l, v := range (*[Lanes]float32)(src[((b*frames+f)*srcPixels+px)*Lanes:]) {
						if v == 0 {
							continue
						}
						wc := w[(b*Lanes+l)*win:]
						for _, t := range taps {
							axpy16(d[t.dst:], v, wc[t.w:])
						}
					}
				}
			}
		}
	})
}

// ConvWeightGradSpikes computes dw = Σ dy⊗s over frames and pixels, in that
// order, or adds it to dw if add is set. Shapes are as in ConvSpikes.
func ConvWeightGradSpikes(dw []float32, s []uint16, dy []float32, c Conv, add bool, threads int) {
	p := c.forwardPlan()
	in, out, win := c.Hin*c.Win, c.Hout*c.Wout*Lanes, c.KH*c.KW*Lanes
	nb := c.BlocksIn()
	parallel.For(threads, c.BlocksOut()*nb, func(u int) {
		ob, b := u/nb, u%nb
		d := dw[u*Lanes*win:][: Lanes*win : Lanes*win]
		if !add {
			clear(d)
		}
		for f := range c.Frames {
			g := dy[(ob*c.Frames+f)*out:][:out:out]
			for px, word := range s[(b*c.Frames+f)*in:][:in] {
				if word == 0 {
					continue
				}
				taps := p.taps[p.start[px]:p.start[px+1]]
				for ; word != 0; word &= word - 1 {
					dc := d[bits.TrailingZeros16(word)*win:]
					for _, t := range taps {
						add16(dc[t.w:], g[t.dst:])
					}
				}
			}
		}
	})
}

// ConvWeightGradDense is ConvWeightGradSpikes for a dense input x.
func ConvWeightGradDense(dw, x, dy []float32, c Conv, add bool, threads int) {
	p := c.forwardPlan()
	in, out, win := c.Hin*c.Win, c.Hout*c.Wout*Lanes, c.KH*c.KW*Lanes
	nb := c.BlocksIn()
	parallel.For(threads, c.BlocksOut()*nb, func(u int) {
		ob, b := u/nb, u%nb
		d := dw[u*Lanes*win:][: Lanes*win : Lanes*win]
		if !add {
			clear(d)
		}
		for f := range c.Frames {
			g := dy[(ob*c.Frames+f)*out:][:out:out]
			for px := range in {
				taps := p.taps[p.start[px]:p.start[px+1]]
				for l, v := range (*[Lanes]float32)(x[((b*c.Frames+f)*in+px)*Lanes:]) {
					if v == 0 {
						continue
					}
					dc := d[l*win:]
					for _, t := range taps {
						axpy16(dc[t.w:], v, g[t.dst:])
					}
				}
			}
		}
	})
}

// ConvBiasGrad computes db = scale·Σ dy over frames and pixels in float64, or adds
// it to db if add is set. The lanes of missing channels stay as dy has them: zero.
func ConvBiasGrad(db, dy []float32, c Conv, scale float32, add bool, threads int) {
	n := c.Frames * c.Hout * c.Wout
	parallel.For(threads, c.BlocksOut(), func(b int) {
		var sum [Lanes]float64
		for i := range n {
			for l, v := range (*[Lanes]float32)(dy[(b*n+i)*Lanes:]) {
				sum[l] += float64(v)
			}
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

// transpose writes w with input and output channels exchanged,
// [⌈Cin/16⌉][Cout rounded up to 16][KH·KW][16].
func transpose(wt, w []float32, c *Conv, threads int) {
	ib, ob, k := c.BlocksIn(), c.BlocksOut(), c.KH*c.KW
	parallel.For(threads, ib, func(i int) {
		for o := range ob {
			for l := range Lanes {
				for t := range k {
					src := (*[Lanes]float32)(w[((o*ib*Lanes+i*Lanes+l)*k+t)*Lanes:])
					dst := wt[((i*ob+o)*Lanes*k+t)*Lanes+l:]
					for m, v := range src {
						dst[m*k*Lanes] = v
					}
				}
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
	v := bias[b*Lanes:][:Lanes]
	for i := 0; i < len(d); i += Lanes {
		copy(d[i:], v)
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

var pool = sync.Pool{New: func() any { return new([]float32) }}

// scratch lends n floats of any content until release.
func scratch(n int) *[]float32 {
	b := pool.Get().(*[]float32)
	if cap(*b) < n {
		*b = make([]float32, n)
	}
	*b = (*b)[:n]
	return b
}

func release(b *[]float32) { pool.Put(b) }
