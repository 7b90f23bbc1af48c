package tensor

import "fmt"

// Dense is a float32 value in blocks of 16 channels. The package documentation
// describes the layout.
type Dense struct {
	Shape
	Data []float32 // [C/16][N·Steps][H][W][16]
}

// NewDense returns a zero value of shape s. It panics if N is negative or another extent
// is less than 1.
func NewDense(s Shape) *Dense {
	s.check("NewDense")
	return &Dense{s, make([]float32, s.Floats())}
}

// At returns the element of image n, step t, channel c, row y and column x.
func (d *Dense) At(n, t, c, y, x int) float32 { return d.Data[d.Index(n, t, c, y, x)] }

// Set sets the element of image n, step t, channel c, row y and column x to v.
func (d *Dense) Set(n, t, c, y, x int, v float32) { d.Data[d.Index(n, t, c, y, x)] = v }

// Pack copies src into d. src has as many frames as d, N·Steps, in the same order. It may
// count them as N examples of Steps frames, or as N·Steps images. Lanes beyond channel C
// become zero. Pack panics if the shapes do not fit.
func (d *Dense) Pack(src NCHW) {
	if !src.fits(d.Shape) {
		panic(fmt.Sprintf("tensor: Pack: %v does not fit %v", src, d.Shape))
	}
	px := d.Pixels()
	for b := range d.Blocks() {
		lanes := min(Lanes, d.C-b*Lanes)
		for f := range d.Frames() {
			dst := d.Data[(b*d.Frames()+f)*px*Lanes:][: px*Lanes : px*Lanes]
			if lanes < Lanes {
				clear(dst)
			}
			for l := range lanes {
				plane := src.Data[(f*src.C+b*Lanes+l)*px:][:px]
				for i, v := range plane {
					dst[i*Lanes+l] = v
				}
			}
		}
	}
}

// Unpack returns a copy of d in NCHW order.
func (d *Dense) Unpack() NCHW {
	dst := NewFrames(d.Shape)
	px := d.Pixels()
	for f := range d.Frames() {
		for c := range d.C {
			src := d.Data[((c/Lanes)*d.Frames()+f)*px*Lanes+c%Lanes:]
			plane := dst.Data[(f*d.C+c)*px:][:px]
			for i := range plane {
				plane[i] = src[i*Lanes]
			}
		}
	}
	return dst
}

// fits reports whether x has the frames of s.
func (x NCHW) fits(s Shape) bool {
	return x.Shape().Frames() == s.Frames() && x.C == s.C && x.H == s.H && x.W == s.W
}
