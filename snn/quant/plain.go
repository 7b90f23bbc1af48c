package quant

import (
	"math/bits"

	"github.com/org/snnrat/internal/kernel"
)

// This file has the loops of a network in plain Go. They define the results of faster ones.
// Their slices have the blocked layout of package tensor, with int32 or uint8 in place of
// float32. Weights have the layout [⌈Cout/16⌉][Cin rounded up to 16][KH·KW][16] of package
// kernel. Lanes of missing channels are zero in weights and inputs, and so in outputs.

const lanes = kernel.Lanes

// blockedWeights returns the row-major weights w, [Cout][Cin][KH][KW], in the layout of the loops.
func blockedWeights(w []int8, c kernel.Conv) []int8 {
	k, cin := c.KH*c.KW, c.BlocksIn()*lanes
	dst := make([]int8, c.WeightLen())
	for o := range c.Cout {
		for i := range c.Cin {
			for p := range k {
				dst[((o/lanes*cin+i)*k+p)*lanes+o%lanes] = w[(o*c.Cin+i)*k+p]
			}
		}
	}
	return dst
}

// taps calls fn for each output pixel and each pixel of its window that is inside the input.
func taps(c *kernel.Conv, fn func(out, in, tap int)) {
	for y := range c.Hout {
		for x := range c.Wout {
			for ky := range c.KH {
				for kx := range c.KW {
					iy, ix := y*c.Stride+ky-c.Pad, x*c.Stride+kx-c.Pad
					if iy >= 0 && iy < c.Hin && ix >= 0 && ix < c.Win {
						fn(y*c.Wout+x, iy*c.Win+ix, ky*c.KW+kx)
					}
				}
			}
		}
	}
}

// convSpikesPlain adds the convolution w∗s of spikes s to dst.
//
//	dst [⌈Cout/16⌉][Frames][Hout·Wout][16]
//	s   [⌈Cin/16⌉][Frames][Hin·Win]
//	w   [⌈Cout/16⌉][Cin rounded up to 16][KH·KW][16]
func convSpikesPlain(dst []int32, s []uint16, w []int8, c kernel.Conv) {
	in, out, k := c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	for bo := range c.BlocksOut() {
		for bi := range c.BlocksIn() {
			w := w[(bo*c.BlocksIn()+bi)*lanes*k*lanes:]
			for f := range c.Frames {
				s, dst := s[(bi*c.Frames+f)*in:], dst[(bo*c.Frames+f)*out*lanes:]
				taps(&c, func(o, i, tap int) {
					for word := s[i]; word != 0; word &= word - 1 {
						addRow(dst[o*lanes:], w[(bits.TrailingZeros16(word)*k+tap)*lanes:], 1)
					}
				})
			}
		}
	}
}

// convBytesPlain adds the convolution w∗x of bytes x to dst. dst and w are as in
// convSpikesPlain.
//
//	x [⌈Cin/16⌉][Frames][Hin·Win][16]
func convBytesPlain(dst []int32, x []uint8, w []int8, c kernel.Conv) {
	in, out, k := c.Hin*c.Win, c.Hout*c.Wout, c.KH*c.KW
	for bo := range c.BlocksOut() {
		for bi := range c.BlocksIn() {
			w := w[(bo*c.BlocksIn()+bi)*lanes*k*lanes:]
			for f := range c.Frames {
				x, dst := x[(bi*c.Frames+f)*in*lanes:], dst[(bo*c.Frames+f)*out*lanes:]
				taps(&c, func(o, i, tap int) {
					for l, v := range x[i*lanes : (i+1)*lanes] {
						if v != 0 {
							addRow(dst[o*lanes:], w[(l*k+tap)*lanes:], int32(v))
						}
					}
				})
			}
		}
	}
}

// addRow adds v times 16 weights to 16 currents.
func addRow(dst []int32, w []int8, v int32) {
	d, r := (*[lanes]int32)(dst), (*[lanes]int8)(w)
	for l := range d {
		d[l] += v * int32(r[l])
	}
}

// scan are the parameters of a layer of neurons. gain is nil for ones.
//
//	gain, bias, threshold [blocks][16]
//
// The threshold of a missing channel is 1 and its bias 0, so that it never fires.
type scan struct {
	gain, bias, threshold []int32
	leak                  int32
	shift                 uint
	soft                  bool
}

// neuronsPlain runs all steps of every neuron on the currents x and writes the spikes s.
//
//	s [Units][Steps][Pixels]
//	x [Units][CurrentSteps][Pixels][16]
func neuronsPlain(s []uint16, x []int32, n scan, sc kernel.Scan) {
	for u := range sc.Units {
		at := u / sc.Images * lanes
		s, x := s[u*sc.Steps*sc.Pixels:], x[u*sc.CurrentSteps*sc.Pixels*lanes:]
		for p := range sc.Pixels {
			var m [lanes]int32
			for t := range sc.Steps {
				cur := x[(t%sc.CurrentSteps*sc.Pixels+p)*lanes:]
				var word uint16
				for l := range m {
					i, theta := cur[l], n.threshold[at+l]
					if n.gain != nil {
						i *= n.gain[at+l]
					}
					v := m[l]*n.leak>>n.shift + i + n.bias[at+l]
					if v >= theta {
						word |= 1 << l
						if n.soft {
							v -= theta
						} else {
							v = 0
						}
					}
					m[l] = v
				}
				s[t*sc.Pixels+p] = word
			}
		}
	}
}

// sumSpikesPlain writes the number of spikes of every window.
//
//	dst [Planes][Hout·Wout][16]
//	s   [Planes][Hin·Win]
func sumSpikesPlain(dst []uint8, s []uint16, p kernel.Pool) {
	clear(dst[:p.Planes*p.Hout*p.Wout*lanes])
	windows(&p, func(out, in int) {
		for word := s[in]; word != 0; word &= word - 1 {
			dst[out*lanes+bits.TrailingZeros16(word)]++
		}
	})
}

// sumBytesPlain writes the sum of every window of bytes. No sum is above 255.
//
//	dst [Planes][Hout·Wout][16]
//	x   [Planes][Hin·Win][16]
func sumBytesPlain(dst, x []uint8, p kernel.Pool) {
	clear(dst[:p.Planes*p.Hout*p.Wout*lanes])
	windows(&p, func(out, in int) {
		for l, v := range x[in*lanes : (in+1)*lanes] {
			dst[out*lanes+l] += v
		}
	})
}

// windows calls fn for each output pixel of each plane and each pixel of its window.
func windows(p *kernel.Pool, fn func(out, in int)) {
	for u := range p.Planes {
		for y := range p.Hout {
			for x := range p.Wout {
				for ky := range p.KH {
					for kx := range p.KW {
						fn((u*p.Hout+y)*p.Wout+x, (u*p.Hin+y*p.Stride+ky)*p.Win+x*p.Stride+kx)
					}
				}
			}
		}
	}
}
