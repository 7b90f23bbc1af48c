package tensor

import (
	"fmt"
	"math"
)

// NCHW is a batch of N examples with C channels of H × W pixels, or of gradients of such
// examples. An example is one image, or one frame for each time step. Its data is in plain
// row-major order. Data enters and leaves a network in this form.
type NCHW struct {
	N, C, H, W int
	// Steps is the number of frames of an example. 0 and 1 both mean one image, which is
	// the same at every time step.
	Steps int
	Data  []float32 // [N][Steps][C][H][W]
}

// NewNCHW returns a batch of n images of zeros. It panics if n is negative or another extent
// is less than 1.
func NewNCHW(n, c, h, w int) NCHW {
	if n < 0 || c < 1 || h < 1 || w < 1 {
		panic(fmt.Sprintf("tensor: NewNCHW: invalid shape %d×%d×%d×%d", n, c, h, w))
	}
	return NCHW{N: n, C: c, H: h, W: w, Data: make([]float32, n*c*h*w)}
}

// NewFrames returns a batch of zeros of shape s. It panics if N is negative or another
// extent is less than 1.
func NewFrames(s Shape) NCHW {
	s.check("NewFrames")
	return NCHW{s.N, s.C, s.H, s.W, s.Steps, make([]float32, s.Frames()*s.Neurons())}
}

// Shape returns the shape of x. Its Steps is at least 1.
func (x NCHW) Shape() Shape { return Shape{x.N, max(x.Steps, 1), x.C, x.H, x.W} }

// Pixels returns the number of values of one example, Steps·C·H·W.
func (x NCHW) Pixels() int { return max(x.Steps, 1) * x.C * x.H * x.W }

// Image returns the values [Steps][C][H][W] of example n. They share x's memory.
func (x NCHW) Image(n int) []float32 {
	p := x.Pixels()
	return x.Data[n*p : (n+1)*p : (n+1)*p]
}

// Slice returns the examples lo to hi−1. They share x's memory.
func (x NCHW) Slice(lo, hi int) NCHW {
	p := x.Pixels()
	x.N, x.Data = hi-lo, x.Data[lo*p:hi*p:hi*p]
	return x
}

// Clone returns a copy of x that does not share its memory.
func (x NCHW) Clone() NCHW {
	x.Data = append([]float32(nil), x.Data...)
	return x
}

// ValidateRange returns an error if a value is NaN or lies outside [lo, hi]. The error
// names the first such value, its image and, for several frames, its step.
func (x NCHW) ValidateRange(lo, hi float32) error {
	for i, v := range x.Data {
		if !(v >= lo && v <= hi) {
			what := "outside"
			if math.IsNaN(float64(v)) {
				what = "not a number; expected a value in"
			}
			return fmt.Errorf("%s: %v %s [%v, %v]", x.Place(i, 0), v, what, lo, hi)
		}
	}
	return nil
}

// Place says for messages where x.Data[i] is: the image, the step if there are several, and
// the value in [C][H][W]. The first image of x counts as image first.
func (x NCHW) Place(i, first int) string {
	p, frame := x.Pixels(), x.C*x.H*x.W
	if x.Steps > 1 {
		return fmt.Sprintf("image %d, step %d, value %d", first+i/p, i%p/frame, i%frame)
	}
	return fmt.Sprintf("image %d, value %d", first+i/p, i%p)
}

// String returns the shape as N×C×H×W, or as N×Steps×C×H×W if an example has several frames.
func (x NCHW) String() string {
	if x.Steps > 1 {
		return x.Shape().String()
	}
	return fmt.Sprintf("%d×%d×%d×%d", x.N, x.C, x.H, x.W)
}
