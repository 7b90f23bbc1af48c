package tensor

import "fmt"

// Lanes is the number of channels in a block.
const Lanes = 16

// Shape is the logical shape of a value: N images of Steps time steps, with C channels of
// H × W pixels. Steps is 1 if the value is the same at every step.
type Shape struct {
	N, Steps, C, H, W int
}

// Blocks returns the number of blocks of 16 channels, ⌈C/16⌉.
func (s Shape) Blocks() int { return (s.C + Lanes - 1) / Lanes }

// Frames returns the number of frames, N·Steps.
func (s Shape) Frames() int { return s.N * s.Steps }

// Pixels returns the number of pixels of one channel, H·W.
func (s Shape) Pixels() int { return s.H * s.W }

// Words returns the length of Spikes.Bits for this shape: one word for every block of
// channels, frame and pixel.
func (s Shape) Words() int { return s.Blocks() * s.Frames() * s.Pixels() }

// Floats returns the length of Dense.Data for this shape, padding included.
func (s Shape) Floats() int { return s.Words() * Lanes }

// Neurons returns the number of elements of one frame without padding, C·H·W.
func (s Shape) Neurons() int { return s.C * s.H * s.W }

// WithSteps returns s with Steps set to t.
func (s Shape) WithSteps(t int) Shape { s.Steps = t; return s }

// Index returns the position in Dense.Data of image n, step t, channel c, row y and
// column x.
func (s Shape) Index(n, t, c, y, x int) int {
	return ((((c/Lanes)*s.Frames()+n*s.Steps+t)*s.H+y)*s.W+x)*Lanes + c%Lanes
}

// String returns the shape as N×Steps×C×H×W.
func (s Shape) String() string {
	return fmt.Sprintf("%d×%d×%d×%d×%d", s.N, s.Steps, s.C, s.H, s.W)
}

func (s Shape) check(op string) {
	if s.N < 0 || s.Steps < 1 || s.C < 1 || s.H < 1 || s.W < 1 {
		panic(fmt.Sprintf("tensor: %s: invalid shape %v", op, s))
	}
}
