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

// Pack copies src into d. The N of src is the number of frames, N·Steps; its frame
// n·Steps + t is image n at step t. Lanes beyond channel C become zero. Pack panics if the
// shapes do not fit.
func (d *Dense) Pack(src NCHW) {
	if src.N != d.Frames() || src.C != d.C || src.H != d.H || src.W != d.W {
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

// Unpack returns a copy of d in NCHW order. The N of the result is the number of frames,
// N·Steps.
func (d *Dense) Unpack() NCHW {
	dst := NewNCHW(d.Frames(), d.C, d.H, d.W)
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
