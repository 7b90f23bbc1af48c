package kernel

import (
	"encoding/binary"
	"unsafe"
)

// mostByte is the largest byte of a dense product. A larger one is split into pieces, which are
// channels with the same weights. The sum of two quads of such bytes is within int16, whatever
// the weights.
const mostByte = 64

// intPacking brings bytes into the layout of dense products.
type intPacking struct {
	u         intUnit
	x, border []uint8
}

// frame writes frame f of the padded bytes, [Hin + 2·Pad][Win + 2·Pad][channels].
func (k intPacking) frame(f int) {
	u, c := &k.u, &k.u.k.Conv
	h, w := c.Hin+2*c.Pad, c.Win+2*c.Pad
	dst := u.bytes[f*h*w*u.channels:][:h*w*u.channels]
	if c.Pad > 0 && k.border == nil {
		clear(dst)
	}
	if c.Pad > 0 && k.border != nil {
		clear(dst[:u.channels])
		for i, v := range k.border[:c.Cin] {
			u.put(dst, i, v)
		}
		for p := 1; p < h*w; p++ {
			copy(dst[p*u.channels:], dst[:u.channels])
		}
	}
	frames := u.o.Images * u.steps
	for y := range c.Hin {
		row := dst[((y+c.Pad)*w+c.Pad)*u.channels:]
		if u.pieces == 1 {
			for b := range c.BlocksIn() {
				src := k.x[((b*frames+f)*c.Hin+y)*c.Win*Lanes:]
				for x := range c.Win {
					*(*[Lanes]uint8)(row[x*u.channels+b*Lanes:]) = [Lanes]uint8(src[x*Lanes:])
				}
			}
			continue
		}
		for x := range c.Win {
			clear(row[x*u.channels:][:u.channels])
			for i := range c.Cin {
				u.put(row[x*u.channels:], i, k.x[(((i/Lanes*frames+f)*c.Hin+y)*c.Win+x)*Lanes+i%Lanes])
			}
		}
	}
}

// put writes the value v of channel i of a pixel, in pieces.
func (u *intUnit) put(pixel []uint8, i int, v uint8) {
	for p := range u.pieces {
		piece := min(v, mostByte)
		pixel[p*u.k.Cin+i] = piece
		v -= piece
	}
}

// intDense is an intUnit of dense products.
type intDense intUnit

// Do does part i.
func (d intDense) Do(i int) {
	u := intUnit(d)
	c := &u.k.Conv
	ob, end, lo, hi := u.share(i)
	quads := c.KW * u.channels / 4
	size := c.KH * quads * 4 * Lanes
	w := intQuads.get((end - ob) * size)
	defer intQuads.put(w)
	for b := ob; b < end; b++ {
		u.quads((*w)[(b-ob)*size:][:size], b)
	}

	px, wp := c.Hout*c.Wout, c.Win+2*c.Pad
	frame := (c.Hin + 2*c.Pad) * wp * u.channels
	tile := intTile{
		pixels: uint64(c.Wout), srcPixel: uint64(c.Stride * u.channels), dstPixel: 64,
		lines: uint64(c.KH), srcLine: uint64(wp * u.channels), quads: uint64(quads),
		burst: uint64(min(quads*c.KH, 32768/(2*128*max(1, min(u.k.top, mostByte)))) &^ 1),
	}
	image := u.steps * px * Lanes
	some := intWides.get((end - ob) * u.steps * px)
	defer intWides.put(some)
	currents := func(b, i int) []int32 {
		if u.o.Currents != nil {
			return u.o.Currents[(b*u.o.Images+i)*image:][:image]
		}
		return unsafe.Slice(&(*some)[0][0], (end-ob)*image)[(b-ob)*image:][:image]
	}
	for i := lo; i < hi; i++ {
		for b := ob; b < end; b++ {
			clear(currents(b, i))
		}
		for t := range u.steps {
			x := u.bytes[(i*u.steps+t)*frame:]
			for b := ob; b < end; b++ {
				dst, a := currents(b, i), tile
				a.w = unsafe.Pointer(&(*w)[(b-ob)*size])
				for y := range c.Hout {
					a.src, a.dst = unsafe.Pointer(&x[y*c.Stride*wp*u.channels]), unsafe.Pointer(&dst[(t*px+y*c.Wout)*Lanes])
					u.l.tileInts(&a)
				}
			}
		}
		for b := ob; b < end; b++ {
			dst := currents(b, i)
			u.complete(dst, b, i)
			u.fire(b, i, 0, px, unsafe.Pointer(&dst[0]), px)
		}
	}
}

// complete multiplies the sums x of an image by their gains, and adds what is to be added.
func (u *intUnit) complete(x []int32, b, i int) {
	px := u.k.Hout * u.k.Wout
	if u.o.Gain != nil {
		gain := (*[Lanes]int32)(u.o.Gain[b*Lanes:])
		for i := range x {
			x[i] *= gain[i%Lanes]
		}
	}
	if u.o.Add != nil {
		for t := range u.steps {
			x := x[t*px*Lanes:][:px*Lanes]
			for j, v := range u.o.Add[((b*u.o.Images+i)*u.o.AddSteps+t%u.o.AddSteps)*px*Lanes:][:len(x)] {
				x[j] += v
			}
		}
	}
}

// quads writes the weights of a block of output channels as [KH][KW][channels/4][16][4].
func (u *intUnit) quads(dst []int8, b int) {
	c := &u.k.Conv
	win, row := c.KH*c.KW, c.Cin*c.KH*c.KW
	outs, channels := min(Lanes, c.Cout-b*Lanes), u.pieces*c.Cin
	if outs < Lanes || channels < u.channels {
		clear(dst)
	}
	w := u.k.w[b*Lanes*row:]
	for at := 0; at < channels; at += 4 {
		if i := at % c.Cin; i+4 <= c.Cin {
			for t := range win {
				d := dst[(t*u.channels+at)*Lanes:][:4*Lanes]
				for o := range outs {
					v := w[o*row+i*win+t:][:3*win+1]
					d[4*o], d[4*o+1], d[4*o+2], d[4*o+3] = v[0], v[win], v[2*win], v[3*win]
				}
			}
			continue
		}
		for j := at; j < min(at+4, channels); j++ {
			for t := range win {
				for o := range outs {
					dst[(t*u.channels+at)*Lanes+4*o+j-at] = w[o*row+j%c.Cin*win+t]
				}
			}
		}
	}
}

// spread8 has bit i of its index in byte i.
var spread8 = func() (t [256]uint64) {
	for i := range t {
		for b := range 8 {
			t[i] |= uint64(i>>b&1) << (8 * b)
		}
	}
	return t
}()

// spread writes the spikes of a word as bytes.
func spread(dst []uint8, word uint16) {
	binary.LittleEndian.PutUint64(dst, spread8[word&0xff])
	binary.LittleEndian.PutUint64(dst[8:], spread8[word>>8])
}
