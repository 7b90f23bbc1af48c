package tensor

import (
	"fmt"
	"math"
)

// NCHW is a batch of N images with C channels of H × W pixels, or of gradients of such
// images. Its data is in plain row-major order. Data enters and leaves a network in this
// form.
type NCHW struct {
	N, C, H, W int
	Data       []float32 // [N][C][H][W]
}

// NewNCHW returns a batch of zeros. It panics if n is negative or another extent is less
// than 1.
func NewNCHW(n, c, h, w int) NCHW {
	if n < 0 || c < 1 || h < 1 || w < 1 {
		panic(fmt.Sprintf("tensor: NewNCHW: invalid shape %d×%d×%d×%d", n, c, h, w))
	}
	return NCHW{n, c, h, w, make([]float32, n*c*h*w)}
}

// Pixels returns the number of values of one image, C·H·W.
func (x NCHW) Pixels() int { return x.C * x.H * x.W }

// Image returns the values [C][H][W] of image n. They share x's memory.
func (x NCHW) Image(n int) []float32 {
	p := x.Pixels()
	return x.Data[n*p : (n+1)*p : (n+1)*p]
}

// Slice returns the images lo to hi−1. They share x's memory.
func (x NCHW) Slice(lo, hi int) NCHW {
	p := x.Pixels()
	return NCHW{hi - lo, x.C, x.H, x.W, x.Data[lo*p : hi*p : hi*p]}
}

// Clone returns a copy of x that does not share its memory.
func (x NCHW) Clone() NCHW {
	x.Data = append([]float32(nil), x.Data...)
	return x
}

// ValidateRange returns an error if a value is NaN or lies outside [lo, hi]. The error
// names the first such value and its image.
func (x NCHW) ValidateRange(lo, hi float32) error {
	for i, v := range x.Data {
		if !(v >= lo && v <= hi) {
			p := x.Pixels()
			what := "outside"
			if math.IsNaN(float64(v)) {
				what = "not a number; expected a value in"
			}
			return fmt.Errorf("image %d, value %d: %v %s [%v, %v]", i/p, i%p, v, what, lo, hi)
		}
	}
	return nil
}

// String returns the shape as N×C×H×W.
func (x NCHW) String() string { return fmt.Sprintf("%d×%d×%d×%d", x.N, x.C, x.H, x.W) }
