package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/org/snnrat/internal/parallel"
)

// SumPoolSpikes writes the number of spikes of every window. No window has more than 255 pixels.
//
//	dst [Planes][Hout·Wout][16]
//	s   [Planes][Hin·Win]
func SumPoolSpikes(dst []uint8, s []uint16, p Pool, threads int) {
	if len(dst) < p.Planes*p.Hout*p.Wout*Lanes || len(s) < p.Planes*p.Hin*p.Win || p.KH*p.KW > 255 {
		panic(fmt.Sprintf("kernel: SumPoolSpikes: %d spikes and %d sums do not fit %+v", len(s), len(dst), p))
	}
	type args struct {
		dst []uint8
		s   []uint16
		p   Pool
	}
	eachWith(threads, p.Planes, p.Hin*p.Win, args{dst, s, p}, func(k args, from, to int) {
		p := &k.p
		for u := from; u < to; u++ {
			for y := range p.Hout {
				for x := range p.Wout {
					var low, high uint64 // eight sums of 8 bits
					for ky := range p.KH {
						at := (u*p.Hin+y*p.Stride+ky)*p.Win + x*p.Stride
						for _, word := range k.s[at : at+p.KW] {
							low += spread8[word&0xff]
							high += spread8[word>>8]
						}
					}
					d := k.dst[((u*p.Hout+y)*p.Wout+x)*Lanes:]
					binary.LittleEndian.PutUint64(d, low)
					binary.LittleEndian.PutUint64(d[8:], high)
				}
			}
		}
	})
}

// SumPoolBytes writes the sum of every window of bytes. No sum is above 255.
//
//	dst [Planes][Hout·Wout][16]
//	x   [Planes][Hin·Win][16]
func SumPoolBytes(dst, x []uint8, p Pool, threads int) {
	if len(dst) < p.Planes*p.Hout*p.Wout*Lanes || len(x) < p.Planes*p.Hin*p.Win*Lanes {
		panic(fmt.Sprintf("kernel: SumPoolBytes: %d values and %d sums do not fit %+v", len(x), len(dst), p))
	}
	type args struct {
		dst, x []uint8
		p      Pool
	}
	parallel.With(threads, p.Planes, args{dst, x, p}, func(k args, u int) {
		p := &k.p
		for y := range p.Hout {
			for x := range p.Wout {
				var low, high uint64 // no sum carries over to the next
				for ky := range p.KH {
					at := (u*p.Hin+y*p.Stride+ky)*p.Win + x*p.Stride
					for i := range p.KW {
						v := k.x[(at+i)*Lanes:]
						low += binary.LittleEndian.Uint64(v)
						high += binary.LittleEndian.Uint64(v[8:])
					}
				}
				d := k.dst[((u*p.Hout+y)*p.Wout+x)*Lanes:]
				binary.LittleEndian.PutUint64(d, low)
				binary.LittleEndian.PutUint64(d[8:], high)
			}
		}
	})
}
