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
	b, _, lo, hi := u.share(i)
	quads := c.KW * u.channels / 4
	w := intQuads.get(c.KH * quads * 4 * Lanes)
	defer intQuads.put(w)
	u.quads(*w, b)

	px, wp := c.Hout*c.Wout, c.Win+2*c.Pad
	frame := (c.Hin + 2*c.Pad) * wp * u.channels
	tile := intTile{
		w: unsafe.Pointer(&(*w)[0]), pixels: uint64(c.Wout), srcPixel: uint64(c.Stride * u.channels), dstPixel: 64,
		lines: uint64(c.KH), srcLine: uint64(wp * u.channels), quads: uint64(quads),
		burst: uint64(min(quads*c.KH, 32768/(2*128*max(1, min(u.k.top, mostByte)))) &^ 1),
	}
	var some *[]([Lanes]int32)
	if u.o.Currents == nil {
		some = intWides.get(u.steps * px)
		defer intWides.put(some)
	}
	for i := lo; i < hi; i++ {
		var dst []int32
		if u.o.Currents != nil {
			dst = u.o.Currents[(b*u.o.Images+i)*u.steps*px*Lanes:][:u.steps*px*Lanes]
		} else {
			dst = unsafe.Slice(&(*some)[0][0], u.steps*px*Lanes)
		}
		if u.o.Add == nil {
			clear(dst)
		} else {
			for t := range u.steps {
				copy(dst[t*px*Lanes:][:px*Lanes], u.o.Add[((b*u.o.Images+i)*u.o.AddSteps+t%u.o.AddSteps)*px*Lanes:])
			}
		}
		for t := range u.steps {
			x := u.bytes[(i*u.steps+t)*frame:]
			for y := range c.Hout {
				a := tile
				a.src, a.dst = unsafe.Pointer(&x[y*c.Stride*wp*u.channels]), unsafe.Pointer(&dst[(t*px+y*c.Wout)*Lanes])
				u.l.tileInts(&a)
			}
		}
		u.fire(b, i, 0, px, unsafe.Pointer(&dst[0]), px)
	}
}

// quads writes the weights of a block of output channels as [KH][KW][channels/4][16][4].
func (u *intUnit) quads(dst []int8, b int) {
	c := &u.k.Conv
	clear(dst)
	win := c.KH * c.KW
	row := c.Cin * win
	for o := range min(Lanes, c.Cout-b*Lanes) {
		w := u.k.w[(b*Lanes+o)*row:][:row]
		if win == 1 && u.pieces == 1 {
			for i, v := range w {
				dst[i/4*64+o*4+i%4] = v
			}
			continue
		}
		for p := range u.pieces {
			for i := range c.Cin {
				at := p*c.Cin + i
				d := dst[at/4*64+o*4+at%4:]
				for t, v := range w[i*win : (i+1)*win] {
					d[t*u.channels*Lanes] = v
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
