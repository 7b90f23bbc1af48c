package kernel

import (
	"math/bits"

	"github.com/org/snnrat/internal/parallel"
)

// This file defines the convolutions in portable Go. They go through the pixels of the
// source and add each product with a non-zero value to the destinations of the pixel.

// tap pairs a pixel of the destination with a position of the kernel's window:
// offsets in floats into a frame of the destination and into the weights of one
// channel.
type tap struct{ dst, w int32 }

// plan lists, for every pixel of a scatter's source, where it goes.
type plan struct {
	taps  []tap
	start []int32 // taps[start[p]:start[p+1]] are pixel p's
}

var forwardPlans, backwardPlans cache[plan]

// forwardPlan scatters input pixels to output pixels. backwardPlan scatters
// output pixels to input pixels.
func forwardPlan(c window) *plan {
	p := new(plan)
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

func backwardPlan(c window) *plan {
	p := new(plan)
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

func convSpikesPortable(dst []float32, s []uint16, w, bias []float32, c Conv, threads int) {
	type args struct {
		dst, w, bias []float32
		s            []uint16
		c            Conv
		p            *plan
	}
	k := args{dst, w, bias, s, c, forwardPlans.get(c.window(), forwardPlan)}
	parallel.With(threads, c.BlocksOut()*c.Frames, k, func(k args, u int) {
		c, p, s := &k.c, k.p, k.s
		in, out, win := c.Hin*c.Win, c.Hout*c.Wout*Lanes, c.KH*c.KW*Lanes
		nb := c.BlocksIn()
		ob, f := u/c.Frames, u%c.Frames
		d := k.dst[u*out:][:out:out]
		fill(d, k.bias, ob)
		w := k.w[ob*nb*Lanes*win:]
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

func convDensePortable(dst, x, w, bias []float32, c Conv, threads int) {
	p := forwardPlans.get(c.window(), forwardPlan)
	scatter(dst, x, w, bias, p, c.Frames, c.BlocksIn(), c.Hin*c.Win, c.BlocksOut(), c.Hout*c.Wout, c.KH*c.KW, false, threads)
}

func convInputGradPortable(dx, dy, w []float32, c Conv, add bool, threads int) {
	wt := scratch(c.WeightLen())
	defer release(wt)
	transpose(*wt, w, &c, threads)
	p := backwardPlans.get(c.window(), backwardPlan)
	scatter(dx, dy, *wt, nil, p, c.Frames, c.BlocksOut(), c.Hout*c.Wout, c.BlocksIn(), c.Hin*c.Win, c.KH*c.KW, add, threads)
}

// scatter sends every source pixel's values through the weights to the
// destination pixels that the plan names.
func scatter(dst, src, w, bias []float32, p *plan, frames, srcBlocks, srcPixels, dstBlocks, dstPixels, window int, add bool, threads int) {
	type args struct {
		dst, src, w, bias            []float32
		p                            *plan
		frames, srcBlocks, srcPixels int
		dstPixels, window            int
		add                          bool
	}
	k := args{dst, src, w, bias, p, frames, srcBlocks, srcPixels, dstPixels, window, add}
	parallel.With(threads, dstBlocks*frames, k, func(k args, u int) {
		src, p, frames, srcBlocks, srcPixels := k.src, k.p, k.frames, k.srcBlocks, k.srcPixels
		out, win := k.dstPixels*Lanes, k.window*Lanes
		ob, f := u/frames, u%frames
		d := k.dst[u*out:][:out:out]
		if !k.add {
			fill(d, k.bias, ob)
		}
		w := k.w[ob*srcBlocks*Lanes*win:]
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

func convWeightGradSpikesPortable(dw []float32, s []uint16, dy []float32, c Conv, add bool, threads int) {
	p := forwardPlans.get(c.window(), forwardPlan)
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

func convWeightGradDensePortable(dw, x, dy []float32, c Conv, add bool, threads int) {
	p := forwardPlans.get(c.window(), forwardPlan)
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
