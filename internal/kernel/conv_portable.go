package kernel

import (
	"math/bits"

	"github.com/org/snnrat/internal/parallel"
)

// This file defines the convolutions in portable Go. They go through the pixels of the
// source and add each product with a non-zero value to the destinations of the pixel. These are
// the sources of the opposite product.

// tap pairs a pixel of the destination with a position of the kernel's window: offsets in floats
// into a frame of the destination and into the weights of one channel.
type tap struct{ dst, w int32 }

func convSpikesPortable(dst []float32, s []uint16, w, bias []float32, c Conv, threads int) {
	type args struct {
		dst, w, bias []float32
		s            []uint16
		c            Conv
		p            *sources
	}
	k := args{dst, w, bias, s, c, inputSources.get(c.window(), newInputSources)}
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
				to := p.of(px)
				taps := p.lists[to.cols].floats[:to.n]
				for b := g; b < min(g+Group/Lanes, nb); b++ {
					for word := s[(b*c.Frames+f)*in+px]; word != 0; word &= word - 1 {
						wc := w[(b*Lanes+bits.TrailingZeros16(word))*win:]
						for _, t := range taps {
							add16(d[to.first*Lanes+int(t.dst):], wc[to.tap*Lanes+int(t.w):])
						}
					}
				}
			}
		}
	})
}

func convDensePortable(dst, x, w, bias []float32, c Conv, threads int) {
	p := inputSources.get(c.window(), newInputSources)
	scatter(dst, x, w, bias, p, c.Frames, c.BlocksIn(), c.Hin*c.Win, c.BlocksOut(), c.Hout*c.Wout, c.KH*c.KW, false, threads)
}

func convInputGradPortable(dx, dy, w []float32, c Conv, add bool, threads int) {
	wt := scratch(c.WeightLen())
	defer release(wt)
	transpose(*wt, w, &c, threads)
	p := outputSources.get(c.window(), newOutputSources)
	scatter(dx, dy, *wt, nil, p, c.Frames, c.BlocksOut(), c.Hout*c.Wout, c.BlocksIn(), c.Hin*c.Win, c.KH*c.KW, add, threads)
}

// scatter sends every source pixel's values through the weights to the
// destination pixels that p names.
func scatter(dst, src, w, bias []float32, p *sources, frames, srcBlocks, srcPixels, dstBlocks, dstPixels, window int, add bool, threads int) {
	type args struct {
		dst, src, w, bias            []float32
		p                            *sources
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
				to := p.of(px)
				taps := p.lists[to.cols].floats[:to.n]
				for b := g; b < min(g+Group/Lanes, srcBlocks); b++ {
					for l, v := range (*[Lanes]float32)(src[((b*frames+f)*srcPixels+px)*Lanes:]) {
						if v == 0 {
							continue
						}
						wc := w[(b*Lanes+l)*win:]
						for _, t := range taps {
							axpy16(d[to.first*Lanes+int(t.dst):], v, wc[to.tap*Lanes+int(t.w):])
						}
					}
				}
			}
		}
	})
}

func convWeightGradSpikesPortable(dw []float32, s []uint16, dy []float32, c Conv, add bool, threads int) {
	p := inputSources.get(c.window(), newInputSources)
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
				to := p.of(px)
				taps := p.lists[to.cols].floats[:to.n]
				for ; word != 0; word &= word - 1 {
					dc := d[bits.TrailingZeros16(word)*win:]
					for _, t := range taps {
						add16(dc[to.tap*Lanes+int(t.w):], g[to.first*Lanes+int(t.dst):])
					}
				}
			}
		}
	})
}

func convWeightGradDensePortable(dw, x, dy []float32, c Conv, add bool, threads int) {
	p := inputSources.get(c.window(), newInputSources)
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
				to := p.of(px)
				taps := p.lists[to.cols].floats[:to.n]
				for l, v := range (*[Lanes]float32)(x[((b*c.Frames+f)*in+px)*Lanes:]) {
					if v == 0 {
						continue
					}
					dc := d[l*win:]
					for _, t := range taps {
						axpy16(dc[to.tap*Lanes+int(t.w):], v, g[to.first*Lanes+int(t.dst):])
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
