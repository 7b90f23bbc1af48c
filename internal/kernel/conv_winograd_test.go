package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// naiveWinograd is the input gradient by Winograd's algorithm: tile by tile and channel by
// channel, with transforms that are checked on their own. Its sums run over all output
// channels in ascending order.
func naiveWinograd(c Conv, dx, dy, w []float32, add bool, f mulAdd) []float32 {
	type line = [winogradSize * Lanes]float32
	// both transforms the n rows of v, then the columns.
	both := func(transform func(*winogradLines, mulAdd), v *line, n, in, out int) (y line) {
		var half line
		transform(&winogradLines{
			src: unsafe.Pointer(v), dst: unsafe.Pointer(&half), srcNext: 64, dstNext: 64,
			rows: 1, items: uint64(n), srcItem: uint64(in * 64), dstItem: uint64(out * 64),
		}, f)
		transform(&winogradLines{
			src: unsafe.Pointer(&half), dst: unsafe.Pointer(&y), srcNext: uint64(out * 64), dstNext: uint64(out * 64),
			rows: 1, items: uint64(out), srcItem: 64, dstItem: 64,
		}, f)
		return y
	}
	dst := make([]float32, len(dx))
	if add {
		copy(dst, dx)
	}
	for b := range c.BlocksIn() {
		weights := make([]line, c.BlocksOut()*Lanes) // of each output channel
		for co := range weights {
			var g line
			for t := range 9 {
				for l := range Lanes {
					g[(8-t)*Lanes+l] = w[c.weight(co/Lanes, b*Lanes+l, t/3, t%3)+co%Lanes]
				}
			}
			// Columns first, as the kernel does.
			var turned line
			for t := range 9 {
				copy(turned[(t%3*3+t/3)*Lanes:][:Lanes], g[t*Lanes:])
			}
			u := both(winogradWeightsPortable, &turned, 3, 3, winogradIn)
			for t := range winogradSize {
				copy(weights[co][(t%winogradIn*winogradIn+t/winogradIn)*Lanes:][:Lanes], u[t*Lanes:])
			}
		}
		for n := range c.Frames {
			for y0 := 0; y0 < c.Hin; y0 += winogradTile {
				for x0 := 0; x0 < c.Win; x0 += winogradTile {
					var sums line
					for s := range c.BlocksOut() {
						var d line // columns of pixels
						for i := range winogradSize {
							y, x := y0-1+i%winogradIn, x0-1+i/winogradIn
							if y >= 0 && y < c.Hin && x >= 0 && x < c.Win {
								copy(d[i*Lanes:][:Lanes], dy[(((s*c.Frames+n)*c.Hin+y)*c.Win+x)*Lanes:])
							}
						}
						v := both(winogradDeltasPortable, &d, winogradIn, winogradIn, winogradIn)
						for co := range Lanes {
							u := &weights[s*Lanes+co]
							for i := range winogradSize {
								at := (i%winogradIn*winogradIn + i/winogradIn) * Lanes
								if x := v[at+co]; x != 0 {
									for l := range Lanes {
										sums[i*Lanes+l] = f(x, u[i*Lanes+l], sums[i*Lanes+l])
									}
								}
							}
						}
					}
					y := both(winogradSumsPortable, &sums, winogradIn, winogradIn, winogradTile)
					for i := range winogradTile * winogradTile {
						if y0+i/winogradTile >= c.Hin || x0+i%winogradTile >= c.Win {
							continue
						}
						d := dst[(((b*c.Frames+n)*c.Hin+y0+i/winogradTile)*c.Win+x0+i%winogradTile)*Lanes:]
						for l := range Lanes {
							if add {
								d[l] += y[i*Lanes+l]
							} else {
								d[l] = y[i*Lanes+l]
							}
						}
					}
				}
			}
		}
	}
	return dst
}

// naiveForwardWinograd is the forward convolution by Winograd's algorithm. It is the input
// gradient of a convolution whose channels are exchanged and whose windows are turned around.
func naiveForwardWinograd(c Conv, x, w, bias []float32, f mulAdd) []float32 {
	turned := c
	turned.Cin, turned.Cout = c.Cout, c.Cin
	wt := make([]float32, turned.WeightLen())
	for ci := range c.Cin {
		for co := range c.Cout {
			for t := range 9 {
				wt[turned.weight(ci/Lanes, co, 2-t/3, 2-t%3)+ci%Lanes] = w[c.weight(co/Lanes, ci, t/3, t%3)+co%Lanes]
			}
		}
	}
	dst := make([]float32, c.BlocksOut()*c.Frames*c.Hout*c.Wout*Lanes)
	if bias != nil {
		for b := range c.BlocksOut() {
			fill(dst[b*c.Frames*c.Hout*c.Wout*Lanes:][:c.Frames*c.Hout*c.Wout*Lanes], bias, b)
		}
	}
	return naiveWinograd(turned, dst, x, wt, bias != nil, f)
}

// The transforms are their twins, for any strides.
func TestWinogradLines(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, l := range Levels() {
		f := mulAdd(fma)
		if l == Portable {
			f = rounded
		}
		type pair struct {
			routine func(*winogradLines)
			twin    func(*winogradLines, mulAdd)
		}
		for name, fn := range map[string]pair{
			"weights": {l.winogradWeights, winogradWeightsPortable},
			"deltas":  {l.winogradDeltas, winogradDeltasPortable},
			"sums":    {l.winogradSums, winogradSumsPortable},
		} {
			for i := range 50 {
				a := winogradLines{rows: 1 + r.Uint64N(3), items: 1 + r.Uint64N(5), add: uint64(i % 2)}
				if name != "sums" {
					a.add = 0
				}
				a.srcNext, a.dstNext = 64+4*r.Uint64N(9), 64+4*r.Uint64N(9)
				a.srcItem, a.dstItem = 6*a.srcNext, 6*a.dstNext
				a.srcRow, a.dstRow = a.items*a.srcItem, a.items*a.dstItem
				switch name {
				case "weights":
					a.factors = unsafe.Pointer(&weightFactors)
				case "deltas":
					a.factors = unsafe.Pointer(&deltaFactors)
				case "sums":
					a.factors = unsafe.Pointer(&sumFactors)
				}
				src := randoms(r, int(a.rows*a.srcRow)/4)
				before := randoms(r, int(a.rows*a.dstRow)/4)
				asked := a
				got, want := append([]float32(nil), before...), append([]float32(nil), before...)
				a.src, a.dst = ptr(src, 0), ptr(got, 0)
				fn.routine(&a)
				asked.src, asked.dst = ptr(src, 0), ptr(want, 0)
				fn.twin(&asked, f)
				equalBits(t, fmt.Sprintf("%v %s, %+v", l, name, asked), got, want)
			}
		}
	}
}

// winogradError compares with sums in float64: the result of the current level, and direct sums in
// float32. The result is the input gradient, or the output if forward is set. It returns the
// relative root mean square errors, and the shares of elements whose signs differ.
func winogradError(c Conv, o *operands, forward bool) (winograd, direct, winogradSigns, directSigns float64) {
	channels, others, src, got := c.Cin, c.Cout, o.dy, make([]float32, len(o.dx))
	if forward {
		channels, others, src, got = c.Cout, c.Cin, o.x, make([]float32, len(o.dst))
	}
	frame := c.Hin * c.Win
	exact := make([]float64, blocks(channels)*c.Frames*frame*Lanes)
	for ch := range channels {
		for n := range c.Frames * frame {
			f, y, x := n/frame, n/c.Win%c.Hin, n%c.Win
			sum := 0.
			for t := range 9 {
				sy, sx := y+1-t/3, x+1-t%3
				if forward {
					sy, sx = y+t/3-1, x+t%3-1
				}
				if sy < 0 || sy >= c.Hin || sx < 0 || sx >= c.Win {
					continue
				}
				for other := range others {
					ci, co := ch, other
					if forward {
						ci, co = other, ch
					}
					sum += float64(o.w[c.weight(co/Lanes, ci, t/3, t%3)+co%Lanes]) *
						float64(src[((other/Lanes*c.Frames+f)*frame+sy*c.Win+sx)*Lanes+other%Lanes])
				}
			}
			exact[(ch/Lanes*c.Frames*frame+n)*Lanes+ch%Lanes] = sum
		}
	}
	compare := func() (rms, signs float64) {
		var wrong, all float64
		for i, e := range exact {
			d := float64(got[i]) - e
			rms += d * d
			all += e * e
			if math.Signbit(float64(got[i])) != math.Signbit(e) {
				wrong++
			}
		}
		return math.Sqrt(rms / all), wrong / float64(len(exact))
	}
	if forward {
		ConvDenseWinograd(got, o.x, o.w, nil, c, 2)
	} else {
		ConvInputGrad(got, o.dy, o.w, nil, c, false, 2)
	}
	winograd, winogradSigns = compare()
	if forward {
		Portable.convDense(got, o.x, o.w, nil, c, 2)
	} else {
		Portable.convInputGradTiles(got, o.dy, o.w, &c, false, 2)
	}
	direct, directSigns = compare()
	return winograd, direct, winogradSigns, directSigns
}

// The error is of the order of the direct sum's.
func TestWinogradError(t *testing.T) {
	for _, a := range [][8]int{{2, 64, 32, 32, 64, 3, 1, 1}, {3, 128, 8, 8, 256, 3, 1, 1}, {4, 256, 4, 4, 512, 3, 1, 1}} {
		c, _ := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		if !Portable.winograd(&c) {
			t.Fatalf("%v is not for Winograd's algorithm", c)
		}
		for _, l := range Levels() {
			if l == NEON {
				continue // has no transforms
			}
			for _, forward := range []bool{false, true} {
				o, name := newOperands(c, 1, 4), "gradient"
				if forward {
					name = "output"
					ReLU(o.x, o.x, 1)
				}
				at(t, l, func() {
					w, d, ws, ds := winogradError(c, o, forward)
					t.Logf("%v at %v, %s: error %.2g, direct %.2g; signs %.2g, direct %.2g", c, l, name, w, d, ws, ds)
					if w > 2.5*d {
						t.Errorf("%v at %v, %s: relative error %.2g, that of the direct sum %.2g", c, l, name, w, d)
					}
				})
			}
		}
	}
}

// A frame's gradient and output do not depend on the frames beside it, which decide how the work
// and the buffers are split. The first case has more transformed weights and deltas than the buffers.
func TestWinogradBatch(t *testing.T) {
	for _, a := range [][8]int{{170, 368, 4, 4, 400, 3, 1, 1}, {24, 64, 18, 20, 64, 3, 1, 1}} {
		c, _ := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		o := newOperands(c, 1, 6)
		gradient := func(dst, src []float32, c Conv, threads int) { ConvInputGrad(dst, src, o.w, nil, c, false, threads) }
		output := func(dst, src []float32, c Conv, threads int) { ConvDenseWinograd(dst, src, o.w, o.bias, c, threads) }
		for _, l := range Levels() {
			at(t, l, func() {
				framesAlone(t, fmt.Sprintf("%v at %v, gradient", c, l), c, o.dy, len(o.dx), gradient)
				framesAlone(t, fmt.Sprintf("%v at %v, output", c, l), c, o.x, len(o.dst), output)
			})
		}
	}
}

// framesAlone compares the result of length n that fn computes from src with its results for
// single frames.
func framesAlone(t *testing.T, name string, c Conv, src []float32, n int, fn func(dst, src []float32, c Conv, threads int)) {
	t.Helper()
	all, frame := make([]float32, n), c.Hin*c.Win*Lanes
	fn(all, src, c, 2)
	if CurrentLevel() != Portable { // it is slow; more threads have larger buffers
		many := make([]float32, n)
		fn(many, src, c, 64)
		equalBits(t, name+", 64 threads", many, all)
	}
	one := c
	one.Frames = 1
	for f := 0; f < c.Frames; f += 11 {
		got := make([]float32, n/c.Frames)
		fn(got, frameOf(src, f, frame, c.Frames), one, 1)
		equalBits(t, fmt.Sprintf("%s, frame %d", name, f), got, frameOf(all, f, frame, c.Frames))
	}
}

// Of frames side by side, each gets its gradient in its own way, which the frames beside it and the
// threads do not change.
func TestInputGradByFrame(t *testing.T) {
	needed, notZero := []float64{.4, .1, .1, 1}, []float64{1, .4, .1, 0, .1}
	for _, a := range [][8]int{{20, 70, 4, 4, 64, 3, 1, 1}, {5, 64, 7, 11, 82, 3, 1, 1}} {
		c, _ := geometry(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7])
		o, r, px := newOperands(c, 1, 6), rand.New(rand.NewPCG(5, 6)), c.Hin*c.Win
		for i := range o.dx {
			if f := i / Lanes / px % c.Frames; r.Float64() >= needed[f%len(needed)] {
				o.s[i/Lanes] &^= 1 << (i % Lanes)
			}
		}
		for i := range o.dy {
			if f := i / Lanes / px % c.Frames; r.Float64() >= notZero[f%len(notZero)] {
				o.dy[i] = 0
			}
		}
		for _, l := range Levels() {
			if !l.winograd(&c) {
				continue
			}
			f := mulAdd(fma)
			if l == Portable {
				f = rounded
			}
			for _, need := range [][]uint16{nil, o.s} {
				for frame := range c.Frames {
					want := ofAll
					switch {
					case need != nil && needed[frame%len(needed)] < .25:
						want = ofNeeded
					case need == nil && notZero[frame%len(notZero)] < .25:
						want = ofEvents
					}
					if got := c.way(o.dy, need, frame); got != want {
						t.Errorf("%v, need %v: frame %d goes way %d instead of %d", c, need != nil, frame, got, want)
					}
				}
				for _, add := range []bool{false, true} {
					at(t, l, func() {
						want := wantInputGrad(o, need, add, f)
						for _, threads := range []int{1, 2, 64} {
							equalBits(t, fmt.Sprintf("%v at %v, need %v, add %v, %d threads", c, l, need != nil, add, threads),
								guardedConv(t, o.dx, func(dx []float32) { ConvInputGrad(dx, o.dy, o.w, need, c, add, threads) }), want)
						}
						for frame := range c.Frames {
							one := c
							one.Frames = 1
							dx := frameOf(o.dx, frame, px*Lanes, c.Frames)
							var bits []uint16
							if need != nil {
								bits = frameOf(need, frame, px, c.Frames)
							}
							ConvInputGrad(dx, frameOf(o.dy, frame, px*Lanes, c.Frames), o.w, bits, one, add, 1)
							equalBits(t, fmt.Sprintf("%v at %v, need %v, add %v, frame %d alone", c, l, need != nil, add, frame),
								dx, frameOf(want, frame, px*Lanes, c.Frames))
						}
					})
				}
			}
		}
	}
}

// frameOf returns the elements of a frame of the given size, of so many.
func frameOf[T any](v []T, f, size, frames int) (d []T) {
	for at := f * size; at < len(v); at += frames * size {
		d = append(d, v[at:][:size]...)
	}
	return d
}
