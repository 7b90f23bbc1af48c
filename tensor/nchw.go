package tensor

import (
	"fmt"
	"math"
)

// NCHW is a batch of images, or of their gradients, in plain row-major order:
// the form in which data enters and leaves a network.
type NCHW struct {
	N, C, H, W int
	Data       []float32 // [N][C][H][W]
}

// NewNCHW returns a zero batch.
func NewNCHW(n, c, h, w int) NCHW {
	if n < 0 || c < 1 || h < 1 || w < 1 {
		panic(fmt.Sprintf("tensor: NewNCHW: invalid shape %d×%d×%d×%d", n, c, h, w))
	}
	return NCHW{n, c, h, w, make([]float32, n*c*h*w)}
}

// Pixels returns the number of values an image has, C·H·W.
func (x NCHW) Pixels() int { return x.C * x.H * x.W }

// Image returns the values of image n, which share x's memory.
func (x NCHW) Image(n int) []float32 {
	p := x.Pixels()
	return x.Data[n*p : (n+1)*p : (n+1)*p]
}

// Slice returns images lo to hi−1, which share x's memory.
func (x NCHW) Slice(lo, hi int) NCHW {
	p := x.Pixels()
	return NCHW{hi - lo, x.C, x.H, x.W, x.Data[lo*p : hi*p : hi*p]}
}

// Clone returns a copy with memory of its own.
func (x NCHW) Clone() NCHW {
	x.Data = append([]float32(nil), x.Data...)
	return x
}

// ValidateRange returns an error that names the first value that is not a number in
// [lo, hi].
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

// String formats the shape as N×C×H×W.
func (x NCHW) String() string { return fmt.Sprintf("%d×%d×%d×%d", x.N, x.C, x.H, x.W) }
